import pytest
import torch

from sam_ft.models.mask_decoder import MaskDecoder
from tests import reference
from tests.tiny import SPEC, tiny_sam


@pytest.mark.parametrize("multimask", [False, True])
def test_decoder_equals_meta_s(multimask):
    theirs = reference.small_sam(SPEC).mask_decoder
    ours = MaskDecoder().eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    torch.manual_seed(1)
    embedding, image_pe = torch.randn(1, 256, 8, 8), torch.randn(1, 256, 8, 8)
    sparse, dense = torch.randn(5, 3, 256), torch.randn(5, 256, 8, 8)
    with torch.no_grad():
        prediction = ours(embedding, image_pe, sparse, dense, torch.zeros(5, dtype=torch.int64), multimask)
        logits, iou = theirs(embedding, image_pe, sparse, dense, multimask)
    assert logits.std() > 0.1
    torch.testing.assert_close(prediction.logits, logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(prediction.iou, iou, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("multimask", "wanted"), [(False, {0}), (True, {1, 2, 3})])
def test_only_the_heads_of_the_returned_masks_get_a_gradient(multimask, wanted):
    decoder = tiny_sam().mask_decoder
    prediction = decoder(
        torch.randn(1, 256, 4, 4),
        torch.randn(1, 256, 4, 4),
        torch.randn(2, 3, 256),
        torch.randn(2, 256, 4, 4),
        torch.zeros(2, dtype=torch.int64),
        multimask,
    )
    (prediction.logits.sum() + prediction.iou.sum()).backward()
    heads = decoder.output_hypernetworks_mlps
    assert {i for i in range(4) if heads[i].layers[0].weight.grad is not None} == wanted
    others = [p.grad for name, p in decoder.named_parameters() if "hypernetworks" not in name]
    assert all(gradient is not None for gradient in others)


def test_prediction_is_float32_under_autocast():
    decoder = tiny_sam().mask_decoder
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        prediction = decoder(
            torch.randn(1, 256, 4, 4),
            torch.randn(1, 256, 4, 4),
            torch.randn(2, 3, 256),
            torch.randn(2, 256, 4, 4),
            torch.zeros(2, dtype=torch.int64),
            False,
        )
    assert prediction.logits.dtype == prediction.iou.dtype == torch.float32
