"""A GPU that is none: tensors that say they are on cuda, computed on the processor.

What a GPU would refuse is refused: tensors of both sides in one operation, the array of a tensor that is there, and in
a capture whatever waits or crosses. What would make the processor wait is counted. No kernel of a GPU runs: what they
alone do stays unseen.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
# Results that are read, and shapes that depend on values.
READ = {
    "_local_scalar_dense", "nonzero", "is_nonzero", "item", "equal", "masked_select", "unique_dim", "_unique2",
    "unique_consecutive", "bincount", "repeat_interleave",
}  # fmt: skip
CROSS = {"_to_copy", "copy_", "_foreach_copy_"}


class OnCuda(Tensor):
    """For Python it is on the GPU; torch itself takes it for a tensor of the processor, and so asks no driver."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    device = property(lambda self: CUDA)

    @staticmethod
    def __new__(cls, inner: Tensor) -> "OnCuda":
        made = Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} of a tensor on a GPU that is gone")

    def __repr__(self, **_: Any) -> str:
        return f"{type(self).__name__}({self.inner})"

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy: use Tensor.cpu() first")

    def __array__(self, *_: Any) -> Any:
        return self.numpy()

    # where torch itself would make, or read, a tensor of the processor
    def cpu(self, **_: Any) -> Tensor:
        return self.to(CPU)

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def new_tensor(self, data: Any) -> Tensor:
        return torch.tensor(data, dtype=self.dtype, device=CUDA)


def to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Tensor.to, which would ask a driver which GPU "cuda" is."""
    if args and isinstance(args[0], Tensor):
        args = (args[0].device, args[0].dtype, *args[1:])
    copy = kwargs.pop("copy", False)
    device, dtype, non_blocking, form = torch._C._nn._parse_to(*args, **kwargs)
    device, dtype = device or self.device, dtype or self.dtype
    if device.type == self.device.type and dtype == self.dtype and form is None and not copy:
        return self
    device = CUDA if device.type == "cuda" else CPU
    return torch.ops.aten._to_copy(self, dtype=dtype, device=device, non_blocking=non_blocking, memory_format=form)


class Gpu(TorchDispatchMode):
    """Computes at once what is asked of it, and counts in `waits` what would have waited, and who in labkit asked."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[tuple[str, str]] = Counter()  # operation, function of ours
        self.pinned: dict[int, Tensor] = {}  # by address
        self.streams: list[object] = []  # that were made
        self.stream: object = "default"  # the current one
        self.graphs: list[Graph] = []  # that were captured
        self.capturing: Graph | None = None

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name, wanted = func.overloadpacket.__name__, torch.device(kwargs.get("device") or CPU)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [one for one in tensors if isinstance(one, OnCuda)]
        if not there and wanted.type == "cpu":
            return func(*args, **kwargs)
        stays = kwargs.get("device") == CPU
        self._look(name, tensors, to_host=stays and name == "_to_copy")
        args, kwargs = tree_map(_inner, (args, kwargs))
        if self.capturing is not None:
            self.capturing.keep(func, args, kwargs)
        result = func(*args, **kwargs)
        if self.capturing is not None:
            self.capturing.calls.append((func, args, kwargs, result))
        known = {id(one.inner): one for one in there}  # what is changed in place stays the tensor that it is
        return result if stays else tree_map(lambda one: _outer(one, known), result)

    def _look(self, name: str, tensors: list[Tensor], to_host: bool) -> None:
        here = [one for one in tensors if not isinstance(one, OnCuda)]
        from_host = bool(here) and name in CROSS
        if not from_host and any(one.ndim for one in here):
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, but found cuda:0 and cpu")
        masked = name in ("index", "index_put_") and any(one.dtype == torch.bool for one in tensors[1:])
        read = name in READ or masked or to_host
        if read or (from_host and not all(one.data_ptr() in self.pinned for one in here)):
            self.waits[name, _asked()] += 1
        if self.capturing is not None and (read or from_host):
            raise RuntimeError(f"{name}: operation not permitted when stream is capturing")


