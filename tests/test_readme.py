"""Runs or checks every command, Python block and recipe of the README and of docs/, so that they fit the code."""

import ast
import importlib
import inspect
import re

import pytest
from omegaconf import OmegaConf
from PIL import Image

import sam_ft
from sam_ft.cli.config import build, check_signature
from tests.support.blobs import draw
from tests.support.cli import ROOT
from tests.support.heads import write_head_run
from tests.support.pages import (
    PAGES,
    as_script,
    existing_settings,
    notebook_commands,
    read_blocks,
    settings,
    shell_lines,
    spans,
    write_own_files,
)
from tests.test_architecture import LAYERS

BLOCKS = [block for page in PAGES for block in read_blocks(page)]
SPANS = [(page.name, span) for page in PAGES for span in spans(page)]
PYTHON = [
    block for block in BLOCKS if block.language == "python" and not re.match(r"# (in )?(sam_ft|tests)/", block.text)
]

# Lines of the pages that no test runs, and why.
OTHER_COMMANDS = {
    'pip install -e ".[demo]"': "installs; .ci/run does it",
    'pip install -e ".[test]"': "installs; .ci/run runs this very line",
    'pip install -e ".[dev]"': "installs; .ci/run does it",
    'pip install "./sam-ft[demo]"': "installs",
    "pip install hydra-submitit-launcher": "installs a plugin for clusters",
    'pip install "sam-ft[optuna]"': "installs; .ci/run does it with the extra of the tests",
    'pip install "sam-ft[onnx]"': "installs; .ci/run does it with the extra of the tests",
    "pytest": "this is it",
    "git clone <your fork>": "needs a network",
    "git clone <URL of the repository> sam-ft": "needs a network",
    "cd sam-ft": "a step of the two above",
    "python -m venv .venv": "makes an environment",
    "source .venv/bin/activate": "a step of the one above",
    "ssh -L 8765:127.0.0.1:8765 HOST": "needs another machine",
    'requeue() { kill -USR1 "$run"; wait "$run"; scontrol requeue "$SLURM_JOB_ID"; }': "needs SLURM",
    "trap requeue USR1": "the same",
    "run=$!": "a step of the command before it",
    'wait "$run"': "the same",
    'host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)': "needs SLURM",
    "python -m benchmarks.gallery outputs/nuclei docs/nuclei.png --images 8055957570d7 573a657d5e5f 353ab00e964f": (
        "needs the images of nuclei, which are not part of the project"
    ),
}
# Python blocks whose imports and names are checked, but which are not run, by a line of theirs.
NOT_RUN = {
    "from segment_anything import SamPredictor, sam_model_registry": "a run of vit_b; tests/end_to_end/test_export.py",
    "from transformers import SamModel, SamProcessor": "a run of vit_b; tests/export/test_huggingface.py",
    "import onnxruntime": "needs the files of an export; tests/export/test_onnx.py",
    'model = build_model("vit_b")  # official weights, downloaded once': "downloads weights",
    "import sam_ft": "trains with real settings; they are checked as those of a command",
    "def test_a_missing_file_is_refused(messages, tmp_path):": "shows a test",
}
# Settings for plugins that are not installed here.
PLUGINS = {"hydra/launcher=submitit_slurm", "hydra/launcher=submitit_local"}


def commands():
    """(script, argument, ...) of each command for the project, in blocks, in the text and in notebooks."""
    lines = [line for block in BLOCKS if block.language == "bash" for line in shell_lines(block)]
    found = [as_script(line) for line in [*lines, *(span for _, span in SPANS)]]
    notebook = [
        command
        for text in [*(span for _, span in SPANS), *(b.text for b in PYTHON)]
        for command in notebook_commands(text)
    ]
    return list(dict.fromkeys([*(command for command in found if command), *notebook]))


def with_values(arguments, pick):
    """The arguments of one job of a sweep; all others as they are."""
    if "-m" not in arguments:
        return list(arguments)
    parts = [value.partition("=") for value in arguments if value != "-m"]
    # choice(A,B) and tag(log,interval(A,B)) are the values of a search
    parts = [(*name, re.sub(r"^(?:tag\(log,)?(?:choice|interval)\((.+?)\)+$", r"\1", text)) for *name, text in parts]
    return ["".join(name) + values.split(",")[pick] for *name, values in parts]


# Parts that the reader adds first, by the recipes.
OWN_PARTS = {"loss=area", "metric=hits", "prompt@train_prompt=margin_box", "data=npz"}
COMMANDS = [command for command in commands() if not OWN_PARTS & set(command)]


@pytest.fixture(scope="module")
def own_files(tmp_path_factory):
    """A folder with the files of mylab/ and my_conf/ that the pages show."""
    return write_own_files(tmp_path_factory.mktemp("own"))


def test_pages_are_read_and_every_block_has_a_language():
    assert {script for script, *_ in COMMANDS} == {
        "train.py",
        "evaluate.py",
        "predict.py",
        "sam_ft.check",
        "sam_ft.export",
        "sam_ft.report",
        "sam_ft.app",
    }
    assert {block.language for block in BLOCKS} == {"bash", "python", "yaml", "text"}
    text = "".join(block.text for block in BLOCKS if block.language in ("text", "yaml"))
    assert not [line for line in text.splitlines() if as_script(line)], "a command in a block that no test reads"


