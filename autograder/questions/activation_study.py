"""The questions of the activation study, in the notebook's order."""

from collections.abc import Callable
from functools import lru_cache
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
    close,
    hidden_of,
    honest_run,
    keyed,
    near,
    numbers,
    question,
    two,
    word_of,
)
from labkit import data, initialisations, propagation, theory
from labkit.experiments import Activation, Experiment, experiment
from labkit.histogram import centres
from labkit.recording import PROBE, STATISTICS, Recording

ACTIVATIONS: tuple[Activation, ...] = ("sigmoid", "relu", "leaky_relu")  # in the tutorial's order
SLOPE = 0.2  # TensorFlow's default; torch's is 0.01
WIDTHS = (784, 10, 10, 10, 10, 10, 10)
LAYERS = tuple(f"fc_{number}" for number in range(1, len(WIDTHS)))
LOOKS = 200  # iterations between two of the tutorial's records: it has 13 of them
EPOCH = 100  # iterations
SEEDS = 12
EVENTS = 300  # iterations of the run that goes to TensorBoard and back
FLAT = 0.05  # a sigmoid is saturated within this of 0 or of 1
RATIOS = ("start", "mean_of_ratios", "ratio_of_means")
LOGGED = ("weights", "gradients", "neither")
PLAIN = {"relu_sgd": "relu_sgd", "sigmoid_sgd": "sigmoid_sgd", "sigmoid_adam": "sigmoid"}  # of vanishing/
REMEDIES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "relu": {"activation": "relu"},
    "residual": {"residual": True},
    "hierarchy": {"widths": (784, 10, 10)},
}
LARGE, SMALL = 100.0, 0.01  # slopes of a chain that has exploded, and of one that has vanished
_SIZE = STATISTICS.index("abs_mean")


# ---- which runs


@lru_cache(maxsize=64)
def experiments(student: str) -> dict[str, Experiment]:
    """The three runs of a student by activation, all from one seed: the tutorial's 2,500 iterations, on 3,000 digits.

    A narrow ReLU network may be dead from the start: its gradients are 0 for ever, and it has no ratio to measure.
    Whose seed gives such a network has the next one.
    """
    found = {name: _experiment(name, student) for name in ACTIVATIONS}
    seed = found["relu"].seed
    while not all(np.abs(g).any() for g in _start_gradients(found["relu"].replace(seed=seed))):
        seed += 1
    return {name: e.replace(seed=seed) for name, e in found.items()}


def _experiment(name: str, student: str) -> Experiment:
    return experiment(f"activations/{name}", student or "-").replace(data="digits", observations=3000, pool=10_000)


def plain_experiments(student: str) -> dict[str, Experiment]:
    """The first lab's networks of four layers by plain SGD, and the sigmoid one by Adam, in the seed's own size.

    By SGD in float64: with this learning rate a ReLU network's rounding grows within an epoch until an honest run and
    its replay differ by a tenth of what is tolerated, and more.
    """
    found = {name: experiment(f"vanishing/{of}", student or "-") for name, of in PLAIN.items()}
    return {name: e.replace(dtype="float64") if e.optimizer == "sgd" else e for name, e in found.items()}


def recordings(student: str) -> dict[str, Asked]:
    """Every recording that the assignment asks for, and which run of the student's own it has to be."""
    return {name: Asked(e) for name, e in (experiments(student) | plain_experiments(student)).items()}


def run_of(evidence: Evidence, name: str) -> Recording:
    """The recording of that name, once it was found to be an honest run of the student's own experiment."""
    return honest_run(evidence, name, recordings(evidence.student))


def _start_gradients(e: Experiment) -> list[Floats]:
    """dloss/dW of each layer on the probe batch, before the first step."""
    drawn = data.of_experiment(e)
    images = drawn.inputs[:PROBE].reshape(PROBE, -1).astype(np.float64)
    _, gradients = propagation.backpropagate(initialisations.of_experiment(e), images, drawn.labels[:PROBE], e)
    return [weights for weights, _ in gradients]


# ---- six layers


@check(points=1)
def leaky_by_hand(evidence: Evidence) -> None:
    """leaky leaves what is above 0 as it is, and multiplies what is below by 0.2."""
    for shape in ((7,), (4, 10), (2, 3, 5)):
        z = evidence.random.standard_normal(shape) * 3
        z.ravel()[0] = 0
        help = "One value for each value of z: z where z > 0, and 0.2 z elsewhere."
        close(evidence.call("leaky", Tensor(z)), np.where(z > 0, z, SLOPE * z), "leaky(z)", FLOAT32, help)


