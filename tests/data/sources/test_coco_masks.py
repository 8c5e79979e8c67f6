import numpy as np
import pytest
from pycocotools import mask as rle

from sam_ft.data.sources.coco_issues import InvalidEntry
from sam_ft.data.sources.coco_masks import segmentation_to_rle


@pytest.mark.parametrize(
    "counts",
    [
        "",
        "h",
        "é",
        "0\x00",
        "0" * 20,
        "ooooooooo0",
        "P",
        [48, 1],
        [-1, 49],
        [4.0, 44.0],
        ["48"],
        7,
        None,
        [2**63, 2**63],
    ],
)
def test_damaged_run_lengths_do_not_reach_pycocotools(counts):
    with pytest.raises(InvalidEntry, match="RLE"):
        segmentation_to_rle({"size": [6, 8], "counts": counts}, (6, 8))


def test_run_lengths_are_spelled_as_pycocotools_does():
    rng = np.random.default_rng(0)
    for share in (0, 0.01, 0.5, 1):  # runs of 0 to 15,000 pixels, which take 1 to 3 characters
        mask = np.asfortranarray(rng.random((100, 150)) < share).astype(np.uint8)
        spelled = rle.encode(mask)["counts"].decode()
        assert int(rle.area(segmentation_to_rle({"size": [100, 150], "counts": spelled}, (100, 150)))) == mask.sum()


FAR = 1_000_000


@pytest.mark.parametrize(
    "segmentation",
    [
        [[0, 0, FAR, FAR] * 20_000],  # overflows the number of points in pycocotools
        [[0, 0, FAR, FAR] * 100],  # 16 GB there
        [[0, 0, FAR, FAR, -FAR, 0]] * 5,
        [[0, 0, 1000, 0] * 3000],
        [[0, 0, 4, 0, 4, 4], [0, 0, FAR, FAR, 0, FAR, FAR, 0, -FAR, -FAR, FAR, 0]],
        [{"size": [6, 8], "counts": [48]}, [0, 0, FAR, FAR] * 100],
    ],
)
def test_an_outline_that_would_fill_the_memory_does_not_reach_pycocotools(segmentation):
    with pytest.raises(InvalidEntry, match="outline"):
        segmentation_to_rle(segmentation, (6, 8))


def test_long_outlines_of_large_images_are_read():
    comb = [0, 0]
    for x in range(1, 2001):  # 2,000 teeth of 1,000 pixels
        comb += [x, 1000 * (x % 2), x + 0.5, 1000 * (x % 2)]
    assert rle.area(segmentation_to_rle([comb], (1000, 2001))) > 500_000
    assert rle.area(segmentation_to_rle([[0, 0, FAR, 0, FAR, FAR, 0, FAR]], (6, 8))) == 48


def test_the_parts_of_an_object_may_be_polygons_and_run_lengths():
    parts = [[0, 0, 2, 0, 2, 2, 0, 2], {"size": [6, 8], "counts": [36, 12]}]
    assert rle.area(segmentation_to_rle(parts, (6, 8))) == 4 + 12
