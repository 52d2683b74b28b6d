"""How long a lab's notebook takes from top to bottom in a real kernel: the instructor's version, then the released one.

    python benchmarks/notebook.py [--assignment vanishing_gradients] [--slowest 5]

Aim: the instructor's version, which trains every network, in 90 s on two cores. In the released one the answers are
missing: those cells and what needs them raise, the others run all the same. Each version runs in a folder of its own,
so that nothing is read which another run has saved. The whole holds the start and the end of the kernel and, on a
machine that never ran a lab, the drawing of the digits, which are kept from then on. On a busy machine wall times grow;
the kernel's processor time holds better.
"""

import argparse
import os
import tempfile
import time
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

from autograder.course import init, release

# as in the course's settings: else every user of the machine could read the kernel's sockets, and it says so
ENCRYPTED = Config({"KernelManager": {"transport_encryption": "auto"}})


def run(notebook: Any, folder: Path, goes_on: bool) -> tuple[float, float]:
    """Run every cell, after an error only when it `goes_on`; processor and wall seconds of the whole."""
    folder.mkdir()
    place = {"metadata": {"path": folder}}
    client = NotebookClient(notebook, timeout=None, allow_errors=goes_on, resources=place, config=ENCRYPTED)
    processor, wall = children(), time.perf_counter()
    client.execute()
    return children() - processor, time.perf_counter() - wall


def children() -> float:
    """Processor seconds of the processes that this one has started and seen end: of the kernels."""
    times = os.times()
    return times.children_user + times.children_system


def seconds(cell: Any) -> float:
    """From the moment at which the kernel took the cell until it was idle again."""
    begin, end = (cell.metadata.execution[f"iopub.status.{state}"] for state in ("busy", "idle"))
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def name(cell: Any) -> str:
    return str(cell.metadata.get("nbgrader", {}).get("grade_id", cell.id))


def report(title: str, file: Path, slowest: int, goes_on: bool = False) -> None:
    notebook: Any = nbformat.read(file, as_version=4)
    processor, wall = run(notebook, file.parent / "run", goes_on)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    raised = sum(any(output.output_type == "error" for output in cell.outputs) for cell in cells)
    print(f"\n{f'{title}: {len(cells)} cells, {raised} raised':62}{processor:8.1f} s{wall:10.1f} s", flush=True)
    for cell in sorted(cells, key=seconds, reverse=True)[:slowest]:
        print(f"    {name(cell):68}{seconds(cell):10.1f} s")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--assignment", default="vanishing_gradients")
    arguments.add_argument("--slowest", type=int, default=5)
    chosen = arguments.parse_args()
    print(f"torch {version('torch')}, {os.cpu_count()} cores, {chosen.assignment}\n")
    print(f"{'':62}{'processor':>10}{'wall':>12}")
    with tempfile.TemporaryDirectory() as folder:
        course = Path(folder)
        init(course, [chosen.assignment])
        released = release(course, chosen.assignment) / f"{chosen.assignment}.ipynb"
        report("instructor's version (aim 90 s)", course / "source" / chosen.assignment / released.name, chosen.slowest)
        report("released version", released, chosen.slowest, goes_on=True)


if __name__ == "__main__":
    main()
