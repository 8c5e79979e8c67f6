"""A mistyped setting ends in one line with the correction."""

import shlex
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from tests.support.cli import start

FEW_SETTINGS = {  # of the scripts that have so few that all are named
    "sam_ft.export": "run, format, output, debug",
    "sam_ft.check": "data, model, train_prompt, input_side, output, debug",
}


@pytest.mark.parametrize("script", ["train.py", "evaluate.py", "sam_ft.export", "sam_ft.check"])
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+outputs=here", "outputs is not a setting; did you mean output?"),
        ("++debg=true", "debg is not a setting; did you mean debug?"),
        ("+zebra.stripes=2", "zebra is not a setting; see conf/ for those there are"),
        ("debg=true", "debg is not a setting; did you mean debug?"),  # of which Hydra says to write +debg=true
    ],
)
def test_an_unknown_setting_is_refused_with_the_closest_name(cli, script, override, message):
    if script == "train.py":
        override, message = override.replace("outputs", "epoch"), message.replace("outputs", "epoch")
        message = message.replace("output?", "epochs?")
    few = FEW_SETTINGS.get(script)
    message = message.replace("see conf/ for those there are", f"there are {few}") if few else message
    done = cli(script, override)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"error: {message}\n"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "optimizer.weight_dcay=0",
            "optimizer.weight_dcay is not a setting; did you mean optimizer.weight_decay?\n",
        ),
        ("loss.terms.tversky.weight=3", "loss.terms.tversky is not a setting; there are bce, soft_iou\n"),
        ("data=fold", "fold is not a choice of data; did you mean folder? There are coco, csv, demo, folder\n"),
        ("loss=boundry", "boundry is not a choice of loss; did you mean boundary? There are bce_iou, boundary, "),
        ("prompt@train_prompt=lines", "lines is not a choice of prompt; there are box, box_jitter, clicks_5, "),
        ("experiment=cells", "cells is not a choice of experiment; there are coco, few_shot, "),
        ("data", "data: expected NAME=VALUE, such as epochs=10\n"),
        ("optimizer.lr=[1", "optimizer.lr=[1 cannot be read; expected NAME=VALUE, NAME=[A,B], "),
        ("loss=null", "loss=null: expected one of bce_iou, boundary, "),
        ("prompt@eval_prompt=5", "prompt@eval_prompt=5: expected one of box, box_jitter, "),
        ("data.root=cells", "data.root is not a setting; choose data=coco or data=folder first\n"),
        (
            "train_prompt.rounds=4",
            "train_prompt.rounds is not a setting; choose prompt@train_prompt=clicks_5 or prompt@",
        ),
        ("lr=1e-4", "lr is not a setting; did you mean optimizer.lr?\n"),
        ("+lr=1e-4", "lr is not a setting; did you mean optimizer.lr?\n"),
        ("weight=2", "weight is not a setting; did you mean loss.terms.bce.weight or loss.terms.soft_iou.weight?\n"),
        ("prompt=point", "prompt=point: expected prompt@eval_prompt=point or prompt@train_prompt=point\n"),
        ("+prompt=point", "prompt=point: expected prompt@train_prompt=point or prompt@eval_prompt=point\n"),
        ("transform=flips", "transform=flips: expected transform@train_transform=flips\n"),
        (
            "eval_prompts=[box,point_1]",
            "eval_prompts is not a setting here but one of evaluate.py; did you mean prompt@eval_prompt=...?\n",
        ),
        ("eval_prompt=[box]", "eval_prompt=[box]: prompt@eval_prompt=NAME chooses one of box, box_jitter, "),
        ("eval_prompt=box", "eval_prompt=box: prompt@eval_prompt=NAME chooses one of box, box_jitter, "),
        ("format=official", "format is not a setting here but one of sam_ft.export\n"),
        ("loss.terms=[a]", "loss.terms=[a]: expected settings by name, {NAME: VALUE}\n"),
        ("adapt.train={a:1}", "adapt.train={a:1}: expected a list, [A,B]\n"),
        ("=5", "=5: expected NAME=VALUE, such as epochs=10\n"),
        ("~loss=5", "~loss=5: expected one of bce_iou, "),
        (
            "monitor=iou,dice",
            "monitor=iou,dice: expected 'monitor=[iou,dice]' for a list, 'monitor=\"iou,dice\"' for text, or -m ",
        ),
        ("loss=sam,bce_iou", "loss=sam,bce_iou: expected one choice; add -m to train with one after the other\n"),
        ("prompt@eval_prompt=box,mask", "prompt@eval_prompt=box,mask: expected one choice; add -m "),
    ],
)
def test_errors_of_hydra_are_explained_in_one_line(cli, override, message):
    done = cli("train.py", override)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {message}")
    assert "hydra" not in done.err.lower()
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("script", "override", "message"),
    [
        ("evaluate.py", "epochs=3", "epochs is not a setting here but one of train.py\n"),
        ("evaluate.py", "eval_prompt=box", "eval_prompt: prompt@eval_prompt=NAME chooses one of box, box_jitter, "),
        ("evaluate.py", "outputs/cells", "outputs/cells: expected NAME=VALUE, such as run=outputs/cells\n"),
        ("sam_ft.export", "outputs/cells", "outputs/cells: expected NAME=VALUE, such as run=outputs/cells\n"),
        ("sam_ft.check", "cells", "cells: expected NAME=VALUE, such as data=folder data.root=cells\n"),
        ("sam_ft.check", "model.image_size=64", "model: model=NAME chooses one of lite_medsam, vit_b, "),
    ],
)
def test_a_setting_of_another_script_is_refused_with_that_script(cli, script, override, message):
    done = cli(script, override)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {message}")


