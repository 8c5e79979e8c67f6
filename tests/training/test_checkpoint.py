import numpy as np
import pytest
import torch

from sam_ft import Predictor, load_partial_weights, save_partial_weights
from sam_ft.adapt import LastBlocks, Lora, freeze_unreached
from sam_ft.adapt.lora_merge import merged_state_dict
from sam_ft.models import build_model
from sam_ft.prompts import Box
from sam_ft.training.parameters import trained_parameters
from sam_ft.training.tensor_file import read_tensors
from tests.support.blobs import Blobs
from tests.support.learning import ADAPTS, BUILDS, CASES, each


def predictions(model):
    image = Blobs([4])[0].image.permute(1, 2, 0).numpy()
    return Predictor(model).predict(image, boxes=[[8, 9, 30, 28]])


@pytest.mark.slow
@each(CASES)
def test_a_file_of_the_trained_weights_alone_gives_the_same_weights_and_predictions(encoder, adapt, tmp_path):
    path, tuned, fresh = tmp_path / "best.safetensors", BUILDS[encoder](), BUILDS[encoder]()
    ADAPTS[adapt](tuned)
    trained = trained_parameters(tuned)
    with torch.no_grad():
        for parameter in trained.values():
            parameter.add_(0.01 * torch.randn_like(parameter))
    save_partial_weights(tuned, path)
    load_partial_weights(fresh, path)
    own, found = merged_state_dict(tuned), fresh.state_dict()
    assert own.keys() == found.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in own.items())
    before, one, two = (predictions(model) for model in (BUILDS[encoder](), tuned, fresh))
    # Not bit for bit: the order of MKL's sums may depend on where equal weights lie in memory.
    assert all(np.allclose(a, b, rtol=0, atol=1e-5) for a, b in zip(one, two, strict=True))
    assert not np.allclose(before[2], two[2], rtol=0, atol=1e-5)

    tensors, _ = read_tensors(path)
    assert tensors.keys() == trained.keys()
    size = path.stat().st_size - 4 * sum(parameter.numel() for parameter in trained.values())
    assert 0 < size < 300 * len(trained)  # names and shapes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "adapt", "megabytes"),
    [
        ("lite_medsam", LastBlocks(1), 22.2),
        ("vit_t", LastBlocks(None, stages=2), 35.3),
        ("vit_b", LastBlocks(1), 46.1),
        ("lite_medsam", Lora(stages=2), 15.4),
        ("vit_b", Lora(targets="qv"), 15.4),
    ],
)
def test_files_have_the_sizes_of_the_documentation(model_type, adapt, megabytes, tmp_path):
    model = build_model(model_type, checkpoint=None)
    adapt(model)
    freeze_unreached(model, Box())
    model.base_sha256 = 64 * "0"  # else the digest of all random weights
    save_partial_weights(model, tmp_path / "best.safetensors")
    assert (tmp_path / "best.safetensors").stat().st_size / 1e6 == pytest.approx(megabytes, abs=0.06)
