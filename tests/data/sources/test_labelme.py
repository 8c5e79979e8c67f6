import base64
import io
import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image

from sam_ft.data.sources.labelme import Labelme
from sam_ft.types import dense

SQUARE = [[1, 1], [4, 1], [4, 4], [1, 4]]  # columns and rows 1 to 3 of a 20 x 16 image
SIZE = (16, 20)


def shape(points=SQUARE, kind="polygon", label="cell", group=None, **more):
    return {"label": label, "points": points, "shape_type": kind, "group_id": group, **more}


def png(mask):
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def write(root, name, *shapes, image=None, size=SIZE, **more):
    """A JSON file and its image."""
    path = root / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"shapes": shapes, "imagePath": f"{path.stem}.png", "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    path.write_text(json.dumps({"version": "5.0.1", "flags": {}, **content, "imageData": None, **more}))
    image = path.with_suffix(".png") if image is None else root / image
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, len(name), np.uint8)).save(image)
    return root


def masks(root, **options):
    return dense(Labelme(root, val_fraction=1, **options).split("val")[0].masks)


def boxes(root, **options):
    return Labelme(root, val_fraction=1, **options).split("val")[0].masks.boxes().tolist()


@pytest.mark.parametrize(
    ("drawn", "box", "area"),
    [
        (shape(), [1, 1, 4, 4], 9),
        ({"label": "cell", "points": SQUARE}, [1, 1, 4, 4], 9),  # as before version 3
        (shape([[1, 1], [4, 5]], "rectangle"), [1, 1, 4, 5], 12),
        (shape([[4, 5], [1, 1]], "rectangle"), [1, 1, 4, 5], 12),
        (shape(SQUARE, "rectangle"), [1, 1, 4, 4], 9),
        (shape([[5, 5], [9, 5], [9, 9], [5, 9]], "rotation"), [5, 5, 9, 9], 16),
        (shape([[2, 3], [4, 4]], "mask", mask=png(np.array([[0, 1, 1], [1, 1, 0]], bool))), [2, 3, 5, 5], 4),
        (shape([[2, 3], [4, 4]], "mask", mask=png(np.uint8([[0, 255, 255], [255, 255, 0]]))), [2, 3, 5, 5], 4),
        (shape([[18, 15], [20, 16]], "mask", mask=png(np.ones((2, 3), bool))), [18, 15, 20, 16], 2),
        (shape([[-1, -1], [1, 1]], "mask", mask=png(np.eye(3) > 0)), [0, 0, 2, 2], 2),
    ],
)
def test_shapes_are_drawn(tmp_path, drawn, box, area):
    write(tmp_path, "a", drawn)
    assert boxes(tmp_path) == [box]
    assert masks(tmp_path).sum() == area


@pytest.mark.parametrize("radius", [1, 2, 5, 7.5])
def test_a_circle_is_given_by_its_center_and_a_point_on_it(tmp_path, radius):
    write(tmp_path, "a", shape([[10, 8], [10 + radius, 8]], "circle"))
    y, x = np.mgrid[:16, :20] + 0.5
    disc = np.hypot(x - 10, y - 8) < radius
    found = masks(tmp_path)[0].numpy()
    assert (found & disc).sum() / (found | disc).sum() > 0.75


def test_shapes_of_one_group_and_label_are_one_object(tmp_path, caplog):
    far = [[x + 8, y] for x, y in SQUARE]
    dot = shape([[16, 10], [17, 11]], "mask", "cell", 1, mask=png(np.ones((2, 2), bool)))
    write(tmp_path, "a", shape(group=1), shape(far, group=1), dot, shape(far, label="dog", group=1), shape(group=2))
    with caplog.at_level("WARNING", "sam_ft"):
        sample = Labelme(tmp_path, val_fraction=1).split("val")[0]
    assert not caplog.records
    assert sample.masks.boxes().tolist() == [[1, 1, 18, 12], [9, 1, 12, 4], [1, 1, 4, 4]]
    assert sample.labels.tolist() == [1, 2, 1]
    assert dense(sample.masks)[0].sum() == 9 + 9 + 4


