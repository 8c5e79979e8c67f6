import pytest
import torch

from sam_ft.adapt import Lora
from sam_ft.adapt.lora_layer import LoraLinear
from tests.support.lora import ENCODERS, TARGETS, adapted, encode, factors_of, images, learned
from tests.support.steps import steps
from tests.support.tiny import tiny_sam
from tests.test_invariants import assert_same


@ENCODERS
@TARGETS
@pytest.mark.parametrize("grad", [True, False], ids=["training", "prediction"])
def test_it_starts_as_the_model_that_it_adapts_bit_for_bit(build, targets, grad):
    model = build().requires_grad_(False)  # torch picks the kernel of a convolution by whether its weight learns
    with torch.set_grad_enabled(grad):
        before = encode(model)
        Lora(targets=targets)(model)
        assert torch.equal(encode(model), before)
        assert not torch.equal(encode(learned(model)), before)


@ENCODERS
@TARGETS
def test_training_and_prediction_compute_the_same_updates(build, targets):
    model = adapted(build, rank=3, targets=targets)
    with torch.no_grad():
        predicted = encode(model)
    torch.testing.assert_close(encode(model).detach(), predicted, atol=1e-4, rtol=1e-4)


def test_a_prediction_of_a_vit_merges_the_weight_of_each_layer_once(monkeypatch):
    merged = []
    merge = LoraLinear.merged_weight
    monkeypatch.setattr(LoraLinear, "merged_weight", lambda layer: merged.append(layer) or merge(layer))
    model = adapted(tiny_sam)
    with torch.no_grad():
        encode(model)
    assert set(merged) == {layer for layer in model.modules() if isinstance(layer, LoraLinear)}
    assert len(merged) == len(set(merged))


def test_dropout_acts_in_training_alone():
    model = adapted(tiny_sam, dropout=0.5)
    with torch.no_grad():
        assert torch.equal(encode(model), encode(model))
    pixels, found = images(model), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(model.encode(pixels, [(64, 64), (48, 64)]).embedding)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("options", [{}, {"dropout": 0.3}])
def test_activation_checkpointing_gives_the_same_gradients(options):
    gradients = []
    for recompute in (False, True):
        model = adapted(tiny_sam, **options)
        model.image_encoder.activation_checkpointing = recompute
        encode(model).square().mean().backward()
        gradients.append({name: model.get_parameter(name).grad for name in factors_of(model)})
    assert all(torch.equal(gradient, gradients[1][name]) for name, gradient in gradients[0].items())
    assert all(gradient.any() for gradient in gradients[0].values())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_compiled_modules_give_the_same_losses_and_gradients():
    plain, compiled = (steps(Lora(rank=2, blocks=1), None, [2, 1, 3], epochs=1, backend=b) for b in (None, "aot_eager"))
    assert_same(plain, compiled)
