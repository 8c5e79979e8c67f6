import pytest
import torch

from sam_ft.models.encoders import rel_pos_attention
from sam_ft.models.encoders.rel_pos_attention import RelPosAttention


def outcome(layer: RelPosAttention, x: torch.Tensor) -> list[torch.Tensor]:
    """The output, and the gradients of the input and of all parameters."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    out = layer(x)
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    return [out.detach(), x.grad, *(p.grad.clone() for p in layer.parameters())]


@pytest.mark.parametrize(("side", "height", "width"), [(5, 5, 5), (4, 6, 9)], ids=["whole map", "padded windows"])
def test_attention_in_parts_has_the_outputs_and_gradients_of_attention_at_once(monkeypatch, side, height, width):
    torch.manual_seed(0)
    layer = RelPosAttention(dim=24, num_heads=3, side=side)
    for table in (layer.rel_pos_h, layer.rel_pos_w):
        torch.nn.init.normal_(table)
    x = torch.randn(2, height, width, 24)
    monkeypatch.setattr(rel_pos_attention, "QUERIES", 7)  # does not divide the 25 or 16 queries
    in_parts = outcome(layer, x)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    at_once = outcome(layer, x)
    for got, expected in zip(in_parts, at_once, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_a_second_derivative_is_refused_and_not_silently_wrong():
    layer = RelPosAttention(dim=8, num_heads=1, side=3)
    x = torch.randn(1, 3, 3, 8, requires_grad=True)
    (grad,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_gradients_of_bfloat16_are_those_of_float32_rounded():
    torch.manual_seed(0)
    layer = RelPosAttention(dim=24, num_heads=3, side=5)
    x = torch.randn(2, 5, 5, 24)
    exact = outcome(layer, x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = outcome(layer, x)
    for got, expected in zip(rounded[1:], exact[1:], strict=True):
        assert got.dtype == torch.float32  # of the input and the parameters
        assert (got - expected).norm() < 0.02 * expected.norm() + 1e-6
