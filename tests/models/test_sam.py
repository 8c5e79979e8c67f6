import pytest
import torch

from sam_ft.models.build import build_sam
from sam_ft.models.encoders.tiny_vit import TinyViT
from sam_ft.models.sam import value_extremes
from sam_ft.types import Features, Prompts
from tests.support.tiny import tiny_sam


def test_imagenet_normalization_is_sam_s_and_leaves_padding_at_zero():
    sam = tiny_sam()
    images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    images[0, :, :2, :3] = torch.tensor([0, 100, 255], dtype=torch.uint8)[:, None, None]
    pixels = sam.preprocess(images, [(2, 3), (64, 64)])
    expected = torch.tensor([(0 - 123.675) / 58.395, (100 - 116.28) / 57.12, (255 - 103.53) / 57.375])
    torch.testing.assert_close(pixels[0, :, :2, :3], expected[:, None, None].expand(3, 2, 3))
    assert not pixels[0, :, 2:].any()
    assert not pixels[0, :, :, 3:].any()
    assert pixels[1].abs().min() > 1  # black that is image, not padding
    assert pixels.dtype == torch.float32


def test_minmax_normalization_scales_each_image_by_its_own_part():
    sam = tiny_sam()
    sam.normalize = "minmax"
    images = torch.zeros(3, 3, 64, 64, dtype=torch.uint8)
    images[0, :, :1, :2] = torch.tensor([50, 150], dtype=torch.uint8)
    images[0, 2, 0, 1] = 250  # min and max are over all channels: 50 and 250
    images[1, :, :1, :1] = 7  # one color only
    images[2, :, :, :] = 9
    images[2, 0, 5, 5] = 10
    pixels = sam.preprocess(images, [(1, 2), (1, 1), (64, 64)])
    assert pixels[0, :, 0, :2].tolist() == [[0, 0.5], [0, 0.5], [0, 1]]
    assert pixels[0].sum() == 2
    assert not pixels[1].any()
    assert pixels[2].sum() == 1


def test_minmax_normalization_of_tiles_takes_the_extremes_of_their_image():
    sam = tiny_sam()
    sam.normalize = "minmax"
    tiles = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    tiles[0, :, :2, :2] = torch.tensor([50, 100], dtype=torch.uint8)
    tiles[1, :, :1, :2] = torch.tensor([150, 250], dtype=torch.uint8)
    sizes = [(2, 2), (1, 2)]
    own = value_extremes(tiles, sizes)
    assert own.tolist() == [[50, 100], [150, 250]]
    image = torch.tensor([[50, 250]]).expand(2, 2)
    pixels = sam.preprocess(tiles, sizes, image)
    assert pixels[0, 1, 0, :2].tolist() == [0, 0.25]
    assert pixels[1, 1, 0, :2].tolist() == [0.5, 1]
    assert not pixels[:, :, 2:].any()
    # A tile that is the whole image
    assert torch.equal(sam.preprocess(tiles, sizes, own), sam.preprocess(tiles, sizes))
    unknown = torch.tensor([[torch.nan, torch.nan], [50, 250]])  # a whole image beside a tile
    assert torch.equal(sam.preprocess(tiles, sizes, unknown)[0], sam.preprocess(tiles, sizes)[0])
    assert torch.equal(sam.preprocess(tiles, sizes, unknown)[1], pixels[1])
    assert torch.equal(sam.encode(tiles, sizes, own).embedding, sam.encode(tiles, sizes).embedding)
    assert not torch.equal(sam.encode(tiles, sizes, image).embedding, sam.encode(tiles, sizes).embedding)


def test_imagenet_normalization_of_tiles_is_that_of_images():
    sam = tiny_sam()
    tiles = torch.full((1, 3, 64, 64), 9, dtype=torch.uint8)
    assert torch.equal(sam.preprocess(tiles, [(64, 64)], torch.tensor([[0, 50]])), sam.preprocess(tiles, [(64, 64)]))


@pytest.mark.parametrize("normalize", ["imagenet", "minmax"])
def test_no_images_are_preprocessed_to_no_images(normalize):
    sam = tiny_sam()
    sam.normalize = normalize
    assert sam.preprocess(torch.zeros(0, 3, 64, 64, dtype=torch.uint8), []).shape == (0, 3, 64, 64)