def test_labels_have_the_same_number_in_both_splits(messages, tmp_path):
    write(tmp_path / "train", "a", shape(label="dog"))
    write(tmp_path / "valid", "b", shape(label="cat"), shape(label="dog"))
    data = Labelme(tmp_path)
    assert data.split("train").classes == data.split("val").classes == {1: "cat", 2: "dog"}
    assert data.split("train")[0].labels.tolist() == [2]
    chosen = Labelme(tmp_path, categories=["dog"]).split("val")
    assert chosen[0].labels.tolist() == [2]
    messages.refusal(lambda: Labelme(tmp_path, categories=["cow"]).split("val"), "cow", "cat, dog", "data.categories")
    (tmp_path / "train").rename(tmp_path / "tran")
    messages.refusal(lambda: Labelme(tmp_path).split("val"), tmp_path, "valid", "train")


def test_a_folder_is_split_by_the_names(tmp_path):
    for name in "abcdefgh":
        write(tmp_path, name, shape())
    data = Labelme(tmp_path, val_fraction=0.4)
    train, val = data.split("train"), data.split("val")
    assert sorted(train.names + val.names) == list("abcdefgh")
    assert train.survey().objects == len(train)


@pytest.mark.parametrize("shapes", [[], None])
def test_an_image_may_have_no_shapes(tmp_path, shapes):
    write(write(tmp_path, "a"), "b", shape())
    (tmp_path / "a.json").write_text(json.dumps({"imagePath": "a.png", "shapes": shapes}))
    survey = Labelme(tmp_path, val_fraction=1).split("val").survey()
    assert (survey.images, survey.objects, survey.empty) == (2, 1, ["a"])


def test_images_that_are_only_within_their_json_are_named_so(messages, tmp_path, caplog):
    write(tmp_path, "a", shape(), imageData=png(np.ones(SIZE, bool)))
    write(tmp_path, "b", shape())
    (tmp_path / "a.png").unlink()
    messages.refusal(Labelme(tmp_path, val_fraction=1).split("val").survey, "a.png", "imageData", "data.missing=skip")
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        assert Labelme(tmp_path, val_fraction=1, missing="skip").split("val").names == ["b"]
    messages.logged(caplog, "a.png", "imageData")


