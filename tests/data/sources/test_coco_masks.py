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