def _built(evidence: Evidence, activation: str) -> tuple[list[tuple[Floats, Floats]], Floats, Any]:
    """The layers of the student's network, images, and the logits that it gives for them."""
    images = evidence.random.uniform(0, 1, (6, 1, 28, 28))
    network = evidence.network("six_layers", activation, inputs=images)
    values = list(network["parameters"].items())
    expected = [shape for n in range(6) for shape in ((WIDTHS[n + 1], WIDTHS[n]), (WIDTHS[n + 1],))]
    if [value.shape for _, value in values] != expected:
        raise Failed(
            f"its parameters have the shapes {', '.join(str(value.shape) for _, value in values[:12]) or '(none)'}",
            "Six nn.Linear, one after another: 784 to 10, four times 10 to 10, and 10 to the 10 classes.",
        )
    arrays = [numbers(value, name) for name, value in values]
    return list(zip(arrays[::2], arrays[1::2], strict=True)), images.reshape(6, -1), network["outputs"]


@check(points=1)
def six_layers_in_order(evidence: Evidence) -> None:
    """six_layers gives six fully connected layers with the activation between them, and logits at the end."""
    for activation in ACTIVATIONS:
        layers, h, outputs = _built(evidence, activation)
        for weights, biases in layers[:-1]:
            h = theory.value(activation, h @ weights.T + biases, SLOPE)
        expected = h @ layers[-1][0].T + layers[-1][1]
        help = "The activation behind each layer but the last; no softmax, which the loss brings with it."
        close(outputs, expected, f"the output of six_layers({activation!r})", FLOAT32, help)


@check(points=1)
def six_layers_start(evidence: Evidence) -> None:
    """It starts from Glorot's uniform weights and zero biases, as the tutorial's framework has it."""
    layers, _, _ = _built(evidence, "leaky_relu")
    for name, (weights, biases) in zip(LAYERS, layers, strict=True):
        if np.abs(biases).max() > 0:
            raise Failed(f"the biases of {name} are not zero", "nn.init.zeros_ sets them.")
        bound, largest = float(np.sqrt(6 / sum(weights.shape))), float(np.abs(weights).max())
        # of 100 uniform draws the largest lies in the top tenth of the range but for 1 in 37,000
        if not 0.9 * bound <= largest <= bound * (1 + FLOAT32):
            raise Failed(
                f"the weights of {name} reach to ±{largest:.4f}, Glorot's uniform ones to ±{bound:.4f}",
                "nn.init.xavier_uniform_ draws them; nn.Linear's own start is another.",
            )


# ---- accuracy


def _accuracies(evidence: Evidence) -> list[tuple[Any, Any, float, int]]:
    """What accuracy gives, a share and its error; the true share; the number of images."""
    draw, found = evidence.random, []
    for images, classes in ((30, 10), (250, 10), (41, 3)):
        logits, labels = draw.standard_normal((images, classes)) - 4, draw.randint(0, classes, images)
        logits[np.arange(images), labels] += 1.5
        share = float((logits.argmax(axis=1) == labels).mean())
        given = evidence.call("accuracy", Tensor(logits), Tensor(labels))
        found.append((*two(given, "accuracy(logits, labels)"), share, images))
    return found


@check(points=1)
def accuracy_share(evidence: Evidence) -> None:
    """accuracy gives the share of the images whose largest logit is that of their label."""
    for found, _, share, images in _accuracies(evidence):
        close(found, share, f"the accuracy on {images} images", FLOAT32, "argmax over the classes: a row is an image.")


@check(points=1)
def accuracy_error(evidence: Evidence) -> None:
    """accuracy also gives the standard error of that share."""
    for _, found, share, images in _accuracies(evidence):
        expected = np.sqrt(share * (1 - share) / images)
        help = "The root of p (1 - p) / n: p is the share, n the number of images."
        close(found, expected, f"the standard error on {images} images", FLOAT32, help)


# ---- the runs


@check(points=1)
def sigmoid_recorded(evidence: Evidence) -> None:
    """sigmoid.safetensors is the whole training of your own sigmoid network."""
    run_of(evidence, "sigmoid")


@check(points=1)
def relu_recorded(evidence: Evidence) -> None:
    """relu.safetensors is the whole training of your own ReLU network."""
    run_of(evidence, "relu")


@check(points=1)
def leaky_recorded(evidence: Evidence) -> None:
    """leaky_relu.safetensors is the whole training of your own leaky ReLU network."""
    run_of(evidence, "leaky_relu")


# ---- last over first


