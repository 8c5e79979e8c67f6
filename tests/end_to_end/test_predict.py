"""predict.py: from a folder of images to files of their objects."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml
from PIL import Image

from sam_ft import Predictor
from sam_ft.data.sources.coco import Coco
from sam_ft.types import dense
from sam_ft.writers.formats import FORMATS
from tests.support.blobs import draw
from tests.support.files import contents


@pytest.mark.slow
def test_labels_read_back_are_those_of_the_predictor(predict, head_run, images, tmp_path):
    before = contents(images)
    done = predict("save=[labels,table]")
    assert done.code == 0, done.err
    predictor, counts = Predictor.from_run(head_run), {}
    for path in sorted(images.glob("?.*")):
        masks, scores, labels = predictor.segment(path)
        read = tifffile.imread(tmp_path / f"out/labels/{path.stem}.tif")
        assert read.dtype == np.uint16
        assert np.array_equal(read, (masks * (np.arange(len(masks)) + 1)[:, None, None]).sum(0))
        assert scores.shape == labels.shape == (len(masks),)
        counts[path.stem] = len(masks)
    assert counts["a"] >= 2
    assert counts["b"] >= 2
    assert counts["d"] >= 1
    table = (tmp_path / "out/table.csv").read_text().splitlines()
    assert len(table) == 1 + sum(counts.values())
    assert "intensity_mean-0" in table[0]
    assert contents(images) == before


def test_every_format_is_written_for_every_image(predict, tmp_path):
    assert predict(f"save=[{','.join(FORMATS)}]").code == 0
    for one in FORMATS.values():
        assert all(one.path(tmp_path / "out", name).is_file() for name in "abcde")
        assert one.summary is None or (tmp_path / "out" / one.summary).is_file()


def test_the_coco_file_is_read_by_training_with_the_same_masks(predict, images, tmp_path):
    predict("save=[labels,coco]")
    root = tmp_path / "coco"
    root.mkdir()
    shutil.copytree(images, root / "train")
    shutil.copy(tmp_path / "out/coco.json", root / "train.json")
    split = Coco(root).split("train")
    split.survey()
    found = 0
    for index, name in enumerate(split.names):
        masks = dense(split[index].masks).numpy()
        labels = tifffile.imread(tmp_path / f"out/labels/{name}.tif")
        assert np.array_equal((masks * (np.arange(len(masks)) + 1)[:, None, None]).sum(0), labels)
        found += len(masks)
    assert found > 4


def test_boxes_and_points_of_a_table_are_given_to_the_decoder(predict, head_run, images, tmp_path):
    table = tmp_path / "prompts.csv"
    table.write_text(
        "file,x0,y0,x1,y1,x,y,point_label,object,class\n"
        "a.png,4,4,22,22,,,,1,cell\n"
        "b.tif,,,,,12,12,,p,debris\n"
        "b.tif,,,,,40,40,0,p,debris\n"
        "a.png,24,4,42,22,,,,2,debris\n"
    )
    done = predict(f"prompts={table}", "save=[coco]")
    assert done.code == 0, done.err
    content = json.loads((tmp_path / "out/coco.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.png", "b.tif"]
    assert {one["name"] for one in content["categories"]} == {"cell", "debris"}
    predictor = Predictor.from_run(head_run)
    masks, pred_iou, _ = predictor.predict(images / "a.png", boxes=[[4, 4, 22, 22], [24, 4, 42, 22]])
    own = [one for one in content["annotations"] if one["image_id"] == 1]
    assert [one["category_id"] for one in own] == [1, 2]
    assert [one["area"] for one in own] == masks.sum((1, 2, 3)).tolist()
    assert [one["score"] for one in own] == pytest.approx(pred_iou[:, 0])


def test_coco_boxes_that_predict_wrote_prompt_it_again(predict, images, tmp_path):
    predict("save=[coco]")
    (tmp_path / "first.json").write_bytes((tmp_path / "out/coco.json").read_bytes())
    done = predict(f"prompts={tmp_path / 'first.json'}", "save=[labels]", output="again")
    assert done.code == 0, done.err
    coco = json.loads((tmp_path / "first.json").read_text())
    with_objects = {one["image_id"] for one in coco["annotations"]}
    prompted = {Path(image["file_name"]).stem for image in coco["images"] if image["id"] in with_objects}
    results = list((tmp_path / "again/labels").iterdir())
    assert {path.stem for path in results} == prompted  # an image without objects has no prompts
    assert all(tifffile.imread(path).any() for path in results)


def test_a_run_without_a_head_uses_the_grid_of_points_with_a_warning(predict, run, messages, tmp_path):
    done = predict("points_per_side=2", "save=[labels]", run=run)
    assert done.code == 0, done.err
    messages.line(done.out, "no head", "head=instances")
    assert len(list((tmp_path / "out/labels").iterdir())) == 5


def test_refined_objects_do_not_overlap_and_are_connected(predict, head_run, images, tmp_path):
    from scipy import ndimage

    assert predict("refine=decoder", "save=[labels]").code == 0
    labels = tifffile.imread(tmp_path / "out/labels/a.tif")
    assert labels.any()
    for number in np.unique(labels[labels > 0]):
        assert ndimage.label(labels == number)[1] == 1
    predictor = Predictor.from_run(head_run)
    plain = predictor.segment(images / "a.png")[0]
    assert not np.array_equal(labels > 0, plain.any(0))


def test_the_run_has_a_folder_for_the_predictions(cli, head_run, images, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(head_run, copy)
    assert cli("predict.py", f"run={copy}", f"images={images / 'a.png'}").code == 0
    assert (copy / "predictions/images/labels/a.tif").is_file()


def test_a_pattern_reads_folders_below_with_names_of_their_own(predict, images, tmp_path):
    for folder in ("one", "two"):
        (images / folder).mkdir()
        shutil.copy(images / "a.png", images / folder / "a.png")
    shutil.copy(images / "b.tif", images / "a.tif")
    assert predict(images=f'"{images}/**/a.*"').code == 0
    found = {str(path.relative_to(tmp_path / "out/labels")) for path in (tmp_path / "out/labels").rglob("*.tif")}
    assert found == {"a.png.tif", "a.tif.tif", "one/a.tif", "two/a.tif"}


@pytest.mark.slow
def test_the_masks_of_tiles_are_near_those_of_whole_images(predict, head_run, images, tmp_path):
    predict("tile=48")
    predictor = Predictor.from_run(head_run)
    whole = predictor.segment(images / "a.png")[0].any(0)
    tiled = tifffile.imread(tmp_path / "out/labels/a.tif") > 0
    assert (whole & tiled).sum() / (whole | tiled).sum() > 0.7
    assert not torch.equal(torch.from_numpy(whole), torch.from_numpy(tiled))


def test_channels_and_slices_are_read_as_in_training(predict, head_run, tmp_path):
    pixels = np.ascontiguousarray(draw(50, 3)[0][..., 0])
    run = shutil.copytree(head_run, tmp_path / "run")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"] |= {"channels": [1], "page": 2, "projection": None}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    stack = np.zeros((3, 2, *pixels.shape), np.uint8)
    stack[2, 1] = pixels
    for folder in ("plain", "stack"):
        (tmp_path / folder).mkdir()
    Image.fromarray(pixels).save(tmp_path / "plain/a.png")
    tifffile.imwrite(tmp_path / "stack/a.tif", stack, imagej=True, metadata={"axes": "ZCYX"})
    plain = predict(output="plain_out", images=tmp_path / "plain")
    assert plain.code == 0, plain.err
    done = predict(output="stack_out", images=tmp_path / "stack", run=run)
    assert done.code == 0, done.err
    labels = [tifffile.imread(tmp_path / out / "labels/a.tif") for out in ("plain_out", "stack_out")]
    assert labels[0].any()
    assert np.array_equal(*labels)
    assert np.array_equal(
        *(
            Predictor.from_run(one).segment(path)[0]
            for one, path in ((head_run, tmp_path / "plain/a.png"), (run, tmp_path / "stack/a.tif"))
        )
    )
