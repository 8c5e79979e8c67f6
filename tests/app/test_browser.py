"""The page in Chromium: each step of browser.js, and then a training on the data that the page saved."""

import json
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import tifffile
from PIL import Image

from sam_ft.data.sources.folder import Folder
from sam_ft.types import dense
from tests.app.test_start import serve_run
from tests.support.blobs import draw
from tests.support.browser import drive, needs_browser
from tests.support.cli import SMALL
from tests.support.heads import write_head_run

pytestmark = [pytest.mark.slow, needs_browser]

SIZE = (72, 48)  # of draw(0, ...): width, height
NAMES = [f"{letter}.png" for letter in "abcdef"]
BOXES = [[4, 5, 21, 19], [24, 4, 42, 20]]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser") / "images"
    folder.mkdir()
    for name in NAMES:
        Image.fromarray(draw(6 * NAMES.index(name), 5)[0]).save(folder / name)
    Image.new("RGB", (10_000, 6_000), (90, 120, 150)).save(folder.parent / "large.png", compress_level=1)
    Image.fromarray(draw(1, 3)[0]).save(folder.parent / "added.png")
    (folder.parent / "empty.png").touch()
    (folder.parent / "text.png").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def session(run, images, tmp_path_factory):
    """What the browser saw, and the folder of the page."""
    folder = tmp_path_factory.mktemp("session")
    head_run = write_head_run(run, folder / "run")
    with serve_run(
        head_run, f"images={images}", f"output={folder / 'page'}", "save=[labels,coco,overlay,table]"
    ) as client:
        seen = drive(
            client.server.address,
            scale=1.5,
            size=SIZE,
            files={name: str(images.parent / f"{name}.png") for name in ("empty", "text", "added", "large")},
            correct=NAMES,
            boxes=BOXES,
        )
    return seen, folder / "page", client.server


@pytest.fixture
def steps(session):
    return session[0]["steps"]


def close_to(prompt, box=None, points=(), labels=()):
    """Within a pixel of the screen."""
    assert prompt["labels"] == list(labels)
    assert np.allclose(prompt["points"], np.reshape(points, (-1, 2)) if len(points) else [], atol=0.1)
    assert prompt["box"] is box is None or np.allclose(prompt["box"], box, atol=0.1)


def test_images_are_listed_and_prompts_have_the_coordinates_of_the_image(steps):
    assert steps["images"] == NAMES
    close_to(steps["box"], [4, 5, 21, 19])
    close_to(steps["clicks"], [4, 5, 21, 19], [(12, 12), (30, 40), (2, 3)], [1, 0, 0])
    assert "tuned: predicted IoU" in steps["box scores"]
    assert steps["cleared"] == ["", True]


def test_coordinates_stay_right_when_the_image_is_zoomed_and_moved(steps):
    close_to(steps["zoomed"], points=[(40, 20)], labels=[1])
    close_to(steps["moved"], points=[(40, 20)] * 3, labels=[1] * 3)
    close_to(steps["fitted"], points=[(40, 20)], labels=[1])


def test_undo_goes_back_by_one_action_and_enter_waits_for_the_mask(steps):
    undone = steps["undone"]
    assert (undone["kept"], undone["again"]) == (1, 1)
    assert undone["undone"][0] == 0
    assert "tuned" in undone["undone"][1]
    assert steps["at once"] == 2


def test_zero_shot_beside_tuned(steps):
    models, scores = steps["compared"]
    assert models == ["tuned", "zero-shot"]
    assert all(f"{model}: predicted IoU" in scores for model in models)


def test_all_objects_are_added_once_and_an_object_can_be_corrected_and_removed(steps):
    found = steps["all"]
    assert found["found"] - found["own"] >= 3
    assert found["twice"] == found["found"]
    corrected = steps["corrected"]
    assert corrected["corrected"] == found["found"] - 1
    close_to(corrected["prompt"], [4, 5, 21, 19], [(13, 13)], [1])  # its own box again
    assert corrected["kept"] == found["found"]
    assert corrected["removed"] == found["found"] - 1
    assert corrected["crossed"] == found["found"] - 2


