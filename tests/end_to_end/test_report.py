"""report.html at the end of a run and by its command: its numbers are those of the files."""

import csv
import json
import shutil

import pytest

from sam_ft.report.score_rows import TITLES
from sam_ft.training.tensor_file import read_metadata
from tests.conftest import of
from tests.support.blobs import write_folder
from tests.support.cli import SMALL
from tests.support.pages_of_runs import Page

COMMAND = "sam_ft.report"


@pytest.fixture
def copy(run, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    return tmp_path / "copy"


def scored(page, name):
    """The cells of zero-shot and tuned, in each table that has the score."""
    return [cells[:2] for cells in page.cells(TITLES[name])]


def cells_of(before, after, name):
    return [f"{scores[name]:.4f}" for scores in (before, after)]


def test_the_report_at_the_end_has_the_scores_of_the_checkpoint_and_the_counts_of_the_data(run):
    page, notes = Page(run / "report.html"), read_metadata(run / "checkpoints/best.safetensors")
    shown = [name for name in notes["best"] if name not in ("objects", "images")]
    assert len(shown) > 5
    for name in shown:
        assert scored(page, name) == [cells_of(notes["zero_shot"], notes["best"], name)], name
    assert page.facts["training images"] == "6 with 15 objects"
    assert page.facts["validation images"] == "3 with 9 objects"
    assert page.facts["epochs"].startswith("2 of at most 2")
    before, after = (f"{notes[which]['iou']:.3f}" for which in ("zero_shot", "best"))
    assert f"IoU {before} → {after}" in page.verdict()
    assert "3 images" in page.verdict()
    assert {"PyTorch", "Python", "sam-ft"} <= page.facts.keys()


def test_the_objects_of_a_run_have_the_scores_before_and_of_the_best_epoch(run):
    rows = list(csv.DictReader((run / "objects.csv").read_text().splitlines()))
    notes = read_metadata(run / "checkpoints/best.safetensors")
    for column, which in (("zero_shot_iou", "zero_shot"), ("tuned_iou", "best")):
        assert sum(float(row[column]) for row in rows) / len(rows) == pytest.approx(notes[which]["iou"])
    assert len(rows) == 9


@pytest.mark.slow
def test_the_report_of_an_evaluated_run_has_the_numbers_of_its_scores(copy, cli):
    evaluation = ["eval_prompts=[box,point_1]", "amg=true", "amg_points_per_side=2"]
    assert cli("evaluate.py", f"run={copy}", "workers=0", "pictures=1", *evaluation).code == 0
    done = cli(COMMAND, f"run={copy}")
    assert done.code == 0, done.err
    assert str(copy / "report.html") in done.out
    page, scores = Page(copy / "report.html"), json.loads((copy / "evaluation/scores.json").read_text())
    results = [scores["prompts"][name] for name in ("box", "point_1")]
    for name in ("dice", "pred_iou_mae"):
        expected = [cells_of(result["zero_shot"], result["tuned"], name) for result in results]
        assert scored(page, name)[1:] == expected, name
    (amg,) = scored(page, "ap50")
    assert amg == cells_of(scores["amg"]["zero_shot"], scores["amg"]["tuned"], "ap50")
    assert len(page.pictures()) == 1


def test_a_report_of_a_run_from_before_there_were_any_is_written_from_its_files(copy, tmp_path, cli):
    for name in ("objects.csv", "facts.json", "report.html"):
        (copy / name).unlink()
    done = cli(COMMAND, f"run={copy}", f"output={tmp_path / 'page.html'}")
    assert done.code == 0, done.err
    page = Page(tmp_path / "page.html")
    assert len(scored(page, "iou")) == 1
    assert any("train: 6 images with 15 objects" in text for text in page.texts)
    assert not (copy / "report.html").exists()


@pytest.mark.slow
def test_a_run_that_goes_on_keeps_the_scores_of_objects_before_training(blobs, tmp_path, cli):
    for epochs in (1, 2):
        done = cli("train.py", *SMALL, *of(blobs), f"run_dir={tmp_path}", f"epochs={epochs}")
        assert done.code == 0, done.err
        page, notes = (
            Page(tmp_path / "report.html"),
            read_metadata(tmp_path / "checkpoints/best.safetensors"),
        )
        assert scored(page, "iou") == [cells_of(notes["zero_shot"], notes["best"], "iou")]
        assert f"{notes['zero_shot']['iou']:.3f} → {notes['best']['iou']:.3f}" in page.verdict()


@pytest.mark.slow
def test_with_hidden_names_no_file_shows_one(tmp_path, cli):
    names = [f"Doe_{number}" for number in range(6)]
    folder = write_folder(tmp_path / "patients", [2, 3, 1, 2, 3, 2], names)
    run = tmp_path / "run"
    arguments = [*SMALL, *of(folder), f"run_dir={run}", "epochs=1"]
    done = cli("train.py", *arguments, "pictures=1", "report.names=false")
    assert done.code == 0, done.err
    page = Page(run / "report.html")
    for word in ("Doe", "patients", str(tmp_path)):
        assert word not in page.source
    assert len(page.pictures()) > 2  # of objects and of images
    done = cli(COMMAND, f"run={run}", "report.names=true")
    assert done.code == 0, done.err
    assert "Doe" in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("run=missing", "config.yaml"),
        ("report.names=maybe", "true or false"),
        ("output=LICENSE/page/report.html", "LICENSE/page"),
    ],
)
def test_a_report_that_cannot_be_written_is_refused_in_one_line(messages, run, cli, setting, named):
    arguments = [setting] if setting.startswith("run=") else [f"run={run}", setting]
    messages.refused(cli(COMMAND, *arguments), 2, named)
