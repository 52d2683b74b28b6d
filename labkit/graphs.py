"""Launches that are recorded once and then launched as one: CUDA graphs.

A small network's step is some forty kernels, each of which takes longer to launch than to run. A graph repeats them on
the memory that they had when it was captured, with the numbers that they were given then; so what is captured reads
what changes, mini-batches and step numbers, from tensors that stay where they are.
"""

import warnings
from collections.abc import Callable, Hashable
from typing import Any, ClassVar

import torch


class Replays:
    """Graphs by name. They share their memory, so they must run one after another, on one stream."""

    _streams: ClassVar[dict[int, Any]] = {}  # of each GPU, for all captures: cuBLAS keeps a workspace for every stream

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.captured: dict[Hashable, Callable[[], object] | None] = {}
        self._pool: Any = None

    def run(self, name: Hashable, launches: Callable[[], object]) -> None:
        """Launch what `launches` does: at the first call it is captured, which runs nothing yet."""
        if name not in self.captured:
            self.captured[name] = self.capture(launches)
        (self.captured[name] or launches)()

    def capture(self, launches: Callable[[], object]) -> Callable[[], object] | None:
        """What repeats the launches, a graph; None where none can be captured. They themselves are not kept: they hold
        who holds this, and all its memory."""
        try:
            # the stream before is put back here, too: older versions of torch stay on that of a capture that failed
            with torch.cuda.device(self.device), torch.cuda.stream(torch.cuda.current_stream(self.device)):
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, pool=self._pool, stream=self._stream()):
                    launches()
        except RuntimeError as error:
            warnings.warn(f"this GPU captures no graph, so training is slower: {error}", stacklevel=2)
            return None
        self._pool = graph.pool()
        replay: Callable[[], object] = graph.replay
        return replay

    def _stream(self) -> Any:
        """The current GPU's. torch's own is of the GPU that was the first to have one: on another it sees nothing."""
        gpu = torch.cuda.current_device()
        if gpu not in self._streams:
            self._streams[gpu] = torch.cuda.Stream()
        return self._streams[gpu]
