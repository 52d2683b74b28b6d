"""What five published tutorials say, beside what their experiments give here: REPRODUCTION.md.

Each claim has the figure that was published, the figure of ours over several seeds, and a rule that says whether the
claim holds. Nothing in the table is typed by hand. Recordings are kept, so an interrupted run goes on where it was.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labkit import theory
from labkit.ensembles import Band, band, last_over_first, over, seeds_of, sizes_over_training
from labkit.experiments import Experiment, ExperimentError, experiment
from labkit.files import write_whole
from labkit.recording import Recording
from labkit.training import train_many

SEEDS = 20
QUICK_SEEDS = 5
DEEP_SEEDS = 3  # of experiments that take minutes each
FEW, FEW_EPOCHS = 2000, 3  # images and epochs of those, where it has to be quick
Runs = Mapping[str, Sequence[Recording]]  # by the experiment's name, one for each seed


@dataclass(frozen=True)
class Claim:
    """One figure or sentence of a tutorial."""

    source: str  # S1 ... S5
    sentence: str
    published: str
    needs: tuple[str, ...]  # names of experiments
    figure: Callable[[Runs], Band]
    holds: Callable[[Band], bool]
    remark: str = ""  # what is to be said of it, where it does not hold or misleads


def _final_accuracy(name: str) -> Callable[[Runs], Band]:
    return lambda runs: over(runs[name], lambda r: r.origin.final_accuracy)


def _final_loss(runs: Sequence[Recording]) -> Band:
    """Mean loss of the last epoch's mini-batches."""
    return over(runs, lambda r: float(np.mean(r.loss[-max(1, r.iterations // max(1, r.epochs)) :])))


def _loss_ratio(slow: str, fast: str) -> Callable[[Runs], Band]:
    return lambda runs: band([a / b for a, b in zip(_losses(runs[slow]), _losses(runs[fast]), strict=True)])


def _losses(runs: Sequence[Recording]) -> list[float]:
    return [float(_final_loss([run]).median) for run in runs]


def _start_ratio(name: str) -> Callable[[Runs], Band]:
    return lambda runs: over(runs[name], last_over_first)


def _training_ratio(name: str) -> Callable[[Runs], Band]:
    def ratio(recording: Recording) -> float:
        sizes = sizes_over_training(recording)
        return float(sizes[-1] / sizes[0]) if sizes[0] else math.inf

    return lambda runs: over(runs[name], ratio)


def _recorded_ratio(name: str, every: int = 2) -> Callable[[Runs], Band]:
    """Last over first, averaged over the records of every second epoch, as the tutorial took them."""

    def ratio(recording: Recording) -> float:
        sizes = recording.probe_statistic("abs_mean")[::every].astype(np.float64).mean(axis=0)
        return float(sizes[-1] / sizes[0]) if sizes[0] else math.inf

    return lambda runs: over(runs[name], ratio)


def _sd(name: str) -> Callable[[Runs], Band]:
    """Median over training of each layer's sd of the gradient; the band goes over layers and seeds."""
    return lambda runs: band([float(value) for r in runs[name] for value in np.median(r.probe_statistic("sd"), axis=0)])


def _signed_mean_of_last(name: str) -> Callable[[Runs], Band]:
    return lambda runs: over(runs[name], lambda r: float(np.median(theory.softmax_residual(r))))


def _growth_of_last(name: str) -> Callable[[Runs], Band]:
    """Mean |gradient| of the last layer, mean of the last tenth of the training over the first tenth."""

    def growth(recording: Recording) -> float:
        size = recording.statistic("abs_mean")[:, -1].astype(np.float64)
        part = max(1, len(size) // 10)
        return float(size[-part:].mean() / size[:part].mean())

    return lambda runs: over(runs[name], growth)


def _negative_weights(name: str, layer: int) -> Callable[[Runs], Band]:
    """Share of the weights of a layer (from 0) below 0 at the end."""

    def share(recording: Recording) -> float:
        weights = recording.checkpoint(-1)[f"{recording.layers[layer]}.weight"]
        return float((weights < 0).mean())

    return lambda runs: over(runs[name], share)


def _loss_of(name: str) -> Callable[[Runs], Band]:
    return lambda runs: _final_loss(runs[name])


def _largest_norm(name: str) -> Callable[[Runs], Band]:
    """The largest norm of one layer's gradient, as the optimiser used it."""
    return lambda runs: over(runs[name], lambda r: float(np.nanmax(r.statistic("norm"))))


def within(low: float, high: float) -> Callable[[Band], bool]:
    """Does the median lie between two figures?"""
    return lambda found: bool(low <= float(found.median) <= high)


def covers(value: float) -> Callable[[Band], bool]:
    """Does the band over seeds hold the published figure?"""
    return lambda found: bool(float(found.low) <= value <= float(found.high))


CLAIMS: tuple[Claim, ...] = (
    Claim("S1", "Gradients of the sigmoid network get smaller towards the input: last over first layer, at the start",
          "> 1", ("vanishing/sigmoid",), _start_ratio("vanishing/sigmoid"), within(10, math.inf)),
    Claim("S1", "and those of the ReLU network hardly do", "about 1", ("vanishing/relu",),
          _start_ratio("vanishing/relu"), within(0.1, 10)),
    Claim("S1", "The sigmoid network's loss falls more slowly: its last loss over that of the ReLU network", "> 1",
          ("vanishing/sigmoid", "vanishing/relu"), _loss_ratio("vanishing/sigmoid", "vanishing/relu"),
          within(1, math.inf)),
    Claim("S1", "The average gradient of layer 4 of the ReLU network grows: what is drawn is the signed mean, over "
          "mean |gradient|", "grows", ("vanishing/relu",), _signed_mean_of_last("vanishing/relu"),
          within(1e-4, math.inf),
          "The signed mean of the last layer is 0 by algebra; what grows in the plot is rounding."),
    Claim("S1", "and mean |gradient| of that layer, last over first tenth of the training", "grows",
          ("vanishing/relu",), _growth_of_last("vanishing/relu"), within(1, math.inf)),
    Claim("S3", "Accuracy with one ReLU layer of 5", "0.973", ("layers/one_relu",), _final_accuracy("layers/one_relu"),
          covers(0.973)),
    Claim("S3", "Accuracy with one sigmoid layer of 5", "0.654", ("layers/one_sigmoid",),
          _final_accuracy("layers/one_sigmoid"), covers(0.654)),
    Claim("S3", "Accuracy with three sigmoid layers of 5", "0.533", ("layers/three_sigmoid",),
          _final_accuracy("layers/three_sigmoid"), covers(0.533)),
    Claim("S3", "Loss of three sigmoid layers: nothing is learnt, ln 2 = 0.693", "0.6922", ("layers/three_sigmoid",),
          _loss_of("layers/three_sigmoid"), within(0.68, 0.70)),
    Claim("S3", "Accuracy of four sigmoid layers, N(0, 1) weights, RMSprop", "0.588", ("layers/sigmoid",),
          _final_accuracy("layers/sigmoid"), covers(0.588)),
    Claim("S3", "of four tanh layers", "0.993", ("layers/tanh",), _final_accuracy("layers/tanh"), covers(0.993)),
    Claim("S3", "of four ReLU layers", "0.994", ("layers/relu",), _final_accuracy("layers/relu"), covers(0.994)),
    Claim("S3", "sd of the sigmoid network's gradients", "0.01 to 0.001", ("layers/sigmoid",), _sd("layers/sigmoid"),
          within(0.001, 0.01)),
    Claim("S3", "sd of the tanh network's gradients", "0.1 to 0.01", ("layers/tanh",), _sd("layers/tanh"),
          within(0.01, 0.1)),
    Claim("S4", "mean |gradient|, layer 6 over layer 1, sigmoid, over the records", "30", ("activations/sigmoid",),
          _recorded_ratio("activations/sigmoid"), covers(30)),
    Claim("S4", "the same, leaky ReLU", "6", ("activations/leaky_relu",), _recorded_ratio("activations/leaky_relu"),
          covers(6)),
    Claim("S4", "the same, ReLU", "about the same as leaky ReLU", ("activations/relu",),
          _recorded_ratio("activations/relu"), within(2, 20)),
    Claim("S4", "the same, sigmoid, at the start", "30", ("activations/sigmoid",), _start_ratio("activations/sigmoid"),
          covers(30), "The 30 is an average over a training; before it, a hundred times as much is lost."),
    Claim("S4", "Weights of layer 4 of the leaky ReLU network are consistently below 0: their share", "1",
          ("activations/leaky_relu",), _negative_weights("activations/leaky_relu", 3), within(0.9, 1),
          "What was logged as weights were gradients; a weight's sign makes no gradient vanish."),
    Claim("S5", "Eleven sigmoid layers stay at the majority class: accuracy (0.112 on MNIST, 0.1 on balanced digits)",
          "0.112", ("exploding/sigmoid",), _final_accuracy("exploding/sigmoid"), within(0.08, 0.13)),
    Claim("S5", "A residual network with batch normalisation learns", "0.90 to 1", ("exploding/residual_conv",),
          _final_accuracy("exploding/residual_conv"), within(0.9, 1)),
    Claim("S5", "The linear network's gradients explode: last over first layer, at the start", "explodes",
          ("exploding/linear",), _start_ratio("exploding/linear"), within(0, 0.1),
          "Nothing explodes at the start: what the tutorial saw is the learning rate, too large for 22 layers."),
    Claim("S5", "Clipping to a norm of 1 keeps each layer's gradient below it", "<= 1", ("exploding/linear_clipped",),
          _largest_norm("exploding/linear_clipped"), within(0, 1.001)),
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What is to be trained."""

    quick: bool = False  # fewer seeds, and the deep networks on few images
    seeds: int | None = None  # for every experiment; by default fewer for the deep ones
    only: tuple[str, ...] = ()  # sources, such as S3; all of them when empty
    digits: bool = False  # drawn digits instead of MNIST
    epochs: int | None = None  # at most

    def experiments(self) -> dict[str, list[Experiment]]:
        """By name, one for each seed; an unknown source lists those there are."""
        known = sorted({claim.source for claim in CLAIMS})
        if unknown := sorted(set(self.only) - set(known)):
            raise ExperimentError(f"there is no source {unknown[0]!r}: choose from {', '.join(known)}")
        names = {name for claim in CLAIMS if not self.only or claim.source in self.only for name in claim.needs}
        return {name: self._of(experiment(name)) for name in sorted(names)}

    def _of(self, e: Experiment) -> list[Experiment]:
        deep = e.name.startswith("exploding/")
        if self.digits and e.data == "mnist":
            e = e.replace(data="digits")
        if deep and self.quick:
            e = e.replace(observations=FEW, epochs=FEW_EPOCHS)
            if e.architecture == "residual_conv":  # the large one takes an hour on a CPU
                e = e.replace(widths=(1, 8, 8, 8, 16, 16, 32, 32, 10))
        if self.epochs is not None:
            e = e.replace(epochs=min(e.epochs, self.epochs))
        return seeds_of(e, self.seeds or (DEEP_SEEDS if deep else QUICK_SEEDS if self.quick else SEEDS))


def reproduce(folder: Path, plan: Plan) -> Path:
    """Train what is not in `folder` yet, and write REPRODUCTION.md there."""
    folder.mkdir(parents=True, exist_ok=True)
    runs: dict[str, list[Recording]] = {}
    for name, experiments in plan.experiments().items():
        paths = [folder / f"{name.replace('/', '-')}-seed-{e.seed}.safetensors" for e in experiments]
        runs[name] = train_many(experiments, paths)
    return write_whole(folder / "REPRODUCTION.md", table(runs).encode())


def table(runs: Runs) -> str:
    """The claims whose experiments were run, as Markdown."""
    lines = ["# Reproduction", ""]
    lines += ["Written by `labkit reproduce`. Ours is the median over seeds, with the 95 % band.", ""]
    lines += ["| | claim | published | ours | holds | |", "|---|---|---|---|---|---|"]
    for claim in CLAIMS:
        if set(claim.needs) <= set(runs):
            found = claim.figure(runs)
            holds = claim.holds(found)
            cells = (claim.source, claim.sentence, claim.published, str(found), "yes" if holds else "**no**")
            lines.append(f"| {' | '.join(cells)} | {'' if holds else claim.remark} |")
    lines += ["", "What was run:", ""]
    for name, some in runs.items():
        e = some[0].origin.experiment
        if e is not None:
            lines.append(f"- `{name}`, {len(some)} seeds: {e.summary}")
    return "\n".join(lines) + "\n"
