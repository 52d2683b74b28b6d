"""Named streams of random numbers that are the same on every machine.

A recording is replayed on other machines than the student's, so a seed has to give the same bytes everywhere. Three
rules keep that, for the digits and for every other data that is drawn here:

- Randomness is ``RandomState``, whose streams NEP 19 froze, and of it only ``random_sample`` and
  ``permutation``. ``normal`` goes through libm; ``uniform`` multiplies and adds in one C expression, which a
  compiler for ARM may fuse; the width of ``randint`` is the platform's. ``random_sample`` is exact.
- Arithmetic is + - * / sqrt, floor, minimum, maximum and comparisons, one ufunc each: IEEE 754 rounds these
  exactly, so SIMD width and thread count cannot show. No sin or exp (libm), no dot or einsum (BLAS, fused
  operations), no sum or mean of floats (their order varies). Rotations use the rational form of the circle.
- Scalars are Python floats: numpy 1 and 2 disagree on what a numpy scalar does to a float32 array.
"""

import hashlib
import json
import operator
from typing import Any

import numpy as np


class DataError(ValueError):
    """Data that cannot be drawn, read, chosen or dealt out as asked; the message is one sentence."""


def stream(seed: int, *names: str | int) -> np.random.RandomState:
    """The random numbers that belong to `seed` and `names`, the same on every machine.

    Each use has a name of its own, so that drawing more for one leaves the others as they were. The seed may
    be any whole number, negative or large. Raises DataError when it is not a whole number.
    """
    words = [name if isinstance(name, str) else whole(name, "a stream's name") for name in names]
    text = json.dumps([whole(seed, "seed"), *words])
    key = np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype="<u4")
    return np.random.RandomState(key.astype(np.uint32))


def whole(value: Any, name: str, least: int | None = None) -> int:
    """`value` as int, if it is a whole number and not below `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise DataError(f"{name} is {value!r}: give a whole number") from None
    if least is not None and number < least:
        raise DataError(f"{name} is {number}: give a whole number of at least {least}")
    return number
