"""The questions of the layer-statistics lab, in the notebook's order."""

from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autograder.answers import Network, Tensor
from autograder.authenticity import Asked, same_experiment
from autograder.checks import Failed, check
from autograder.evidence import Evidence
from autograder.questions.shared import (
    FLOAT32,
    Floats,
    alike,
    close,
    honest_run,
    keyed,
    kind_of,
    numbers,
    question,
    two,
)
from labkit import data, initialisations, propagation, theory
from labkit.experiments import Experiment, experiment
from labkit.recording import STATISTICS, Recording

CLASSIFIERS = ("one_relu", "one_sigmoid", "three_sigmoid")  # in the tutorial's order
ACTIVATIONS = ("sigmoid", "tanh", "relu")  # likewise
GLOROT = tuple(f"{name}_glorot" for name in ACTIVATIONS)
NETWORKS = ACTIVATIONS + GLOROT
WIDTHS = (2, 5, 5, 5, 5, 1)
OWN_EPOCHS = 20
SEEDS = 20
TEN_EPOCHS = 320  # iterations
_MEAN, _SIZE, _SD = (STATISTICS.index(name) for name in ("mean", "abs_mean", "sd"))


# ---- which runs


@lru_cache(maxsize=64)
def experiments(student: str) -> dict[str, Experiment]:
    """The six runs of a student by name, all from one seed: "sigmoid", "tanh", "relu", and each with "_glorot".

    In 64-bit numbers: in a mini-batch the gradient at the one output often cancels to a thousandth of its terms, and
    what float32 leaves of it a replay on another machine does not give again. In one of some 400 narrow ReLU networks
    no point passes all layers: every gradient is 0 for ever, and there is nothing to measure. Whose seed gives such a
    network has the next seed. (One that dies later has something to show.)
    """
    found = {name: experiment(f"layers/{name}", student or "-").replace(dtype="float64") for name in NETWORKS}
    seed = found["relu"].seed
    while any(_dead(found[name].replace(seed=seed)) for name in ("relu", "relu_glorot")):
        seed += 1
    return {name: e.replace(seed=seed) for name, e in found.items()}


def classifiers(student: str) -> dict[str, Experiment]:
    """The tutorial's first three networks by name, from the student's own seed and on the same points as the six."""
    seed = experiments(student)["tanh"].seed
    found = {name: experiment(f"layers/{name}", student or "-") for name in CLASSIFIERS}
    return {name: e.replace(dtype="float64", seed=seed) for name, e in found.items()}


def recordings(student: str) -> dict[str, Asked]:
    """Every recording that the assignment asks for, and which run of the student's own it has to be."""
    known = classifiers(student) | experiments(student)
    own = known["tanh"].replace(epochs=OWN_EPOCHS)
    return {"own": Asked(own), **{name: Asked(e) for name, e in known.items()}}


def run_of(evidence: Evidence, name: str) -> Recording:
    """The recording of that name, once it was found to be an honest run of the student's own experiment."""
    return honest_run(evidence, name, recordings(evidence.student))


def _points(e: Experiment) -> tuple[Floats, NDArray[np.int64]]:
    """All points of an experiment (1000, 2) and their labels."""
    drawn = data.of_experiment(e)
    return drawn.inputs.astype(np.float64), drawn.labels


def _start_gradients(e: Experiment, points: Floats, labels: NDArray[np.int64]) -> list[Floats]:
    """dloss/dW of each layer of the network as it is before its first step."""
    _, gradients = propagation.backpropagate(initialisations.of_experiment(e), points, labels, e)
    return [weights for weights, _ in gradients]


def _dead(e: Experiment) -> bool:
    return not all(gradient.any() for gradient in _start_gradients(e, *_points(e)))


# ---- what the checks share


def _alike_by_name(evidence: Evidence, variable: str, expected: dict[str, Any], help: str) -> None:
    found = keyed(evidence.value(variable), variable, tuple(expected))
    for name, want in expected.items():
        alike(found[name], want, f"{variable}[{name!r}]", help)


