"""A fingerprint for each variable, by which a change is seen.

A fingerprint runs no method of the student's objects and reads nothing from a GPU. It reads at most 1,000 elements of
a variable: a numpy element between these, changed in place, is not seen (torch counts its own changes). Of objects
that are not arrays, networks, optimisers, containers, dataclasses or of the notebook's own classes, only a new object
in the variable is seen.
"""

from __future__ import annotations

import marshal
import math
import sys
from collections import deque
from collections.abc import Hashable, Mapping
from functools import partial
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np

from labkit.kinds import (
    BRACKETS,
    NUMBERS,
    TEXTS,
    array_of,
    attempt,
    attributes,
    base_of,
    children,
    drain,
    dtype_of,
    fields,
    is_a,
    is_here,
    is_loaded,
    is_network,
    places,
    read,
)
from labkit.variables import SMALL, bytes_of, size_of, size_text, variables

SAMPLE = 1_000  # elements of one variable that a fingerprint reads ...
INSIDE = 20  # ... and of each array inside a list, a dict or a network, as long as SAMPLE lasts
COUNTED = 32  # of a tensor with more than SAMPLE elements: torch counts the changes that are made by its own functions
SAMPLE_BYTES = 64_000


def fingerprint(value: object) -> int:
    """Another number once the variable is seen to have changed; good within this process only."""
    first, parts, read_ = _marked(value, SAMPLE)
    if not parts:
        return hash((first,))
    marks, seen, left = [first], {id(value)}, SAMPLE - read_
    for item in islice(drain(queue := deque([iter(parts)])), SAMPLE - 1):
        if id(item) in seen:
            marks.append(id(item))
            continue
        seen.add(id(item))
        mark, parts, read_ = _marked(item, min(left, INSIDE))
        left -= read_
        marks.append(mark)
        if parts:
            queue.append(iter(parts))
    return hash(tuple(marks))


def _marked(item: object, wanted: int) -> tuple[Hashable, list[object], int]:
    try:
        return _look(item, wanted)
    except KeyboardInterrupt:
        raise
    except BaseException:  # as in `attempt`, which would cost a closure for each item
        return id(item), [], 0


def _look(item: Any, wanted: int) -> tuple[Hashable, list[object], int]:
    """What this object is now; what is inside it; how many elements were read."""
    if type(item) in NUMBERS:
        return marshal.dumps(item, 2), [], 0
    if type(item) is str:
        return _text_mark(item), [], 0
    if (array := array_of(item)) is not None:
        return (id(item), *_array_mark(array, wanted)), [], wanted
    if is_network(item):
        return id(item), list(islice(children(item, "_parameters", "_buffers", "_modules"), SAMPLE)), 0
    if is_a(item, *TEXTS):
        return _text_mark(item), [], 0
    if is_a(item, np.generic):
        return item.tobytes(), [], 0
    base = base_of(item)
    mark = (id(item), base and base.__len__(item))
    parts = _parts(item, base)
    if base and _are_numbers(parts):
        return (mark, marshal.dumps(parts, 2)), [], 0
    return mark, parts, 0


def _are_numbers(parts: list[object]) -> bool:
    kinds = list(map(type, parts))
    alike = kinds and kinds.count(kinds[0]) == len(kinds)  # which takes half the time of a set of them
    return set(kinds[:1] if alike else kinds) <= NUMBERS


def _text_mark(text: Any) -> Hashable:
    short = type(text) in (str, bytes) and len(text) < SMALL
    return hash(text) if short else (id(text), base_of(text).__len__(text))


def _array_mark(array: Any, wanted: int) -> tuple[Hashable, ...]:
    """torch counts its changes, but not those made through .data or numpy; for these there is the sample."""
    if isinstance(array, np.ndarray):
        return array.shape, dtype_of(array), attempt(partial(_checksum, array, wanted), 0)
    version = attempt(lambda: (array._version, array.data_ptr()), (0, 0))
    return version, tuple(array.shape), dtype_of(array), attempt(partial(_tensor_sum, array, wanted), 0)


def _checksum(array: np.ndarray, wanted: int) -> int:
    fit = SAMPLE_BYTES // max(1, array.itemsize)
    values = read(array, places(array.size, min(wanted, fit)))
    return hash(tuple(map(id, values))) if values.dtype.kind == "O" else hash(values.tobytes())


def _tensor_sum(tensor: Any, wanted: int) -> int:
    if not is_here(tensor):
        return 0
    count = math.prod(tensor.shape)
    picks = places(count, min(wanted, COUNTED) if count > SAMPLE else wanted)
    if len(picks) > COUNTED or not tensor.is_contiguous():
        return hash(read(tensor, picks).tobytes())
    # for so few elements this takes half the time of `read`
    return hash(marshal.dumps(tensor.detach().as_strided((len(picks),), (picks.step,)).tolist(), 2))


def _parts(value: Any, base: Any) -> list[Any]:
    if base in (list, tuple):
        return list(base.__getitem__(value, slice(None, None, 1 + base.__len__(value) // SAMPLE)))
    if base is dict:
        return list(chain.from_iterable(islice(dict.items(value), SAMPLE)))
    if base in BRACKETS:
        return list(islice(base.__iter__(value), SAMPLE))
    if is_loaded(value, "torch.optim.Optimizer"):
        groups = [{k: v for k, v in group.items() if k != "params"} for group in value.param_groups]
        return [
            *islice(value.state.values(), SAMPLE),
            *chain.from_iterable(group.values() for group in groups),
        ]
    own = attributes(value) if type(value).__module__ == "__main__" else fields(value)
    return list(islice(own.values(), SAMPLE))


class Seen(NamedTuple):
    fingerprint: int
    size: str
    bytes: int


ABSENT = Seen(0, "", 0)


def see(value: object) -> Seen:
    try:
        return _see(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # as in `attempt`, which would cost a closure for each variable
        return Seen(id(value), "1x1", 0)


def _see(value: Any) -> Seen:
    if type(value) in NUMBERS:
        return Seen(hash(marshal.dumps(value, 2)), "1x1", sys.getsizeof(value))
    array = array_of(value)
    if array is not None:
        return _see_array(value, array)
    return Seen(fingerprint(value), size_of(value), bytes_of(value))


def _see_array(value: object, array: Any) -> Seen:
    mark = (id(value), *_array_mark(array, SAMPLE))
    return Seen(hash(mark), size_text(tuple(array.shape)), int(array.nbytes))


def see_all(namespace: Mapping[str, object]) -> dict[str, Seen]:
    """Each of the student's variables as it is now."""
    return {name: see(value) for name, value in variables(namespace).items()}
