"""Every mistake ends in one line with the value found, the one expected and the remedy, and in an exit code."""

import shutil

import numpy as np
import pytest
from filelock import FileLock
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import load_file, save_file

from sam_ft.cli.run_config import write_run_config
from sam_ft.models import build_model
from sam_ft.training.checkpoint import save_partial_weights
from sam_ft.training.tensor_file import FORMAT_VERSION
from tests.conftest import of
from tests.support.blobs import write_folder
from tests.support.cli import SMALL
from tests.support.reference import LITE_MEDSAM_WEIGHTS

CONFIG, DATA, CHECKPOINT = 2, 3, 4


@pytest.fixture
def refused(cli, messages):
    """Runs a script that must refuse: with this code, these facts in its message, and nothing trained."""

    def check(code, *facts, script="train.py", overrides=()):
        done = cli(script, *overrides)
        messages.refused(done, code, *facts)
        assert "epoch 1" not in done.out

    return check


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "cells", [2, 3, 1])


@pytest.fixture
def train(refused, folder, tmp_path):
    """Tries to train on `folder` with more overrides."""

    def check(code, *words, overrides=(), objects="instances"):
        own = [*SMALL, "data=folder", f"data.root={folder}", f"data.objects={objects}", f"run_dir={tmp_path / 'run'}"]
        mask_folder = "data.mask_folder=instances" if objects == "instances" else "data.mask_folder=masks"
        refused(code, *words, overrides=[*own, mask_folder, "epochs=1", *overrides])

    return check


def test_a_folder_that_is_not_there(train):
    train(DATA, "nowhere", overrides=["data.root=/nowhere"])


def test_a_root_that_was_not_given(refused, tmp_path):
    refused(CONFIG, "data.root=...", overrides=[*SMALL, "data=folder", f"run_dir={tmp_path}"])


def test_a_mask_folder_that_is_not_there(train):
    train(DATA, "labels", "instances", overrides=["data.mask_folder=labels"])


def test_masks_that_are_missing_extra_and_ambiguous_are_listed_together(train, folder):
    (folder / "train.txt").unlink()
    (folder / "val.txt").unlink()
    (folder / "instances/blobs_0.png").unlink()
    shutil.copy(folder / "instances/blobs_1.png", folder / "instances/stray.png")
    shutil.copy(folder / "images/blobs_2.png", folder / "images/blobs_2.bmp")
    train(DATA, "blobs_0", "stray", "blobs_2")


def test_a_mask_of_another_size(train, folder):
    Image.fromarray(np.ones((5, 7), np.uint16)).save(folder / "instances/blobs_0.png")
    train(DATA, "blobs_0.png", "7 x 5", "72 x 48")


def test_a_mask_of_several_classes(train, folder):
    ids = np.zeros((48, 72), np.uint8)
    ids[:10], ids[10:20] = 1, 2
    Image.fromarray(ids).save(folder / "masks/blobs_0.png")
    train(DATA, "blobs_0.png", "data.objects=instances", objects="whole")


def test_an_unreadable_mask(train, folder):
    path = folder / "instances/blobs_0.png"
    path.write_bytes(path.read_bytes()[:60])
    train(DATA, "blobs_0.png")


def test_an_image_that_breaks_off_is_named_when_it_is_read(train, folder):
    path = folder / "images/blobs_0.png"
    path.write_bytes(path.read_bytes()[:-200])
    train(DATA, "blobs_0.png")


def test_images_without_a_single_object(train, folder):
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    train(DATA, "data.*", objects="whole")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("monitor=accuracy", ["monitor=accuracy", "iou"]),
        ("precision=int8", ["precision=int8", "bfloat16"]),
        ("data.objects=cells", ["data.objects=cells", "instances"]),
        ("model.image_size=63", ["63", " 4;"]),
        ("model.model_type=vit_x", ["vit_x", "vit_b"]),
        ("adapt.train=[decoder.*]", ["decoder.*", "mask_decoder."]),
        ("adapt.freeze=['*']", ["adapt.freeze=['*']"]),
        ("train_prompt.jitter=-1", ["jitter"]),
        ("loss.terms.bce.weight=much", ["weight", "much"]),
        ("loss.terms.bce=2", ["terms.bce=2", "terms.bce.weight"]),
        ("loss.terms.bce.weight=-1", ["terms.bce.weight=-1", "at least 0"]),
        ("+loss.weight=1", ["loss: ", "weight"]),
        ("+loss.terms.bce.weigth=1", ["loss.terms.bce: ", "weigth"]),
        ("batch_size=0", ["batch_size=0;"]),
        ("epochs=many", ["epochs=many;"]),
        ("patience=0", ["patience=0;"]),
        ("clip_norm=0", ["clip_norm=0;"]),
        ("name=", ["name="]),
        ("name=..", ["name=..;"]),
        ("name=null", ["name=null;"]),
        ("run_dir=", ["run_dir= "]),
        ("run_dir=2024", ["run_dir=2024", "'run_dir="]),
        ("debug=maybe", ["debug=maybe;", "true or false"]),
        ("overwrite=1", ["overwrite=1;", "true or false"]),
        ("ema=1", ["ema=1;"]),
        ("ema=0.0", ["ema=0.0;"]),
        ("ema=slow", ["ema=slow;"]),
        ("mix=[]", ["mix=[];"]),
        ("mix=[0.5,1]", ["mix=[0.5, 1];"]),
        ("mix=0.5", ["mix=0.5;"]),
    ],
)
def test_a_setting_that_does_not_exist_or_does_not_fit(train, override, words):
    train(CONFIG, *words, overrides=[override])


