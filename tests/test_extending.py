"""Follows the recipes of docs/extending.md: adds each part to a copy of the project, tests it and trains with it."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import of
from tests.support.blobs import draw
from tests.support.cli import ROOT, SMALL
from tests.support.pages import write_own_files

PAGE = (ROOT / "docs/extending.md").read_text()


def recipe(title):
    """{file: its new lines} of one section of docs/extending.md, and what its last command has after train.py."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    pieces = re.findall(r"^```\w+\n# (?:in )?([\w/.]+)(?!.*: add ).*\n((?:.*\n)*?)```\n", section, re.M)
    (command,) = re.findall(r"^Then `python train\.py (.*)`\.$", section, re.M) or [""]
    return dict(pieces), shlex.split(command)


def test_every_section_with_a_recipe_is_followed():
    sections = re.split(r"^## ", PAGE, flags=re.M)[1:]
    assert {text.splitlines()[0] for text in sections if "```" in text} == {*BY_HAND, "In your own package"}


# Steps that the recipes state in words: (file, old text, new text).
BY_HAND = {
    "A loss": [
        ("sam_ft/losses/__init__.py", "import Dice,", "import Area, Dice,"),
        ("sam_ft/losses/__init__.py", '__all__ = ["Bce",', '__all__ = ["Area", "Bce",'),
        ("tests/losses/test_overlap.py", "import Dice,", "import Area, Dice,"),
        ("tests/support/losses.py", "import Bce,", "import Area, Bce,"),
        ("tests/support/losses.py", "Lovasz()]", "Lovasz(), Area()]"),
    ],
    "A metric": [
        ("sam_ft/metrics/__init__.py", "\n__all__ = [", 'from sam_ft.metrics.hits import Hits\n\n__all__ = ["Hits", '),
    ],
    "A prompt": [
        (
            "sam_ft/prompts/__init__.py",
            "\n__all__ = [",
            'from sam_ft.prompts.margin_box import MarginBox\n\n__all__ = ["MarginBox", ',
        ),
    ],
    "An encoder": [
        (
            "sam_ft/models/build.py",
            "from sam_ft.models.encoders.tiny",
            "from sam_ft.models.encoders.conv import ConvEncoder\nfrom sam_ft.models.encoders.tiny",
        ),
        ("sam_ft/models/build.py", '"vit", "tiny_vit"]', '"vit", "tiny_vit", "conv"]'),
        ("sam_ft/models/build.py", "SPECS = {\n", 'SPECS = {\n    "conv": ModelSpec("conv", image_size=512),\n'),
        (
            "sam_ft/models/build.py",
            "-> ImageEncoder:\n",
            '-> ImageEncoder:\n    if spec.encoder == "conv":\n        return ConvEncoder(out_channels=DECODER_DIM)\n',
        ),
    ],
    "A data set": [],
}


@pytest.mark.slow
@pytest.mark.parametrize("title", BY_HAND)
def test_a_part_is_added_as_its_recipe_says(title, blobs, tmp_path):
    copy, data = tmp_path / "repository", tmp_path / "data"
    for name in ("conf", "sam_ft", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "setup.cfg"):
        shutil.copy(ROOT / name, copy)
    pieces, arguments = recipe(title)
    assert len(pieces) == 3
    for name, lines in pieces.items():
        before = (copy / name).read_text() + "\n\n" if (copy / name).exists() else ""
        (copy / name).write_text(before + lines)
    for name, old, new in BY_HAND[title]:
        text = (copy / name).read_text()
        assert text.count(old) == 1, f"{name}: {old}"
        (copy / name).write_text(text.replace(old, new))

    own_tests = [name for name in pieces if name.startswith("tests/")]
    if title == "A loss":
        own_tests = ["tests/losses"]  # test_terms.py tests properties of all TERMS
    python(copy, "-m", "pytest", "-n", "0", *own_tests, "tests/test_architecture.py")
    if title != "An encoder":  # it has no pretrained weights
        data = ["data=npz", f"data.root={write_npz(data)}"] if title == "A data set" else of(blobs)
        python(copy, "train.py", *SMALL, *data, *(value for value in arguments if "data" not in value), "epochs=1")


@pytest.mark.slow
def test_a_part_in_a_package_of_ones_own_trains(blobs, tmp_path):
    own_files = write_own_files(tmp_path)
    arguments = ["--config-dir", str(own_files / "my_conf"), *SMALL, *of(blobs), "loss=tight", "epochs=1"]
    python(ROOT, "train.py", *arguments, f"run_dir={tmp_path / 'run'}", path=own_files)


def python(repository, *command, path=""):
    done = subprocess.run(
        [sys.executable, *command],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": f"{repository}{os.pathsep}{path}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def write_npz(root):
    """An image for each split, as the data set of the recipe reads them."""
    for split, seed in (("train", 0), ("val", 1)):
        (root / split).mkdir(parents=True)
        image, ids = draw(seed, 2)
        np.savez(root / split / "a.npz", image=image, ids=ids)
    return root