def ratios_of(sizes: NDArray[Any]) -> dict[str, float]:
    """Last layer's mean |gradient| over the first's, sizes (iterations, layers): at the start, and averaged twice."""
    first, last = sizes[:, 0].astype(np.float64), sizes[:, -1].astype(np.float64)
    there = first > 0
    return {
        "start": float(last[0] / first[0]),
        "mean_of_ratios": float((last[there] / first[there]).mean()),
        "ratio_of_means": float(last.mean() / first.mean()),
    }


def _ratio(evidence: Evidence, key: str, help: str) -> None:
    draw = evidence.random
    for shape in ((60, 6), (13, 4), (7, 2)):
        sizes = np.exp(1.5 * draw.standard_normal(shape) - 3)
        sizes[draw.randint(1, shape[0]), 0] = 0
        given = keyed(evidence.call("last_over_first", sizes), "what last_over_first gives", RATIOS)
        close(given[key], ratios_of(sizes)[key], f"{key} of {shape[0]} iterations", FLOAT32, help)


@check(points=1)
def ratio_at_start(evidence: Evidence) -> None:
    """last_over_first gives the ratio of the last layer's size to the first's at the first iteration."""
    _ratio(evidence, "start", "Row 0: its last column over its first; a row is an iteration, a column a layer.")


@check(points=1)
def mean_of_ratios(evidence: Evidence) -> None:
    """last_over_first gives the mean of the ratios, over the iterations at which the first layer has a gradient."""
    _ratio(evidence, "mean_of_ratios", "A ratio for each row, then their mean; without rows whose first column is 0.")


@check(points=1)
def ratio_of_means(evidence: Evidence) -> None:
    """last_over_first gives the ratio of the means over all iterations."""
    _ratio(evidence, "ratio_of_means", "The mean of the last column over that of the first, all rows taken.")


def _ratio_values(evidence: Evidence, variable: str, every: int, help: str) -> None:
    found = keyed(evidence.value(variable), variable, ACTIVATIONS)
    for name in ACTIVATIONS:
        what = f"{variable}[{name!r}]"
        given = keyed(found[name], what, RATIOS)
        expected = ratios_of(run_of(evidence, name).gradient[::every, :, _SIZE])
        for key in RATIOS:
            near(given[key], expected[key], f"{what}[{key!r}]", help)


@check(points=1)
def ratios_of_runs(evidence: Evidence) -> None:
    """ratios has the three ratios of each of your networks, over all iterations."""
    _ratio_values(evidence, "ratios", 1, 'last_over_first of recording.statistic("abs_mean"), all 2,500 rows.')


@check(points=1)
def ratios_of_records(evidence: Evidence) -> None:
    """tutorial_ratios has the same from the 13 iterations at which the tutorial looks."""
    _ratio_values(evidence, "tutorial_ratios", LOOKS, "Every 200th row, the first one included: 13 rows.")


@check(points=1)
def early_shares(evidence: Evidence) -> None:
    """early_share has how much of the sum of all ratios the first epoch of each network contributes."""
    found = keyed(evidence.value("early_share"), "early_share", ACTIVATIONS)
    help = "The ratios of the first 100 iterations, their sum over that of all 2,500."
    for name in ACTIVATIONS:
        sizes = run_of(evidence, name).gradient[:, :, _SIZE].astype(np.float64)
        first, last = sizes[:, 0], sizes[:, -1]
        ratio = np.divide(last, first, out=np.zeros_like(last), where=first > 0)
        near(found[name], float(ratio[:EPOCH].sum() / ratio.sum()), f"early_share[{name!r}]", help)


# ---- dead and saturated units


def flat_values(h: Floats, activation: str) -> NDArray[np.bool_]:
    """Where the activation's slope is nothing, or hardly anything: what is saturated."""
    if activation == "sigmoid":
        return np.asarray((h < FLAT) | (h > 1 - FLAT))
    return np.asarray(h == 0) if activation == "relu" else np.zeros(h.shape, dtype=bool)


def _flat_cases(evidence: Evidence) -> list[tuple[Any, Any, NDArray[np.bool_], str]]:
    draw = evidence.random
    found: list[tuple[Any, Any, NDArray[np.bool_], str]] = []
    for activation in ACTIVATIONS:
        for images, units in ((40, 10), (25, 6)):
            z = draw.standard_normal((images, units)) * 3
            z[:, draw.choice(units, 2, replace=False)] = -9.0  # these units are flat for every image
            h = theory.value(activation, z, SLOPE)
            given = evidence.call("flat_and_dead", h, activation)
            found.append((*two(given, "flat_and_dead(h, activation)"), flat_values(h, activation), activation))
    return found


