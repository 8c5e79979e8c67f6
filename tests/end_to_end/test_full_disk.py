"""A full disk and a place that is read-only end each command in one line, and nothing is lost."""

import json
import shutil
import sys

import pytest

from sam_ft.data.sources import synthetic
from sam_ft.report import samples
from sam_ft.training.tensor_file import read_tensors
from tests.conftest import of
from tests.support.cli import SMALL
from tests.support.disks import with_file_limit
from tests.support.heads import write_head_run

pytestmark = pytest.mark.slow

FULL = ("No space left on device", "bytes needed", "bytes free")


@pytest.fixture
def train(blobs, small_disk, cli):
    def act(*overrides):
        return cli("train.py", *SMALL, *of(blobs), f"run_dir={small_disk.place / 'run'}", "epochs=1", *overrides)

    return act


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def without_leftovers(folder):
    return not [name for name in files(folder) if "tmp" in name]


def test_a_run_does_not_start_on_a_full_disk_and_does_once_there_is_room(messages, train, small_disk):
    small_disk.fill()
    messages.refused(train(), 2, small_disk.place / "run", *FULL)
    assert files(small_disk.place) <= {"filler", "run/.lock"}
    small_disk.empty()
    small_disk.resize("300m")
    assert train().code == 0


def test_without_room_for_the_checkpoint_the_run_ends_and_the_earlier_one_stays(messages, train, small_disk):
    messages.refused(train(), 4, "checkpoints/last.safetensors", *FULL)
    assert without_leftovers(small_disk.place)
    small_disk.resize("300m")
    assert train().code == 0
    before = {path: path.read_bytes() for path in (small_disk.place / "run").rglob("*.safetensors")}
    small_disk.fill(leave=100_000)
    # overwrite=true restores the earlier run
    for overrides in (["epochs=2"], ["overwrite=true"]):
        messages.refused(train(*overrides), 4, "checkpoints/", *FULL)
        assert {path: path.read_bytes() for path in (small_disk.place / "run").rglob("*.safetensors")} == before
        assert without_leftovers(small_disk.place)
    small_disk.empty()
    assert "continuing after epoch 1 of 2" in train("epochs=2").out
    assert read_tensors(small_disk.place / "run/checkpoints/last.safetensors")[1]["epoch"] == 2


def test_pictures_that_find_no_room_are_a_warning(train, small_disk, monkeypatch):
    small_disk.resize("300m")
    draw = samples.save_sheet

    def full(*arguments):
        small_disk.fill()
        try:
            draw(*arguments)
        finally:
            small_disk.empty()

    monkeypatch.setattr(samples, "save_sheet", full)
    done = train("pictures=1")
    assert done.code == 0
    assert "samples/zero_shot.png: cannot be written (No space left" in done.out
    assert not list((small_disk.place / "run/samples").glob("*.png"))


def test_the_demo_is_not_drawn_by_halves(messages, small_disk, cli, monkeypatch, tmp_path):
    monkeypatch.setenv("SAM_FT_HOME", str(small_disk.place / "home"))
    arguments = [*SMALL, "data=demo", f"run_dir={tmp_path / 'run'}", "epochs=1"]
    messages.refused(cli("train.py", *arguments), 2, f"SAM_FT_HOME={small_disk.place / 'home'}", *FULL)
    assert files(small_disk.place) <= {"home/demo-2.lock"}
    left = small_disk.place / f"home/demo-2.tmp-{2**22 + 1}-0123abcd"  # of a start that was killed
    left.mkdir()
    (left / "half.png").write_text("")
    small_disk.resize("300m")
    assert cli("train.py", *arguments).code == 0
    assert not left.exists()
    drawn = small_disk.place / f"home/demo-{synthetic.VERSION}"
    size = sum((drawn / name).stat().st_size for name in files(drawn))
    assert size == pytest.approx(synthetic.DEMO_BYTES, rel=0.1)


def test_without_room_for_embeddings_the_run_goes_on(blobs, small_disk, cli, monkeypatch, tmp_path):
    monkeypatch.setenv("SAM_FT_HOME", str(small_disk.place / "home"))
    done = cli("train.py", *SMALL, *of(blobs), f"run_dir={tmp_path / 'run'}", "epochs=1")
    assert done.code == 0
    assert done.out.count("embeddings can no longer be cached") == 1
    assert "bytes needed" in done.out
    assert without_leftovers(small_disk.place)


@pytest.mark.parametrize("leave", [0, 5000])
def test_an_evaluation_ends_in_one_line(messages, run, small_disk, cli, leave):
    small_disk.fill(leave)
    done = cli("evaluate.py", f"run={run}", "workers=0", "pictures=2", f"output={small_disk.place / 'out'}")
    messages.refused(done, 2, small_disk.place / "out", *FULL)
    assert without_leftovers(small_disk.place)
    if leave:  # it was scored, and the screen says how
        assert "zero-shot" in done.out


