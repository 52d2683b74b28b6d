"""What drawing costs: every figure of the lab's two networks as PNG files, as `labkit plot` writes them.

    python benchmarks/figures.py [--rounds 3]

Both networks are trained once, for 50 epochs, outside of what is measured. Aim: the set in 6 s. The first round also
pays for what is loaded and laid out on first use, such as fonts. A figure's time is the wall time from the file before
it to its own, the median over the rounds.
"""

import argparse
import os
import statistics
import tempfile
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import labkit
from labkit import plots


def draw(recordings: list[labkit.Recording]) -> tuple[float, float, dict[str, float]]:
    """Processor and wall seconds of the set, and the wall seconds of each figure."""
    with tempfile.TemporaryDirectory() as folder:
        moment, processor, wall = time.time(), time.process_time(), time.perf_counter()
        files = plots.everything(recordings, Path(folder))
        processor, wall = time.process_time() - processor, time.perf_counter() - wall
        written = [moment, *(file.stat().st_mtime for file in files)]
        each = [after - before for before, after in pairwise(written)]
        return processor, wall, {file.stem: taken for file, taken in zip(files, each, strict=True)}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=3)
    rounds = arguments.parse_args().rounds
    experiments = [labkit.experiment(f"vanishing/{activation}") for activation in ("relu", "sigmoid")]
    recordings = labkit.train_many(experiments, device="cpu", progress=False)
    print(f"matplotlib {version('matplotlib')}, {os.cpu_count()} cores, 2 networks, {recordings[0].epochs} epochs\n")
    print(f"{'':40}{'processor':>12}{'wall':>12}")
    found = []
    for number in range(1, rounds + 1):
        processor, wall, each = draw(recordings)
        found.append(each)
        print(f"{f'round {number}, {len(each)} figures (aim 6 s)':40}{processor:10.2f} s{wall:10.2f} s", flush=True)
    print()
    for name in found[0]:
        print(f"{name:52}{statistics.median(each[name] for each in found):10.2f} s")


if __name__ == "__main__":
    main()