class Graph:
    """A CUDA graph: the operations of its capture, repeated on the same memory with the same numbers."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self._before: dict[int, tuple[Tensor, Tensor]] = {}  # memory that would not have been written to, as it was

    def pool(self) -> tuple[int, int]:
        return (1, 0)

    def keep(self, func: Any, args: Any, kwargs: Any) -> None:
        """A capture runs nothing."""
        arguments = func._schema.arguments
        values = {**dict(zip((argument.name for argument in arguments), args, strict=False)), **kwargs}
        for argument in arguments:
            if argument.alias_info is not None and argument.alias_info.is_write:
                for one in tree_leaves(values.get(argument.name)):
                    if isinstance(one, Tensor):
                        whole = torch.empty(0, dtype=torch.uint8).set_(one.untyped_storage())
                        self._before.setdefault(whole.data_ptr(), (whole, whole.clone()))

    def end(self) -> None:
        for whole, before in self._before.values():
            whole.copy_(before)
        self._before.clear()

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, captured in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(captured), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def _inner(one: Any) -> Any:
    return one.inner if isinstance(one, OnCuda) else CPU if isinstance(one, torch.device) else one


def _outer(one: Any, known: dict[int, OnCuda]) -> Any:
    if not isinstance(one, Tensor):
        return one
    return known[id(one)] if id(one) in known else OnCuda(one)


def _asked() -> str:
    """The function of labkit that is at work."""
    frame: Any = sys._getframe(1)
    while frame is not None and not frame.f_globals.get("__name__", "").startswith("labkit."):
        frame = frame.f_back
    return "" if frame is None else f"{frame.f_globals['__name__'].removeprefix('labkit.')}.{frame.f_code.co_name}"


@contextmanager
def pretended() -> Iterator[Gpu]:
    """A machine with such a GPU, for all that labkit asks torch for."""
    gpu, free = Gpu(), (2**34, 2**34)
    make, hot, lstm = torch.tensor, torch.nn.functional.one_hot, torch._VF.lstm

    def tensor(data: Any, *, device: Any = None, **kwargs: Any) -> Tensor:
        made = make(data, **kwargs)
        return made if device is None else made.to(device)

    def one_hot(labels: Tensor, classes: int) -> Tensor:
        return hot(labels.to(CPU), classes).to(labels.device)

    def pin(host: Tensor) -> Tensor:
        pinned = host.clone()
        gpu.pinned[pinned.data_ptr()] = pinned
        return pinned

    def cudnns_lstm(*args: Any) -> Any:
        found = lstm(*args)
        if not args[6] and found[0].requires_grad:
            found[0].register_hook(_refuse)
        return found

    def new_stream(*_: Any) -> object:
        gpu.streams.append(object())
        return gpu.streams[-1]

    @contextmanager
    def stream(other: object) -> Iterator[None]:
        before, gpu.stream = gpu.stream, other
        try:
            yield
        finally:
            gpu.stream = before

    @contextmanager
    def capture(graph: Graph, pool: Any, stream: object) -> Iterator[None]:
        """As torch 2.11 has it: what a capture that failed leaves behind is the stream of the capture."""
        assert stream in gpu.streams
        before, gpu.stream, gpu.capturing = gpu.stream, stream, graph
        try:
            yield
        finally:
            gpu.capturing = None
            graph.end()
        gpu.graphs.append(graph)
        gpu.stream = before

    own = {
        "_lazy_init": lambda: None, "is_available": lambda: True, "device_count": lambda: 1,
        "current_device": lambda: 0, "device": lambda _: nullcontext(), "get_device_name": lambda *_: "pretended",
        "synchronize": lambda *_: None, "mem_get_info": lambda *_: free, "memory_reserved": lambda *_: 0,
        "memory_allocated": lambda *_: 0, "max_memory_allocated": lambda *_: 0, "reset_peak_memory_stats": lambda: None,
        "set_sync_debug_mode": lambda _: None, "Stream": new_stream, "current_stream": lambda *_: gpu.stream,
        "stream": stream, "CUDAGraph": Graph, "graph": capture,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own.items():
            patch.setattr(torch.cuda, name, value)
        patch.setattr(Tensor, "to", to)
        patch.setattr(Tensor, "pin_memory", pin)
        patch.setattr(torch, "tensor", tensor)
        patch.setattr(torch.nn.functional, "one_hot", one_hot)
        patch.setattr(torch._VF, "lstm", cudnns_lstm)
        patch.setattr(torch.backends.cudnn, "is_acceptable", lambda _: False)
        patch.setattr("labkit.graphs.Replays._streams", {})
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        try:
            with gpu:
                yield gpu
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(False)


def _refuse(_: Tensor) -> None:
    raise RuntimeError("cudnn RNN backward can only be called in training mode")
