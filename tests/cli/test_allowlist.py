import contextlib
import sys

import hydra
import pytest
from omegaconf import OmegaConf

from sam_ft.cli.allowlist import ALLOWED_FUNCTIONS, check_allowlist
from sam_ft.cli.runs import load_run
from sam_ft.training.tensor_file import FORMAT_VERSION
from sam_ft.utils.errors import ConfigError
from tests.cli.test_runs import METRIC, write
from tests.test_architecture import CONFIGS


def test_every_part_that_is_built_of_a_run_is_on_the_allowlist():
    paths = [path for path in CONFIGS if path.parent.name in ("cache", "data", "metric", "model", "prompt")]
    for path in paths:
        node = OmegaConf.to_container(OmegaConf.load(path))
        check_allowlist({key: value for key, value in node.items() if key != "defaults"}, path)
    text = "".join(path.read_text() for path in paths)
    assert all(f"_target_: {name}\n" in text for name in ALLOWED_FUNCTIONS)


def rerooted(cfg):
    """The metric alone under a new root, as evaluate.py takes it out of a run."""
    return OmegaConf.create({"metric": cfg.metric}).metric


def test_an_interpolation_that_depends_on_its_root_is_refused(messages, tmp_path):
    marker = tmp_path / "marker"
    hostile = {"_target_": "${oc.select:safe,os.mkdir}", "path": str(marker)}
    write(tmp_path, safe=METRIC["_target_"], metric=hostile)
    hydra.utils.instantiate(rerooted(OmegaConf.load(tmp_path / "config.yaml")))
    assert marker.exists()  # the attack is real

    marker.rmdir()
    with messages.raises(ConfigError, "config.yaml", "${oc.select:safe,os.mkdir}"):
        load_run(tmp_path, ["metric"])
    assert not marker.exists()


ATTACKS = {
    # one resolution takes the backslash away; the string that is left would resolve to a node of its own
    "an escaped interpolation": {**METRIC, "x": "\\${oc.create:{_target_:os.mkdir,path:MARKER}}"},
    "a function of the project": {
        "_target_": "sam_ft.data.sources.synthetic.make_demo",
        "root": {"_target_": "pathlib.Path", "_args_": ["MARKER"]},
    },
    "a module inside a module": {"_target_": "sam_ft.utils.files.os.mkdir", "path": "MARKER"},
    "a part inside a part": {**METRIC, "x": [{"_target_": "os.mkdir", "path": "MARKER"}]},
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_config_that_would_call_something_else_is_refused(messages, attack, tmp_path):
    marker = tmp_path / "marker"
    settings = {"format_version": FORMAT_VERSION, "metric": ATTACKS[attack]}
    text = OmegaConf.to_yaml(OmegaConf.create(settings)).replace("MARKER", str(marker))
    (tmp_path / "config.yaml").write_text(text)
    with messages.raises(ConfigError, "config.yaml: "):
        load_run(tmp_path, ["metric"])
    assert not marker.exists()

    # The attack is real: Hydra alone carries it out, though the class around it may then stumble over the result.
    resolved = OmegaConf.create(OmegaConf.to_container(OmegaConf.create(text), resolve=True))
    with contextlib.suppress(hydra.errors.InstantiationException):
        hydra.utils.instantiate(resolved.metric)
    assert marker.exists()


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "this",  # importing it would print a poem
        "sam_ft.utils.files.os.system",
        "sam_ft.metrics.segmentation.Tensor",
        "sam_ft.metrics.SegmentationMetrics.__class__",
        "sam_ft.losses.Bce",
        "sam_ft.models.download.download",
        "sam_ft.data.transforms.resize_image",
        "torchvision.transforms.v2.functional.to_image",
        "torchvision.datasets.FakeData",
        "sam_ft.data..folder.Folder",
        "sam_ft.data.\0",
        "",
        None,
        5,
        ["sam_ft.metrics.SegmentationMetrics"],
    ],
)
def test_only_classes_of_the_allowed_modules_may_be_called(messages, target, tmp_path, capsys):
    write(tmp_path, metric={"_target_": target})
    with messages.raises(ConfigError, "config.yaml: ", target):
        load_run(tmp_path, ["metric"])
    assert not capsys.readouterr().out


