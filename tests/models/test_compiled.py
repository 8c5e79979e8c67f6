"""torch.compile reaches prefix, suffix and decoder, and changes no number."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from sam_ft.models.compiled import compile_parts
from sam_ft.models.sam import Sam
from sam_ft.types import Prompts
from sam_ft.utils.errors import ConfigError
from tests.support.tiny import tiny_sam

IMAGES = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SIZES = [(64, 64), (30, 64)]


def learning_from(unit: int) -> Sam:
    sam = tiny_sam().requires_grad_(False)
    units = sam.image_encoder.units()[unit:]
    for name, parameter in sam.image_encoder.named_parameters():
        parameter.requires_grad = any(own.holds(name) for own in units)
    sam.mask_decoder.requires_grad_(True)
    assert sam.image_encoder.cut == unit
    return sam


def train_once(sam: Sam) -> dict[str, torch.Tensor]:
    prompts = Prompts(boxes=torch.tensor([[4.0, 4, 40, 40], [8, 2, 60, 28]]))
    with torch.no_grad():
        features = sam.prefix(IMAGES, SIZES)
    prediction = sam.decode(sam.suffix(features), prompts, torch.tensor([0, 1]))
    (prediction.logits.square().mean() + prediction.pred_iou.sum()).backward()
    gradients = {name: p.grad for name, p in sam.named_parameters() if p.grad is not None}
    return {"features": features.maps[0], "logits": prediction.logits.detach(), **gradients}


@pytest.mark.slow
# torch.compile reads .grad of the embedding, which is no leaf where the encoder learns
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize(
    ("unit", "graphs"),
    [
        pytest.param(0, 2, id="whole encoder"),  # the suffix and the decoder
        pytest.param(2, 3, id="last block and neck"),  # the prefix, the suffix and the decoder
        pytest.param(4, 2, id="frozen encoder"),  # the prefix and the decoder
    ],
)
def test_compiled_parts_give_the_same_features_logits_and_gradients(unit, graphs):
    torch.compiler.reset()
    counter = CompileCounterWithBackend("eager")
    sam = learning_from(unit)
    compile_parts(sam, counter)
    ours, plain = train_once(sam), train_once(learning_from(unit))
    assert counter.frame_count == graphs
    assert ours.keys() == plain.keys()
    for name, tensor in plain.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-5, atol=1e-5, msg=name)


def test_a_machine_without_a_compiler_is_refused(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError):
        compile_parts(tiny_sam())
