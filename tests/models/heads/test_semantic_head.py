import math

import pytest
import torch

from sam_ft.adapt import Freeze
from sam_ft.models.heads import InstanceHead, SemanticHead
from sam_ft.training.checkpoint import load_partial_weights, save_partial_weights
from sam_ft.utils.errors import CheckpointError
from tests.support.tiny import tiny_sam

CLASSES = {200: "ring", 1: "disc", 5: "square"}


def head_of(classes=CLASSES, **options):
    head = SemanticHead(**options)
    head.set_classes(classes)
    return head


def with_head(head):
    model = tiny_sam()
    Freeze(["mask_decoder.*"])(model)
    model.attach_head(head)
    return model


def cells(*rows):
    """(1, 1, h, w): the channel of each cell."""
    return torch.tensor(rows, dtype=torch.float32)[None, None]


def test_channels_are_the_background_and_the_classes_by_their_labels():
    head = head_of()
    assert head.labels == (1, 5, 200)
    assert head.channel_names == ["background", "disc", "square", "ring"]
    logits = head(torch.zeros(2, 256, 4, 4), torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    assert logits.shape == (2, 4, 16, 16)
    assert torch.allclose(head.probabilities(logits).sum(dim=1), torch.ones(2, 16, 16))


def test_data_without_classes_have_one():
    head = head_of({})
    assert (head.labels, dict(head.classes), head.out.out_channels) == ((), {1: "object"}, 2)


def test_names_that_occur_twice_have_their_labels():
    assert head_of({0: "background", 3: "cell", 4: "cell"}).channel_names == [
        "background",
        "background (0)",
        "cell (3)",
        "cell (4)",
    ]


def test_a_loss_by_hand():
    # logits of 0: each pixel costs ln 3. Class 1 alone is there: Dice is 1 - (2 · 1/3 + 1) / (4/3 + 1 + 1).
    head = head_of({1: "a", 2: "b"})
    (loss,) = head.loss(torch.zeros(1, 3, 2, 2), cells([1, 0], [0, 0])).tolist()
    assert loss == pytest.approx(math.log(3) + 1 - (5 / 3) / (10 / 3))


def test_background_alone_costs_its_cross_entropy():
    (loss,) = head_of().loss(torch.zeros(1, 4, 2, 2), cells([0, 0], [0, 0])).tolist()
    assert loss == pytest.approx(math.log(4))


def test_pixels_that_do_not_count_have_no_gradient():
    logits = torch.zeros(1, 4, 2, 2, requires_grad=True)
    head_of().loss(logits, cells([1, 0], [3, math.nan])).sum().backward()
    assert not logits.grad[..., 1, 1].any()
    assert logits.grad[..., 0, 0].all()


def test_an_image_without_any_pixel_that_counts_has_no_loss():
    logits = torch.zeros(2, 4, 2, 2, requires_grad=True)
    maps = torch.cat([cells([1, 0], [0, 0]), torch.full((1, 1, 2, 2), math.nan)])
    losses = head_of().loss(logits, maps)
    assert losses[1] == 0
    losses.sum().backward()
    assert logits.grad.isfinite().all()


def test_a_checkpoint_gives_the_head_back_with_its_classes(tmp_path):
    model = with_head(head_of(components=False, min_area=3))
    save_partial_weights(model, tmp_path / "a.safetensors", best_epoch=2)
    again = tiny_sam()
    notes = load_partial_weights(again, tmp_path / "a.safetensors")
    assert notes["best_epoch"] == 2
    assert {"mask_decoder", "semantic_head"} <= set(notes["trained_modules"])
    assert again.head.notes() == model.head.notes()
    assert list(again.head.classes) == [1, 5, 200]
    own = again.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in model.state_dict().items())


def test_a_checkpoint_without_classes_gives_a_head_without_classes(tmp_path):
    save_partial_weights(with_head(head_of({})), tmp_path / "a.safetensors")
    again = tiny_sam()
    load_partial_weights(again, tmp_path / "a.safetensors")
    assert again.head.labels == ()


@pytest.mark.parametrize("other", [InstanceHead(), head_of({1: "disc", 5: "ring", 200: "square"})])
def test_the_file_of_another_head_is_refused(messages, tmp_path, other):
    save_partial_weights(with_head(other), tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError) as error:
        load_partial_weights(with_head(head_of()), tmp_path / "a.safetensors")
    messages.check(error.value, "semantic_head (disc, square, ring)")


def test_a_negative_area_is_refused(messages):
    with messages.raises(ValueError, "min_area=-1"):
        SemanticHead(min_area=-1)
