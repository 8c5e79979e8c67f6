"""Commands that must refuse: the tests of test_refusals.py and of each test_refused_*.py."""

import pytest

from tests.support.blobs import write_folder
from tests.support.cli import SMALL

CONFIG, DATA, CHECKPOINT = 2, 3, 4


@pytest.fixture
def refused(cli, messages):
    """Runs a script that must refuse: with this code, these facts in its message, and nothing trained."""

    def check(code, *facts, script="train.py", overrides=()):
        done = cli(script, *overrides)
        messages.refused(done, code, *facts)
        assert "epoch 1" not in done.out

    return check


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "cells", [2, 3, 1])


@pytest.fixture
def train(refused, folder, tmp_path):
    """Tries to train on `folder` with more overrides."""

    def check(code, *words, overrides=(), objects="instances"):
        own = [*SMALL, "data=folder", f"data.root={folder}", f"data.objects={objects}", f"run_dir={tmp_path / 'run'}"]
        mask_folder = "data.mask_folder=instances" if objects == "instances" else "data.mask_folder=masks"
        refused(code, *words, overrides=[*own, mask_folder, "epochs=1", *overrides])

    return check
