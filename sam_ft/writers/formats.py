"""The formats by name: where their files lie, and what writes them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sam_ft.utils.errors import ConfigError
from sam_ft.writers.coco import merge_coco, write_coco
from sam_ft.writers.geojson import write_geojson
from sam_ft.writers.instances import Instances
from sam_ft.writers.labelme import write_labelme
from sam_ft.writers.labels import write_labels
from sam_ft.writers.overlay import write_overlay
from sam_ft.writers.rois import write_rois
from sam_ft.writers.table import merge_tables, write_table
from sam_ft.writers.yolo import write_data_yaml, write_yolo


@dataclass(frozen=True)
class Format:
    """A format of result files.

    An image has one file, `folder`/NAME`suffix` below the output folder, which is there in full or not at all. After
    the last image `finish` writes `summary` from the files of all images: path, these files in order, classes.
    """

    folder: str
    suffix: str
    write: Callable[[Path, Instances], None]
    summary: str | None = None
    finish: Callable[[Path, Sequence[Path], Mapping[int, str]], None] | None = None

    def path(self, output: Path, name: str) -> Path:
        """The file of the image of this name."""
        return output / self.folder / f"{name}{self.suffix}"


FORMATS = {
    "labels": Format("labels", ".tif", write_labels),
    "labels_uint32": Format("labels_uint32", ".tif", partial(write_labels, dtype="uint32")),
    "coco": Format("coco", ".json", write_coco, "coco.json", merge_coco),
    "overlay": Format("overlay", ".png", write_overlay),
    "table": Format("table", ".csv", write_table, "table.csv", merge_tables),
    "geojson": Format("geojson", ".geojson", write_geojson),
    "yolo": Format("yolo/labels", ".txt", write_yolo, "yolo/data.yaml", write_data_yaml),
    "labelme": Format("labelme", ".json", write_labelme),
    "rois": Format("rois", ".zip", write_rois),
}


def check_formats(names: Sequence[str]) -> None:
    """Raises: ConfigError when a format is not known."""
    if unknown := [name for name in names if name not in FORMATS]:
        raise ConfigError(f"save={','.join(unknown)} is not known; expected some of {', '.join(FORMATS)}")


def write_results(output: Path, names: Sequence[str], instances: Instances) -> None:
    """Writes the files of one image in the formats `names`."""
    for name in names:
        FORMATS[name].write(FORMATS[name].path(output, instances.name), instances)


def remove_results(output: Path, images: Sequence[str]) -> None:
    """Removes the files of all formats, of the images of these names and about all images."""
    for one in FORMATS.values():
        summaries = [output / one.summary] if one.summary is not None else []
        for path in (*(one.path(output, image) for image in images), *summaries):
            path.unlink(missing_ok=True)


def finish_results(output: Path, names: Sequence[str], images: Sequence[str], classes: Mapping[int, str]) -> None:
    """Writes the files about all images in the formats `names`, from the files of each image, in the given order."""
    for name in names:
        one = FORMATS[name]
        if one.summary is not None and one.finish is not None:
            one.finish(output / one.summary, [one.path(output, image) for image in images], classes)
