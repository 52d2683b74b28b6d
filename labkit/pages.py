"""What a student sees of one variable's contents: one page of it, as plain data, whatever the variable holds.

A page is a dict that is safe to write as JSON. Its `kind` says how it is drawn: a `grid` of an array's elements, an
`image`, a `list` (of items, fields, layers; a row's `open` is its place, by which its own page is asked for), a `text`,
or `elsewhere`, for an array in a GPU's memory, which is read when `read` is asked for and not before.
"""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from labkit.counts import counted
from labkit.kinds import (
    TEXTS,
    array_of,
    attempt,
    base_of,
    class_name,
    dtype_of,
    is_a,
    is_here,
    is_loaded,
    is_network,
)
from labkit.parts import layers, part_at, parts
from labkit.pictures import image_page, looks_like_an_image, may_be_an_image, places_in
from labkit.ranges import BLOCK, Range, as_numpy, range_of, whole_range
from labkit.variables import WIDTH, bytes_of, words

Page = dict[str, Any]

ROWS, COLUMNS = 100, 20  # of one page of an array
ITEMS = 100  # of one page of a list
LETTERS = 10_000  # of one page of a text
DEEP = 30  # steps into what holds what
UNREADABLE: Page = {"kind": "text", "text": "Its contents cannot be read.", "views": []}
LARGEST = 2**53  # what a browser counts exactly


@dataclass(frozen=True)
class Ask:
    """What the browser asks for. Numbers that fit nothing are moved to the nearest that do."""

    view: str = ""
    read: bool = False  # an array elsewhere may be read
    whole: bool = False  # every element may be read for least, mean and greatest
    axes: tuple[int, ...] = ()  # the two dimensions that are shown as rows and columns
    at: tuple[int, ...] = ()  # the place in each dimension, also in those two, where it counts for nothing
    row: int = 0  # the first that is shown
    column: int = 0

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Ask:
        known: dict[str, Any] = {name: _whole(raw.get(name)) for name in ("row", "column")}
        known |= {n: tuple(map(_whole, raw[n][:64])) for n in ("axes", "at") if type(raw.get(n)) is list}
        known |= {name: raw.get(name) is True for name in ("read", "whole")}
        return cls(view=str(raw.get("view", ""))[:20], **known)


def _whole(raw: object) -> int:
    return min(max(raw, 0), LARGEST) if type(raw) is int else 0


def page(name: str, value: object, path: object = (), ask: Ask | None = None) -> Page:
    """The page of what lies at `path` inside the variable; a page of words where that is gone or cannot be read."""
    title = name
    for place in list(path)[:DEEP] if isinstance(path, list | tuple) else []:
        found = attempt(partial(part_at, value, _whole(place)), None)
        if found is None:
            return {"kind": "text", "title": title, "facts": [], "text": "What was here is gone.", "views": []}
        title, value = f"{title}{found.label}", found.value
    shown = attempt(lambda: _page(value, ask or Ask()), UNREADABLE)
    nothing: list[tuple[str, str]] = []
    return {"title": title, "facts": attempt(partial(_facts, value), nothing)} | shown


def _facts(value: object) -> list[tuple[str, str]]:
    """What stands above every page."""
    facts = [("class", class_name(value, WIDTH)), ("bytes", f"{bytes_of(value):,}")]
    if (array := attempt(partial(array_of, value), None)) is not None:
        place = [] if isinstance(array, np.ndarray) else [("device", str(array.device))]
        facts[1:1] = [("shape", str(tuple(array.shape))), ("dtype", dtype_of(array)), *place]
    return facts


def _page(value: Any, ask: Ask) -> Page:
    if (array := array_of(value)) is not None:
        return _array_page(array, ask)
    if is_a(value, *TEXTS):
        return _text_page(_letters(value), ask)
    if is_a(value, types.FunctionType):
        source = attempt(lambda: inspect.getsource(value.__code__), "")
        return _text_page(source or words(value), ask)
    if is_network(value):
        return _network_page(value, ask)
    if is_loaded(value, "labkit.recording.Recording") and ask.view != "fields":
        return _recording_page(value)
    views = ["layers", "fields"] if is_loaded(value, "labkit.recording.Recording") else []
    return _list_page(value, ask) | {"views": views, "view": "fields"}


def _letters(value: Any) -> Any:
    """A text, or bytes as a text would write them."""
    return value if is_a(value, str) else base_of(value).__getitem__(value, slice(10 * LETTERS)).hex(" ")


def _text_page(text: Any, ask: Ask) -> Page:
    total = str.__len__(text)
    first = _first(ask.row, LETTERS, total)
    part = str.__getitem__(text, slice(first, first + LETTERS))
    # a half of a surrogate pair cannot be sent
    shown = part.encode("utf-8", "replace").decode("utf-8")
    return {"kind": "text", "views": [], "text": shown, "first": first, "step": LETTERS, "total": total}


def _first(asked: int, step: int, total: int) -> int:
    """Where the page begins: a multiple of its length, on the last page at the furthest."""
    return min(asked, max(total - 1, 0)) // step * step


def _array_page(array: Any, ask: Ask) -> Page:
    if not is_here(array) and not ask.read:
        return {"kind": "elsewhere", "device": str(array.device), "views": []}
    if not isinstance(array, np.ndarray) and array.is_sparse and math.prod(array.shape) <= BLOCK:
        array = array.detach().to_dense()
    images = may_be_an_image(array)
    view = ask.view if ask.view in ("table", "image") else ("image" if looks_like_an_image(array) else "table")
    drawn = image_page(array, ask.at) if images and view == "image" else _grid(array, ask)
    return drawn | {
        "views": ["table", "image"] if images else [],
        "view": view if images else "table",
        "range": _range_words(array, ask),
    }