def _networks(evidence: Evidence) -> list[Network]:
    """Networks that the student has not seen, one of them with other layers."""
    draw, kinds = evidence.random, ("normal", "glorot_uniform", "pytorch")
    shapes = (WIDTHS, WIDTHS, (2, 3, 7, 1))
    return [
        Network(widths, str(draw.choice(ACTIVATIONS)), start, seed=int(draw.randint(1, 10_000)))
        for widths, start in zip(shapes, kinds, strict=True)
    ]


def _layers(n: Network) -> list[tuple[Floats, Floats]]:
    return initialisations.draw(n.widths, n.initialisation, n.gain, n.seed)  # type: ignore[arg-type]


# ---- three classifiers

THREE_DIGITS = 6e-4  # room for rounding to them
UNSURE = 0.1  # at least that share of the points has a logit between 0 and 1/2


@check(points=1)
def one_relu_recorded(evidence: Evidence) -> None:
    """one_relu.safetensors is the whole training of your own network of one ReLU layer."""
    run_of(evidence, "one_relu")


@check(points=1)
def one_sigmoid_recorded(evidence: Evidence) -> None:
    """one_sigmoid.safetensors is the whole training of your own network of one sigmoid layer."""
    run_of(evidence, "one_sigmoid")


@check(points=1)
def three_sigmoid_recorded(evidence: Evidence) -> None:
    """three_sigmoid.safetensors is the whole training of your own network of three sigmoid layers."""
    run_of(evidence, "three_sigmoid")


def score_of(
    layers: propagation.Layers, points: Floats, labels: NDArray[np.int64], activation: str
) -> tuple[float, float]:
    """Mean cross-entropy in nats and share classified right, for a network with one output."""
    e = Experiment().replace(activation=activation)  # nothing else of it is read
    loss, _ = propagation.backpropagate(layers, points, labels, e)
    right = (_logits(layers, points, activation) > 0) == (labels == 1)
    return float(loss), float(right.mean())


def _logits(layers: propagation.Layers, points: Floats, activation: str) -> Floats:
    _, before, _ = propagation.forward(layers, points, Experiment().replace(activation=activation))
    found: Floats = before[-1][0]
    return found


def _score_cases(evidence: Evidence) -> list[tuple[Any, Any, float, float]]:
    """What score gives, a loss and an accuracy, for networks that nobody has seen; and what it should."""
    draw, found = evidence.random, []
    for activation, start in (("sigmoid", "normal"), ("tanh", "glorot_uniform"), ("relu", "normal")):
        points = draw.uniform(-1.5, 1.5, (60, 2)).astype(np.float32)
        # one for which it matters that the logit is no probability
        while True:
            n = Network((2, 5, 1), activation, start, seed=int(draw.randint(1, 10_000)))
            z = _logits(_layers(n), points.astype(np.float64), activation)
            if ((z > 0) & (z < 0.5)).mean() >= UNSURE and np.abs(z).min() > 1e-4:
                break
        labels = draw.randint(0, 2, 60)
        loss, accuracy = two(evidence.call("score", n, Tensor(points), Tensor(labels)), "score")
        found.append((loss, accuracy, *score_of(_layers(n), points.astype(np.float64), labels, activation)))
    return found


@check(points=1)
def score_loss(evidence: Evidence) -> None:
    """score gives the mean cross-entropy of the points."""
    for found, _, loss, _ in _score_cases(evidence):
        close(found, loss, "the loss", FLOAT32, "mean_cross_entropy(network(points), labels), as a number.")


@check(points=1)
def score_accuracy(evidence: Evidence) -> None:
    """score gives the share of the points that are classified right."""
    help = "p > 1/2 is the same as z > 0: the network gives the logit z. The share, not the number, of the points."
    for _, found, _, accuracy in _score_cases(evidence):
        close(found, accuracy, "the accuracy", FLOAT32, help)


