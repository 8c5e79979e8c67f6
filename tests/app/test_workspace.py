import io
import re
import struct
import zlib

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from sam_ft.data.io.images import read_image
from sam_ft.data.io.windows import ArrayWindows
from sam_ft.types import Prompts, dense
from sam_ft.utils.errors import DataError
from tests.support.blobs import draw
from tests.support.files import ORIENTATION
from tests.support.page import make_segmenter, make_workspace
from tests.support.tiny import tiny_sam

BOX = Prompts(boxes=torch.tensor([[4.0, 4, 40, 30]]))


def png(seed=0, size=None):
    buffer = io.BytesIO()
    pixels = draw(seed, 3)[0]
    Image.fromarray(pixels if size is None else np.resize(pixels, (*size, 3))).save(buffer, "PNG")
    return buffer.getvalue()


def empty_png(width, height):
    """A PNG that says how large it is, and has no pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(0))
    (folder / "b.png").write_bytes(png(1))
    (tmp_path / "secret.png").write_bytes(png(2))
    return folder


@pytest.fixture
def workspace(tmp_path, images):
    return make_workspace(tmp_path / "page", images)


def test_the_images_of_the_command_are_listed_and_opened_one_at_a_time(workspace):
    assert list(workspace.images) == ["a.png", "b.png"]
    first = workspace.open("a.png")
    assert workspace.open("a.png") is first
    assert workspace.open("b.png").windows.size == draw(1, 3)[0].shape[:2]
    assert workspace.open("a.png") is not first


@pytest.mark.parametrize("kind", ["16 bits", "turned", "gray"])
def test_an_image_is_read_as_training_reads_it(tmp_path, kind):
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = draw(0, 3)[0]
    if kind == "16 bits":
        tifffile.imwrite(path := folder / "a.tif", pixels[..., 0].astype(np.uint16) * 100 + 7)
    elif kind == "turned":
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        Image.fromarray(pixels).save(path := folder / "a.jpg", exif=exif)
    else:
        Image.fromarray(pixels[..., 0]).save(path := folder / "a.png")
    workspace = make_workspace(tmp_path / "page", folder, reading={"intensity": "range"})
    windows, expected = workspace.open(path.name).windows, read_image(path, intensity="range")
    assert windows.size == expected.shape[:2]
    assert np.array_equal(windows.read(*workspace.open(path.name).preview.whole).permute(1, 2, 0), expected)


@pytest.mark.parametrize(
    "file",
    ["../secret.png", "/etc/passwd", "secret.png", "a.png/../../secret.png", "sub/../a.png", "", "A.PNG", "link.png"],
)
def test_a_path_that_is_not_listed_is_not_opened(workspace, images, file):
    (images / "link.png").symlink_to(images.parent / "secret.png")  # after the start
    for act in (
        lambda: workspace.open(file),
        lambda: workspace.predict(file, "tuned", BOX, 1),
        lambda: workspace.instances(file, []),
    ):
        with pytest.raises(DataError, match=re.escape(f"{file} is not among the images")):
            act()


def test_a_mask_is_that_of_the_model_and_is_known_by_its_number(workspace):
    pixels = draw(0, 3)[0]
    numbers = []
    for model, seed in (("tuned", 0), ("zero-shot", 1)):
        segmenter = make_segmenter(tiny_sam(seed))
        segmenter.open(ArrayWindows(pixels))
        expected, found = segmenter.predict(BOX), workspace.predict("a.png", model, BOX, 1)
        assert np.array_equal(found.mask, expected.mask)
        assert (found.x0, found.y0, found.score, found.label) == (expected.x0, expected.y0, expected.pred_iou, 1)
        numbers.append(found.number)
    assert numbers == [0, 1]
    workspace.open("b.png")  # masks of an image that is not open stay
    instances = workspace.instances("a.png", [1])
    mask = np.zeros(pixels.shape[:2], bool)
    mask[found.y0 : found.y0 + found.mask.shape[0], found.x0 : found.x0 + found.mask.shape[1]] = found.mask
    assert np.array_equal(dense(instances.masks)[0].numpy(), mask)
    assert instances.scores.tolist() == pytest.approx([found.score])
    assert (instances.name, instances.file, instances.classes) == ("a", "a.png", {1: "object"})


def test_numbers_and_models_and_classes_that_do_not_exist_are_refused(messages, workspace):
    workspace.predict("a.png", "tuned", BOX, 1)
    messages.refusal(lambda: workspace.instances("a.png", [0, 1]))
    messages.refusal(lambda: workspace.instances("a.png", [-1]))
    messages.refusal(lambda: workspace.instances("b.png", [0]))
    messages.refusal(lambda: workspace.predict("a.png", "other", BOX, 1))
    messages.refusal(lambda: workspace.predict("a.png", "tuned", BOX, 2))


def test_an_added_image_is_stored_and_listed_and_so_it_is_after_the_next_start(workspace, tmp_path, images):
    assert workspace.upload("c.png", png(3)) == "c.png"
    assert (tmp_path / "page/images/c.png").read_bytes() == png(3)
    assert workspace.upload("c.png", png(3)) == "c.png"  # the same again
    for one in (workspace, make_workspace(tmp_path / "page", images), make_workspace(tmp_path / "page")):
        assert list(one.images)[-1] == "c.png"
        assert one.open("c.png").windows.size == draw(3, 3)[0].shape[:2]


@pytest.mark.parametrize("name", ["../../c.png", "/etc/c.png", "C:\\images\\c.png", "..\\c.png"])
def test_an_added_image_lies_in_its_folder_whatever_it_is_called(workspace, tmp_path, name):
    assert workspace.upload(name, png(3)) == "c.png"
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("c.png")] == ["page/images/c.png"]


def test_an_added_image_replaces_a_link_and_not_the_file_behind_it(workspace, tmp_path):
    (tmp_path / "page/images").mkdir(parents=True)
    (tmp_path / "page/images/c.png").symlink_to(tmp_path / "secret.png")
    before = (tmp_path / "secret.png").read_bytes()
    workspace.upload("c.png", png(3))
    assert (tmp_path / "secret.png").read_bytes() == before


def test_results_of_added_images_have_names_of_their_own(workspace, images):
    for file in ("a.jpg", "c.png", "c.bmp"):
        workspace.upload(file, png(3))
    names = {image.file: image.name for image in workspace.images.values()}
    assert names == {"a.png": "a", "b.png": "b", "a.jpg": "a.jpg", "c.png": "c", "c.bmp": "c.bmp"}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("c.png", b""),
        ("c.png", b"no image"),
        ("c.png", png(3)[:200]),
        ("c.txt", png(3)),
        ("c", png(3)),
        ("", png(3)),
        (".png", png(3)),
        (".c.png", png(3)),
        ("c.png/", png(3)),
        ("a.png", png(3)),
        ("c.png", empty_png(100_000, 100_000)),
    ],
    ids=[
        "empty",
        "text",
        "cut off",
        "suffix",
        "no suffix",
        "no name",
        "suffix alone",
        "hidden",
        "folder",
        "known",
        "huge",
    ],
)
def test_a_file_that_is_no_image_or_has_the_name_of_another_one_is_refused_and_leaves_nothing(
    messages, workspace, tmp_path, name, data
):
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    messages.refusal(lambda: workspace.upload(name, data))
    assert list(workspace.images) == ["a.png", "b.png"]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before
    workspace.open("a.png")
