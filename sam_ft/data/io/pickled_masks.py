"""Finds the masks in Cellpose's _seg.npy, a pickled dictionary, without unpickling it.

`pickle` would call functions that the file names. This module only follows the file's instructions on a stack of plain
values: a call stays a note of the function's name and its arguments, nothing is imported, and nothing is called.
"""

import io
import pickletools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MARK = object()


@dataclass(eq=False)
class Call:
    """A call that the file asks for; it is never made. state: set after it."""

    function: str
    arguments: Any
    state: Any = None


def find_pickled_masks(data: bytes) -> NDArray:
    """The array "masks" of a pickled dictionary in an array of objects. Raises: ValueError when there is none."""
    root = _follow(data)
    content = (
        root.state[4] if isinstance(root, Call) and isinstance(root.state, tuple) and len(root.state) > 4 else None
    )
    found = content[0] if isinstance(content, list) and len(content) == 1 else None
    if not isinstance(found, dict) or "masks" not in found:
        raise ValueError("it holds Python objects other than Cellpose's dictionary with masks")
    return _as_array(found["masks"])


def _follow(data: bytes) -> Any:
    """The value on the stack at the end; see `pickletools` for the instructions."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}

    def since_mark() -> list[Any]:
        place = max(i for i, value in enumerate(stack) if value is MARK)
        values = stack[place + 1 :]
        del stack[place:]
        return values

    # A buffer: a forged length reads no more than there is.
    for instruction, argument, _ in pickletools.genops(io.BytesIO(data)):
        name = instruction.name
        if name in ("PROTO", "FRAME", "STOP"):
            continue
        if name in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[argument])
        elif name == "MARK":
            stack.append(MARK)
        elif name in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE"):
            stack.append({"EMPTY_LIST": [], "EMPTY_DICT": {}, "EMPTY_TUPLE": ()}[name])
        elif name in ("TUPLE", "LIST"):
            values = since_mark()
            stack.append(tuple(values) if name == "TUPLE" else values)
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("APPEND", "APPENDS"):
            values = since_mark() if name == "APPENDS" else [stack.pop()]
            stack[-1].extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            values = since_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            stack[-1].update(zip(values[::2], values[1::2], strict=True))
        elif name == "GLOBAL":
            stack.append(str(argument))
        elif name == "STACK_GLOBAL":
            stack[-2:] = [f"{_as_str(stack[-2])} {_as_str(stack[-1])}"]
        elif name in ("REDUCE", "NEWOBJ"):
            stack[-2:] = [Call(_as_str(stack[-2]), stack[-1])]
        elif name == "BUILD":
            state = stack.pop()
            stack[-1].state = state
        elif instruction.stack_before == [] and len(instruction.stack_after) == 1:
            stack.append({"NEWTRUE": True, "NEWFALSE": False}.get(name, argument))  # a constant
        else:
            raise ValueError(f"it holds the unexpected instruction {name}")
    return stack[-1]


def _as_str(value: Any) -> str:
    """The value, if it is a text; others may be nested without end."""
    if not isinstance(value, str):
        raise ValueError("it names no function where one is called")
    return value


def _as_array(value: Any) -> NDArray:
    """The array of integers whose parts a call of NumPy's would join."""
    if not (isinstance(value, Call) and value.function.endswith("multiarray _reconstruct") and value.state):
        raise ValueError("its masks are no array")
    _, shape, kind, is_fortran, data = value.state
    if isinstance(data, Call) and data.function == "_codecs encode":  # of protocol 2
        data = data.arguments[0].encode("latin1")
    if not (isinstance(kind, Call) and kind.function == "numpy dtype" and re.fullmatch(r"[biu]\d", kind.arguments[0])):
        raise ValueError("its masks are no integers")
    order = kind.state[1] if kind.state and kind.state[1] in ("<", ">") else "="
    values = np.frombuffer(data, np.dtype(kind.arguments[0]).newbyteorder(order))
    return values.reshape(shape, order="F" if is_fortran else "C").astype(values.dtype.newbyteorder("="))