@check(points=1)
def flat_share_of(evidence: Evidence) -> None:
    """flat_and_dead gives the share of all values at which the activation is flat."""
    for found, _, flat, activation in _flat_cases(evidence):
        help = "sigmoid: below 0.05 or above 0.95; relu: exactly 0; leaky_relu: never. The mean over images and units."
        close(found, flat.mean(), f"the flat share of {activation}", FLOAT32, help)


@check(points=1)
def dead_share_of(evidence: Evidence) -> None:
    """flat_and_dead gives the share of the units that are flat for every image."""
    for _, found, flat, activation in _flat_cases(evidence):
        help = "First, for each unit (a column): is it flat for all images? Then the share of such units."
        close(found, flat.all(axis=0).mean(), f"the dead share of {activation}", FLOAT32, help)


@check(points=1)
def flat_at_end(evidence: Evidence) -> None:
    """flat_share has the flat share of each network's hidden layers after training, on the probe batch."""
    found = keyed(evidence.value("flat_share"), "flat_share", ACTIVATIONS)
    help = "flat_and_dead of each of the five arrays of hidden_after_training(...), on the first 250 images."
    for name in ACTIVATIONS:
        expected = hidden_of(run_of(evidence, name), "saturated", len(WIDTHS) - 2)[-1].astype(np.float64)
        given = numbers(found[name], f"flat_share[{name!r}]", expected.shape)
        # a hundredth: room for rounding to two digits
        if not (np.abs(given - expected) <= 1e-2).all():
            layer = int(np.argmax(np.nan_to_num(np.abs(given - expected), nan=np.inf))) + 1
            raise Failed(f"flat_share[{name!r}] is {given[layer - 1]:.4g} behind fc_{layer}, unlike your run", help)


@check(points=1)
def dead_at_end(evidence: Evidence) -> None:
    """dead_units has how many of each network's 50 hidden units are dead after training."""
    found = keyed(evidence.value("dead_units"), "dead_units", ACTIVATIONS)
    for name in ACTIVATIONS:
        shares = hidden_of(run_of(evidence, name), "dead", len(WIDTHS) - 2)[-1].astype(np.float64)
        given = numbers(found[name], f"dead_units[{name!r}]", ())
        if not abs(given - WIDTHS[1] * shares.sum()) <= 0.1:
            raise Failed(
                f"dead_units[{name!r}] is {given:g}, which is not what your run has",
                "The dead share of each layer times its 10 units, summed over the five hidden layers.",
            )


# ---- one seed proves nothing


@check(points=1)
def wins_function(evidence: Evidence) -> None:
    """wins gives the share of all pairs in which the value of a is larger than that of b; a tie counts half."""
    draw = evidence.random
    for sizes in ((12, 12), (5, 9), (1, 4)):
        a, b = (draw.randint(0, 8, size).astype(np.float64) for size in sizes)
        more, same = (a[:, None] > b).mean(), (a[:, None] == b).mean()
        help = "Each value of a against each of b, a.size times b.size pairs: 1 for a win, 1/2 for a tie."
        close(evidence.call("wins", a, b), more + same / 2, f"wins of {sizes[0]} against {sizes[1]}", FLOAT32, help)


def start_ratio(e: Experiment) -> float:
    """Last over first mean |gradient| on the probe batch, before the first step."""
    gradients = _start_gradients(e)
    first, last = float(np.abs(gradients[0]).mean()), float(np.abs(gradients[-1]).mean())
    return last / first if first else float("nan")


@lru_cache(maxsize=16)
def seed_ratios(student: str, name: str) -> tuple[float, ...]:
    """Of the student's own seed, and of the next ones."""
    e = experiments(student)[name]
    return tuple(start_ratio(e.replace(seed=e.seed + k)) for k in range(SEEDS))


@check(points=1)
def start_ratios(evidence: Evidence) -> None:
    """start_ratios has the ratio at the start of 12 networks of each activation, from 12 seeds."""
    found = keyed(evidence.value("start_ratios"), "start_ratios", ACTIVATIONS)
    for name in ACTIVATIONS:
        expected = np.array(seed_ratios(evidence.student, name))
        given = numbers(found[name], f"start_ratios[{name!r}]", expected.shape)
        # one whose first layer has no gradient has no ratio: whatever stands there
        wrong = np.flatnonzero(~(np.abs(given - expected) <= 1e-2 * expected) & np.isfinite(expected))
        if wrong.size:
            raise Failed(
                f"start_ratios[{name!r}] is {given[wrong[0]]:.4g} for the seed plus {wrong[0]}, which is another one's",
                "Network and data of the experiment with that seed; mean |gradient| on its first 250 images.",
            )


