import pytest
import torch

from sam_ft.adapt import Freeze, Lora
from sam_ft.models.heads import InstanceHead, in_head
from sam_ft.prompts import Box
from sam_ft.task import PromptedSegmentation
from sam_ft.training.checkpoint import load_partial_weights, save_partial_weights
from sam_ft.training.head_alone import train_head_alone
from sam_ft.training.optim import adamw
from sam_ft.training.step import read_back, train_step
from sam_ft.utils.errors import ConfigError
from tests.support.batches import training
from tests.support.blobs import Blobs
from tests.support.tiny import bce_iou, tiny_sam


@pytest.fixture
def finished(tmp_path):
    """The directory of a run that has trained the decoder."""
    model = tiny_sam()
    Freeze(["mask_decoder.*"])(model)
    with torch.no_grad():
        for parameter in model.mask_decoder.parameters():
            parameter.add_(0.01)
    save_partial_weights(model, tmp_path / "run/checkpoints/best.safetensors")
    return tmp_path / "run"


def with_head(start):
    model = tiny_sam()
    Freeze(["mask_decoder.*"])(model)
    model.attach_head(InstanceHead())
    train_head_alone(model, start)
    return model


def batch_with_maps(model):
    samples = [Blobs([2, 3])[index] for index in range(2)]
    batch = training(*samples)
    batch.maps = torch.rand(2, 3, model.mask_side, model.mask_side)
    return batch


def test_only_the_head_learns_and_the_file_holds_the_run_unchanged(finished, tmp_path):
    model = with_head(finished)
    task = PromptedSegmentation(model, bce_iou())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = adamw(model)
    (numbers,) = read_back([train_step(task, [batch_with_maps(model)], Box(), 0, optimizer, 1.0)])
    assert numbers["loss"] == numbers["head"] > 0
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(map(in_head, changed))
    save_partial_weights(model, tmp_path / "head.safetensors")
    fresh = tiny_sam()
    load_partial_weights(fresh, tmp_path / "head.safetensors")
    assert all(torch.equal(tensor, fresh.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_a_head_goes_on_from_the_file_of_a_run(finished, tmp_path):
    model = with_head(finished)
    save_partial_weights(model, tmp_path / "head.safetensors")
    torch.manual_seed(1)
    again = with_head(tmp_path / "head.safetensors")
    own = again.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in model.state_dict().items())
    assert again.tuned == model.tuned


def test_updates_of_lora_need_the_same_layers(messages, tmp_path):
    model = tiny_sam()
    Lora(rank=2, targets="qv")(model)
    save_partial_weights(model, tmp_path / "lora.safetensors")
    with pytest.raises(ConfigError) as error:
        with_head(tmp_path / "lora.safetensors")
    messages.check(error.value, "adapt=lora")
