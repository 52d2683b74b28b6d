"""How long comparing a class takes, each with each, and who is listed.

    python benchmarks/similarity.py [--students 500] [--recordings 4]

Every student has a program of their own, drawn from a grammar, one essay and recordings of 2,000 iterations; every
tenth has copied the one before: the program with other names and in another order of cells, a recording with other
digests. The recordings hold what is read of one: the header, losses and gradient statistics.
"""

import argparse
import json
import random
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from autograder.similarity import similarity
from labkit.recording import STATISTICS

ITERATIONS, LAYERS = 2000, 4
COPIES = 10  # one in so many
STATEMENTS = (
    "{0} = {1}.{2}({3})",
    "{0} = {1} {op} {2} {op} {n}",
    "{0}, {1} = {2}[{n}], {3}[-{n}]",
    "for {0} in range({n}):\n        {1} {op}= {0}",
    "if {0} > {n}:\n        {1} = [{2} for {2} in {3} if {2} < {n}]",
    "with torch.no_grad():\n        {0}.{1}.{2}_({n})",
    "{0} = {{name: {1}({2}) for name, {2} in {3}.items()}}",
    "print(f'{0}', {1}[:, {n}], {2}.{3})",
    "assert {0}.shape == ({n}, {n})",
    "{0} = np.{1}({2}, axis={n}) {op} {3}",
)
WORDS = [f"word{number}" for number in range(2000)]


def cells_of(draw: random.Random) -> list[str]:
    """Twelve functions of ten statements, about as much as the lab asks for."""
    names = [f"v{number}" for number in range(40)]

    def statement() -> str:
        chosen = draw.choices(names, k=4)
        return draw.choice(STATEMENTS).format(*chosen, n=draw.randint(0, 99), op=draw.choice("+-*/@"))

    return [f"def f{k}(a, b):\n    " + "\n    ".join(statement() for _ in range(10)) for k in range(12)]


def recording(student: int, draw: np.random.Generator) -> bytes:
    arrays = {
        "loss": np.exp(draw.normal(0, 0.3, ITERATIONS)).astype(np.float32),
        "gradient": np.exp(draw.normal(-5, 1, (ITERATIONS, LAYERS, len(STATISTICS)))).astype(np.float32),
    }
    return save(arrays, {"labkit": json.dumps({"origin": {"seed": student, "wall_time": float(draw.random())}})})


def hand_in(folder: Path, cells: list[str], essay: str, recordings: list[bytes]) -> None:
    folder.mkdir(parents=True)
    found = [{"cell_type": "code", "source": cell, "metadata": {}, "outputs": []} for cell in cells]
    found.append({"cell_type": "markdown", "source": essay, "metadata": {}})
    notebook = {"cells": found, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "lab.ipynb").write_text(json.dumps(notebook))
    for number, content in enumerate(recordings):
        (folder / f"run{number}.safetensors").write_bytes(content)


def make_class(course: Path, students: int, recordings: int) -> set[tuple[str, str]]:
    """Everybody's submission; the pairs that copied."""
    hand_in(course / "release" / "lab", ["def f0(a, b):\n    raise NotImplementedError()"], "YOUR ANSWER HERE", [])
    copied, before = set(), None
    for student in range(students):
        draw, figures = random.Random(student), np.random.default_rng(student)
        cells = cells_of(draw)
        essay = " ".join(draw.choices(WORDS, k=200))
        runs = [recording(student, figures) for _ in range(recordings)]
        name = f"student{student:04}"
        if before and student % COPIES == 0:
            cells = [cell.replace("v", "renamed") for cell in reversed(before[1])]
            runs[0] = before[2][0].replace(b'wall_time\\": 0', b'wall_time\\": 1')
            copied.add((before[0], name))
        hand_in(course / "submitted" / name / "lab", cells, essay, runs)
        before = name, cells, runs
    return copied


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--students", type=int, default=500)
    arguments.add_argument("--recordings", type=int, default=4)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        copied = make_class(Path(name), chosen.students, chosen.recordings)
        wall, cpu = time.perf_counter(), time.process_time()
        found = similarity(Path(name), "lab", progress=False)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    listed = {(pair.first, pair.second) for pair in found.pairs}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{chosen.students} submissions, {chosen.students * (chosen.students - 1) // 2:,} pairs")
    print(f"{wall:.1f} s ({cpu:.1f} s of processor time), {memory:,.0f} MB")
    print(f"copies listed: {len(listed & copied)} of {len(copied)}; others listed: {len(listed - copied)}")


if __name__ == "__main__":
    main()