@check(points=1, needs=[start_ratios])
def ratio_bands(evidence: Evidence) -> None:
    """ratio_band has the band that holds 95 % of these, and their median: (low, median, high)."""
    found = keyed(evidence.value("ratio_band"), "ratio_band", ACTIVATIONS)
    for name in ACTIVATIONS:
        expected = np.nanpercentile(seed_ratios(evidence.student, name), [2.5, 50, 97.5])
        given = numbers(found[name], f"ratio_band[{name!r}]", (3,))
        if not (np.abs(given - expected) <= 1e-2 * expected).all():
            raise Failed(
                f"ratio_band[{name!r}] is not the band of your start_ratios",
                "ensembles.band(...) has .low, .median and .high; in this order.",
            )


# ---- logging


def _logged(evidence: Evidence) -> list[tuple[dict[str, Any], list[Floats], list[Floats]]]:
    """What log_values gives for networks that nobody has seen; their gradients and their weights."""
    draw, found = evidence.random, []
    for widths, used in (((12, 5, 7, 4), False), ((784, 10, 10, 10), False), ((9, 6, 3), True)):
        activation = ACTIVATIONS[int(draw.randint(3))]
        n = Network(widths, activation, "glorot_uniform", 1.5, int(draw.randint(1, 10_000)), used)
        images = draw.uniform(-1, 1, (8, widths[0])).astype(np.float32)
        labels = draw.randint(0, widths[-1], 8)
        layers = initialisations.draw(widths, "glorot_uniform", n.gain, n.seed)
        e = Experiment(activation=activation)  # back-propagation reads nothing else of it
        _, gradients = propagation.backpropagate(layers, images.astype(np.float64), labels, e)
        tags = tuple(f"{kind}_{k}" for k in range(1, len(widths)) for kind in ("mean", "histogram", "hist_weights"))
        given = keyed(evidence.call("log_values", n, Tensor(images), Tensor(labels)), "what log_values gives", tags)
        found.append((given, [g for g, _ in gradients], [w for w, _ in layers]))
    return found


@check(points=1)
def logged_means(evidence: Evidence) -> None:
    """log_values has mean |gradient| of each weight matrix, under mean_1, mean_2, ..."""
    for given, gradients, _ in _logged(evidence):
        for k, gradient in enumerate(gradients, start=1):
            help = (
                "The mean over the weights of one layer of the absolute values of their gradient, with nothing left "
                "over from an earlier backward(): zero_grad()."
            )
            close(given[f"mean_{k}"], np.abs(gradient).mean(), f"mean_{k}", FLOAT32, help)


@check(points=1)
def logged_gradients(evidence: Evidence) -> None:
    """log_values has the gradient of each weight matrix, under histogram_1, histogram_2, ..."""
    for given, gradients, _ in _logged(evidence):
        for k, gradient in enumerate(gradients, start=1):
            help = "parameter.grad, after zero_grad() and backward() of the mean cross-entropy."
            close(given[f"histogram_{k}"], gradient, f"histogram_{k}", FLOAT32, help)


@check(points=1)
def logged_weights(evidence: Evidence) -> None:
    """log_values has the weights themselves under hist_weights_1, hist_weights_2, ..."""
    for given, _, weights in _logged(evidence):
        for k, matrix in enumerate(weights, start=1):
            close(given[f"hist_weights_{k}"], matrix, f"hist_weights_{k}", FLOAT32, "The parameter, not its gradient.")


@check(points=1)
def event_ratio(evidence: Evidence) -> None:
    """event_ratio is the ratio of means, last layer to first, from the curves in the event file."""
    expected = ratios_of(run_of(evidence, "leaky_relu").gradient[:EVENTS, :, _SIZE])["ratio_of_means"]
    help = 'curves["gradient_abs_mean/fc_6"] and those of fc_1: their means over all 300 values.'
    near(evidence.value("event_ratio"), expected, "event_ratio", help)


def negative_share(counts: NDArray[Any]) -> float:
    """Of values that were counted in bins of equal widths, from -range to +range."""
    return float(counts[centres(-1, 1, len(counts)) < 0].sum() / counts.sum())


