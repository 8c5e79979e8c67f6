"""Cases that people reported elsewhere: `python -m tests.cases FOLDER` reads each and compares it with its right value.

The pictures show bright ellipses on a dark ground, so the objects are the bright pixels. A row is right if the objects
are these, and as many as expected, and if both the start of training and the check say what the row expects of them.
"""

import contextlib
import io
import logging
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import hydra
import numpy as np

from sam_ft.check.dataset import check_dataset
from sam_ft.check.formatting import as_text
from sam_ft.cli.config import build
from sam_ft.cli.hints import CONF
from sam_ft.data.splits import open_splits, survey_splits
from sam_ft.predictor import Predictor
from sam_ft.types import dense
from sam_ft.utils.errors import UserError
from tests.support.tiny import tiny_sam

CLOSE = 0.8  # IoU of the objects and the bright pixels; polygons through the outermost pixels have 0.9


@dataclass(frozen=True)
class Case:
    """A case, the settings that are typed, and the right value.

    folder: of the case · typed: settings, in which ROOT is the folder
    objects: number in train and val together, None if only the texts count · images: number of both, if it matters
    says: patterns in the log or error of a start of training, and in the report of the check
    close: IoU of the objects and the bright pixels, less where not all of them are objects
    """

    folder: str
    typed: str
    objects: int | None = None
    images: int | None = None
    says: tuple[str, ...] = ()
    close: float = CLOSE

    @property
    def expected(self) -> str:
        count = [] if self.objects is None else [f"{self.objects} objects, the bright pixels"]
        images = [] if self.images is None else [f"{self.images} images"]
        return ", ".join([*count, *images, *(f"says {text!r}" for text in self.says)])


