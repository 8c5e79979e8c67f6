import pytest
import torch
from torch import nn

from sam_ft.training.mix import Mix
from sam_ft.training.tensor_file import write_tensors


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
    mix = Mix(model, [0.75, 0.25, 1.0])
    set_to(model, (9.0, 9.0))  # where training ended, or a loaded state
    found = scored(mix, model, best)
    assert list(found) == [0.25, 0.75]  # 1 has been scored as the best epoch
    assert found[0.25] == pytest.approx([2.0, 0.25])
    assert found[0.75] == pytest.approx([4.0, 0.15])
    assert model.weight[0].tolist() == [9.0, 9.0]


def test_the_share_1_is_the_best_epoch_bit_for_bit(best):
    model = numbers(1.0, 0.3)
    mix = Mix(model, [0.5])
    scored(mix, model, best)
    with mix.applied(1.0):
        assert torch.equal(model.weight, torch.tensor([[5.0, 0.1]]))
    with mix.applied(0.5):
        assert model.weight[0].tolist() == pytest.approx([3.0, 0.2])


@pytest.mark.parametrize("metadata", [{"best_epoch": 3, "mix": 0.5}, {"best_epoch": 3, "mix": 1.0}, {"best_epoch": 0}])
def test_a_mix_is_not_mixed_again_and_zero_shot_not_at_all(best, metadata):
    write_tensors(best, {"weight": torch.tensor([[5.0, 0.1]])}, metadata)
    model = numbers(1.0, 0.3)
    assert scored(Mix(model, [0.5]), model, best) == {}


def test_without_shares_no_file_is_read(tmp_path):
    model = numbers(1.0)
    assert scored(Mix(model, None), model, tmp_path / "none") == {}