@check(points=1)
def scores_at_end(evidence: Evidence) -> None:
    """scores has the loss and the accuracy of each of the three after its training, on all 1,000 points."""
    found = keyed(evidence.value("scores"), "scores", CLASSIFIERS)
    for name, e in classifiers(evidence.student).items():
        parameters = run_of(evidence, name).checkpoint(-1)
        layers = [
            (parameters[f"fc_{k}.weight"].astype(np.float64), parameters[f"fc_{k}.bias"].astype(np.float64))
            for k in range(1, len(e.widths))
        ]
        expected = np.array(score_of(layers, *_points(e), e.activation))
        given = numbers(found[name], f"scores[{name!r}]", (2,))
        right = np.abs(given - expected) <= THREE_DIGITS
        if not right.all():
            what = ("a loss", "an accuracy")[int(np.argmin(right))]
            raise Failed(
                f"scores[{name!r}] has {what} of {given[np.argmin(right)]:.4f}, which is not what your run gives",
                "score of the network with the parameters of checkpoint(-1), on all 1,000 points.",
            )


@check(points=1)
def ratios_of_classifiers(evidence: Evidence) -> None:
    """last_over_first has the ratio of mean |gradient|, last layer to first, at each network's first iteration."""
    sizes = {name: run_of(evidence, name).statistic("abs_mean")[0].astype(np.float64) for name in CLASSIFIERS}
    expected = {name: size[-1] / size[0] for name, size in sizes.items()}
    help = 'Row 0 of statistic("abs_mean"): its last column over its first.'
    _alike_by_name(evidence, "last_over_first", expected, help)


# ---- statistics of the weights


def _weight_statistics(evidence: Evidence, column: int, what: str, help: str) -> None:
    for network in _networks(evidence):
        weights = [w for w, _ in _layers(network)]
        expected = np.array([(w.mean(), w.std()) for w in weights])
        found = numbers(
            evidence.call("weight_statistics", network), "what weight_statistics gives", expected.shape
        )  # fmt: skip
        close(found[:, column], expected[:, column], what, FLOAT32, help)


@check(points=1)
def mean_of_weights(evidence: Evidence) -> None:
    """weight_statistics gives the mean of each weight matrix, first layer first, and leaves the biases out."""
    help = "One row for each weight matrix: the parameters whose name ends with .weight; column 0 is the mean."
    _weight_statistics(evidence, 0, "the mean of a layer's weights", help)


@check(points=1)
def sd_of_weights(evidence: Evidence) -> None:
    """weight_statistics gives the standard deviation of each weight matrix, over all of its n weights."""
    help = "Column 1 divides by n, as numpy does; torch's std divides by n - 1 unless it is told correction=0."
    _weight_statistics(evidence, 1, "the S.D. of a layer's weights", help)


# ---- statistics of the gradients


def _gradient_statistics(evidence: Evidence, column: int, what: str, help: str) -> None:
    draw = evidence.random
    for network in _networks(evidence):
        points, labels = draw.uniform(-1.5, 1.5, (40, 2)).astype(np.float32), draw.randint(0, 2, 40)
        e = Experiment().replace(activation=network.activation)  # back-propagation reads nothing else of it
        _, gradients = propagation.backpropagate(_layers(network), points.astype(np.float64), labels, e)
        expected = np.array([(g.mean(), g.std(), np.abs(g).mean()) for g, _ in gradients])
        given = evidence.call("statistics_of_a_batch", network, Tensor(points), Tensor(labels))
        found = numbers(given, "what gradient_statistics gives", expected.shape)
        # float32 rounds a mean by a share of what is summed, so each layer by its own mean of absolute values
        for layer, scale in enumerate(expected[:, 2]):
            if not abs(found[layer, column] - expected[layer, column]) <= FLOAT32 * scale:
                raise Failed(
                    f"{what} of fc_{layer + 1} is {found[layer, column]:.6g}, "
                    f"expected is {expected[layer, column]:.6g}",
                    help,
                )


@check(points=1)
def mean_of_gradients(evidence: Evidence) -> None:
    """gradient_statistics gives the signed mean of each weight matrix's gradient, from its .grad."""
    help = "Column 0: the mean of parameter.grad, not of the parameter; one row for each weight matrix."
    _gradient_statistics(evidence, 0, "the mean gradient", help)


@check(points=1)
def sd_of_gradients(evidence: Evidence) -> None:
    """gradient_statistics gives its standard deviation."""
    _gradient_statistics(evidence, 1, "the S.D. of the gradient", "Column 1: divided by n, as for the weights.")


