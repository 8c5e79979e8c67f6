"""COCO instance annotations with run lengths, which keep holes, parts and overlaps."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pycocotools import mask as rle

from sam_ft.utils.files import as_json, atomic_path, write_atomic
from sam_ft.writers.instances import Instances


def write_coco(path: Path, instances: Instances) -> None:
    """Writes the annotations of one image as a COCO file of its own, so that a run that was killed can continue."""
    height, width = instances.size
    annotations = []
    scores, labels = instances.short_scores(), instances.labels.tolist()
    for number, (counts, score, label) in enumerate(zip(instances.masks.counts, scores, labels, strict=True), 1):
        one = {"size": [height, width], "counts": counts}
        annotations.append(
            {
                "id": number,
                "image_id": 1,
                "category_id": label,
                "segmentation": {**one, "counts": counts.decode()},
                "area": int(rle.area(one)),
                "bbox": [int(side) for side in rle.toBbox(one)],  # x, y, width, height
                "iscrowd": 0,
                "score": score,
            }
        )
    image = {"id": 1, "file_name": instances.file, "width": width, "height": height}
    content = {"images": [image], "categories": _categories(instances.classes), "annotations": annotations}
    write_atomic(path, as_json(content) + "\n")


def merge_coco(path: Path, parts: Sequence[Path], classes: Mapping[int, str]) -> None:
    """Merges the files of several images, with images and annotations numbered in the order of `parts`.

    Only one part is in memory at a time.
    """
    images: list[dict] = []
    count = 0
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(b'{"annotations": [')
        for image_id, part in enumerate(parts, 1):
            content = json.loads(part.read_bytes())
            images += [{**image, "id": image_id} for image in content["images"]]
            for annotation in content["annotations"]:
                count += 1
                line = as_json({**annotation, "id": count, "image_id": image_id})
                file.write(f"{',' if count > 1 else ''}\n{line}".encode())
        tail = {"images": images, "categories": _categories(classes)}
        file.write(b"\n], " + as_json(tail).removeprefix("{").encode() + b"\n")


def _categories(classes: Mapping[int, str]) -> list[dict]:
    return [{"id": label, "name": name} for label, name in sorted(classes.items())]
