"""Every mistake ends in one line with the value found, the one expected and the remedy, and in an exit code."""

import pytest
from filelock import FileLock

from tests.conftest import of
from tests.end_to_end.conftest import CONFIG
from tests.support.cli import SMALL


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


def test_an_output_directory_that_cannot_be_made(train, tmp_path):
    (tmp_path / "file").write_text("")
    train(CONFIG, tmp_path / "file/run", overrides=[f"run_dir={tmp_path / 'file/run'}"])


def test_a_run_directory_that_is_in_use(train, tmp_path):
    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run/.lock"):
        train(CONFIG, tmp_path / "run")
