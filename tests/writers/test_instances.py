import numpy as np
import pytest
import torch

from sam_ft.data.sources.run_lengths import RunLengthMasks, compress_ids, encode_crop
from sam_ft.types import dense
from sam_ft.writers.instances import Instances, compress_masks
from tests.support.instances import CLASSES, SIZE, hard_masks, make_instances, no_masks


def test_crops_in_their_places_are_the_masks(tmp_path):
    instances, masks = make_instances(tmp_path), hard_masks()
    assert instances.size == SIZE
    read = np.zeros_like(masks)
    for whole, (x0, y0, crop) in zip(read, instances.crops(), strict=True):
        whole[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]] = crop
    assert np.array_equal(read, masks)


def test_classes_have_their_names_places_and_colors(tmp_path):
    instances = make_instances(tmp_path)
    assert instances.class_names()[:2] == [CLASSES[2], CLASSES[5]]
    assert instances.class_places[:3] == [0, 1, 0]
    first, second, third = instances.class_colors()[:3]
    assert first == third != second


def test_scores_have_few_digits_and_are_the_same_float32(tmp_path):
    instances = make_instances(tmp_path, masks=hard_masks()[:2], scores=[0.9, 1 / 3])
    assert instances.short_scores()[0] == 0.9
    assert torch.equal(torch.tensor(instances.short_scores()), instances.scores)


def test_ids_become_the_masks_without_making_them_dense():
    ids = np.zeros(SIZE, np.int32)
    ids[2:4, :] = 7
    ids[:, 59] = 3
    assert torch.equal(dense(compress_ids(ids)), torch.from_numpy(np.stack([ids == 3, ids == 7])))
    assert len(compress_ids(np.zeros(SIZE, np.int32))) == 0


def test_masks_of_any_form_are_compressed():
    masks = torch.from_numpy(hard_masks())
    compact = compress_masks(masks, SIZE)
    assert torch.equal(dense(compact), masks)
    assert compress_masks(compact, SIZE).counts == compact.counts
    assert len(compress_masks(torch.from_numpy(no_masks()), SIZE)) == 0


def test_an_empty_mask_or_a_missing_score_is_a_mistake(tmp_path):
    with pytest.raises(ValueError, match="empty"):
        make_instances(tmp_path, masks=np.concatenate([hard_masks()[:1], np.zeros((1, *SIZE), bool)]))
    with pytest.raises(ValueError, match="scores"):
        make_instances(tmp_path, scores=[0.5])


def test_objects_of_a_huge_image_are_cropped_one_at_a_time(tmp_path):
    size = (20_000, 20_000)  # dense, one mask would take 400 MB
    mask = np.tri(30, 20, dtype=bool)
    counts = [encode_crop(19_900, y, mask, size) for y in range(0, 19_000, 100)]
    number = torch.ones(len(counts), dtype=torch.int64)
    instances = Instances(
        *("a", "a.png", tmp_path / "a.png", RunLengthMasks(counts, size)),
        *(number.float(), number, {1: "cell"}, torch.zeros(3, 1, 1)),
    )
    for place, (x0, y0, crop) in enumerate(instances.crops()):
        assert (x0, y0) == (19_900, 100 * place)
        assert np.array_equal(crop, mask)
