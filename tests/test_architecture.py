"""The plan of the house: imports point down, and every YAML fits its class."""

import ast
import inspect
from pathlib import Path

import hydra
import pytest
import yaml

ROOT = Path(__file__).parent.parent
# A module may import from its own folder and from lower layers. `data.check` is a room of its own: a command that
# reads data and draws, so it stands above both, whatever its name.
LAYERS = [
    (0, ("types", "errors", "files", "seeds", "geometry", "memory")),
    (0.5, ("distributed",)),
    (1, ("transforms", "losses", "metrics", "optim", "prompts", "models", "adapt")),
    (2, ("data", "checkpoint", "parallel", "loggers")),
    (3, ("task", "evaluation", "amg", "report")),
    (
        4,
        (
            "annotations",
            "hints",
            "config",
            "settings",
            "commandline",
            "sweeps",
            "runs",
            "trust",
            "overwriting",
            "predict",
            "export",
            "data.check",
        ),
    ),
]


def room_of(module: str) -> str:
    parts = module.split(".")[1:3]
    return ".".join(parts) if parts == ["data", "check"] else parts[0]


def layer_of(module: str) -> float:
    return next(layer for layer, names in LAYERS if room_of(module) in names)


def test_imports_point_down():
    seen = 0
    for path in sorted((ROOT / "sam_ft").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if module == "sam_ft":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                assert node.level == 0, f"{path}: relative import"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                if not name.startswith("sam_ft.") or name.startswith("sam_ft.types."):
                    continue
                seen += 1
                same_folder = room_of(name) == room_of(module)
                down = layer_of(name) < layer_of(module)
                level = layer_of(module) == layer_of(name) >= 3  # the top layers tell one story in several files
                assert same_folder or down or level, f"{module} imports {name}, which is above it or beside it"
    assert seen > 60


def test_only_the_modules_of_the_configuration_and_the_scripts_know_hydra():
    for path in (ROOT / "sam_ft").rglob("*.py"):
        if path.name not in ("config.py", "settings.py", "hints.py", "commandline.py", "sweeps.py", "__main__.py"):
            assert "hydra" not in path.read_text(), path


CONFIGS = sorted(path for path in (ROOT / "conf").rglob("*.yaml") if path.parent != ROOT / "conf")


def test_the_walk_over_conf_sees_all_files():
    assert len(CONFIGS) == 46


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
    asked = [name for name in parameters if name != "model"]
    if not presets:
        assert options == asked, f"{path}: options and their order differ from the signature"


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
    for name in ("train", "evaluate", "export", "check"):
        text = (ROOT / f"conf/{name}.yaml").read_text().split("hydra:")[0].split("defaults:")[1]
        for line in text.splitlines():
            if line and line[0].isalpha() and not line.startswith("name:"):
                assert "#" in line, f"conf/{name}.yaml: {line}"
