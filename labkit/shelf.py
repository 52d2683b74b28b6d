"""Recordings of many runs, of which those that would not fit into memory together stay in their files."""

from collections.abc import Sequence
from pathlib import Path
from typing import overload

from labkit.counts import counted
from labkit.recording import Recording


class Shelf(Sequence[Recording]):
    """A list of recordings; one that is in its file is read, and checked, each time that it is asked for."""

    def __init__(self, kept: Sequence[Recording | Path]) -> None:
        self._kept = list(kept)

    def __len__(self) -> int:
        return len(self._kept)

    @overload
    def __getitem__(self, at: int) -> Recording: ...
    @overload
    def __getitem__(self, at: slice) -> "Shelf": ...
    def __getitem__(self, at: int | slice) -> "Recording | Shelf":
        if isinstance(at, slice):
            return Shelf(self._kept[at])
        found = self._kept[at]
        return found if isinstance(found, Recording) else Recording.load(found)

    def __repr__(self) -> str:
        there = sum(isinstance(one, Recording) for one in self._kept)
        return f"Shelf of {counted(len(self), 'recording')}, {len(self) - there:,} of them in their files"
