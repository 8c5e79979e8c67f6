"""Properties that every loss term has."""

import inspect
from pathlib import Path

import hydra
import pytest
import torch
import yaml

from tests.support.losses import ALL, LOGITS, MASK, TERMS, named

CHOICES = sorted((Path(__file__).parents[2] / "conf/loss").glob("*.yaml"))
every_term = pytest.mark.parametrize("term", TERMS, ids=named)


def scene():
    """Two objects of 6 x 6 pixels, a quarter of which are not valid."""
    noise = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(2, 6, 6, generator=noise, dtype=torch.float64)
    masks, valid = (torch.rand(2, 6, 6, generator=noise) < share for share in (0.4, 0.75))
    return logits, masks, valid


@every_term
def test_gradients_are_those_of_finite_differences(term):
    logits, masks, valid = scene()
    assert torch.autograd.gradcheck(lambda x: term(x, masks, valid), logits.requires_grad_())


@every_term
def test_invalid_pixels_change_no_value_and_have_no_gradient(term):
    logits, masks, valid = scene()
    logits.requires_grad_()
    values = term(logits, masks, valid)
    values.sum().backward()
    assert (logits.grad[~valid] == 0).all()
    assert (logits.grad[valid] != 0).any()
    others = torch.where(valid, logits, -5 * logits - 1), torch.where(valid, masks, ~masks)
    torch.testing.assert_close(term(*others, valid), values)


@every_term
def test_each_object_has_its_own_value(term):
    logits, masks, valid = scene()
    both = term(logits, masks, valid)
    assert both.shape == (2,)
    torch.testing.assert_close(both[1:], term(logits[1:], masks[1:], valid[1:]))


@every_term
def test_a_perfect_prediction_has_a_loss_of_zero(term):
    assert term(torch.where(MASK, 50.0, -50.0), MASK, ALL).item() == pytest.approx(0, abs=1e-6)


@every_term
@pytest.mark.parametrize("scale", [0.0, 1.0, 200.0])
@pytest.mark.parametrize("kind", ["no valid pixel", "whole image", "empty mask", "no object"])
def test_degenerate_objects_have_finite_values_and_gradients(term, kind, scale):
    masks = (torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.5) & (kind != "empty mask")
    masks, valid = masks | (kind == "whole image"), torch.full((2, 8, 8), kind != "no valid pixel")
    logits = torch.full((2, 8, 8), -scale)
    logits[1] *= -1
    if kind == "no object":
        logits, masks, valid = logits[:0], masks[:0], valid[:0]
    logits.requires_grad_()
    values = term(logits, masks, valid)
    assert values.shape == logits.shape[:1]
    assert values.isfinite().all()
    values.sum().backward()
    assert logits.grad.isfinite().all()
    assert kind != "no valid pixel" or (logits.grad == 0).all()


@every_term
def test_a_term_is_computed_in_float32(term):
    assert term(LOGITS, MASK, ALL).dtype == torch.float32


@pytest.mark.parametrize("path", CHOICES, ids=lambda path: path.stem)
def test_a_choice_states_every_option_of_its_terms_in_their_order(path):
    for node in yaml.safe_load(path.read_text())["terms"].values():
        target, *options = node
        assert target == "_target_"
        assert options == list(inspect.signature(hydra.utils.get_object(node[target])).parameters)


def test_every_term_is_in_a_choice_and_tested_here():
    shown = {node["_target_"] for path in CHOICES for node in yaml.safe_load(path.read_text())["terms"].values()}
    assert {hydra.utils.get_object(name) for name in shown} == {type(term) for term in TERMS}