@check(points=1)
def size_of_gradients(evidence: Evidence) -> None:
    """gradient_statistics gives the mean of its absolute values."""
    help = "Column 2: first the absolute values, then their mean; the other way round, signs have cancelled."
    _gradient_statistics(evidence, 2, "mean |gradient|", help)


# ---- the own loop


@check(points=1)
def capture_recorded(evidence: Evidence) -> None:
    """own.safetensors is there and holds 20 epochs of 32 iterations from your own seed."""
    recording, expected = evidence.recording("own"), recordings(evidence.student)["own"].experiment
    same_experiment(recording, expected)
    if (recording.iterations, recording.epochs) != (expected.iterations, expected.epochs):
        raise Failed(
            f"it has {recording.iterations} iterations in {recording.epochs} epochs, expected are "
            f"{expected.iterations} in {expected.epochs}",
            "recorder.step(loss) after every mini-batch, recorder.end_epoch() after every epoch.",
        )


@check(points=2, needs=[capture_recorded])
def capture_loop(evidence: Evidence) -> None:
    """Your loop clears the gradients, goes back and steps once for every mini-batch, in order."""
    run_of(evidence, "own")


def _captured(evidence: Evidence, variable: str, expected: Floats, words: tuple[str, ...], help: str) -> None:
    """Each of a layer's curves within a thousandth of its largest value."""
    found = numbers(evidence.value(variable), variable)
    if found.shape != expected.shape:
        raise Failed(f"{variable} has the shape {found.shape}, expected is {expected.shape}", help)
    room = 1e-3 * np.abs(expected).max(axis=0)
    wrong = np.argwhere(~(np.abs(found - expected) <= room))
    if len(wrong):
        row, layer, column = (int(index) for index in wrong[0])
        raise Failed(f"{variable}: {words[column]} of fc_{layer + 1} in row {row} is not what your run has", help)


@check(points=1, needs=[capture_recorded])
def captured_weights(evidence: Evidence) -> None:
    """captured_weights has the statistics of the weights before the first epoch and after each of the 20."""
    expected = evidence.recording("own").weight.astype(np.float64)
    help = "21 rows: one before the loop over the epochs, then one at the end of each epoch."
    _captured(evidence, "captured_weights", expected, ("the mean", "the S.D."), help)


@check(points=1, needs=[capture_recorded])
def captured_gradients(evidence: Evidence) -> None:
    """captured_gradients has the statistics of the gradients on the first mini-batch of each epoch."""
    recording = evidence.recording("own")
    starts = np.array([0, *recording.epoch_end[:-1]])
    expected = recording.gradient[starts][:, :, [_MEAN, _SD, _SIZE]].astype(np.float64)
    help = "20 rows: at the first mini-batch of an epoch, between backward() and the next zero_grad()."
    _captured(evidence, "captured_gradients", expected, ("the mean", "the S.D.", "the mean of |.|"), help)


# ---- the runs


@check(points=1)
def sigmoid_layers(evidence: Evidence) -> None:
    """sigmoid.safetensors is the whole training of your own sigmoid network."""
    run_of(evidence, "sigmoid")


@check(points=1)
def tanh_layers(evidence: Evidence) -> None:
    """tanh.safetensors is the whole training of your own tanh network."""
    run_of(evidence, "tanh")


@check(points=1)
def relu_layers(evidence: Evidence) -> None:
    """relu.safetensors is the whole training of your own ReLU network."""
    run_of(evidence, "relu")


# ---- which statistic tells the truth


def _three(evidence: Evidence) -> dict[str, Floats]:
    """(I, L, S) of each network with N(0, 1) weights."""
    return {name: run_of(evidence, name).gradient.astype(np.float64) for name in ACTIVATIONS}


@check(points=1)
def claimed_sizes(evidence: Evidence) -> None:
    """median_sd has, for each of the three networks, the median S.D. of the gradient in each layer."""
    expected = {name: np.median(g[:, :, _SD], axis=0) for name, g in _three(evidence).items()}
    help = 'Of the statistic "sd", the median over all 3,200 iterations: five numbers for each network.'
    _alike_by_name(evidence, "median_sd", expected, help)


