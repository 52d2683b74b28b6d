"""What the workspace costs after each cell, with 500 variables and an array of 1 GB in memory.

    python benchmarks/workspace.py [--cells 30]

Timed is the whole of what runs after a cell: every variable is looked at, the timeline is written to its file, and the
rows that changed are made and written as JSON, as they are sent to the browser. Three kinds of cell: one that changes
three variables, one that changes nothing, and one that makes all 500 new. Times are wall times; beside them the CPU
time of the process, which is what is left of them on a machine that does nothing else.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from labkit.desk import _Watcher
from labkit.panels.workspace import WorkspacePanel

AIM = 20  # ms


def mixed() -> dict[str, Any]:
    """500 variables as a long notebook has them, and 1 GB."""
    draw = np.random.RandomState(0)
    made: dict[str, Any] = {"__name__": "__main__", "large": np.ones(2**27)}
    made |= {f"number_{k}": k / 7 for k in range(150)}
    made |= {f"text_{k}": "word " * k for k in range(49)}
    made |= {f"losses_{k}": draw.rand(1000).tolist() for k in range(50)}
    made |= {f"settings_{k}": {"rate": 0.1, "widths": [784, 10]} for k in range(50)}
    made |= {f"weights_{k}": draw.randn(100, 100) for k in range(100)}
    made |= {f"images_{k}": torch.randn(100, 784) for k in range(75)}
    for k in range(25):
        made[f"network_{k}"] = torch.nn.Sequential(torch.nn.Linear(20, 20), torch.nn.ReLU(), torch.nn.Linear(20, 10))
    return made


def change_three(made: dict[str, Any]) -> None:
    made["number_3"] += 1
    made["losses_0"].append(0.5)
    made["weights_0"] *= 1.01


def make_all_new(made: dict[str, Any]) -> None:
    made.update({name: value for name, value in mixed().items() if name != "large"})


def change_nothing(_made: dict[str, Any]) -> None:
    pass


KINDS: dict[str, Callable[[dict[str, Any]], None]] = {
    "three variables change": change_three,
    "nothing changes": change_nothing,
    "all are made anew": make_all_new,
}


def measure(cells: int, folder: Path) -> None:
    made = mixed()
    watcher = _Watcher(made)
    watcher.path = folder / "workspace.json"
    panel = watcher.panel = WorkspacePanel(made, watcher.timeline)
    panel.show_beside()
    sent: list[int] = []
    panel.send = lambda content: sent.append(len(json.dumps(content)))
    names = [name for name in made if not name.startswith("_")]
    print(f"{len(names)} variables, {made['large'].nbytes / 1e9:.2f} GB in one of them")
    print(f"{'':26}{'median':>10}{'worst':>10}{'CPU, median':>14}{'sent, median':>16}{'rows to come':>14}")
    taken: dict[str, list[tuple[float, float, int, int]]] = {kind: [] for kind in KINDS}
    watcher.after_cell(_cell(0))
    for number in range(1, cells * len(KINDS) + 1):
        kind = list(KINDS)[number % len(KINDS)]
        KINDS[kind](made)
        sent.clear()
        wall, cpu = time.perf_counter(), time.process_time()
        watcher.after_cell(_cell(number))
        spent = 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)
        taken[kind].append((*spent, sum(sent), len(panel._rows.owed)))
        while panel._rows.owed:  # as the browser asks for it while the kernel is idle
            panel._answer({"ask": "rest"})
    for kind, rows in taken.items():
        wall_, cpu_, bytes_, owed = ([row[k] for row in rows] for k in range(4))
        print(
            f"{kind:26}{statistics.median(wall_):7.1f} ms{max(wall_):7.1f} ms{statistics.median(cpu_):11.1f} ms"
            f"{statistics.median(bytes_):10,.0f} bytes{statistics.median(owed):14.0f}"
        )
    print(f"aim: {AIM} ms")


def _cell(number: int) -> Any:
    """What IPython hands on after a cell."""
    return SimpleNamespace(execution_count=number, info=SimpleNamespace(raw_cell=f"cell_{number}"))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cells", type=int, default=30)
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        measure(chosen.cells, Path(folder))


if __name__ == "__main__":
    main()
