"""Which file is the mask of which image, and the settings that are proposed where none pair."""

import re
import unicodedata

import numpy as np
import pytest

from sam_ft.data.sources.folder import Folder
from sam_ft.data.sources.folder_files import find_files
from sam_ft.data.sources.layout import Layout
from sam_ft.data.sources.proposals import propose_layout
from sam_ft.types import dense
from tests.support.cli import ROOT
from tests.support.files import MASK, save


def write(root, *files):
    """An empty file for each path; names alone decide the pairs."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def masks_of(root, **options):
    """{name: paths of the masks below root} of the images that pair."""
    files = find_files(root, Layout(**options))
    assert files.pairs == files.names, "all files pair"
    return {name: [str(mask.relative_to(root)) for mask in files.masks[name]] for name in files.names}


# The files, the settings that pair them, and the masks of each name.
LAYOUTS = {
    "a suffix": (
        ["images/a.jpg", "images/b.jpg", "masks/a_mask.png", "masks/b_mask.png"],
        {"mask_suffix": "_mask"},
        {"a": ["masks/a_mask.png"], "b": ["masks/b_mask.png"]},
    ),
    "a suffix with dots": (
        ["images/a.v1.jpg", "images/a.v2.jpg", "masks/a.v1.seg.png", "masks/a.v2.seg.png"],
        {"mask_suffix": ".seg"},
        {"a.v1": ["masks/a.v1.seg.png"], "a.v2": ["masks/a.v2.seg.png"]},
    ),
    "the whole name of the image": (
        ["images/a.jpg", "images/b.jpg", "masks/a.jpg.png", "masks/b.jpg.png"],
        {"mask_suffix": ".jpg"},
        {"a": ["masks/a.jpg.png"], "b": ["masks/b.jpg.png"]},
    ),
    "a prefix": (
        ["images/1.png", "images/11.png", "masks/mask_1.png", "masks/mask_11.png"],
        {"mask_prefix": "mask_"},
        {"1": ["masks/mask_1.png"], "11": ["masks/mask_11.png"]},
    ),
    "both sides have a prefix": (
        ["images/frame_10.png", "images/frame_11.png", "masks/mask_10.png", "masks/mask_11.png"],
        {"image_prefix": "frame_", "mask_prefix": "mask_"},
        {"10": ["masks/mask_10.png"], "11": ["masks/mask_11.png"]},
    ),
    "both sides have a suffix": (
        [
            "images/a_1_leftImg8bit.png",
            "masks/a_1_gtFine_labelIds.png",
            "images/b_2_leftImg8bit.png",
            "masks/b_2_gtFine_labelIds.png",
        ],
        {"image_suffix": "_leftImg8bit", "mask_suffix": "_gtFine_labelIds"},
        {"a_1": ["masks/a_1_gtFine_labelIds.png"], "b_2": ["masks/b_2_gtFine_labelIds.png"]},
    ),
    "several masks": (
        ["images/a.png", "images/a_1.png", "masks/a_mask.png", "masks/a_mask_2.png", "masks/a_1_mask (1).png"],
        {"mask_suffix": "_mask"},
        {"a": ["masks/a_mask.png", "masks/a_mask_2.png"], "a_1": ["masks/a_1_mask (1).png"]},
    ),
    "several masks with numbers alone": (
        ["images/a.png", "images/b.png", "masks/a_0.png", "masks/a_1.png", "masks/b_0.png"],
        {"mask_suffix": "_*"},
        {"a": ["masks/a_0.png", "masks/a_1.png"], "b": ["masks/b_0.png"]},
    ),
    "a folder of masks for each image": (
        ["images/a.png", "images/b.png", "masks/a/x.png", "masks/a/y.png", "masks/b/x.png"],
        {"pair_by": "folder"},
        {"a": ["masks/a/x.png", "masks/a/y.png"], "b": ["masks/b/x.png"]},
    ),
    "a folder for each image": (
        ["id0/images/id0.png", "id0/masks/7f.png", "id0/masks/8e.png", "id1/images/id1.png", "id1/masks/9d.png"],
        {"pair_by": "folder"},
        {"id0": ["id0/masks/7f.png", "id0/masks/8e.png"], "id1": ["id1/masks/9d.png"]},
    ),
    "a folder for each image, without sub-folders": (
        ["s1/img.png", "s1/label.png", "s2/img.png", "s2/label.png"],
        {"image_folder": ".", "mask_folder": ".", "mask_prefix": "label", "pair_by": "folder"},
        {"s1": ["s1/label.png"], "s2": ["s2/label.png"]},
    ),
    "one folder": (
        [f"data/benign ({name}.png" for name in ("0)", "0)_mask", "0)_mask_1", "1)", "1)_mask")],
        {"image_folder": "data", "mask_folder": "data", "mask_suffix": "_mask"},
        {
            "benign (0)": ["data/benign (0)_mask.png", "data/benign (0)_mask_1.png"],
            "benign (1)": ["data/benign (1)_mask.png"],
        },
    ),
    "one folder, both with a suffix": (
        ["000_img.png", "000_masks.png", "001_img.png", "001_masks.png"],
        {"image_folder": ".", "mask_folder": ".", "image_suffix": "_img", "mask_suffix": "_masks"},
        {"000": ["000_masks.png"], "001": ["001_masks.png"]},
    ),
    "one folder, hashes in the names": (
        ["a_jpg.rf.0f3.jpg", "a_jpg.rf.0f3_mask.png", "b_png.rf.9c1.jpg", "b_png.rf.9c1_mask.png"],
        {"image_folder": ".", "mask_folder": ".", "mask_suffix": "_mask"},
        {"a_jpg.rf.0f3": ["a_jpg.rf.0f3_mask.png"], "b_png.rf.9c1": ["b_png.rf.9c1_mask.png"]},
    ),
    "masks beside the images": (
        ["a_img.tif", "a_img_cp_masks.png", "b_img.tif", "b_img_cp_masks.png"],
        {"image_folder": ".", "mask_folder": ".", "mask_suffix": "_cp_masks"},
        {"a_img": ["a_img_cp_masks.png"], "b_img": ["b_img_cp_masks.png"]},
    ),
    "arrays beside the images": (
        ["a.png", "a_seg.npy", "b.png", "b_seg.npy"],
        {"image_folder": ".", "mask_folder": ".", "mask_suffix": "_seg"},
        {"a": ["a_seg.npy"], "b": ["b_seg.npy"]},
    ),
    "a suffix of several dots that ends with a number": (
        ["images/a.png", "images/b.png", "masks/a.seg.v2.png", "masks/b.seg.v2.png"],
        {"mask_suffix": ".seg.v2"},
        {"a": ["masks/a.seg.v2.png"], "b": ["masks/b.seg.v2.png"]},
    ),
    "sub-folders": (
        ["images/p1/s0.png", "images/p2/s0.png", "masks/p1/s0.png", "masks/p2/s0.png"],
        {"recursive": True},
        {"p1/s0": ["masks/p1/s0.png"], "p2/s0": ["masks/p2/s0.png"]},
    ),
    "both folders in each sub-folder": (
        ["p1/images/s0.png", "p1/masks/s0.png", "p2/x/images/s0.png", "p2/x/masks/s0.png"],
        {"recursive": True},
        {"p1/s0": ["p1/masks/s0.png"], "p2/x/s0": ["p2/x/masks/s0.png"]},
    ),
    "one folder with sub-folders": (
        ["T1/T1_1.tif", "T1/T1_1_mask.tif", "T2/T2_1.tif", "T2/T2_1_mask.tif"],
        {"image_folder": ".", "mask_folder": ".", "mask_suffix": "_mask", "recursive": True},
        {"T1/T1_1": ["T1/T1_1_mask.tif"], "T2/T2_1": ["T2/T2_1_mask.tif"]},
    ),
    "names of folders": (
        ["imgs/a.png", "imgs/b.png", "labels/a.png", "labels/b.png"],
        {"image_folder": "imgs", "mask_folder": "labels"},
        {"a": ["labels/a.png"], "b": ["labels/b.png"]},
    ),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_each_layout_is_paired_by_its_settings(tmp_path, case):
    files, settings, expected = LAYOUTS[case]
    assert masks_of(write(tmp_path, *files), **settings) == expected


@pytest.mark.parametrize("case", LAYOUTS)
def test_the_settings_of_each_layout_are_proposed(tmp_path, case):
    files, settings, expected = LAYOUTS[case]
    proposal = propose_layout(write(tmp_path, *files), Layout())
    count = len(expected)
    assert proposal.startswith(f"{count} of {count} images pair with ")
    assert sorted(proposal.split(" with ")[1].split(" ")) == sorted(Layout(**settings).settings(Layout()))


def documented_layouts():
    """{the files of a row of docs/data.md: its settings}"""
    text = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    rows = [row.split(" | ") for row in text.split("| your files | settings |")[1].split("\n\n")[0].splitlines()[2:]]
    return {row: re.findall(r"data\.(\w+)=\"?([^\"'`\s]+)", settings) for row, settings in rows}


@pytest.mark.parametrize("row", documented_layouts())
def test_the_settings_in_the_documentation_pair_its_files(tmp_path, row):
    files = re.findall(r"`([^`]+\.\w+)`", row)
    settings = {
        name: {"true": True}.get(value, value) for name, value in documented_layouts()[row] if name != "objects"
    }
    masks = masks_of(write(tmp_path, *files), **settings)
    assert sum(map(len, masks.values())) == len(files) - 1


def test_nothing_is_proposed_where_all_pair_or_no_setting_helps(tmp_path):
    assert propose_layout(write(tmp_path / "a", "images/a.png", "masks/a.png"), Layout()) == ""
    assert propose_layout(write(tmp_path / "b", "images/a.png", "masks/x.png", "masks/y.png"), Layout()) == ""


def test_names_of_both_unicode_forms_pair(tmp_path):
    for name in ("müller_0", "Ångström", "한글"):
        write(tmp_path, f"images/{unicodedata.normalize('NFD', name)}.png", f"masks/{name}.png")
    assert masks_of(tmp_path).keys() == {"müller_0", "Ångström", "한글"}
    twice = write(tmp_path / "b", "images/mu\u0308.png", "images/m\u00fc.png", "masks/m\u00fc.png")
    assert len(find_files(twice, Layout()).ambiguous("m\u00fc")) == 2


def test_ome_is_part_of_the_suffix(tmp_path):
    write(tmp_path, "images/a.ome.tif", "masks/a.tif", "images/b.v2.OME.TIFF", "masks/b.v2.ome.tif")
    assert masks_of(tmp_path) == {"a": ["masks/a.tif"], "b.v2": ["masks/b.v2.ome.tif"]}


def test_a_suffix_is_not_left_out_where_it_is_set(tmp_path):
    files = find_files(write(tmp_path, "images/a.png", "masks/a.png"), Layout(mask_suffix="_mask"))
    assert files.pairs == []


def test_masks_that_differ_in_the_suffix_alone_are_ambiguous(tmp_path):
    files = find_files(
        write(tmp_path, "images/a.png", "masks/a_mask.png", "masks/a_mask.tif"), Layout(mask_suffix="_mask")
    )
    assert [path.name for path in files.ambiguous("a")] == ["a_mask.png", "a_mask.tif"]


def test_masks_below_the_images_are_no_images(tmp_path):
    write(tmp_path, "a.png", "p/b.png", "masks/a.png", "masks/p/b.png")
    assert masks_of(tmp_path, image_folder=".", recursive=True).keys() == {"a", "p/b"}


def test_several_masks_are_several_objects(tmp_path):
    halves = [
        np.where(np.arange(8) < 4, MASK, 0).astype(np.uint8),
        np.where(np.arange(8) < 4, 0, MASK).astype(np.uint8),
    ]
    for name in "ab":
        save(tmp_path / f"data/{name}.png", np.zeros((6, 8, 3), np.uint8))
        for number, mask in enumerate(halves):
            save(tmp_path / f"data/{name}_mask_{number}.png", mask)
    sample = Folder(tmp_path, "data", "data", mask_suffix="_mask", val_fraction=0.5).split("train")[0]
    assert sample.labels.tolist() == [1, 2]
    assert np.array_equal(dense(sample.masks).numpy(), np.stack(halves) > 0)


def test_images_without_the_suffix_of_the_settings_are_noted(tmp_path):
    write(tmp_path, "a_img.png", "a_masks.png", "a_flows.tif", "b.png")
    layout = Layout(".", ".", image_suffix="_img", mask_suffix="_masks")
    files = find_files(tmp_path, layout)
    assert files.pairs == files.names == ["a"]
    assert sorted(path.name for path in files.unread) == ["a_flows.tif", "b.png"]


def test_masks_beside_the_images_of_each_split(messages, tmp_path):
    for split in ("train", "valid", "test"):
        write(tmp_path / split, "a_jpg.rf.1.jpg", "a_jpg.rf.1_mask.png", "b_jpg.rf.2.jpg", "b_jpg.rf.2_mask.png")
    data = Folder(tmp_path, ".", ".", mask_suffix="_mask")
    assert data.split("train").names == data.split("val").names == ["a_jpg.rf.1", "b_jpg.rf.2"]
    settings = "2 of 2 images pair with data.image_folder=. data.mask_folder=. data.mask_suffix=_mask"
    messages.refusal(lambda: Folder(tmp_path).split("val"), settings)


def test_an_unknown_way_to_pair_is_refused(messages, tmp_path):
    messages.refusal(lambda: Folder(tmp_path, pair_by="id"), "data.pair_by=id", "name or folder")
