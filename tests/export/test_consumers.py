"""Annotation tools and other programs predict with an export what sam_ft predicts with its model.

Each runs in an environment of its own, outside of this process: some of their licenses or pins do not go with the
tests'. SAM_FT_CONSUMERS names the folder of these environments, one per tool; without it the tests are skipped:

    python -m venv $SAM_FT_CONSUMERS/anylabeling && $SAM_FT_CONSUMERS/anylabeling/bin/pip install anylabeling
    mkdir $SAM_FT_CONSUMERS/web && cd $SAM_FT_CONSUMERS/web && npm install onnxruntime-web playwright-core
"""

import json
import os
from pathlib import Path

import numpy as np
import platformdirs
import pytest
import torch
from PIL import Image

from sam_ft import Predictor
from sam_ft.data.sources.synthetic import draw_cells
from sam_ft.export.official import export_official
from sam_ft.export.onnx import export_onnx
from sam_ft.export.request import ExportRequest
from sam_ft.models import build_model
from sam_ft.models.download import OFFICIAL
from sam_ft.utils.geometry import masks_to_boxes
from tests.support.cli import ROOT, start

pytestmark = pytest.mark.slow

PACKAGES = {
    "anylabeling": "anylabeling",
    "x_anylabeling": "x-anylabeling-cvhub",
    "samexporter": "samexporter",
    "ultralytics": "ultralytics",
    "micro_sam": "micro-sam",
    "isat": "isat-sam",
}
SHAPES = {"square": (256, 256), "landscape": (160, 256), "portrait": (256, 160)}
# The least IoU with the mask of `Predictor`. AnyLabeling and X-AnyLabeling draw each image on a canvas of 684 x 1024
# and simplify outlines, samexporter enlarges it to 1024, micro-sam stretches its channels: other pixels, other masks.
CASES = [
    ("anylabeling", "vit_t", "onnx", 0.85),
    ("anylabeling", "lite_medsam", "onnx", 0.5),
    ("x_anylabeling", "vit_t", "onnx", 0.85),
    ("x_anylabeling", "lite_medsam", "onnx", 0.5),
    ("samexporter", "vit_t", "onnx", 0.99),
    ("samexporter", "lite_medsam", "onnx", 0.6),
    ("web", "vit_t", "onnx", 0.99),
    ("web", "lite_medsam", "onnx", 0.99),
    ("ultralytics", "vit_t", "official", 0.95),
    ("micro_sam", "vit_t", "official", 0.85),
    ("isat", "vit_t", "official", 0.99),
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """`exported(model_type, format)`: a model with its real weights, and the folder of its export."""
    made = {}

    def export(model_type, name):
        weights = "official"
        if model_type == "vit_t":
            weights = Path(platformdirs.user_cache_dir("sam-ft")) / "checkpoints" / OFFICIAL["vit_t"].name
            if not weights.exists():
                pytest.skip(f"needs {weights}, which model=vit_t downloads")
        if (model_type, name) not in made:
            folder = tmp_path_factory.mktemp(f"{model_type}_{name}")
            model = build_model(model_type, weights)
            request = ExportRequest(model, folder, folder, f"{model_type}_cells_0123abcd")
            (export_onnx if name == "onnx" else export_official)(request)
            made[model_type, name] = Predictor(model), folder
        return made[model_type, name]

    return export


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("tool", "model_type", "name", "least"), CASES, ids=lambda value: str(value))
def test_a_program_predicts_the_mask_of_a_box(tool, model_type, name, shape, least, exported, tmp_path):
    environment = environment_of(tool)
    predictor, folder = exported(model_type, name)
    image, box = cell(SHAPES[shape])
    if tool == "web":
        mask = predict_in_browser(environment, folder, image, box, tmp_path)
    else:
        Image.fromarray(image).save(tmp_path / "image.png")
        script = ROOT / "tests/support/consumers.py"
        (tmp_path / "boxes.json").write_text(json.dumps([box]))
        places = [tmp_path / name for name in ("image.png", "boxes.json", "masks.npy")]
        # -I: nothing of this repository or of the user's is imported.
        done = start(str(environment), "-I", *map(str, [script, tool, folder, *places]), HOME=str(tmp_path))
        assert done.code == 0, done.err
        (mask,) = np.load(tmp_path / "masks.npy")
    (expected,) = predictor.predict(image, boxes=[box])[0][0]
    iou = (mask & expected).sum() / (mask | expected).sum()
    print(f"{tool} {model_type} {shape}: IoU {iou:.4f}")
    assert iou >= least


def environment_of(tool):
    """The Python of a tool, or the folder of the packages for the browser."""
    root = os.environ.get("SAM_FT_CONSUMERS")
    path = Path(root or "SAM_FT_CONSUMERS") / tool / ("node_modules" if tool == "web" else "bin/python")
    if root is None or not path.exists():
        how = f"pip install {PACKAGES[tool]}" if tool in PACKAGES else "npm install onnxruntime-web playwright-core"
        pytest.skip(f"needs {path}, with {how}; see the top of this file")
    return path.parent if tool == "web" else path


def cell(size):
    """A picture of cells of this size, and the box of its largest one."""
    gray, ids = draw_cells(np.random.default_rng(3))
    ids = ids[: size[0], : size[1]]
    largest = np.bincount(ids[ids > 0]).argmax()
    box = masks_to_boxes(torch.from_numpy(ids == largest)[None])[0]
    return np.stack([gray[: size[0], : size[1]]] * 3, axis=-1), box.int().tolist()


def predict_in_browser(packages, folder, image, box, tmp_path):
    encoder, decoder = (next(folder.glob(f"*_{part}.onnx")).name for part in ("encoder", "decoder"))
    pixels = [*image.shape[:2], image.reshape(-1).tolist()]
    request = {"folder": str(folder), "encoder": encoder, "decoder": decoder, "image": pixels, "box": box}
    (tmp_path / "request.json").write_text(json.dumps(request))
    script = f"cd {packages} && node {ROOT / 'tests/support/onnx_web.js'} {tmp_path}/request.json {tmp_path}/out.json"
    done = start("bash", "-c", script)
    assert done.code == 0, done.err
    mask = np.zeros(image.shape[:2], bool)
    mask.flat[json.loads((tmp_path / "out.json").read_text())] = True
    return mask
