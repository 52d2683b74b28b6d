"""What is in a notebook's memory and what each cell changed there, as MATLAB's Workspace pane shows it.

`workspace()` is the table of the student's variables. From its first call on it also looks after every cell
and keeps the timeline, which question 2 of the lab is answered from. A training loop that runs inside one
cell is one change; to see each iteration, call `observe` in the loop:

    pane = workspace(path="workspace.json")
    for iteration in range(100):
        ...
        pane.observe(f"iteration {iteration}")

Looking after a cell runs no method of the student's objects and reads nothing from a GPU. It reads at most
1,000 elements of a variable: a numpy element between these, changed in place, is not seen (torch counts its
own changes). Of objects that are not arrays, networks, optimisers, containers, dataclasses or of the
notebook's own classes, only a new object in the variable is seen. A timeline holds words and numbers, never
the variables, so it keeps nothing alive. It is of one life of the kernel: after a restart the file is written
anew.
"""

from __future__ import annotations

import html
import json
import marshal
import math
import os
import re
import sys
import types
import zlib
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import astuple, dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

FORMAT = "labkit workspace"
VERSION = 1
MAX_STEPS = 2_000
MAX_BYTES = 1_000_000  # of a timeline's file
WIDTH = 60  # characters of a preview
SOURCE = 80  # characters kept of a cell's first line
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

SIDES = {
    "appeared": (False, True),
    "changed": (True, True),
    "gone": (True, False),
}  # there before, there after
SIZE = re.compile(r"[0-9]{1,19}(x[0-9]{1,19}){1,63}")
ADVICE = "run the notebook again from its first cell and hand in the file that workspace(path=...) writes"
COLUMNS = ("Name", "Value", "Size", "Class", "Bytes", "Change")
ALIGN = (str.ljust, str.ljust, str.rjust, str.ljust, str.rjust, str.ljust)

T = TypeVar("T")


class TimelineError(ValueError):
    """A file that is not a whole timeline: what was found and what to do."""


@dataclass(frozen=True)
class Row:
    """One variable. As in MATLAB, all have two dimensions or more: a number is 1x1, a line of N is 1xN."""

    name: str
    value: str
    size: str
    bytes: int  # of an array's elements, of a network's parameters, else of the object alone
    class_: str


@dataclass(frozen=True)
class Change:
    """One variable before and after; what was not there has no size and no bytes."""

    name: str
    size_before: str
    size_after: str
    bytes_before: int
    bytes_after: int

    @property
    def word(self) -> str:
        if not self.size_before or not self.size_after:
            return "gone" if self.size_before else "new"
        grown = self.bytes_after - self.bytes_before
        return "grew" if grown > 0 else "shrank" if grown < 0 else "changed"


@dataclass(frozen=True)
class Step:
    """What one cell, or the stretch of a loop before one `observe`, did to the variables."""

    cell: int | None
    source: str  # the cell's first line, or the label given to `observe`
    appeared: tuple[Change, ...] = ()
    changed: tuple[Change, ...] = ()
    gone: tuple[Change, ...] = ()

    @property
    def grew(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changed if change.word == "grew")

    @property
    def all(self) -> tuple[Change, ...]:
        return self.appeared + self.changed + self.gone

    def __str__(self) -> str:
        return ", ".join(f"{change.name} {change.word}" for change in self.all) or "nothing changed"


def _attempt(ask: Callable[[], T], otherwise: T) -> T:
    """A student's object may raise anything wherever it is touched; only Ctrl-C is meant for the student."""
    try:
        return ask()
    except KeyboardInterrupt:
        raise
    except BaseException:
        return otherwise


def _line(text: str, width: int) -> str:
    """One printable line: what moves the cursor or turns the direction of writing becomes a space."""
    start = str.__getitem__(text, slice(width + 1))
    start = "".join(c if c.isprintable() else " " for c in start)
    return start if len(start) <= width else start[: width - 1] + "…"


def _is(value: object, *bases: type) -> bool:
    """isinstance would believe the object's own __class__."""
    return issubclass(type(value), bases)


