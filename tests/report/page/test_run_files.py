import pytest

from sam_ft.report.page.run_files import read_run_files
from sam_ft.utils.errors import ConfigError
from tests.support.pages_of_runs import ROWS, write_objects, write_run

LOG = """\
2026-01-02 03:04:05,678 INFO train: 80 images with 2877 objects
2026-01-02 03:04:06,678 WARNING val: 2 of 9 masks were thresholded
  another line
2026-01-02 03:05:05,678 INFO train: 80 images with 2877 objects
2026-01-02 03:05:07,678 INFO lite_medsam at 256 px on cpu
2026-01-02 03:05:07,678 INFO epoch 1: IoU 0.5
"""


def test_the_log_up_to_the_model_is_about_the_data_and_a_second_start_says_the_same(tmp_path):
    write_run(tmp_path)
    (tmp_path / "train.log").write_text(LOG)
    assert read_run_files(tmp_path).log == [
        "train: 80 images with 2877 objects",
        "WARNING val: 2 of 9 masks were thresholded",
        "  another line",
    ]


def test_a_line_that_a_crash_left_incomplete_is_no_number(tmp_path):
    write_run(tmp_path)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "train/lo')
    files = read_run_files(tmp_path)
    assert [row["step"] for row in files.steps] == [1, 2]
    assert [row["val/iou"] for row in files.epochs] == [0.4, 0.6, 0.65]


def test_an_older_run_has_empty_parts(tmp_path):
    write_run(tmp_path, rows=())
    files = read_run_files(tmp_path)
    assert (len(files.objects), files.facts, files.log, files.evaluations, files.examples) == (0, {}, [], {}, [])


def test_the_objects_of_an_evaluation_stand_in_for_those_of_an_older_run(tmp_path):
    write_run(tmp_path, rows=())
    write_objects(tmp_path / "evaluation/objects.csv", ROWS)
    assert len(read_run_files(tmp_path).objects) == 4


def test_a_partial_checkpoint_alone_is_enough(tmp_path):
    write_run(tmp_path)
    (tmp_path / "checkpoints/last.safetensors").unlink()
    assert read_run_files(tmp_path).progress["best"]["iou"] == 0.65


def test_an_interpolation_in_a_config_from_elsewhere_is_refused(messages, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "1234")
    write_run(tmp_path, settings={"note": "${oc.env:SECRET}"})
    with messages.raises(ConfigError, tmp_path / "config.yaml", "${oc.env:SECRET}"):
        read_run_files(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'[1, {"a": []}]', b"[" * 100_000])
def test_damaged_files_are_left_out_with_a_warning(tmp_path, caplog, content):
    write_run(tmp_path)
    write_objects(tmp_path / "objects.csv", [("a", 0, 4, "x", 0.2)])
    (tmp_path / "evaluation").mkdir()
    for name in ("metrics.jsonl", "facts.json", "evaluation/scores.json"):
        (tmp_path / name).write_bytes(content)
    files = read_run_files(tmp_path)
    assert (files.facts, files.evaluations, len(files.objects), files.steps, files.others) == ({}, {}, 0, [], [])
    names = ("objects.csv", "facts.json", "evaluation/scores.json")
    assert [message.split(": ")[0] for message in caplog.messages] == [str(tmp_path / name) for name in names]


@pytest.mark.parametrize("content", ["1,2\n3,4\n", "prompt,name,object\nbox\n", "\0\n"])
def test_a_table_of_objects_with_other_columns_is_none(tmp_path, content):
    write_run(tmp_path)
    (tmp_path / "objects.csv").write_text(content)
    assert len(read_run_files(tmp_path).objects) == 0
