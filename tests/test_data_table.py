"""Each row of the table "You have, you type" of docs/data.md reads data of that kind."""

import base64
import io
import json
import re
import shlex

import hydra
import numpy as np
import pytest
from PIL import Image

from sam_ft.cli.config import build
from sam_ft.cli.hints import CONF
from sam_ft.data.splits import open_splits, survey_splits
from sam_ft.types import dense
from tests.support.cli import ROOT

SQUARES = np.zeros((12, 16), np.uint8)
SQUARES[1:5, 1:5] = 1
SQUARES[6:10, 8:13] = 2
POLYGONS = [[1, 1, 5, 1, 5, 5, 1, 5], [8, 6, 13, 6, 13, 10, 8, 10]]
NAMES = "abcdef"


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def picture(path):
    save(path, np.full((12, 16, 3), sum(map(ord, str(path.name))) % 256, np.uint8))


def pairs(root, image="images/{}.png", *masks):
    """Images of NAMES and their masks: (path, values) each."""
    for name in NAMES:
        picture(root / image.format(name))
        for path, values in masks:
            save(root / path.format(name), values)


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def coco(images, folder, categories=("person", "dog"), missing=()):
    """A COCO file of images with both squares, a person and a dog."""
    for name in set(images) - set(missing):
        picture(folder / name)
    return {
        "images": [{"id": key, "file_name": name, "height": 12, "width": 16} for key, name in enumerate(images)],
        "annotations": [
            {"id": 2 * key + place, "image_id": key, "category_id": place, "segmentation": [polygon], "iscrowd": 0}
            for key in range(len(images))
            for place, polygon in enumerate(POLYGONS)
        ],
        "categories": [{"id": key, "name": name} for key, name in enumerate(categories)],
    }


def folders(root):
    pairs(root, "images/{}.png", ("masks/{}.png", np.uint8(255) * (SQUARES > 0)))


def suffixes(root):
    pairs(root, "images/{}.png", ("masks/{}_mask.png", np.uint8(255) * (SQUARES > 0)))


def one_folder(root):
    squares = [np.uint8(255) * (number == SQUARES) for number in (1, 2)]
    pairs(root, "{}.png", ("{}_mask.png", squares[0]), ("{}_mask_1.png", squares[1]))


def bowl(root):
    squares = [np.uint8(255) * (number == SQUARES) for number in (1, 2)]
    pairs(root, "{0}/images/{0}.png", ("{0}/masks/17.png", squares[0]), ("{0}/masks/5.png", squares[1]))


def patients(root):
    pairs(root, "images/p{0}/{0}.png", ("masks/p{0}/{0}.png", np.uint8(255) * (SQUARES > 0)))


def ids(root):
    pairs(root, "images/{}.png", ("masks/{}.png", SQUARES))
    np.save(root / "masks/a.npy", SQUARES)
    (root / "masks/a.png").unlink()


def cities(root):
    pairs(root, "images/{}.png", ("masks/{}.png", np.array([7, 24, 26], np.uint8)[SQUARES]))


def trimaps(root):
    pairs(root, "images/{}.png", ("masks/{}.png", np.array([2, 1, 3], np.uint8)[SQUARES]))


def coco_pair(root):
    text(root / "annotations/instances_train2017.json", coco(["a.jpg", "b.jpg"], root / "train2017"))
    text(root / "annotations/instances_val2017.json", coco(["c.jpg"], root / "val2017"))


def coco_single(root):
    names = [f"{name}.png" for name in NAMES]
    text(root / "annotations/instances_default.json", coco(names, root / "images/default"))


def coco_part(root):
    text(root / "train.json", coco(["a.png", "b.png", "c.png"], root / "train", missing=["b.png", "c.png"]))
    text(root / "val.json", coco(["d.png"], root / "val"))


def coco_categories(root):
    text(root / "train.json", coco(["a.png"], root / "train", ("person", "tree")))
    text(root / "val.json", coco(["d.png"], root / "val", ("dog", "person")))
    for file in ("train.json", "val.json"):
        content = json.loads((root / file).read_text())
        content["categories"] = [{"id": 0, "name": "person"}, {"id": 1, "name": "tree"}, {"id": 2, "name": "dog"}]
        text(root / file, content)


def sa1b(root):
    for name in NAMES:
        content = coco([f"{name}.png"], root / "sa")
        text(root / f"sa/{name}.json", {"image": content["images"][0], "annotations": content["annotations"]})


def labelme(root):
    for name in NAMES:
        picture(root / f"{name}.png")
        file = io.BytesIO()
        Image.fromarray(np.ones((4, 5), bool)).save(file, "PNG")
        shapes = [
            {"label": "cell", "points": [[1, 1], [5, 5]], "shape_type": "rectangle"},
            {
                "label": "cell",
                "points": [[8, 6], [12, 9]],
                "shape_type": "mask",
                "mask": base64.b64encode(file.getvalue()).decode(),
            },
        ]
        content = {"shapes": shapes, "imagePath": f"{name}.png", "imageHeight": 12, "imageWidth": 16}
        text(root / f"{name}.json", content)


