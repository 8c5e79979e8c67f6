"""The plan of the house: imports point down, and every YAML fits its class."""

import ast
import inspect
from pathlib import Path

import hydra
import pytest
import yaml

ROOT = Path(__file__).parent.parent
# Rooms from the ground up. A module may import from its own room and from the rooms below it.
LAYERS = [
    ["types"],
    ["utils"],
    ["instances"],
    ["data", "losses", "metrics", "models", "prompts"],
    ["adapt", "cache"],
    ["task"],
    ["evaluation"],
    ["training"],
    ["report"],
    ["writers"],
    ["cli"],
    ["app", "check", "export", "predictor", "recipes"],
    ["__main__"],
]
LAYER_OF = {room: layer for layer, rooms in enumerate(LAYERS) for room in rooms}
MODULES = sorted(
    path for path in (ROOT / "sam_ft").rglob("*.py") if path.parent != ROOT / "sam_ft" or path.stem != "__init__"
)


def imports(path):
    """Full names of all that a module imports, at its top or inside of functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def room_of(path):
    """A `__main__.py` is a command and stands at the top, also that of a folder further down."""
    parts = path.relative_to(ROOT / "sam_ft").with_suffix("").parts
    return parts[-1] if parts[-1] == "__main__" else parts[0]


def test_every_room_has_its_layer_and_every_layer_its_rooms():
    assert {room_of(path) for path in MODULES} == set(LAYER_OF)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    room = room_of(path)
    for name in imports(path):
        if name.startswith("sam_ft."):
            other = name.split(".")[1]
            assert other == room or LAYER_OF[other] < LAYER_OF[room], f"{path} imports {name}"


def test_the_imports_of_a_known_module_are_seen():
    assert "sam_ft.types.Batch" in imports(ROOT / "sam_ft/task.py")


def test_only_commands_and_their_configuration_know_hydra():
    rooms = {room_of(path) for path in MODULES for name in imports(path) if name.split(".")[0] == "hydra"}
    assert rooms == {"__main__", "cli"}


# conf/hydra/ holds choices of Hydra's own groups, whose classes are those of plugins.
CONFIGS = sorted((ROOT / "conf").glob("*/*.yaml"))


def test_the_walk_over_conf_sees_each_group():
    groups = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()} - {"hydra"}
    assert {path.parent.name for path in CONFIGS} == groups


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT / "conf")))
def test_every_yaml_binds_to_its_class(path):
    if path.parent.name == "experiment":
        hydra_compose("train", [f"experiment={path.stem}"])
        return
    values = yaml.safe_load(path.read_text())
    resolved = dict(values)
    for base in values.pop("defaults", []):
        if base != "_self_":
            resolved = {**yaml.safe_load((path.parent / f"{base}.yaml").read_text()), **values}
    resolved.pop("defaults", None)
    if "@package _global_" in path.read_text():
        resolved, values = resolved[path.parent.name], values[path.parent.name]
    bind(resolved, path, presets=resolved != values)


def bind(node, path, presets):
    """Every option is a parameter of the class; a file that is not a preset lists all of them, in the class's order."""
    if isinstance(node, list):
        for item in node:
            bind(item, path, presets=True)
        return
    if not isinstance(node, dict):
        return
    for value in node.values():
        bind(value, path, presets=True)
    if "_target_" not in node:
        return
    options = [key for key in node if key != "_target_"]
    parameters = inspect.signature(hydra.utils.get_object(node["_target_"])).parameters
    assert set(options) <= set(parameters), f"{path}: {set(options) - set(parameters)} are not options"
    # the data configs set what the command line must give, the optimizer gets its model from train.py
    expected = [name for name in parameters if name != "model"]
    if not presets:
        assert options == expected, f"{path}: options and their order differ from the signature"


def hydra_compose(name, overrides=()):
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return hydra.compose(name, list(overrides))


def test_an_experiment_overrides_the_main_configuration():
    # _self_ last in train.yaml's defaults would silently cancel this
    for path in (ROOT / "conf/experiment").glob("*.yaml"):
        cfg = hydra_compose("train", [f"experiment={path.stem}"])
        claimed = yaml.safe_load(path.read_text())
        for key, value in claimed.items():
            if key != "defaults" and not isinstance(value, dict):
                assert cfg[key] == value


def test_every_top_level_option_has_a_comment():
    for name in ("train", "evaluate", "predict", "export", "check", "report", "app"):
        text = (ROOT / f"conf/{name}.yaml").read_text().split("hydra:")[0].split("defaults:")[1]
        for line in text.splitlines():
            if line and line[0].isalpha() and not line.startswith("name:"):
                assert "#" in line, f"conf/{name}.yaml: {line}"
