"""The console command: sam-ft train | evaluate | predict and so on, the same as the scripts of a clone."""

import os
import sys
from contextlib import nullcontext
from importlib import import_module

import sam_ft
from sam_ft.cli.exit import exit_cleanly
from sam_ft.utils import distributed
from sam_ft.utils.errors import ConfigError

# Modules with a `main` that Hydra calls. Imported by name: they stand above this room.
COMMANDS = {
    "train": "sam_ft.recipes.train",
    "evaluate": "sam_ft.recipes.evaluate",
    "predict": "sam_ft.recipes.predict",
    "check": "sam_ft.check.__main__",
    "export": "sam_ft.export.__main__",
    "app": "sam_ft.app.__main__",
    "report": "sam_ft.report.__main__",
}
USAGE = f"sam-ft {'|'.join(COMMANDS)} [SETTING=VALUE ...]; `sam-ft train --help` lists the settings of train"


def main() -> None:
    """Runs the command that the first argument names; the others are its settings."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h", "--version"):
        print(sam_ft.__version__ if name == "--version" else USAGE)
        return
    # Hydra reads sys.argv itself.
    sys.argv[:2] = [f"sam-ft {name}"]
    sys.path.append(os.getcwd())  # last: a user's own loss in the working directory can be named in a YAML file
    with exit_cleanly():
        if name not in COMMANDS:
            raise ConfigError(f"{name} is not a command; expected {USAGE}")
        with distributed.process_group() if "recipes" in COMMANDS[name] else nullcontext():
            import_module(COMMANDS[name]).main()
