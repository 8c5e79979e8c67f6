"""A directory that holds an earlier run: overwritten, restored, continued or refused."""

import contextlib
from pathlib import Path

import pytest
from filelock import FileLock

from sam_ft.cli.backup import back_up_run, restore_or_delete_backup
from sam_ft.cli.run_config import read_run_config
from sam_ft.cli.runs import load_run, open_run
from sam_ft.utils.errors import ConfigError
from tests.cli.test_runs import settings, write


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
