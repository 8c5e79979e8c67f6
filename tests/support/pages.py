"""Reads README.md, CONTRIBUTING.md and docs/: their blocks, commands, Python and the settings in their text."""

import ast
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import yaml

from tests.support.cli import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SCRIPTS = {
    "train": "train.py",
    "evaluate": "evaluate.py",
    "predict": "predict.py",
    "check": "sam_ft.check",
    "export": "sam_ft.export",
    "app": "sam_ft.app",
    "report": "sam_ft.report",
}
# an optional launcher, then the console command, the module or a script of the clone
COMMAND = re.compile(
    r"(?:srun )?(?:torchrun .*?)?(?:sam-ft |(?:python )?-m sam_ft[ .]|(?:python )?(?=\w+\.py))(\w+)(?:\.py)?( .*|$)"
)
GROUP_OF = {"train_prompt": "prompt", "eval_prompt": "prompt", "train_transform": "transform"}


class Block(NamedTuple):
    """A fenced block: page as a name, language, text."""

    page: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text.splitlines()[0]}"


def read_blocks(page: Path) -> list[Block]:
    found = re.findall(r"^```(.*)\n((?:.*\n)*?)```$", page.read_text(), re.M)
    return [Block(str(page.relative_to(ROOT)), language, text) for language, text in found]


def write_own_files(folder: Path) -> Path:
    """Writes the files of mylab/ and my_conf/ that the pages show into a folder, and returns it."""
    for block in (block for page in PAGES for block in read_blocks(page)):
        if found := re.match(r"(?:# @package.*\n)?# ((?:mylab|my_conf)/\S+)\n", block.text):
            (folder / found[1]).parent.mkdir(parents=True, exist_ok=True)
            (folder / found[1]).write_text(block.text)
    return folder


def spans(page: Path) -> list[str]:
    """The inline code of a page."""
    prose = re.sub(r"^```.*\n(?:.*\n)*?```$", "", page.read_text(), flags=re.M)
    return re.findall(r"`([^`]+)`", prose)


def shell_lines(block: Block) -> list[str]:
    """Its commands, one each; `a && b` are two."""
    lines = [line for line in block.text.splitlines() if line.strip() and not line.startswith("#")]
    return [part.strip() for line in lines for part in line.split(" && ")]


def as_script(line: str) -> tuple[str, ...] | None:
    """(script, argument, ...) of a command of this project; None for any other."""
    found = COMMAND.fullmatch(line)
    if found is None or found[1] not in SCRIPTS:
        return None
    return SCRIPTS[found[1]], *shlex.split(found[2].removesuffix(" &"))  # in the background


def notebook_commands(text: str) -> list[tuple[str, ...]]:
    """(script, argument, ...) of each `sam_ft.train([...])` and `sam_ft.evaluate([...])`."""
    calls = re.findall(r"sam_ft\.(train|evaluate)\((\[.*?\])\)", text)
    return [(SCRIPTS[name], *ast.literal_eval(arguments)) for name, arguments in calls]


def settings(span: str) -> list[tuple[str, str]]:
    """(name, value) of each setting in inline code such as `a=1 b.c=2`; none where it is anything else."""
    try:
        words = shlex.split(span)
    except ValueError:
        return []
    pairs = [re.fullmatch(r"[+~]{0,2}([a-z_]+(?:@[a-z_]+)?(?:[./][\w.]+)?)=(.*)", word) for word in words]
    return [(pair[1], pair[2]) for pair in pairs if pair] if all(pairs) else []


def existing_settings() -> set[str]:
    """Names of all settings: of the scripts, of the groups, and of every choice in conf/."""
    names = set()
    for script in ("train", "evaluate", "predict", "check", "export", "report", "app"):
        main = yaml.safe_load((ROOT / f"conf/{script}.yaml").read_text())
        groups = {key for entry in main.pop("defaults") if isinstance(entry, dict) for key in entry}
        names |= _flat(main) | groups
    for path in (ROOT / "conf").glob("*/*.yaml"):
        content, group = yaml.safe_load(path.read_text()) or {}, path.parent.name
        if path.name == "demo.yaml":
            content = content[group]
        package = re.match(r"# @package (\w+\.\w+)\n", path.read_text())
        mounts = [package[1]] if package else [name for name, folder in GROUP_OF.items() if folder == group] or [group]
        names |= {f"{mount}.{name}" for mount in mounts for name in _flat(content)}
    return names


def _flat(node: object) -> set[str]:
    """The dotted names of all values of nested dicts."""
    if not isinstance(node, dict):
        return set()
    return {str(key) for key in node} | {f"{key}.{name}" for key, inner in node.items() for name in _flat(inner)}
