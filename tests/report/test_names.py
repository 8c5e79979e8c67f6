import pytest

from sam_ft.report.names import HIDDEN, ImageNames, hide_in_override, hide_paths, shorten


def test_a_long_name_loses_its_middle():
    assert shorten("abcdefghij", 5) == "ab…ij"
    assert shorten("abcdefghij", 6) == "abc…ij"
    assert shorten("abcde", 5) == "abcde"
    roboflow = "2023_cells_plate_A1_png.rf.0123456789abcdef0123456789abcdef"
    assert len(shorten(roboflow, 20)) == 20


def test_hidden_names_are_numbers_in_their_order_and_tiles_keep_their_place():
    names = ImageNames(["doe", "adams@0,96", "adams@0,0", "doe"], hidden=True)
    assert [names(name) for name in ("adams@0,96", "doe")] == ["image 1@0,96", "image 2"]
    assert ImageNames(["doe"], hidden=False)("doe") == "doe"


def test_hidden_settings_keep_choices_and_numbers_alone():
    settings = {
        "run_dir": "outputs/doe",
        "monitor": "iou",
        "data": {
            "_target_": "sam_ft.data.sources.folder.Folder",
            "root": "doe",
            "objects": "instances",
            "image_folder": "doe_images",
            "classes": {"cell": 1},
            "val_fraction": 0.2,
            "tile": None,
            "categories": ["doe"],
        },
        "model": {"checkpoint": r"C:\doe\sam.pth", "model_type": "vit_b"},
    }
    hidden = hide_paths(settings)
    assert "doe" not in str(hidden)
    assert hidden["data"]["classes"] == {"cell": 1}
    assert hidden["data"]["objects"] == "instances"
    assert (hidden["monitor"], hidden["model"]) == ("iou", {"checkpoint": HIDDEN, "model_type": "vit_b"})


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("data.root=doe", f"data.root={HIDDEN}"),
        ("+data.table=doe.csv", f"+data.table={HIDDEN}"),
        ("model.checkpoint=/doe/a.pth", f"model.checkpoint={HIDDEN}"),
        ("loss=sam", "loss=sam"),
        ("data=folder", "data=folder"),
        ("data.objects=instances", "data.objects=instances"),
    ],
)
def test_an_override_of_a_path_is_hidden(typed, shown):
    assert hide_in_override(typed) == shown
