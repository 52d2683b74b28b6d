"""The start of a network, drawn by numpy: the same numbers on every machine, and for the grader without torch.

The last digit alone can differ (see `labkit.streams`): normal numbers go through the C library's logarithm. Those of
`orthogonal` go through LAPACK, too: its factors are unique, but how they are rounded is the library's matter, so they
are the same up to rounding times the matrix's condition, about 1e-13 for some hundred units.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from labkit.experiments import RECURRENT, Experiment, ExperimentError, Initialisation
from labkit.streams import stream

Floats = NDArray[np.float64]
# (seed, layer's name, shape, initialisation) to weights of that shape, before `gain`, and biases (outputs,)
Drawing = Callable[[int, str, tuple[int, ...], Initialisation], tuple[Floats, Floats]]


class Numbers(Protocol):
    """What of a stream (see `labkit.streams`) a layer is drawn from."""

    def standard_normal(self, size: tuple[int, ...]) -> Floats: ...

    def uniform(self, low: float, high: float, size: Any) -> Floats: ...


GATES = {"rnn": 1, "lstm": 4, "gru": 3}  # stacked as torch stacks them: i f g o, and r z n
IMAGE = 28  # pixels along an image's side
STEM, KERNEL = 7, 3  # side of the filters of a residual_conv's first convolution, and of those in its blocks


def variance(initialisation: Initialisation, fan_in: int, fan_out: int) -> float:
    """Variance of one weight. Glorot & Bengio 2010 (eq. 16), He et al. 2015 (eq. 10), LeCun et al. 1998 (sec. 4.6);
    `orthogonal` has rows, or columns where there are fewer of them, of length 1 (Saxe et al. 2014); `normal` is
    N(0, 1); `pytorch` is the default of `torch.nn.Linear`: uniform within 1/sqrt(fan_in), so 1/(3 fan_in)."""
    known = {
        "glorot_uniform": 2 / (fan_in + fan_out),
        "glorot_normal": 2 / (fan_in + fan_out),
        "he_uniform": 2 / fan_in,
        "he_normal": 2 / fan_in,
        "lecun_normal": 1 / fan_in,
        "orthogonal": 1 / max(fan_in, fan_out),
        "normal": 1.0,
        "pytorch": 1 / (3 * fan_in),
    }
    if initialisation not in known:
        raise ExperimentError(f"initialisation is {initialisation!r}: choose from {', '.join(known)}")
    return known[initialisation]


def drawn(seed: int, name: str, shape: tuple[int, ...], initialisation: Initialisation) -> tuple[Floats, Floats]:
    """Weights of a shape (outputs, inputs, ...) before `gain`, and biases (outputs,), of the layer of that name."""
    return layer(stream(seed, "weights", name), shape, initialisation)


def draw(
    widths: Sequence[int],
    initialisation: Initialisation = "glorot_uniform",
    gain: float = 1.0,
    seed: int = 0,
    drawing: Drawing = drawn,
) -> list[tuple[Floats, Floats]]:
    """Weights (outputs, inputs) and biases (outputs,) of each layer, input side first, in float64.

    Biases are zero, except that `pytorch` draws them as `torch.nn.Linear` does. `gain` multiplies the weights.
    `drawing` is for those who draw many networks and keep what they drew.
    """
    found = []
    for index, (fan_in, fan_out) in enumerate(pairwise(widths), start=1):
        weights, biases = drawing(seed, f"fc_{index}", (fan_out, fan_in), initialisation)
        found.append((weights * gain, biases))
    return found


def of_experiment(experiment: Experiment, drawing: Drawing = drawn) -> list[tuple[Floats, Floats]]:
    """The start that the experiment's seed gives its fully connected layers; `named` has it for every architecture."""
    if experiment.architecture != "mlp":
        raise ExperimentError(f"a {experiment.architecture} is no list of layers: take initialisations.named")
    return draw(experiment.widths, experiment.initialisation, experiment.gain, experiment.seed, drawing)


def named(experiment: Experiment) -> dict[str, Floats]:
    """All parameters at the start, by their names in the torch network and in its order, in float64.

    Normalisations start with scale 1 and shift 0. Each gate of a recurrent layer has a fan_out of `units`, and is
    drawn by itself. The forget gates of an lstm start with a bias of 1, so that it remembers before it has learnt to
    (Jozefowicz et al. 2015); behind a layer normalisation, which takes away what all units have in common, it is the
    shift that is 1.
    """
    parts: Callable[[Experiment], Iterator[tuple[str, Floats]]] = of_mlp
    if experiment.architecture in RECURRENT:
        parts = _recurrent
    elif experiment.architecture == "residual_conv":
        parts = _residual_conv
    return dict(parts(experiment))


def convolutions(widths: Sequence[int]) -> Iterator[tuple[str, int, int, int, int]]:
    """(name, input channels, output channels, side of the filters, stride) of each convolution of a residual_conv.

    A block whose width grows halves the image; a block whose width changes has a shortcut of 1x1 filters.
    """
    yield "conv_1", widths[0], widths[1], STEM, 2
    for block, (before, width) in enumerate(pairwise(widths[1:-1]), start=1):
        stride = 2 if width > before else 1
        yield f"block_{block}.conv_1", before, width, KERNEL, stride
        yield f"block_{block}.conv_2", width, width, KERNEL, 1
        if width != before:
            yield f"block_{block}.shortcut", before, width, 1, stride


