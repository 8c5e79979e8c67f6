from itertools import pairwise

import pytest
import torch

from sam_ft.prompts import Box, Clicks, Dialogue, Errors, Iterative, Point, errors_on_grid
from sam_ft.prompts.clicks import center_clicks
from sam_ft.task import PromptedSegmentation
from sam_ft.types import Prediction
from tests.prompts.test_box import batch, sample
from tests.prompts.test_point import at, evaluation
from tests.support.blobs import Blobs
from tests.support.tiny import tiny_sam


def drawn(*pictures):
    return torch.tensor([[[cell == "#" for cell in row] for row in picture] for picture in pictures])


def errors(missed, extra):
    ones = torch.ones(len(missed), 2)
    return Errors(missed, extra, ones, 0 * ones)


EMPTY = ["........"] * 8
BLOCK = ["........", ".#####..", ".#####..", ".#####..", ".#####..", ".#####..", "........", "........"]
BAR = ["########", "########", "........", "........", "........", "........", "........", "........"]


def test_the_click_is_deepest_inside_the_larger_error():
    missed, extra = drawn(BLOCK, EMPTY, BAR, EMPTY), drawn(BAR, BAR, BLOCK, EMPTY)
    pixels, labels = center_clicks(errors(missed, extra))
    # the block is 5 wide: its middle is 3 away from the outside. The bar is 2 high at the border: 1 away, twice
    assert pixels[:3].tolist() == [[3, 3], [0, 0], [3, 3]]
    assert labels.tolist() == [1, 0, 0, -1]


def test_errors_on_the_grid_of_the_logits_are_wrong_pixels_of_the_input():
    # 4 x 4 input pixels are one of the logits; the click lands on the one that was compared
    given = batch(sample("a", 64, 64, objects=2))
    logits = torch.full((2, 1, 16, 16), -1.0)
    logits[1] = 1.0
    found = errors_on_grid(given, given.valid_pixels(), Prediction(logits, torch.zeros(2, 1)))
    assert not found.extra[0].any()
    assert not found.missed[1].any()
    for index, wrong in enumerate((found.missed[0], found.extra[1])):
        pixels = torch.nonzero(wrong).flip(1)
        points = pixels * found.scale[0] + found.offset[0]
        assert (at(given.masks, points[None].expand(2, -1, -1))[index] == (index == 0)).all()
    assert found.missed[0].sum() == given.masks[0, 2::4, 2::4].sum()


def test_pixels_that_are_ignored_or_padding_are_no_errors():
    given = sample("a", 32, 64, objects=1)
    given.ignore = torch.zeros(32, 64, dtype=torch.bool)
    given.ignore[:, 48:] = True
    padded = batch(given)
    found = errors_on_grid(padded, padded.valid_pixels(), Prediction(torch.ones(1, 1, 16, 16), torch.zeros(1, 1)))
    assert found.extra[0, :8, :12].any()
    assert not found.extra[0, 8:].any()
    assert not found.extra[0, :, 12:].any()


def test_a_random_click_is_an_object_point_where_object_was_missed_and_else_a_background_point():
    given = batch(*[sample(str(index), 64, 64, objects=1) for index in range(200)])
    missed, extra = (drawn(picture).expand(200, -1, -1) for picture in (BAR, BLOCK))
    prompts = Clicks(Box(), sampling="uniform")(given, 0)
    answer = Prediction(torch.zeros(200, 1, 16, 16), torch.zeros(200, 1))
    later = Clicks(Box(), sampling="uniform").next(given, 0, 1, prompts, answer, errors(missed & ~extra, extra))
    positive = later.point_labels[:, 0] == 1
    assert torch.equal(at(missed & ~extra, later.points)[:, 0], positive)
    assert torch.equal(at(extra, later.points)[:, 0], ~positive)
    assert float(positive.float().mean()) == pytest.approx(11 / 36, abs=0.09)  # 11 pixels missed, 25 too many
    assert torch.equal(later.masks, answer.logits)
    assert torch.equal(later.boxes, given.boxes)


def test_where_nothing_is_wrong_there_is_padding():
    given = batch(sample("a", 64, 64, objects=1))
    answer = Prediction(torch.zeros(1, 1, 16, 16), torch.zeros(1, 1))
    for sampling in ("uniform", "center"):
        clicks = Clicks(sampling=sampling)
        later = clicks.next(given, 0, 1, clicks(given, 0), answer, errors(drawn(EMPTY), drawn(EMPTY)))
        assert later.point_labels.tolist() == [[1, -1]]


