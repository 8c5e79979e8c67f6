import json
import os

import pytest

from sam_ft.cli.image_files import find_images, result_names
from sam_ft.cli.prediction_plan import check_output, lock_output, record_settings
from sam_ft.utils.errors import ConfigError


def touch(folder, *files):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


def files(pattern):
    root, images = find_images(str(pattern))
    assert all(image.path == root / image.file for image in images)
    return root, [(image.name, image.file) for image in images]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["a.png", "b.tif"], ["a", "b"]),
        (["a.png", "a.tif", "sub/a.png"], ["a.png", "a.tif", "sub/a"]),
        (["a.b.png", "a.c.png"], ["a.b", "a.c"]),
        (["a.png", "a.tif", "a.tif.png"], ["a.png", "a.tif", "a.tif.png"]),
    ],
)
def test_names_are_unique_and_keep_their_suffix_only_where_they_must(given, names):
    assert result_names(given) == names
    assert len(set(names)) == len(given)


def test_images_directly_in_a_folder_in_order(tmp_path):
    touch(tmp_path, "b.png", "a.JPG", ".hidden.png", "notes.txt", "sub/c.png")
    assert files(tmp_path) == (tmp_path, [("a", "a.JPG"), ("b", "b.png")])


def test_a_file_of_any_suffix_and_a_pattern(tmp_path):
    touch(tmp_path, "one/a.dat", "one/b.png", "two/b.png", "two/deep/c.tif", "two/notes.txt")
    assert files(tmp_path / "one/a.dat") == (tmp_path / "one", [("a", "a.dat")])
    assert files(tmp_path / "two/**/*") == (tmp_path / "two", [("b", "b.png"), ("deep/c", "deep/c.tif")])
    assert files(tmp_path / "**/c.tif") == (tmp_path, [("two/deep/c", "two/deep/c.tif")])
    assert files(tmp_path / "*/b.png") == (tmp_path, [("one/b", "one/b.png"), ("two/b", "two/b.png")])


def test_a_file_named_like_a_pattern_is_that_file(tmp_path):
    touch(tmp_path, "a[1].png", "a1.png")
    assert files(tmp_path / "a[1].png") == (tmp_path, [("a[1]", "a[1].png")])


def test_results_do_not_lie_above_or_beside_the_images(tmp_path):
    touch(tmp_path, "images/sub/a.png", "images/b.png")
    _, images = find_images(str(tmp_path / "images/**/*"))
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "images", target_is_directory=True)
    for output in (tmp_path, tmp_path / "images", tmp_path / "images/sub", link):
        with pytest.raises(ConfigError):
            check_output(output, images)
    check_output(tmp_path / "images/out", images)


def test_settings_are_recorded_once_and_replaced_only_on_request(tmp_path):
    path = tmp_path / "out/predict.json"
    record_settings(tmp_path / "out", {"tile": 5, "thresholds": {"center": 0.5}}, overwrite=False)
    os.utime(path, ns=(10**18, 10**18))
    record_settings(tmp_path / "out", {"tile": 5, "thresholds": {"center": 0.5}}, overwrite=True)
    assert path.stat().st_mtime_ns == 10**18
    with pytest.raises(ConfigError):
        record_settings(tmp_path / "out", {"tile": 6, "thresholds": {"center": 0.5}}, overwrite=False)
    touch(tmp_path / "out", "labels/a.tif", "coco/a.json", "coco.json", "labels/other.tif")
    touch(tmp_path, "images/a.png")
    _, images = find_images(str(tmp_path / "images"))
    record_settings(tmp_path / "out", {"tile": 6}, overwrite=True, images=images)
    left = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert left == {"predict.json", "labels/other.tif"}  # no result of other settings
    assert json.loads(path.read_text()) == {"tile": 6}


def test_one_command_at_a_time_writes_into_a_folder(messages, tmp_path):
    with lock_output(tmp_path / "out"):
        with messages.raises(ConfigError, tmp_path / "out"), lock_output(tmp_path / "out"):
            pass
        with lock_output(tmp_path / "other"):
            pass
    with lock_output(tmp_path / "out"):
        pass