def _is_torch(value: object, path: str) -> bool:
    """Nothing can be a tensor before torch is loaded, so torch need not be imported to know."""
    module, _, name = path.rpartition(".")
    owner = getattr(sys.modules.get(module), name, None)
    return isinstance(owner, type) and issubclass(type(value), owner)


def _array(value: Any) -> Any:
    """The array, without the methods of a student's subclass, or the tensor; None for anything else."""
    if _is(value, np.ndarray):
        return np.ndarray.view(value, np.ndarray)
    return value if _is_torch(value, "torch.Tensor") else None


def _base(value: object) -> Any:
    return next((base for base in SIZED if _is(value, base)), None)


def _attributes(value: object) -> dict[str, Any]:
    found: object = _attempt(lambda: object.__getattribute__(value, "__dict__"), None)
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
    named = [pair for pair in list(namespace.items()) if _is_name(pair[0])]
    made = [pair for pair in named if _attempt(partial(_is_made, pair[1], home), True)]
    return dict(sorted(made, key=lambda pair: (pair[0].casefold(), pair[0])))


def _is_name(name: object) -> bool:
    return (
        isinstance(name, str)
        and len(name) <= NAME
        and name.isidentifier()
        and not name.startswith("_")
        and name not in IPYTHON_NAMES
    )


def _is_made(value: object, home: object) -> bool:
    """The pane itself is furniture."""
    if _is(value, types.ModuleType, Workspace, Timeline) or type(value).__module__ in (
        "__future__",
        "typing",
    ):
        return False
    return not _is(value, *IMPORTED) or getattr(value, "__module__", "") in (home, "__main__")


def rows(namespace: Mapping[str, object]) -> list[Row]:
    """A row for each of the student's variables, whatever it holds."""
    return [_row(name, value) for name, value in variables(namespace).items()]


def _row(name: str, value: object) -> Row:
    preview = _attempt(lambda: _line(_preview(value), WIDTH), "not read")
    return Row(name, preview, _size(value), _bytes(value), _attempt(partial(_class, value), "?"))


def _class(value: object) -> str:
    name, array = _line(type(value).__name__, WIDTH), _array(value)
    return name if array is None else f"{name} {_dtype(array)}"


def _dtype(array: Any) -> str:
    return _line(str(array.dtype).removeprefix("torch."), WIDTH)


def _shape(value: object) -> tuple[int, ...]:
    array, base = _array(value), _base(value)
    if array is not None:
        return tuple(map(int, array.shape))
    return (base.__len__(value),) if base else ()


def _size(value: object) -> str:
    shape: tuple[int, ...] = _attempt(lambda: _shape(value), ())
    return "x".join(map(str, (1,) * (2 - len(shape)) + shape))


def _bytes(value: object) -> int:
    alone = _attempt(partial(_bytes_alone, value), 0)
    return _attempt(partial(_bytes_held, value), alone)


def _bytes_alone(value: object) -> int:
    """Not by a class's own __sizeof__: that of a pandas table counts for seconds."""
    kind = type(value)
    builtin = isinstance(kind.__sizeof__, types.MethodDescriptorType)
    return sys.getsizeof(value) if builtin else kind.__basicsize__


def _bytes_held(value: object) -> int:
    if _is_torch(value, "torch.nn.Module"):
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
    return [item for item in seen.values() if _is_torch(item, "torch.Tensor")]


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
    if _is_torch(value, "torch.nn.Module"):
        sizes = [_attempt(lambda p=p: math.prod(p.shape), 0) for p in _learnables(value)]  # type: ignore[misc]
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
    kind = _line(type(value).__name__, WIDTH)
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
    shown = [f"{v:.4g}" if type(v) is float else _line(_preview(v, 0), 20) for v in values[:SHOWN].tolist()]
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
        marks[-1], parts, read = _attempt(partial(_look, item, wanted), unknown)
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
    version = _attempt(lambda: (array._version, array.data_ptr()), (0, 0))
    return version, _size(array), _dtype(array), _attempt(partial(_checksum, array, wanted), 0)


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
    if _is_torch(value, "torch.nn.Module"):
        return list(islice(_children(value, "_parameters", "_buffers", "_modules"), SAMPLE))
    if _is_torch(value, "torch.optim.Optimizer"):
        groups = [{k: v for k, v in group.items() if k != "params"} for group in value.param_groups]
        return [
            *islice(value.state.values(), SAMPLE),
            *chain.from_iterable(group.values() for group in groups),
        ]
    own = _attributes(value) if type(value).__module__ == "__main__" else _fields(value)
    return list(islice(own.values(), SAMPLE))


