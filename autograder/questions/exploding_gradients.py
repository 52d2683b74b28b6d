"""The questions of the exploding-gradients lab, in the notebook's order."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autograder.answers import Network, Tensor
from autograder.authenticity import Asked
from autograder.checks import Failed, check
from autograder.evidence import Evidence
from autograder.questions.shared import (
    FLOAT32,
    Floats,
    alike,
    all_above_zero,
    all_finite,
    all_near,
    close,
    honest_run,
    keyed,
    kind_of,
    near,
    numbers,
    question,
    two,
)
from labkit import backward, data, deviations, initialisations, propagation, theory
from labkit.experiments import Activation, Experiment, experiment
from labkit.recording import PROBE, Recording

GAINS = {"half": 0.5, "one": 1.0, "two": 2.0}
UNITS = 64  # of each hidden layer
DIAL = (784, *(UNITS,) * 10, 10)
REMEDIES: dict[str, dict[str, Any]] = {
    "none": {},
    "batch": {"normalisation": "batch"},
    "layer": {"normalisation": "layer"},
    "residual": {"residual": True},
}
LIMITS = {"norm": 1.0, "each": 1.0, "value": 0.1}  # of the given gradients
LARGEST_GAIN = 3.0  # of the weights: a k of 9
EXPLODED = 1000  # of the whole gradient's norm, which begins near 2 with a k of 1
KERAS_EDGE = float(np.sqrt(6 / (256 + 256)))  # of Glorot's uniform weights between layers of 256
CHANNELS = (64, 128, 128, 256, 256, 512, 512, 512, 512)  # of a deep network's convolutions, on their way in
TOO_SMALL = 0.01  # an sd that filters were once drawn with
SEVERAL = ("stuck", "conv")
RATIO = 1e-3  # of a gain: float32 is within 1e-5 of it, another definition of it off by more than 1e-2


# ---- which runs


def dial(student: str, name: str) -> Experiment:
    """exploding/gain_half, gain_one or gain_two, in layers of 64 units and in float64.

    In float32, rounding decides on which side of a kink some of the many values beside one fall, and an audit that
    follows both sides takes a minute; in float64 nothing is so near.
    """
    return experiment(f"exploding/gain_{name}", student or "-").replace(widths=DIAL, dtype="float64")


def tutorial(student: str, name: str) -> Experiment:
    """The tutorial's networks on 2,000 digits, in layers of 64 units, for 3 epochs."""
    depth = 11 if name == "sigmoid" else 21
    return experiment(f"exploding/{name}", student or "-").replace(
        data="digits", observations=2000, pool=10_000, widths=(784, *(UNITS,) * depth, 10), epochs=3
    )


def residual(student: str) -> Experiment:
    """The tutorial's residual network on 500 digits, with an eighth of its channels, for 3 epochs.

    In float64 for what `dial` says, and because each look of an audit at a convolution takes long.
    """
    return experiment("exploding/residual_conv", student or "-").replace(
        data="digits", observations=500, pool=10_000, epochs=3, widths=(1, 8, 8, 8, 16, 16, 32, 32, 10), dtype="float64"
    )


def recordings(student: str) -> dict[str, Asked]:
    """Every recording that the assignment asks for, and which run of the student's own it has to be."""
    loud = dial(student, "two")
    return {
        **{name: Asked(dial(student, name)) for name in GAINS},
        "loud": Asked(loud, ("gain", "clip_norm")),
        "clipped": Asked(loud, ("gain", "clip_norm")),
        "mended": Asked(loud, ("gain", "clip_norm", "normalisation", "residual")),
        "linear": Asked(tutorial(student, "linear")),
        "linear_clipped": Asked(tutorial(student, "linear_clipped")),
        "stuck": Asked(tutorial(student, "sigmoid")),
        "conv": Asked(residual(student)),
    }


def run_of(evidence: Evidence, name: str) -> Recording:
    """The recording of that name, once it was found to be an honest run of the student's own experiment."""
    return honest_run(evidence, name, recordings(evidence.student))