SLIPS = {
    "train.py --epochs 3": ["--epochs ", "epochs=3"],
    "train.py data=folder --model=vit_b": ["--model=vit_b ", "model=vit_b"],
    "train.py --overwrite": ["--overwrite ", "overwrite=VALUE"],
    "train.py data=folder -m model=vit_b,vit_t": ["model=vit_b,vit_t: ", "flags"],
    "train.py learning_rate=1e-4": ["learning_rate ", "optimizer.lr"],
    "train.py learning_rate=": ["learning_rate ", "optimizer.lr"],
    "train.py lr=1e-4": ["lr ", "optimizer.lr"],
    "train.py +lr=1e-4": ["lr ", "optimizer.lr"],
    "train.py device=cuda": ["device ", "CUDA_VISIBLE_DEVICES"],
    "train.py weight=2": ["weight ", "loss.terms.bce.weight", "loss.terms.soft_iou.weight"],
    "train.py debg=true": ["debg ", "debug"],  # of which Hydra says to write +debg=true
    "train.py optimizer.weight_dcay=0": ["optimizer.weight_dcay ", "optimizer.weight_decay"],
    "train.py loss.terms.tversky.weight=3": ["loss.terms.tversky ", "bce, soft_iou"],
    "train.py data.root=cells": ["data.root ", "data=folder", "data="],
    "train.py train_prompt.rounds=4": ["train_prompt.rounds ", "prompt@train_prompt="],
    "train.py +zebra.stripes=2": ["zebra "],
    "train.py model=sam": ["sam ", "lite_medsam, vit_b, "],
    "train.py loss=dice": ["dice ", "dice_bce?", "bce_iou, boundary, "],
    "train.py +prompt=box": ["prompt ", "prompt@eval_prompt"],
    "train.py eval_prompt=box": ["eval_prompt=box: ", "prompt@eval_prompt=NAME", "box, box_jitter, "],
    "train.py eval_prompts=[box]": ["eval_prompts ", "prompt@eval_prompt"],
    "evaluate.py epochs=3": ["epochs "],
    "evaluate.py +eval_prompt=box": ["eval_prompt=box: ", "prompt@eval_prompt=NAME"],
    "sam_ft.check ++debg=true": ["debg ", "debug"],
    "evaluate.py": ["run=outputs/NAME", "model", "data"],
    "evaluate.py run=5": ["run=5"],
    "evaluate.py output=": ["output="],
    "evaluate.py amg=2": ["amg=2"],
    "evaluate.py trust=mylab": ["trust=mylab;", "[A,B]"],
    "evaluate.py model=vit_b +data.root=x": ["run=outputs/NAME", "missing: data"],
    "predict.py": ["run"],
    "predict.py run=cells": ["images"],
    "predict.py run=cells images=cells save=labels": ["save=labels;", "[A,B]"],
    "sam_ft.export": ["run"],
    "sam_ft.export run=2024": ["run=2024"],
    "sam_ft.check output=null": ["output=null"],
    "sam_ft.check debug=maybe": ["debug=maybe;"],
}
IN_HYDRAS_WORDS = {
    "train.py -m --cfg job": ["--multirun, --cfg"],
    "train.py --config cells": ["--config-dir"],
    "train.py prompt=box": ["prompt@eval_prompt, prompt@train_prompt"],
    "train.py eval_prompt=[box]": ["eval_prompt=[box]"],
    "train.py loss=null": ["loss=null: "],
    "train.py epochs=1,2": ["epochs=1,2", "--multirun"],
    "train.py cells": ["cells", "NAME=VALUE"],
    "train.py data.root=/a(1)": ["data.root=/a(1)", 'NAME="VALUE"'],
    "evaluate.py run=cells data.root=/x": ["+data.root=/x"],
    "evaluate.py run=cells eval_prompt.scale=2": ["+eval_prompt.scale=2"],
    "sam_ft.export outputs/cells": ["outputs/cells"],
}


