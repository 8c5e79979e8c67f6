import pytest

from sam_ft.writers.formats import FORMATS, check_formats, finish_results, write_results
from tests.support.files import contents
from tests.support.instances import CLASSES, hard_masks, make_instances, no_masks

FILES = {
    *(
        "labels/sub/a.tif",
        "labels_uint32/sub/a.tif",
        "coco/sub/a.json",
        "overlay/sub/a.png",
        "table/sub/a.csv",
        "geojson/sub/a.geojson",
    ),
    *("yolo/labels/sub/a.txt", "labelme/sub/a.json", "rois/sub/a.zip"),
    *("coco.json", "table.csv", "yolo/data.yaml"),
}


def test_every_format_has_a_file_an_image_and_some_one_for_all(tmp_path):
    instances = make_instances(tmp_path / "images", name="sub/a")
    write_results(tmp_path / "out", list(FORMATS), instances)
    finish_results(tmp_path / "out", list(FORMATS), ["sub/a"], CLASSES)
    assert set(contents(tmp_path / "out")) == FILES
    assert all(one.path(tmp_path / "out", "sub/a").exists() for one in FORMATS.values())


def test_files_are_the_same_to_the_byte_in_any_order_and_after_a_restart(tmp_path, monkeypatch):
    images = [make_instances(tmp_path / "images", name, hard_masks()[:count]) for count, name in ((3, "b"), (10, "a"))]
    images.append(make_instances(tmp_path / "images", "c", no_masks()))
    names, found = ["a", "b", "c"], []
    for output, order in (("one", images), ("two", images[::-1])):
        monkeypatch.setenv("TZ", output)
        # a file of an earlier run, which a writer must not add to
        for one in FORMATS.values():
            path = one.path(tmp_path / output, "a")
            path.parent.mkdir(parents=True)
            path.write_bytes(b"old")
        for instances in order:
            write_results(tmp_path / output, list(FORMATS), instances)
        finish_results(tmp_path / output, list(FORMATS), names, CLASSES)
        finish_results(tmp_path / output, list(FORMATS), names, CLASSES)
        found.append(contents(tmp_path / output))
    assert found[0] == found[1]


@pytest.mark.parametrize("name", FORMATS)
def test_a_writer_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch, name):
    path = FORMATS[name].path(tmp_path, "a")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"old")

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_results(tmp_path, [name], make_instances(tmp_path / "images"))
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == b"old"


def test_unknown_formats_are_refused(messages):
    check_formats(["labels", "rois"])
    messages.refusal(lambda: check_formats(["labels", "masks"]), "masks", "labelme")