# ---- the gain, by hand


def gains_of(parameters: Mapping[str, Floats], images: NDArray[Any], labels: Any, e: Experiment) -> Floats:
    """(L-1,) the factor on the mean square of dloss/dz from a layer to the one before it, over these images; z is what
    a fully connected layer puts out."""
    inputs = np.asarray(images, dtype=np.float64).reshape(len(labels), -1)
    deltas, _ = backward.back_propagated(e, parameters, inputs, np.asarray(labels))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.array([first / second for first, second in pairwise(map(backward.mean_square, deltas))])


def inner(gains: Floats) -> Floats:
    """Without those of the first layer, which sees the images, and of the last, which has ten units."""
    return gains[1:-1]


def mean_gain(gains: Floats) -> float:
    """Geometric mean of the inner gains."""
    with np.errstate(divide="ignore"):
        return float(np.exp(np.mean(np.log(inner(gains)))))


def start_gains(e: Experiment) -> Floats:
    """The gains of an experiment's network at its start, on the probe batch."""
    dataset = data.of_experiment(e)
    return gains_of(initialisations.named(e), dataset.inputs[:PROBE], dataset.labels[:PROBE], e)


# ---- the dial


def _weight_sds(evidence: Evidence, activation: Activation, help: str) -> None:
    for width, k in zip(evidence.random.randint(2, 2000, 4), (0.25, 1.0, 2.0, 5.5), strict=True):
        found = evidence.call("weight_sd", activation, int(width), float(k))
        half = theory.gain(activation, "he_normal", int(width))  # of weights with an sd of sqrt(2 / width)
        expected = np.sqrt(2 / width * k / half)
        close(found, expected, f"weight_sd({activation!r}, {width}, {k:g})", FLOAT32, help)


@check(points=1)
def weight_sd_of_linear(evidence: Evidence) -> None:
    """weight_sd gives the standard deviation with which linear layers have a gain of k."""
    _weight_sds(evidence, "linear", "The slope is 1 everywhere: solve k = width sd^2 for sd.")


@check(points=1)
def weight_sd_of_relu(evidence: Evidence) -> None:
    """weight_sd gives the standard deviation with which ReLU layers have a gain of k."""
    _weight_sds(evidence, "relu", "What is the mean of the squared slope, when half of the units are off?")


def _gain_cases(evidence: Evidence) -> list[tuple[Any, Floats]]:
    """What backward_gain gives for networks that nobody has seen, and what it should."""
    draw, found = evidence.random, []
    cases: tuple[tuple[Activation, float], ...] = (("relu", 1.6), ("linear", 0.7), ("tanh", 2.0), ("sigmoid", 1.0))
    for activation, gain in cases:
        widths = (784, *(int(n) for n in draw.randint(20, 60, draw.randint(2, 5))), 10)
        seed, batch = int(draw.randint(1, 10_000)), int(draw.randint(5, 12))
        images = draw.uniform(0, 1, (batch, 1, 28, 28)).astype(np.float32)
        labels = draw.randint(0, 10, batch)
        network = Network(widths, activation, "glorot_uniform", gain, seed)
        given = evidence.call("backward_gain", network, Tensor(images), Tensor(labels))
        e = Experiment(widths=widths, activation=activation, gain=gain, seed=seed)
        found.append((given, gains_of(initialisations.named(e), images, labels, e)))
    return found


@check(points=1)
def gain_for_each_layer(evidence: Evidence) -> None:
    """backward_gain gives one number above 0 for each layer but the last."""
    for given, expected in _gain_cases(evidence):
        gains = numbers(given, "backward_gain(network, images, labels)", expected.shape)
        all_above_zero(gains, "gain", "it is a ratio of mean squares")


