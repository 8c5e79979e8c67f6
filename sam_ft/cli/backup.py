"""The backup that overwrite=true makes of an earlier run until the new run has scored its model."""

import os
import shutil
from pathlib import Path

from sam_ft.utils.errors import ConfigError

# The files and folders of a run. The checkpoints are moved first and restored last: as long as the directory itself
# has no best.safetensors, the backup is complete.
RUN_FILES = (
    "checkpoints",
    "train.log",
    "metrics.jsonl",
    "objects.csv",
    "facts.json",
    "samples",
    "report.html",
    "evaluation",
    "export",
    "wandb",
    "tensorboard",
    "config.yaml",
)
BACKUP = ".overwritten"
REJECTED = f"{BACKUP}/rejected"  # what a run wrote that ended before it has scored its model


def back_up_run(directory: Path, settings: dict) -> None:
    """Moves the files of an earlier run into the folder `.overwritten`; other files beside them stay.

    settings: its config.yaml

    Raises:
        ConfigError: they are not the settings of a run.
    """
    if not {"adapt", "monitor", "train_prompt"} <= settings.keys():
        raise ConfigError(
            f"{directory}: config.yaml is not of a run of this project, so overwrite=true deletes nothing here; "
            "choose another run_dir="
        )
    (directory / BACKUP).mkdir()
    for name in RUN_FILES:
        _move(name, directory, directory / BACKUP)


def restore_or_delete_backup(directory: Path) -> None:
    """Deletes the backup if a run has scored its model since, else restores it.

    It may be killed at any point and called again.
    """
    backup, rejected = directory / BACKUP, directory / REJECTED
    if not backup.exists():
        return
    if not (directory / "checkpoints/best.safetensors").exists():
        rejected.mkdir(exist_ok=True)
        for name in reversed(RUN_FILES):
            if os.path.lexists(backup / name):
                _move(name, directory, rejected)
                _move(name, backup, directory)
    shutil.rmtree(backup)


def _move(name: str, source: Path, target: Path) -> None:
    if os.path.lexists(source / name):  # also a link whose target has gone
        (source / name).rename(target / name)