class _Seen(NamedTuple):
    fingerprint: int
    size: str
    bytes: int


ABSENT = _Seen(0, "", 0)


def _see(value: object) -> _Seen:
    return _Seen(_attempt(partial(fingerprint, value), id(value)), _size(value), _bytes(value))


class Timeline:
    """The steps so far. Full at MAX_STEPS or MAX_BYTES; `dropped` counts the steps that came later."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.dropped = 0
        self._room = MAX_BYTES - 200
        self._last: dict[str, _Seen] = {}

    def observe(self, namespace: Mapping[str, object], cell: int | None = None, source: str = "") -> Step:
        """What changed since the last call, kept as a step."""
        step, self._last = self._compare(namespace, cell, source)
        self._keep(step)
        return step

    def look(self, namespace: Mapping[str, object]) -> Step:
        """What changed since the last `observe`, not kept."""
        return self._compare(namespace, None, "")[0]

    def _compare(self, namespace: Mapping[str, object], cell: int | None, source: str) -> tuple[Step, dict[str, _Seen]]:
        now, last = {name: _see(value) for name, value in variables(namespace).items()}, self._last
        first = next((line.strip() for line in source.splitlines() if line.strip()), "")
        changed = [n for n in now if n in last and now[n][:2] != last[n][:2]]
        names = [[n for n in now if n not in last], changed, [n for n in last if n not in now]]
        changes = (tuple(_change(n, last.get(n, ABSENT), now.get(n, ABSENT)) for n in kind) for kind in names)
        return Step(cell, _line(first, SOURCE), *changes), now

    def _keep(self, step: Step) -> None:
        """A second look in a cell that finds nothing is no step."""
        if self.steps and not step.all and step.cell is not None and step.cell == self.steps[-1].cell:
            return
        self._room -= len(json.dumps(_plain(step))) + 2
        if len(self.steps) < MAX_STEPS and self._room >= 0:
            self.steps.append(step)
        else:
            self._room = -1
            self.dropped += 1

    def changes(self) -> dict[str, int]:
        """In how many steps each variable changed, of all that were ever there; to appear is no change."""
        counts = {change.name: 0 for step in self.steps for change in step.all}
        for change in chain.from_iterable(step.changed for step in self.steps):
            counts[change.name] += 1
        return counts

    def grew(self) -> dict[str, tuple[int, int]]:
        """The variables that ended larger than they first were: bytes first, bytes last."""
        held: dict[str, tuple[int, int]] = {}
        for change in chain.from_iterable(step.appeared + step.changed for step in self.steps):
            held[change.name] = (held.get(change.name, (change.bytes_after,))[0], change.bytes_after)
        return {name: (first, last) for name, (first, last) in held.items() if last > first}

    def largest_growth(self) -> tuple[str, int, int] | None:
        """Name, bytes first, bytes last of the variable that gained most."""
        grown = [(name, first, last) for name, (first, last) in self.grew().items()]
        return max(grown, key=lambda found: found[2] - found[1], default=None)

    def save(self, path: str | Path) -> None:
        """Whole or not at all."""
        content = {"format": FORMAT, "version": VERSION, "dropped": self.dropped}
        text = json.dumps(content | {"steps": [_plain(step) for step in self.steps]})
        target = Path(path)
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with beside.open("w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> Timeline:
        """The steps of a file that anybody may have written; TimelineError if it is not a whole timeline."""
        timeline = cls()
        try:
            content = _content(Path(path))
            timeline.steps = [_step(number, raw) for number, raw in enumerate(content["steps"], 1)]
        except TimelineError as error:
            raise TimelineError(f"{Path(path).name} {error}: {ADVICE}") from None
        timeline.dropped = content["dropped"]
        timeline._room -= sum(len(json.dumps(_plain(step))) + 2 for step in timeline.steps)
        return timeline


def _change(name: str, before: _Seen, after: _Seen) -> Change:
    return Change(name, before.size, after.size, before.bytes, after.bytes)


def _plain(step: Step) -> dict[str, Any]:
    kinds = {"appeared": step.appeared, "changed": step.changed, "gone": step.gone}
    lists = {kind: [list(astuple(change)) for change in changes] for kind, changes in kinds.items()}
    return {"cell": step.cell, "source": step.source, **lists}


def _content(path: Path) -> dict[str, Any]:
    try:
        raw = _start(path)
    except OSError as error:
        raise TimelineError(f"cannot be read ({error.strerror})") from None
    if len(raw) > MAX_BYTES:
        raise TimelineError(f"has more than {MAX_BYTES:,} bytes, a timeline has less")
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        raise TimelineError("is cut off or is not JSON") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise TimelineError(f'is no timeline: its "format" is not "{FORMAT}"')
    if type(content.get("version")) is not int or content["version"] != VERSION:
        found = _line(repr(content.get("version")), 20)
        raise TimelineError(f"has format version {found}, this labkit reads version {VERSION}")
    steps, dropped = content.get("steps"), content.get("dropped")
    if not isinstance(steps, list) or len(steps) > MAX_STEPS or not _is_count(dropped):
        raise TimelineError(f"needs a list of at most {MAX_STEPS:,} steps and a count of dropped ones")
    return content


def _start(path: Path) -> bytes:
    if not path.is_file():
        raise TimelineError("is not a file" if path.exists() else "is not there")
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _is_count(found: object) -> bool:
    return type(found) is int and 0 <= found < 2**63


def _step(number: int, raw: object) -> Step:
    keys = ("cell", "source", *SIDES)
    if not isinstance(raw, dict) or set(raw) != set(keys):
        raise TimelineError(f"has a step {number} without exactly {', '.join(keys)}")
    cell, source = raw["cell"], raw["source"]
    if not (cell is None or _is_count(cell)) or type(source) is not str or source != _line(source, SOURCE):
        raise TimelineError(f"has a step {number} whose cell is no number or whose source is no line of text")
    for kind, sides in SIDES.items():
        if type(raw[kind]) is not list or not all(_is_change(change, sides) for change in raw[kind]):
            raise TimelineError(f'has a step {number} whose "{kind}" are not name, two sizes and two numbers of bytes')
    return Step(cell, source, *(tuple(Change(*change) for change in raw[kind]) for kind in SIDES))


def _is_change(raw: object, sides: tuple[bool, bool]) -> bool:
    """Was it there before, was it there after?"""
    if type(raw) is not list or [type(part) for part in raw] != [str, str, str, int, int]:
        return False
    name, *sizes, before, after = raw
    there = [bool(SIZE.fullmatch(size)) if known else not size for size, known in zip(sizes, sides, strict=True)]
    return _is_name(name) and all(there) and _is_count(before) and _is_count(after)


class _Watcher:
    """Looks at one namespace: after each cell when a shell calls it, and when it is asked."""

    def __init__(self, namespace: Mapping[str, object], shell: Any = None) -> None:
        self.namespace = namespace
        self.shell = shell
        self.timeline = Timeline()
        self.path: Path | None = None
        self.problem = ""

    def after_cell(self, result: Any) -> None:
        """IPython's post_run_cell. Whatever fails here is told in the table, never in the student's cell."""
        try:
            self.timeline.observe(self.namespace, result.execution_count, str(result.info.raw_cell))
            self.save()
        except Exception as error:
            self.problem = f"The last cell could not be looked at ({type(error).__name__})."

    def save(self) -> None:
        if self.path is None:
            return
        try:
            self.timeline.save(self.path)
            self.problem = ""
        except OSError as error:
            self.problem = f"{self.path.name} could not be written: {error.strerror}."

    def observe(self, label: str) -> Step:
        # while a cell runs, shell.execution_count is its number or the next, depending on IPython's version
        cell = _attempt(lambda: len(self.shell.history_manager.input_hist_raw) - 1 or None, None)
        return self.timeline.observe(self.namespace, cell, label)

    def pane(self) -> Workspace:
        steps, now = self.timeline.steps, self.timeline.look(self.namespace)
        since = "since the last look" if steps else "at the first look"
        if steps and not now.all:
            now = steps[-1]
            since = f"in cell {now.cell}" if now.cell is not None else since
            since += f" “{now.source}”" if now.source else ""
        return Workspace(rows(self.namespace), now, since, self)


class Workspace:
    """The variables when it was made, and what had changed. Its text and its HTML are the table."""

    def __init__(self, rows: list[Row], step: Step, since: str, watcher: _Watcher) -> None:
        self.rows = rows
        self.step = step
        self._since = since
        self._watcher = watcher

    @property
    def timeline(self) -> Timeline:
        return self._watcher.timeline

    def observe(self, label: str = "") -> Step:
        """Look now, for instance in each iteration of a loop; what changed since the last look."""
        return self._watcher.observe(label)

    def _cells(self) -> list[tuple[str, ...]]:
        words = {change.name: change.word for change in self.step.all}
        return [(r.name, r.value, r.size, r.class_, f"{r.bytes:,}", words.get(r.name, "")) for r in self.rows]

    def _sentences(self) -> list[str]:
        gone = ", ".join(change.name for change in self.step.gone)
        dropped = self.timeline.dropped
        found = [
            f"{len(self.rows)} variables; {len(self.step.all) or 'none'} changed {self._since}.",
            f"Gone: {gone}." if gone else "",
            f"The timeline is full: {dropped:,} later steps are not in it." if dropped else "",
            self._watcher.problem,
        ]
        return [sentence for sentence in found if sentence]

    def __str__(self) -> str:
        table = [COLUMNS, *self._cells()]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(ALIGN[i](text, widths[i]) for i, text in enumerate(row)).rstrip() for row in table]
        return "\n".join(lines + self._sentences())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(_cell("th", i, text) for i, text in enumerate(COLUMNS))
        body = "".join(_html_row(row) for row in self._cells())
        below = "<br>".join(map(html.escape, self._sentences()))
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{below}</p>"


def _html_row(row: tuple[str, ...]) -> str:
    weight = ' style="font-weight:bold"' if row[-1] else ""
    return f"<tr{weight}>{''.join(_cell('td', i, text) for i, text in enumerate(row))}</tr>"


def _cell(tag: str, column: int, text: str) -> str:
    """JupyterLab's own table style does the rest, on its light and its dark themes."""
    side = "right" if ALIGN[column] is str.rjust else "left"
    return f'<{tag} style="text-align:{side}">{html.escape(text)}</{tag}>'


def workspace(namespace: Mapping[str, object] | None = None, path: str | Path | None = None) -> Workspace:
    """The table of the variables, and what changed in the last cell.

    In IPython the first call also starts to look after every cell and, with a path, to write the timeline.
    Elsewhere it is one look at the caller's globals, and with a namespace one look at that.
    """
    watcher = _attached() if namespace is None else None
    if watcher is None:
        watcher = _Watcher(sys._getframe(1).f_globals if namespace is None else namespace)
    watcher.path = watcher.path if path is None else Path(path).absolute()
    pane = watcher.pane()
    if watcher.shell is None:
        watcher.observe("")
        watcher.save()
    return pane


def _attached() -> _Watcher | None:
    """The one watcher of the shell that runs here; it lives among the shell's own event handlers."""
    shell = _attempt(lambda: sys.modules["IPython"].get_ipython(), None)
    if shell is None:
        return None
    for handler in shell.events.callbacks["post_run_cell"]:
        if isinstance(found := getattr(handler, "__self__", None), _Watcher):
            return found
    watcher = _Watcher(shell.user_ns, shell)
    shell.events.register("post_run_cell", watcher.after_cell)
    return watcher
