"""A tuned model in each format, written by the command and read by the packages that it is for."""

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
import yaml

from sam_ft import Predictor, load_partial_weights, save_partial_weights
from sam_ft.adapt import Freeze, LastBlocks, Lora
from sam_ft.export import official, write_state_dict
from sam_ft.export.request import export_name
from sam_ft.models import build_model
from sam_ft.models.build import SPECS, build_sam
from tests.conftest import of
from tests.support.blobs import draw, write_folder
from tests.support.cli import SMALL
from tests.support.heads import write_head_run
from tests.support.reference import build_lite_medsam, mobile_sam, official_sam, segment_anything
from tests.support.tiny import SPEC


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "package", "adapt"),
    [
        pytest.param("vit_b", segment_anything, LastBlocks(1), id="vit_b-last_block"),
        pytest.param("vit_b", segment_anything, Lora(targets="qv"), id="vit_b-lora"),
        pytest.param("vit_t", mobile_sam, Freeze(["mask_decoder.*"]), id="vit_t-decoder"),
        pytest.param("vit_t", mobile_sam, LastBlocks(None, stages=2), id="vit_t-last_stages"),
        pytest.param("vit_t", mobile_sam, Lora(targets="qv", stages=2), id="vit_t-lora"),
    ],
)
def test_the_official_package_loads_it_strictly_and_predicts_the_same(model_type, package, adapt, tmp_path):
    torch.save(official_sam(model_type).state_dict(), tmp_path / "base.pth")
    tuned = build_model(model_type, tmp_path / "base.pth")
    adapt(tuned)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter) * parameter.requires_grad)
    save_partial_weights(tuned, tmp_path / "tuned.safetensors")
    merged = build_model(model_type, tmp_path / "base.pth")
    load_partial_weights(merged, tmp_path / "tuned.safetensors")
    write_state_dict(merged, tmp_path / "merged.pth")

    theirs = package.sam_model_registry[model_type]()
    theirs.load_state_dict(torch.load(tmp_path / "merged.pth", weights_only=True), strict=True)
    predictor = package.SamPredictor(theirs.eval())
    image, box = draw(0, 4)[0], [8, 9, 30, 28]
    predictor.set_image(image)
    masks, scores, logits = predictor.predict(box=np.array(box), multimask_output=False)
    ours = Predictor(merged).predict(image, boxes=[box])
    assert np.array_equal(ours[0][0], masks)
    np.testing.assert_allclose(ours[1][0], scores, atol=1e-5)
    np.testing.assert_allclose(ours[2][0], logits, atol=1e-5)


def test_the_output_may_lie_in_the_home_folder(messages, run, tmp_path, monkeypatch, cli):
    monkeypatch.setenv("HOME", str(tmp_path))
    # as if the official package built the model at the size of this run
    monkeypatch.setattr(official, "SPECS", {"lite_medsam": SimpleNamespace(image_size=64)})
    done = cli("sam_ft.export", f"run={run}", "output='~/out'")
    assert done.code == 0, done.err
    weights, readme = sorted((tmp_path / "out").iterdir(), key=lambda file: file.suffix == ".md")
    assert [line.split(" (")[0] for line in done.out.splitlines()] == [str(weights), str(readme)]
    (tmp_path / "file").touch()
    refused = cli("sam_ft.export", f"run={run}", f"output={tmp_path / 'file/out'}")
    messages.refused(refused, 2, f"{tmp_path / 'file/out'}", "Not a directory")


@pytest.mark.parametrize(
    "settings",
    [["format=onx"], ["format=official", "quantize=true"], ["format=huggingface"], ["format=official"]],
    ids=" ".join,
)
def test_a_format_that_cannot_be_is_refused(settings, messages, run, tmp_path, cli):
    refused = cli("sam_ft.export", f"run={run}", *settings, f"output={tmp_path / 'out'}")
    messages.refused(refused, 2, settings[0])
    assert not (tmp_path / "out").exists()


def test_the_command_that_publishes_a_hugging_face_folder_is_printed(blobs, tmp_path, cli, monkeypatch):
    monkeypatch.setitem(SPECS, "vit_b", SPEC)
    torch.save(build_sam("vit_b").state_dict(), tmp_path / "base.pth")
    run, folder = tmp_path / "cells", tmp_path / "my cells"
    model = ["model=vit_b", f"model.checkpoint={tmp_path / 'base.pth'}"]
    done = cli("train.py", *SMALL, *of(blobs), *model, f"run_dir={run}", "epochs=1")
    assert done.code == 0, done.err
    done = cli("sam_ft.export", f"run={run}", "format=huggingface", f"output='{folder}'")
    assert done.code == 0, done.err
    name = export_name("vit_b", run, run / "checkpoints/best.safetensors")
    assert f"hf upload USER/{name} '{folder}'" in done.out
    assert (folder / "model.safetensors").exists()


def test_a_missing_package_is_named(messages, run, tmp_path, cli, monkeypatch):
    monkeypatch.setattr("sam_ft.export.onnx.find_spec", lambda name: None)
    refused = cli("sam_ft.export", f"run={run}", "format=onnx", f"output={tmp_path / 'out'}")
    messages.refused(refused, 2, "format=onnx", "onnx", "sam-ft[onnx]")


def test_a_folder_of_all_weights_predicts_bit_for_bit_without_a_base_checkpoint(run, tmp_path, cli, monkeypatch):
    done = cli("sam_ft.export", f"run={run}", "format=safetensors", f"output={tmp_path / 'cells'}")
    assert done.code == 0, done.err
    image, box = draw(0, 4)[0], [8, 9, 30, 28]
    own = Predictor.from_run(run).predict(image, boxes=[box])
    monkeypatch.setattr("sam_ft.models.find_checkpoint", None)  # as on a machine without the base checkpoint
    found = Predictor.from_run(tmp_path / "cells").predict(image, boxes=[box])
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(found, own, strict=True))


