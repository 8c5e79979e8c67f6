"""Terms and the IoU head together, on 2 x 2 masks."""

import math
from pathlib import Path

import pytest
import torch

from sam_ft.cli.config import build
from sam_ft.losses import Bce, Combined, Dice, Focal, Iou, Lovasz
from sam_ft.losses.combined import hard_iou
from sam_ft.types import Prediction
from tests.support.losses import ALL, LOGITS, MASK, named, sam_loss
from tests.support.tiny import bce_iou
from tests.test_architecture import hydra_compose

CHOICES = sorted((Path(__file__).parents[2] / "conf/loss").glob("*.yaml"))
both_losses = pytest.mark.parametrize("loss", [bce_iou(), sam_loss()])


def prediction(iou=0.5):
    return Prediction(LOGITS[:, None], torch.tensor([[iou]]))


def candidates():
    """Two objects with three candidates each; the third is best for the first object, the first for the second."""
    logits = torch.stack([torch.stack([-LOGITS[0], 0 * LOGITS[0], LOGITS[0]])] * 2)
    logits[1] = logits[1].flip(0)
    pred_iou = torch.tensor([[0.1, 0.6, 0.9], [0.2, 0.5, 0.3]])
    return Prediction(logits.requires_grad_(), pred_iou.requires_grad_()), MASK.repeat(2, 1, 1), ALL.repeat(2, 1, 1)


def test_the_loss_of_sam_is_twenty_focal_and_one_dice_and_the_iou_head():
    focal = 2 * 0.25 * 0.2**2 * -math.log(0.8) + 0.75 * 0.5**2 * -math.log(0.5) + 0.75 * 0.2**2 * -math.log(0.8)
    by_hand = {"focal": focal / 4, "dice": 1 - 3.2 / 4.3, "iou_head": (0.5 - 1) ** 2}
    values = sam_loss()(prediction(), MASK, ALL)
    assert list(values) == ["loss", *by_hand]
    assert {name: values[name].item() for name in by_hand} == pytest.approx(by_hand, abs=1e-6)
    total = 20 * by_hand["focal"] + by_hand["dice"] + by_hand["iou_head"]
    assert values["loss"].item() == pytest.approx(total, abs=1e-6)


def test_the_loss_is_the_weighted_sum_of_its_terms():
    loss = Combined({"a": Bce(2.0), "b": Iou(3.0), "c": Bce(0.0)}, iou_head_weight=4.0)
    total, *terms = loss(prediction(), MASK, ALL).values()
    torch.testing.assert_close(total, sum(w * term for w, term in zip((2, 3, 0, 4), terms, strict=True)))
    torch.testing.assert_close(terms[2], terms[0])  # a weight of 0 keeps a term in the log


@pytest.mark.parametrize("path", CHOICES, ids=lambda path: path.stem)
def test_every_choice_of_conf_can_be_built_and_trained(path):
    node = hydra_compose("train", [f"loss={path.stem}"]).loss
    loss = build(node)
    assert list(loss.terms) == list(node.terms)
    predicted = prediction()
    predicted.logits = predicted.logits.clone().requires_grad_()
    loss(predicted, MASK, ALL)["loss"].sum().backward()
    assert (predicted.logits.grad != 0).any()


def test_the_target_of_the_iou_head_is_the_iou_of_the_thresholded_mask():
    # logits above 0 are the two left pixels (p = .5 is logit 0): IoU 1, pred_iou .5
    assert Combined({"dice": Dice()})(prediction(0.5), MASK, ALL)["iou_head"].item() == pytest.approx(0.25)
    assert Combined({"dice": Dice()}, iou_head="l1")(prediction(0.5), MASK, ALL)["iou_head"].item() == 0.5


def test_hard_iou_excludes_invalid_pixels():
    # four predicted, two gt; without the upper right pixel 2 of 3
    valid = torch.tensor([[[True, False], [True, True]]])
    assert hard_iou(torch.ones(1, 2, 2), MASK, valid).item() == pytest.approx(2 / 3)
    # without the lower left one, an object pixel: 1 of 3
    assert hard_iou(torch.ones(1, 2, 2), MASK, valid.flip(1, 2)).item() == pytest.approx(1 / 3)
    assert hard_iou(torch.ones(1, 2, 2), MASK, ~ALL).item() == 0


def test_the_iou_head_loss_has_no_gradient_for_the_mask():
    pred_iou = torch.tensor([[0.5]], requires_grad=True)
    logits = LOGITS[:, None].clone().requires_grad_()
    Combined({"dice": Dice(0.0)})(Prediction(logits, pred_iou), MASK, ALL)["loss"].sum().backward()
    assert pred_iou.grad.item() == pytest.approx(-1.0)
    assert (logits.grad == 0).all()


@both_losses
def test_padding_has_no_gradient(loss):
    valid = torch.tensor([[[True, False], [True, False]]])
    logits = LOGITS.clone()[:, None].requires_grad_()
    values = loss(Prediction(logits, torch.tensor([[0.5]])), MASK, valid)
    values["loss"].sum().backward()
    assert (logits.grad[0, 0, :, 1] == 0).all()
    assert (logits.grad[0, 0, :, 0] != 0).all()
    other = logits.detach().clone()
    other[0, 0, :, 1] = 7.0
    torch.testing.assert_close(loss(Prediction(other, torch.tensor([[0.5]])), MASK, valid)["loss"], values["loss"])


