"""How the factors of float32 products are rounded while a training runs, whatever was chosen outside.

torch has two sets of names for it, and raises where one is read that the other has contradicted. The new ones,
`fp32_precision`, are a tree: torch.backends, below it CUDA and the processor (mkldnn), below each its operations. Who
chose "none" follows the next above, and shows what that one shows. The old ones keep a copy of their own, and write
into the tree: `torch.set_float32_matmul_precision`, of which `cuda.matmul.allow_tf32` is a part, `cudnn.allow_tf32`.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch

from labkit.interrupts import undisturbed

# The tree, by torch's own names: what torch.backends makes of them writes to the wrong place for the whole of mkldnn.
_ROOT = ("generic", "all")
_BACKENDS = (("cuda", "all"), ("mkldnn", "all"))
_READ, _WRITE = "_get_fp32_precision_getter", "_set_fp32_precision_setter"  # torch's own; 2.11 and 2.15 have them
_OPERATIONS = tuple(product(("cuda", "mkldnn"), ("matmul", "conv", "rnn")))

_Place = tuple[str, str]


@contextmanager
def exact(tf32: bool = False) -> Iterator[None]:
    """Products in full float32, for rounded factors are beyond an audit's tolerance; or with `tf32`, on a GPU, factors
    rounded to 10 bits. Within, the old names say the same as the new ones; behind it, all read as they did before."""
    if not (hasattr(torch._C, _READ) and hasattr(torch._C, _WRITE)):
        with _by_public_names(tf32):
            yield
        return
    with undisturbed():
        chosen = _Chosen.read()
    try:
        with undisturbed():
            _choose(tf32)
        yield
    finally:
        with undisturbed():
            chosen.restore()


def _choose(tf32: bool) -> None:
    _put_old_names("high" if tf32 else "highest", tf32)
    for backend, operation in _OPERATIONS:
        _put((backend, operation), "tf32" if tf32 and backend == "cuda" else "ieee")


@dataclass(frozen=True)
class _Chosen:
    """What was chosen outside, by all names."""

    own: dict[_Place, str]  # what each chose, the root first; "none" where it follows
    shown: dict[_Place, str]  # what reading it gives
    products: str  # by the old names
    convolutions: bool

    @classmethod
    def read(cls) -> "_Chosen":
        """Who follows is told by moving the next above, so all is put back at the end."""
        shown = {place: _get(place) for place in (_ROOT, *_BACKENDS, *_OPERATIONS)}
        own = {_ROOT: shown[_ROOT]}
        _put(_ROOT, "none")
        own |= {backend: _get(backend) for backend in _BACKENDS}
        own |= {operation: _choice(operation) for operation in _OPERATIONS}
        found = cls(own, shown, *_old_names())
        found.restore()
        return found

    def restore(self) -> None:
        """Put all of it back. Newer versions of torch begin with operations of cuDNN that show "tf32" and follow even
        so: they show it again, but nobody outside of torch can make them follow."""
        _put_old_names(self.products, self.convolutions)
        for place, own in self.own.items():
            _put(place, own)
            if _get(place) != self.shown[place]:
                _put(place, self.shown[place])


def _choice(operation: _Place) -> str:
    """What an operation chose, "none" where it follows its backend; nobody above that has chosen."""
    above = (operation[0], "all")
    _put(above, "ieee")
    first = _get(operation)
    _put(above, "none")
    second = _get(operation)
    return second if first == second else "none"


def _old_names() -> tuple[str, bool]:
    """What the old names keep, read where the tree contradicts only the second, and that by raising."""
    for operation in _OPERATIONS:
        _put(operation, "ieee")
    with _silent():
        products = torch.get_float32_matmul_precision()
        try:
            return products, bool(torch.backends.cudnn.allow_tf32)
        except RuntimeError:
            return products, True


def _put_old_names(products: str, convolutions: bool) -> None:
    with _silent():
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions


@contextmanager
def _silent() -> Iterator[None]:
    """Some versions of torch advise against the old names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _get(place: _Place) -> str:
    found: str = getattr(torch._C, _READ)(*place)
    return found


def _put(place: _Place, precision: str) -> None:
    getattr(torch._C, _WRITE)(*place, precision)


@contextmanager
def _by_public_names(tf32: bool) -> Iterator[None]:
    """The same where torch no longer has its table under these names: products and convolutions on a GPU alone."""
    settings: tuple[Any, ...] = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "tf32" if tf32 else "ieee"
        yield
    finally:
        for setting, value in zip(settings, before, strict=True):
            setting.fp32_precision = value
