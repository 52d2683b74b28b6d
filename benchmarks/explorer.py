"""What an answer of the gradient explorer costs: from a change of one setting to the data that are sent.

    python benchmarks/explorer.py [--rounds 2]

In one process, as a student's kernel does it: the settings walk over the grid of the controls, one changed at a time,
in an order drawn by chance, up to 30 layers of 100 units, and each answer is made and written as JSON. Aim: 100 ms. The
very first answers also pay for the data of the seeds, and are told apart. How many seeds an answer has follows from the
time that is left; the others come afterwards, when nobody asks.
"""

import argparse
import json
import os
import random
import statistics
import time
from typing import Any, get_args

import numpy as np

import labkit
from labkit.experiments import Activation, Initialisation, Normalisation
from labkit.explained import view
from labkit.explorer import Explorer
from labkit.panels.explorer import SECONDS

GRID: dict[str, tuple[Any, ...]] = {
    "depth": (1, 4, 10, 20, 30),
    "width": (10, 30, 60, 100),
    "activation": get_args(Activation),
    "initialisation": get_args(Initialisation),
    "gain": (0.5, 1.0, 1.4),
    "normalisation": get_args(Normalisation),
    "residual": (False, True),
    "clip": ("none", "clip_norm", "clip_value"),
    "batch_size": (32, 128, 256),
}


def walk(rounds: int) -> list[dict[str, Any]]:
    """Changes of one setting each, so that every value of every setting is chosen that many times."""
    changes = [{name: value} for name, values in GRID.items() for value in values for _ in range(rounds)]
    random.Random(0).shuffle(changes)
    return changes


def answer(explorer: Explorer, change: dict[str, Any]) -> tuple[float, float, float, int]:
    """Wall seconds to measure, to say and to write; and how many seeds there were."""
    begun = time.perf_counter()
    explorer.change(**change)
    seeds = len(explorer.look(SECONDS).seeds)
    measured = time.perf_counter()
    said = view(explorer)
    told = time.perf_counter()
    json.dumps(said)
    return measured - begun, told - measured, time.perf_counter() - told, seeds


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=2)
    rounds = arguments.parse_args().rounds
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} cores, load {load}; {SECONDS * 1000:.0f} ms to measure\n")
    explorer = labkit.explore()
    begun = time.perf_counter()
    answer(explorer, {})
    print(f"{'the very first answer':44}{(time.perf_counter() - begun) * 1000:8.0f} ms")
    begun = time.perf_counter()
    _ = explorer.start
    print(f"{'the data of the other seeds':44}{(time.perf_counter() - begun) * 1000:8.0f} ms\n")
    rows, processor = [], time.process_time()
    for change in walk(rounds):
        rows.append((change, explorer.settings, *answer(explorer, change)))
    processor = (time.process_time() - processor) / len(rows)
    times = np.array([row[2:5] for row in rows]) * 1000
    whole = times.sum(1)
    print(f"{f'{len(rows)} answers':32}{'median':>10}{'95 %':>10}{'longest':>10}")
    for name, values in (("all", whole), ("to measure", times[:, 0]), ("to say", times[:, 1]), ("JSON", times[:, 2])):
        print(f"{name:32}" + "".join(f"{v:7.1f} ms" for v in (*np.percentile(values, [50, 95]), values.max())))
    print(f"\n{'within 100 ms':32}{np.mean(whole <= 100):10.0%}")
    print(f"{'processor per answer':32}{processor * 1000:7.1f} ms")
    print(f"{'seeds in the first answer':32}{statistics.median(row[5] for row in rows):10.0f}")
    print("\nthe slowest:")
    for k in np.argsort(-whole)[:6]:
        change, s, *_, seeds = rows[k]
        state = f"{s.depth} x {s.width}, {s.activation}, {s.initialisation}, {s.normalisation}"
        print(f"{whole[k]:7.0f} ms  {change} before: {state}; {seeds} seeds")


if __name__ == "__main__":
    main()
