"""Commands that must refuse (test_refusals.py and each test_refused_*.py), and predict.py on five small images."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.support.blobs import draw, write_folder
from tests.support.cli import SMALL
from tests.support.files import ORIENTATION
from tests.support.heads import write_head_run

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


@pytest.fixture(scope="module")
def head_run(run, tmp_path_factory):
    return write_head_run(run, tmp_path_factory.mktemp("head") / "run")


@pytest.fixture
def images(tmp_path):
    """Five images: PNG, 16-bit TIFF, one without objects, JPEG turned by EXIF, BMP."""
    folder = tmp_path / "images"
    folder.mkdir()
    counts = {"a": 3, "b": 4, "c": 0, "d": 2, "e": 5}
    pixels = {name: draw(50 + number, count)[0] for number, (name, count) in enumerate(counts.items())}
    Image.fromarray(pixels["a"]).save(folder / "a.png")
    tifffile.imwrite(folder / "b.tif", pixels["b"].astype(np.uint16) * 200)
    Image.fromarray(pixels["c"]).save(folder / "c.png")
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(pixels["d"]).save(folder / "d.jpg", quality=95, exif=exif)
    Image.fromarray(pixels["e"]).save(folder / "e.bmp")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def predict(cli, head_run, images, tmp_path):
    def call(*overrides, output="out", run=head_run, images=images):
        return cli("predict.py", f"run={run}", f"images={images}", f"output={tmp_path / output}", *overrides)

    return call