def test_hidden_files_and_folders_are_not_read(tmp_path):
    write(tmp_path, "A", shape())
    (tmp_path / "A.json").rename(tmp_path / "A.JSON")
    for name in (".vscode/settings.json", ".ipynb_checkpoints/A-checkpoint.json", ".hidden.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("[]")
    assert boxes(tmp_path) == [[1, 1, 4, 4]]


@pytest.mark.parametrize(("groups", "objects"), [([0, 0], 2), ([-1, -1], 2), (["", ""], 4), ([None, 0], 4)])
def test_one_group_in_all_shapes_is_warned_of(messages, tmp_path, caplog, groups, objects):
    far = [[x + 8, y] for x, y in SQUARE]
    for name in "ab":
        write(tmp_path, name, shape(group=groups[0]), shape(far, group=groups[1]))
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        split = Labelme(tmp_path, val_fraction=1).split("val")
    assert split.survey().objects == objects
    if objects == 4:
        assert not caplog.records
    else:
        messages.logged(caplog, f"group_id {groups[0]}", "a.json, b.json")
        assert any("group_id" in issue.problem for issue in split.json_issues())


def test_a_json_that_names_the_image_of_another_one_is_warned_of(messages, tmp_path, caplog):
    write(tmp_path, "a", shape(), imagePath="b.png")
    write(tmp_path, "b", shape(), imagePath="a.png")
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        assert Labelme(tmp_path, val_fraction=1).split("val").content.files == ["b.png", "a.png"]
    messages.logged(caplog, "imagePath", "a.json (b.png), b.json (a.png)")


def test_an_image_of_another_folder_is_no_substitute_where_images_lie_beside_the_json(messages, tmp_path):
    write(tmp_path, "one/a", shape(), image="two/a.png")
    write(tmp_path, "one/b", shape())
    messages.refusal(Labelme(tmp_path, val_fraction=1).split("val").survey, "a.png", "no file")


@pytest.mark.parametrize(
    ("name", "image", "path"),
    [
        ("json/a", "images/a.png", "a.png"),
        ("json/a", "images/deep/b.png", "../old/b.png"),
        ("json/a", "images/a.jpg", "a.png"),
        ("a", "a.png", "C:\\pictures\\a.png"),
        ("a", "a.png", "../other/old name.png"),
        ("json/a", "images/b.png", "..\\images\\b.png"),
        ("one/a", "one/a.jpg", "a.jpg"),
        ("a", "a.png", None),
    ],
)
def test_the_image_is_found_by_its_path_or_by_the_name_of_its_json(tmp_path, name, image, path):
    write(tmp_path, name, shape(), image=image, imagePath=path)
    (split,) = [Labelme(tmp_path, val_fraction=1).split("val")]
    assert split.content.files == [image]
    assert split.survey().objects == 1


def test_sizes_that_are_missing_are_those_of_the_file(tmp_path):
    write(tmp_path, "a", shape(), imageHeight=None, imageWidth=None)
    assert boxes(tmp_path) == [[1, 1, 4, 4]]


def test_a_gap_in_the_masks_is_left_out_with_a_warning(messages, tmp_path, caplog):
    line = shape([[1, 1], [4, 4]], "linestrip")
    grouped = shape([[0, 0], [2, 0], [2, 2], [0, 2]], group=3)
    write(tmp_path, "a", shape(), shape([[2, 2]], "point"), line, grouped, shape(kind="line", group=3))
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        assert len(boxes(tmp_path)) == 2
    messages.logged(caplog, "2 annotations", "a.json: shape 1, a.json: shape 2")


def test_all_faults_are_listed_in_one_error(messages, tmp_path):
    write(
        tmp_path,
        "a",
        shape([[1, 1], [2]]),
        shape(None),
        shape([[1, 1], [4, 1]]),
        shape([[1, 1]], "circle"),
        shape(kind="star"),
        shape([[1, 1], [2, 2]], "mask", mask="no"),
        shape([[1, 1], [2, 2]], "mask", mask=png(np.ones((99, 3), bool))),
        shape([[90, 90], [92, 92]], "mask", mask=png(np.ones((3, 3), bool))),
        {"points": SQUARE},
        "no shape",
    )
    write(tmp_path, "b", shape(), size=(3, 3))
    write(tmp_path, "c", shape(), imagePath="gone.png")
    (tmp_path / "c.png").unlink()
    message = messages.refusal(
        Labelme(tmp_path, val_fraction=1).split("val").survey, "1 of 3 images", "9 of 12 annotations", "gone.png"
    )
    assert "b.png: " in message
    assert Labelme(tmp_path, val_fraction=1, missing="skip").split("val").names == ["a", "b"]


@pytest.mark.parametrize("content", ["{", "[]", '{"images": [], "annotations": []}', '{"a": 1}', None])
def test_a_file_of_another_kind_is_named(messages, tmp_path, content):
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    messages.refusal(lambda: Labelme(tmp_path).split("train"), tmp_path if content is None else tmp_path / "a.json")


def test_a_folder_that_is_not_there_is_named(messages, tmp_path):
    messages.refusal(lambda: Labelme(tmp_path / "none"), tmp_path / "none", "data.root")


def test_objects_are_the_same_without_pixels(tmp_path):
    split = Labelme(write(tmp_path, "a", shape()), val_fraction=1).split("val")
    assert torch.equal(dense(split.annotations(0).masks), dense(split[0].masks))
