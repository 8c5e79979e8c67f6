import pytest
from omegaconf import OmegaConf

from sam_ft.data.datasets import EvaluationSet
from sam_ft.prompts import Box
from sam_ft.report.finished import report_finished_run
from sam_ft.report.page import html
from sam_ft.training.checkpoint import save_partial_weights
from sam_ft.utils import distributed
from tests.support.blobs import Blobs
from tests.support.pages_of_runs import Page, write_run
from tests.support.steps import learning_task


@pytest.fixture
def finish(tmp_path, caplog):
    """`finish(pictures)` ends a run of a tiny model on two images; → the messages of the log."""
    caplog.set_level("INFO", logger="sam_ft")
    rows = [(f"blobs_{image}", number, 100, 0.2, 0.3 + 0.1 * number) for image in range(2) for number in range(2)]
    write_run(tmp_path, rows)
    task = learning_task()
    notes = {"zero_shot": {"iou": 0.2, "images": 2, "objects": 4}, "best": {"iou": 0.35}, "best_epoch": 1}
    (tmp_path / "checkpoints/last.safetensors").unlink()
    save_partial_weights(task.model, tmp_path / "checkpoints/best.safetensors", **notes)

    def run(pictures=1):
        cfg = OmegaConf.create({"pictures": pictures, "eval_chunk": None})
        weights = tmp_path / "checkpoints/best.safetensors"
        report_finished_run(tmp_path, cfg, task, EvaluationSet(Blobs([2, 2]), 64), Box(), weights)
        return caplog.records

    return run


def test_a_finished_run_has_a_page_with_pictures_of_objects(finish, tmp_path):
    (record,) = finish()
    assert record.levelname == "INFO"
    assert str(tmp_path / "report.html") in record.message
    page = Page(tmp_path / "report.html")
    assert len(page.pictures()) == 4
    assert "blobs_0, object 0" in page.pictures()[0]["alt"]


def test_without_pictures_the_page_has_none(finish, tmp_path):
    finish(pictures=0)
    assert Page(tmp_path / "report.html").pictures() == []
    assert not (tmp_path / "samples").exists()


def test_a_page_that_cannot_be_written_is_one_warning_with_the_command_to_try_again(messages, finish, tmp_path):
    (tmp_path / "report.html").mkdir()
    (record,) = finish(pictures=0)
    assert record.levelname == "WARNING"
    messages.check(record.message, f"python -m sam_ft.report run={tmp_path}")


def test_a_plot_that_fails_is_a_warning_too(messages, finish, tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("cannot convert float NaN to integer")

    monkeypatch.setattr(html, "run_sections", fail)
    (record,) = finish(pictures=0)
    messages.check(record.message, "cannot convert", f"run={tmp_path}")
    assert not (tmp_path / "report.html").exists()


def test_only_the_main_process_writes(finish, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "is_main", lambda: False)
    assert finish() == []
    assert not (tmp_path / "report.html").exists()
