"""train.py and evaluate.py under an importable name: sam_ft.recipes.train is the script at the top of the clone.

A wheel has the scripts themselves in this folder, in place of this file (see setup.cfg).
"""

from pathlib import Path

__path__ = [str(Path(__file__).parents[2])]
