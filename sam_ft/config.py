"""Between YAML and plain values: the only module below the scripts that knows Hydra."""

import json
import logging
import shutil
import sys
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sam_ft import distributed
from sam_ft.errors import ConfigError, UserError
from sam_ft.files import atomic_path

log = logging.getLogger("sam_ft")

# What a configuration found beside a checkpoint may call. The user's own conf/ may call anything.
TRUSTED = ("sam_ft", "torchvision.transforms.v2")
# Settings that may differ between a run and its continuation without making it another run.
MAY_CHANGE = {
    "epochs",
    "patience",
    "micro_batch_size",
    "workers",
    "cache_gb",
    "eval_chunk",
    "pictures",
    "logger",
    "overwrite",
    "debug",
}


def _default_name() -> str:
    """A run is called after its model and data; the jobs of a sweep, which may differ in both, share one folder."""
    if not HydraConfig.initialized() or HydraConfig.get().mode == RunMode.MULTIRUN:
        return "sweep"
    choices = HydraConfig.get().runtime.choices
    return f"{choices['model']}-{choices['data']}"


OmegaConf.register_new_resolver("default_name", _default_name, replace=True)


def build(cfg: Any, **arguments: Any) -> Any:
    """Instantiates a config node with plain Python values; lists arrive as lists, not as Hydra's own kind.

    Raises:
        ConfigError: the class's own complaint about an option, with the class's name.
    """
    if not OmegaConf.is_dict(cfg) or "_target_" not in cfg:
        raise ConfigError(
            f"{cfg!r} stands where one of the choices in conf/ is expected; write the whole name of the group, "
            "such as prompt@train_prompt=box"
        )
    check_types(cfg)
    try:
        return hydra.utils.instantiate(cfg, **arguments, _convert_="all")
    except hydra.errors.InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        if isinstance(error.__cause__, (TypeError, ValueError, ImportError, AttributeError, type(None))):
            raise ConfigError(f"{cfg.get('_target_')}: {error.__cause__ or error}") from error
        raise


def check_types(cfg: DictConfig) -> None:
    """Compares plain options with the class's annotations: a word for a number would only fail in the first step.

    Raises:
        ConfigError: naming the class, the option, what came and what it takes.
    """
    options: Any = OmegaConf.to_container(cfg, resolve=True)
    try:
        target: Any = hydra.utils.get_object(cfg._target_)
    except Exception as error:
        raise ConfigError(f"_target_: {cfg._target_} cannot be found: {error}") from error
    hints = typing.get_type_hints(getattr(target, "__init__") if isinstance(target, type) else target)  # noqa: B009
    for key, value in options.items():
        kinds = typing.get_args(hints.get(key)) or (hints.get(key),)
        if isinstance(value, (str, bool, int, float)) and all(kind in (int, float, bool, type(None)) for kind in kinds):
            # a whole number is a float too, but True is not a number
            wanted = (*kinds, int) if float in kinds else kinds
            if type(value) not in wanted:
                names = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
                raise ConfigError(f"{cfg._target_}: {key}={value} was given; expected {names}")


@contextmanager
def user_errors(debug: bool = False) -> Iterator[None]:
    """Turns a user's mistake into one line on stderr and its exit code; other errors keep their traceback."""
    try:
        yield
    except (UserError, OmegaConfBaseException) as error:
        if debug:
            raise
        who = f"[process {distributed.rank()}] " if distributed.world_size() > 1 else ""
        text = str(error).split("\n")[0] if isinstance(error, OmegaConfBaseException) else str(error)
        print(f"{who}error: {text}", file=sys.stderr, flush=True)
        raise SystemExit(error.exit_code if isinstance(error, UserError) else ConfigError.exit_code) from None


class Run(NamedTuple):
    """A run's directory and what it was configured with."""

    directory: Path
    cfg: DictConfig


@contextmanager
def open_run(cfg: DictConfig) -> Iterator[Path]:
    """Makes the run's directory ready and yields it: lock, config.yaml, train.log. Ends with the log closed.

    Running the same command again continues in the same directory; other settings need another one.

    Raises:
        ConfigError: the directory cannot be written, is in use by another run, or holds a run with other settings.
    """
    directory = _directory(cfg)
    lock = FileLock(directory / ".lock", timeout=0)
    distributed.from_main(lambda: _prepare(directory, lock, cfg))
    try:
        with log_to(directory / "train.log"):
            yield directory
    finally:
        lock.release()


