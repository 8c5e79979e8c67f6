"""The two graphs run by torch: they predict what `Predictor` predicts. tests/export/test_onnx.py runs them by ONNX."""

import numpy as np
import pytest
import torch

from sam_ft import Predictor
from sam_ft.export.onnx_graphs import FRAME, MASK_SIDE, DecoderGraph, EncoderGraph, symbolic_resized_size
from sam_ft.utils.geometry import resized_size
from tests.support.onnx import BOX, SIZES, decoder_call, photo
from tests.support.tiny import tiny_sam, tiny_vit_sam

MODELS = pytest.mark.parametrize("build", [tiny_sam, tiny_vit_sam], ids=["imagenet", "minmax"])
PADDING = ([[0.0, 0.0]], [-1.0])


class Client:
    """The two graphs of a model on one image, and its predictor."""

    def __init__(self, model, size=(40, 64)):
        self.image, self.predictor, self.decoder = photo(size), Predictor(model), DecoderGraph(model)
        with torch.no_grad():
            self.embedding = EncoderGraph(model)(torch.from_numpy(self.image).float())

    def decode(self, points, labels, **others):
        with torch.no_grad():
            call = decoder_call(self.image.shape[:2], points, labels, **others)
            tensors = {name: torch.from_numpy(value) for name, value in call.items()}
            return [found.numpy() for found in self.decoder(self.embedding, **tensors)]

    def logits(self, **prompts):
        """The predictor's, of token 0, at the side of a mask input."""
        logits = torch.from_numpy(self.predictor.predict(self.image, **prompts)[2][:1, :1])
        return torch.nn.functional.interpolate(logits, (MASK_SIDE, MASK_SIDE), mode="bilinear").numpy()


@MODELS
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_masks_and_scores_of_a_box_are_the_predictors(build, size):
    client = Client(build(), size)
    masks, scores, _ = client.decode([BOX[:2], BOX[2:]], [2, 3])
    own_masks, own_scores, _ = client.predictor.predict(client.image, boxes=[BOX])
    assert masks.shape == (1, 1, *size)
    # Clients scale coordinates by the longest side, the predictor by each side as it was rounded.
    assert ((masks[0] > 0) == own_masks[0]).mean() > 0.99
    assert scores == pytest.approx(own_scores, abs=1e-3)


@MODELS
@pytest.mark.parametrize("size", [*SIZES[:3], (20, 32)], ids=str)
def test_the_pixels_of_a_resized_image_are_those_of_pillow(build, size):
    client = Client(build(), size)
    client.predictor.predict(client.image, boxes=[BOX])
    np.testing.assert_allclose(client.embedding, client.predictor._features.embedding, atol=1e-5)


@pytest.mark.parametrize(
    ("points", "labels"),
    [
        ([[10, 12], [30, 20]], [1, 0]),
        ([[10, 12], [30, 20], [5, 5]], [1, 0, 1]),
        ([BOX[:2], BOX[2:]], [2, 3]),
        ([[10, 12], BOX[:2], BOX[2:]], [1, 2, 3]),
    ],
    ids=["two clicks", "three clicks", "box", "box and click"],
)
def test_a_padding_point_of_the_client_changes_nothing(points, labels):
    client = Client(tiny_sam())
    plain = client.decode(points, labels)
    for padded in ((points + PADDING[0], labels + PADDING[1]), (PADDING[0] + points, PADDING[1] + labels)):
        for found, expected in zip(client.decode(*padded), plain, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5)
    clicks = [(point, label) for point, label in zip(points, labels, strict=True) if label < 2]
    prompts = {"boxes": [BOX]} if 2 in labels else {}
    if clicks:
        prompts |= {"points": [[p for p, _ in clicks]], "point_labels": [[label for _, label in clicks]]}
    np.testing.assert_allclose(plain[2], client.logits(**prompts), atol=1e-4)


@pytest.mark.parametrize("padding", [([], []), PADDING], ids=["none", "one"])
def test_a_single_click_gives_the_best_of_three_masks(padding):
    client = Client(tiny_sam())
    _, score, logits = client.decode([[10, 12]] + padding[0], [1] + padding[1])
    _, scores, all_logits = client.predictor.predict(
        client.image, points=[[[10, 12]]], point_labels=[[1]], multimask_output=True
    )
    best = scores[0].argmax()
    assert score == pytest.approx(scores[0, best], abs=1e-4)
    own = torch.nn.functional.interpolate(torch.from_numpy(all_logits[:1, best, None]), (256, 256), mode="bilinear")
    np.testing.assert_allclose(logits, own.numpy(), atol=1e-4)


def test_a_mask_is_used_only_if_it_is_given():
    client = Client(tiny_sam())
    mask = np.random.default_rng(0).normal(size=(1, 1, MASK_SIDE, MASK_SIDE)).astype(np.float32)
    box = ([BOX[:2], BOX[2:]], [2, 3])
    without, zero, minus, used = (client.decode(*box, mask=mask, has_mask=value)[2] for value in (0, 0.0, -1, 1))
    assert np.array_equal(without, zero)
    assert np.array_equal(without, minus)
    side = client.predictor.model.mask_side
    small = torch.nn.functional.interpolate(torch.from_numpy(mask), (side, side), mode="bilinear").numpy()
    np.testing.assert_allclose(used, client.logits(boxes=[BOX], mask_input=small), atol=1e-4)
    # A client without any point has to send a padding point.
    alone = client.decode(*PADDING, mask=mask, has_mask=1)[2]
    np.testing.assert_allclose(alone, client.logits(mask_input=small), atol=1e-4)


@pytest.mark.parametrize("size", [(7, 5), (1, 900), (684, 1024), (1024, 1024), (333, 1000), (4000, 31)], ids=str)
@pytest.mark.parametrize("side", [64, 1024])
def test_the_resized_size_is_that_of_the_predictor(size, side):
    assert symbolic_resized_size(*size, side) == resized_size(size, side)


def test_coordinates_are_in_the_official_frame_whatever_the_input_side_is():
    call = decoder_call((40, 64), [[64, 40]], [1])
    assert call["point_coords"].tolist() == [[[FRAME, FRAME * 40 / 64]]]