def test_flags_of_hydra_that_exclude_each_other_are_refused_in_one_line(cli):
    done = cli("train.py", "-m", "--cfg", "job")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: Only one of --run, --multirun, --cfg, ")
    assert done.err.count("\n") == 1


def test_a_bug_keeps_its_traceback(cli, tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("a fault")

    monkeypatch.setattr("torch.manual_seed", fail)
    with pytest.raises(ValueError, match="a fault"):
        cli("train.py", f"run_dir={tmp_path}")


@pytest.mark.parametrize(
    "value", ["~/cells", "/a#b", "/a/(1)", "/ü b (", '/a="b"', "/it's", r"C:\a (1)\b", "(\\", r"(\""]
)
def test_the_error_about_an_odd_path_shows_quotes_that_shell_and_hydra_read(cli, value):
    done = cli("train.py", "data=folder", f"data.root={value}")
    assert done.code == 2
    (typed,) = shlex.split(done.err.split("for the shell: ")[1])
    assert OverridesParser.create().parse_override(typed).value() == value


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("epoch: 3", "epoch is not a setting; did you mean epochs?"),
        (
            "half: 0\nepochs: ${half}",
            "epochs=0; expected a whole number of at least 1",
        ),  # a name of its own, used there
    ],
)
def test_a_mistyped_setting_in_an_experiment_file_is_refused(tmp_path, line, message):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/short.yaml").write_text(f"# @package _global_\n{line}\n")
    command = ["train.py", f"hydra.searchpath=[file://{tmp_path}]", "experiment=short", f"run_dir={tmp_path / 'run'}"]
    done = start(sys.executable, *command)
    assert (done.code, done.err) == (2, f"error: {message}\n")


@pytest.mark.parametrize("override", ["epochs=0", "optimizer.lr_factors=[0.1]", "data.objects=none"])
def test_debug_prints_the_traceback_and_keeps_the_exit_code(cli, tmp_path, override):
    done = cli("train.py", override, "logger=none", f"run_dir={tmp_path}")
    assert "Traceback" not in done.err
    debugged = cli("train.py", override, "logger=none", f"run_dir={tmp_path}", "debug=true")
    assert "Traceback" in debugged.err
    assert (debugged.code, debugged.err.splitlines()[-1]) == (done.code, done.err.splitlines()[-1])
