"""What a GPU gives: iterations per second, ensembles, and how far its recordings are from their replay on the CPU.

    python benchmarks/gpu.py [--networks 4096] [--epochs 20] [--rounds 3]

S1's network. The bare loop is `zero_grad / backward / torch.optim.Adam.step()` with data and order on the GPU, nothing
recorded; "eager" is `labkit.train` without graphs, "graphs" as it comes. They take turns, a whole training each; the
ratio is the median over the rounds. Times are wall times, the GPU waited for at the end. The replay says how far a
recording is off, in shares of the audit's tolerance, with products in full float32 (as `train` has them) and with TF32.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import cross_entropy

import labkit
from labkit import data, deviations, networks
from labkit.engines import SideBySide
from labkit.experiments import Experiment
from labkit.recorder import tensors
from labkit.recording import Recording


def bare(e: Experiment) -> None:
    images, labels, _ = tensors(e, "cuda")
    images = images.flatten(1)
    network = networks.of_experiment(e).to("cuda")
    optimizer = torch.optim.Adam(network.parameters(), e.learning_rate)
    for epoch in range(e.epochs):
        for indices in [torch.from_numpy(some).to("cuda") for some in data.epoch_batches(e, epoch)]:
            optimizer.zero_grad()
            cross_entropy(network(images[indices]), labels[indices]).backward()
            optimizer.step()


@contextmanager
def without_graphs() -> Iterator[None]:
    replayed = SideBySide._replayed
    SideBySide._replayed = lambda self, _: self._one_by_one()  # type: ignore[method-assign]
    try:
        yield
    finally:
        SideBySide._replayed = replayed  # type: ignore[method-assign]


def recorded(e: Experiment, count: int = 1) -> list[Recording]:
    several = [e.replace(gain=0.5 + k / count, seed=k) for k in range(count)]
    return list(labkit.train_many(several, device="cuda", progress=False))


def eager(e: Experiment) -> None:
    with without_graphs():
        recorded(e)


def seconds(run: Callable[[], Any]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(e: Experiment, rounds: int) -> None:
    runs: dict[str, Callable[[], Any]] = {
        "bare eager loop, nothing recorded": lambda: bare(e),
        "train, everything recorded, eager": lambda: eager(e),
        "train, everything recorded, graphs (aim 3)": lambda: recorded(e),
    }
    times = [[seconds(run) for run in runs.values()] for _ in range(rounds + 1)][1:]
    print(f"{'':48}{'iterations/s':>14}{'times as fast':>15}")
    for column, name in enumerate(runs):
        speed = e.iterations / statistics.median(row[column] for row in times)
        ratio = statistics.median(row[0] / row[column] for row in times)
        print(f"{name:48}{speed:14,.0f}{ratio:15.2f}")


def ensemble(e: Experiment, count: int) -> None:
    torch.cuda.reset_peak_memory_stats()
    took = seconds(lambda: recorded(e, count))
    each, most = took / count / e.iterations * 1e6, torch.cuda.max_memory_allocated() / 1e9
    print(f"\n{count:,} networks, each with its own seed: {took:.1f} s, {each:.2f} us per network and iteration")
    print(f"at most {most:.1f} GB on the GPU")


def replays(e: Experiment) -> None:
    print(f"\n{'largest deviation in shares of its tolerance':48}{'float32':>14}{'TF32':>15}")
    for activation in ("relu", "sigmoid"):
        one = e.replace(activation=activation)
        found = [labkit.train(one, device="cuda", progress=False, tf32=tf32) for tf32 in (False, True)]
        print(f"{activation:48}{furthest(found[0]):14.2g}{furthest(found[1]):15.2g}")


def furthest(recording: Recording) -> float:
    """Over one iteration of each fifth epoch; above 1 an audit refuses it."""
    some = range(3, recording.iterations, 5 * recording.iterations // recording.epochs)
    figures = [f for at in some for f in deviations.at_iteration(recording, at).figures]
    return max((f.deviation / f.quantity.tolerance for f in figures), default=0.0)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--networks", type=int, default=4096)
    arguments.add_argument("--epochs", type=int, default=20)
    arguments.add_argument("--rounds", type=int, default=3)
    asked = arguments.parse_args()
    if not torch.cuda.is_available():
        sys.exit("this benchmark needs a CUDA GPU, and torch finds none here: run it on a machine that has one")
    e = labkit.experiment("vanishing/relu").replace(epochs=asked.epochs)
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}, {e.iterations} iterations\n")
    compare(e, asked.rounds)
    replays(e)
    ensemble(e.replace(epochs=2), asked.networks)


if __name__ == "__main__":
    main()