def test_masks_of_an_image_stay_when_another_one_is_open(steps):
    switched = steps["switched"]
    assert switched["next"] == ["b.png", 0]
    assert switched["back"] == ["a.png", switched["own"]]


def test_uploads_are_opened_or_refused_in_words_and_the_page_lives(messages, steps):
    for name in ("empty", "text"):
        assert steps[name]["error"]
        assert steps[name]["open"] == "a.png"
        messages.check(steps[name]["text"], f"{name}.png")
    assert steps["added"] == {"text": "", "error": False, "open": "added.png"}
    assert steps["large"] == {"text": "", "error": False, "open": "large.png"}
    prompt, errors = steps["click in large"]
    assert errors == 0
    close_to({**prompt, "points": np.array(prompt["points"]) / 100}, points=[(50, 30)], labels=[1])
    status, query = steps["detail of large"]
    window = {name: int(value[0]) for name, value in parse_qs(query[1:]).items() if name != "image"}
    assert status == 200
    assert 0 < window["left"] < window["right"] < 10_000
    assert 0 < window["top"] < window["bottom"] < 6_000
    assert steps["alive"][0] == 200


def test_a_wrong_token_other_pages_and_paths_outside_get_nothing(messages, steps):
    status, text = steps["wrong token"]
    assert status == 403
    messages.check(text)
    for name, code in (("outside", 400), ("outside picture", 400), ("no file", 404)):
        assert steps[name][0] == code
        messages.check(steps[name][1])
    assert steps["foreign"] == ["TypeError", "TypeError"]  # it can read nothing
    assert steps["framed"] is False


def test_no_request_goes_to_another_host_and_no_script_fails(session):
    seen, _, server = session
    addresses = [urlsplit(url) for url in seen["requests"]]
    assert {one.scheme for one in addresses} <= {"http", "data"}
    assert {one.netloc for one in addresses if one.scheme == "http"} == {f"127.0.0.1:{server.server_port}"}
    assert seen["problems"] == []


def test_the_page_fits_a_narrow_screen(steps):
    assert steps["narrow overflow"] == 400


def test_what_was_saved_is_there_in_all_formats(session, steps):
    _, page, _ = session
    assert steps["saved"] == f"2 masks written to {page / 'results'}"
    for name in NAMES:
        assert set(np.unique(tifffile.imread(page / "results/labels" / f"{name[0]}.tif"))) >= {0, 1}
        assert (page / "results/overlay" / name).stat().st_size > 500
    assert len(json.loads((page / "results/coco.json").read_text())["annotations"]) == 2 * len(NAMES)
    assert len((page / "results/table.csv").read_text().splitlines()) == 1 + 2 * len(NAMES)


def test_the_saved_training_data_train_a_run(session, steps, tmp_path, cli):
    _, page, _ = session
    folder = Folder(page / "training", objects="instances")
    samples = [*folder.split("train"), *folder.split("val")]
    assert sorted(sample.name for sample in samples) == [name[0] for name in NAMES]
    for sample in samples:
        masks = dense(sample.masks).numpy()
        ids = tifffile.imread(page / f"training/masks/{sample.name}.tif")
        assert np.array_equal(masks.any(0), ids > 0)
        assert len(masks) == 2
        assert (sample.image.permute(1, 2, 0).numpy() == draw(6 * NAMES.index(f"{sample.name}.png"), 5)[0]).all()
    settings = steps["trained"][1].split()[2:]
    done = cli("train.py", *SMALL, *settings, f"run_dir={tmp_path / 'again'}", "epochs=1")
    assert done.code == 0, done.err
    assert (tmp_path / "again/checkpoints/best.safetensors").exists()
