import contextlib
import os
from pathlib import Path

import pytest
from filelock import FileLock
from omegaconf import OmegaConf

from sam_ft.cli.backup import back_up_run, restore_or_delete_backup
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


@pytest.fixture
def earlier(tmp_path):
    """The directory of a run with files of its own and others."""
    directory, outside = tmp_path / "run", tmp_path / "outside"
    with open_run(settings(directory)):
        for folder in (directory / "checkpoints", directory / "wandb/offline", outside):
            folder.mkdir(parents=True)
            (folder / "file").write_text("")
        (directory / "metrics.jsonl").write_text("")
        (directory / "notes.txt").write_text("")
    return directory


@pytest.fixture
def linked(earlier):
    """The same with a link out of it."""
    (earlier / "samples").symlink_to(earlier.parent / "outside")
    return earlier


def names(directory):
    return {path.name for path in directory.iterdir()} - {".lock"}


def scored(directory):
    """What a run has left as soon as its model was scored."""
    (directory / "checkpoints").mkdir()
    (directory / "checkpoints/last.safetensors").write_text("new")
    (directory / "checkpoints/best.safetensors").write_text("new")


def test_overwrite_deletes_what_the_run_wrote_and_nothing_else(linked):
    with open_run(settings(linked, overwrite=True, monitor="dice")):
        assert names(linked) == {"config.yaml", "train.log", "notes.txt", ".overwritten"}
        assert read_run_config(linked / "config.yaml")["monitor"] == "dice"
        scored(linked)
    assert names(linked) == {"config.yaml", "train.log", "notes.txt", "checkpoints"}
    assert (linked / "checkpoints/best.safetensors").read_text() == "new"
    assert (linked.parent / "outside/file").exists()


@pytest.mark.parametrize("failure", [ConfigError, KeyboardInterrupt, ZeroDivisionError])
def test_a_run_that_fails_before_it_is_scored_restores_the_overwritten_one(linked, failure):
    before = {path: path.read_bytes() for path in linked.rglob("*") if path.is_file()}
    with contextlib.suppress(failure), open_run(settings(linked, overwrite=True, monitor="dice")):
        (linked / "metrics.jsonl").write_text("new")
        (linked / "checkpoints").mkdir()
        raise failure
    assert {path: path.read_bytes() for path in linked.rglob("*") if path.is_file()} == before
    assert (linked / "samples").is_symlink()


def test_the_backup_of_a_killed_run_is_restored(earlier, monkeypatch):
    for stop in range(9):  # wherever it is killed while it moves things, and once more while they are moved back
        before = names(earlier)
        calls = iter(range(stop))

        def rename(path, target, calls=calls, real=Path.rename):
            next(calls)
            return real(path, target)

        for act in (
            lambda: back_up_run(earlier, read_run_config(earlier / "config.yaml")),
            lambda: restore_or_delete_backup(earlier),
        ):
            with monkeypatch.context() as patch, contextlib.suppress(StopIteration):
                patch.setattr(Path, "rename", rename)
                act()
        restore_or_delete_backup(earlier)
        assert names(earlier) == before


def test_overwrite_spares_a_directory_that_holds_no_run(messages, earlier):
    write(earlier, services={"web": {}})
    before = names(earlier)
    with messages.raises(ConfigError, earlier), open_run(settings(earlier, overwrite=True)):
        pass
    assert names(earlier) == before


def test_a_restart_by_torchrun_continues_instead_of_overwriting_again(earlier, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "2")
    for count in range(2):  # both fail, the second one after it was scored
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(count))
        with contextlib.suppress(ZeroDivisionError), open_run(settings(earlier, overwrite=True, monitor="dice")):
            assert names(earlier) == {"config.yaml", "train.log", "notes.txt", ".overwritten"}
            if count:
                scored(earlier)
            raise ZeroDivisionError
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    with open_run(settings(earlier, overwrite=True, monitor="dice")):
        assert (earlier / "checkpoints/best.safetensors").read_text() == "new"
    assert names(earlier) == {"config.yaml", "train.log", "notes.txt", "checkpoints"}


def test_half_written_files_of_a_killed_run_are_removed(earlier):
    kept = earlier / "notes.txt.tmp"
    kept.write_text("")
    dead = f"tmp-{2**22 + 1}-0123abcd"
    left = [earlier / f"{name}.{dead}" for name in ("config.yaml", "checkpoints/last.safetensors")]
    left.append(earlier / "checkpoints/.tmpAb12cD")  # of safetensors
    for path in left:
        path.write_text("half")
    with open_run(settings(earlier)):
        assert not [path for path in left if path.exists()]
    assert kept.exists()


def test_the_content_of_a_lock_does_not_count(messages, earlier):
    lock = earlier / ".lock"
    lock.write_bytes(b"\xff garbage")
    with open_run(settings(earlier)):
        pass
    with FileLock(lock):
        lock.write_bytes(b"\xff garbage")
        with messages.raises(ConfigError, earlier, "another run"), open_run(settings(earlier)):
            pass


def test_weights_without_a_training_state_are_not_overwritten(messages, earlier):
    weights = earlier / "checkpoints/best.safetensors"
    weights.write_text("precious")
    for name in (None, "last-1", "last"):
        if name is None:
            with (
                messages.raises(ConfigError, weights, "last.safetensors", "overwrite=true"),
                open_run(settings(earlier)),
            ):
                pass
            assert weights.read_text() == "precious"
        else:
            (earlier / f"checkpoints/{name}.safetensors").touch()
            with open_run(settings(earlier)):
                pass
            (earlier / f"checkpoints/{name}.safetensors").unlink()
    with open_run(settings(earlier, overwrite=True)):
        assert not weights.exists()
        scored(earlier)
    assert weights.read_text() == "new"


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


def test_a_requeued_job_continues_instead_of_overwriting_again(earlier, monkeypatch):
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with open_run(settings(earlier, overwrite=True)):
        assert (earlier / "checkpoints/file").exists()


def test_a_run_continues_in_a_moved_directory(earlier):
    moved = earlier.rename(earlier.parent / "moved")
    with open_run(settings(moved, name="moved")):
        assert "checkpoints" in names(moved)


@pytest.mark.parametrize(
    ("version", "facts"),
    [
        (None, ["no format_version", "name="]),
        (1, ["format_version 1", "name="]),
        (3, ["format_version 3", "update sam-ft"]),
    ],
)
def test_a_run_of_another_format_version_is_refused(messages, earlier, version, facts):
    path = earlier / "config.yaml"
    line = "" if version is None else f"format_version: {version}\n"
    path.write_text(path.read_text().replace("format_version: 2\n", line))
    for use in (
        lambda directory: load_run(directory, ["metric"]),
        lambda directory: contextlib.ExitStack().enter_context(open_run(settings(directory))),
    ):
        with messages.raises(ConfigError, path, "expected 2", *facts):
            use(earlier)


def test_a_run_of_an_older_version_can_be_overwritten(earlier):
    path = earlier / "config.yaml"
    path.write_text(path.read_text().replace("format_version: 2\n", ""))
    with open_run(settings(earlier, overwrite=True)):
        scored(earlier)
    assert read_run_config(earlier / "config.yaml")["monitor"] == "iou"


def test_a_refused_directory_is_not_kept_locked(messages, earlier):
    with messages.raises(ConfigError, earlier, "monitor", "iou", "dice"), open_run(settings(earlier, monitor="dice")):
        pass
    with open_run(settings(earlier)):
        pass


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
