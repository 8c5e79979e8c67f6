"""An image with many objects trains in the memory of the few that are chosen."""

import json
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.support.cli import SMALL, start

# A process of its own, for a child begins with the peak memory of its parent.
MEASURED = """
import json, resource, subprocess, sys
done = subprocess.run([sys.executable, *sys.argv[1:]], capture_output=True, text=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps([done.returncode, done.stdout + done.stderr, peak]))
"""


def write_discs(folder, objects, side):
    """An image and its ids, with so many discs in rows."""
    columns = int(np.ceil(objects**0.5))
    cell, ids = side / columns, np.zeros((side, side), np.uint16)
    for number in range(objects):
        x, y = ((place + 0.5) * cell for place in (number % columns, number // columns))
        cv2.circle(ids, (round(x), round(y)), round(0.4 * cell), number + 1, -1)
    for kind, pixels in (("images", np.where(ids > 0, 190, 90).astype(np.uint8)), ("instances", ids)):
        (folder / kind).mkdir(parents=True)
        Image.fromarray(pixels).save(folder / kind / "discs.png")


@pytest.mark.slow
def test_an_image_with_1500_objects_trains_in_two_gigabytes(tmp_path):
    write_discs(tmp_path / "data/train", 1500, 2000)  # 6 GB, if all masks were dense
    write_discs(tmp_path / "data/val", 4, 64)
    data = ["data=folder", f"data.root={tmp_path / 'data'}", "data.mask_folder=instances", "data.objects=instances"]
    command = ["train.py", *SMALL, *data, "epochs=1", "workers=0", f"run_dir={tmp_path / 'run'}"]
    code, output, peak = json.loads(start(sys.executable, "-c", MEASURED, *command).out)
    assert code == 0, output
    assert "train: 1 images with 1500 objects" in (tmp_path / "run/train.log").read_text()
    assert peak < 2e9
