"""What the walls cost: milliseconds to start one submission's process, let it print 1, and end it.

    python benchmarks/sandbox.py [--rounds 30]

The three warm parents take turns, so that a change in the machine's speed meets all of them alike; the figures are
medians of wall time.
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from autograder import sandbox, worker
from autograder.limits import Limits
from autograder.workers import Nursery, Student


class Within(Nursery):
    """A nursery that builds only some of the walls."""

    def __init__(self, bubblewrap: bool, namespaces: bool) -> None:
        self.bubblewrap, self.namespaces = bubblewrap, namespaces
        super().__init__()

    def _spawn(self) -> None:
        self.around = replace(self.around, separate=self.namespaces)
        real, none = sandbox.bubblewrap, lambda _: []
        sandbox.bubblewrap = real if self.bubblewrap else none
        try:
            super()._spawn()
        finally:
            sandbox.bubblewrap = real


def one(nursery: Nursery) -> tuple[float, str]:
    """Milliseconds of one submission, and the walls around it."""
    with nursery.room() as room:
        place = Path(tempfile.mkdtemp(dir=room))
        for name in (worker.WORK, worker.HOME):
            (place / name).mkdir()
        start = time.perf_counter()
        with Student(nursery, place, Limits()) as student:
            student.run_cells([{"id": "a", "source": "print(1)"}])
        return (time.perf_counter() - start) * 1000, ", ".join(student.walls)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=30)
    rounds = arguments.parse_args().rounds
    kinds: list[Callable[[], Nursery]] = [
        lambda: Within(bubblewrap=True, namespaces=True),
        lambda: Within(bubblewrap=False, namespaces=True),
        lambda: Within(bubblewrap=False, namespaces=False),
    ]
    with contextlib.ExitStack() as stack:
        nurseries = [stack.enter_context(contextlib.closing(kind())) for kind in kinds]
        walls = [one(nursery)[1] for nursery in nurseries]
        times = [[one(nursery)[0] for nursery in nurseries] for _ in range(rounds)]
    for name, *column in zip(walls, *times, strict=True):
        print(f"{statistics.median(column):8.1f} ms   {name}")


if __name__ == "__main__":
    main()