@check(points=2, needs=[gain_for_each_layer])
def gain_of_networks(evidence: Evidence) -> None:
    """backward_gain gives the factor on the mean square of dloss/dz from each layer to the one before it."""
    for given, expected in _gain_cases(evidence):
        gains = numbers(given, "backward_gain(network, images, labels)", expected.shape)
        help = (
            "The mean of (dloss/dz)^2 of a layer, divided by that of the next one; z is what the layer puts out, not "
            "its weights; over all units and images; first layer first."
        )
        all_near(gains, expected, "the gain into fc_{}", RATIO, help)


@check(points=1)
def half_recorded(evidence: Evidence) -> None:
    """half.safetensors is the training of your own network with a gain of 1/2."""
    run_of(evidence, "half")


@check(points=1)
def one_recorded(evidence: Evidence) -> None:
    """one.safetensors is the training of your own network with a gain of 1."""
    run_of(evidence, "one")


@check(points=1)
def two_recorded(evidence: Evidence) -> None:
    """two.safetensors is the training of your own network with a gain of 2."""
    run_of(evidence, "two")


@check(points=1)
def gain_of_z(evidence: Evidence) -> None:
    """gain_of_z has the geometric mean of each network's inner gains of dloss/dz, at the start."""
    found = keyed(evidence.value("gain_of_z"), "gain_of_z", tuple(GAINS))
    help = "backward_gain of the network before its training, of the first 250 images; leave out its first and last."
    for name in GAINS:
        expected = mean_gain(start_gains(dial(evidence.student, name)))
        near(found[name], expected, f"gain_of_z[{name!r}]", help, source="your network")


@check(points=1)
def gain_of_weights(evidence: Evidence) -> None:
    """gain_of_weights has the same of the gradients of the weights, dloss/dW, from your recordings."""
    found = keyed(evidence.value("gain_of_weights"), "gain_of_weights", tuple(GAINS))
    help = 'The rows 0 of probe_statistic("norm"), squared; from fc_10 to fc_2 there are 8 steps.'
    for name in GAINS:
        expected = _start_gain_of_weights(dial(evidence.student, name))
        near(found[name], expected, f"gain_of_weights[{name!r}]", help)


def _start_gain_of_weights(e: Experiment) -> float:
    """Of the squared norm of dloss/dW, from fc_10 to fc_2; what row 0 of a recording's probe statistics has."""
    dataset = data.of_experiment(e)
    images = dataset.inputs[:PROBE].reshape(PROBE, -1).astype(np.float64)
    _, layers = propagation.backpropagate(initialisations.of_experiment(e), images, dataset.labels[:PROBE], e)
    first, *_, last = layers[1:-1]
    return float((_length([first[0]]) / _length([last[0]])) ** (2 / (len(layers) - 3)))


@check(points=1)
def inside_band(evidence: Evidence) -> None:
    """inside_band has, for each network, how many of its eight inner gains lie within theory's band."""
    found = keyed(evidence.value("inside_band"), "inside_band", tuple(GAINS))
    for name, k in GAINS.items():
        gains = inner(start_gains(dial(evidence.student, name)))
        low, high = theory.gain_band(k, (1, UNITS, 1))
        count = numbers(found[name], f"inside_band[{name!r}]", ())
        sure, possible = (int(((gains > low * a) & (gains < high / a)).sum()) for a in (1 + RATIO, 1 - RATIO))
        if not sure <= count <= possible:
            raise Failed(
                f"inside_band[{name!r}] is {count:g}, which is not what your network gives",
                "Count the inner gains between low and high of theory.gain_band(k, (1, 64, 1)).",
            )


# ---- clipping


def _gradient_cases(evidence: Evidence) -> list[tuple[list[Floats], float]]:
    """Gradients of several shapes, one of them all zeros, and a limit; the last ones are shorter than the limit."""
    draw, cases = evidence.random, []
    for length in (30.0, 1e4, 0.2):
        shapes = [(4, 3), (4,), (2, 4), (2,), (3, 2, 2)]
        gradients = [draw.standard_normal(shape) * draw.uniform(0.1, 3) for shape in shapes]
        gradients[int(draw.randint(5))] *= 0
        whole = np.sqrt(sum(float((g**2).sum()) for g in gradients))
        limit = float(draw.uniform(0.5, 2))
        cases.append(([g * (length * limit / whole) for g in gradients], limit))
    return cases