def test_a_folder_of_all_weights_reads_images_as_its_run(run, tmp_path, cli):
    directory = shutil.copytree(run, tmp_path / "run")
    config = yaml.safe_load((directory / "config.yaml").read_text())
    reading = {"intensity": "range", "page": 1, "projection": None, "channels": [2, 0]}
    config["data"] |= reading
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    assert cli("sam_ft.export", f"run={directory}", "format=safetensors", f"output={tmp_path / 'cells'}").code == 0
    data = yaml.safe_load((tmp_path / "cells/config.yaml").read_text())["data"]
    assert data == {"_target_": "sam_ft.data.sources.folder.Folder", **reading}
    stack = np.random.default_rng(0).integers(0, 60000, (2, 3, 40, 40), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "ZCYX"})
    box = [8, 9, 30, 28]
    found, own = (
        Predictor.from_run(folder).predict(tmp_path / "a.tif", boxes=[box])
        for folder in (tmp_path / "cells", directory)
    )
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(found, own, strict=True))


@pytest.mark.slow
def test_of_a_folder_of_all_weights_the_tuned_model_alone_is_scored(messages, run, blobs, tmp_path, cli):
    cells = tmp_path / "cells"
    assert cli("sam_ft.export", f"run={run}", "format=safetensors", f"output={cells}").code == 0
    common = ["workers=0", "pictures=1", "eval_prompts=[box,point_1]", "amg=true", "amg_points_per_side=2"]
    done = [
        cli("evaluate.py", f"run={folder}", *of(blobs), *common, f"output={tmp_path / folder.name}-scores")
        for folder in (cells, run)
    ]
    assert [one.code for one in done] == [0, 0], done
    messages.line(done[0].out, "zero-shot is not scored")
    found, own = (json.loads((tmp_path / f"{folder.name}-scores/scores.json").read_text()) for folder in (cells, run))
    assert "zero_shot" not in found
    assert found["tuned"] == own["tuned"]
    assert found["amg"] == {"tuned": own["amg"]["tuned"]}
    refused = cli("evaluate.py", f"run={cells}", "workers=0")
    messages.refused(refused, 2, "data")


@pytest.mark.slow
def test_a_head_goes_into_the_folder_of_all_weights_and_is_left_out_elsewhere(
    messages, run, tmp_path, cli, monkeypatch
):
    head_run = write_head_run(run, tmp_path / "head")
    done = cli("sam_ft.export", f"run={head_run}", "format=safetensors", f"output={tmp_path / 'all'}")
    assert "left out" not in done.out
    image = draw(0, 4)[0]
    found, own = (Predictor.from_run(folder).segment(image) for folder in (tmp_path / "all", head_run))
    assert len(own[0]) > 0
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(found, own, strict=True))
    monkeypatch.setattr(official, "SPECS", {"lite_medsam": SimpleNamespace(image_size=64)})
    done = cli("sam_ft.export", f"run={head_run}", f"output={tmp_path / 'official'}")
    messages.line(done.out, "left out: the head", "format=official")
    (weights,) = (tmp_path / "official").glob("*.pth")
    assert not [name for name in torch.load(weights, weights_only=True) if "head." in name and "iou" not in name]


@pytest.mark.slow
def test_onnx_files_of_8_bits_are_smaller_and_the_iou_that_they_cost_is_printed(messages, run, tmp_path, cli):
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install onnxruntime, which the extra test does")
    done = cli("sam_ft.export", f"run={run}", "format=onnx", f"output={tmp_path / 'plain'}")
    assert done.code == 0, done.err
    small = cli("sam_ft.export", f"run={run}", "format=onnx", "quantize=true")
    assert small.code == 0, small.err
    messages.line(small.out, "quantize=true: ")
    (folder,) = (run / "export").glob("lite_medsam_blobs_*_int8_onnx")
    for part in ("encoder", "decoder"):
        (plain,), (small_file,) = (list(one.glob(f"*_{part}.onnx")) for one in (tmp_path / "plain", folder))
        assert small_file.stat().st_size < 0.7 * plain.stat().st_size
        assert [one.name for one in onnxruntime.InferenceSession(small_file).get_inputs()] == [
            one.name for one in onnxruntime.InferenceSession(plain).get_inputs()
        ]
    before, after = (float(word) for word in re.findall(r"0\.\d{4}", small.out.split("quantize=true")[1]))
    assert before - 0.2 < after <= 1


@pytest.mark.slow
def test_a_run_is_exported_by_one_command(cli, tmp_path):
    folder = write_folder(tmp_path / "cells", [2, 1])
    run = tmp_path / "run"
    common = ["logger=none", "workers=0", "pictures=0", f"run_dir={run}"]
    assert cli("train.py", *of(folder), *common, "epochs=1", "optimizer.lr=1e-5").code == 0
    done = cli("sam_ft.export", f"run={run}")
    assert done.code == 0, done.err
    (folder,) = (run / "export").glob("lite_medsam_run_*_official")
    (path,) = folder.glob("lite_medsam_run_*.pth")
    assert str(path) in done.out

    theirs = build_lite_medsam()
    theirs.load_state_dict(torch.load(path, weights_only=True), strict=True)
    assert Predictor.from_run(run).model.state_dict().keys() == theirs.state_dict().keys()
    for name, tensor in Predictor.from_run(run).model.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[name])
