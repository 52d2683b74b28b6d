"""What is in a notebook's memory: a row for each variable, as MATLAB's Workspace pane shows it."""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from labkit.counts import counted
from labkit.kinds import (
    BRACKETS,
    NUMBERS,
    PLAIN,
    TEXTS,
    array_of,
    attempt,
    attributes,
    base_of,
    class_name,
    dtype_of,
    fields,
    is_a,
    is_here,
    is_loaded,
    is_network,
    learnables,
    one_line,
    read,
    shape_of,
)
from labkit.patience import Impatient, within

WIDTH = 60  # characters of a preview
NAME = 100  # characters of the longest name that is looked at
SMALL = 10_000  # elements up to which a preview reads a whole array
SHOWN = 6  # elements that a preview shows
REPR = 0.1  # seconds that a class's own __repr__ may take

IPYTHON_NAMES = frozenset({"In", "Out", "exit", "quit", "get_ipython"})
IMPORTED = (types.FunctionType, types.BuiltinFunctionType, type, np.ufunc, type(np.mean))
# packages and types whose repr is short and reads no array
SPEAKERS = frozenset(
    {"datetime", "pathlib", "fractions", "builtins.range", "builtins.slice", "torch.device", "torch.dtype"}
)
# the pane itself is furniture, and so is its timeline
FURNITURE = {"labkit.desk": "labkit.desk.Workspace", "labkit.timeline": "labkit.timeline.Timeline"}


@dataclass(frozen=True)
class Row:
    """One variable. As in MATLAB, all have two dimensions or more: a number is 1x1, a line of N is 1xN."""

    name: str
    value: str
    size: str
    bytes: int  # of an array's elements, of a network's parameters, else of the object alone
    class_: str


def variables(namespace: Mapping[str, object]) -> dict[str, object]:
    """The student's own, by the alphabet: made in the namespace, not imported into it."""
    home = namespace.get("__name__", "__main__")
    named = [pair for pair in list(namespace.items()) if is_name(pair[0])]
    made = [pair for pair in named if _is_made(pair[1], home)]
    return dict(sorted(made, key=lambda pair: (pair[0].casefold(), pair[0])))


def is_name(name: object) -> bool:
    return (
        isinstance(name, str)
        and len(name) <= NAME
        and name.isidentifier()
        and not name.startswith("_")
        and name not in IPYTHON_NAMES
    )


def _is_made(value: object, home: object) -> bool:
    try:
        return type(value) in PLAIN or not _is_imported(value, home)
    except KeyboardInterrupt:
        raise
    except BaseException:  # as in `attempt`, which would cost a closure for each variable
        return True


def _is_imported(value: object, home: object) -> bool:
    home_of_class = type(value).__module__
    if is_a(value, types.ModuleType) or home_of_class in ("__future__", "typing"):
        return True
    if home_of_class in FURNITURE and any(is_loaded(value, path) for path in FURNITURE.values()):
        return True
    return is_a(value, *IMPORTED) and getattr(value, "__module__", "") not in (home, "__main__")


def rows(namespace: Mapping[str, object]) -> list[Row]:
    """A row for each of the student's variables, whatever it holds."""
    return [_row(name, value) for name, value in variables(namespace).items()]


def _row(name: str, value: object) -> Row:
    return Row(name, words(value), size_of(value), bytes_of(value), attempt(partial(_class, value), "?"))


def words(value: object) -> str:
    """The value as one printable line of at most WIDTH characters, whatever it is."""
    return attempt(lambda: one_line(preview(value), WIDTH), "not read")


def _class(value: object) -> str:
    name, array = class_name(value, WIDTH), array_of(value)
    return name if array is None else f"{name} {dtype_of(array)}"


def size_of(value: object) -> str:
    return attempt(lambda: size_text(shape_of(value)), "1x1")


def size_text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, (1,) * (2 - len(shape)) + shape))


def bytes_of(value: object) -> int:
    alone = attempt(partial(_bytes_alone, value), 0)
    return attempt(partial(_bytes_held, value), alone)


def _bytes_alone(value: object) -> int:
    """Not by a class's own __sizeof__: that of a pandas table counts for seconds."""
    kind = type(value)
    if kind in PLAIN:
        return sys.getsizeof(value)
    builtin = isinstance(kind.__sizeof__, types.MethodDescriptorType)
    return sys.getsizeof(value) if builtin else kind.__basicsize__


