"""Links, folders and pipes in the place of the files of a run."""

import os

import pytest

from sam_ft.cli.runs import open_run
from sam_ft.utils.errors import ConfigError
from tests.cli.test_runs import settings


@pytest.mark.parametrize(
    "name", [".lock", ".overwritten", "checkpoints", "train.log", "metrics.jsonl", "samples", "wandb", "config.yaml"]
)
def test_a_link_in_the_place_of_a_file_of_a_run_is_refused(messages, tmp_path, name):
    victim, directory = tmp_path / "victim", tmp_path / "run"
    directory.mkdir()
    if "." in name[1:] or name == ".lock":
        victim.write_text("precious")
    else:
        victim.mkdir()
        (victim / "config.yaml").write_text("precious")
    (directory / name).symlink_to(victim)
    facts = ["config.yaml"] if name == "config.yaml" else [directory / name, victim]
    with messages.raises(ConfigError, *facts), open_run(settings(directory)):
        pass
    kept = victim if victim.is_file() else victim / "config.yaml"
    assert kept.read_text() == "precious"


@pytest.mark.parametrize("name", ["train.log", "metrics.jsonl", "config.yaml", "checkpoints", "samples"])
def test_another_kind_of_file_in_the_place_of_one_of_a_run_is_refused(messages, tmp_path, name):
    if "." in name:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).touch()
    with messages.raises(ConfigError, tmp_path / name), open_run(settings(tmp_path)):
        pass
    assert {path.name for path in tmp_path.iterdir()} <= {name, ".lock"}


def test_a_pipe_in_the_place_of_the_log_is_refused(messages, tmp_path):
    os.mkfifo(tmp_path / "train.log")  # opening it would wait for a reader
    with messages.raises(ConfigError, tmp_path / "train.log"), open_run(settings(tmp_path)):
        pass


def test_the_directory_of_a_run_may_be_reached_through_a_link(tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "outputs").symlink_to(tmp_path / "scratch")
    with open_run(settings(tmp_path / "outputs/run")):
        pass
    assert (tmp_path / "scratch/run/config.yaml").exists()
