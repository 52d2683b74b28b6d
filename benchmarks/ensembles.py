"""What a network costs that is trained together with others, everything recorded: ratios to the plain loop.

    python benchmarks/ensembles.py [--networks 2 8 64 512] [--rounds 5] [--epochs 10]

The plain loop is `zero_grad / backward / torch.optim.Adam.step()` with nothing recorded, S1's network on its digits;
`train_many` trains K of these at once, of one seed or each with its own, and makes all their recordings. One thread;
times are its processor times. They take turns, a whole plain loop and a whole `train_many` of each kind a round: the
ratio, per network, is the median over the rounds. Imports and the drawing of the digits are outside. An epoch is 40
iterations; what happens once in a training (weights, accuracy over all data, making the recordings) weighs more in
short ones. Last comes where the time goes in the largest part that is trained at once.
"""

import argparse
import cProfile
import inspect
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from profiles import Parts, tell_shares
from recording import loop, thread_seconds

import labkit
from labkit.batches import Batches
from labkit.dense import Stack
from labkit.engines import SideBySide
from labkit.experiments import Experiment
from labkit.tape import Tape
from labkit.training import MOST

# of a training of networks of one seed, which takes no time to speak of outside of these
PARTS: Parts = {
    "forward and backward pass": (Stack.gradient,),
    "  of it, the products with the images": ("torch.addmm", "torch.mm"),
    "statistics of each iteration": (Tape.block,),
    "Adam's step": (Stack.step,),
    "gathering the images": (Batches.batch,),
    "the probe batch, histograms and checkpoints": (inspect.unwrap(SideBySide._probe), SideBySide._checkpoint),
    "making the recordings": (SideBySide._accuracy, Tape.recording),
}


def many(e: Experiment, count: int, own: bool) -> list[Experiment]:
    """ReLU and sigmoid mixed, each with its own gain, or its own seed."""
    names = ("relu", "sigmoid")
    own_gain = [e.replace(activation=names[k % 2], gain=0.5 + k / count) for k in range(count)]
    return [one.replace(seed=k) for k, one in enumerate(own_gain)] if own else own_gain


def compare(e: Experiment, counts: list[int], rounds: int) -> None:
    runs: dict[str, tuple[Callable[[], Any], int]] = {
        "plain loop, nothing recorded": (lambda: list(loop(e, torch.optim.Adam)), 1)
    }
    for count in counts:
        for own, words in ((False, "of one seed"), (True, "each with its own seed")):
            work = partial(labkit.train_many, many(e, count, own), device="cpu", progress=False)
            runs[f"{count:4} at once, {words}"] = work, count
    times = [[thread_seconds(run) / networks for run, networks in runs.values()] for _ in range(rounds)]
    for column, name in enumerate(runs):
        each = statistics.median(row[column] for row in times) / e.iterations * 1000
        ratios = [row[column] / row[0] for row in times]
        spread = f"({min(ratios):.3f} to {max(ratios):.3f})"
        print(f"{name:40}{each:10.3f} ms{statistics.median(ratios):9.3f}  {spread}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--networks", type=int, nargs="+", default=[2, 8, 64, 512], metavar="K")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--epochs", type=int, default=10)
    asked = arguments.parse_args()
    torch.set_num_threads(1)
    e = labkit.experiment("vanishing/relu").replace(epochs=asked.epochs)
    compare_once = e.replace(epochs=2)  # what is loaded and drawn at first use
    list(loop(compare_once, torch.optim.Adam))
    labkit.train_many(many(compare_once, 2, own=True), device="cpu", progress=False)
    print(f"torch {torch.__version__}, one core, {e.iterations} iterations, everything recorded\n")
    print(f"{'per network':40}{'iteration':>13}{'ratio':>9}")
    compare(e, asked.networks, asked.rounds)
    if most := [count for count in asked.networks if count <= MOST["cpu"]]:
        where_it_goes(e, max(most))


def where_it_goes(e: Experiment, count: int) -> None:
    """Print what the iterations of that many networks of one seed are made of."""
    profile = cProfile.Profile()
    profile.runcall(labkit.train_many, many(e, count, own=False), device="cpu", progress=False)
    print(f"\n{count} networks of one seed, as the profiler sees them")
    tell_shares(profile, PARTS)


if __name__ == "__main__":
    main()
