"""Runs the commands of the README and adds its parts, so that README and code agree."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import chain

import numpy as np
import pytest
from PIL import Image

from tests.conftest import of
from tests.support.blobs import draw
from tests.support.cli import ROOT, SMALL

PIECES = re.split(r"^```(.*)\n", (ROOT / "README.md").read_text(), flags=re.M)  # text, language, block, "", text, ...
PROSE, BLOCKS = PIECES[0::4], list(zip(PIECES[1::4], PIECES[2::4], strict=True))
COMMAND = re.compile(r"(?:.*&& )?(?:torchrun .*?)?(?:python )?((?:-m sam_ft\.\S+|train\.py|evaluate\.py)( .*|$))")


def commands():
    """(script, argument, ...) of each command for the project, in blocks and within the text."""
    lines = chain.from_iterable(block.splitlines() for language, block in BLOCKS if not language)
    inline = re.findall(r"`(python [^`]*)`", "".join(PROSE))
    for line in [*lines, *inline]:
        if found := COMMAND.fullmatch(line):
            first, *others = shlex.split(found[1])
            yield (others[0], *others[1:]) if first == "-m" else (first, *others)


# commands with parts that the reader adds first
OWN_PARTS = {"loss=area", "metric=hits", "prompt@train_prompt=margin_box", "data=npz"}
COMMANDS = [command for command in dict.fromkeys(commands()) if not OWN_PARTS & set(command)]
SNIPPET = next(block for language, block in BLOCKS if language == "python")


def test_all_commands_are_seen():
    assert {script for script, *_ in COMMANDS} == {"train.py", "evaluate.py", "sam_ft.check", "sam_ft.export"}
    lines = [line for language, block in BLOCKS if not language for line in block.splitlines()]
    assert all(COMMAND.fullmatch(line) for line in lines if re.match(r"(torchrun|python) .*(\.py|-m sam_ft\.)", line))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_fits_the_configuration(command, cli):
    script, *arguments = command
    if "-m" in arguments:  # one job of the sweep
        arguments = [value.split(",")[0] for value in arguments if value != "-m"]
    done = cli(script, *arguments, *([] if "--help" in arguments else ["--cfg", "job"]))
    assert (done.code, done.err) == (0, "")


def test_the_first_lines_of_python_give_masks(run, tmp_path, monkeypatch):
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "cells").symlink_to(run)
    Image.fromarray(draw(0, 3)[0]).resize((200, 180)).save(tmp_path / "new.png")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(SNIPPET, names)
    assert names["masks"].shape == (1, 1, 180, 200)
    assert names["masks"].any()


def recipe(title):
    """{file: its new lines} of one section of "How to add a part", and what its last command has after train.py."""
    text = (ROOT / "README.md").read_text()
    section = text.split(f"\n### {title}\n")[1].split("\n##")[0]
    pieces = re.findall(r"^```\w+\n# (?:in )?([\w/.]+)(?!.*: add ).*\n((?:.*\n)*?)```\n", section, re.M)
    (command,) = re.findall(r"^Then `python train\.py (.*)`\.$", section, re.M) or [""]
    return dict(pieces), shlex.split(command)


# Steps that the README states in words: (file, old text, new text).
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


def python(repository, *command):
    done = subprocess.run(
        [sys.executable, *command],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def write_npz(root):
    """An image for each split, as the README's own data set reads them."""
    for split, seed in (("train", 0), ("val", 1)):
        (root / split).mkdir(parents=True)
        image, ids = draw(seed, 2)
        np.savez(root / split / "a.npz", image=image, ids=ids)
    return root
