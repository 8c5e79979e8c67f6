import json
import re

import numpy as np
import pytest
from PIL import Image

from sam_ft.report.page.html import PICTURE_BYTES, jpeg, write_report
from sam_ft.utils.errors import CheckpointError, ConfigError
from tests.support.pages_of_runs import BEST, ZERO_SHOT, Page, write_run


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A run with all that a report can show."""
    directory = write_run(tmp_path_factory.mktemp("run") / "cells")
    classes = {"cell": {"objects": 3, "iou": 0.5}, "debris": {"objects": 0, "iou": None}}
    heads = {"head_scores": scores_of_head(0.5), "baseline": scores_of_head(0.25)}
    write_run(directory, zero_shot_classes=classes, best_classes=classes, **heads)
    evaluation = {which: {**values, "groups": {"size": classes_of_sizes()}} for which, values in SCORED.items()}
    (directory / "evaluation-Doe").mkdir()
    written = {
        "prompt": "box",
        "prompts": {"box": evaluation, "point_1": evaluation},
        "amg": {"zero_shot": {"ap50": 0.125}},
    }
    (directory / "evaluation-Doe/scores.json").write_text(json.dumps(written))
    facts = {"train": {"images": 12, "objects": 77}, "val": {"images": 2, "objects": 4}, "tiles": None}
    (directory / "facts.json").write_text(json.dumps({**facts, "environment": {"PyTorch": "2.99"}}))
    (directory / "train.log").write_text("2026-01-02 03:04:05,678 WARNING Doe.png: has no mask\n")
    pictures = directory / "samples/objects"
    pictures.mkdir(parents=True)
    for path in (pictures / "1.png", directory / "samples/epoch_002.png", directory / "samples/zero_shot.png"):
        Image.new("RGB", (40, 20)).save(path)
    example = {"file": "1.png", "part": "lowest IoU", "name": "<script>alert(1)</script>", "object": 0}
    index = [{**example, "zero_shot_iou": 0.2, "tuned_iou": 0.6}]
    (pictures / "examples.json").write_text(json.dumps(index))
    return directory


SCORED = {
    "zero_shot": {"iou": 0.3, "dice": 0.4, "pred_iou_mae": 0.2},
    "tuned": {"iou": 0.7, "dice": 0.8, "pred_iou_mae": 0.1},
}


def scores_of_head(value):
    return dict.fromkeys(("sa50", "sa75", "msa", "ap", "ap50", "ap75", "masks_per_image"), value)


def classes_of_sizes():
    return {"small": {"objects": 4, "iou": 0.3, "dice": 0.4}}


@pytest.fixture(scope="module")
def page(directory):
    return Page(write_report(directory))


def test_the_scores_are_those_of_the_checkpoint_and_of_the_evaluation(page):
    assert page.cells("IoU (mean over objects)") == [
        ["0.4000", "0.6500", "+0.2500"],
        *[["0.3000", "0.7000", "+0.4000"]] * 2,
    ]
    assert page.cells("Spearman correlation of pred_iou and IoU") == [["nan", "0.5000", "nan"]]
    assert page.cells("mSA (segmentation accuracy, mean over IoU 0.50 to 0.95)") == [["0.2500", "0.5000", "+0.2500"]]
    assert page.cells("cell") == [["3", "0.5000", "0.5000", "+0.0000"]]
    assert page.cells("point_1")[0] == ["0.3000", "0.7000", "+0.4000", "0.4000", "0.8000", "0.2000", "0.1000"]
    assert page.cells("AP50 (average precision at IoU 0.50)") == [["0.2500", "0.5000", "+0.2500"], ["0.1250"]]
    assert "0.400 → 0.650" in page.verdict()


def test_the_page_says_what_was_trained_on_what(page):
    assert page.facts["training images"] == "12 with 77 objects"
    assert page.facts["validation images"] == "2 with 4 objects"
    assert page.facts["model"] == "lite_medsam at 256 px"
    assert page.facts["objects at the input"].endswith(
        "smallest 10, quarter 18, median 25, three quarters 32, largest 40"
    )
    assert page.facts["parts that learn"] == "Freeze(train=[mask_decoder.*])"
    assert page.facts["epochs"] == "2 of at most 3; the best is 2"
    assert page.facts["PyTorch"] == "2.99"
    assert "WARNING Doe.png: has no mask" in page.texts


def test_curves_calibration_sizes_and_pictures_are_on_the_page(page):
    captions = " ".join(page.texts)
    assert all(
        word in captions for word in ("Loss of each step", "iou on the validation", "Calibration", "by the size")
    )
    assert sum(tag == "svg" for tag, _ in page.tags) == 5
    first, samples = page.pictures()
    assert "lowest IoU" in first["alt"]
    assert "0.200 → 0.600" in first["alt"]
    assert "2 epochs" in samples["alt"]


def test_the_page_needs_no_other_file_no_network_and_no_script(page):
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "base")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert not re.search(r"url\((?!#)|@import", page.source)


def test_a_name_of_a_file_is_text(page):
    assert "<script>alert(1)</script>" not in page.source
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.source


def test_a_name_of_bytes_that_are_no_text_is_shown_without_them(tmp_path):
    write_run(tmp_path, [("caf\udce9", 0, 100, 0.4, 0.6)])
    (tmp_path / "samples/objects").mkdir(parents=True)
    Image.new("RGB", (40, 20)).save(tmp_path / "samples/objects/1.png")
    example = {"file": "1.png", "part": "lowest IoU", "name": "caf\udce9", "object": 0, "tuned_iou": 0.6}
    (tmp_path / "samples/objects/examples.json").write_text(json.dumps([example]))
    (picture,) = Page(write_report(tmp_path)).pictures()
    assert "caf?" in picture["alt"]


def test_hidden_names_are_nowhere(directory, tmp_path):
    page = Page(write_report(directory, names=False, path=tmp_path / "hidden.html"))
    assert not re.search("doe|alert|script", page.source, re.I)
    assert "image 1, object 0" in page.source
    assert len(page.pictures()) == 1  # the other has names in it
    assert page.cells("IoU (mean over objects)")[0] == ["0.4000", "0.6500", "+0.2500"]


def test_pictures_that_were_drawn_without_names_stay(directory, tmp_path):
    write_run(tmp_path, settings={"report": {"names": False}})
    (tmp_path / "samples").mkdir()
    Image.new("RGB", (40, 20)).save(tmp_path / "samples/epoch_002.png")
    page = Page(write_report(tmp_path))
    assert len(page.pictures()) == 1
    assert "Doe" not in page.source


def test_an_older_run_says_what_it_lacks(messages, tmp_path):
    page = Page(write_report(write_run(tmp_path, rows=())))
    assert page.cells("IoU (mean over objects)") == [[f"{ZERO_SHOT['iou']:.4f}", f"{BEST['iou']:.4f}", "+0.2500"]]
    (line,) = (text for text in page.texts if "objects.csv" in text)
    messages.check(line, "sam-ft evaluate run=")


def test_a_run_that_was_stopped_before_its_first_score_has_a_page(tmp_path):
    (write_run(tmp_path, rows=()) / "metrics.jsonl").unlink()
    for path in (tmp_path / "checkpoints").iterdir():
        path.unlink()
    assert "no result yet" in Page(write_report(tmp_path)).verdict()


def test_large_pictures_become_smaller_and_the_page_stays_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (1500, 2000, 3), dtype=np.uint8)
    write_run(tmp_path)
    (tmp_path / "samples").mkdir()
    Image.fromarray(noise).save(tmp_path / "samples/zero_shot.png")
    assert len(jpeg(tmp_path / "samples/zero_shot.png")) <= 4 / 3 * PICTURE_BYTES + 4
    assert write_report(tmp_path).stat().st_size < 5e6


def test_a_folder_without_a_run_is_refused(messages, tmp_path):
    with messages.raises(ConfigError, str(tmp_path), "config.yaml"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_damaged_checkpoint_is_refused(tmp_path):
    write_run(tmp_path)
    (tmp_path / "checkpoints/best.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"best\.safetensors"):
        write_report(tmp_path)