def _clipped_as(evidence: Evidence, function: str, case: tuple[list[Floats], float], want: list[Floats]) -> None:
    gradients, limit = case
    given = evidence.call(function, [Tensor(g) for g in gradients], limit)
    if not isinstance(given, (list, tuple)) or len(given) != len(gradients):
        raise Failed(f"{function} gives {kind_of(given)}, expected is a list of {len(gradients)} gradients")
    for index, (found, expected) in enumerate(zip(given, want, strict=True)):
        # the 1e-6 that torch adds to a norm is within FLOAT32
        close(found, expected, f"gradient {index} of {function}(gradients, {limit:.3g})", FLOAT32)


def by_norm(gradients: list[Floats], limit: float) -> list[Floats]:
    """All together scaled down to the norm `limit` (Pascanu, Mikolov & Bengio 2013, Algorithm 1)."""
    norm = _length(gradients)
    return [g * min(1.0, limit / norm) for g in gradients]


def by_each(gradients: list[Floats], limit: float) -> list[Floats]:
    """Each scaled down to the norm `limit` by itself, as Keras's clipnorm does."""
    return [by_norm([g], limit)[0] if g.any() else g for g in gradients]


def by_value(gradients: list[Floats], limit: float) -> list[Floats]:
    return [np.clip(g, -limit, limit) for g in gradients]


_WAYS = {"norm": by_norm, "each": by_each, "value": by_value}


def _length(gradients: list[Floats]) -> float:
    return float(np.sqrt(sum(float((g**2).sum()) for g in gradients)))


@check(points=1)
def long_gradients_are_shortened(evidence: Evidence) -> None:
    """clip_by_norm scales gradients that are too long down together, so that their common norm is max_norm."""
    for case in _gradient_cases(evidence)[:2]:
        _clipped_as(evidence, "clip_by_norm", case, by_norm(*case))


@check(points=1)
def short_gradients_are_left(evidence: Evidence) -> None:
    """clip_by_norm leaves gradients as they are that are short enough, and zeros."""
    case = _gradient_cases(evidence)[2]
    zeros = [g * 0 for g in case[0]]
    _clipped_as(evidence, "clip_by_norm", case, case[0])
    _clipped_as(evidence, "clip_by_norm", (zeros, case[1]), zeros)


@check(points=1)
def each_is_clipped(evidence: Evidence) -> None:
    """clip_each_by_norm scales each gradient down by itself to max_norm, where it is longer."""
    for case in _gradient_cases(evidence):
        _clipped_as(evidence, "clip_each_by_norm", case, by_each(*case))


@check(points=1)
def values_are_clipped(evidence: Evidence) -> None:
    """clip_by_value cuts every value off at -limit and +limit."""
    for case in _gradient_cases(evidence):
        _clipped_as(evidence, "clip_by_value", case, by_value(*case))


def first_gradients(e: Experiment) -> list[Floats]:
    """Of every parameter on the first mini-batch, weights and biases in turn."""
    dataset, indices = data.of_experiment(e), data.epoch_batches(e, 0)[0]
    images = dataset.inputs[indices].reshape(len(indices), -1).astype(np.float64)
    _, layers = propagation.backpropagate(initialisations.of_experiment(e), images, dataset.labels[indices], e)
    return [part for layer in layers for part in layer]


