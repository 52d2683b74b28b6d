"""Draw the figures of the student's pages, and write what each shows in words: python docs/figures.py [FOLDER]

About a minute on two cores. Every run has a fixed seed. The networks are others than those of the labs, so no figure
here is an answer there.
"""

import sys
from collections.abc import Callable
from functools import cache
from itertools import chain
from pathlib import Path

from matplotlib.figure import Figure

import labkit
from labkit import plots
from labkit.ensembles import seeds_of
from labkit.files import write_whole
from labkit.plots.figure import LabFigure

HERE = Path(__file__).parent / "figures"
SEEDS = 10  # behind each band

# Six weight layers, a width that no lab has, and plain SGD, which hides nothing.
SIX = labkit.experiment("activations/sigmoid").replace(
    name="docs/six", data="digits", observations=3000, pool=10_000, widths=(784, 24, 24, 24, 24, 24, 10),
    optimizer="sgd", learning_rate=0.1, batch_size=100, batches=None, epochs=20,
)  # fmt: skip
# Ten hidden layers, He weights times a gain: a gain of 2 ** 0.5 doubles the mean squared gradient in every layer.
DIAL = labkit.experiment("exploding/gain_one").replace(
    name="docs/dial", widths=(784, *(100,) * 10, 10), learning_rate=0.02
)
LONG, LOUD = DIAL.replace(epochs=15), 3**0.5
# Two hidden layers whose last gradient grows, or does not.
SHORT = SIX.replace(name="docs/short", widths=(784, 24, 24, 10), optimizer="adam", learning_rate=1e-3)
# A class is shown at the first of 30 steps and asked for at the last.
LAG = labkit.experiment("recurrent/rnn").replace(name="docs/lag", steps=30, observations=1000, epochs=8)


@cache
def run(experiment: labkit.Experiment) -> labkit.Recording:
    return labkit.train(experiment, progress=False)


def at_the_start(experiment: labkit.Experiment) -> list[labkit.Recording]:
    """The experiment's runs over seeds, one epoch each: their start is what is looked at."""
    return [run(one) for one in seeds_of(experiment.replace(epochs=1), SEEDS)]


def activations() -> Figure:
    return plots.activations(["sigmoid", "tanh", "leaky_relu"])


def six_waterfall() -> Figure:
    return plots.gradient_distributions(run(SIX), source="probe")


def six_heatmap() -> Figure:
    return plots.distribution_heatmap([run(SIX), run(SIX.replace(activation="relu"))])


def six_gain() -> Figure:
    runs = [at_the_start(SIX.replace(activation=name)) for name in ("sigmoid", "tanh", "relu")]
    return plots.gain_per_layer([*chain.from_iterable(runs)])


def six_bands() -> Figure:
    return plots.bands(at_the_start(SIX) + at_the_start(SIX.replace(activation="relu")))


def six_losses() -> Figure:
    return plots.losses([run(SIX), run(SIX.replace(activation="tanh")), run(SIX.replace(activation="relu"))])


def remedies() -> Figure:
    changes: list[dict[str, object]] = [{}, {"normalisation": "batch"}, {"residual": True}]
    return plots.attenuation([run(SIX.replace(**change)) for change in changes])


def dial_gain() -> Figure:
    runs = [at_the_start(DIAL.replace(gain=k**0.5)) for k in (0.5, 1.0, 2.0)]
    return plots.gain_per_layer([*chain.from_iterable(runs)])


def dial_losses() -> Figure:
    dialled = ((1.0, None), (LOUD, None), (LOUD, 1.0))
    return plots.losses([run(LONG.replace(gain=gain, clip_norm=clip)) for gain, clip in dialled])


def dial_norms() -> Figure:
    return plots.gradient_norms(run(LONG.replace(gain=LOUD, clip_norm=1.0)))


def through_time() -> Figure:
    return plots.through_time([run(LAG), run(LAG.replace(architecture="lstm"))])


def growth_relu() -> Figure:
    return plots.growth(run(SHORT.replace(activation="relu")))


def growth_tanh() -> Figure:
    return plots.growth(run(SHORT.replace(activation="tanh")))


def signed_means() -> Figure:
    return plots.mean_gradients(run(SHORT.replace(activation="relu")))


def signed_or_absolute() -> Figure:
    return plots.gradient_sizes(run(SHORT.replace(activation="relu")), signed=True)


@cache
def mapped() -> labkit.Map:
    return labkit.trainability("sigmoid", "docs", progress=False)


def trainability() -> Figure:
    return plots.trainability(mapped())


def trainability_starts() -> Figure:
    return plots.starting_gradients(mapped(), 16)


DRAWINGS: dict[str, Callable[[], Figure]] = {
    draw.__name__.replace("_", "-"): draw
    for draw in (
        activations, six_waterfall, six_heatmap, six_gain, six_bands, six_losses, remedies,
        dial_gain, dial_losses, dial_norms, through_time, growth_relu, growth_tanh, signed_means, signed_or_absolute,
        trainability, trainability_starts,
    )
}  # fmt: skip
WORDS = "README.md"  # beside the figures: what each shows
FILES = (*(f"{name}.png" for name in DRAWINGS), WORDS)


def main(folder: Path = HERE) -> None:
    """Write every figure and the page of their descriptions."""
    folder.mkdir(parents=True, exist_ok=True)
    told = ["# The figures in words", "", "Written by `python docs/figures.py`, with the figures."]
    for name, draw in DRAWINGS.items():
        figure = draw()
        assert isinstance(figure, LabFigure)
        write_whole(folder / f"{name}.png", figure.png())
        told += ["", f"## {name}", "", figure.alt_text]
        print(folder / f"{name}.png")
    write_whole(folder / WORDS, ("\n".join(told) + "\n").encode())


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
