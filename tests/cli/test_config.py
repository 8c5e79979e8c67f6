import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue

from sam_ft.cli.config import build
from sam_ft.utils.errors import ConfigError, DataError
from tests.support.cli import SMALL
from tests.test_architecture import hydra_compose


class Part:
    """A class with one option."""

    def __init__(
        self,
        number: int,
        factor: float = 1.0,
        limit: int | None = None,
        inner: object = None,
        folder: str | Path = "here",
        names: Sequence[str] | None = None,
    ):
        self.options = (number, factor, limit, inner)
        if number == 1:
            raise ValueError("number=1 is too few")
        if number == 2:
            raise DataError("no such folder")
        if number == 3:
            len(number)


def node(**options):
    return OmegaConf.create({"_target_": "tests.cli.test_config.Part", **options})


def test_options_and_arguments_arrive_as_plain_values():
    options = build(node(number=5, factor=2), inner=[1]).options
    assert options == (5, 2, None, [1])
    assert type(options[3]) is list


@pytest.mark.parametrize(
    ("options", "start", "fact"),
    [
        ({}, "part: ", "'number'"),
        ({"number": 5, "speed": 1}, "part: ", "'speed'; it takes number, factor, limit, inner, folder, names"),
        ({"number": "five"}, "part.number=five; ", "int"),
        ({"number": None}, "part.number=null; ", "int"),
        ({"number": True}, "part.number=True; ", "int"),
        ({"number": [5]}, "part.number=[5]; ", "int"),
        ({"number": 5, "limit": 0.5}, "part.limit=0.5; ", "int or null"),
        ({"number": {"a": 5}}, "part.number={'a': 5}; ", "int"),
        ({"number": 5, "folder": None}, "part.folder=null; ", "text"),
        ({"number": 5, "folder": ["a"]}, "part.folder=['a']; ", "text"),
        ({"number": 5, "folder": {"a": 1}}, "part.folder={'a': 1}; ", "text"),
        ({"number": 5, "folder": 2024}, "part.folder=2024; ", "'part.folder="),
        ({"number": 5, "names": "*.a"}, "part.names=*.a; ", "list"),
        ({"number": 5, "names": ["a", 1]}, "part.names.1=1; ", "text"),
        ({"number": 5, "names": 0.9}, "part.names=0.9; ", "[A,B] or null"),
        ({"number": 1}, "part.number=1 ", "too few"),
        ({"number": 5, "inner": {"_target_": "tests.cli.test_config.Part", "n": 1}}, "part.inner: ", "'number'"),
        (
            {"number": 5, "inner": [{"_target_": "tests.cli.test_config.Part", "number": "x"}]},
            "part.inner.0.number=x; ",
            "",
        ),
    ],
)
def test_a_wrong_option_is_named_as_it_is_typed(messages, options, start, fact):
    with messages.raises(ConfigError, fact) as caught:
        build(OmegaConf.create({"part": node(**options)}).part)
    assert str(caught.value).startswith(start)


@pytest.mark.parametrize("prompters", [["box"], [{"jitter": 1}], ["box", 1]])
def test_text_in_place_of_a_node_is_refused(messages, prompters):
    options = {"_target_": "sam_ft.prompts.Mixed", "prompters": prompters, "weights": [1.0]}
    with messages.raises(ConfigError, "part.prompters.0=", "{_target_: CLASS, ...}"):
        build(OmegaConf.create({"part": options}).part)


def test_errors_of_a_node_without_a_parent_name_its_class(messages):
    with messages.raises(ConfigError, "tests.cli.test_config.Part.number=1 "):
        build(node(number=1))
    with messages.raises(ConfigError, "tests.cli.test_config.Part.number=x; "):
        build(node(number="x"))


def test_a_target_without_parameters_refuses_options(messages):
    cfg = OmegaConf.create({"cache": {"_target_": "sam_ft.cache.no_cache", "views": 8}})
    with messages.raises(ConfigError, "cache: ", "'views'"):
        build(cfg.cache)


@pytest.mark.parametrize("target", ["tests.cli.test_config", "sam_ft.losses.Lovaz", "sam_ft.loss.Dice", "Dice"])
def test_a_target_that_is_missing_or_not_callable_is_refused_once(target, capfd):
    with pytest.raises(ConfigError, match=target) as caught:  # in Hydra's words
        build(OmegaConf.create({"_target_": target}))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_users_mistake_inside_a_constructor_passes_through():
    with pytest.raises(DataError, match="no such folder"):
        build(node(number=2))


def test_a_bug_inside_a_constructor_keeps_its_traceback():
    with pytest.raises(TypeError, match="has no len") as caught:
        build(node(number=3))
    assert caught.traceback[-1].name == "__init__"


def test_a_missing_value_is_named_in_full():
    with pytest.raises(MissingMandatoryValue, match=r"part\.number"):
        build(OmegaConf.create({"part": node(number="???")}).part)


def test_annotations_that_only_the_class_knows_are_not_checked():
    cfg = OmegaConf.create({"_target_": "torchvision.transforms.v2.ColorJitter", "brightness": [0.5, 1.5]})
    assert build(cfg).brightness == (0.5, 1.5)


def test_a_job_of_a_sweep_that_fails_is_recorded_and_does_not_stop_the_others(messages, tmp_path, cli):
    sweep = tmp_path / "sweep"
    done = cli("train.py", "-m", *SMALL, f"run_dir={sweep}", "epochs=no,0")
    jobs = [json.loads(line) for line in (sweep / "sweep.jsonl").read_text().splitlines()]
    assert [(job["job"], job["overrides"][-1]) for job in jobs] == [(0, "epochs=no"), (1, "epochs=0")]
    for job in jobs:
        messages.check(job["error"], job["overrides"][-1])
    assert done.code == 1
    assert "Traceback" not in done.err


def test_a_semantic_head_follows_the_data_and_learns_alone_by_its_own_score():
    head, alone = "head=semantic", ["train_only=head", "init=run"]
    cfg = hydra_compose("train", [head, *alone, "data=folder", "data.root=x"])
    assert (cfg.head.components, cfg.head.min_area, cfg.monitor) == (False, 16, "miou")
    cfg = hydra_compose("train", [head, "data=folder", "data.root=x", "data.objects=classes", "data.min_area=3"])
    assert (cfg.head.components, cfg.head.min_area, cfg.monitor) == (True, 3, "iou")
    cfg = hydra_compose("train", [head, "data=coco", "data.root=x"])
    assert (cfg.head.components, cfg.head.min_area) == (True, 0)
    assert hydra_compose("train", ["head=instances", *alone]).monitor == "msa"