WRONG_PLACES = {
    "a data set as the model": ("model", "sam_ft.data.sources.folder.Folder"),
    "a metric of one object": ("metric", "sam_ft.metrics.BoundaryIou"),
    "a cache as the metric": ("metric", "sam_ft.cache.no_cache"),
    "an augmentation as the data": ("data", "sam_ft.data.transforms.Augment"),
    "prompts as the data": ("data", "sam_ft.prompts.Box"),
    "a metric as the prompts": ("eval_prompt", "sam_ft.metrics.SegmentationMetrics"),
    "a folder of the cache": ("cache", "sam_ft.cache.folder.EntryFolder"),
}


@pytest.mark.parametrize("name", WRONG_PLACES)
def test_a_part_in_the_place_of_another_is_refused(messages, tmp_path, name):
    part, target = WRONG_PLACES[name]
    write(tmp_path, **{part: {"_target_": target}})
    with messages.raises(ConfigError, "config.yaml: ", part, target):
        load_run(tmp_path, [part])


@pytest.mark.parametrize("value", [None, [], 5, {}, {"_target_": None}])
def test_a_part_that_is_none_is_refused(messages, tmp_path, value):
    write(tmp_path, cache=value)
    with messages.raises(ConfigError, "config.yaml: cache: "):
        load_run(tmp_path, ["cache"])


@pytest.mark.parametrize("key", ["_partial_", "_args_", "_convert_", "_recursive_", "_mode_"])
def test_other_keys_of_hydra_are_refused(messages, key, tmp_path):
    write(tmp_path, metric={**METRIC, key: True})
    with messages.raises(ConfigError, "config.yaml: ", key):
        load_run(tmp_path, ["metric"])


OWN = """
import os
from os import mkdir


class Area:
    weight: float = 1.0


def area() -> int:
    return 1
"""


@pytest.fixture
def mylab(tmp_path, monkeypatch):
    """A package of the user's own on the path."""
    (tmp_path / "lib/mylab").mkdir(parents=True)
    (tmp_path / "lib/mylab/__init__.py").touch()
    (tmp_path / "lib/mylab/losses.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path / "lib")
    for module in [name for name in sys.modules if name.split(".")[0] == "mylab"]:  # of another test
        monkeypatch.delitem(sys.modules, module)
    yield
    for name in ("mylab", "mylab.losses"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["Area", "area"])
def test_a_trusted_package_may_be_called(messages, mylab, tmp_path, name):
    write(tmp_path, metric={"_target_": f"mylab.losses.{name}"})
    load_run(tmp_path, ["metric"], trust=["mylab"])
    for trust in ([], ["my"], ["mylab.metrics"]):
        with messages.raises(ConfigError, "config.yaml: ", f"mylab.losses.{name}", "trust=["):
            load_run(tmp_path, ["metric"], trust)


@pytest.mark.parametrize("target", ["mylab.losses.mkdir", "mylab.losses.os.mkdir", "mylab.losses.nothing"])
def test_functions_that_a_trusted_package_imported_are_not_its_own(messages, mylab, tmp_path, target):
    write(tmp_path, metric={"_target_": target, "path": str(tmp_path / "marker")})
    with messages.raises(ConfigError, "config.yaml: ", target):
        load_run(tmp_path, ["metric"], trust=["mylab"])


def test_parts_that_are_not_needed_do_not_lock_a_run(tmp_path):
    write(tmp_path, metric=METRIC, loss={"_target_": "mylab.losses.Area"})
    assert list(load_run(tmp_path, ["metric"]).cfg) == ["metric"]