def _after_clipping(evidence: Evidence, variable: str, help: str) -> None:
    found = keyed(evidence.value(variable), variable, tuple(LIMITS))
    help += " A function that changes what it is given spoils given_gradients for the next: run their cell again."
    before = first_gradients(dial(evidence.student, "two"))
    for name, limit in LIMITS.items():
        after = _WAYS[name](before, limit)
        along = sum(float((a * b).sum()) for a, b in zip(after, before, strict=True))
        expected = _length(after) if variable == "norm_after" else along / _length(after) / _length(before)
        near(found[name], expected, f"{variable}[{name!r}]", help, 2e-3, "your network")


@check(points=1)
def norm_after(evidence: Evidence) -> None:
    """norm_after has the common norm of the given gradients after each kind of clipping."""
    _after_clipping(evidence, "norm_after", "Of all 22 gradients together: the root of the sum of all squares.")


@check(points=1)
def cosine_after(evidence: Evidence) -> None:
    """cosine has the cosine of the angle between the given gradients and what each kind of clipping makes of them."""
    _after_clipping(evidence, "cosine", "Over all 22 gradients together: the sum of products over both norms.")


# ---- exploding


def _loud(evidence: Evidence, name: str) -> Recording:
    recording = run_of(evidence, name)
    gain = recording.origin.experiment.gain if recording.origin.experiment else 0
    if not 1 <= gain <= LARGEST_GAIN:
        raise Failed(
            f"its weights are multiplied by {gain:g}, the assignment allows 1 to {LARGEST_GAIN:g}: a k up to 9",
            f"Train two_experiment.replace(gain=...) again, with more than its own gain, {GAINS['two'] ** 0.5:.3g}.",
        )
    return recording


def _changed(recording: Recording, **changes: Any) -> Experiment:
    """The recorded experiment with some fields changed, and without a name."""
    e = recording.origin.experiment or Experiment()
    return e.replace(name="-", student="-", **changes)


@check(points=1)
def loud_explodes(evidence: Evidence) -> None:
    """loud.safetensors is a run, not clipped, whose gradients explode."""
    recording = _loud(evidence, "loud")
    if _changed(recording).clip_norm is not None:
        raise Failed("its gradients were clipped", "Leave clip_norm at None for this run.")
    norm = np.sqrt((recording.statistic("norm").astype(np.float64) ** 2).sum(axis=1))
    if np.isfinite(recording.loss).all() and not norm.max() >= EXPLODED:
        raise Failed(
            f"the norm of its gradient stays below {norm.max():.3g}; exploding shows as {EXPLODED:,} and more, or as a "
            "loss that is no longer a number",
            "Choose a larger k.",
        )


@check(points=2, needs=[loud_explodes])
def clipped_is_finite(evidence: Evidence) -> None:
    """clipped.safetensors is the same run with the gradients clipped to a norm of 1, and its loss stays finite."""
    loud, clipped = _loud(evidence, "loud"), _loud(evidence, "clipped")
    if _changed(clipped) != _changed(loud, clip_norm=1.0):
        raise Failed("it is not the same experiment with clip_norm=1.0", "Change nothing else, k included.")
    all_finite(clipped)


def _clipped(evidence: Evidence) -> Recording:
    """The clipped run; figures of one that was not clipped, or behind its last number, tell nothing of clipping."""
    recording = run_of(evidence, "clipped")
    if (recording.clip_factor == 1).all():
        raise Failed("nothing was clipped", "Train the loud run again with clip_norm=1.0.")
    all_finite(recording)
    return recording


def matrix_norms(recording: Recording) -> tuple[Floats, Floats]:
    """(I, L) norms of dloss/dW before and after clipping."""
    after = recording.statistic("norm").astype(np.float64)
    factor = recording.clip_factor.astype(np.float64)
    return np.divide(after, factor, out=np.zeros_like(after), where=factor > 0), after


def _largest(norms: Floats) -> float:
    """Over the iterations, of the norm over all weight matrices."""
    return float(np.sqrt((norms**2).sum(axis=1)).max())