@check(points=1)
def event_negative(evidence: Evidence) -> None:
    """event_negative has the share of negative weights in each layer, from the last histograms in the event file."""
    recording = run_of(evidence, "leaky_relu")
    row = int(np.searchsorted(recording.epoch_end, EVENTS)) + 1
    given = numbers(evidence.value("event_negative"), "event_negative", (len(LAYERS),))
    for k, name in enumerate(LAYERS):
        counts = recording.weight_counts[row, k]
        # trained anew, a weight at 0 may end on its other side; and there is room for rounding to two digits
        if not abs(given[k] - negative_share(counts)) <= 1.5 / counts.sum() + 5e-3:
            raise Failed(
                f"event_negative is {given[k]:.4g} for {name}, which is not what your run has",
                f'histograms["weights/{name}"][-1]: the counts in the bins below 0 over all counts.',
            )


# ---- audit the tutorial


def _told(evidence: Evidence, values: Floats, weights: Floats, gradient: Floats, expected: str, help: str) -> None:
    found = evidence.call("what_is_logged", values, weights, gradient)
    if not (isinstance(found, str) and found == expected):
        raise Failed(f"of {_words(expected)} it says {word_of(found)}, expected is {expected!r}", help)


def _words(kind: str) -> str:
    return "something else" if kind == "neither" else kind


@check(points=1)
def logged_is_told(evidence: Evidence) -> None:
    """what_is_logged tells weights, gradients and what is neither."""
    draw, help = evidence.random, f"The answers are {', '.join(map(repr, LOGGED))}; compare value by value."
    for shape in ((10, 10), (10, 30)):
        weights, gradient = draw.uniform(-0.5, 0.5, shape), draw.standard_normal(shape) * 0.02
        _told(evidence, weights.astype(np.float32), weights, gradient, "weights", help)
        _told(evidence, gradient.astype(np.float32), weights, gradient, "gradients", help)
        for other in (np.abs(weights), -gradient, gradient * 1.1, draw.permutation(weights.ravel()).reshape(shape)):
            _told(evidence, other, weights, gradient, "neither", help)


@check(points=1)
def small_is_told(evidence: Evidence) -> None:
    """what_is_logged tells them however small the gradients are."""
    draw = evidence.random
    help = "Hold the difference against the size of what you compare with: beside 1e-9, a tolerance of 1e-8 is large."
    for size in (1e-6, 1e-9, 1e-12):
        weights, gradient = draw.uniform(-0.5, 0.5, (10, 10)), draw.standard_normal((10, 10)) * size
        _told(evidence, gradient.astype(np.float32), weights, gradient, "gradients", help)
        _told(evidence, np.zeros((10, 10)), weights, gradient, "neither", help)
        _told(evidence, -gradient, weights, gradient, "neither", help)


@check(points=1)
def tutorial_logged(evidence: Evidence) -> None:
    """tutorial_logged says, for each layer, what the tutorial's code writes under the name of its weights."""
    found = keyed(evidence.value("tutorial_logged"), "tutorial_logged", LAYERS)
    for name, said in found.items():
        if not isinstance(said, str) or said not in LOGGED:
            raise Failed(f"tutorial_logged[{name!r}] is {word_of(said)}", f"One of {', '.join(map(repr, LOGGED))}.")
        if said != "gradients":
            raise Failed(
                f"tutorial_logged[{name!r}] is {said!r}, which is not what it logs",
                "what_is_logged of hist_weights_k, the layer's weights and their gradient, from one call of the port.",
            )


@check(points=1)
def largest_values(evidence: Evidence) -> None:
    """largest has the largest |weight| and the largest |gradient| of fc_4 in the leaky network, after training."""
    found = keyed(evidence.value("largest"), "largest", ("weights", "gradients"))
    recording = run_of(evidence, "leaky_relu")
    weights = float(np.abs(recording.checkpoint(-1)["fc_4.weight"]).max())
    near(found["weights"], weights, "largest['weights']", 'leaky_relu.checkpoint(-1)["fc_4.weight"]')
    gradients = float(recording.probe_statistic("abs_max")[-1, 3])
    near(found["gradients"], gradients, "largest['gradients']", 'probe_statistic("abs_max"), last row, column 3.')


# ---- does the sign matter?


def chain_slope(weights: Floats, slope: float) -> float:
    """d h_n / d h_0 of a chain of single units h_i = leaky(w_i h_{i-1}), at h_0 = 1."""
    h, product = 1.0, 1.0
    for weight in weights.tolist():
        factor = 1.0 if weight * h > 0 else slope
        h, product = factor * weight * h, product * weight * factor
    return product


@check(points=1)
def chain_function(evidence: Evidence) -> None:
    """chain_slope gives the slope of a chain of leaky ReLU units at an input of 1."""
    draw = evidence.random
    for length, slope in ((6, 0.2), (1, 0.2), (4, 0.01), (9, 1.0)):
        for _ in range(3):
            weights = draw.uniform(0.3, 2, length) * draw.choice([-1, 1], length)
            help = "Go along the chain: each unit multiplies the slope by its weight, and by 1 or by the slope below 0."
            found = evidence.call("chain_slope", weights.tolist(), slope)
            close(found, chain_slope(weights, slope), f"chain_slope of {length} weights", FLOAT32, help)