def record_sweep_job(directory: Path, results: dict) -> None:
    """Adds a finished job of a sweep to sweep.jsonl, beside the directories of its jobs."""
    settings = HydraConfig.get()
    if settings.mode != RunMode.MULTIRUN or not distributed.is_main():
        return
    path = directory.parent / "sweep.jsonl"
    jobs = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    jobs = [job for job in jobs if job["job"] != settings.job.num]  # the sweep may have been started again
    jobs.append({"job": settings.job.num, "overrides": list(settings.overrides.task), **results})
    with atomic_path(path) as temporary:
        temporary.write_text("".join(json.dumps(job) + "\n" for job in jobs))


def load_run(directory: str | Path) -> Run:
    """The configuration of an earlier run, safe to build: it may only call what this project trusts.

    Raises:
        ConfigError: there is no run in `directory`, or its config.yaml calls something else.
    """
    directory = Path(directory).expanduser()
    path = directory / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"run={directory}: there is no config.yaml; give the directory that train.py wrote")
    try:
        cfg = OmegaConf.load(path)
    except Exception as error:  # yaml and omegaconf raise a dozen kinds
        raise ConfigError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(cfg, DictConfig):
        raise ConfigError(f"{path}: not a configuration of this project")
    check_trusted(cfg, path)
    return Run(directory, cfg)


def check_trusted(cfg: DictConfig, path: Path) -> None:
    """Refuses a configuration that would call anything but this project's classes and torchvision's transforms.

    Both the name and what it leads to are checked: `sam_ft.files.os.system` begins well and ends badly.

    Raises:
        ConfigError: naming the file and the target.
    """
    for target in _targets(OmegaConf.to_container(cfg, resolve=True)):
        trusted = isinstance(target, str) and target.split(".")[0] in {name.split(".")[0] for name in TRUSTED}
        if trusted:
            try:
                home = getattr(hydra.utils.get_object(target), "__module__", None) or ""
            except Exception:
                home = ""
            trusted = any(home == name or home.startswith(name + ".") for name in TRUSTED)
        if not trusted:
            raise ConfigError(
                f"{path}: _target_: {target} is not part of sam_ft; a configuration that came with a checkpoint "
                "may not call it. If you wrote it yourself, move the class into sam_ft/"
            )


def _targets(node: Any) -> Iterator[Any]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield node["_target_"]
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)


def _directory(cfg: DictConfig) -> Path:
    """run_dir, or in a sweep the numbered folder of this job below it."""
    settings = HydraConfig.get()
    in_sweep = settings.mode == RunMode.MULTIRUN
    directory = Path(settings.sweep.dir, settings.sweep.subdir) if in_sweep else Path(cfg.run_dir)
    return directory.expanduser()


def _prepare(directory: Path, lock: FileLock, cfg: DictConfig) -> None:
    """Makes the directory the run's own."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise ConfigError(f"{directory}: another run is using this directory; choose another name=") from None
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be written ({error.strerror}); choose another run_dir=") from None
    path = directory / "config.yaml"
    new = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(new, dict)
    if path.exists() and cfg.overwrite:
        for entry in directory.iterdir():
            if entry.name != ".lock":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    elif path.exists() and (directory / "checkpoints").exists():  # a run that stopped before that left nothing
        changes = _differences(OmegaConf.to_container(OmegaConf.load(path)), new)
        if changes:
            raise ConfigError(
                f"{directory} holds a run with other settings ({'; '.join(changes[:5])}). "
                "Choose another name=..., or start anew with overwrite=true"
            )
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(new)))


def _differences(old: Any, new: Any, where: str = "") -> list[str]:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [f"{where}: {json.dumps(old)} there, {json.dumps(new)} now"]
    changes = []
    for key in sorted(old.keys() | new.keys()):
        if where or key not in MAY_CHANGE:
            changes += _differences(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))
    return changes


@contextmanager
def log_to(file: Path | None = None) -> Iterator[None]:
    """Sends the project's log to the screen, and to a file, on the main process; the others report errors only."""
    handlers: list[logging.Handler] = []
    if distributed.is_main():
        screen = logging.StreamHandler(sys.stdout)
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