@both_losses
def test_each_object_has_its_own_value(loss):
    two = Prediction(torch.cat([LOGITS, -LOGITS])[:, None], torch.tensor([[0.5], [0.1]]))
    both = loss(two, MASK.repeat(2, 1, 1), ALL.repeat(2, 1, 1))["loss"]
    alone = loss(Prediction(two.logits[1:], two.pred_iou[1:]), MASK, ALL)["loss"]
    torch.testing.assert_close(both[1:], alone)


@pytest.mark.parametrize("term", [Bce(), Focal(), Dice(), Lovasz()], ids=named)
def test_only_the_best_candidate_gets_gradients_of_its_mask(term):
    predicted, masks, valid = candidates()
    loss = Combined({"term": term})
    values = loss(predicted, masks, valid)
    values["loss"].sum().backward()
    for row, best in enumerate((2, 0)):
        alone = predicted.logits[row : row + 1, best : best + 1].detach().requires_grad_()
        single = loss(Prediction(alone, torch.zeros(1, 1)), masks[:1], valid[:1])
        single["loss"].sum().backward()
        torch.testing.assert_close(values["term"][row], single["term"][0])
        torch.testing.assert_close(predicted.logits.grad[row, best], alone.grad[0, 0])
        assert (predicted.logits.grad[row, best] != 0).any()
        assert (predicted.logits.grad[row, [other for other in range(3) if other != best]] == 0).all()


def test_the_iou_head_learns_from_all_candidates():
    predicted, masks, valid = candidates()
    values = sam_loss()(predicted, masks, valid)
    # -LOGITS predicts only the lower right pixel: IoU 0, like the empty mask of 0 * LOGITS; LOGITS has IoU 1
    errors = torch.tensor([[0.1, 0.6, 0.9 - 1], [0.2 - 1, 0.5, 0.3]])
    torch.testing.assert_close(values["iou_head"], (errors**2).mean(1))
    values["loss"].sum().backward()
    torch.testing.assert_close(predicted.pred_iou.grad, 2 * errors / 3)


def test_candidates_compete_by_the_weighted_sum():
    # a: confident, one of four pixels wrong; b: uncertain everywhere. Cross-entropy prefers b, IoU a
    a, b = torch.tensor([[9.0, 9.0], [9.0, -9.0]]), torch.tensor([[0.1, 0.0], [0.1, 0.0]])
    predicted = Prediction(torch.stack([b, a])[None], torch.zeros(1, 2))
    for weights, best in (((1.0, 0.0), 0), ((0.0, 1.0), 1), ((1.0, 9.0), 1)):
        loss = Combined({"bce": Bce(weights[0]), "soft_iou": Iou(weights[1])})
        assert loss.best_candidate(predicted, MASK, ALL)[0].tolist() == [best]


def test_the_first_of_tied_candidates_is_best():
    same = Prediction(LOGITS[:, None].repeat(1, 3, 1, 1), torch.zeros(1, 3))
    assert bce_iou().best_candidate(same, MASK, ALL)[0].tolist() == [0]


def test_only_the_best_candidate_is_computed_with_a_graph():
    seen = []

    class Recording(Bce):
        def __call__(self, logits, masks, valid):
            seen.append((len(logits), logits.requires_grad))
            return super().__call__(logits, masks, valid)

    predicted, masks, valid = candidates()
    Combined({"bce": Recording()})(predicted, masks, valid)
    assert seen == [(2, False)] * 3 + [(2, True)]


@pytest.mark.parametrize("count", [1, 3])
@both_losses
def test_no_objects_give_no_values(loss, count):
    empty = Prediction(torch.zeros(0, count, 2, 2, requires_grad=True), torch.zeros(0, count, requires_grad=True))
    nothing = torch.zeros(0, 4, 4, dtype=torch.bool)
    values = loss(empty, nothing, nothing)
    assert all(value.shape == (0,) for value in values.values())
    values["loss"].sum().backward()
    assert empty.logits.grad.shape == (0, count, 2, 2)


@pytest.mark.parametrize("count", [1, 3])
def test_bfloat16_predictions_are_scored_in_float32(count):
    low = Prediction(LOGITS[:, None].repeat(1, count, 1, 1).bfloat16(), torch.full((1, count), 0.5).bfloat16())
    assert all(value.dtype == torch.float32 for value in bce_iou()(low, MASK, ALL).values())


def test_coarse_logits_are_scored_at_the_masks_side():
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[:, :, :2] = True
    coarse = Prediction(torch.full((1, 1, 1, 1), 0.0), torch.zeros(1, 1))
    assert bce_iou()(coarse, mask, torch.ones_like(mask))["bce"].item() == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"terms": {}}, ["terms={}"]),
        ({"terms": [Dice()]}, ["terms="]),
        ({"terms": {"dice": 2.0}}, ["terms.dice=2.0;", "terms.dice.weight=", "~loss.terms.dice"]),
        ({"terms": {"dice": None}}, ["terms.dice=None;"]),
        ({"terms": {"loss": Dice()}}, ["terms.loss: "]),
        ({"terms": {"iou_head": Dice()}}, ["terms.iou_head: "]),
        ({"terms": {"dice": Dice(-1.0)}}, ["terms.dice.weight=-1.0;"]),
        ({"terms": {"dice": Dice(math.nan)}}, ["terms.dice.weight=nan;"]),
        ({"iou_head_weight": -1.0}, ["iou_head_weight=-1.0;"]),
        ({"iou_head": "l3"}, ["iou_head=l3 ", "l2, l1"]),
    ],
)
def test_invalid_terms_and_options_are_refused(messages, options, facts):
    with messages.raises(ValueError, *facts):
        Combined(**{"terms": {"focal": Focal()}, **options})