def _six(evidence: Evidence, variable: str) -> Floats:
    weights = numbers(evidence.value(variable), variable, (6,))
    if not (np.isfinite(weights) & (np.abs(weights) <= 10)).all():
        raise Failed(f"{variable} holds {weights[np.argmax(np.abs(weights))]:g}, expected are weights from -10 to 10")
    return weights


@check(points=1)
def signs_do_not_matter(evidence: Evidence) -> None:
    """negative_but_grows and positive_but_vanishes are chains of six weights against the tutorial's reason."""
    negative, positive = _six(evidence, "negative_but_grows"), _six(evidence, "positive_but_vanishes")
    if not (negative < 0).all():
        raise Failed("negative_but_grows has a weight that is not below 0")
    if not abs(slope := chain_slope(negative, SLOPE)) >= LARGE:
        raise Failed(f"the slope of negative_but_grows is {slope:.3g}, expected is a size of {LARGE:g} or more")
    if not (positive > 0).all():
        raise Failed("positive_but_vanishes has a weight that is not above 0")
    if not (slope := chain_slope(positive, SLOPE)) <= SMALL:
        raise Failed(f"the slope of positive_but_vanishes is {slope:.3g}, expected is {SMALL:g} or less")


# ---- by plain SGD


@check(points=1)
def relu_sgd_recorded(evidence: Evidence) -> None:
    """relu_sgd.safetensors is the whole training of your own ReLU network by plain SGD."""
    run_of(evidence, "relu_sgd")


@check(points=1)
def sigmoid_sgd_recorded(evidence: Evidence) -> None:
    """sigmoid_sgd.safetensors is the whole training of your own sigmoid network by plain SGD."""
    run_of(evidence, "sigmoid_sgd")


@check(points=1)
def sigmoid_adam_recorded(evidence: Evidence) -> None:
    """sigmoid_adam.safetensors is the whole training of the same network by Adam."""
    run_of(evidence, "sigmoid_adam")


def moved(before: list[Floats], after: list[Floats]) -> Floats:
    """(L,) length of each layer's change over that of what there was before."""
    return np.array([np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in zip(before, after, strict=True)])


@check(points=1)
def moved_function(evidence: Evidence) -> None:
    """moved gives, for each layer, the length of the change over the length of what there was before."""
    draw = evidence.random
    for widths in ((7, 5, 4), (30, 10, 10, 10), (3, 2)):
        shapes = list(zip(widths[1:], widths, strict=False))
        before = [draw.standard_normal(shape) * draw.uniform(0.1, 3) for shape in shapes]
        after = [w + draw.standard_normal(w.shape) * draw.uniform(0.01, 2) for w in before]
        help = "np.linalg.norm of the difference over that of the layer before; one number for each layer."
        close(evidence.call("moved", before, after), moved(before, after), "moved(before, after)", FLOAT32, help)


def _of_plain(evidence: Evidence, variable: str, measure: Callable[[Recording], Any], help: str) -> None:
    found = keyed(evidence.value(variable), variable, tuple(PLAIN))
    for name in PLAIN:
        alike(found[name], measure(run_of(evidence, name)), f"{variable}[{name!r}]", help)


def way_of(recording: Recording) -> Floats:
    """(L,) how far a training as a whole moved each layer's weights."""
    start, end = ([recording.checkpoint(at)[f"{name}.weight"] for name in recording.layers] for at in (0, -1))
    return moved([w.astype(np.float64) for w in start], [w.astype(np.float64) for w in end])


def first_over_last(values: NDArray[Any]) -> float:
    """Of values (iterations, layers), averaged over the iterations."""
    means = values.astype(np.float64).mean(axis=0)
    return float(means[0] / means[-1])


@check(points=1)
def moved_by_training(evidence: Evidence) -> None:
    """moved_by has how far each training moved the weights of each layer."""
    help = "moved of the four weight matrices of checkpoint(0), and those of checkpoint(-1)."
    _of_plain(evidence, "moved_by", way_of, help)


@check(points=1)
def gradients_of_plain(evidence: Evidence) -> None:
    """gradient_ratio has mean |gradient| of the first layer over that of the last, averaged over all iterations."""
    help = 'The mean of statistic("abs_mean") over its rows first, then its first column over its last.'
    _of_plain(evidence, "gradient_ratio", lambda run: first_over_last(run.statistic("abs_mean")), help)