@pytest.mark.parametrize("line", [line for block in BLOCKS if block.language == "bash" for line in shell_lines(block)])
def test_every_line_of_a_command_block_is_checked_or_has_a_reason(line):
    assert (as_script(line) is None) == (line in OTHER_COMMANDS)


def test_every_exception_is_needed():
    lines = {line for block in BLOCKS if block.language == "bash" for line in shell_lines(block)}
    code = {line for block in PYTHON for line in block.text.splitlines()}
    assert (OTHER_COMMANDS.keys() - lines, NOT_RUN.keys() - code) == (set(), set())


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_fits_the_configuration_and_the_classes(command, cli, own_files, monkeypatch):
    monkeypatch.syspath_prepend(own_files)
    script, *arguments = [
        str(own_files / word) if word == "my_conf" else word for word in command if word not in PLUGINS
    ]
    for pick in (0, -1) if "-m" in arguments else (0,):
        job = with_values(arguments, pick)
        done = cli(script, *job, *([] if "--help" in job else ["--cfg", "job"]))
        assert (done.code, done.err) == (0, ""), job
        if "--help" not in job:
            check_values(done.out, is_name=not job)


def check_values(text, is_name):
    """The options of every class are those of its constructor, and its small parts can be built.

    is_name: only names the command, as `predict.py`, which may need settings
    """
    cfg = OmegaConf.create(text)
    assert is_name or not OmegaConf.missing_keys(cfg)
    for name, node in OmegaConf.to_container(cfg, resolve=True).items():
        check_signature(node, {"model": None} if name == "optimizer" else {}, name)
    for name in ("train_prompt", "eval_prompt", "train_transform", "loss", "metric", "schedule", "cache"):
        if cfg.get(name) and "_target_" in cfg[name]:
            build(cfg[name])
    assert all((ROOT / f"conf/prompt/{name}.yaml").exists() for name in cfg.get("eval_prompts") or [])


@pytest.mark.slow
@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_every_python_block_runs_or_its_names_exist(block, run, tmp_path, monkeypatch):
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom):
            assert all(hasattr(importlib.import_module(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sam_ft":
            assert hasattr(sam_ft, node.attr)
    if NOT_RUN.keys() & set(block.text.splitlines()):
        return
    (tmp_path / "outputs").mkdir()
    if ".segment(" in block.text:
        run = write_head_run(run, tmp_path / "head")
    (tmp_path / "outputs" / "cells").symlink_to(run)
    Image.fromarray(draw(0, 3)[0]).resize((200, 180)).save(tmp_path / "new.png")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(block.text, names)
    if "masks" in names:
        assert names["masks"].shape[-2:] == (180, 200)
        assert names["masks"].any() or "points" in block.text  # LiteMedSAM does not know points


def test_every_setting_in_the_text_exists():
    arguments = {
        name for part in (sam_ft.Predictor.predict, sam_ft.build_model) for name in inspect.signature(part).parameters
    }
    known = existing_settings() | arguments
    unknown = set()
    for page, span in SPANS:
        for name, value in settings(span):
            choices = {path.stem for path in (ROOT / "conf").glob(f"{name.split('@')[0]}/*.yaml")}
            own = f"{name}={value}" in OWN_PARTS or name.startswith(("hydra.", "hydra/"))
            exists = value in choices if choices and re.fullmatch(r"[a-z]\w+", value) else name in known
            if not own and not exists:
                unknown.add(f"{page}: {name}={value}")
    assert unknown == set()


def test_every_file_named_in_the_text_exists():
    named = {span for _, span in SPANS if re.fullmatch(r"(sam_ft|conf|tests|benchmarks|docs)/[\w./]+", span)}
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_link_of_the_pages_leads_to_a_file_and_a_heading():
    """Of README.md and CONTRIBUTING.md above all: mkdocs sees docs/ alone."""
    for page in PAGES:
        for target in re.findall(r"\]\(([\w.:/#-]+)\)", page.read_text()):
            path, _, anchor = target.partition("#")
            if not path.startswith("https://"):
                file = page.parent / path if path else page
                assert file.exists(), f"{page.name}: {target}"
                assert not anchor or anchor in anchors(file), f"{page.name}: {target}"


def anchors(page):
    """Of the headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_file_of_the_tour_exists():
    rows = re.findall(r"^\| (`.+?`) \|", (ROOT / "docs/architecture.md").read_text(), re.M)
    for row in rows:
        first, *others = re.findall(r"`(.+?)`", row)
        folder = (ROOT / "sam_ft" / first).parent
        # a name without folder lies beside the first one, or at the top of the package
        for name in (first, *others):
            assert (ROOT / "sam_ft" / name).exists() or (folder / name).exists(), name


def test_the_layers_of_the_tour_are_those_of_the_test():
    lines = re.findall(r"^layer \d+ +(.*)$", (ROOT / "docs/architecture.md").read_text(), re.M)
    assert [line.replace("/", "").split() for line in lines] == LAYERS[::-1]