FOLDER = "data=folder data.root=ROOT"
COCO = "data=coco data.root=ROOT"
CSV = "data=csv data.table=ROOT/t.csv"
KAGGLE = "data=csv data.table=ROOT/train.csv data.image_column=ImageId data.mask_column=EncodedPixels"
CITIES = f"{FOLDER} data.objects=classes 'data.classes={{person: 24, car: 26}}'"
PETS = f"{FOLDER} data.objects=classes 'data.classes={{pet: 1}}' data.background=2 data.ignore_index=3"
BUSI = f"{FOLDER} data.image_folder=benign data.mask_folder=benign"
COLORS = f"{FOLDER} data.objects=classes 'data.classes={{a: [128, 0, 0], b: [0, 128, 0]}}'"
CASES = [
    # 1. silently wrong
    Case("gif_of_rgb_mask", FOLDER, 6),
    Case("palette_quantized", FOLDER, 6),
    Case("fiji_inverting_lut", FOLDER, 6),
    Case("inverted_masks", FOLDER, says=("data.invert",)),
    Case("inverted_masks", f"{FOLDER} data.invert=true", 6),
    Case("alpha_masks_white", FOLDER, 6),
    Case("alpha_masks_black", FOLDER, 6),
    Case("cvat_iscrowd_mixed", COCO, says=("crowd", "data.crowds")),
    Case("cvat_iscrowd_mixed", f"{COCO} data.crowds=objects", 18),
    Case("geotiff_nodata_float", FOLDER, 6),
    Case("geotiff_nodata_float", f"{FOLDER} data.objects=components", 18),
    Case("voc_void_as_instance", f"{FOLDER} data.objects=instances", says=("255", "data.ignore_index=255")),
    Case("voc_void_as_instance", f"{FOLDER} data.objects=instances data.ignore_index=255", 18),
    Case("binary_as_instances", f"{FOLDER} data.objects=instances", says=("data.objects=components",)),
    Case("binary_as_instances", f"{FOLDER} data.objects=components", 18),
    Case("pet_trimap", f"{FOLDER} data.objects=instances", says=("background|trimap",)),
    Case("pet_trimap", PETS, 6),
    Case("coco_duplicate_annotations", COCO, 18, says=("repeat|equal|identical",)),
    Case("same_folder_grey", f"{FOLDER} data.image_folder=data data.mask_folder=data", says=("own mask|same folder",)),
    # 2. tracebacks
    Case("kaggle_rle_csv", KAGGLE, 18, 6, ("down the columns",)),
    Case("list_utf16", FOLDER, 6, 6),
    Case("csv_tilde", f"{CSV} data.val_fraction=0.5", 2, 2),
    Case("csv_tilde", "data=folder 'data.root=\"~cells\"'", says=("~cells: is not a folder",)),
    Case("csv_tilde", "data=coco 'data.root=\"~cells/set\"'", says=("~cells/set: is not a folder",)),
    # 3. unclear errors
    Case("cvat_iscrowd_all", COCO, says=("crowd", "data.crowds=objects")),
    Case("cvat_iscrowd_all", f"{COCO} data.crowds=objects", 18),
    Case("coco_normalised_polygons", COCO, says=("between 0 and 1", "width")),
    Case("npy_masks", FOLDER, 6),
    Case("yolo_seg", f"{FOLDER} data.image_folder=images data.mask_folder=labels", says=("data=yolo",)),
    Case("yolo_seg", "data=yolo data.root=ROOT", 18, 6),
    Case("unknown_suffix", FOLDER, 6),
    Case("nfd_nfc_names", FOLDER, 6),
    Case("nested_patients", FOLDER, says=("data.recursive=true",)),
    Case("nested_patients", f"{FOLDER} data.recursive=true", 6),
    Case("busi_one_folder", BUSI, says=("mask_suffix=_mask",)),
    Case("busi_one_folder", f"{BUSI} data.mask_suffix=_mask", 18, 6),
    Case("labelme_json", f"{FOLDER} data.image_folder=data data.mask_folder=data", says=("data=labelme",)),
    Case("labelme_json", "data=labelme data.root=ROOT", 18, 6),
    Case("labelstudio_backslash", COCO, 18, 6),
    Case("csv_backslash", CSV, 6, 6),
    Case("lvis_no_file_name", COCO, 18, 6),
    Case("instance_random_colours", f"{FOLDER} data.objects=instances", 18),
    Case("antialiased_class_colours", COLORS, says=("blended|anti-aliasing",)),
    Case("coco_numeric_class_names", f"{COCO} data.categories=[1]", 6, close=0.2),
    Case("coco_ids_all_zero", COCO, 18, 6, ("share their id",)),
    Case("few_images_split", FOLDER, 6, 6),
    Case("coco_no_categories", COCO, 18, 6),
    Case("list_paths", FOLDER, 6, 6),
    # 4. missing support
    Case("mask_suffix", FOLDER, says=("data.mask_suffix=_segmentation",)),
    Case("mask_suffix", f"{FOLDER} data.mask_suffix=_segmentation", 6, 6),
    Case("dsb_layout", f"{FOLDER}/stage1_train data.pair_by=folder", 18, 6),
    Case("coco_one_json", COCO, 18, 6),
    Case("coco_one_json", f"{COCO} data.val_fraction=0.5", 18, 6),
    Case("coco_subset_of_images", COCO, says=("data.missing=skip",)),
    Case("coco_subset_of_images", f"{COCO} data.missing=skip", 18, 6, ("4 images|4 of 8",)),
    Case("cityscapes_ids", CITIES, says=("data.other=background",)),
    Case("cityscapes_ids", f"{CITIES} data.other=background", 12),
    Case("sa1b_json", COCO, 18, 6),
    Case("sa1b_json", f"{COCO}/data", 18, 6),
    Case("csv_test_rows", CSV, 5, 5, ("1 rows? .*test",)),
    Case("chw_tiff", FOLDER, says=("data.channels",)),
    Case("chw_tiff", f"{FOLDER} data.channels=[0,1,2]", 6),
    Case("imagej_composite_2ch", FOLDER, says=("data.channels",)),
    Case("imagej_composite_2ch", f"{FOLDER} data.channels=[0]", 6),
    Case("float32_labels", f"{FOLDER} data.objects=instances", 18),
    Case("binary_16bit_65535", FOLDER, 6),
]


PROMPTS = {
    "boxes in 0..1": {"boxes": [[0.1, 0.2, 0.6, 0.8]]},
    "points in 0..1": {"points": [[[0.3, 0.4]]], "point_labels": [[1]]},
    "a point outside": {"points": [[[300, 40]]], "point_labels": [[1]]},
    "a point label of 5": {"points": [[[30, 40]]], "point_labels": [[5]]},
}


