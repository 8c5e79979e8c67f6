from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from pycocotools import mask as rle

from sam_ft.data.sources.run_lengths import RunLengthMasks
from sam_ft.utils.errors import DataError
from sam_ft.writers.labels import write_labels
from tests.support.instances import hard_masks, make_instances, no_masks


def test_each_pixel_is_the_number_of_the_highest_score_there(tmp_path):
    instances, masks = make_instances(tmp_path), hard_masks()
    write_labels(tmp_path / "a.tif", instances)
    order = np.argsort(instances.scores.numpy())
    expected = np.zeros(masks.shape[1:], int)
    for position in order:
        expected[masks[position]] = position + 1
    assert (masks.sum(0) > 1).any()
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        (page,) = file.pages
        assert (page.dtype, page.compression) == (np.uint16, tifffile.COMPRESSION.ADOBE_DEFLATE)
        assert np.array_equal(page.asarray(), expected)
        assert not {"DateTime", "Software", "ImageDescription"} & {tag.name for tag in page.tags}
    with Image.open(tmp_path / "a.tif") as image:  # a reader of its own
        assert np.array_equal(np.array(image), expected)


def test_of_equal_scores_the_first_object_lies_on_top(tmp_path):
    masks = np.ones((3, 2, 4), bool)
    masks[0, :, 2:] = False
    write_labels(tmp_path / "a.tif", make_instances(tmp_path, masks=masks, scores=[0.5, 0.5, 0.5]))
    assert tifffile.imread(tmp_path / "a.tif").tolist() == [[1, 1, 2, 2]] * 2


def pixels(tmp_path, count):
    """`count` objects of the same two pixels."""
    counts = rle.encode(np.asfortranarray(np.eye(2, dtype=np.uint8)))["counts"]
    none = make_instances(tmp_path, masks=no_masks())
    masks, numbers = RunLengthMasks([counts] * count, (2, 2)), torch.ones(count)
    return replace(none, masks=masks, scores=numbers, labels=2 * numbers.to(torch.int64))


def test_more_objects_than_16_bits_can_count_are_refused(tmp_path, messages):
    with messages.raises(DataError, "65536", "uint32"):
        write_labels(tmp_path / "a.tif", pixels(tmp_path, 65_536))
    assert not (tmp_path / "a.tif").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("count", "dtype"), [(65_535, "uint16"), (65_536, "uint32")])
def test_as_many_objects_as_a_type_can_count_are_written(tmp_path, count, dtype):
    instances = replace(pixels(tmp_path, count), scores=torch.arange(count).float())
    write_labels(tmp_path / "a.tif", instances, dtype)
    read = tifffile.imread(tmp_path / "a.tif")
    assert (read.dtype, read.tolist()) == (np.dtype(dtype), [[count, 0], [0, count]])


def test_an_image_without_objects_is_background(tmp_path):
    write_labels(tmp_path / "a.tif", make_instances(tmp_path, masks=no_masks()))
    assert not tifffile.imread(tmp_path / "a.tif").any()
