import pytest
import torch

from sam_ft.models.layers import inner_products, mixtures
from sam_ft.models.mask_decoder import MaskDecoder
from tests.support import reference
from tests.support.tiny import SPEC, tiny_sam


def both_decoders():
    theirs = reference.small_sam(SPEC).mask_decoder.requires_grad_(True)
    ours = MaskDecoder().eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    torch.manual_seed(1)
    return ours, theirs


@pytest.mark.parametrize("tokens", [0, 3, 40])
@pytest.mark.parametrize("multimask", [False, True])
def test_decoder_equals_meta_s(multimask, tokens):
    ours, theirs = both_decoders()
    embedding, image_pe = torch.randn(1, 256, 8, 8), torch.randn(1, 256, 8, 8)
    sparse, dense = torch.randn(5, tokens, 256), torch.randn(5, 256, 8, 8)
    with torch.no_grad():
        prediction = ours(embedding, image_pe, sparse, dense, torch.zeros(5, dtype=torch.int64), multimask)
        logits, iou = theirs(embedding, image_pe, sparse, dense, multimask)
    assert logits.std() > 0.1
    torch.testing.assert_close(prediction.logits, logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(prediction.pred_iou, iou, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dense_learns", [False, True])
@pytest.mark.parametrize("multimask", [False, True])
def test_gradients_equal_those_of_meta_s_decoder(multimask, dense_learns):
    # in float64: among thousands of ReLUs one is so near to zero that float32's rounding could switch it
    ours, theirs = (decoder.double() for decoder in both_decoders())
    image_pe = torch.randn(1, 256, 8, 8, dtype=torch.float64)
    inputs = [torch.randn(shape, dtype=torch.float64) for shape in ((2, 256, 8, 8), (5, 3, 256), (5, 256, 8, 8))]
    image_index = torch.tensor([0, 0, 1, 1, 1])
    cost, iou_cost = torch.randn(5, 3 if multimask else 1, 32, 32), torch.randn(5, 3 if multimask else 1)

    mine = [x.clone().requires_grad_(dense_learns) for x in inputs]
    prediction = ours(mine[0], image_pe, *mine[1:], image_index, multimask)
    ((prediction.logits * cost).mean() + (prediction.pred_iou * iou_cost).mean()).backward()

    meta = [x.clone().requires_grad_(dense_learns) for x in inputs]
    predictions = []
    for image, objects in enumerate([slice(0, 2), slice(2, 5)]):
        predictions.append(theirs(meta[0][image : image + 1], image_pe, meta[1][objects], meta[2][objects], multimask))
    logits, iou = (torch.cat(parts) for parts in zip(*predictions, strict=True))
    ((logits * cost).mean() + (iou * iou_cost).mean()).backward()

    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(gradient, expected[name].grad, rtol=1e-4, atol=1e-6, msg=name)
    assert sum(p.grad.abs().max() > 1e-4 for p in expected.values()) > 80
    if dense_learns:
        for one, other in zip(mine, meta, strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_no_objects_give_every_parameter_a_gradient_of_zero():
    ours, _ = both_decoders()
    nothing = torch.zeros(0, dtype=torch.int64)
    prediction = ours(
        torch.randn(2, 256, 8, 8),
        torch.randn(1, 256, 8, 8),
        torch.zeros(0, 2, 256),
        torch.zeros(0, 256, 8, 8),
        nothing,
        False,
    )
    assert prediction.logits.shape == (0, 1, 32, 32)
    assert prediction.pred_iou.shape == (0, 1)
    (prediction.logits.sum() + prediction.pred_iou.sum()).backward()
    for name, parameter in ours.named_parameters():
        if "hypernetworks" not in name or "mlps.0." in name:
            assert parameter.grad is not None, name
            assert not parameter.grad.any(), name


@pytest.mark.parametrize("learns", [(True, True), (True, False), (False, True)])
def test_products_with_few_rows_have_exact_gradients_in_the_memory_order_of_the_values(learns):
    few, many = (torch.randn(2, rows, 4, dtype=torch.float64) for rows in (3, 5))
    few.requires_grad_(learns[0])
    many.requires_grad_(learns[1])
    weights = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=learns[1])
    assert torch.autograd.gradcheck(inner_products, (few, many))
    assert torch.autograd.gradcheck(mixtures, (weights, few))
    inner_products(few, many).sum().backward()
    assert not learns[1] or many.grad.is_contiguous()


@pytest.mark.parametrize(("multimask", "returned"), [(False, {0}), (True, {1, 2, 3})])
def test_only_the_heads_of_the_returned_masks_get_a_gradient(multimask, returned):
    decoder = tiny_sam().mask_decoder
    prediction = decoder(
        torch.randn(1, 256, 4, 4),
        torch.randn(1, 256, 4, 4),
        torch.randn(2, 3, 256),
        torch.randn(2, 256, 4, 4),
        torch.zeros(2, dtype=torch.int64),
        multimask,
    )
    (prediction.logits.sum() + prediction.pred_iou.sum()).backward()
    heads = decoder.output_hypernetworks_mlps
    assert {i for i in range(4) if heads[i].layers[0].weight.grad is not None} == returned
    others = [p.grad for name, p in decoder.named_parameters() if "hypernetworks" not in name]
    assert all(gradient is not None for gradient in others)


def test_prediction_and_gradients_are_float32_under_autocast():
    decoder = tiny_sam().mask_decoder
    torch.manual_seed(1)
    inputs = torch.randn(1, 256, 4, 4), torch.randn(1, 256, 4, 4), torch.randn(2, 3, 256), torch.randn(2, 256, 4, 4)
    gradients = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            prediction = decoder(*inputs, torch.zeros(2, dtype=torch.int64), False)
        assert prediction.logits.dtype == prediction.pred_iou.dtype == torch.float32
        decoder.zero_grad()
        (prediction.logits.square().mean() + prediction.pred_iou.square().mean()).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in decoder.parameters() if p.grad is not None]))
    exact, rounded = gradients
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).norm() < 0.1 * exact.norm()
