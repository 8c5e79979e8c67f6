"""The page's requests over real HTTP, with tiny models."""

import base64
import io
import json
import threading

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from sam_ft.app import routes
from sam_ft.app.objects import prompts_from_json
from sam_ft.data.io.windows import ArrayWindows
from sam_ft.data.sources.coco import Coco
from sam_ft.data.sources.folder import Folder
from sam_ft.models.heads import SemanticHead
from sam_ft.types import dense
from tests.support.blobs import draw
from tests.support.page import confident_sam, make_segmenter, make_workspace, serve_page
from tests.support.tiny import tiny_sam

ASK = {"image": "a.png", "model": "tuned", "label": 1, "box": [4, 4, 40, 30]}


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for seed, name in enumerate("ab"):
        Image.fromarray(draw(seed, 3)[0]).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def page(tmp_path, images):
    with serve_page(tmp_path / "page", make_workspace(tmp_path / "page", images)) as client:
        yield client


def mask_of(found, size):
    """(H, W) bool of an object as the page gets it."""
    mask = np.zeros(size, bool)
    part = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["png"]))))[..., 1] > 0
    assert part.shape == (found["height"], found["width"])
    mask[found["y"] : found["y"] + part.shape[0], found["x"] : found["x"] + part.shape[1]] = part
    return mask


def expected_mask(seed, **prompts):
    pixels, segmenter = draw(seed, 3)[0], make_segmenter(tiny_sam())
    segmenter.open(ArrayWindows(pixels))
    given = prompts_from_json(prompts.get("box"), prompts.get("points"), prompts.get("labels"), pixels.shape[:2])
    found, mask = segmenter.predict(given), np.zeros(pixels.shape[:2], bool)
    mask[found.y0 : found.y0 + found.mask.shape[0], found.x0 : found.x0 + found.mask.shape[1]] = found.mask
    return mask


def test_the_settings_name_images_models_and_classes(page):
    found = page.get("settings").json
    assert found["images"] == ["a.png", "b.png"]
    assert found["models"] == ["tuned", "zero-shot"]
    assert found["classes"] == {"1": "object"}


def test_size_and_picture_of_an_image_and_of_a_part(page):
    own = draw(1, 3)[0]
    assert page.get("size", image="b.png").json == {"height": own.shape[0], "width": own.shape[1], "step": 1}
    whole = page.get("picture", image="b.png")
    assert whole.kind == "image/png"
    assert np.array_equal(Image.open(io.BytesIO(whole.content)), own)
    part = page.get("picture", image="b.png", left=3, top=5, right=20, bottom=9)
    assert np.array_equal(Image.open(io.BytesIO(part.content)), own[5:9, 3:20])


@pytest.mark.parametrize("edges", [{"left": 3}, {"left": "x", "top": 1, "right": 2, "bottom": 3}])
def test_a_part_without_its_edges_is_refused(page, edges):
    reply = page.get("picture", image="b.png", **edges)
    assert (reply.status, list(reply.json)) == (400, ["error"])


