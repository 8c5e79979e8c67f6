"""train.py, evaluate.py and predict.py under importable names: sam_ft.recipes.train is the script of the clone.

A wheel has the scripts themselves in this folder, in place of this file (see setup.cfg).
"""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path


class ScriptFinder:
    """Finds the three scripts, and nothing else of the clone."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        package, _, script = name.rpartition(".")
        if package != __name__ or script not in ("train", "evaluate", "predict"):
            return None
        return spec_from_file_location(name, Path(__file__).parents[2] / f"{script}.py")


sys.meta_path.append(ScriptFinder)
