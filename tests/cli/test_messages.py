"""A mistyped setting ends in one line with the correction."""

import shlex
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from tests.support.cli import start


@pytest.mark.parametrize("script", ["train.py", "evaluate.py", "sam_ft.export", "sam_ft.check"])
@pytest.mark.parametrize(
    ("override", "fact"),
    [
        ("+outputs=here", "output"),
        ("++debg=true", "debug"),
        ("+zebra.stripes=2", "zebra"),
        ("debg=true", "debug"),  # of which Hydra says to write +debg=true
    ],
)
def test_an_unknown_setting_is_refused_with_the_closest_name(messages, cli, script, override, fact):
    if script == "train.py" and "outputs" in override:
        override, fact = "+epoch=3", "epochs"
    done = cli(script, override)
    assert done.out == ""
    messages.refused(done, 2, override.strip("+").split("=")[0].split(".")[0], fact)


@pytest.mark.parametrize(
    ("override", "facts"),
    [
        ("optimizer.weight_dcay=0", ["optimizer.weight_dcay ", "optimizer.weight_decay"]),
        ("loss.terms.tversky.weight=3", ["loss.terms.tversky ", "bce, soft_iou"]),
        ("data=fold", ["fold ", "coco, csv, demo, folder"]),
        ("loss=boundry", ["boundry ", "bce_iou, boundary, "]),
        ("prompt@train_prompt=lines", ["lines ", "box, box_jitter, clicks_5, "]),
        ("experiment=cells", ["cells ", "coco, few_shot, "]),
        ("data", ["data: ", "NAME=VALUE"]),
        ("optimizer.lr=[1", ["optimizer.lr=[1 ", "NAME=VALUE"]),
        ("loss=null", ["loss=null: ", "bce_iou, boundary, "]),
        ("prompt@eval_prompt=5", ["prompt@eval_prompt=5: ", "box, box_jitter, "]),
        ("data.root=cells", ["data.root ", "data=coco", "data=folder"]),
        ("train_prompt.rounds=4", ["train_prompt.rounds ", "prompt@train_prompt=clicks_5"]),
        ("lr=1e-4", ["lr ", "optimizer.lr"]),
        ("+lr=1e-4", ["lr ", "optimizer.lr"]),
        ("weight=2", ["weight ", "loss.terms.bce.weight", "loss.terms.soft_iou.weight"]),
        ("prompt=point", ["prompt=point: ", "prompt@eval_prompt=point", "prompt@train_prompt=point"]),
        ("+prompt=point", ["prompt=point: ", "prompt@eval_prompt=point", "prompt@train_prompt=point"]),
        ("transform=flips", ["transform=flips: ", "transform@train_transform=flips"]),
        ("eval_prompts=[box,point_1]", ["eval_prompts ", "evaluate.py", "prompt@eval_prompt="]),
        ("eval_prompt=[box]", ["eval_prompt=[box]: ", "prompt@eval_prompt=NAME", "box, box_jitter, "]),
        ("eval_prompt=box", ["eval_prompt=box: ", "prompt@eval_prompt=NAME", "box, box_jitter, "]),
        ("format=official", ["format ", "sam_ft.export"]),
        ("loss.terms=[a]", ["loss.terms=[a]: ", "{NAME: VALUE}"]),
        ("adapt.train={a:1}", ["adapt.train={a:1}: ", "[A,B]"]),
        ("=5", ["=5: ", "NAME=VALUE"]),
        ("~loss=5", ["~loss=5: ", "bce_iou, "]),
        ("monitor=iou,dice", ["monitor=iou,dice: ", "'monitor=[iou,dice]'", "'monitor=\"iou,dice\"'", " -m "]),
        ("loss=sam,bce_iou", ["loss=sam,bce_iou: ", " -m "]),
        ("prompt@eval_prompt=box,mask", ["prompt@eval_prompt=box,mask: ", " -m "]),
    ],
)
def test_errors_of_hydra_are_explained_in_one_line(messages, cli, override, facts):
    done = cli("train.py", override)
    assert done.out == ""
    messages.refused(done, 2, *facts)
    assert "hydra" not in done.err.lower()


@pytest.mark.parametrize(
    ("script", "override", "facts"),
    [
        ("evaluate.py", "epochs=3", ["epochs ", "train.py"]),
        ("evaluate.py", "eval_prompt=box", ["eval_prompt: ", "prompt@eval_prompt=NAME", "box, box_jitter, "]),
        ("evaluate.py", "outputs/cells", ["outputs/cells: ", "run=outputs/cells"]),
        ("sam_ft.export", "outputs/cells", ["outputs/cells: ", "run=outputs/cells"]),
        ("sam_ft.check", "cells", ["cells: ", "data=folder data.root=cells"]),
        ("sam_ft.check", "model.image_size=64", ["model: ", "model=NAME", "lite_medsam, vit_b, "]),
    ],
)
def test_a_setting_of_another_script_is_refused_with_that_script(messages, cli, script, override, facts):
    done = cli(script, override)
    assert done.out == ""
    messages.refused(done, 2, *facts)


def test_flags_of_hydra_that_exclude_each_other_are_refused_in_one_line(cli):
    done = cli("train.py", "-m", "--cfg", "job")
    assert (done.code, done.out) == (2, "")
    assert "--multirun, --cfg" in done.err  # in argparse's words
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
    ("line", "fact"),
    [
        ("epoch: 3", "epochs"),
        ("half: 0\nepochs: ${half}", "epochs=0;"),  # a name of its own, used there
    ],
)
def test_a_mistyped_setting_in_an_experiment_file_is_refused(messages, tmp_path, line, fact):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/short.yaml").write_text(f"# @package _global_\n{line}\n")
    command = ["train.py", f"hydra.searchpath=[file://{tmp_path}]", "experiment=short", f"run_dir={tmp_path / 'run'}"]
    done = start(sys.executable, *command)
    messages.refused(done, 2, fact)


@pytest.mark.parametrize("override", ["epochs=0", "optimizer.lr_factors=[0.1]", "data.objects=none"])
def test_debug_prints_the_traceback_and_keeps_the_exit_code(cli, tmp_path, override):
    done = cli("train.py", override, "logger=none", f"run_dir={tmp_path}")
    assert "Traceback" not in done.err
    debugged = cli("train.py", override, "logger=none", f"run_dir={tmp_path}", "debug=true")
    assert "Traceback" in debugged.err
    assert (debugged.code, debugged.err.splitlines()[-1]) == (done.code, done.err.splitlines()[-1])
