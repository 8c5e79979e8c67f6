"""A run's directory: made and locked, filled with its config.yaml and log, and read again without trusting it."""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf
from safetensors import safe_open

from sam_ft.cli.allowlist import check_allowlist
from sam_ft.cli.config import run_directory
from sam_ft.cli.exit import stop_printing
from sam_ft.cli.overwriting import set_aside, settle
from sam_ft.utils import distributed
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.files import atomic_path

log = logging.getLogger("sam_ft")

# Settings that may differ between a run and its continuation without making it another run.
MAY_CHANGE = {
    "name",  # these two only say where the directory is, which may have been moved
    "run_dir",
    "epochs",
    "patience",
    "micro_batch_size",
    "activation_checkpointing",
    "compile",
    "workers",
    "cache._target_",
    "cache.dtype",
    "cache.max_gb",
    "train_chunk",
    "eval_chunk",
    "pictures",
    "logger",
    "overwrite",
    "debug",
}


class Run(NamedTuple):
    """A run's directory and what it was configured with."""

    directory: Path
    cfg: DictConfig


@contextmanager
def open_run(cfg: DictConfig) -> Iterator[Path]:
    """Makes the run's directory ready and yields it: lock, config.yaml, train.log. Ends with the log closed.

    Running the same command again continues in the same directory; other settings need another one. A run that is
    overwritten is gone once the new one has scored its model, and else put back.

    Raises:
        ConfigError: the directory cannot be written, is in use by another run, holds a run with other settings, or
            is to be overwritten and holds no run.
    """
    directory = run_directory(cfg)
    lock = FileLock(directory / ".lock", timeout=0)
    restarts_left = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS") or 0) - _restarts()
    try:
        distributed.broadcast_from_main(lambda: _prepare(directory, lock, cfg))
        with log_to(directory / "train.log"):
            yield directory
        restarts_left = 0
    except KeyboardInterrupt as stop:
        if done := _epochs_done(directory):
            stop.args = (f"go on after epoch {done}{', but without overwrite=true' if cfg.overwrite else ''}",)
        raise
    finally:
        if lock.is_locked and restarts_left <= 0:  # else torchrun starts it once more, and it goes on
            settle(directory)
        lock.release()


def _epochs_done(directory: Path) -> int:
    """After how many epochs the run would go on; 0 if it would begin anew."""
    try:
        with safe_open(directory / "checkpoints/last.safetensors", framework="pt") as file:
            return json.loads(file.metadata()["epoch"])
    except Exception:  # it is asked on the way out, where nothing may go wrong any more
        return 0


def _restarts() -> int:
    """How often torchrun has started this command again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0)


def _prepare(directory: Path, lock: FileLock, cfg: DictConfig) -> None:
    """Makes the directory the run's own."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise ConfigError(f"{directory}: another run is using this directory; choose another name=") from None
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be written ({error.strerror}); choose another run_dir=") from None
    if not _restarts():
        settle(directory)  # after a run that was killed
    path = directory / "config.yaml"
    new: Any = OmegaConf.to_container(cfg, resolve=True)
    _make_absolute(new)
    if path.exists():
        old = _read(path)
        # torchrun restarts the same command line after a crash: that is to go on, not to start anew once more
        if cfg.overwrite and not _restarts():
            set_aside(directory, old)
        elif (directory / "checkpoints").exists():  # a run that stopped before that left nothing
            _check_same(directory, old, new)
    with atomic_path(path) as temporary:
        temporary.write_text(OmegaConf.to_yaml(OmegaConf.create(new)))


def _make_absolute(settings: dict, real: bool = False) -> None:
    """Lets the run be used from another working directory.

    real: without .. and links; to compare, since a link may lead to a file whose name says nothing
    """
    for section, option, word in (
        ("data", "root", "???"),
        ("data", "table", "???"),
        ("model", "checkpoint", "official"),
    ):
        part = settings.get(section)
        value = part.get(option) if isinstance(part, dict) else None
        if isinstance(part, dict) and isinstance(value, str) and value != word:
            path = Path(value).expanduser()
            part[option] = str(path.resolve() if real else path.absolute())


def _check_same(directory: Path, old: dict, new: dict) -> None:
    new = deepcopy(new)
    for settings in (old, new):
        _make_absolute(settings, real=True)
    changes = _differences(old, new)
    if changes:
        raise ConfigError(
            f"{directory} holds a run with other settings ({'; '.join(changes[:5])}). "
            "Choose another name=..., or start anew with overwrite=true"
        )


def _differences(old: Any, new: Any, where: str = "") -> list[str]:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        old, new = (None if value == [] else value for value in (old, new))  # an option that is newer than the run
        return [] if old == new else [f"{where}: {json.dumps(old)} there, {json.dumps(new)} now"]
    changes = []
    for key in sorted(old.keys() | new.keys()):
        name = f"{where}.{key}".lstrip(".")
        if name not in MAY_CHANGE:
            changes += _differences(old.get(key), new.get(key), name)
    return changes


def load_run(directory: str | Path) -> Run:
    """The configuration of an earlier run, safe to build: plain values that only call what this project trusts.

    Raises:
        ConfigError: there is no run in `directory`, or its config.yaml calls something else.
    """
    directory = Path(directory).expanduser()
    path = directory / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"run={directory}: there is no config.yaml; give the directory that train.py wrote")
    settings = _read(path)
    check_allowlist(settings, path)
    return Run(directory, OmegaConf.create(settings))


def _read(path: Path) -> dict:
    """A config.yaml with its interpolations resolved."""
    try:
        settings = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except Exception as error:  # yaml and omegaconf raise a dozen kinds
        raise ConfigError(f"{path}: cannot be read: {str(error).split(chr(10))[0]}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: not a configuration of this project")
    return settings


class Screen(logging.StreamHandler):
    """Standard output; once it is closed, as after `| head`, the run goes on, and writes to its train.log alone."""

    def handleError(self, record: logging.LogRecord) -> None:
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            stop_printing()
        else:
            super().handleError(record)


@contextmanager
def log_to(file: Path | None = None) -> Iterator[None]:
    """Sends the project's log to the screen, and to a file, on the main process; the others report errors only."""
    handlers: list[logging.Handler] = []
    if distributed.is_main():
        screen = Screen(sys.stdout)
        screen.setFormatter(logging.Formatter("%(message)s"))
        handlers.append(screen)
        if file is not None:
            handlers.append(logging.FileHandler(file))
            handlers[-1].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.setLevel(logging.INFO if distributed.is_main() else logging.ERROR)
    for handler in handlers:
        log.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()
