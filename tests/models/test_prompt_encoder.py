import itertools

import pytest
import torch

from sam_ft.models.build import build_sam
from sam_ft.types import Prompts
from tests.support import reference
from tests.support.tiny import SPEC, tiny_sam

NUM_OBJECTS = 3


@pytest.fixture(scope="module")
def encoders():
    theirs = reference.small_sam(SPEC)
    ours = build_sam("tiny", spec=SPEC)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours.prompt_encoder, theirs.prompt_encoder


def make_prompts(points: bool, boxes: bool, masks: bool) -> Prompts:
    torch.manual_seed(1)
    prompts = Prompts()
    if points:
        prompts.points = 64 * torch.rand(NUM_OBJECTS, 4, 2)
        prompts.point_labels = torch.tensor([[1, 0, -1, -1], [0, 1, 1, -1], [1, 1, 0, 0]])
    if boxes:
        prompts.boxes = 64 * torch.rand(NUM_OBJECTS, 4)
    if masks:
        prompts.masks = 5 * torch.randn(NUM_OBJECTS, 1, 16, 16)
    return prompts


@pytest.mark.parametrize(
    ("points", "boxes", "masks"), [c for c in itertools.product([True, False], repeat=3) if any(c)]
)
def test_every_combination_of_prompts_is_embedded_as_meta_does(encoders, points, boxes, masks):
    ours, theirs = encoders
    prompts = make_prompts(points, boxes, masks)
    pair = (prompts.points, prompts.point_labels) if points else None
    with torch.no_grad():
        sparse, dense = ours(prompts, NUM_OBJECTS)
        their_sparse, their_dense = theirs(pair, prompts.boxes, prompts.masks)
    assert sparse.shape == their_sparse.shape
    assert dense.shape == their_dense.shape
    torch.testing.assert_close(sparse, their_sparse, rtol=0, atol=1e-5)
    torch.testing.assert_close(dense, their_dense, rtol=0, atol=1e-5)


def test_empty_prompts_give_no_token_and_the_embedding_of_no_mask(encoders):
    sparse, dense = encoders[0](Prompts(), NUM_OBJECTS)
    assert sparse.shape == (NUM_OBJECTS, 0, 256)
    assert dense.shape == (NUM_OBJECTS, 256, 4, 4)


def test_positions_of_the_embedding_equal_meta_s(encoders):
    ours, theirs = encoders
    torch.testing.assert_close(ours.dense_pe(), theirs.get_dense_pe(), rtol=0, atol=1e-5)


def test_positions_stay_float32_under_autocast():
    encoder = tiny_sam().prompt_encoder
    prompts = make_prompts(points=True, boxes=True, masks=False)
    exact = encoder(prompts, NUM_OBJECTS)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(encoder(prompts, NUM_OBJECTS)[0], exact)


def test_the_position_of_a_padding_point_does_not_matter(encoders):
    ours, _ = encoders
    here = Prompts(points=torch.zeros(1, 1, 2), point_labels=torch.tensor([[-1]]))
    there = Prompts(points=torch.full((1, 1, 2), 50.0), point_labels=torch.tensor([[-1]]))
    assert torch.equal(ours(here, 1)[0], ours(there, 1)[0])
    assert torch.equal(ours(here, 1)[0][0, 0], ours.not_a_point_embed.weight[0])