def test_eleven_rounds_are_one_prompt_eight_clicks_and_two_answers_alone():
    seen = set()
    for seed in range(50):
        (clicks, _), *_ = Iterative().split(batch(sample("a")), seed)
        alone = clicks.without_click(seed)
        assert len(alone) == 2
        assert max(alone) == 10
        seen |= alone
    assert seen == set(range(1, 11))


def rounds_of(clicks, given, task):
    """The prompts of each round of a training pass."""
    asked, decode = [], task.model.decode

    def noting(features, prompts, image_index, multimask=False):
        asked.append((prompts, multimask))
        return decode(features, prompts, image_index, multimask)

    task.model.decode = noting
    for arguments in task.passes(given, clicks, 0):
        task(*arguments)
    return asked


def test_each_round_shows_the_last_answer_and_only_a_first_point_alone_has_three():
    task = PromptedSegmentation(tiny_sam(), lambda prediction, masks, valid: {"loss": prediction.pred_iou.mean(1)})
    encoded = []
    task.model.image_encoder.register_forward_hook(lambda *_: encoded.append(1))
    given = batch(Blobs([3])[0])
    asked = rounds_of(Clicks(Point(), rounds=6, mask_only_rounds=2, sampling="uniform"), given, task)
    assert [multimask for _, multimask in asked] == [True] + [False] * 5
    counts = [prompts.points.shape[1] for prompts, _ in asked]
    assert (counts[0], counts[-1]) == (1, 4)
    assert sum(after == before for before, after in pairwise(counts)) == 2
    assert counts[-1] == counts[-2]
    assert asked[0][0].masks is None
    assert all(prompts.masks.shape == (3, 1, 16, 16) for prompts, _ in asked[1:])
    assert not any(prompts.masks.requires_grad for prompts, _ in asked[1:])
    assert len(encoded) == 1


def test_the_gradient_flows_through_the_rounds_where_it_is_told_to():
    def gradient(detach):
        model = tiny_sam()
        task = PromptedSegmentation(model, lambda prediction, masks, valid: {"loss": prediction.logits.mean((1, 2, 3))})
        model.image_encoder.requires_grad_(False)
        task.encoder_learns = False
        for arguments in task.passes(
            batch(Blobs([3])[0]), Clicks(Box(), rounds=2, sampling="uniform", detach=detach), 0
        ):
            task(*arguments)["loss"].sum().backward()
        return model.mask_decoder.iou_token.weight.grad

    assert not torch.allclose(gradient(True), gradient(False))


def test_a_simulated_user_clicks_until_the_masks_are_right():
    """The rounds of an evaluation, by hand: each click is at the center of the largest error of the last mask."""
    model = tiny_sam()
    task = PromptedSegmentation(model)
    given = evaluation(Blobs([4])[0])
    (predicted,) = task.predict(given, Clicks(rounds=3))
    assert predicted.click_ious.shape == (4, 3)
    features, prompts = task.encode(given), Point(sampling="center")(given, 0)
    true, size = given.original_masks[0], given.original_sizes[0]
    for turn in range(3):
        answer = model.decode(features, prompts, given.image_index, multimask=turn == 0).best()
        masks = model.postprocess(answer.logits, given.input_sizes[0], size)[:, 0] > 0
        iou = (masks & true).sum((1, 2)) / (masks | true).sum((1, 2))
        assert predicted.click_ious[:, turn].tolist() == pytest.approx(iou.tolist(), abs=1e-6)
        pixels, labels = center_clicks(errors(true & ~masks, masks & ~true))
        points = pixels * torch.tensor([given.input_sizes[0][1] / size[1], given.input_sizes[0][0] / size[0]])
        prompts.points = torch.cat([prompts.points, points[:, None]], 1)
        prompts.point_labels = torch.cat([prompts.point_labels, labels[:, None]], 1)
        prompts.masks = answer.logits
    assert torch.equal(predicted.masks, masks)


def test_a_dialogue_ends_after_its_rounds():
    dialogue = Dialogue(Clicks(rounds=1), batch(sample("a")), 0)
    assert dialogue.ends
    assert not Dialogue(Clicks(rounds=2), batch(sample("a")), 0).ends


@pytest.mark.parametrize(
    "bad",
    [
        {"rounds": 0},
        {"rounds": 2, "mask_only_rounds": 2},
        {"sampling": "middle"},
        {"first": Iterative()},
        {"first": Clicks(rounds=2)},
    ],
)
def test_wrong_options_are_refused(bad):
    with pytest.raises(ValueError, match="expected"):
        Clicks(**bad)