@pytest.mark.parametrize("command", [*SLIPS, *IN_HYDRAS_WORDS])
def test_a_slip_on_the_command_line_ends_in_one_line(cli, messages, command):
    script, *overrides = command.split(" ")
    done = cli(script, *overrides)
    assert (done.code, done.out, done.err.count("\n")) == (CONFIG, "", 1)
    assert done.err.startswith("error: ")
    for fact in IN_HYDRAS_WORDS.get(command, ()):
        assert fact in done.err
    if command in SLIPS:
        messages.check(done.err, *SLIPS[command])


def test_a_wrong_precision_is_named_before_the_run_in_its_directory(refused, run, blobs):
    overrides = [*SMALL, *of(blobs), f"run_dir={run}", "epochs=2", "precision=fp16"]
    refused(CONFIG, "precision=fp16 ", "auto, float32, bfloat16", overrides=overrides)


def test_a_cache_folder_that_cannot_be_made(refused, blobs, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file/home", tmp_path / "file"):
        monkeypatch.setenv("SAM_FT_HOME", str(home))
        for needed in (["data=demo"], [*of(blobs), "model=vit_t"]):
            refused(CONFIG, home, overrides=[*SMALL, *needed, f"run_dir={tmp_path / 'run'}"])


def test_a_checkpoint_of_another_model(train):
    more = ["model=vit_b", f"model.checkpoint={LITE_MEDSAM_WEIGHTS}"]
    train(CHECKPOINT, "lite_medsam", "model=vit_b", overrides=more)


def test_a_checkpoint_that_is_not_there(train):
    train(CHECKPOINT, "nothing.pth", overrides=["model.checkpoint=nothing.pth"])


def test_an_output_directory_that_cannot_be_made(train, tmp_path):
    (tmp_path / "file").write_text("")
    train(CONFIG, tmp_path / "file/run", overrides=[f"run_dir={tmp_path / 'file/run'}"])


def test_a_run_directory_that_is_in_use(train, tmp_path):
    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run/.lock"):
        train(CONFIG, tmp_path / "run")


@pytest.fixture
def evaluated(refused, blobs, tmp_path):
    """Tries to evaluate a partial checkpoint."""

    def check(*words, checkpoint, side=64):
        own = ["model=lite_medsam", f"model.image_size={side}", "workers=0", "pictures=0", f"output={tmp_path}"]
        overrides = [*own, *of(blobs), f"checkpoint={checkpoint}"]
        refused(CHECKPOINT, *words, script="evaluate.py", overrides=overrides)

    return check


def test_a_partial_checkpoint_that_is_not_there(evaluated, tmp_path):
    evaluated("none.safetensors", checkpoint=tmp_path / "none.safetensors")


def test_a_partial_checkpoint_of_another_input_side(evaluated, run):
    evaluated("model.image_size=64", checkpoint=run / "checkpoints/best.safetensors", side=48)


def test_a_partial_checkpoint_of_another_model(evaluated, tmp_path):
    other = build_model("vit_t", checkpoint=None, image_size=64)
    other.requires_grad_(False).mask_decoder.requires_grad_(True)
    save_partial_weights(other, tmp_path / "other.safetensors")
    evaluated("model=vit_t", "model=lite_medsam", checkpoint=tmp_path / "other.safetensors")


def test_a_partial_checkpoint_on_top_of_another_base(evaluated, tmp_path):
    other = build_model("lite_medsam", checkpoint=None, image_size=64)
    other.requires_grad_(False).mask_decoder.requires_grad_(True)
    save_partial_weights(other, tmp_path / "other.safetensors")
    evaluated("other.safetensors", "model.checkpoint", checkpoint=tmp_path / "other.safetensors")


@pytest.mark.parametrize("kept", [0, 100, 0.5, -1])
def test_a_partial_checkpoint_that_breaks_off(evaluated, run, tmp_path, kept):
    whole = (run / "checkpoints/best.safetensors").read_bytes()
    cut = whole[: int(len(whole) * kept) if isinstance(kept, float) else kept]
    (tmp_path / "cut.safetensors").write_bytes(cut)
    evaluated("cut.safetensors", f"{len(cut)} bytes", checkpoint=tmp_path / "cut.safetensors")


def test_a_partial_checkpoint_with_one_flipped_bit(evaluated, run, tmp_path):
    whole = bytearray((run / "checkpoints/best.safetensors").read_bytes())
    whole[-1000] ^= 1
    (tmp_path / "flipped.safetensors").write_bytes(whole)
    evaluated("flipped.safetensors", checkpoint=tmp_path / "flipped.safetensors")


def test_a_file_of_weights_that_is_no_partial_checkpoint(evaluated, run, tmp_path):
    save_file(load_file(run / "checkpoints/best.safetensors"), tmp_path / "plain.safetensors")
    evaluated("plain.safetensors", checkpoint=tmp_path / "plain.safetensors")


@pytest.mark.parametrize(
    ("version", "words"),
    [("1", ("older version", "train again")), ("99", ("newer version", "update sam-ft"))],
)
def test_a_partial_checkpoint_of_another_version(evaluated, run, tmp_path, version, words):
    tensors = load_file(run / "checkpoints/best.safetensors")
    save_file(tensors, tmp_path / "other.safetensors", {"format_version": version})
    evaluated(f"expected {FORMAT_VERSION}", *words, checkpoint=tmp_path / "other.safetensors")


@pytest.mark.parametrize("script", ["evaluate.py", "sam_ft.export"])
def test_a_directory_that_holds_no_run(refused, script, tmp_path):
    refused(CONFIG, "config.yaml", "outputs/NAME", script=script, overrides=[f"run={tmp_path}"])


def test_export_in_a_format_that_is_not_known(refused, run):
    refused(CONFIG, "format=onnx3d", "official", script="sam_ft.export", overrides=[f"run={run}", "format=onnx3d"])


def test_export_at_a_side_that_the_official_package_cannot_build(refused, run):
    refused(CONFIG, "model.image_size=64", "256", script="sam_ft.export", overrides=[f"run={run}"])


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.open",
        "torch.hub.load",
        "sam_ft.utils.files.os.system",
        "sam_ft.cli.runs.shutil.rmtree",
        "sam_ft.models.download.download",
        "sam_ft.training.checkpoint.save_partial_weights",
        "evil.run",
    ],
)
def test_a_run_whose_config_calls_something_else_is_refused_and_nothing_is_called(refused, run, tmp_path, target):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    cfg = OmegaConf.load(copy / "config.yaml")
    marker = tmp_path / "marker"
    cfg.metric = {"_target_": target, "command": f"touch {marker}"}
    OmegaConf.save(cfg, copy / "config.yaml")
    refused(CONFIG, target, "config.yaml: ", script="evaluate.py", overrides=[f"run={copy}", "workers=0"])
    assert not marker.exists()


