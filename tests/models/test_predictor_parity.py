"""From an image to masks in its original frame: equal to SamPredictor and LiteMedSAM."""

import numpy as np
import pytest
import torch
from PIL import Image

from sam_ft.models.build import ModelSpec, build_sam
from sam_ft.models.sam import Sam
from sam_ft.types import Features, Prompts
from tests.support import reference

HEIGHT, WIDTH = 90, 150


@pytest.fixture
def image() -> np.ndarray:
    """A non-square picture with smooth and sharp parts, (90, 150, 3) uint8."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    disc = 255 * ((x - 60) ** 2 + (y - 40) ** 2 < 900)
    return np.stack([disc, 255 * x / WIDTH, 255 * y / HEIGHT], axis=-1).astype(np.uint8)


def encode_with_pil(sam: Sam, image: np.ndarray) -> tuple[Features, tuple[int, int], float]:
    """Features, the input size, and the scale from the original frame to the input frame."""
    scale = sam.image_size / max(image.shape[:2])
    size = (int(image.shape[0] * scale + 0.5), int(image.shape[1] * scale + 0.5))
    resized = np.array(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))
    padded = torch.zeros(1, 3, sam.image_size, sam.image_size, dtype=torch.uint8)
    padded[0, :, : size[0], : size[1]] = torch.from_numpy(resized).permute(2, 0, 1)
    with torch.no_grad():
        return sam.encode(padded, [size]), size, scale


def check_against(predictor, ours: Sam, image: np.ndarray, multimask: bool) -> None:
    predictor.set_image(image)
    features, size, scale = encode_with_pil(ours, image)
    assert size == predictor.input_size
    assert (features.embedding - predictor.features).abs().max() <= 1e-4
    torch.manual_seed(2)
    side = ours.mask_side
    prompts = Prompts(
        boxes=torch.tensor([[30.0, 10, 90, 70], [0, 0, 149, 89]]) * scale,
        points=torch.tensor([[[60.0, 40], [5, 5]], [[100, 80], [0, 0]]]) * scale,
        point_labels=torch.tensor([[1, 0], [1, -1]]),
        masks=torch.randn(2, 1, side, side),
    )
    for case in (prompts, Prompts(boxes=prompts.boxes), Prompts(None, prompts.points, prompts.point_labels)):
        theirs = predictor.predict_torch(
            case.points, case.point_labels, case.boxes, case.masks, multimask, return_logits=True
        )
        with torch.no_grad():
            prediction = ours.decode(features, case, torch.zeros(2, dtype=torch.int64), multimask)
            logits = ours.postprocess(prediction.logits, size, (HEIGHT, WIDTH))
        assert theirs[0].std() > 0.05
        torch.testing.assert_close(logits, theirs[0], rtol=0, atol=1e-4)
        torch.testing.assert_close(prediction.pred_iou, theirs[1], rtol=0, atol=1e-4)
        torch.testing.assert_close(prediction.logits, theirs[2], rtol=0, atol=1e-4)


@pytest.mark.parametrize("multimask", [False, True])
def test_masks_equal_those_of_sam_predictor(image, multimask):
    spec = ModelSpec("vit", image_size=256, embed_dim=64, depth=3, num_heads=2, global_attn_indexes=(1,))
    theirs = reference.small_sam(spec)
    ours = build_sam("small", spec=spec)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    check_against(reference.segment_anything.SamPredictor(theirs), ours, image, multimask)


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["vit_b", "vit_t"])
def test_masks_equal_those_of_sam_predictor_at_full_size(image, model_type):
    theirs = reference.official_sam(model_type)
    ours = build_sam(model_type)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    package = reference.mobile_sam if model_type == "vit_t" else reference.segment_anything
    check_against(package.SamPredictor(theirs), ours, image, multimask=True)


@pytest.mark.slow
def test_masks_of_the_real_lite_medsam_equal_its_own(image):
    weights = torch.load(reference.LITE_MEDSAM_WEIGHTS, weights_only=True)
    theirs = reference.build_lite_medsam()
    theirs.load_state_dict(weights, strict=True)
    theirs.train().eval()  # see reference.settle
    ours = build_sam("lite_medsam")
    ours.load_state_dict(weights, strict=True)

    features, size, scale = encode_with_pil(ours, image)
    box = torch.tensor([[30.0, 10, 90, 70]]) * scale
    resized = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float()
    padded = torch.zeros(1, 3, 256, 256)
    padded[0, :, : size[0], : size[1]] = (pixels - pixels.min()) / (pixels.max() - pixels.min())
    with torch.no_grad():
        logits = theirs(padded, box.numpy())
        prediction = ours.decode(features, Prompts(boxes=box), torch.tensor([0]))
        masks = ours.postprocess(prediction.logits, size, (HEIGHT, WIDTH))
    # Logits reach 57 here, where 1e-4 is a few units in the last place of float32.
    torch.testing.assert_close(prediction.logits, logits, rtol=1e-5, atol=1e-4)
    their_masks = theirs.postprocess_masks(logits, size, (HEIGHT, WIDTH))
    torch.testing.assert_close(masks, their_masks, rtol=1e-5, atol=1e-4)
    found = masks[0, 0] > 0
    assert found[20:60, 40:80].float().mean() > 0.8, "real weights find the disc"
    assert found[:, 110:].float().mean() < 0.1