def _bytes_held(value: object) -> int:
    if type(value) in PLAIN:
        return sys.getsizeof(value)
    array = array_of(value)
    if array is not None:
        return int(array.nbytes)
    if is_network(value):
        return sum(attempt(partial(_nbytes, parameter), 0) for parameter in learnables(value))
    inside = [held for held in map(array_of, fields(value).values()) if held is not None]
    return _bytes_alone(value) + sum(int(held.nbytes) for held in inside)


def _nbytes(array: Any) -> int:
    return int(array.nbytes)


def preview(value: Any, depth: int = 2) -> str:
    """A few words. The repr of numpy, torch and containers reads everything, so it is not asked for."""
    if type(value) in NUMBERS:
        return _number(value)
    if is_a(value, *TEXTS):
        return repr(base_of(value).__getitem__(value, slice(WIDTH)))
    if is_a(value, np.generic):
        return str(value) if value.itemsize <= 32 else "not read"
    if is_a(value, types.FunctionType):
        return f"{value.__name__}({', '.join(value.__code__.co_varnames[: value.__code__.co_argcount])})"
    if is_network(value):
        sizes = [attempt(lambda p=p: math.prod(p.shape), 0) for p in learnables(value)]  # type: ignore[misc]
        return f"{sum(sizes):,} learnables in {counted(len(sizes), 'array')}"
    if (array := array_of(value)) is not None:
        return _array_preview(array) if depth == 2 else f"{size_of(array)} {dtype_of(array)}"
    return _container_preview(value, depth) if is_a(value, *BRACKETS) else _object_preview(value, depth)


def _number(value: Any) -> str:
    huge = type(value) is int and value.bit_length() > 200
    return f"integer of {value.bit_length():,} bits" if huge else repr(value)


def _container_preview(value: Any, depth: int) -> str:
    base = base_of(value)
    opening, closing = tuple(BRACKETS[base])
    items = islice(base.items(value) if base is dict else base.__iter__(value), SHOWN if depth else 0)
    parts = (item if base is dict else (item,) for item in items)
    shown = [": ".join(preview(part, depth - 1) for part in pair) for pair in parts]
    return opening + ", ".join(shown + ["…"] * (base.__len__(value) > len(shown))) + closing


def _object_preview(value: Any, depth: int) -> str:
    kind = one_line(type(value).__name__, WIDTH)
    if type(value).__module__.startswith("labkit.") and "__repr__" in vars(type(value)):
        return repr(value)  # ours are short and read no array
    if told := fields(value):
        shown = [f"{name}={preview(field, depth - 1)}" for name, field in islice(told.items(), SHOWN * (depth > 0))]
        return f"{kind}({', '.join(shown)})"
    if is_a(value, type):
        return f"class {type.__getattribute__(value, '__name__')}"
    if not _speaks(value):
        return f"{kind} object"
    try:
        return within(REPR, lambda: repr(value))
    except Impatient:
        return f"<repr took longer than {REPR} s>"
    except Exception as error:
        return f"<repr raised {type(error).__name__}>"


def _speaks(value: object) -> bool:
    """A repr is asked for when it can only be short: it has nothing but a few numbers and words to tell."""
    kind = type(value)
    if SPEAKERS & {kind.__module__.partition(".")[0], f"{kind.__module__}.{kind.__qualname__}"}:
        return True
    told = attributes(value).values()
    short = len(told) <= 20 and all(type(v) in NUMBERS or (type(v) is str and len(v) < 1_000) for v in told)
    return bool(kind.__dictoffset__) and kind.__repr__ is not object.__repr__ and short


def _array_preview(array: Any) -> str:
    count = math.prod(array.shape)
    if not is_here(array):
        return f"{array.device}, not read"
    values = read(array, range(count if count <= SMALL else SHOWN))
    if SHOWN < count <= SMALL and values.dtype.kind in "iuf":
        return _extremes(values)
    shown = [f"{v:.4g}" if type(v) is float else one_line(preview(v, 0), 20) for v in values[:SHOWN].tolist()]
    return "  ".join(shown + ["…"] * (count > SHOWN)) or "empty"


def _extremes(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    found = [f"{finite.min():.4g} to {finite.max():.4g}"] if finite.size else []
    return ", ".join(found + [f"{values.size - finite.size:,} not finite"] * (finite.size < values.size))
