"""What recording costs, and how fast `train` is: ratios to the same loop that records nothing.

    python benchmarks/recording.py [--rounds 5] [--epochs 50]

Every variant trains S1's network on the same mini-batches, on one core, in turn, in CPU time. The ratio of each round
is taken to the plain loop of that round, and the median of the ratios is printed. Imports and the drawing of the digits
are outside; making the network, the optimiser and the recording is inside.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy

import labkit
from labkit import data, networks
from labkit.experiments import Experiment
from labkit.recorder import tensors

Variant = Callable[[Experiment], None]


def plain(e: Experiment) -> None:
    """The loop that everybody writes; nothing is recorded."""
    _loop(e, torch.optim.Adam)


def recorder(e: Experiment) -> None:
    """The same loop with labkit's Recorder: everything recorded."""
    _loop(e, torch.optim.Adam, record=True)


def recorder_labkit_adam(e: Experiment) -> None:
    """The students' loop: labkit's Adam and the Recorder."""
    _loop(e, labkit.Adam, record=True)


def train(e: Experiment) -> None:
    """labkit.train: everything recorded."""
    labkit.train(e, progress=False, device="cpu")


def train_both(e: Experiment) -> None:
    """Both networks of the lab by labkit.train_many: everything recorded; the ratio is to two plain loops."""
    labkit.train_many([e, e.replace(activation="sigmoid")], progress=False, device="cpu")


def items(e: Experiment) -> None:
    """Five statistics per layer, each fetched by .item() at every iteration."""
    kept = []

    def look(network: torch.nn.Module) -> None:
        for p in network.parameters():
            if p.ndim > 1:
                g = p.grad
                kept.append(
                    [f(g).item() for f in (torch.mean, torch.std, torch.norm)]
                    + [g.abs().mean().item(), g.abs().max().item()]
                )

    _loop(e, torch.optim.Adam, look=look)


def tensorboard(e: Experiment) -> None:
    """TensorBoard's add_histogram of every weight gradient at every iteration."""
    from torch.utils.tensorboard import SummaryWriter

    with tempfile.TemporaryDirectory() as folder, SummaryWriter(folder) as writer:
        step = iter(range(10**9))

        def look(network: torch.nn.Module) -> None:
            number = next(step)
            for name, p in network.named_parameters():
                if p.ndim > 1:
                    writer.add_histogram(name, p.grad, number)

        _loop(e, torch.optim.Adam, look=look)


def _loop(e: Experiment, optimizer_class: type, record: bool = False, look: Callable | None = None) -> None:
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
    if recorder:
        recorder.recording()


VARIANTS: tuple[tuple[Variant, int], ...] = (
    (plain, 1), (recorder, 1), (recorder_labkit_adam, 1), (train, 1), (train_both, 2), (items, 1), (tensorboard, 1),
)  # fmt: skip
BOUNDS = {recorder: 1.10, train: 0.62, train_both: 0.40}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--epochs", type=int, default=50)
    arguments.add_argument("--only", nargs="*", help="these variants, beside the plain loop")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    e = labkit.experiment("vanishing/relu").replace(epochs=options.epochs)
    chosen = [pair for pair in VARIANTS if not options.only or pair[0].__name__ in ("plain", *options.only)]
    for variant, _ in chosen:  # imports, caches and memory are warm before anything is counted
        variant(e.replace(epochs=1))
    seconds: dict[Variant, list[float]] = {variant: [] for variant, _ in chosen}
    for _ in range(options.rounds):
        for variant, _ in chosen:
            start = time.process_time()
            variant(e)
            seconds[variant].append(time.process_time() - start)
    print(f"torch {torch.__version__}, one core, {e.iterations} iterations, {options.rounds} rounds\n")
    print(f"{'variant':22}{'ms/iteration':>13}{'ratio':>8}{'smallest':>10}{'largest':>9}{'aim':>7}")
    for variant, networks_trained in chosen:
        ratios = [s / (p * networks_trained) for s, p in zip(seconds[variant], seconds[plain], strict=True)]
        each = statistics.median(seconds[variant]) / e.iterations / networks_trained * 1000
        aim = f"{BOUNDS[variant]:.2f}" if variant in BOUNDS else ""
        print(
            f"{variant.__name__:22}{each:13.3f}{statistics.median(ratios):8.2f}{min(ratios):10.2f}{max(ratios):9.2f}{aim:>7}"
        )


if __name__ == "__main__":
    sys.exit(main())
