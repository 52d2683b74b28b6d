"""What kind of thing a student's object is, asked without running any of its own code.

An object may lie about its class, raise wherever it is touched, or never answer. So nothing here asks the object: its
type, the slots that Python itself keeps (`__dict__`) and the methods of the built-in class below a student's are asked.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import chain
from typing import Any, TypeVar

import numpy as np

NUMBERS: frozenset[type] = frozenset({bool, int, float, complex, type(None)})
TEXTS = (str, bytes, bytearray)
BRACKETS = {list: "[]", tuple: "()", set: "{}", frozenset: "{}", deque: "[]", dict: "{}"}
SIZED = (*BRACKETS, *TEXTS, range)
_SIZED = frozenset(SIZED)
PLAIN = frozenset({*NUMBERS, *SIZED})  # neither arrays nor networks nor dataclasses, which is known at once

T = TypeVar("T")


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
    if not str.isprintable(start):
        start = "".join(c if c.isprintable() else " " for c in start)
    return start if len(start) <= width else start[: width - 1] + "…"


def is_a(value: object, *bases: type) -> bool:
    """isinstance would believe the object's own __class__."""
    return issubclass(type(value), bases)


def is_loaded(value: object, path: str) -> bool:
    """Is it of the class at this path? Nothing can be a tensor before torch is loaded, so torch is not imported."""
    owner = _OWNERS.get(path) or _owner(path)
    return owner is not None and issubclass(type(value), owner)


_OWNERS: dict[str, type] = {}  # the classes that were found


def _owner(path: str) -> type | None:
    module, _, name = path.rpartition(".")
    owner = getattr(sys.modules.get(module), name, None)
    if not isinstance(owner, type):
        return None
    return _OWNERS.setdefault(path, owner)


def array_of(value: Any) -> Any:
    """The array, without the methods of a student's subclass, or the tensor; None for anything else."""
    kind = type(value)
    if kind in PLAIN:
        return None
    if kind is np.ndarray:
        return value
    if is_a(value, np.ndarray):
        return np.ndarray.view(value, np.ndarray)
    return _plain_tensor(value) if is_loaded(value, "torch.Tensor") else None


def _plain_tensor(value: Any) -> Any:
    """A subclass sees every call in its __torch_function__, and might answer for the tensor."""
    torch = sys.modules["torch"]
    if type(value) in (torch.Tensor, torch.nn.Parameter):
        return value
    with torch._C.DisableTorchFunctionSubclass():
        return torch.Tensor.as_subclass(value, torch.Tensor)


def base_of(value: object) -> Any:
    """The built-in container or text that it is, or is made from; None for anything else."""
    kind = type(value)
    if kind in _SIZED:
        return kind
    return next(base for base in SIZED if issubclass(kind, base)) if issubclass(kind, SIZED) else None


def is_network(value: object) -> bool:
    return type(value) not in PLAIN and is_loaded(value, "torch.nn.Module")


def attributes(value: object) -> dict[str, Any]:
    try:
        found = object.__getattribute__(value, "__dict__")
    except KeyboardInterrupt:
        raise
    except BaseException:  # as in `attempt`, which would cost a closure for each object
        return {}
    return found if isinstance(found, dict) else {}


def fields(value: object) -> dict[str, Any]:
    """A dataclass's fields, as far as they are set."""
    if type(value) in PLAIN:
        return {}
    names = next(
        (vars(k)["__dataclass_fields__"] for k in type(value).__mro__ if "__dataclass_fields__" in vars(k)),
        (),
    )
    if not names:
        return {}
    found = attributes(value)
    return {name: found[name] for name in names if name in found}


def class_name(value: object, width: int) -> str:
    return attempt(lambda: one_line(type(value).__name__, width), "?")


def dtype_of(array: Any) -> str:
    return _dtype_name(array.dtype)


@lru_cache(256)
def _dtype_name(dtype: Any) -> str:
    return one_line(str(dtype).removeprefix("torch."), 60)


def shape_of(value: object) -> tuple[int, ...]:
    if (array := array_of(value)) is not None:
        return tuple(map(int, array.shape))
    base = base_of(value)
    return (base.__len__(value),) if base else ()


def is_here(array: Any) -> bool:
    """In the memory of this computer? Of an array elsewhere no element is read, unless somebody asks for it."""
    return isinstance(array, np.ndarray) or bool(array.is_cpu)


def read(array: Any, picks: range) -> np.ndarray:
    """The elements at these places, without a copy of the rest.

    A tensor's own `.numpy()` would forbid that the student resizes it later, so that of a copy is taken.
    """
    if isinstance(array, np.ndarray):
        if array.flags.c_contiguous:
            return array.reshape(-1)[picks.start : picks.stop : picks.step]
        return np.asarray(array.flat[_index(picks)])
    taken = array.detach().take(sys.modules["torch"].from_numpy(_index(picks)))
    try:
        return np.asarray(taken.numpy())
    except TypeError:  # numpy has no bfloat16
        return np.asarray(taken.tolist())


@lru_cache(64)
def _index(picks: range) -> np.ndarray:
    return np.arange(picks.start, picks.stop, picks.step)


@lru_cache(1024)
def places(count: int, wanted: int) -> range:
    """Evenly spaced, the step coprime to the count: a step of 3,920 would read one column of 5000x784."""
    if count <= wanted:
        return range(count)
    step = max(1, math.ceil(count / max(wanted, 1)))
    while math.gcd(step, count) > 1:
        step += 1
    return range(0, count if wanted else 0, step)


def children(module: object, *kinds: str) -> Iterator[object]:
    """What a network holds, by the dicts in which torch keeps it."""
    own = attributes(module)
    return chain.from_iterable(own.get(kind, {}).values() for kind in kinds)


def learnables(network: object) -> list[Any]:
    """Each parameter once. The network's own parameters() might be a student's."""
    found: list[Any] = []
    seen = {id(None)}
    queue = deque([network])
    while queue:
        item = queue.popleft()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if is_loaded(item, "torch.Tensor"):
            found.append(item)
        else:
            queue.extend(children(item, "_parameters", "_modules"))
    return found


def drain(queue: deque[Iterator[object]]) -> Iterator[object]:
    while queue:
        yield from queue.popleft()