def features(widths: Sequence[int]) -> int:
    """Inputs of the last layer of a residual_conv: channels times pixels that are left of the image."""
    side = math.ceil(IMAGE / 4)  # behind the first convolution and the pooling
    for before, width in pairwise(widths[1:-1]):
        side = math.ceil(side / 2) if width > before else side
    return widths[-2] * side**2


def of_mlp(e: Experiment, drawing: Drawing = drawn) -> Iterator[tuple[str, Floats]]:
    """The same, of fully connected layers, name by name."""
    layers = of_experiment(e, drawing)
    for index, (weights, biases) in enumerate(layers, start=1):
        last = index == len(layers)
        if last or e.normalisation != "batch":
            yield from _parameters(f"fc_{index}", weights, biases)
        else:  # the normalisation would take them away
            yield f"fc_{index}.weight", weights
        if not last:
            yield from _normalisation(e, f"norm_{index}", len(biases))


def _residual_conv(e: Experiment) -> Iterator[tuple[str, Floats]]:
    for name, before, width, side, _ in convolutions(e.widths):
        random = stream(e.seed, "weights", name)
        yield from _parameters(name, *_layer(random, (width, before, side, side), e.initialisation, e.gain))
        if not name.endswith("shortcut"):
            yield from _normalisation(e, name.replace("conv", "norm"), width)
    shape = (e.widths[-1], features(e.widths))
    yield from _parameters("fc", *_layer(stream(e.seed, "weights", "fc"), shape, e.initialisation, e.gain))


def _recurrent(e: Experiment) -> Iterator[tuple[str, Floats]]:
    inputs, units, classes = e.widths
    gates = GATES[e.architecture]
    weights, biases = _gates(e, "input", inputs)
    again, offsets = _gates(e, "recurrent", units)
    shift = np.zeros(gates * units)
    if e.architecture == "lstm":
        (shift if e.normalisation == "layer" else biases)[units : 2 * units] += 1
    yield from _parameters("input", weights, biases)
    yield "recurrent.weight", again
    if e.architecture == "gru":  # its reset gate multiplies this one
        yield "recurrent.bias", offsets
    if e.normalisation == "layer":
        yield from _parameters("norm", np.ones(gates * units), shift)
    random = stream(e.seed, "weights", "output")
    yield from _parameters("output", *_layer(random, (classes, units), e.initialisation, e.gain))


def _gates(e: Experiment, name: str, inputs: int) -> tuple[Floats, Floats]:
    """(gates * units, inputs) and (gates * units,), gate by gate."""
    random = stream(e.seed, "weights", name)
    drawn = [_layer(random, (e.widths[1], inputs), e.initialisation, e.gain) for _ in range(GATES[e.architecture])]
    return np.concatenate([weights for weights, _ in drawn]), np.concatenate([biases for _, biases in drawn])


def _normalisation(e: Experiment, name: str, width: int) -> Iterator[tuple[str, Floats]]:
    if e.normalisation != "none":
        yield from _parameters(name, np.ones(width), np.zeros(width))


def _parameters(name: str, weights: Floats, biases: Floats) -> Iterator[tuple[str, Floats]]:
    yield f"{name}.weight", weights
    yield f"{name}.bias", biases


def _layer(
    random: np.random.RandomState, shape: tuple[int, ...], initialisation: Initialisation, gain: float
) -> tuple[Floats, Floats]:
    """Weights of a shape (outputs, inputs, ...) times `gain`, and biases (outputs,)."""
    weights, biases = layer(random, shape, initialisation)
    return weights * gain, biases


def layer(random: Numbers, shape: tuple[int, ...], initialisation: Initialisation) -> tuple[Floats, Floats]:
    """Weights of a shape (outputs, inputs, ...) before `gain`, and biases (outputs,), from the next numbers of a
    stream. In a convolution each position of a filter counts: it has as many inputs as a filter has weights."""
    fan_in, fan_out = math.prod(shape[1:]), shape[0] * math.prod(shape[2:])
    sd = math.sqrt(variance(initialisation, fan_in, fan_out))
    if initialisation == "orthogonal":
        weights = _orthogonal(random, shape[0], fan_in).reshape(shape)
    elif initialisation.endswith("normal"):
        weights = random.standard_normal(shape) * sd
    else:
        weights = random.uniform(-1, 1, shape) * (sd * math.sqrt(3))
    biases = np.zeros(shape[0])
    if initialisation == "pytorch":
        biases = random.uniform(-1, 1, shape[0]) / math.sqrt(fan_in)
    return weights, biases


def _orthogonal(random: Numbers, rows: int, columns: int) -> Floats:
    """(rows, columns) with orthonormal columns, or rows where there are fewer of them: Q of a normal matrix.

    The diagonal of R is made positive: that makes Q unique, and uniformly distributed (Mezzadri 2007).
    """
    q, r = np.linalg.qr(random.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.where(np.diag(r) < 0, -1.0, 1.0)
    found: Floats = q if rows >= columns else q.T
    return found
