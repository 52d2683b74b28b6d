"""What lies inside a student's object, by its place: items, fields, attributes, a network's layers and weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from labkit.kinds import (
    BRACKETS,
    array_of,
    attempt,
    attributes,
    base_of,
    class_name,
    fields,
    is_a,
    is_network,
    one_line,
)
from labkit.variables import WIDTH, size_of, words

LAYERS = 2_000  # of a network that are looked at
# where torch's layers keep the size of what they give out
OUTPUTS = ("out_features", "out_channels", "num_features", "hidden_size", "embedding_dim", "normalized_shape")


class Part(NamedTuple):
    label: str  # as it would be written behind the variable's name
    value: Any


@dataclass(frozen=True)
class Layer:
    """One module of a network, with the learnables of its own."""

    name: str
    kind: str
    outputs: str  # what it says of itself; nothing is computed to find out
    weights: str  # their shapes
    learnables: int
    unique: int  # of these, those that no layer above has
    places: tuple[int, ...]  # of the weights, among the network's parts
    labels: tuple[str, ...]  # their names


def part_at(value: object, place: int) -> Part | None:
    """None when there is no such place (any more)."""
    first = place // 100 * 100
    total, found = parts(value, first, 100)
    return found[place - first] if place < total else None


def parts(value: Any, first: int, wanted: int) -> tuple[int, list[Part]]:
    """How many there are, and those of the page on which `first` is."""
    if is_network(value):
        found = _weights(value)
        return len(found), _page_of(found, first, wanted)
    base = base_of(value)
    if base in BRACKETS:
        return _items(value, base, first, wanted)
    own = fields(value) or ({} if is_a(value, type) else attributes(value))
    named = [Part(f".{one_line(str(name), WIDTH)}", held) for name, held in list(own.items())]
    return len(named), _page_of(named, first, wanted)


def _page_of(found: list[Part], first: int, wanted: int) -> list[Part]:
    start = _start(first, wanted, len(found))
    return found[start : start + wanted]


def _start(first: int, wanted: int, total: int) -> int:
    return min(first, max(total - 1, 0)) // wanted * wanted


def _items(value: Any, base: Any, first: int, wanted: int) -> tuple[int, list[Part]]:
    total = base.__len__(value)
    start = _start(first, wanted, total)
    if base is dict:
        pairs = islice(dict.items(value), start, start + wanted)
        return total, [Part(f"[{words(key)}]", held) for key, held in pairs]
    if base in (list, tuple):
        held = base.__getitem__(value, slice(start, start + wanted))
    else:
        held = list(islice(base.__iter__(value), start, start + wanted))
    ordered = base not in (set, frozenset)
    return total, [Part(f"[{start + k}]" if ordered else " ∋", item) for k, item in enumerate(held)]


def _modules(network: object) -> list[tuple[str, object]]:
    """The network and every module in it, each once, in the order in which they were made part of it."""
    found: list[tuple[str, object]] = []
    seen: set[int] = set()
    waiting = [("", network)]
    while waiting and len(found) < LAYERS:
        name, module = waiting.pop()
        if id(module) in seen or module is None:
            continue
        seen.add(id(module))
        found.append((name, module))
        inside = list(attributes(module).get("_modules", {}).items())
        waiting += [(f"{name}.{key}".lstrip("."), child) for key, child in reversed(inside)]
    return found


def _own(module: object) -> list[tuple[str, Any]]:
    kept = attributes(module)
    named = [*kept.get("_parameters", {}).items(), *kept.get("_buffers", {}).items()]
    return [(str(name), held) for name, held in named if held is not None]


def _weights(network: object) -> list[Part]:
    return [
        Part(f".{one_line(f'{name}.{key}'.lstrip('.'), WIDTH)}", held)
        for name, module in _modules(network)
        for key, held in _own(module)
    ]


def layers(network: object) -> list[Layer]:
    """Modules that hold nothing of their own but other modules are left out: what they hold is listed."""
    found, place, counted = [], 0, set[int]()
    for name, module in _modules(network):
        own = _own(module)
        places = tuple(range(place, place + len(own)))
        place += len(own)
        if attributes(module).get("_modules") and not own:
            continue
        learn = [(held, _count(held)) for key, held in own if key in attributes(module).get("_parameters", {})]
        unique = sum(count for held, count in learn if id(held) not in counted)
        counted |= {id(held) for held, _ in learn}
        shapes = ", ".join(f"{one_line(key, WIDTH)} {size_of(held)}" for key, held in own)
        labels = tuple(one_line(key, WIDTH) for key, _ in own)
        total = sum(count for _, count in learn)
        shown = one_line(name or "(itself)", WIDTH)
        found.append(Layer(shown, class_name(module, WIDTH), _outputs(module), shapes, total, unique, places, labels))
    return found


def _count(array: Any) -> int:
    """An uninitialised parameter of a lazy layer has no shape yet."""
    return attempt(lambda: math.prod(array_of(array).shape), 0)


def _outputs(module: object) -> str:
    kept = attributes(module)
    found = next((kept[name] for name in OUTPUTS if type(kept.get(name)) in (int, tuple)), None)
    return "" if found is None else words(found)
