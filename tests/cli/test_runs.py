"""The settings of a run, written and loaded."""

import pytest
from omegaconf import OmegaConf

from sam_ft.cli.config import build
from sam_ft.cli.hints import CONF
from sam_ft.cli.run_config import read_run_config, write_run_config
from sam_ft.cli.runs import load_run, open_run
from sam_ft.utils import distributed
from sam_ft.utils.errors import ConfigError
from tests.support.cli import torchrun

METRIC = {"_target_": "sam_ft.metrics.SegmentationMetrics"}
MODEL = {"_target_": "sam_ft.models.build_model"}


def write(directory, **settings):
    write_run_config(directory / "config.yaml", settings)


def settings(directory, **others):
    """The settings of train.py itself, with two empty groups."""
    own = OmegaConf.load(CONF / "train.yaml")
    own = {key: own[key] for key in own if key not in ("defaults", "hydra", "name", "run_dir")}
    return OmegaConf.create({**own, "run_dir": str(directory), "adapt": {}, "train_prompt": {}, **others})


def test_a_config_is_loaded_as_plain_values_and_builds(tmp_path):
    write(tmp_path, model={**MODEL, "image_size": 64}, metric=METRIC, precision="auto")
    run = load_run(tmp_path, ["model", "metric"])
    assert (run.directory, run.precision) == (tmp_path, "auto")
    assert OmegaConf.to_container(run.cfg, resolve=False) == {"model": {**MODEL, "image_size": 64}, "metric": METRIC}
    assert build(run.cfg.metric).monitors


@pytest.mark.parametrize("text", ["a: [", "a: ${b}", "- 1", "a: ${nothing:b}", "a: !!python/object:os.system {}"])
def test_a_config_that_cannot_be_read_is_named(messages, text, tmp_path):
    (tmp_path / "config.yaml").write_text(text)
    with messages.raises(ConfigError, "config.yaml: "):
        load_run(tmp_path, ["metric"])
    with messages.raises(ConfigError, "config.yaml: "), open_run(settings(tmp_path)):
        pass


def test_paths_in_a_config_hold_from_any_working_directory(messages, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parts = {"data": {"root": "cells"}, "model": {"checkpoint": "~/sam.pth"}}
    with open_run(settings("run", **parts)) as directory:
        (directory / "checkpoints").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    cfg = OmegaConf.create(read_run_config(directory / "config.yaml"))
    assert cfg.data.root == str(tmp_path / "cells")
    assert cfg.model.checkpoint.startswith("/")
    parts["model"]["checkpoint"] = cfg.model.checkpoint
    with open_run(settings("run", **parts)):  # the same place by another name is no other setting
        pass
    monkeypatch.chdir("/")
    with messages.raises(ConfigError, "data.root"), open_run(settings(tmp_path / "run", **parts)):
        pass


def test_a_table_is_found_again_from_another_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_run(settings("run", data={"table": "cells.csv"})) as directory:
        assert read_run_config(directory / "config.yaml")["data"]["table"] == str(tmp_path / "cells.csv")


def test_the_same_folder_by_another_path_is_the_same_setting(messages, tmp_path, monkeypatch):
    (tmp_path / "cells").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "cells")
    monkeypatch.chdir(tmp_path / "here")
    for root in (str(tmp_path / "cells"), "../cells", "../here/.././cells", "../link"):
        with open_run(settings(tmp_path / "run", data={"root": root})) as directory:
            (directory / "checkpoints").mkdir(exist_ok=True)
    assert read_run_config(directory / "config.yaml")["data"]["root"] == str(
        tmp_path / "here/../link"
    )  # not its target
    with messages.raises(ConfigError, "data.root"), open_run(settings(tmp_path / "run", data={"root": "cells"})):
        pass


def test_official_weights_and_a_missing_root_are_no_paths(tmp_path):
    with open_run(settings(tmp_path, data={"root": "???"}, model={"checkpoint": "official"})):
        pass
    text = (tmp_path / "config.yaml").read_text()
    assert "checkpoint: official" in text
    assert "root: ???" in text


def test_a_batch_gives_each_process_an_image_at_least(messages, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 8)
    monkeypatch.setattr(distributed, "all_gather", lambda items: items)
    cfg = settings(tmp_path / "run", batch_size=4)
    with messages.raises(ConfigError, "batch_size=4", "8 processes", "batch_size=8"), open_run(cfg):
        pass
    assert not (tmp_path / "run").exists()
    with open_run(settings(tmp_path / "run", batch_size=8)) as directory:
        assert (directory / "config.yaml").exists()


@pytest.mark.slow
def test_of_processes_without_an_image_one_speaks_and_all_end(tmp_path):
    done = torchrun("train.py", f"run_dir={tmp_path / 'run'}", "batch_size=1", "data=folder", "data.root=none")
    assert done.code != 0
    assert sum("error: " in line for line in done.err.splitlines()) == 1
    assert "error: batch_size=1" in done.err  # before the data are opened
    assert "exitcode  : 2" in done.err


@pytest.mark.parametrize("model", [None, "vit_b", {"image_size": 64}])
def test_a_part_that_is_missing_is_named(messages, tmp_path, model):
    write(tmp_path, model=model, metric=METRIC)
    with messages.raises(ConfigError, "config.yaml: ", "model"):
        load_run(tmp_path, ["metric", "model"])


def test_how_images_were_read_is_known_where_the_data_are_of_the_project(tmp_path):
    options = {"intensity": "range", "page": 2, "projection": None, "channels": [0, 2]}
    for package, reading in (("sam_ft", options), ("mylab", {})):
        write(tmp_path, metric=METRIC, data={"_target_": f"{package}.data.Folder", **options, "root": "/cells"})
        assert load_run(tmp_path, ["metric"]).reading == reading