@check(points=1)
def largest_norm(evidence: Evidence) -> None:
    """largest_norm has the largest norm of the clipped run's gradient, before and after the clipping."""
    found = keyed(evidence.value("largest_norm"), "largest_norm", ("before", "after"))
    help = "Of all weight matrices together: the root of the sum of their squared norms, at each iteration."
    for name, norms in zip(("before", "after"), matrix_norms(_clipped(evidence)), strict=True):
        near(found[name], _largest(norms), f"largest_norm[{name!r}]", help)


@check(points=2)
def gain_of_clipped(evidence: Evidence) -> None:
    """gain_of_clipped has the mean inner gain of the clipped run's network, at the start and at the end."""
    found = keyed(evidence.value("gain_of_clipped"), "gain_of_clipped", ("start", "end"))
    recording = _clipped(evidence)
    e = _changed(recording)
    dataset = data.of_experiment(e)
    for name, index in (("start", 0), ("end", -1)):
        gains = gains_of(recording.checkpoint(index), dataset.inputs[:PROBE], dataset.labels[:PROBE], e)
        help = f"clipped.checkpoint({index}) has the parameters; load_state_dict takes them as tensors."
        near(found[name], mean_gain(gains), f"gain_of_clipped[{name!r}]", help)


# ---- remedies


def _remedies(evidence: Evidence, variable: str, name: str) -> None:
    found = keyed(evidence.value(variable), variable, tuple(REMEDIES))
    help = f"backward_gain at the start of {name}_experiment with that field replaced, on the first 250 images."
    for remedy, changes in REMEDIES.items():
        expected = mean_gain(start_gains(dial(evidence.student, name).replace(**changes)))
        near(found[remedy], expected, f"{variable}[{remedy!r}]", help, source="your network")


@check(points=1)
def remedies_for_half(evidence: Evidence) -> None:
    """gain_with_half has the mean inner gain with each remedy, where the weights alone give 1/2."""
    _remedies(evidence, "gain_with_half", "half")


@check(points=1)
def remedies_for_two(evidence: Evidence) -> None:
    """gain_with_two has the mean inner gain with each remedy, where the weights alone give 2."""
    _remedies(evidence, "gain_with_two", "two")


@check(points=2)
def loud_is_mended(evidence: Evidence) -> None:
    """mended.safetensors is your loud run with its weights as they are and another remedy, and its loss falls."""
    loud, mended = run_of(evidence, "loud"), run_of(evidence, "mended")
    e = _changed(mended)
    if e != _changed(loud, normalisation=e.normalisation, residual=e.residual):
        raise Failed(
            "it is not your loud experiment with another normalisation or residual",
            "Change these fields alone, k stays as it is, and nothing is clipped.",
        )
    if not (e.residual or e.normalisation != "none"):
        raise Failed("it is your loud experiment as it was", "Choose a normalisation, residual=True, or both.")
    length = e.iterations_per_epoch
    all_finite(mended, "Compare your gains with each remedy: which one is still too loud?")
    # where a run explodes, an audit has nothing to compare: any loss could stand there
    if not deviations.calm(mended, 0, length, e).all():
        raise Failed(
            "its gradients still explode: a rounding at its start makes another training of it", "Try another remedy."
        )
    if not mended.loss[-length:].mean() < mended.loss[:length].mean():
        raise Failed("its loss in the last epoch is not below that of the first", "Try another remedy.")


# ---- audit the tutorial


@check(points=1)
def linear_recorded(evidence: Evidence) -> None:
    """linear.safetensors is the training of your own linear network."""
    run_of(evidence, "linear")


@check(points=1)
def linear_clipped_recorded(evidence: Evidence) -> None:
    """linear_clipped.safetensors is the same with each gradient clipped, as the tutorial does it."""
    run_of(evidence, "linear_clipped")


@check(points=1)
def stuck_recorded(evidence: Evidence) -> None:
    """stuck.safetensors is the training of your own deep sigmoid network."""
    run_of(evidence, "stuck")