@check(points=1)
def visible_shares(evidence: Evidence) -> None:
    """visible_share has, for each layer, what the signed mean shows of the mean of absolute values."""
    expected = {
        name: np.abs(g[:, :, _MEAN]).mean(axis=0) / g[:, :, _SIZE].mean(axis=0) for name, g in _three(evidence).items()
    }
    help = "First |mean| of each iteration, then its mean over the iterations; divided by that of abs_mean."
    _alike_by_name(evidence, "visible_share", expected, help)


LEAST = 0.1  # mean |gradient| of a layer that nobody would say has vanished
NOTHING = 1e-6


def _example(evidence: Evidence, variable: str) -> Floats:
    values = numbers(evidence.value(variable), variable)
    if values.size < 2 or not np.isfinite(values).all():
        raise Failed(f"{variable} has {values.size} values, expected are two or more finite numbers")
    if not np.abs(values).mean() >= LEAST:
        raise Failed(f"the mean of the absolute values of {variable} is {np.abs(values).mean():.3g}, below {LEAST}")
    return values


@check(points=1)
def counterexamples(evidence: Evidence) -> None:
    """hidden_from_mean and hidden_from_sd are gradients that are large, but not for that statistic."""
    if not abs(mean := _example(evidence, "hidden_from_mean").mean()) <= NOTHING:
        raise Failed(f"the mean of hidden_from_mean is {mean:.3g}, expected is 0", "Which numbers cancel?")
    if not (sd := _example(evidence, "hidden_from_sd").std()) <= NOTHING:
        raise Failed(f"the S.D. of hidden_from_sd is {sd:.3g}, expected is 0", "What does an S.D. measure from?")


@check(points=1)
def late_over_early(evidence: Evidence) -> None:
    """late_over_early has how mean |gradient| and the update of the tanh network changed, layer by layer."""
    recording = run_of(evidence, "tanh")
    curves = {"gradient": recording.statistic("abs_mean"), "update": recording.update_norm}
    expected = {name: _late_over_early(values.astype(np.float64)) for name, values in curves.items()}
    help = "The mean over the last 320 iterations divided by that over the first 320, for each layer."
    _alike_by_name(evidence, "late_over_early", expected, help)


def _late_over_early(values: Floats) -> Floats:
    found: Floats = values[-TEN_EPOCHS:].mean(axis=0) / values[:TEN_EPOCHS].mean(axis=0)
    return found


# ---- one network proves nothing


@check(points=2)
def spread_function(evidence: Evidence) -> None:
    """spread gives, for each layer, by which factor the middle 95 % of the networks differ."""
    for shape in ((20, 5), (7, 1), (41, 3)):
        sizes = np.exp(2 * evidence.random.standard_normal(shape))
        low, high = np.percentile(sizes, [2.5, 97.5], axis=0)
        found = numbers(evidence.call("spread", sizes), "what spread gives", low.shape)
        off = found / (high / low)
        if not (np.abs(off - 1) <= FLOAT32).all():
            worst = off[int(np.argmax(np.abs(np.nan_to_num(off - 1, nan=np.inf))))]
            raise Failed(
                f"it is {worst:.4g} times what it should be",
                "np.percentile(sizes, [2.5, 97.5], axis=0): a row is a network; the upper one over the lower one.",
            )


@check(points=2)
def sizes_of_seeds(evidence: Evidence) -> None:
    """start_sizes has mean |gradient| of each layer, before the first step, of 20 networks from 20 seeds."""
    base = experiments(evidence.student)["tanh"]
    expected = [_start_sizes(base.replace(seed=base.seed + number)) for number in range(SEEDS)]
    help = "Row k: the network and all 1,000 points of tanh's experiment with the seed plus k; column 2 of yours."
    alike(evidence.value("start_sizes"), expected, "start_sizes", help)


def _start_sizes(e: Experiment) -> list[float]:
    return [float(np.abs(g).mean()) for g in _start_gradients(e, *_points(e))]


# ---- one optimiser for three networks


