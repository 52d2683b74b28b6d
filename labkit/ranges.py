"""Least, mean and greatest of an array's numbers: of a sample, or of every one when somebody asks for that."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from labkit.kinds import array_of, is_a, is_here, places, read

EXACT = 10_000  # elements up to which every one is read without being asked
SAMPLE = 2_000  # elements that are read of a larger array
BLOCK = 4_000_000  # elements that are copied at once
PATIENCE = 10.0  # seconds that reading every element may take


@dataclass(frozen=True)
class Range:
    """Of the finite elements that were read; NaN and infinity are counted apart."""

    low: float
    mean: float
    high: float
    nonfinite: int
    read: int  # elements that were read ...
    count: int  # ... of so many

    @property
    def sampled(self) -> bool:
        return self.read < self.count


def range_of(value: Any) -> Range | None:
    """Every element of a small array and a sample of a large one; None of what has no such numbers.

    An array that is not in this computer's memory has none here: reading it is for those who ask.
    """
    if type(value) in (bool, int, float):
        return _of_number(value)
    array = array_of(value)
    if array is None and is_a(value, np.generic):
        array = np.asarray(value)
    if array is None or not is_here(array):
        return None
    count = math.prod(array.shape)
    picks = range(count) if count <= EXACT else places(count, SAMPLE)
    return _joined([_part(read(array, picks))], count)


def whole_range(array: Any) -> Range | None:
    """Every element, block by block, wherever the array is; after PATIENCE seconds of those that were reached."""
    begun, parts = time.monotonic(), []
    for block in blocks(array):
        parts.append(_part(as_numpy(block)))
        if time.monotonic() - begun > PATIENCE:
            break
    return _joined(parts, math.prod(array.shape))


def blocks(array: Any) -> Iterator[Any]:
    """Views of at most BLOCK elements, which together are the array."""
    count = math.prod(array.shape)
    if count <= BLOCK:
        yield array
        return
    rows = max(1, BLOCK * array.shape[0] // count)
    for start in range(0, array.shape[0], rows):
        part = array[start : start + rows]
        yield from blocks(part[0]) if rows == 1 else [part]


def as_numpy(array: Any) -> np.ndarray:
    """A copy of a tensor, from wherever it is; of a numpy array itself. numpy has no bfloat16, so that is widened."""
    if isinstance(array, np.ndarray):
        return array
    copy = array.detach().cpu().clone().resolve_conj().resolve_neg()
    if copy.layout != _torch().strided:
        copy = copy.to_dense()
    if copy.dtype == _torch().bfloat16 or "float8" in str(copy.dtype):
        copy = copy.float()
    return np.asarray(copy.numpy())


def _torch() -> Any:
    import torch

    return torch


def _of_number(value: float) -> Range | None:
    if type(value) is int and value.bit_length() > 1000:  # more than a float holds
        return None
    return _joined([_part(np.asarray([float(value)]))], 1)


_Part = tuple[float, float, float, int, int]  # least, greatest, sum, finite ones, all


def _part(values: np.ndarray) -> _Part | None:
    if values.dtype.kind not in "biuf":
        return None
    finite = values[np.isfinite(values)]
    if not finite.size:
        return math.inf, -math.inf, 0.0, 0, values.size
    total = float(finite.sum(dtype=np.float64))
    return float(finite.min()), float(finite.max()), total, finite.size, values.size


def _joined(parts: list[_Part | None], count: int) -> Range | None:
    kept = [part for part in parts if part is not None]
    low, high, total, finite, seen = zip(*kept, strict=True) if kept else ((),) * 5
    if not sum(finite):
        return None
    return Range(min(low), sum(total) / sum(finite), max(high), sum(seen) - sum(finite), sum(seen), count)
