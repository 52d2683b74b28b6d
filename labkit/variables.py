"""What is in a notebook's memory: a row for each variable, as MATLAB's Workspace pane shows it, and its fingerprint.

A fingerprint runs no method of the student's objects and reads nothing from a GPU. It reads at most 1,000 elements of
a variable: a numpy element between these, changed in place, is not seen (torch counts its own changes). Of objects
that are not arrays, networks, optimisers, containers, dataclasses or of the notebook's own classes, only a new object
in the variable is seen.
"""

from __future__ import annotations

import marshal
import math
import sys
import types
import zlib
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any, NamedTuple, TypeVar

import numpy as np

WIDTH = 60  # characters of a preview
NAME = 100  # characters of the longest name that is looked at
SMALL = 10_000  # elements up to which a preview reads a whole array
SHOWN = 6  # elements that a preview shows
SAMPLE = 1_000  # elements of one variable that a fingerprint reads ...
INSIDE = 20  # ... and of each array inside a list, a dict or a network, as long as SAMPLE lasts
SAMPLE_BYTES = 64_000

IPYTHON_NAMES = frozenset({"In", "Out", "exit", "quit", "get_ipython"})
IMPORTED = (types.FunctionType, types.BuiltinFunctionType, type, np.ufunc, type(np.mean))
NUMBERS: frozenset[type] = frozenset({bool, int, float, complex, type(None)})
TEXTS = (str, bytes, bytearray)
BRACKETS = {list: "[]", tuple: "()", set: "{}", frozenset: "{}", deque: "[]", dict: "{}"}
SIZED = (*BRACKETS, *TEXTS, range)
# packages and types whose repr is short and reads no array
SPEAKERS = frozenset(
    {"datetime", "pathlib", "fractions", "builtins.range", "builtins.slice", "torch.device", "torch.dtype"}
)
# the pane itself is furniture, and so is its timeline
FURNITURE = ("labkit.desk.Workspace", "labkit.timeline.Timeline")

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One variable. As in MATLAB, all have two dimensions or more: a number is 1x1, a line of N is 1xN."""

    name: str
    value: str
    size: str
    bytes: int  # of an array's elements, of a network's parameters, else of the object alone
    class_: str


def attempt(ask: Callable[[], T], otherwise: T) -> T:
    """A student's object may raise anything wherever it is touched; only Ctrl-C is meant for the student."""
    try:
        return ask()
    except KeyboardInterrupt:
        raise
    except BaseException:
        return otherwise


def one_line(text: str, width: int) -> str:
    """One printable line: what moves the cursor or turns the direction of writing becomes a space."""
    start = str.__getitem__(text, slice(width + 1))
    start = "".join(c if c.isprintable() else " " for c in start)
    return start if len(start) <= width else start[: width - 1] + "…"


def _is(value: object, *bases: type) -> bool:
    """isinstance would believe the object's own __class__."""
    return issubclass(type(value), bases)


def _is_loaded(value: object, path: str) -> bool:
    """Is it of the class at this path? Nothing can be a tensor before torch is loaded, so torch is not imported."""
    module, _, name = path.rpartition(".")
    owner = getattr(sys.modules.get(module), name, None)
    return isinstance(owner, type) and issubclass(type(value), owner)


def _array(value: Any) -> Any:
    """The array, without the methods of a student's subclass, or the tensor; None for anything else."""
    if _is(value, np.ndarray):
        return np.ndarray.view(value, np.ndarray)
    return value if _is_loaded(value, "torch.Tensor") else None


def _base(value: object) -> Any:
    return next((base for base in SIZED if _is(value, base)), None)


def _attributes(value: object) -> dict[str, Any]:
    found: object = attempt(lambda: object.__getattribute__(value, "__dict__"), None)
    return found if isinstance(found, dict) else {}