def yolo(root):
    lines = [
        " ".join(f"{value / (12 if place % 2 else 16):.6f}" for place, value in enumerate(points))
        for points in POLYGONS
    ]
    for folder, name in (("train", "a"), ("valid", "b")):
        picture(root / folder / f"images/{name}.jpg")
        text(root / folder / f"labels/{name}.txt", "".join(f"0 {line}\n" for line in lines))
    text(root / "data.yaml", "train: ../train/images\nval: ../valid/images\nnames: ['cell']\n")


def table(root):
    folders(root)
    rows = [f"images/{name}.png,masks/{name}.png,{'val' if name in 'ab' else 'train'}" for name in NAMES]
    text(root / "cells.csv", "\n".join(["image,mask,split", *rows]))


def columns(root):
    table(root)
    text(root / "cells.csv", (root / "cells.csv").read_text().replace("image,mask,split", "file,truth,fold"))


def run_lengths(root, image="ImageId", mask="EncodedPixels", rows=False):
    values = SQUARES if rows else SQUARES.T
    lines = []
    for name in NAMES:
        picture(root / f"train/{name}.png")
        for number in (1, 2):
            places = np.flatnonzero(values == number) + 1
            lines.append(f"{name}.png,{' '.join(f'{place} 1' for place in places)}")
    text(root / "train.csv", "\n".join([f"{image},{mask}", *lines]))


def runs_along_rows(root):
    run_lengths(root, "id", "annotation", rows=True)


# What is typed: a function that writes such data, objects in both splits, and the covered pixels of each image.
BOTH, SECOND = 16 + 20, 20
MADE = {
    "data=folder data.root=DIR": (folders, 6, BOTH),
    "data=folder data.root=DIR data.mask_suffix=_mask": (suffixes, 6, BOTH),
    "data=folder data.root=DIR data.image_folder=. data.mask_folder=. data.mask_suffix=_mask": (one_folder, 12, BOTH),
    "data=folder data.root=DIR data.pair_by=folder": (bowl, 12, BOTH),
    "data=folder data.root=DIR data.recursive=true": (patients, 6, BOTH),
    "data=folder data.root=DIR data.objects=components": (folders, 12, BOTH),
    "data=folder data.root=DIR data.objects=instances": (ids, 12, BOTH),
    "data=folder data.root=DIR data.objects=classes 'data.classes={person: 24, car: 26}' data.other=background": (
        cities,
        12,
        BOTH,
    ),
    "data=folder data.root=DIR data.objects=classes 'data.classes={pet: 1}' data.background=2 data.ignore_index=3": (
        trimaps,
        6,
        BOTH - SECOND,
    ),
    "data=coco data.root=DIR": (coco_pair, 6, BOTH),
    "data=coco data.root=DIR data.val_fraction=0.3": (coco_single, 12, BOTH),
    "data=coco data.root=DIR data.missing=skip": (coco_part, 4, BOTH),
    "data=coco data.root=DIR 'data.categories=[person,dog]'": (coco_categories, 2, BOTH - SECOND),
    "data=coco data.root=DIR data.val_fraction=0.4": (sa1b, 12, BOTH),
    "data=labelme data.root=DIR": (labelme, 12, BOTH),
    "data=yolo data.root=DIR": (yolo, 4, BOTH),
    "data=csv data.table=DIR/cells.csv": (table, 6, BOTH),
    "data=csv data.table=DIR/cells.csv data.image_column=file data.mask_column=truth data.split_column=fold": (
        columns,
        6,
        BOTH,
    ),
    "data=csv data.table=DIR/train.csv data.image_column=ImageId data.mask_column=EncodedPixels": (
        run_lengths,
        12,
        BOTH,
    ),
    "data=csv data.table=DIR/train.csv data.image_column=id data.mask_column=annotation data.run_order=rows": (
        runs_along_rows,
        12,
        BOTH,
    ),
}


def rows_of_the_table():
    """What is typed, of each row."""
    page = (ROOT / "docs/data.md").read_text()
    section = page.partition("## You have, you type\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]  # without the header
    return [re.findall(r"`([^`]+)`", line)[-1] for line in lines]


def test_the_table_has_a_row_for_each_kind_of_data_that_is_made_here():
    rows = rows_of_the_table()
    assert len(rows) == len(set(rows)) >= 20
    assert set(rows) == set(MADE)


@pytest.mark.parametrize("typed", MADE)
def test_a_row_reads_data_of_its_kind(tmp_path, typed):
    write, objects, covered = MADE[typed]
    write(tmp_path)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("train", shlex.split(typed.replace("DIR", str(tmp_path))))
    splits = survey_splits(*open_splits(build(cfg.data)))
    samples = [split[index] for split in (splits.train, splits.val) for index in range(len(split))]
    assert sum(len(sample.masks) for sample in samples) == objects
    assert {int(dense(sample.masks).any(0).sum()) for sample in samples} == {covered}