@pytest.mark.parametrize(("form", "code"), [("official", 2), ("safetensors", 4), ("cvat", 2)])
def test_an_export_ends_in_one_line(messages, run, small_disk, cli, monkeypatch, form, code):
    monkeypatch.setattr("sam_ft.export.official.SPECS", {"lite_medsam": type("Spec", (), {"image_size": 64})})
    command = ["sam_ft.export", f"run={run}", f"format={form}", f"output={small_disk.place / 'out'}"]
    small_disk.fill()
    messages.refused(cli(*command), code, small_disk.place / "out", *FULL)
    assert files(small_disk.place) == {"filler"}
    small_disk.resize("300m")
    assert cli(*command).code == 0


def test_onnx_files_end_in_one_line(messages, run, small_disk, cli):
    pytest.importorskip("onnxscript", reason="pip install onnxscript, which the extra test does")
    refused = cli("sam_ft.export", f"run={run}", "format=onnx", f"output={small_disk.place / 'out'}")
    messages.refused(refused, 2, small_disk.place / "out", *FULL)
    assert not files(small_disk.place)


def test_a_report_ends_in_one_line(messages, run, small_disk, cli):
    command = ["sam_ft.report", f"run={run}", f"output={small_disk.place / 'report.html'}"]
    small_disk.fill()
    messages.refused(cli(*command), 2, small_disk.place / "report.html", *FULL)
    assert files(small_disk.place) == {"filler"}


def test_a_prediction_ends_in_one_line_and_goes_on_once_there_is_room(messages, run, blobs, small_disk, cli, tmp_path):
    head_run = write_head_run(run, tmp_path / "head")
    shutil.copytree(blobs / "images", tmp_path / "images")
    small_disk.resize("24k")
    output = small_disk.place / "out"
    command = ["predict.py", f"run={head_run}", f"images={tmp_path / 'images'}", f"output={output}"]
    done = cli(*command, "save=[overlay,labels,coco]")
    messages.refused(done, 2, output, *FULL)
    kept = {name: (output / name).read_bytes() for name in files(output)}
    assert without_leftovers(small_disk.place)
    small_disk.resize("300m")
    done = cli(*command, "save=[overlay,labels,coco]")
    assert done.code == 0
    assert {name: (output / name).read_bytes() for name in kept} == kept
    assert len(json.loads((output / "coco.json").read_text())["images"]) == 9


def test_a_check_ends_in_one_line(messages, blobs, small_disk, cli):
    small_disk.fill()
    messages.refused(cli("sam_ft.check", *of(blobs), f"output={small_disk.place / 'out'}"), 2, *FULL)


COMMANDS = {
    "train": ["train.py", *SMALL, "epochs=1", "run_dir=PLACE/run"],
    "demo": ["train.py", *SMALL, "data=demo", "run_dir=PLACE/run"],
    "evaluate": ["evaluate.py", "run=RUN", "workers=0", "output=PLACE/out"],
    "export": ["sam_ft.export", "run=RUN", "output=PLACE/out"],
    "report": ["sam_ft.report", "run=RUN", "output=PLACE/report.html"],
    "predict": ["predict.py", "run=RUN", "images=IMAGES", "output=PLACE/out"],
    "check": ["sam_ft.check", "output=PLACE/out"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_read_only_place_is_one_line(messages, run, blobs, small_disk, cli, name, monkeypatch):
    monkeypatch.setattr("sam_ft.export.official.SPECS", {"lite_medsam": type("Spec", (), {"image_size": 64})})
    small_disk.protect()
    if name == "demo":
        monkeypatch.setenv("SAM_FT_HOME", str(small_disk.place))
    places = {"PLACE": small_disk.place, "RUN": run, "IMAGES": blobs / "images"}
    command = COMMANDS[name] + (of(blobs) if name in ("train", "check") else [])
    for word, place in places.items():
        command = [part.replace(word, str(place)) for part in command]
    messages.refused(cli(*command), 2, small_disk.place, "Read-only file system")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
def test_a_limit_on_the_size_of_a_file_is_named(messages, run, blobs, tmp_path):
    done = with_file_limit(1_000_000, "train.py", *SMALL, *of(blobs), f"run_dir={tmp_path / 'run'}", "epochs=1")
    messages.refused(done, 4, "last.safetensors", "File too large", "1,000,000 bytes", "ulimit -f")
    assert without_leftovers(tmp_path)
    done = with_file_limit(1_000, "evaluate.py", f"run={run}", "workers=0", f"output={tmp_path / 'out'}")
    messages.refused(done, 2, tmp_path / "out", "File too large", "1,000 bytes")
    assert without_leftovers(tmp_path)