def _fields(value: object) -> dict[str, Any]:
    """A dataclass's fields, as far as they are set."""
    names = next(
        (vars(k)["__dataclass_fields__"] for k in type(value).__mro__ if "__dataclass_fields__" in vars(k)),
        (),
    )
    found = _attributes(value)
    return {name: found[name] for name in names if name in found}


def variables(namespace: Mapping[str, object]) -> dict[str, object]:
    """The student's own, by the alphabet: made in the namespace, not imported into it."""
    home = namespace.get("__name__", "__main__")
    named = [pair for pair in list(namespace.items()) if is_name(pair[0])]
    made = [pair for pair in named if attempt(partial(_is_made, pair[1], home), True)]
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
    if _is(value, types.ModuleType) or type(value).__module__ in ("__future__", "typing"):
        return False
    if any(_is_loaded(value, path) for path in FURNITURE):
        return False
    return not _is(value, *IMPORTED) or getattr(value, "__module__", "") in (home, "__main__")


def rows(namespace: Mapping[str, object]) -> list[Row]:
    """A row for each of the student's variables, whatever it holds."""
    return [_row(name, value) for name, value in variables(namespace).items()]


def _row(name: str, value: object) -> Row:
    preview = attempt(lambda: one_line(_preview(value), WIDTH), "not read")
    return Row(name, preview, _size(value), _bytes(value), attempt(partial(_class, value), "?"))


def _class(value: object) -> str:
    name, array = one_line(type(value).__name__, WIDTH), _array(value)
    return name if array is None else f"{name} {_dtype(array)}"


def _dtype(array: Any) -> str:
    return one_line(str(array.dtype).removeprefix("torch."), WIDTH)


def _shape(value: object) -> tuple[int, ...]:
    array, base = _array(value), _base(value)
    if array is not None:
        return tuple(map(int, array.shape))
    return (base.__len__(value),) if base else ()


def _size(value: object) -> str:
    shape: tuple[int, ...] = attempt(lambda: _shape(value), ())
    return "x".join(map(str, (1,) * (2 - len(shape)) + shape))


def _bytes(value: object) -> int:
    alone = attempt(partial(_bytes_alone, value), 0)
    return attempt(partial(_bytes_held, value), alone)


def _bytes_alone(value: object) -> int:
    """Not by a class's own __sizeof__: that of a pandas table counts for seconds."""
    kind = type(value)
    builtin = isinstance(kind.__sizeof__, types.MethodDescriptorType)
    return sys.getsizeof(value) if builtin else kind.__basicsize__


def _bytes_held(value: object) -> int:
    if _is_loaded(value, "torch.nn.Module"):
        return sum(_bytes(parameter) for parameter in _learnables(value))
    array = _array(value)
    if array is not None:
        return int(array.nbytes)
    inside = [held for held in map(_array, _fields(value).values()) if held is not None]
    return _bytes_alone(value) + sum(int(held.nbytes) for held in inside)


def _learnables(network: object) -> list[Any]:
    """Each parameter once. The network's own parameters() might be a student's."""
    seen: dict[int, object] = {}
    for item in _drain(queue := deque([iter((network,))])):
        if item is not None and id(item) not in seen:
            seen[id(item)] = item
            queue.append(_children(item, "_parameters", "_modules"))
    return [item for item in seen.values() if _is_loaded(item, "torch.Tensor")]


def _children(module: object, *kinds: str) -> Iterator[object]:
    return chain.from_iterable(_attributes(module).get(kind, {}).values() for kind in kinds)


def _drain(queue: deque[Iterator[object]]) -> Iterator[object]:
    while queue:
        yield from queue.popleft()


