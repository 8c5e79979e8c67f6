"""predict.py started again, killed, in two processes, with broken files, and with mistakes."""

import json
import shutil
import signal
import sys

import pytest

from sam_ft.writers.formats import FORMATS
from tests.support.cli import start, torchrun
from tests.support.files import contents

CONFIG, DATA = 2, 3


@pytest.mark.slow
def test_finished_images_are_left_alone_and_others_follow(predict, images, tmp_path):
    predict()
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/labels").iterdir()}
    shutil.copy(images / "a.png", images / "f.png")
    (tmp_path / "out/labels/e.tif").unlink()
    done = predict()
    assert "6 images, 4 of them" in done.out
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/labels").iterdir()}
    assert len(after) == 6
    assert all(after[path] == time for path, time in times.items() if path.stem != "e")
    images.joinpath("b.tif").touch()  # a new version of the image
    assert "6 images, 5 of them" in predict().out
    assert "6 images, 6 of them" in predict().out
    assert "6 images, 0 of them" in predict("save=[labels,coco]").out


@pytest.mark.slow
def test_a_kill_loses_one_image_and_the_same_command_goes_on(predict, head_run, images, tmp_path):
    out = tmp_path / "killed"
    arguments = [f"run={head_run}", f"images={images}", f"output={out}", "save=[labels,coco]"]
    done = start(sys.executable, "-m", "tests.support.killed_predict", "3", *arguments)
    assert done.code == -signal.SIGKILL, done.err
    assert sorted(path.name for path in (out / "labels").glob("?.tif")) == ["a.tif", "b.tif"]
    for left in out.rglob("*.tmp-*"):
        left.unlink()
    assert "5 images, 2 of them" in predict("save=[labels,coco]", output="killed").out
    predict("save=[labels,coco]", output="whole")
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.slow
def test_a_broken_file_is_reported_at_the_end_and_the_others_are_done(predict, images, messages, tmp_path):
    whole = (images / "b.tif").read_bytes()
    (images / "b.tif").write_bytes(whole[: len(whole) // 2])
    (images / "x.png").write_bytes(b"no image")
    done = predict("save=[labels,coco]")
    messages.refused(done, DATA, "2 of 6", "b.tif", "x.png")
    assert sorted(path.stem for path in (tmp_path / "out/labels").iterdir()) == ["a", "c", "d", "e"]
    listed = json.loads((tmp_path / "out/coco.json").read_text())["images"]
    assert [image["file_name"] for image in listed] == ["a.png", "c.png", "d.jpg", "e.bmp"]
    (images / "b.tif").write_bytes(whole)
    (images / "x.png").unlink()
    assert predict("save=[labels,coco]").code == 0
    assert len(json.loads((tmp_path / "out/coco.json").read_text())["images"]) == 5


@pytest.mark.slow
def test_two_processes_write_the_files_of_one(predict, head_run, images, tmp_path):
    formats = f"save=[{','.join(FORMATS)}]"
    (images / "x.png").write_bytes(b"no image")
    assert predict(formats, "tile=32").code == DATA
    done = torchrun(
        "predict.py", f"run={head_run}", f"images={images}", f"output={tmp_path / 'two'}", formats, "tile=32"
    )
    assert done.code != 0
    assert done.err.count("1 of 6 images") == 1, done.err
    assert contents(tmp_path / "out") == contents(tmp_path / "two")


@pytest.mark.slow
def test_results_of_other_settings_are_not_mixed(predict, messages, tmp_path):
    predict()
    messages.refused(predict("tile=32"), CONFIG, "tile", "overwrite=true")
    done = predict("tile=32", "overwrite=true")
    assert "5 images, 0 of them" in done.out
    assert "5 images, 5 of them" in predict("tile=32").out
    assert "5 images, 5 of them" in predict("tile=32", "overwrite=true").out


def test_mistakes_end_in_one_line(predict, messages, images, tmp_path):
    empty, deep = tmp_path / "empty", tmp_path / "deep"
    empty.mkdir()
    (deep / "sub").mkdir(parents=True)
    shutil.copy(images / "a.png", deep / "sub/a.png")
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("file,x0,y0,x1,y1\nother.png,1,2,3,4\n")
    for code, facts, overrides, places in [
        (DATA, [empty, "no images"], [], {"images": empty}),
        (DATA, ["**/*"], [], {"images": deep}),
        (DATA, ["*.nothing"], [], {"images": f'"{images}/*.nothing"'}),
        (DATA, ["nowhere"], [], {"images": tmp_path / "nowhere"}),
        (CONFIG, ["masks", "labels"], ["save=[masks]"], {}),
        (CONFIG, ["save=[]"], ["save=[]"], {}),
        (CONFIG, ["config.yaml"], [], {"run": tmp_path}),
        (CONFIG, ["a.png", "output="], [], {"output": "images"}),
        (CONFIG, ["tile=3"], ["tile=3"], {}),
        (CONFIG, ["refine=head"], ["refine=head"], {}),
        (DATA, ["other.png", "a.png"], [f"prompts={prompts}"], {}),
    ]:
        messages.refused(predict(*overrides, **places), code, *facts)
    assert not (tmp_path / "out").exists()
