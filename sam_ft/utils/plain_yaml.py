"""YAML of plain values, for files that came with a checkpoint: nothing in it refers to anything, inside or outside."""

import re
from pathlib import Path
from typing import Any

import yaml

from sam_ft.utils.errors import ConfigError

MAX_BYTES = 200_000
MAX_NODES = 5_000  # a run has some 500
MAX_DEPTH = 50


class PlainYamlError(ValueError):
    """It holds more than plain values, or too many."""


def read_plain_yaml(path: Path) -> Any:
    """The values of a YAML file.

    Raises:
        ConfigError: it cannot be read, is no file, is too large, or holds an alias, an anchor, a tag or an
            interpolation.
    """
    try:
        return _read_values(path)
    except PlainYamlError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read: {str(error).split(chr(10))[0]}") from error


def _read_values(path: Path) -> Any:
    if not path.is_file():
        raise PlainYamlError("expected a file")
    with open(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise PlainYamlError(f"has more than {MAX_BYTES} bytes, which no configuration of a run has")
    values = yaml.load(content.decode(), Loader=_PlainLoader)
    _refuse_interpolations(values)
    return values


class _PlainLoader(yaml.SafeLoader):
    """Reads numbers and texts as OmegaConf does: 1e-4 is a number, 2024-01-01 a text."""

    nodes = depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        self.nodes += 1
        self.depth += 1
        if self.nodes > MAX_NODES or self.depth > MAX_DEPTH:
            raise PlainYamlError(
                f"has more than {MAX_NODES} values or {MAX_DEPTH} levels, which no configuration of a run has"
            )
        for kind in ("anchor", "tag"):  # an alias has an anchor
            if getattr(event, kind, None) is not None:
                line, name = event.start_mark.line + 1, getattr(event, kind)
                raise PlainYamlError(f"line {line}: {name} is an alias, an anchor or a tag; write the value itself")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _refuse_interpolations(values: Any) -> None:
    """Those of OmegaConf could read environment variables."""
    if isinstance(values, str) and "${" in values:
        raise PlainYamlError(f"{values[:80]} is an interpolation; write the value itself")
    if isinstance(values, dict):
        _refuse_interpolations([*values.keys(), *values.values()])
    if isinstance(values, list | tuple):
        for value in values:
            _refuse_interpolations(value)
