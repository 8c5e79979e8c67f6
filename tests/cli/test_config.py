import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue

from sam_ft.cli.config import build
from sam_ft.utils.errors import ConfigError, DataError
from tests.support.cli import SMALL


class Part:
    """Does what its one option says."""

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
    ("options", "words"),
    [
        ({}, "missing a required argument: 'number'"),
        (
            {"number": 5, "speed": 1},
            "got an unexpected .* 'speed'; it takes number, factor, limit, inner, folder, names",
        ),
        ({"number": "five"}, "number=five was given; expected int"),
        ({"number": None}, "number=null was given; expected int"),
        ({"number": True}, "number=True was given; expected int"),
        ({"number": [5]}, r"number=\[5\] was given; expected int"),
        ({"number": 5, "limit": 0.5}, "limit=0.5 was given; expected int or null"),
        ({"number": {"a": 5}}, r"number=\{'a': 5\} was given; expected int"),
        ({"number": 5, "folder": None}, "folder=null was given; expected text$"),
        ({"number": 5, "folder": ["a"]}, r"folder=\['a'\] was given; expected text$"),
        ({"number": 5, "folder": {"a": 1}}, r"folder=\{'a': 1\} was given; expected text$"),
        ({"number": 5, "folder": 2024}, """folder=2024 was given; expected text: 'part.folder="2024"'"""),
        ({"number": 5, "names": "*.a"}, r"""names=\*\.a was .* a list or null: 'part\.names=\["\*\.a"\]'"""),
        ({"number": 5, "names": ["a", 1]}, r"names\.1=1 was given; expected text$"),
        ({"number": 5, "names": 0.9}, "names=0.9 was given; expected a list or null$"),
        ({"number": 1}, "number=1 is too few"),
        (
            {"number": 5, "inner": {"_target_": "tests.cli.test_config.Part", "n": 1}},
            "inner: missing .* 'number'",
        ),
        (
            {"number": 5, "inner": [{"_target_": "tests.cli.test_config.Part", "number": "x"}]},
            r"inner\.0\.number=x was",
        ),
    ],
)
def test_a_wrong_option_is_named_as_it_is_typed(options, words):
    with pytest.raises(ConfigError, match=rf"^part(\.|: ){words}"):
        build(OmegaConf.create({"part": node(**options)}).part)


@pytest.mark.parametrize("prompters", [["box"], [{"jitter": 1}], ["box", 1]])
def test_text_in_place_of_a_node_is_refused(prompters):
    options = {"_target_": "sam_ft.prompts.Mixed", "prompters": prompters, "weights": [1.0]}
    with pytest.raises(ConfigError, match=r"^part\.prompters\.0=.*; expected \{_target_: CLASS, \.\.\.\}$"):
        build(OmegaConf.create({"part": options}).part)


def test_errors_of_a_node_without_a_parent_name_its_class():
    with pytest.raises(ConfigError, match=r"^tests\.cli\.test_config\.Part\.number=1 is too few"):
        build(node(number=1))
    with pytest.raises(ConfigError, match=r"^tests\.cli\.test_config\.Part\.number=x was given"):
        build(node(number="x"))


def test_a_target_without_parameters_refuses_options():
    cfg = OmegaConf.create({"cache": {"_target_": "sam_ft.cache.no_cache", "views": 8}})
    with pytest.raises(ConfigError, match=r"^cache: .*'views'; it takes no options$"):
        build(cfg.cache)


@pytest.mark.parametrize("target", ["tests.cli.test_config.Nothing", "tests.cli.test_config", "nothing.at.all"])
def test_a_target_that_is_missing_or_not_callable_is_refused(target):
    with pytest.raises(ConfigError, match=target):
        build(OmegaConf.create({"_target_": target}))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("sam_ft.losses.Lovaz", r"did you mean sam_ft\.losses\.Lovasz\?$"),
        ("sam_ft.losses.Zebra", r"sam_ft\.losses has Bce, BoundaryBce, "),
        ("sam_ft.loss.Dice", r"No module named 'sam_ft\.loss'; expected MODULE\.CLASS"),
        ("Dice", r"Empty module name; expected MODULE\.CLASS"),
    ],
)
def test_a_missing_class_is_reported_once_with_the_closest_name(target, words, capfd):
    with pytest.raises(ConfigError, match=rf"^{target}: _target_={target} cannot be found; {words}") as caught:
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


def test_a_job_of_a_sweep_that_fails_is_recorded_and_does_not_stop_the_others(tmp_path, cli):
    sweep = tmp_path / "sweep"
    done = cli("train.py", "-m", *SMALL, f"run_dir={sweep}", "epochs=no,0")
    jobs = [json.loads(line) for line in (sweep / "sweep.jsonl").read_text().splitlines()]
    assert [(job["job"], job["overrides"][-1]) for job in jobs] == [(0, "epochs=no"), (1, "epochs=0")]
    assert all("expected a whole number" in job["error"] for job in jobs)
    assert done.code == 1
    assert "Traceback" not in done.err
