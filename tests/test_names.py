"""A name stands for one thing: no function or class of the package's modules is defined under the same name twice."""

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "sam_ft"
COMMANDS = {"main"}  # each module that is a command has one
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def shared_names(modules):
    """The names defined at the top of several modules, with those modules.

    modules: name -> source
    """
    homes = defaultdict(list)
    for module, source in modules.items():
        for name in {node.name for node in ast.parse(source).body if isinstance(node, DEFINITIONS)} - COMMANDS:
            homes[name].append(module)
    return {name: found for name, found in homes.items() if len(found) > 1}


def test_no_name_is_defined_in_two_modules():
    modules = {str(path.relative_to(PACKAGE)): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
    assert len(modules) > 50
    assert shared_names(modules) == {}


def test_private_names_and_classes_count_but_methods_and_imports_do_not():
    first = "def _read(): ...\nclass Part:\n    def add(self): ...\n"
    second = "from first import _read\nclass Part: ...\ndef add(): ...\n"
    third = "async def _read(): ...\n"
    found = shared_names({"first": first, "second": second, "third": third})
    assert found == {"_read": ["first", "third"], "Part": ["first", "second"]}
