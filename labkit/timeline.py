"""What each cell of a notebook changed among its variables, and the file that question 2 of the lab is answered from.

A timeline holds words and numbers, never the variables, so it keeps nothing alive. It is of one life of the kernel:
after a restart the file is written anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from labkit.changes import ABSENT, Seen, see_all
from labkit.files import write_whole
from labkit.kinds import one_line
from labkit.variables import is_name

FORMAT = "labkit workspace"
VERSION = 1
MAX_STEPS = 2_000
MAX_BYTES = 1_000_000  # of a timeline's file
SOURCE = 80  # characters kept of a cell's first line

SIDES = {
    "appeared": (False, True),
    "changed": (True, True),
    "gone": (True, False),
}  # there before, there after
SIZE = re.compile(r"[0-9]{1,19}(x[0-9]{1,19}){1,63}")
ADVICE = "run the notebook again from its first cell and hand in the file that workspace(path=...) writes"


class TimelineError(ValueError):
    """A file that is not a whole timeline: what was found and what to do."""


class Change(NamedTuple):
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


class Timeline:
    """The steps so far. Full at MAX_STEPS or MAX_BYTES; `dropped` counts the steps that came later."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.dropped = 0
        self._room = MAX_BYTES - 200
        self.last: dict[str, Seen] = {}  # what the last `observe` saw
        self._texts: list[tuple[Step, str]] = []  # the file's steps, so that each is written out once

    def observe(self, namespace: Mapping[str, object], cell: int | None = None, source: str = "") -> Step:
        """What changed since the last call, kept as a step."""
        step, self.last = self._compare(namespace, cell, source)
        self._keep(step)
        return step

    def look(self, namespace: Mapping[str, object]) -> Step:
        """What changed since the last `observe`, not kept."""
        return self._compare(namespace, None, "")[0]

    def _compare(self, namespace: Mapping[str, object], cell: int | None, source: str) -> tuple[Step, dict[str, Seen]]:
        now = see_all(namespace)
        return difference(self.last, now, cell, source), now

    def _keep(self, step: Step) -> None:
        """A second look in a cell that finds nothing is no step."""
        if self.steps and not step.all and step.cell is not None and step.cell == self.steps[-1].cell:
            return
        text = json.dumps(_plain(step))
        self._room -= len(text) + 2
        if len(self.steps) < MAX_STEPS and self._room >= 0:
            self._texts[len(self.steps) :] = [(step, text)]
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
        """Whole or not at all. The disk is not waited for: a power failure ends the kernel, and its timeline too."""
        content = {"format": FORMAT, "version": VERSION, "dropped": self.dropped}
        head = json.dumps(content | {"steps": []}).removesuffix("]}")
        write_whole(path, f"{head}{', '.join(self._written())}]}}".encode("ascii"), flush=False)

    def _written(self) -> list[str]:
        known = {id(step): text for step, text in self._texts}
        return [known.get(id(step)) or json.dumps(_plain(step)) for step in self.steps]

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


def difference(before: Mapping[str, Seen], now: Mapping[str, Seen], cell: int | None = None, source: str = "") -> Step:
    """What happened to the variables between two looks; of the source, its first line is kept."""
    first = next((line.strip() for line in source.splitlines() if line.strip()), "")
    changed = [n for n in now if n in before and now[n][:2] != before[n][:2]]
    names = [[n for n in now if n not in before], changed, [n for n in before if n not in now]]
    changes = (tuple(_change(n, before.get(n, ABSENT), now.get(n, ABSENT)) for n in kind) for kind in names)
    return Step(cell, one_line(first, SOURCE), *changes)


def _change(name: str, before: Seen, after: Seen) -> Change:
    return Change(name, before.size, after.size, before.bytes, after.bytes)


def _plain(step: Step) -> dict[str, Any]:
    kinds = {"appeared": step.appeared, "changed": step.changed, "gone": step.gone}
    lists = {kind: list(map(list, changes)) for kind, changes in kinds.items()}
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
        found = one_line(repr(content.get("version")), 20)
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
    if not (cell is None or _is_count(cell)) or type(source) is not str or source != one_line(source, SOURCE):
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
    return is_name(name) and all(there) and _is_count(before) and _is_count(after)