@pytest.fixture
def foreign(folder, tmp_path):
    """The directory of a run that came from someone else, and a folder outside of it."""
    parts = {
        "data": {"_target_": "sam_ft.data.sources.folder.Folder", "root": str(folder)},
        "model": {"_target_": "sam_ft.models.build_model", "model_type": "lite_medsam"},
        "metric": {"_target_": "sam_ft.metrics.SegmentationMetrics"},
        "cache": {"_target_": "sam_ft.cache.EmbeddingCache"},
        "eval_prompt": {"_target_": "sam_ft.prompts.Box"},
    }
    (tmp_path / "run").mkdir()
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/scores.json").write_text("precious")
    write_run_config(tmp_path / "run/config.yaml", {**parts, "precision": "auto"})
    return tmp_path / "run"


OUTPUTS = {
    "evaluation": ("evaluation", ["evaluate.py"]),
    "a file in the evaluation": ("evaluation/worst_and_best.png", ["evaluate.py"]),
    "evaluation of other data": ("evaluation-cells", ["evaluate.py", "+data.root=cells"]),
    "a folder in it": ("mine/below", ["evaluate.py", "output=RUN/mine/below/scores"]),
    "predictions": ("predictions", ["predict.py", "images=IMAGES"]),
    "a format": ("predictions/images/labels", ["predict.py", "images=IMAGES"]),
    "export": ("export", ["sam_ft.export"]),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_nothing_is_written_through_a_link_in_the_directory_of_a_run(refused, foreign, folder, name, monkeypatch):
    link, (script, *overrides) = OUTPUTS[name]
    victim = foreign.parent / "victim"
    (foreign / link).parent.mkdir(parents=True, exist_ok=True)
    (foreign / link).symlink_to(victim)
    if script == "sam_ft.export":  # which looks at its output once it has the weights
        model = build_model("lite_medsam")
        save_partial_weights(model, foreign / "checkpoints/best.safetensors")
    own = [one.replace("RUN", str(foreign)).replace("IMAGES", str(folder / "images")) for one in overrides]
    refused(CONFIG, foreign / link, victim, script=script, overrides=[f"run={foreign}", *own])
    assert [(path.name, path.read_text()) for path in victim.iterdir()] == [("scores.json", "precious")]


def test_a_configuration_of_someone_else_reads_no_environment_variable(refused, foreign, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    path = foreign / "config.yaml"
    path.write_text(path.read_text().replace("precision: auto", "precision: ${oc.env:WANDB_API_KEY}"))
    for script, *rest in (["evaluate.py"], ["predict.py", "images=x"], ["sam_ft.export"]):
        refused(CONFIG, "config.yaml", "${oc.env:WANDB_API_KEY}", script=script, overrides=[f"run={foreign}", *rest])