def _preview(value: Any, depth: int = 2) -> str:
    """A few words. The repr of numpy, torch and containers reads everything, so it is not asked for."""
    if type(value) in NUMBERS:
        return _number(value)
    if _is(value, *TEXTS):
        return repr(_base(value).__getitem__(value, slice(WIDTH)))
    if _is(value, np.generic):
        return str(value) if value.itemsize <= 32 else "not read"
    if _is(value, types.FunctionType):
        return f"{value.__name__}({', '.join(value.__code__.co_varnames[: value.__code__.co_argcount])})"
    if _is_loaded(value, "torch.nn.Module"):
        sizes = [attempt(lambda p=p: math.prod(p.shape), 0) for p in _learnables(value)]  # type: ignore[misc]
        return f"{sum(sizes):,} learnables in {len(sizes)} arrays"
    if (array := _array(value)) is not None:
        return _array_preview(array) if depth == 2 else f"{_size(array)} {_dtype(array)}"
    return _container_preview(value, depth) if _is(value, *BRACKETS) else _object_preview(value, depth)


def _number(value: Any) -> str:
    huge = type(value) is int and value.bit_length() > 200
    return f"integer of {value.bit_length():,} bits" if huge else repr(value)


def _container_preview(value: Any, depth: int) -> str:
    base = _base(value)
    opening, closing = tuple(BRACKETS[base])
    items = islice(base.items(value) if base is dict else base.__iter__(value), SHOWN if depth else 0)
    parts = (item if base is dict else (item,) for item in items)
    shown = [": ".join(_preview(part, depth - 1) for part in pair) for pair in parts]
    return opening + ", ".join(shown + ["…"] * (base.__len__(value) > len(shown))) + closing


def _object_preview(value: Any, depth: int) -> str:
    kind = one_line(type(value).__name__, WIDTH)
    if type(value).__module__.startswith("labkit.") and "__repr__" in vars(type(value)):
        return repr(value)  # ours are short and read no array
    if fields := _fields(value):
        shown = [f"{name}={_preview(field, depth - 1)}" for name, field in islice(fields.items(), SHOWN * (depth > 0))]
        return f"{kind}({', '.join(shown)})"
    if _is(value, type):
        return f"class {type.__getattribute__(value, '__name__')}"
    if not _speaks(value):
        return f"{kind} object"
    try:
        return repr(value)
    except Exception as error:
        return f"<repr raised {type(error).__name__}>"


def _speaks(value: object) -> bool:
    """A repr is asked for when it can only be short: it has nothing but a few numbers and words to tell."""
    kind = type(value)
    if SPEAKERS & {kind.__module__.partition(".")[0], f"{kind.__module__}.{kind.__qualname__}"}:
        return True
    told = _attributes(value).values()
    short = len(told) <= 20 and all(type(v) in NUMBERS or (type(v) is str and len(v) < 1_000) for v in told)
    return bool(kind.__dictoffset__) and kind.__repr__ is not object.__repr__ and short


def _array_preview(array: Any) -> str:
    count = math.prod(array.shape)
    if not _is_here(array):
        return f"{array.device}, not read"
    values = _read(array, range(count if count <= SMALL else SHOWN))
    if SHOWN < count <= SMALL and values.dtype.kind in "iuf":
        return _extremes(values)
    shown = [f"{v:.4g}" if type(v) is float else one_line(_preview(v, 0), 20) for v in values[:SHOWN].tolist()]
    return "  ".join(shown + ["…"] * (count > SHOWN)) or "empty"


