import pytest
import torch
from torch import nn

from sam_ft.adapt import Lora
from sam_ft.adapt.lora_merge import merged_state_dict
from sam_ft.training.checkpoint import save_partial_weights
from sam_ft.training.mix import Mix
from sam_ft.training.parameters import trained_parameters
from sam_ft.training.tensor_file import write_tensors
from tests.support.tiny import tiny_sam


def numbers(*values):
    model = nn.Linear(len(values), 1)
    model.bias.requires_grad = False
    set_to(model, values)
    return model


def set_to(model, values):
    with torch.no_grad():
        model.weight.copy_(torch.tensor([values]))


def scored(mix, model, path):
    """{share: the weights that were scored}"""
    return mix.score(path, lambda _: model.weight[0].tolist())


@pytest.fixture
def best(tmp_path):
    path = tmp_path / "best.safetensors"
    write_tensors(path, {"weight": torch.tensor([[5.0, 0.1]])}, {"best_epoch": 3})
    return path


def test_each_share_is_scored_between_the_first_weights_and_those_of_the_file(best):
    model = numbers(1.0, 0.3)
    mix = Mix(model, [0.75, 0.25])
    set_to(model, (9.0, 9.0))  # where training ended, or a loaded state
    found = scored(mix, model, best)
    assert list(found) == [0.25, 0.75]
    assert found[0.25] == pytest.approx([2.0, 0.25])
    assert found[0.75] == pytest.approx([4.0, 0.15])
    assert model.weight[0].tolist() == [9.0, 9.0]


def test_without_a_file_the_weights_that_the_model_has_now_are_mixed():
    model = numbers(1.0, 0.3)
    mix = Mix(model, [0.5])
    set_to(model, (9.0, 0.1))
    assert scored(mix, model, None)[0.5] == pytest.approx([5.0, 0.2])
    assert torch.equal(model.weight, torch.tensor([[9.0, 0.1]]))
    set_to(model, (3.0, 3.0))
    with mix.applied(1.0):
        assert torch.equal(model.weight, torch.tensor([[9.0, 0.1]]))


def test_the_share_1_is_the_best_epoch_bit_for_bit(best):
    model = numbers(1.0, 0.3)
    mix = Mix(model, [0.5])
    scored(mix, model, best)
    with mix.applied(1.0):
        assert torch.equal(model.weight, torch.tensor([[5.0, 0.1]]))
    with mix.applied(0.5):
        assert model.weight[0].tolist() == pytest.approx([3.0, 0.2])


@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("targets", ["qv", "all"])
def test_updates_of_lora_are_mixed_as_the_weights_that_they_merge_into(targets, saved, tmp_path):
    model, path = tiny_sam(), tmp_path / "best.safetensors"
    Lora(rank=2, targets=targets)(model)
    before, mix = merged_state_dict(model), Mix(model, [0.25])
    with torch.no_grad():
        for parameter in trained_parameters(model).values():
            parameter.add_(torch.randn_like(parameter))
    after = merged_state_dict(model)
    save_partial_weights(model, path, best_epoch=1)
    mixed = mix.score(path if saved else None, lambda _: merged_state_dict(model))[0.25]
    for name, tensor in mixed.items():
        torch.testing.assert_close(tensor, before[name].lerp(after[name], 0.25), rtol=1e-5, atol=1e-5, msg=name)
    layer = "image_encoder.blocks.0.attn.qkv.weight"
    assert (after[layer] - before[layer]).abs().max() > 1
