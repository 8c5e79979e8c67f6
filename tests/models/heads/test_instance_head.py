import math

import pytest
import torch

from sam_ft.models.heads import InstanceHead, MapHead


@pytest.mark.parametrize(("cells", "side"), [(16, 64), (16, 256)])
def test_maps_have_four_times_the_side_of_the_embedding(cells, side):
    head = MapHead(5)
    images = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    assert head(torch.zeros(2, 256, cells, cells), images).shape == (2, 5, 4 * cells, 4 * cells)


def test_the_head_is_small():
    assert sum(p.numel() for p in InstanceHead().parameters()) < 150_000


def test_an_image_does_not_depend_on_its_batch():
    torch.manual_seed(0)
    head, embedding = InstanceHead(), torch.randn(3, 256, 8, 8)
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(head(embedding, images)[1:2], head(embedding[1:2], images[1:2]), rtol=0, atol=1e-5)


def test_pixels_reach_the_maps():
    torch.manual_seed(0)
    head, embedding = InstanceHead(), torch.zeros(1, 256, 8, 8)
    dark, bright = (torch.full((1, 3, 32, 32), value, dtype=torch.uint8) for value in (0, 255))
    bright[..., :16] = 0
    with torch.no_grad():
        assert not torch.allclose(head(embedding, dark), head(embedding, bright))


def maps_of(*rows):
    """The three maps of objects of one pixel each: 1 there, in all channels."""
    return torch.tensor(rows, dtype=torch.float32)[None, None].expand(1, 3, -1, -1)


def test_a_loss_by_hand():
    # logits of 0: each pixel costs ln 2; Dice: 1 - (2 · 0.5 · 1 + 1) / (4 · 0.5 + 1 + 1)
    (loss,) = InstanceHead().loss(torch.zeros(1, 3, 2, 2), maps_of([1, 0], [0, 0])).tolist()
    assert loss == pytest.approx(math.log(2) + 1 - 2 / 4 + math.log(2))


def test_pixels_that_do_not_count_have_no_gradient():
    logits = torch.zeros(1, 3, 2, 2, requires_grad=True)
    InstanceHead().loss(logits, maps_of([1, 0], [0, math.nan])).sum().backward()
    assert not logits.grad[..., 1, 1].any()
    assert logits.grad[..., 0, 0].all()


def test_an_image_without_any_pixel_that_counts_has_a_finite_loss():
    logits = torch.zeros(1, 3, 2, 2, requires_grad=True)
    InstanceHead().loss(logits, torch.full((1, 3, 2, 2), math.nan)).sum().backward()
    assert not logits.grad.any()


def test_the_maps_themselves_are_the_best_prediction():
    torch.manual_seed(0)
    head = InstanceHead()
    maps = torch.rand(1, 3, 4, 4)
    maps[:, 0] = maps[:, 0].round()

    def loss(prediction):
        return head.loss(prediction.clamp(1e-4, 1 - 1e-4).logit(), maps)

    assert all(loss(maps) < loss(maps + 0.3 * torch.randn(maps.shape)) for _ in range(20))
