import pytest

from sam_ft.adapt import Freeze, freeze_unreached
from sam_ft.prompts import Box, Clicks, Iterative, Mask, Mixed, Point
from sam_ft.task import PromptedSegmentation
from sam_ft.training.step import split_into_passes
from sam_ft.utils.errors import ConfigError
from tests.support.steps import batch_of
from tests.support.tiny import bce_iou, tiny_sam

# only the best candidate gets a gradient, and padding where an object is right or fills its image
HEADS = [f"mask_decoder.output_hypernetworks_mlps.{i}." for i in (1, 2, 3)]
RARE = (*HEADS, "prompt_encoder.not_a_point_embed.")
SINGLE_MASK, CANDIDATES = "output_hypernetworks_mlps.0", "output_hypernetworks_mlps.1"


def frozen_by(prompter, *patterns):
    model = tiny_sam()
    Freeze(list(patterns or ["mask_decoder.*", "prompt_encoder.*"]))(model)
    return model, freeze_unreached(model, prompter)


def gradients_in_training(prompter):
    """The gradient of each parameter but the image encoder's in a step in which all of them learn."""
    model = tiny_sam()
    model.image_encoder.requires_grad_(False)
    task = PromptedSegmentation(model, bce_iou())
    for given in split_into_passes(task, batch_of([1, 4]), prompter, seed=0).decoder:
        task(given)["loss"].sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if not name.startswith("image_encoder.")}


@pytest.mark.slow
@pytest.mark.parametrize(
    "prompter",
    [
        pytest.param(Box(), id="Box"),
        pytest.param(Box(jitter=0.1), id="Box with jitter"),
        pytest.param(Point(), id="Point"),
        pytest.param(Point(2), id="Point, 2"),
        pytest.param(Point(2, 1), id="Point, 2 and 1 beside"),
        pytest.param(Mask(), id="Mask"),
        pytest.param(Clicks(rounds=1), id="Clicks, 1 round"),
        pytest.param(Clicks(Box(), rounds=3), id="Clicks after a box"),
        pytest.param(Clicks(Mask(), rounds=3), id="Clicks after a mask"),
        pytest.param(Clicks(rounds=3, sampling="uniform", detach=False), id="Clicks without detach"),
        pytest.param(Iterative(rounds=6), id="Iterative"),
        pytest.param(Mixed([Box(), Point()], [1, 1]), id="Mixed"),
        pytest.param(Mixed([Box(), Mask()], [1, 0]), id="Mixed, weight 0"),
        pytest.param(Mixed([Box(), Mixed([Mask(), Clicks(rounds=3)], [1, 1])], [1, 2]), id="Mixed twice"),
    ],
)
def test_exactly_the_parameters_without_a_gradient_in_training_are_frozen(prompter):
    _, frozen = frozen_by(prompter)
    gradients = gradients_in_training(prompter)
    reached = {name for name, gradient in gradients.items() if gradient is not None and gradient.any()}
    assert not reached & set(frozen)
    rest = gradients.keys() - reached - set(frozen)
    assert all(gradients[name] is not None and name.startswith(RARE) for name in rest)


def test_padding_beside_a_box_is_reached():
    # a click where nothing is wrong: the only prompt with a box for which a point is padding
    _, frozen = frozen_by(Clicks(Box(), rounds=2))
    assert "prompt_encoder.not_a_point_embed.weight" not in frozen
    assert "prompt_encoder.not_a_point_embed.weight" in frozen_by(Box())[1]


@pytest.mark.parametrize(
    ("prompter", "trained"),
    [(Box(), SINGLE_MASK), (Point(), CANDIDATES), (Point(2), SINGLE_MASK), (Mask(), SINGLE_MASK)],
    ids=["Box", "Point", "Point, 2", "Mask"],
)
def test_a_single_point_trains_the_candidates_and_all_else_the_single_mask(prompter, trained):
    model, _ = frozen_by(prompter)
    decoder = model.mask_decoder
    learns = {name.removesuffix(".layers.0.weight") for name, p in decoder.named_parameters() if p.requires_grad}
    assert trained in learns
    assert {SINGLE_MASK, CANDIDATES} - {trained} - learns


def test_only_parameters_that_learn_are_frozen_and_the_encoder_stays():
    model, frozen = frozen_by(Box(), "mask_decoder.output_hypernetworks_mlps.*", "image_encoder.*")
    assert frozen
    assert all(name.startswith("mask_decoder.output_hypernetworks_mlps.") for name in frozen)
    assert all(p.requires_grad for p in model.image_encoder.parameters())
    assert not any(p.requires_grad for p in model.prompt_encoder.parameters())


def test_weights_and_gradients_of_the_model_stay_as_they_were():
    model, fresh = tiny_sam(), tiny_sam()
    freeze_unreached(model, Iterative())
    for (name, ours), theirs in zip(model.state_dict().items(), fresh.state_dict().values(), strict=True):
        assert ours.equal(theirs), name
    assert all(p.grad is None for p in model.parameters())


def test_prompts_that_reach_nothing_of_what_learns_are_refused():
    with pytest.raises(ConfigError, match=r"mask_downscaling.*train_prompt"):
        frozen_by(Box(), "prompt_encoder.mask_downscaling.*")