def _range_words(array: Any, ask: Ask) -> dict[str, Any]:
    """Least, mean and greatest in words, with how much of the array was read for them."""
    if not ask.whole and not is_here(array):
        return {"text": f"not computed, the values are on {array.device}", "more": True}
    found = whole_range(array) if ask.whole else range_of(array)
    if found is None:
        return {"text": "", "more": False}
    return {"text": range_text(found), "more": found.sampled and not ask.whole}


def range_text(found: Range) -> str:
    about = "≈ " if found.sampled else ""
    text = f"min {about}{found.low:.6g}, mean {about}{found.mean:.6g}, max {about}{found.high:.6g}"
    if found.nonfinite:
        text += f", {found.nonfinite:,} not finite"
    return f"{text}, of {found.read:,} of the {found.count:,} elements" if found.sampled else text


def _grid(array: Any, ask: Ask) -> Page:
    """At most ROWS x COLUMNS elements of the two dimensions that were chosen; of the others, one place each."""
    shape = tuple(map(int, array.shape))
    axes = _axes(shape, ask.axes)
    at = places_in(shape, ask.at)
    lengths = [shape[axis] for axis in axes]
    firsts = [_first(a, s, n) for a, s, n in zip((ask.row, ask.column), (ROWS, COLUMNS), lengths, strict=False)]
    pick: list[Any] = list(at)
    for axis, first, step in zip(axes, firsts, (ROWS, COLUMNS), strict=False):
        pick[axis] = slice(first, first + step)
    cells = as_numpy(array[(*pick, ...)]) if math.prod(shape) else np.zeros((0, 0))
    if len(axes) == 2 and axes[0] > axes[1]:
        cells = cells.T
    return {
        "kind": "grid",
        "shape": shape,
        "axes": axes,
        "at": at,
        "first": [*firsts, 0, 0][:2],
        "step": [ROWS, COLUMNS],
        "total": [*lengths, 1, 1][:2],
        "cells": [[_cell(v) for v in row] for row in cells.reshape(_two(cells.shape)).tolist()],
    }


def _two(shape: tuple[int, ...]) -> tuple[int, int]:
    return (shape[0] if shape else 1), (shape[1] if len(shape) > 1 else 1)


def _axes(shape: tuple[int, ...], asked: tuple[int, ...]) -> tuple[int, ...]:
    """The dimensions of rows and columns; the last two unless others are asked for."""
    fits = len(asked) == 2 and len(set(asked)) == 2 and max(asked) < len(shape)
    return asked if fits else tuple(range(len(shape)))[-2:]


def _cell(value: object) -> str:
    if type(value) is float:
        return f"{value:.6g}"
    if type(value) is complex:
        return f"{value:.4g}"
    return words(value)


def _list_page(value: object, ask: Ask) -> Page:
    total, found = parts(value, ask.row, ITEMS)
    first = min(ask.row, max(total - 1, 0)) // ITEMS * ITEMS
    rows = [{"cells": [p.label, *_described(p.value)], "open": first + k} for k, p in enumerate(found)]
    if not total:
        return {"kind": "text", "text": f"{words(value)}: there is nothing inside to show."}
    heads = ["", "value", "class", "bytes"]
    return {"kind": "list", "heads": heads, "rows": rows, "first": first, "step": ITEMS, "total": total}


def _described(value: object) -> list[str]:
    return [words(value), class_name(value, WIDTH), f"{bytes_of(value):,}"]


def _network_page(network: Any, ask: Ask) -> Page:
    """The architecture: each layer with what it gives out and the learnables of its own, and their sum."""
    found = layers(network)
    first = _first(ask.row, ITEMS, len(found))
    places = [place for layer in found for place in layer.places]
    rows = [
        {
            "cells": [layer.name, layer.kind, layer.outputs, layer.weights, f"{layer.learnables:,}"],
            "links": list(zip(layer.labels, layer.places, strict=True)),
        }
        for layer in found[first : first + ITEMS]
    ]
    return {
        "kind": "list",
        "views": [],
        "heads": ["layer", "class", "outputs", "weights", "learnables"],
        "rows": rows,
        "first": first,
        "step": ITEMS,
        "total": len(found),
        "sum": f"{sum(layer.unique for layer in found):,} learnables in {counted(len(places), 'array')}",
    }


def _recording_page(recording: Any) -> Page:
    """The run in a table: a row for each layer."""
    size = recording.statistic("abs_mean")
    ends = (size[0], size[-1], size.mean(axis=0)) if len(size) else ((math.nan,) * len(recording.layers),) * 3
    rows = [
        {"cells": [name, "x".join(map(str, shape)), *(f"{end[k]:.3g}" for end in ends)], "open": None}
        for k, (name, shape) in enumerate(zip(recording.layers, recording.origin.shapes, strict=True))
    ]
    heads = ["layer", "weights", "mean |gradient|, first", "last", "over the run"]
    told: dict[str, Callable[[], str]] = {
        "run": lambda: repr(recording),
        "student": lambda: recording.origin.student or "none",
        "ended": lambda: "at its end" if recording.complete else recording.origin.stopped,
        "epochs": lambda: f"{recording.epochs:,}",
        "loss": lambda: f"{recording.loss[0]:.4g} to {recording.loss[-1]:.4g}" if len(recording.loss) else "none",
        "accuracy": lambda: f"{recording.origin.final_accuracy:.1%}",
    }
    return {
        "kind": "list",
        "views": ["layers", "fields"],
        "view": "layers",
        "facts": [(label, attempt(tell, "not read")) for label, tell in told.items()],
        "heads": heads,
        "rows": rows,
        "first": 0,
        "step": ITEMS,
        "total": len(rows),
    }
