"""What recording costs, and how fast `train` is: ratios to the same loop that records nothing.

    python benchmarks/recording.py [--rounds 5]

Every variant trains S1's network for 50 epochs on the same mini-batches, on one core; times are the training thread's
CPU times. Loops are run in turn, one epoch of each, so that a change in the machine's speed meets all of them alike:
the ratio is the median over the epochs. `train` cannot be stopped between epochs, so it takes turns with whole plain
loops: the ratio is the median over the rounds. Peers come last, because their threads and caches weigh on whoever runs
beside them; cockpit only where cockpit-for-pytorch is installed. Imports and the drawing of the digits are outside.
"""

import argparse
import atexit
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import torch
from torch.nn.functional import cross_entropy

import labkit
from labkit import data, networks
from labkit.experiments import Experiment
from labkit.recorder import tensors

Look = Callable[[torch.nn.Module], None]


def loop(e: Experiment, optimizer_class: Any, record: bool = False, look: Look | None = None) -> Iterator[None]:
    """The loop that everybody writes; yields after each epoch."""
    images, labels, _ = tensors(e)
    network = networks.of_experiment(e)
    optimizer = optimizer_class(network.parameters(), e.learning_rate)
    recorder = labkit.Recorder(network, optimizer, e) if record else None
    for epoch in range(e.epochs):
        for indices in data.epoch_batches(e, epoch):
            chosen = torch.from_numpy(indices)
            optimizer.zero_grad()
            loss = cross_entropy(network(images[chosen]), labels[chosen])
            loss.backward()
            optimizer.step()
            if recorder:
                recorder.step(loss)
            if look:
                look(network)
        if recorder:
            recorder.end_epoch()
        if recorder and epoch + 1 == e.epochs:
            recorder.recording()
        yield


def item_by_item(network: torch.nn.Module) -> None:
    """Five statistics of each layer, each fetched by .item()."""
    for p in network.parameters():
        if p.ndim > 1 and p.grad is not None:
            g = p.grad
            _ = [x.item() for x in (g.mean(), g.std(), g.norm(), g.abs().mean(), g.abs().max())]


def tensorboard(folder: str) -> Look:
    """TensorBoard's add_histogram of every weight gradient."""
    from torch.utils.tensorboard import SummaryWriter

    writer, steps = SummaryWriter(folder), iter(range(10**9))
    atexit.register(writer.close)  # its thread writes on when the comparison is over

    def look(network: torch.nn.Module) -> None:
        step = next(steps)
        for name, p in network.named_parameters():
            if p.ndim > 1:
                writer.add_histogram(name, p.grad, step)

    return look


def cockpit_loop(e: Experiment) -> Iterator[None]:
    """The plain loop under cockpit (a peer's recorder), which takes one figure, the norm of each gradient."""
    from backpack import extend
    from cockpit import Cockpit
    from cockpit.quantities import GradNorm

    images, labels, _ = tensors(e)
    network = extend(networks.of_experiment(e))
    mean, each = extend(torch.nn.CrossEntropyLoss()), torch.nn.CrossEntropyLoss(reduction="none")
    optimizer = torch.optim.Adam(network.parameters(), e.learning_rate)
    watch, step = Cockpit(network.parameters(), quantities=[GradNorm(lambda _: True)]), 0
    for epoch in range(e.epochs):
        for indices in data.epoch_batches(e, epoch):
            chosen = torch.from_numpy(indices)
            optimizer.zero_grad()
            logits = network(images[chosen])
            loss = mean(logits, labels[chosen])
            told = {
                "batch_size": len(chosen), "individual_losses": each(logits, labels[chosen]), "loss": loss,
                "optimizer": optimizer,
            }  # fmt: skip
            with watch(step, info=told):
                loss.backward(create_graph=watch.create_graph(step))
            optimizer.step()
            step += 1
        yield


def thread_seconds(run: Callable[[], Any]) -> float:
    start = time.thread_time()
    run()
    return time.thread_time() - start


def own_loops(e: Experiment) -> dict[str, Iterator[None]]:
    return {
        "plain loop, torch.optim.Adam, nothing recorded": loop(e, torch.optim.Adam),
        "the same with labkit.Recorder (aim 1.10)": loop(e, torch.optim.Adam, record=True),
        "labkit.Adam and labkit.Recorder, as students have it": loop(e, labkit.Adam, record=True),
        "five statistics per layer by .item()": loop(e, torch.optim.Adam, look=item_by_item),
    }


def peers(e: Experiment) -> dict[str, Iterator[None]]:
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    found = {
        "plain loop, torch.optim.Adam, nothing recorded": loop(e, torch.optim.Adam),
        "TensorBoard add_histogram at every step": loop(e, torch.optim.Adam, look=tensorboard(folder)),
    }
    if find_spec("cockpit"):
        found["cockpit, the norm of each gradient alone"] = cockpit_loop(e)
    return found


def compare_loops(e: Experiment, loops: dict[str, Iterator[None]]) -> None:
    times = [[thread_seconds(lambda each=each: next(each)) for each in loops.values()] for _ in range(e.epochs)]
    times = times[2:]  # the first epochs pay for what is loaded on first use
    for column, name in enumerate(loops):
        ratio = statistics.median(row[column] / row[0] for row in times)
        each = statistics.median(row[column] for row in times) / e.iterations_per_epoch * 1000
        print(f"{name:56}{each:10.3f} ms{ratio:8.2f}")


def compare_trains(e: Experiment, rounds: int) -> None:
    both = [e, e.replace(activation="sigmoid")]
    wholes: dict[str, tuple[Callable[[], Any], int]] = {
        "plain loop, torch.optim.Adam, nothing recorded": (lambda: list(loop(e, torch.optim.Adam)), 1),
        "labkit.train, everything recorded (aim 0.62)": (lambda: labkit.train(e, device="cpu", progress=False), 1),
        "train_many, both networks, per network (aim 0.40)": (
            lambda: labkit.train_many(both, device="cpu", progress=False), 2,
        ),
    }  # fmt: skip
    times = [[thread_seconds(run) / networks for run, networks in wholes.values()] for _ in range(rounds + 1)][1:]
    for column, name in enumerate(wholes):
        ratio = statistics.median(row[column] / row[0] for row in times)
        each = statistics.median(row[column] for row in times) / e.iterations * 1000
        print(f"{name:56}{each:10.3f} ms{ratio:8.2f}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    rounds = arguments.parse_args().rounds
    torch.set_num_threads(1)
    e = labkit.experiment("vanishing/relu")
    print(f"torch {torch.__version__}, one core, {e.iterations} iterations\n")
    print(f"{'':56}{'iteration':>13}{'ratio':>8}")
    compare_loops(e, own_loops(e))
    print()
    compare_trains(e, rounds)
    print()
    compare_loops(e, peers(e))


if __name__ == "__main__":
    main()
