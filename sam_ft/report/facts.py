"""facts.json of a run: the counts of its data and the versions of its environment, for the report."""

import platform
import subprocess
from pathlib import Path

import torch

import sam_ft
from sam_ft.data.splits import Splits
from sam_ft.models import Sam
from sam_ft.utils import distributed
from sam_ft.utils.files import as_json, write_atomic


def write_facts(directory: Path, model: Sam, splits: Splits, tiles: Splits, tile: int | None) -> None:
    """Writes facts.json on the main process.

    tile: side of `tiles`, in pixels of the files; None where they are whole images
    """
    if not distributed.is_main():
        return
    parameters = list(model.parameters())
    facts = {
        "train": {"images": len(splits.train), "objects": splits.train_objects},
        "val": {"images": len(splits.val), "objects": splits.val_objects},
        "tiles": None if tile is None else {"side": tile, "train": len(tiles.train_images), "val": len(tiles.val)},
        "input_side": model.image_size,
        "parameters": {
            "trained": sum(p.numel() for p in parameters if p.requires_grad),
            "all": sum(p.numel() for p in parameters),
        },
        "environment": environment(model.device),
    }
    write_atomic(directory / "facts.json", as_json(facts, indent=2) + "\n")


def environment(device: torch.device) -> dict[str, str]:
    """The versions and the device, by a title."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    found = {
        "sam-ft": sam_ft.__version__,
        "git commit": _commit(),
        "Python": platform.python_version(),
        "PyTorch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "device": f"{name}, {distributed.world_size()} processes" if distributed.world_size() > 1 else name,
    }
    return {title: value for title, value in found.items() if value}


def _commit() -> str:
    """Of the clone that the package runs from; empty for an installed one."""
    root = Path(sam_ft.__file__).parents[1]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):  # there is no git, or the clone belongs to somebody else
        return ""
