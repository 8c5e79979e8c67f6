"""A tuned model in the official format, read by the official packages."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sam_ft import Predictor, load_partial_weights, save_partial_weights
from sam_ft.adapt import Freeze, LastBlocks, Lora
from sam_ft.export import export_official, official
from sam_ft.models import build_model
from tests.conftest import of
from tests.support.blobs import draw, write_folder
from tests.support.reference import build_lite_medsam, mobile_sam, official_sam, segment_anything


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "package", "adapt"),
    [
        pytest.param("vit_b", segment_anything, LastBlocks(1), id="vit_b-last_block"),
        pytest.param("vit_b", segment_anything, Lora(targets="qv"), id="vit_b-lora"),
        pytest.param("vit_t", mobile_sam, Freeze(["mask_decoder.*"]), id="vit_t-decoder"),
        pytest.param("vit_t", mobile_sam, LastBlocks(None, stages=2), id="vit_t-last_stages"),
        pytest.param("vit_t", mobile_sam, Lora(targets="qv", stages=2), id="vit_t-lora"),
    ],
)
def test_the_official_package_loads_it_strictly_and_answers_the_same(model_type, package, adapt, tmp_path):
    torch.save(official_sam(model_type).state_dict(), tmp_path / "base.pth")
    tuned = build_model(model_type, tmp_path / "base.pth")
    adapt(tuned)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter) * parameter.requires_grad)
    save_partial_weights(tuned, tmp_path / "tuned.safetensors")
    merged = build_model(model_type, tmp_path / "base.pth")
    load_partial_weights(merged, tmp_path / "tuned.safetensors")
    export_official(merged, tmp_path / "merged.pth")

    theirs = package.sam_model_registry[model_type]()
    theirs.load_state_dict(torch.load(tmp_path / "merged.pth", weights_only=True), strict=True)
    predictor = package.SamPredictor(theirs.eval())
    image, box = draw(0, 4)[0], [8, 9, 30, 28]
    predictor.set_image(image)
    masks, scores, logits = predictor.predict(box=np.array(box), multimask_output=False)
    ours = Predictor(merged).predict(image, boxes=[box])
    assert np.array_equal(ours[0][0], masks)
    np.testing.assert_allclose(ours[1][0], scores, atol=1e-5)
    np.testing.assert_allclose(ours[2][0], logits, atol=1e-5)


def test_the_output_may_lie_in_the_home_folder(messages, run, tmp_path, monkeypatch, cli):
    monkeypatch.setenv("HOME", str(tmp_path))
    # as if the official package built the model at the size of this run
    monkeypatch.setattr(official, "SPECS", {"lite_medsam": SimpleNamespace(image_size=64)})
    done = cli("sam_ft.export", f"run={run}", "output='~/x.pth'")
    assert done.code == 0, done.err
    assert done.out.startswith(f"{tmp_path / 'x.pth'} (")
    refused = cli("sam_ft.export", f"run={run}", f"output={tmp_path / 'x.pth/y.pth'}")
    messages.refused(refused, 2, f"output={tmp_path / 'x.pth/y.pth'}: ", "File exists")


@pytest.mark.slow
def test_a_run_is_exported_by_one_command(cli, tmp_path):
    folder = write_folder(tmp_path / "cells", [2, 1])
    run = tmp_path / "run"
    common = ["logger=none", "workers=0", "pictures=0", f"run_dir={run}"]
    assert cli("train.py", *of(folder), *common, "epochs=1", "optimizer.lr=1e-5").code == 0
    done = cli("sam_ft.export", f"run={run}")
    assert done.code == 0, done.err
    path = run / "export/lite_medsam_run.pth"
    assert str(path) in done.out

    theirs = build_lite_medsam()
    theirs.load_state_dict(torch.load(path, weights_only=True), strict=True)
    assert Predictor.from_run(run).model.state_dict().keys() == theirs.state_dict().keys()
    for name, tensor in Predictor.from_run(run).model.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[name])