@pytest.mark.parametrize(
    "prompts",
    [
        {"box": [4, 4, 40, 30]},
        {"points": [[12, 12]], "labels": [1]},
        {"box": [4, 4, 40, 30], "points": [[9, 9]], "labels": [0]},
    ],
)
def test_a_mask_arrives_as_the_model_gives_it(page, prompts):
    found = page.post("predict", {"image": "a.png", "model": "tuned", "label": 1, **prompts}).json["object"]
    assert np.array_equal(mask_of(found, draw(0, 3)[0].shape[:2]), expected_mask(0, **prompts))


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("predict", b""),
        ("predict", b"{"),
        ("predict", b"[1]"),
        ("predict", b"\xff"),
        ("predict", b"[" * 100_000),
        ("predict", {}),
        ("predict", {**ASK, "image": "c.png"}),
        ("predict", {**ASK, "image": "../a.png"}),
        ("predict", {**ASK, "image": None}),
        ("predict", {**ASK, "model": ["tuned"]}),
        ("predict", {**ASK, "label": [1]}),
        ("predict", {**ASK, "label": 9}),
        ("predict", {**ASK, "box": [1, 2]}),
        ("all", {"image": 3}),
        ("save", {"image": "a.png"}),
        ("save", {"image": "a.png", "numbers": "0"}),
        ("save", {"image": "a.png", "numbers": [True]}),
        ("save", {"image": "a.png", "numbers": [0]}),
        ("save", {"image": "../a.png", "numbers": []}),
        ("save", {"image": "../a.png", "numbers": [], "training": True}),
    ],
)
def test_wrong_content_is_one_line(page, tmp_path, name, body, caplog):
    reply = page.post(name, body)
    assert (reply.status, list(reply.json)) == (400, ["error"])
    assert len(reply.json["error"].splitlines()) == 1
    assert caplog.messages == []  # no error of the program
    assert not (tmp_path / "page").exists()


def test_masks_are_saved_in_the_formats_of_predict(page, tmp_path):
    first = page.post("predict", ASK).json["object"]
    second = page.post("predict", {**ASK, "box": [20, 20, 60, 44]}).json["object"]
    size = draw(0, 3)[0].shape[:2]
    reply = page.post("save", {"image": "a.png", "numbers": [second["number"], first["number"]]}).json
    assert reply == {"written": str(tmp_path / "page/results")}
    masks = [mask_of(second, size), mask_of(first, size)]
    scores = [second["score"], first["score"]]
    expected = np.zeros(size, int)
    for place in np.argsort(scores, kind="stable"):
        expected[masks[place]] = place + 1
    assert np.array_equal(tifffile.imread(tmp_path / "page/results/labels/a.tif"), expected)
    assert len((tmp_path / "page/results/table.csv").read_text().splitlines()) == 3
    coco = json.loads((tmp_path / "page/results/coco.json").read_text())
    assert [one["score"] for one in coco["annotations"]] == pytest.approx(scores, abs=1e-4)
    split = Coco(tmp_path, val="page/results/coco.json", val_images="images").split("val")
    assert np.array_equal(dense(split[0].masks).numpy(), masks)


def test_masks_saved_as_training_data_are_read_back(page, tmp_path):
    saved = {}
    for seed, file in enumerate(("a.png", "b.png")):
        found = page.post("predict", {**ASK, "image": file}).json["object"]
        reply = page.post("save", {"image": file, "numbers": [found["number"]], "training": True}).json
        saved[file[0]] = mask_of(found, draw(seed, 3)[0].shape[:2])
    assert reply["written"] == str(tmp_path / "page/training")
    assert reply["command"].split()[:3] == ["sam-ft", "train", "data=folder"]
    assert not (tmp_path / "page/results").exists()
    folder = Folder(tmp_path / "page/training", objects="instances")
    samples = [*folder.split("train"), *folder.split("val")]
    assert len(samples) == 2
    for sample in samples:
        assert np.array_equal(dense(sample.masks).numpy(), saved[sample.name][None])


def test_a_run_with_classes_saves_them_as_training_data(tmp_path, images):
    head = SemanticHead()
    head.set_classes({2: "crop", 5: "weed"})
    model = tiny_sam()
    model.attach_head(head)
    with serve_page(tmp_path / "page", make_workspace(tmp_path / "page", images, tuned=model)) as page:
        assert page.get("settings").json["classes"] == {"2": "crop", "5": "weed"}
        found = page.post("predict", {**ASK, "label": 5}).json["object"]
        reply = page.post("save", {"image": "a.png", "numbers": [found["number"]], "training": True}).json
    mask = mask_of(found, draw(0, 3)[0].shape[:2])
    assert np.array_equal(tifffile.imread(tmp_path / "page/training/masks/a.tif"), mask * 5)
    assert "data.classes={crop: 2, weed: 5}" in reply["command"]