@check(points=1)
def linear_gain(evidence: Evidence) -> None:
    """linear_gain is the mean inner gain of the tutorial's linear network at its start."""
    help = "backward_gain before the training, on the first 250 images; leave out its first and last."
    expected = mean_gain(start_gains(tutorial(evidence.student, "linear")))
    near(evidence.value("linear_gain"), expected, "linear_gain", help, source="your network")


@check(points=2)
def tutorial_norms(evidence: Evidence) -> None:
    """matrix_norm has the largest norm of one weight gradient: the tutorial's, before and after the clipping."""
    found = keyed(evidence.value("matrix_norm"), "matrix_norm", ("tutorial", "before", "after"))
    recording = run_of(evidence, "linear_clipped")
    before, after = matrix_norms(recording)
    expected = {"tutorial": recording.probe_statistic("norm")[1:].max(), "before": before.max(), "after": after.max()}
    help = "The largest over layers and iterations of linear_clipped; the tutorial's over layers and epochs 1 to 3."
    for name, value in expected.items():
        near(found[name], float(value), f"matrix_norm[{name!r}]", help)


def _label_cases(evidence: Evidence) -> list[tuple[tuple[Any, Any], Floats]]:
    draw, found = evidence.random, []
    for classes in (2, 4, 10):
        counts = draw.randint(1, 300, classes)
        labels = draw.permutation(np.repeat(np.arange(classes), counts))
        given = two(evidence.call("majority", labels), "majority(labels)")
        found.append((given, counts / counts.sum()))
    return found


@check(points=1)
def majority_accuracy(evidence: Evidence) -> None:
    """majority gives the accuracy of who always answers with the most frequent class."""
    for (accuracy, _), share in _label_cases(evidence):
        close(accuracy, share.max(), "the accuracy", FLOAT32, "How many labels are the most frequent one?")


@check(points=1)
def majority_loss(evidence: Evidence) -> None:
    """majority gives the cross-entropy of who knows the frequency of each class and nothing else."""
    for (_, loss), share in _label_cases(evidence):
        close(loss, -(share * np.log(share)).sum(), "the loss", FLOAT32, "The entropy of the frequencies, in nats.")


@check(points=1)
def keras_edge(evidence: Evidence) -> None:
    """keras_edge is the largest weight that Glorot's uniform start allows between two layers of 256."""
    found = numbers(evidence.value("keras_edge"), "keras_edge", ())
    if not abs(found - KERAS_EDGE) <= 1e-2 * KERAS_EDGE:
        raise Failed(f"keras_edge is {found:.6g}", "Glorot & Bengio 2010, eq. 16: how far does the uniform one reach?")


@check(points=1)
def widest(evidence: Evidence) -> None:
    """widest has the largest |weight| and the largest |gradient| of fc_2 in the deep sigmoid network, at its start."""
    found = keyed(evidence.value("widest"), "widest", ("weights", "gradients"))
    recording = run_of(evidence, "stuck")
    weights = float(np.abs(recording.checkpoint(0)["fc_2.weight"]).max())
    near(found["weights"], weights, "widest['weights']", 'stuck.checkpoint(0)["fc_2.weight"]')
    gradients = float(recording.statistic("abs_max")[0, 1])
    near(found["gradients"], gradients, "widest['gradients']", 'stuck.statistic("abs_max"), row 0, column 1.')


# ---- the residual network


def he_sd(channels: int, side: int) -> float:
    """He et al. 2015, eq. 10: each unit has channels x side x side inputs."""
    return float(np.sqrt(2 / (channels * side**2)))


@check(points=1)
def he_of_filters(evidence: Evidence) -> None:
    """he_sd gives the standard deviation of He's weights in a convolution's filters."""
    for channels, side in zip(evidence.random.randint(1, 600, 4), (1, 3, 5, 7), strict=True):
        found = evidence.call("he_sd", int(channels), side)
        help = "The number of inputs that one unit sums over: channels times side squared."
        close(found, he_sd(int(channels), side), f"he_sd({channels}, {side})", FLOAT32, help)


