"""The function file of CVAT, run by cvat-cli's own loader and driver, without a server."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from sam_ft import Predictor
from sam_ft.export.cvat import export_cvat
from sam_ft.export.request import ExportRequest
from sam_ft.export.safetensors import export_safetensors
from sam_ft.models.build import build_sam
from tests.support.blobs import draw
from tests.support.tiny import randomize

BOX = [8, 9, 30, 28]


@pytest.fixture
def function(run, tmp_path):
    """(path of the function file, directory of the run), of a run with random weights, whose masks are not empty"""
    torch.manual_seed(0)
    model = build_sam("lite_medsam", image_size=64)
    randomize(model)
    export_safetensors(ExportRequest(model, run, tmp_path / "random", "lite_medsam_random_0123abcd"))
    request = ExportRequest(model, tmp_path / "random", tmp_path, "lite_medsam_random_0123abcd")
    path, readme = export_cvat(request)
    assert f"--function-file {path.name} -p run=str:{tmp_path / 'random'}" in readme.read_text()
    return path, tmp_path / "random"


def driver_of(path, run, image):
    """cvat-cli's driver of a function file, which works in this process, on one image."""
    reason = "pip install cvat-cli, which the extra test does"
    cvataa = pytest.importorskip("cvat_sdk.auto_annotation", reason=reason)
    common = pytest.importorskip("cvat_cli._internal.common", reason=reason)
    base = pytest.importorskip("cvat_cli._internal.agent_driver")
    interaction = pytest.importorskip("cvat_cli._internal.agent_driver_interaction")
    loader = common.FunctionLoader(function_module=None, function_file=path, function_parameters={"run": str(run)})
    loaded = loader.load()
    assert isinstance(loaded.spec, cvataa.InteractionFunctionSpec)
    base.set_worker_current_function(loaded)

    class Driver(interaction.AgentInteractionFunctionDriver):
        def _get_sample_from_ar_params(self, _):
            return None, None

        def _load_image_for_ar(self, *_):
            return Image.fromarray(image)

    Driver.init_worker(None)
    executor = SimpleNamespace(submit=lambda function, *arguments: function(*arguments), result=lambda value: value)
    return Driver(None, executor, loaded.spec)


def mask_of(shapes, size):
    """CVAT's run lengths, which begin with background, then the box of the mask with its last pixels."""
    (shape,) = shapes
    *runs, x0, y0, x1, y1 = (int(value) for value in shape["points"])
    values = np.repeat(np.arange(len(runs)) % 2, runs).astype(bool)
    mask = np.zeros(size, bool)
    mask[y0 : y1 + 1, x0 : x1 + 1] = values.reshape(y1 - y0 + 1, x1 - x0 + 1)
    return mask


@pytest.mark.slow
def test_the_agent_gives_the_masks_of_the_run(function):
    image = draw(0, 4)[0]
    driver, predictor = driver_of(*function, image), Predictor.from_run(function[1])

    def agent(box=(), positive=(), negative=()):
        prompts = {"pos_points": positive, "neg_points": negative, "obj_bbox": box}
        call = {"task": 1, "frame": 2, **prompts}
        return mask_of(driver._calculate_result_for_interact_ar(call, None)["shapes"], image.shape[:2])

    masks, _, _ = predictor.predict(image, boxes=[BOX])
    assert np.array_equal(agent(box=[BOX[:2], BOX[2:]]), masks[0, 0])
    points = {"points": [[[12, 12], [40, 30]]], "point_labels": [[1, 0]]}
    masks, _, _ = predictor.predict(image, boxes=[BOX], **points)
    assert np.array_equal(agent([BOX[:2], BOX[2:]], [[12, 12]], [[40, 30]]), masks[0, 0])
    masks, scores, _ = predictor.predict(image, points=[[[12, 12]]], point_labels=[[1]], multimask_output=True)
    assert np.array_equal(agent(positive=[[12, 12]]), masks[0, scores[0].argmax()])
    # An agent may get no prompt at all.
    assert driver._calculate_result_for_interact_ar(
        {"task": 1, "frame": 2, "pos_points": [], "neg_points": [], "obj_bbox": []}, None
    ) == {"shapes": []}


def test_the_file_is_readable_without_cvat(function):
    compiled = subprocess.run([sys.executable, "-m", "py_compile", str(function[0])], capture_output=True, text=True)
    assert (compiled.returncode, compiled.stderr) == (0, "")
    assert len(function[0].read_text().splitlines()) < 50