@check(points=1)
def steps_of_plain(evidence: Evidence) -> None:
    """step_ratio has the same of the steps, each over the size of the layer's weights."""
    help = "update_norm / weight_norm, its mean over the rows, then the first column over the last."
    _of_plain(evidence, "step_ratio", lambda run: first_over_last(run.update_norm / run.weight_norm), help)


# ---- remedies


def weight_gradients(e: Experiment) -> list[Floats]:
    """dloss/dW of each layer of a perceptron, with skip connections or without, at its start on the probe batch."""
    drawn, parameters = data.of_experiment(e), initialisations.named(e)
    x, labels = drawn.inputs[:PROBE].reshape(PROBE, -1).astype(np.float64), drawn.labels[:PROBE]
    entering, slopes, skipped, matrices = [], [], [], []
    for k in range(1, len(e.widths)):
        entering.append(x)
        matrices.append(parameters[f"fc_{k}.weight"])
        z = x @ matrices[-1].T + parameters[f"fc_{k}.bias"]
        h = theory.value(e.activation, z, e.slope)
        slopes.append(theory.slope(e.activation, z, e.slope))
        skipped.append(e.residual and h.shape == x.shape)
        x = h + x if skipped[-1] else h
    p = np.exp(z - z.max(axis=1, keepdims=True))
    delta = (p / p.sum(axis=1, keepdims=True) - np.eye(e.widths[-1])[labels]) / PROBE
    found = [delta.T @ entering[-1]]
    back = delta @ matrices[-1]
    for k in range(len(matrices) - 2, -1, -1):
        delta = back * slopes[k]
        found.append(delta.T @ entering[k])
        back = delta @ matrices[k] + (back if skipped[k] else 0)
    return found[::-1]


@check(points=2)
def remedies_at_start(evidence: Evidence) -> None:
    """arrives has what of the last layer's mean |gradient| the first one has, before training, with each remedy."""
    found = keyed(evidence.value("arrives"), "arrives", (*REMEDIES, "hardware"))
    help = "The network of mine['sigmoid'] with that field replaced, on its first 250 images; the first over the last."
    for name, changes in REMEDIES.items():
        gradients = weight_gradients(experiments(evidence.student)["sigmoid"].replace(**changes))
        expected = np.abs(gradients[0]).mean() / np.abs(gradients[-1]).mean()
        near(found[name], float(expected), f"arrives[{name!r}]", help, source="your network")


@check(points=1)
def more_iterations(evidence: Evidence) -> None:
    """arrives["hardware"] has the same at the end of your sigmoid network's training."""
    found = keyed(evidence.value("arrives"), "arrives", (*REMEDIES, "hardware"))
    sizes = run_of(evidence, "sigmoid").gradient[-EPOCH:, :, _SIZE]
    help = 'The last 100 rows of sigmoid.statistic("abs_mean"): the mean of the first column over that of the last.'
    near(found["hardware"], first_over_last(sizes), "arrives['hardware']", help)


QUESTIONS = dict(
    [
        question("six_layers", "Six layers by hand", leaky_by_hand, six_layers_in_order, six_layers_start),
        question("accuracy", "Accuracy, and how sure it is", accuracy_share, accuracy_error),
        question("activation_runs", "Three trainings", sigmoid_recorded, relu_recorded, leaky_recorded),
        question("last_over_first", "Last over first", ratio_at_start, mean_of_ratios, ratio_of_means),
        question("ratios", "30 against 6?", ratios_of_runs, ratios_of_records, early_shares),
        question("flat_units", "Saturated and dead", flat_share_of, dead_share_of, flat_at_end, dead_at_end),
        question("seeds", "One seed proves nothing", wins_function, start_ratios, ratio_bands),
        question("log_values", "Log the right thing", logged_means, logged_gradients, logged_weights),
        question("events", "Read the event file back", event_ratio, event_negative),
        question(
            "tutorial_log",
            "What was logged as weights?",
            logged_is_told,
            small_is_told,
            tutorial_logged,
            largest_values,
        ),
        question("signs", "Does the sign matter?", chain_function, signs_do_not_matter),
        question("plain_runs", "By plain SGD", relu_sgd_recorded, sigmoid_sgd_recorded, sigmoid_adam_recorded),
        question(
            "moved",
            "How far did each layer move?",
            moved_function,
            moved_by_training,
            gradients_of_plain,
            steps_of_plain,
        ),
        question("remedy_list", "The list of remedies", remedies_at_start, more_iterations),
    ]
)
