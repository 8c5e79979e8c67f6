import pytest
import torch

from sam_ft.data.datasets import EvaluationSet
from sam_ft.prompts import Box
from sam_ft.report import samples
from sam_ft.report.samples import SamplePictures
from sam_ft.task import PromptedSegmentation
from sam_ft.utils import distributed
from tests.support.blobs import Blobs, CompactBlobs
from tests.support.tiny import tiny_sam


@pytest.fixture
def task():
    return PromptedSegmentation(tiny_sam())


def pictures(tmp_path, task, count=2, counts=(0, 3, 1, 2)):
    return SamplePictures(tmp_path, EvaluationSet(Blobs(list(counts)), 64), task, count, Box(), None)


def test_the_first_images_with_objects_are_drawn_before_and_after_training(tmp_path, task, monkeypatch):
    drawn = {}

    def keep(path, sections):
        drawn[path.name] = [[title for title, _ in row] for row in sections[""]]

    monkeypatch.setattr(samples, "save_sheet", keep)
    sheets = pictures(tmp_path, task)
    sheets.draw_zero_shot()
    with torch.no_grad():
        for parameter in task.model.mask_decoder.parameters():
            parameter.mul_(1.5)
    assert list(sheets.draw(3)) == [tmp_path / "samples/epoch_003.png"]
    before, after = drawn["zero_shot.png"], drawn["epoch_003.png"]
    assert [row[0] for row in before] == ["blobs_1: prompt", "blobs_2: prompt"]
    for one, other in zip(before, after, strict=True):
        assert one == other[:3]
        assert one[1] == "ground truth"
        assert one[2].startswith("zero-shot, IoU 0.")
        assert other[3].startswith("epoch 3, IoU 0.")
    assert before[0][2].split()[-1] != after[0][3].split()[-1]


def test_pictures_are_files(tmp_path, task):
    sheets = pictures(tmp_path, task, count=1)
    sheets.draw_zero_shot()
    assert [path.stat().st_size > 1000 for path in sheets.draw(1)] == [True]
    assert (tmp_path / "samples/zero_shot.png").is_file()


def test_a_large_image_is_drawn_smaller_a_chunk_at_a_time_with_the_iou_of_its_full_size(tmp_path, task, monkeypatch):
    drawn, split = {}, CompactBlobs([5])
    monkeypatch.setattr(samples, "save_sheet", lambda path, sections: drawn.update({path.name: sections[""][0]}))
    for side in (1024, 32):
        monkeypatch.setattr(samples, "MAX_SIDE", side)
        SamplePictures(tmp_path / str(side), EvaluationSet(split, 64), task, 1, Box(), 2).draw_zero_shot()
        drawn[side] = drawn.pop("zero_shot.png")
    assert max(split.reads[-3:]) == 2
    assert [title for title, _ in drawn[32]] == [title for title, _ in drawn[1024]]
    assert {tuple(picture.shape[1:]) for _, picture in drawn[1024]} == {split[0].size}
    assert {max(picture.shape) for _, picture in drawn[32]} == {32}


@pytest.mark.parametrize("count", [0, 2])
def test_nothing_is_drawn_without_images_or_on_another_process(tmp_path, task, monkeypatch, count):
    if count:
        monkeypatch.setattr(distributed, "is_main", lambda: False)
    sheets = pictures(tmp_path, task, count)
    sheets.draw_zero_shot()
    assert list(sheets.draw(1)) == []
    assert not list(tmp_path.iterdir())