def of_object(prompts, m):
    return Prompts(
        *(given[m : m + 1] for given in (prompts.boxes, prompts.points, prompts.point_labels, prompts.masks))
    )


def test_objects_of_three_images_at_once_equal_objects_one_by_one():
    sam = tiny_sam()
    torch.manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    sizes = [(64, 64), (64, 40), (30, 64)]
    image_index = torch.tensor([0, 1, 1, 1, 1, 2, 2])
    prompts = Prompts(
        boxes=64 * torch.rand(7, 4),
        points=64 * torch.rand(7, 2, 2),
        point_labels=torch.randint(-1, 2, (7, 2)),
        masks=torch.randn(7, 1, 16, 16),
    )
    with torch.no_grad():
        together = sam.decode(sam.encode(images, sizes), prompts, image_index)
        assert together.logits.std(dim=0).mean() > 1e-3, "the objects are too similar for a comparison"
        for m, b in enumerate(image_index.tolist()):
            features = sam.encode(images[b : b + 1], sizes[b : b + 1])
            alone = sam.decode(features, of_object(prompts, m), torch.tensor([0]))
            torch.testing.assert_close(together.logits[m], alone.logits[0], rtol=0, atol=1e-5)
            torch.testing.assert_close(together.pred_iou[m], alone.pred_iou[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("num_images", [0, 2])
def test_a_share_without_objects_gives_zero_gradients(multimask, num_images):
    sam = tiny_sam()
    features = sam.encode(torch.zeros(num_images, 3, 64, 64, dtype=torch.uint8), [(64, 64)] * num_images)
    prompts = Prompts(
        boxes=torch.zeros(0, 4),
        points=torch.zeros(0, 2, 2),
        point_labels=torch.zeros(0, 2, dtype=torch.int64),
        masks=torch.zeros(0, 1, 16, 16),
    )
    prediction = sam.decode(features, prompts, torch.zeros(0, dtype=torch.int64), multimask)
    assert prediction.logits.shape == (0, 3 if multimask else 1, 16, 16)
    (prediction.logits.sum() + prediction.pred_iou.sum()).backward()
    unused = {name for name, p in sam.named_parameters() if p.grad is None}
    assert all("hypernetworks" in name or "no_mask_embed" in name for name in unused)
    gradients = torch.cat([p.grad.flatten() for p in sam.parameters() if p.grad is not None])
    assert torch.equal(gradients, torch.zeros_like(gradients))
    assert sam.postprocess(prediction.logits, (64, 32), (10, 5)).shape[-2:] == (10, 5)


def test_tiny_vit_of_no_images_gives_zero_gradients():
    encoder = TinyViT().eval()
    encoder(torch.zeros(0, 3, 64, 64)).sum().backward()
    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            assert torch.equal(parameter.grad, torch.zeros_like(parameter)), name


def test_logits_of_a_flat_mask_come_back_flat_in_the_original_frame():
    sam = tiny_sam()
    logits = sam.postprocess(torch.full((2, 1, 16, 16), 3.0), input_size=(64, 32), original_size=(100, 50))
    assert logits.shape == (2, 1, 100, 50)
    torch.testing.assert_close(logits, torch.full_like(logits, 3.0))


@pytest.mark.parametrize(("model_type", "mask_side"), [("vit_b", 256), ("vit_t", 256), ("lite_medsam", 256)])
def test_masks_are_four_times_the_embedding(model_type, mask_side):
    with torch.device("meta"):
        assert build_sam(model_type).mask_side == mask_side


def test_decoding_cached_features_equals_decoding_fresh_ones():
    sam = tiny_sam()
    prompts = Prompts(boxes=torch.tensor([[4.0, 4, 40, 40]]))
    with torch.no_grad():
        features = sam.encode(torch.full((1, 3, 64, 64), 80, dtype=torch.uint8), [(64, 64)])
        cached = Features((features.embedding.clone(),))
        index = torch.tensor([0])
        predictions = [sam.decode(given, prompts, index) for given in (features, cached)]
    assert torch.equal(predictions[0].logits, predictions[1].logits)