@check(points=1)
def shrinks_by(evidence: Evidence) -> None:
    """shrinks has by which factor nine convolutions with an sd of 0.01 leave less of a gradient than He's weights."""
    expected = float(np.prod([he_sd(channels, 3) / TOO_SMALL for channels in CHANNELS]))
    help = "In each layer the size of a gradient goes with the sd of the weights: nine factors he_sd / 0.01."
    # three digits of each factor, as one finds them in print, leave 2 %
    near(evidence.value("shrinks"), expected, "shrinks", help, 0.03, "the formula")


@check(points=1)
def conv_recorded(evidence: Evidence) -> None:
    """conv.safetensors is the training of your own residual network."""
    run_of(evidence, "conv")


@check(points=1)
def filters_over_he(evidence: Evidence) -> None:
    """sd_over_he has, for the blocks' convolutions, the sd of their filters at the start over that of he_sd."""
    start = run_of(evidence, "conv").checkpoint(0)
    filters = [start[f"block_{k}.conv_{n}.weight"].astype(np.float64) for k in range(1, 7) for n in (1, 2)]
    expected = [w.std() / he_sd(w.shape[1], w.shape[2]) for w in filters]
    help = "Filters are (outputs, channels, side, side): weights.std() over he_sd(shape[1], shape[2])."
    alike(evidence.value("sd_over_he"), expected, "sd_over_he", help)


def _of_both(evidence: Evidence, variable: str, measure: Callable[[Recording], float], help: str) -> None:
    found = keyed(evidence.value(variable), variable, SEVERAL)
    for name in SEVERAL:
        near(found[name], measure(run_of(evidence, name)), f"{variable}[{name!r}]", help)


@check(points=1)
def first_over_last(evidence: Evidence) -> None:
    """first_over_last has how much of the last gradient's norm the first weights get, before the training."""
    help = 'probe_statistic("norm"), row 0: its first column over its last.'
    _of_both(evidence, "first_over_last", lambda run: float(np.divide(*run.probe_statistic("norm")[0, [0, -1]])), help)


@check(points=1)
def accuracies(evidence: Evidence) -> None:
    """reached has the accuracy of both networks at the end, on the probe batch."""
    _of_both(evidence, "reached", lambda run: float(run.accuracy[-1]), "The last value of recording.accuracy.")


QUESTIONS = dict(
    [
        question("weight_sd", "The dial", weight_sd_of_linear, weight_sd_of_relu),
        question("backward_gain", "Measure the gain", gain_for_each_layer, gain_of_networks),
        question("dial_runs", "Vanish, hold, explode", half_recorded, one_recorded, two_recorded),
        question("dial_gains", "Where does the gain show?", gain_of_z, gain_of_weights, inside_band),
        question("clip_by_norm", "Clipping by norm", long_gradients_are_shortened, short_gradients_are_left),
        question("clip_otherwise", "Two other ways of clipping", each_is_clipped, values_are_clipped),
        question("clipped_gradients", "Three ways on one gradient", norm_after, cosine_after),
        question("loud_and_clipped", "Exploding, and clipped", loud_explodes, clipped_is_finite),
        question("clipped_norms", "What clipping mends", largest_norm, gain_of_clipped),
        question("remedies", "Other remedies", remedies_for_half, remedies_for_two, loud_is_mended),
        question("tutorial_runs", "The tutorial's networks", linear_recorded, linear_clipped_recorded, stuck_recorded),
        question("tutorial_norms", "What did the tutorial plot?", linear_gain, tutorial_norms),
        question("majority", "Stuck at 11.2 %", majority_accuracy, majority_loss),
        question("tutorial_histogram", "A histogram of what?", keras_edge, widest),
        question("he_weights", "He's weights in filters", he_of_filters, shrinks_by),
        question("conv_values", "A residual network", conv_recorded, filters_over_he, first_over_last, accuracies),
    ]
)