@check(points=2)
def rmsprop_function(evidence: Evidence) -> None:
    """rmsprop_step gives RMSprop's step and the new running mean of the squares."""
    draw = evidence.random
    for shape in ((5, 2), (1, 5), (7,)):
        gradient = draw.standard_normal(shape) * 10.0 ** draw.uniform(-8, 0, shape)
        square = draw.uniform(0, 1, shape) * float(draw.choice([0.0, 1e-8, 1.0]))
        rate, epsilon = float(draw.uniform(1e-4, 1e-2)), 1e-7
        kept = 0.9 * square + 0.1 * gradient**2
        given = evidence.call("rmsprop_step", Tensor(gradient), Tensor(square), rate, epsilon)
        step, after = two(given, "rmsprop_step")
        close(after, kept, "the running mean of the squares", FLOAT32, "0.9 of the old one and 0.1 of the new square.")
        close(
            step, rate * gradient / (np.sqrt(kept) + epsilon), "the step", FLOAT32,
            "learning_rate times gradient over (root of the new running mean + epsilon).",
        )  # fmt: skip


@check(points=1)
def leaked_moments(evidence: Evidence) -> None:
    """first_step has the length of the sigmoid network's first step, with fresh moments and with the tanh's."""
    sigmoid, tanh = run_of(evidence, "sigmoid"), run_of(evidence, "tanh")
    left = tanh.checkpoint_moment(-1, "square_avg")
    e = experiments(evidence.student)["sigmoid"]
    points, labels = _points(e)
    batch = data.epoch_batches(e, 0)[0]
    gradients = _start_gradients(e, points[batch], labels[batch])
    shared = [_first_step(e, g, left[f"{name}.weight"]) for g, name in zip(gradients, sigmoid.layers, strict=True)]
    help = (
        "The gradient of the first mini-batch, before any step; moments of 0, or those of tanh's last checkpoint; "
        "the L2 norm of the step of each weight matrix."
    )
    _alike_by_name(evidence, "first_step", {"fresh": sigmoid.update_norm[0], "shared": shared}, help)


def _first_step(e: Experiment, gradient: Floats, square: NDArray[Any]) -> float:
    kept = 0.9 * square.astype(np.float64) + 0.1 * gradient**2
    return float(np.linalg.norm(e.learning_rate * gradient / (np.sqrt(kept) + e.epsilon)))


# ---- Glorot


def _gains(layers: list[tuple[Floats, Floats]], points: Floats, labels: NDArray[np.int64], activation: str) -> Floats:
    """(L - 1,) mean |dloss/dz|^2 of each layer over that of the next one, each point by itself."""
    before, h = [], points
    for weights, biases in layers:
        before.append(h @ weights.T + biases)
        h = theory.value(activation, before[-1])
    delta = theory.value("sigmoid", before[-1]) - labels[:, None]
    squares = [np.mean(delta**2)]
    for (weights, _), z in zip(reversed(layers[1:]), reversed(before[:-1]), strict=True):
        delta = delta @ weights * theory.slope(activation, z)
        squares.append(np.mean(delta**2))
    return np.array([first / second for first, second in pairwise(squares[::-1])])


@check(points=2)
def gains_function(evidence: Evidence) -> None:
    """layer_gains gives, for each layer but the last, by what the mean squared gradient dloss/dz is multiplied."""
    draw = evidence.random
    for start, widths in (("normal", WIDTHS), ("glorot_uniform", (2, 4, 6, 1))):
        # no ReLU here: in one that has died, 0 is divided by 0
        n = Network(widths, str(draw.choice(["sigmoid", "tanh"])), start, seed=int(draw.randint(1, 10_000)))
        points, labels = draw.uniform(-1.5, 1.5, (30, 2)).astype(np.float32), draw.randint(0, 2, 30)
        expected = _gains(_layers(n), points.astype(np.float64), labels, n.activation)
        found = numbers(
            evidence.call("layer_gains", n, Tensor(points), Tensor(labels)), "what layer_gains gives", expected.shape
        )
        off = found / expected
        if not (np.abs(off - 1) <= 1e-3).all():
            layer = int(np.argmax(np.abs(np.nan_to_num(off - 1, nan=np.inf))))
            raise Failed(
                f"the gain into fc_{layer + 1} is {off[layer]:.4g} times what it should be",
                "The mean of dloss/dz squared over points and units, z being what comes out of a Linear; that of a "
                "layer over that of the layer behind it.",
            )