def test_all_objects_of_the_grid(tmp_path, images):
    model = make_segmenter(confident_sam())
    model.open(ArrayWindows(draw(0, 3)[0]))
    expected = model.find_all(4)
    with serve_page(tmp_path / "page", make_workspace(tmp_path / "page", images, tuned=confident_sam())) as page:
        found = page.post("all", {"image": "a.png"}).json["objects"]
    assert len(found) == len(expected.masks) > 0
    for one, mask in zip(found, dense(expected.masks).numpy(), strict=True):
        assert np.array_equal(mask_of(one, mask.shape), mask)


def test_an_upload_is_opened_by_its_name_and_an_empty_one_is_refused(messages, page, images):
    data = (images / "a.png").read_bytes()
    assert page.post("upload", data, name="ü 1.png").json == {"image": "ü 1.png"}
    assert page.get("settings").json["images"][-1] == "ü 1.png"
    assert np.array_equal(Image.open(io.BytesIO(page.get("picture", image="ü 1.png").content)), draw(0, 3)[0])
    refused = page.post("upload", b"", name="empty.png")
    assert refused.status == 400
    messages.check(refused.json["error"], "empty.png")


def test_an_upload_beyond_the_limit_is_refused(messages, page, monkeypatch):
    limited = page.server.routes["POST", "upload"]._replace(limit=100)
    monkeypatch.setitem(page.server.routes, ("POST", "upload"), limited)
    assert page.post("upload", b"0" * 101, name="c.png").status == 413
    assert page.get("settings").status == 200
    assert page.get("settings").json["max_upload"] == routes.MAX_UPLOAD


@pytest.mark.slow
def test_an_image_of_60_million_pixels_is_shown_reduced_and_segmented(page, tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (10_000, 6_000), (90, 120, 150)).save(buffer, "PNG", compress_level=1)
    assert page.post("upload", buffer.getvalue(), name="large.png").json == {"image": "large.png"}
    assert page.get("size", image="large.png").json == {"height": 6000, "width": 10000, "step": 5}
    assert Image.open(io.BytesIO(page.get("picture", image="large.png").content)).size == (2000, 1200)
    found = page.post("predict", {**ASK, "image": "large.png", "box": [100, 200, 9000, 5000]})
    assert found.status == 200
    assert page.get("settings").status == 200


def test_a_folder_that_cannot_be_written_is_named(messages, tmp_path, images):
    (tmp_path / "page").write_text("a file")
    with serve_page(tmp_path / "page", make_workspace(tmp_path / "page", images)) as page:
        found = page.post("predict", ASK).json["object"]
        for reply in (
            page.post("save", {"image": "a.png", "numbers": [found["number"]]}),
            page.post("save", {"image": "a.png", "numbers": [found["number"]], "training": True}),
            page.post("upload", (images / "a.png").read_bytes(), name="c.png"),
        ):
            assert reply.status == 400
            messages.check(reply.json["error"], tmp_path / "page")


def test_requests_at_the_same_time_get_the_masks_of_their_own_images(page):
    expected = {file: expected_mask(seed, box=ASK["box"]) for seed, file in enumerate(("a.png", "b.png"))}
    wrong = []

    def ask(file):
        for _ in range(4):
            found = page.post("predict", {**ASK, "image": file}).json["object"]
            if not np.array_equal(mask_of(found, expected[file].shape), expected[file]):
                wrong.append(file)

    threads = [threading.Thread(target=ask, args=(file,)) for file in ("a.png", "b.png", "a.png")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_empty_mask_is_null(tmp_path, images):
    model = tiny_sam()
    with torch.no_grad():
        model.mask_decoder.output_upscaling[3].weight.zero_()
        model.mask_decoder.output_upscaling[3].bias.zero_()  # all logits are 0
    with serve_page(tmp_path / "page", make_workspace(tmp_path / "page", images, tuned=model)) as page:
        assert page.post("predict", ASK).json == {"object": None}