@dataclass
class Found:
    """What a case gives: counts and the IoU of each image, and the texts of training and check."""

    objects: int = 0
    ious: list[float] = field(default_factory=list)
    train: str = ""
    check: str = ""
    refused: bool = False

    @property
    def got(self) -> str:
        counts = f"{self.objects} objects in {len(self.ious)} images, IoU {np.mean(self.ious or [0]):.2f}"
        return "refused" if self.refused else counts


def read_case(root: Path, case: Case) -> Found:
    """Opens the data of a case as train.py and the check do."""
    found, log = Found(), io.StringIO()
    handler = logging.StreamHandler(log)
    logger = logging.getLogger("sam_ft")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        data = build_data(root, case)
        splits = survey_splits(*open_splits(data))
        for split in (splits.train, splits.val):
            for sample in (split[index] for index in range(len(split))):
                found.objects += len(sample.masks)
                found.ious.append(iou_with_bright(sample))
    except UserError as error:
        found.refused = True
        log.write(str(error))
    finally:
        logger.removeHandler(handler)
    found.train = log.getvalue()
    try:
        found.check = as_text(check_dataset(build_data(root, case), 256))
    except UserError as error:
        found.check = str(error)
    return found


def build_data(root: Path, case: Case):
    typed = [part.strip("'") for part in re.findall(r"(?:[^\s']|'[^']*')+", case.typed.replace("ROOT", str(root)))]
    typed = [part.replace("'", "") for part in typed]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return build(hydra.compose("check", typed).data)


def iou_with_bright(sample) -> float:
    """IoU of the union of the objects with the bright pixels of the picture as it is read, without ignored ones."""
    gray = cv2.GaussianBlur(sample.image.numpy().mean(0).astype(np.uint8), (0, 0), 1)
    bright = gray > cv2.threshold(gray, 0, 255, cv2.THRESH_OTSU)[0]
    union = dense(sample.masks).any(0).numpy() if len(sample.masks) else np.zeros(gray.shape, bool)
    counted = np.ones(gray.shape, bool) if sample.ignore is None else ~sample.ignore.numpy()
    return float((union & bright & counted).sum() / max(((union | bright) & counted).sum(), 1))


def is_right(case: Case, found: Found) -> bool:
    said = all(re.search(text, own, re.I) for text in case.says for own in (found.train, found.check))
    if case.objects is None:
        return said
    images = case.images is None or len(found.ious) == case.images
    return said and not found.refused and found.objects == case.objects and images and min(found.ious) > case.close


def print_prompt(name: str, prompt: dict) -> bool:
    """Prints the row of a prompt that the Predictor should refuse, and returns whether it does."""
    image = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    try:
        Predictor(tiny_sam()).predict(image, **prompt)
        refused, got = False, "masks"
    except ValueError as error:
        refused, got = True, f"ValueError: {error}"
    print(f"{'ok  ' if refused else 'FAIL'} Predictor, {name} | ValueError | {got}")
    return refused


def main(folder: Path) -> int:
    """Prints case | expected | got, and returns the number of rows that are wrong."""
    if not folder.is_dir():
        print(f"{folder}: is not there; skipped")
        return 0
    wrong = 0
    for case in CASES:
        if not (folder / case.folder).is_dir():
            print(f"{case.folder} | {case.expected} | skipped: is not there")
            continue
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                found = read_case(folder / case.folder, case)
            right, got = is_right(case, found), found.got
            if not right and (found.train or found.refused):
                got += f": {' '.join(found.train.split())[:300]}"
        except Exception as error:  # a traceback is a wrong row too
            right, got = False, f"{type(error).__name__}: {error}"
        wrong += not right
        print(f"{'ok  ' if right else 'FAIL'} {case.folder} [{case.typed}] | {case.expected} | {got}", flush=True)
    wrong += sum(not print_prompt(name, prompt) for name, prompt in PROMPTS.items())
    print(f"{wrong} of {len(CASES) + len(PROMPTS)} rows are wrong")
    return wrong


if __name__ == "__main__":
    sys.exit(min(main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/cases")), 1))