@check(points=1)
def gains_at_start(evidence: Evidence) -> None:
    """gains has the gain per layer of your six networks before they were trained."""
    help = "layer_gains of labkit.networks.of_experiment(...), before training, on all 1,000 points."
    expected = {
        name: _gains(initialisations.of_experiment(e), *_points(e), e.activation)
        for name, e in experiments(evidence.student).items()
    }
    _alike_by_name(evidence, "gains", expected, help)


@check(points=1)
def gains_of_theory(evidence: Evidence) -> None:
    """theory_gain has what mean-field theory says for the hidden layers of each."""
    expected = {name: theory.gain(e.activation, e.initialisation, WIDTHS[1]) for name, e in experiments("-").items()}
    help = "labkit.theory.gain(activation, initialisation, width), with the width of a hidden layer."
    _alike_by_name(evidence, "theory_gain", expected, help)


@check(points=1)
def sigmoid_glorot_recorded(evidence: Evidence) -> None:
    """sigmoid_glorot.safetensors is the whole training of your sigmoid network with Glorot's weights."""
    run_of(evidence, "sigmoid_glorot")


@check(points=1)
def tanh_glorot_recorded(evidence: Evidence) -> None:
    """tanh_glorot.safetensors is the whole training of your tanh network with Glorot's weights."""
    run_of(evidence, "tanh_glorot")


@check(points=1)
def relu_glorot_recorded(evidence: Evidence) -> None:
    """relu_glorot.safetensors is the whole training of your ReLU network with Glorot's weights."""
    run_of(evidence, "relu_glorot")


@check(points=0)
def predicted(evidence: Evidence) -> None:
    """prediction says of each of the six networks whether it will learn; it need not be right."""
    found = keyed(evidence.value("prediction"), "prediction", NETWORKS)
    for name, answer in found.items():
        if not isinstance(answer, bool):
            raise Failed(f"prediction[{name!r}] is {kind_of(answer)}, expected is True or False")


@check(points=1, needs=[predicted])
def final_accuracies(evidence: Evidence) -> None:
    """After a prediction, final_accuracy has the accuracy that each of the six reached on the probe batch."""
    runs: dict[str, Any] = {name: run_of(evidence, name).accuracy[-1] for name in NETWORKS}
    _alike_by_name(evidence, "final_accuracy", runs, "The last value of recording.accuracy.")


QUESTIONS = dict(
    [
        question("classifiers", "Three classifiers", one_relu_recorded, one_sigmoid_recorded, three_sigmoid_recorded),
        question(
            "scores", "What three classifiers learned", score_loss, score_accuracy, scores_at_end, ratios_of_classifiers
        ),
        question("weight_statistics", "Statistics of the weights", mean_of_weights, sd_of_weights),
        question(
            "gradient_statistics", "Statistics of the gradients", mean_of_gradients, sd_of_gradients, size_of_gradients
        ),
        question("capture", "Your own loop", capture_recorded, capture_loop, captured_weights, captured_gradients),
        question("layer_runs", "Three trainings", sigmoid_layers, tanh_layers, relu_layers),
        question(
            "truthful_statistic",
            "Which statistic tells the truth?",
            claimed_sizes,
            visible_shares,
            counterexamples,
            late_over_early,
        ),
        question("seed_band", "One network proves nothing", spread_function, sizes_of_seeds),
        question("shared_optimizer", "One optimiser for three networks", rmsprop_function, leaked_moments),
        question("layer_gains", "Glorot: the gain per layer", gains_function, gains_at_start, gains_of_theory),
        question(
            "glorot_runs",
            "Glorot: who learns?",
            sigmoid_glorot_recorded,
            tanh_glorot_recorded,
            relu_glorot_recorded,
            predicted,
            final_accuracies,
        ),
    ]
)
