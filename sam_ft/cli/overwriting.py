"""overwrite=true: an earlier run makes room, and comes back if the new one ends before it has anything to show."""

import shutil
from pathlib import Path

from sam_ft.utils.errors import ConfigError

# What a run leaves behind. The checkpoints go first and come back last: as long as there is no best.safetensors in
# the directory itself, what lies aside is all there is.
WRITTEN = ("checkpoints", "train.log", "metrics.jsonl", "samples", "evaluation", "export", "wandb", "config.yaml")
ASIDE = ".overwritten"


def set_aside(directory: Path, settings: dict) -> None:
    """Moves an earlier run out of the way, and nothing else that lies beside it.

    settings: its config.yaml

    Raises:
        ConfigError: they are not those of a run.
    """
    if not {"adapt", "monitor", "train_prompt"} <= settings.keys():
        raise ConfigError(
            f"{directory}: config.yaml is not of a run of this project, so overwrite=true deletes nothing here; "
            "choose another run_dir="
        )
    aside = directory / ASIDE
    aside.mkdir()
    for name in WRITTEN:
        if _is_there(directory / name):
            (directory / name).rename(aside / name)


def settle(directory: Path) -> None:
    """Deletes what was set aside if a run has scored its model since, and else puts it back.

    It may be stopped anywhere and called again.
    """
    aside = directory / ASIDE
    if not aside.exists():
        return
    if not (directory / "checkpoints/best.safetensors").exists():
        for name in reversed(WRITTEN):
            if _is_there(aside / name):
                _delete(directory / name)
                (aside / name).rename(directory / name)
    shutil.rmtree(aside)


def _is_there(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():  # what a link leads to may be shared with others
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
