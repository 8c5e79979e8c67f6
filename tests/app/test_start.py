"""The command: its settings, and the models of a real run."""

import http.client
import os
import signal
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from sam_ft.app.server import HOST
from sam_ft.app.start import make_server
from sam_ft.cli.compose import compose
from sam_ft.cli.image_files import find_images
from sam_ft.cli.prediction_plan import check_output
from sam_ft.data.io.windows import ImageWindows
from sam_ft.evaluation.found import find_by_head
from sam_ft.evaluation.segment import SegmentOptions
from sam_ft.predictor import Predictor
from sam_ft.types import dense
from tests.app.test_routes import mask_of
from tests.support.blobs import draw
from tests.support.cli import ROOT
from tests.support.heads import write_head_run
from tests.support.page import serve

BOX = [4, 4, 20, 20]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for seed, name in enumerate("ab"):
        Image.fromarray(draw(seed, 3)[0]).save(folder / f"{name}.png")
    return folder


def serve_run(run, *settings):
    with compose("app", [f"run={run}", *settings]) as cfg:
        return serve(make_server(cfg))


@pytest.mark.slow
def test_the_page_predicts_as_the_run_does_and_zero_shot_as_its_base_model(run, images, tmp_path):
    with serve_run(run, f"images={images}", f"output={tmp_path}") as page:
        found = {}
        for model in page.get("settings").json["models"]:
            asked = {"image": "a.png", "model": model, "label": 1, "box": BOX}
            found[model] = page.post("predict", asked).json["object"]
    pixels = draw(0, 3)[0]
    masks, scores, _ = Predictor.from_run(run, precision="float32").predict(pixels, boxes=[BOX])
    assert masks.any()
    assert np.array_equal(mask_of(found["tuned"], pixels.shape[:2]), masks[0, 0])
    assert found["tuned"]["score"] == pytest.approx(scores[0, 0], abs=1e-4)
    assert found["zero-shot"]["score"] != found["tuned"]["score"]


def test_a_folder_with_all_weights_has_no_model_to_compare_with(run, images, tmp_path, cli):
    folder = tmp_path / "all"
    assert cli("sam_ft.export", f"run={run}", "format=safetensors", f"output={folder}").code == 0
    with serve_run(folder, f"images={images}", f"output={tmp_path / 'page'}") as page:
        assert page.get("settings").json["models"] == ["tuned"]


@pytest.mark.slow
def test_all_objects_are_those_of_the_head_in_the_tiles_of_the_run(run, images, tmp_path):
    head_run = write_head_run(run, tmp_path / "head", tile=40)
    for settings, tile in (([], 40), (["tile=null"], None), (["tile=32"], 32)):
        with serve_run(head_run, f"images={images}", *settings) as page:
            found = page.post("all", {"image": "b.png"}).json["objects"]
        predictor = Predictor.from_run(head_run)
        options = SegmentOptions(predictor.options.thresholds, tile)
        with ImageWindows(images / "b.png") as windows:
            expected = find_by_head(predictor._task, options, windows, "")
        assert len(found) == len(expected.masks) >= 2
        for one, mask in zip(found, dense(expected.masks).numpy(), strict=True):
            assert np.array_equal(mask_of(one, mask.shape), mask)


def test_by_default_files_go_to_the_runs_directory_and_images_are_added_on_the_page(run, images, tmp_path):
    copy = write_head_run(run, tmp_path / "copy", steps=1)
    with serve_run(copy) as page:
        assert page.get("settings").json["images"] == []
        page.post("upload", (images / "a.png").read_bytes(), name="a.png")
        page.post("save", {"image": "a.png", "numbers": []})
    files = {path.relative_to(copy / "page").as_posix() for path in (copy / "page").rglob("*.*") if path.is_file()}
    assert files == {"images/a.png", "results/labels/a.tif", "results/coco/a.json", "results/coco.json"}
    check_output(copy / "predictions", find_images(str(copy / "page/images"))[1])  # predict.py reads them too


@pytest.mark.parametrize(
    ("settings", "code", "fact"),
    [
        (["run=nowhere"], 2, "nowhere"),
        (["images=nowhere"], 3, "nowhere"),
        (["save=[labels,tiff]"], 2, "tiff"),
        (["save=[]"], 2, "save"),
        (["port=70000"], 2, "port=70000"),
        (["port=-1"], 2, "port=-1"),
        (["precision=half"], 2, "precision=half"),
        (["tile=3"], 2, "tile=3"),
        (["points_per_side=0"], 2, "points_per_side=0"),
        (["browser=maybe"], 2, "browser=maybe"),
    ],
)
def test_wrong_settings_are_refused(messages, cli, run, tmp_path, settings, code, fact):
    given = {
        one.split("=")[0]: one for one in (f"run={run}", "browser=false", f"output={tmp_path / 'page'}", *settings)
    }
    messages.refused(cli("sam_ft.app", *given.values()), code, fact)
    assert not (tmp_path / "page").exists()


def test_images_below_the_output_folder_are_refused(messages, cli, run, images):
    messages.refused(
        cli("sam_ft.app", f"run={run}", f"images={images}", f"output={images}", "browser=false"), 2, "a.png"
    )


def test_a_port_in_use_is_refused(messages, cli, run):
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        done = cli("sam_ft.app", f"run={run}", f"port={port}", "browser=false")
        done = done._replace(err=done.err.replace(str(port), "PORT"))
    messages.refused(done, 2, "port=PORT")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_an_address_that_works_and_ends_well(run, images, number):
    command = [sys.executable, "-m", "sam_ft", "app", f"run={run}", f"images={images}"]
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        address = urlsplit(process.stdout.readline().strip())
        assert address.hostname == HOST
        connection = http.client.HTTPConnection(HOST, address.port, timeout=60)
        connection.request("GET", address.path)
        assert b"<canvas" in connection.getresponse().read()
        connection.close()
        process.send_signal(number)
        assert process.wait(timeout=60) == 0