def _extremes(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    found = [f"{finite.min():.4g} to {finite.max():.4g}"] if finite.size else []
    return ", ".join(found + [f"{values.size - finite.size:,} not finite"] * (finite.size < values.size))


def _is_here(array: Any) -> bool:
    return isinstance(array, np.ndarray) or array.device.type == "cpu"


def _read(array: Any, picks: range) -> np.ndarray:
    """The elements at these places, without a copy of the rest."""
    index = np.arange(picks.start, picks.stop, picks.step)
    if isinstance(array, np.ndarray):
        return np.asarray(array.flat[index])
    taken = array.detach().take(sys.modules["torch"].from_numpy(index))
    try:
        return np.asarray(taken.numpy())
    except TypeError:  # numpy has no bfloat16
        return np.asarray(taken.tolist())


def _places(count: int, wanted: int) -> range:
    """Evenly spaced, the step coprime to the count: a step of 3,920 would read one column of 5000x784."""
    step = max(1, math.ceil(count / max(wanted, 1)))
    while math.gcd(step, count) > 1:
        step += 1
    return range(0, count if wanted else 0, step)


def fingerprint(value: object) -> int:
    """Another number once the variable is seen to have changed; good within this process only."""
    marks: list[Hashable] = []
    seen: set[int] = set()
    left = SAMPLE
    for item in islice(_drain(queue := deque([iter((value,))])), SAMPLE):
        marks.append(id(item))
        if id(item) in seen:
            continue
        seen.add(id(item))
        wanted = min(left, INSIDE if queue or len(marks) > 1 else SAMPLE)
        unknown: tuple[Hashable, list[object], int] = (id(item), [], 0)
        marks[-1], parts, read = attempt(partial(_look, item, wanted), unknown)
        left -= read
        queue.append(iter(parts))
    return hash(tuple(marks))


def _look(item: Any, wanted: int) -> tuple[Hashable, list[object], int]:
    """What this object is now; what is inside it; how many elements were read."""
    if type(item) in NUMBERS:
        return marshal.dumps(item, 2), [], 0
    if _is(item, np.generic):
        return item.tobytes(), [], 0
    if _is(item, *TEXTS):
        return (
            hash(item) if type(item) in (str, bytes) and len(item) < SMALL else (id(item), _size(item)),
            [],
            0,
        )
    if (array := _array(item)) is not None:
        return (id(item), *_array_mark(array, wanted)), [], wanted
    parts = _parts(item)
    if set(map(type, parts)) <= NUMBERS:
        return (id(item), _size(item), marshal.dumps(parts, 2)), [], 0
    return (id(item), _size(item)), parts, 0


def _array_mark(array: Any, wanted: int) -> tuple[Hashable, ...]:
    """torch counts its changes, but not those made through .data or numpy; for these there is the sample."""
    version = attempt(lambda: (array._version, array.data_ptr()), (0, 0))
    return version, _size(array), _dtype(array), attempt(partial(_checksum, array, wanted), 0)


def _checksum(array: Any, wanted: int) -> int:
    if not _is_here(array):
        return 0
    fit = SAMPLE_BYTES // max(1, array.itemsize)
    values = _read(array, _places(math.prod(array.shape), min(wanted, fit)))
    return hash(tuple(map(id, values))) if values.dtype.kind == "O" else zlib.crc32(values.tobytes())


def _parts(value: Any) -> list[Any]:
    base = _base(value)
    if base in (list, tuple):
        return list(base.__getitem__(value, slice(None, None, 1 + base.__len__(value) // SAMPLE)))
    if base is dict:
        return list(chain.from_iterable(islice(dict.items(value), SAMPLE)))
    if base in BRACKETS:
        return list(islice(base.__iter__(value), SAMPLE))
    if _is_loaded(value, "torch.nn.Module"):
        return list(islice(_children(value, "_parameters", "_buffers", "_modules"), SAMPLE))
    if _is_loaded(value, "torch.optim.Optimizer"):
        groups = [{k: v for k, v in group.items() if k != "params"} for group in value.param_groups]
        return [
            *islice(value.state.values(), SAMPLE),
            *chain.from_iterable(group.values() for group in groups),
        ]
    own = _attributes(value) if type(value).__module__ == "__main__" else _fields(value)
    return list(islice(own.values(), SAMPLE))


class Seen(NamedTuple):
    fingerprint: int
    size: str
    bytes: int


ABSENT = Seen(0, "", 0)


def see(value: object) -> Seen:
    return Seen(attempt(partial(fingerprint, value), id(value)), _size(value), _bytes(value))
