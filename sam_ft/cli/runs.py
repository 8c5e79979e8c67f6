"""The directory of a run: opened for training under a lock, or loaded for evaluation without trusting its config."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf
from safetensors import safe_open

from sam_ft.cli.allowlist import check_part
from sam_ft.cli.backup import BACKUP, REJECTED, RUN_FILES, back_up_run, restore_or_delete_backup
from sam_ft.cli.config import run_directory
from sam_ft.cli.logs import log_to
from sam_ft.cli.run_config import check_same_run, make_paths_absolute, read_run_config, write_run_config
from sam_ft.cli.setting_checks import check_train_settings
from sam_ft.data.io.images import READING
from sam_ft.training.state_file import previous_state
from sam_ft.utils import distributed
from sam_ft.utils.disk import write_error
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.files import refuse_links
from sam_ft.utils.leftovers import remove_leftovers


class Run(NamedTuple):
    """A run's directory, the parts of its configuration that may be built, its precision, and how it read images.

    reading: the options of `sam_ft.read_image`, where they were set
    """

    directory: Path
    cfg: DictConfig
    precision: Any
    reading: dict[str, Any]


@contextmanager
def open_run(cfg: DictConfig) -> Iterator[Path]:
    """Locks the run's directory, writes config.yaml, opens train.log and yields the directory.

    The same command again continues in the same directory; other settings need another one. An overwritten run is
    deleted once the new one has scored its model, and restored if the new one ends before that.

    Raises:
        ConfigError: a setting has a wrong value, or batch_size is below the number of processes; or the directory
            cannot be written, is in use by another run, holds a run with other settings or of another format version,
            weights without a training state, or a link in the place of one of its files, or is to be overwritten and
            holds no run.
    """
    check_train_settings(cfg)
    directory = run_directory(cfg)
    lock = FileLock(directory / ".lock", timeout=0)
    # Under torchrun a crash is not the end of a run while restarts are left.
    restarts_left = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS") or 0) - _restarts()
    try:
        # The main process alone holds the lock, and makes the directory for all.
        distributed.broadcast_from_main(lambda: _prepare(directory, lock, cfg))
        with log_to(directory / "train.log"):
            yield directory
        restarts_left = 0  # it ended well: no restart follows
    except KeyboardInterrupt as stop:
        if done := _describe_progress(directory):
            stop.args = (f"go on after {done}{', but without overwrite=true' if cfg.overwrite else ''}",)
        raise
    finally:
        if lock.is_locked and restarts_left <= 0:  # else torchrun restarts the command, which continues
            restore_or_delete_backup(directory)
        lock.release()


def load_run(directory: str | Path, parts: Sequence[str], trust: Sequence[str] = ()) -> Run:
    """Some parts of an earlier run's configuration as plain values that pass the allowlist, so they are safe to build.

    parts: settings at the top, such as "model"; the others are neither checked nor returned, so that a loss of the
        user's own does not lock a run
    trust: packages of the user's own that these parts may call

    Raises:
        ConfigError: `directory` holds no run or one of another format version, or its config.yaml lacks a part, or a
            part calls anything that is not on the allowlist.
    """
    directory = Path(directory).expanduser()
    path = directory / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"run={directory}: there is no config.yaml; give the directory of a run, as outputs/NAME")
    settings = read_run_config(path)
    chosen = {name: settings.get(name) for name in parts}
    for name, part in chosen.items():
        check_part(name, part, path, trust)
    data, reading = settings.get("data"), {}
    if isinstance(data, dict) and str(data.get("_target_")).startswith("sam_ft."):  # in others they may mean anything
        reading = {key: data[key] for key in READING if key in data}
    return Run(directory, OmegaConf.create(chosen), settings.get("precision"), reading)


def _prepare(directory: Path, lock: FileLock, cfg: DictConfig) -> None:
    """Creates and locks the directory, compares it with an earlier run and writes config.yaml.

    The main process calls it for all, so that a mistake is one message.
    """
    processes = distributed.world_size()
    if cfg.batch_size < processes:  # some would get no image in any step
        raise ConfigError(
            f"batch_size={cfg.batch_size} is less than the {processes} processes of this run; "
            f"set batch_size={processes}, at least one image for each process"
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        refuse_links(directory, *(directory / name for name in (".lock", BACKUP, REJECTED)))
        lock.acquire()
    except Timeout:
        raise ConfigError(f"{directory}: another run is using this directory; choose another name=") from None
    except OSError as error:
        reason = write_error(directory, error).strerror
        raise ConfigError(f"{directory}: cannot be written ({reason}); choose another run_dir=") from None
    remove_leftovers(directory, directory / "samples")
    remove_leftovers(directory / "checkpoints", alone=True)
    if not _is_restarted():
        restore_or_delete_backup(directory)  # of a run that was killed
    path = directory / "config.yaml"
    new: Any = OmegaConf.to_container(cfg, resolve=True)
    make_paths_absolute(new)
    if path.exists():
        # torchrun restarts the same command after a crash: it must continue then, not overwrite once more
        overwrite = cfg.overwrite and not _is_restarted()
        old = read_run_config(path, any_version=overwrite)
        if overwrite:
            back_up_run(directory, old)
        elif (directory / "checkpoints").exists():  # without it, the earlier run stopped before it wrote anything
            check_same_run(directory, old, new)
    _spare_best(directory)
    _check_places(directory)
    write_run_config(path, new)


def _check_places(directory: Path) -> None:
    """Refuses a link, and a folder, a file or a pipe in the place of another kind. Raises: ConfigError"""
    places = [directory / name for name in RUN_FILES]
    refuse_links(directory, *places)
    for path in places:
        kind = "file" if path.suffix else "folder"
        if path.exists() and not (path.is_file() if kind == "file" else path.is_dir()):
            raise ConfigError(f"{path}: is no {kind}, which a run writes there; move it away, or choose another name=")


def _spare_best(directory: Path) -> None:
    """Refuses to start anew where an earlier run has left its weights, which that overwrites. Raises: ConfigError"""
    best, last = (directory / f"checkpoints/{name}.safetensors" for name in ("best", "last"))
    if best.exists() and not last.exists() and not previous_state(last).exists():
        raise ConfigError(
            f"{best}: holds the weights of an earlier run, of which {last.name} is missing, so that it cannot go on; "
            "start anew under another name=, or replace these weights with overwrite=true"
        )


def _describe_progress(directory: Path) -> str:
    """Where the run would continue; empty if it would start anew."""
    try:
        with safe_open(directory / "checkpoints/last.safetensors", framework="pt") as file:
            epoch, steps = (json.loads(file.metadata().get(name, "0")) for name in ("epoch", "epoch_steps"))
        return f"step {steps} of epoch {epoch + 1}" if steps else f"epoch {epoch}" if epoch else ""
    except Exception:  # called while the program exits, where a second error would hide the first
        return ""


def _is_restarted() -> bool:
    """Whether torchrun or Slurm has started the same command before."""
    return bool(_restarts() or int(os.environ.get("SLURM_RESTART_COUNT") or 0))


def _restarts() -> int:
    """How many times torchrun has restarted this command."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0)
