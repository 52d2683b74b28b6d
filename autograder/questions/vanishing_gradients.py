"""The questions of the vanishing-gradients lab, in the notebook's order."""

from collections.abc import Callable
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
    all_finite,
    close,
    hidden_of,
    honest_run,
    keyed,
    kind_of,
    near,
    numbers,
    question,
    two,
    word_of,
)
from labkit import initialisations, propagation, theory
from labkit.experiments import Experiment, experiment
from labkit.recording import Recording
from labkit.timeline import Step, Timeline

Layers = list[tuple[Floats, Floats]]

WIDTHS = (784, 10, 10, 10, 10)
ACTIVATIONS = ("relu", "sigmoid")
LEFT = 1e-3  # of the largest gradient: a smaller layer's is compared as if it were so large


# ---- what the checks share


def pair(value: Any, what: str, keys: tuple[str, str] = ACTIVATIONS) -> dict[str, Any]:
    """A dictionary with exactly these two keys, or a sentence."""
    return keyed(value, what, keys)


_LOUD = ("gain", "clip_norm")


def recordings(student: str) -> dict[str, Asked]:
    """Every recording that the assignment asks for, and which run of the student's own it has to be."""
    relu, sigmoid, loud = (experiment(f"vanishing/{name}", student or "-") for name in ("relu", "sigmoid", "exploding"))
    return {
        "own": Asked(relu.replace(epochs=3)),
        "relu": Asked(relu),
        "sigmoid": Asked(sigmoid),
        "exploding": Asked(loud, _LOUD),
        "clipped": Asked(loud, _LOUD),
        **{dtype: Asked(relu.replace(epochs=5, dtype=dtype)) for dtype in ("float32", "float64")},
    }


def run_of(evidence: Evidence, name: str) -> Recording:
    """The recording of that name, once it was found to be an honest run of the student's own experiment."""
    return honest_run(evidence, name, recordings(evidence.student))


def both_runs(evidence: Evidence) -> dict[str, Recording]:
    return {name: run_of(evidence, name) for name in ACTIVATIONS}


# ---- activations


def _shapes(evidence: Evidence) -> list[Floats]:
    draw = evidence.random
    shapes = [(), (7,), (1, 1), (3, 5), tuple(int(n) for n in draw.randint(1, 5, size=3))]
    return [draw.uniform(0.1, 6, shape) * draw.choice([-1.0, 1.0], shape) for shape in shapes]


def _slopes(evidence: Evidence, part: int, expected: Callable[[Any, Floats], Floats], what: str, help: str) -> None:
    for name in ACTIVATIONS:
        for x in _shapes(evidence):
            given = two(evidence.call("activation_gradients", name, Tensor(x)), "activation_gradients")
            close(given[part], expected(name, x), f"{what} of {name}", FLOAT32, help)


@check(points=1)
def activation_values(evidence: Evidence) -> None:
    """activation_gradients gives the values of ReLU and sigmoid, in the shape of x."""
    _slopes(evidence, 0, theory.value, "the value", "The first of the two results is the activation itself.")


@check(points=1)
def activation_slopes(evidence: Evidence) -> None:
    """activation_gradients gives their derivatives, as autograd computes them."""
    help = "The second result is x.grad after y.sum().backward(), for an x that requires a gradient."
    _slopes(evidence, 1, theory.slope, "the derivative", help)


@check(points=1)
def numerical_bias(evidence: Evidence) -> None:
    """numerical_bias is the factor by which the estimated slope is too large."""
    x = np.linspace(-5, 5, 1000)
    estimated = float(np.gradient(np.maximum(0, x), 0.01)[-50])
    found = numbers(evidence.value("numerical_bias"), "numerical_bias", ())
    # the ratio is 1.001001: without four decimals the point of the exercise is lost
    if not abs(found - estimated) <= 5e-5:
        raise Failed(
            f"numerical_bias is {found:.6g}, the estimated slope over the true one is another number",
            "1,000 points from -5 to 5 have 999 gaps between them. Where is the ReLU steep, and how steep truly?",
        )


# ---- the network


def _built(evidence: Evidence, activation: str, seed: int = 1) -> dict[str, Any]:
    inputs = evidence.random.uniform(0, 1, (6, 1, 28, 28))
    found: dict[str, Any] = evidence.network("build_network", activation, seed, inputs=inputs) | {"inputs": inputs}
    return found


def _parameters(network: dict[str, Any]) -> Layers:
    """The four layers' weights and biases, or a sentence that names what is missing or has another shape."""
    given, layers = network["parameters"], []
    for number in range(1, 5):
        shape = (WIDTHS[number], WIDTHS[number - 1])
        for name, want in ((f"fc_{number}.weight", shape), (f"fc_{number}.bias", shape[:1])):
            if name not in given:
                raise Failed(f"the network has no {name}", f"Its parameters are {', '.join(sorted(given)[:8])}.")
            numbers(given[name], name, want)
        layers.append(
            (numbers(given[f"fc_{number}.weight"], "a weight"), numbers(given[f"fc_{number}.bias"], "a bias"))
        )
    return layers


@check(points=1)
def network_layers(evidence: Evidence) -> None:
    """build_network gives fc_1 to fc_4, of 784, 10, 10, 10 and 10 units, with the activation between them."""
    classes = {"relu": "ReLU", "sigmoid": "Sigmoid"}
    for activation in ACTIVATIONS:
        network = _built(evidence, activation)
        _parameters(network)
        if len(network["parameters"]) != 8:
            raise Failed(f"the network has {len(network['parameters'])} weights and biases, expected are 8")
        named = dict(network["layers"])
        for number in range(1, 4):
            name = f"{activation}_{number}"
            if named.get(name) != classes[activation]:
                found = named.get(name, "missing")
                raise Failed(
                    f"the layer {name} is {found}, expected is {classes[activation]}",
                    f"Layers: {', '.join(named)}",
                )


@check(points=1, needs=[network_layers])
def network_start(evidence: Evidence) -> None:
    """It starts from Glorot's uniform weights and zero biases, drawn from the seed."""
    network = _built(evidence, "relu", seed=3)
    for number, (weights, biases) in enumerate(_parameters(network), start=1):
        if np.abs(biases).max() > 0:
            raise Failed(f"the biases of fc_{number} are not zero", "nn.init.zeros_ sets them.")
        bound = np.sqrt(6 / sum(weights.shape))
        largest = float(np.abs(weights).max())
        # of 100 uniform draws the largest lies in the top tenth of the range but for 1 seed in 37,000
        if not 0.9 * bound <= largest <= bound * (1 + FLOAT32):
            raise Failed(
                f"the weights of fc_{number} reach to ±{largest:.4f}, Glorot's uniform weights to ±{bound:.4f}",
                "nn.init.xavier_uniform_ draws them; nn.Linear's own start is another.",
            )
    _repeatable(evidence)


def _repeatable(evidence: Evidence) -> None:
    first, again, other = (_built(evidence, "relu", seed)["parameters"]["fc_1.weight"] for seed in (3, 3, 4))
    if not np.array_equal(first, again):
        raise Failed("the same seed gives other weights every time", "Call torch.manual_seed(seed) before drawing.")
    if np.array_equal(first, other):
        raise Failed("another seed gives the same weights", "Use the seed that the function is given.")


@check(points=1, needs=[network_layers])
def network_output(evidence: Evidence) -> None:
    """Its output are the logits of the four layers, one after another."""
    for activation in ACTIVATIONS:
        network = _built(evidence, activation)
        h = network["inputs"].reshape(6, -1)
        layers = _parameters(network)
        for weights, biases in layers[:-1]:
            h = theory.value(activation, h @ weights.T + biases)
        expected = h @ layers[-1][0].T + layers[-1][1]
        close(
            network["outputs"],
            expected,
            "the output",
            FLOAT32,
            "No softmax at the end, and every layer once, in order.",
        )


# ---- loss and gradients


def _loss_case(evidence: Evidence, activation: str, widths: tuple[int, ...]) -> tuple[Any, float, Layers]:
    draw = evidence.random
    seed, batch = int(draw.randint(1, 10_000)), int(draw.randint(2, 9))
    images, labels = draw.uniform(0, 1, (batch, 784)), draw.randint(0, widths[-1], batch)
    given = evidence.call(
        "model_loss",
        Network(widths, activation, seed=seed),
        Tensor(images.reshape(-1, 1, 28, 28).astype(np.float32)),
        Tensor(labels),
    )
    layers = initialisations.draw(widths, seed=seed)
    # the activation is all that back-propagation reads of the experiment
    e = Experiment().replace(activation=activation)
    loss, gradients = propagation.backpropagate(layers, images, labels, e)
    return two(given, "model_loss"), float(loss), gradients


def _loss_cases(evidence: Evidence) -> list[tuple[Any, float, Layers]]:
    return [_loss_case(evidence, name, widths) for name in ACTIVATIONS for widths in (WIDTHS, (784, 6, 10))]


@check(points=1)
def loss_value(evidence: Evidence) -> None:
    """model_loss gives the mean cross-entropy of the mini-batch."""
    for (loss, _), expected, _ in _loss_cases(evidence):
        close(
            loss,
            expected,
            "the loss",
            FLOAT32,
            "The mean over the batch, of the softmax of the logits, in nats.",
        )


@check(points=2)
def loss_gradients(evidence: Evidence) -> None:
    """model_loss gives the gradient of every learnable parameter, by its name."""
    for (_, gradients), _, expected in _loss_cases(evidence):
        names = [f"fc_{number}.{kind}" for number in range(1, len(expected) + 1) for kind in ("weight", "bias")]
        if not isinstance(gradients, dict) or set(gradients) != set(names):
            raise Failed(f"the gradients are {kind_of(gradients)}, expected is a dictionary with {', '.join(names)}")
        # a unit may be so near its kink that hardly anything of its sum, and of the gradient behind it, is left
        least = LEFT * max(float(np.abs(values).max()) for layer in expected for values in layer)
        for number, layer in enumerate(expected, start=1):
            for kind, want in zip(("weight", "bias"), layer, strict=True):
                name = f"fc_{number}.{kind}"
                help = "Differentiate the mean loss, once."
                close(gradients[name], want, f"the gradient of {name}", FLOAT32, help, least)


# ---- distributions


def _value_cases(evidence: Evidence) -> list[Floats]:
    draw = evidence.random
    tiny = draw.standard_normal((10, 10)) * 1e-7
    return [draw.standard_normal((10, 784)), tiny, draw.uniform(2, 3, (4, 3, 2)), draw.standard_normal(31)]


def _distributions(evidence: Evidence) -> list[tuple[Floats, Floats, Floats]]:
    found = []
    for values in _value_cases(evidence):
        centres, counts = two(evidence.call("gradient_distributions", Tensor(values)), "gradient_distributions")
        found.append((values, numbers(centres, "the centres", (30,)), numbers(counts, "the counts", (30,))))
    return found


@check(points=1)
def distribution_counts(evidence: Evidence) -> None:
    """gradient_distributions counts every value once, in 30 bins from the smallest value to the largest."""
    for values, _, counts in _distributions(evidence):
        if counts.sum() != values.size:
            raise Failed(f"the counts add up to {counts.sum():g}, there are {values.size} values")
        expected, _ = np.histogram(values, bins=30)
        # float32 may put a value that lies on an edge into the neighbouring bin
        if np.abs(np.cumsum(counts - expected)).max() > 2:
            raise Failed("the counts are not those of 30 equal bins from the smallest value to the largest")


@check(points=1)
def distribution_centres(evidence: Evidence) -> None:
    """gradient_distributions gives the centres of the bins, not their edges."""
    for values, centres, _ in _distributions(evidence):
        edges = np.linspace(values.min(), values.max(), 31)
        width = edges[1] - edges[0]
        off = np.abs(centres - (edges[:-1] + edges[1:]) / 2).max()
        if not off <= 0.01 * width:
            raise Failed(
                f"the first centre is {centres[0]:.4g}, {off / width:.2f} bin widths away from where it belongs",
                "A centre lies midway between two neighbouring edges.",
            )


# ---- recordings


@check(points=1)
def own_recorded(evidence: Evidence) -> None:
    """own.safetensors is there and holds three epochs of 40 iterations from your own seed."""
    recording, expected = evidence.recording("own"), recordings(evidence.student)["own"].experiment
    same_experiment(recording, expected)
    if recording.iterations != expected.iterations or recording.epochs != expected.epochs:
        raise Failed(
            f"it has {recording.iterations} iterations in {recording.epochs} epochs, expected are 120 in 3",
            "recorder.step(loss) after every mini-batch, recorder.end_epoch() after every epoch.",
        )


@check(points=3, needs=[own_recorded])
def own_loop_is_right(evidence: Evidence) -> None:
    """Your loop clears the gradients, goes back and steps once for every mini-batch, in order."""
    run_of(evidence, "own")


@check(points=2)
def relu_recorded(evidence: Evidence) -> None:
    """relu.safetensors is the whole training of your own ReLU network."""
    run_of(evidence, "relu")


@check(points=2)
def sigmoid_recorded(evidence: Evidence) -> None:
    """sigmoid.safetensors is the whole training of your own sigmoid network."""
    run_of(evidence, "sigmoid")


@check(points=1)
def final_losses(evidence: Evidence) -> None:
    """final_loss has the mean loss of each network's last epoch."""
    found = pair(evidence.value("final_loss"), "final_loss")
    for name, recording in both_runs(evidence).items():
        near(
            found[name],
            float(recording.loss[-40:].mean()),
            f"final_loss[{name!r}]",
            "The last 40 of 2,000 iterations.",
        )


# ---- question 1


@check(points=1)
def attenuation_function(evidence: Evidence) -> None:
    """attenuation gives last / first for each iteration."""
    for shape in ((5, 4), (1, 2), (7, 9)):
        sizes = evidence.random.uniform(1e-9, 1e-2, shape)
        if shape[0] > 1:
            sizes[1, 0] = 0
        with np.errstate(divide="ignore"):
            expected = sizes[:, -1] / sizes[:, 0]
        found = numbers(evidence.call("attenuation", sizes), "attenuation(sizes)", expected.shape)
        finite = np.isfinite(expected)
        if not np.isinf(found[~finite]).all():
            raise Failed("where the first layer's gradient is 0 it does not give inf")
        ratio = found[finite] / expected[finite]
        if not np.allclose(ratio, 1, rtol=1e-6, atol=0):
            raise Failed(f"it is {ratio[0]:.4g} times what it should be", "Last over first; a row is an iteration.")


def _attenuation(recording: Recording) -> Floats:
    size = recording.statistic("abs_mean").astype(np.float64)
    with np.errstate(divide="ignore"):
        ratio: Floats = size[:, -1] / size[:, 0]
    return ratio


def _attenuation_values(evidence: Evidence, variable: str, of: Callable[[Floats], float], help: str) -> None:
    found = pair(evidence.value(variable), variable)
    for name, recording in both_runs(evidence).items():
        near(found[name], float(of(_attenuation(recording))), f"{variable}[{name!r}]", help)


@check(points=1)
def attenuation_at_start(evidence: Evidence) -> None:
    """attenuation_at_start has last / first of mean |gradient| at the first iteration."""
    _attenuation_values(
        evidence,
        "attenuation_at_start",
        lambda ratio: ratio[0],
        "The absolute mean, at iteration 1, which is row 0.",
    )


@check(points=1)
def attenuation_over_training(evidence: Evidence) -> None:
    """attenuation_over_training has the median of last / first over all iterations."""
    help = "The median of the ratios, not the ratio of the medians; of mean |gradient|, not of the signed mean."
    _attenuation_values(evidence, "attenuation_over_training", lambda ratio: float(np.median(ratio)), help)


EXPLODED = 1000  # of the whole gradient's norm; with a gain of 1 it begins near 1


def _exploding(evidence: Evidence, name: str) -> Recording:
    recording = run_of(evidence, name)
    gain = recording.origin.experiment.gain if recording.origin.experiment else 0
    if not 1 <= gain <= 10:
        raise Failed(
            f"its gain is {gain:g}, the assignment allows 1 to 10",
            "Train it again with a gain in between: above 1 it is loud.",
        )
    return recording


@check(points=1)
def explodes(evidence: Evidence) -> None:
    """exploding.safetensors is a run, not clipped, whose gradients explode."""
    recording = _exploding(evidence, "exploding")
    e = recording.origin.experiment
    if e is not None and e.clip_norm is not None:
        raise Failed("its gradients were clipped", "Leave clip_norm at None for this run.")
    norm = np.sqrt((recording.statistic("norm").astype(np.float64) ** 2).sum(axis=1))
    if np.isfinite(recording.loss).all() and not norm.max() >= EXPLODED:
        raise Failed(
            f"the norm of its gradient stays below {norm.max():.3g}, with a gain of {e.gain if e else 0:g}; "
            f"exploding shows as {EXPLODED:,} and more, or as a loss that is no longer a number",
            "Turn the gain up further.",
        )


@check(points=2, needs=[explodes])
def clipped_trains(evidence: Evidence) -> None:
    """clipped.safetensors is the same run with the gradients clipped to a norm of 1, and stays finite."""
    loud, clipped = _exploding(evidence, "exploding"), _exploding(evidence, "clipped")
    a, b = loud.origin.experiment, clipped.origin.experiment
    if a is None or b is None or b != a.replace(clip_norm=1.0, name=b.name, student=b.student):
        raise Failed("it is not the same experiment with clip_norm=1.0", "Change nothing else, the gain included.")
    all_finite(clipped)


# ---- question 2


def _in_some(evidence: Evidence, look: Callable[[Timeline], None]) -> None:
    """Does `look` pass for one of the timelines? The notebook that is run anew may be another than the session was."""
    failures = []
    for timeline in evidence.timelines():
        try:
            look(timeline)
        except Failed as failure:
            failures.append(failure)
        else:
            return
    raise failures[0]


def _watched(timeline: Timeline) -> list[Step]:
    steps = [step for step in timeline.steps if step.source.startswith("iteration ")]
    names = [step.source for step in steps][-5:]
    if names != [f"iteration {number}" for number in range(1, 6)]:
        raise Failed(
            f"the timeline has {len(steps)} observations of iterations, expected are iteration 1 to iteration 5",
            'Call desk.observe(f"iteration {i}") inside the loop, after the step.',
        )
    return steps[-5:]


def _touched(step: Step) -> set[str]:
    return {change.name for change in step.changed + step.appeared}


@check(points=1)
def loop_was_watched(evidence: Evidence) -> None:
    """The timeline that you hand in shows your five iterations, in which the network changed every time."""

    def look(timeline: Timeline) -> None:
        for step in _watched(timeline):
            if "watched_network" not in _touched(step):
                raise Failed(
                    f"watched_network did not change in {step.source}", "Did the optimiser step before observe?"
                )

    _in_some(evidence, look)


@check(points=1)
def what_grew(evidence: Evidence) -> None:
    """grew_most names the variable whose memory grew most."""
    found = evidence.value("grew_most")

    def look(timeline: Timeline) -> None:
        grew = {name: after - before for name, (before, after) in timeline.grew().items()}
        if not isinstance(found, str) or found not in grew:
            raise Failed(
                f"{word_of(found)} did not grow", "desk.timeline.grew() lists what did, with bytes before and after."
            )
        if grew[found] < max(grew.values()):
            raise Failed(f"{word_of(found)} grew, but not most", "Compare the bytes after with the bytes before.")

    _in_some(evidence, look)


@check(points=1, needs=[loop_was_watched])
def what_changed(evidence: Evidence) -> None:
    """changed_every_iteration lists the variables that changed at each of the five iterations."""
    found = evidence.value("changed_every_iteration")
    if not isinstance(found, (list, tuple)) or not all(isinstance(name, str) for name in found):
        raise Failed(f"changed_every_iteration is {kind_of(found)}, expected is a list of names as texts")

    def look(timeline: Timeline) -> None:
        always = set.intersection(*map(_touched, _watched(timeline)))
        if wrong := sorted(set(found) - always):
            raise Failed(f"{word_of(wrong[0])} did not change at every iteration", "Look at desk.timeline.steps.")
        if set(found) < always:
            raise Failed(f"{len(set(found))} names are right, but more variables than these changed at every iteration")

    _in_some(evidence, look)


# ---- question 3


@check(points=1)
def growth(evidence: Evidence) -> None:
    """growth_of_layer_4 is mean |gradient| of fc_4 over the last ten epochs, divided by that over the first five."""
    size = run_of(evidence, "relu").statistic("abs_mean")[:, 3].astype(np.float64)
    help = "Means of abs_mean, column 3, over the last 400 and over the first 200 iterations."
    near(
        evidence.value("growth_of_layer_4"),
        float(size[-400:].mean() / size[:200].mean()),
        "growth_of_layer_4",
        help,
    )


@check(points=1)
def precision_recorded(evidence: Evidence) -> None:
    """float32.safetensors and float64.safetensors are the same five epochs in both kinds of numbers."""
    for dtype in ("float32", "float64"):
        run_of(evidence, dtype)


@check(points=1, needs=[precision_recorded])
def precision_values(evidence: Evidence) -> None:
    """largest_signed_mean has the largest |signed mean| of the gradient of fc_4 for both."""
    found = pair(evidence.value("largest_signed_mean"), "largest_signed_mean", ("float32", "float64"))
    for dtype in ("float32", "float64"):
        expected = float(np.abs(evidence.recording(dtype).statistic("mean")[:, 3]).max())
        near(
            found[dtype],
            expected,
            f"largest_signed_mean[{dtype!r}]",
            'The statistic "mean", column 3, its largest |.|.',
        )


def _factor(evidence: Evidence, variable: str, of: Callable[[Recording], NDArray[Any]], help: str) -> None:
    values = of(run_of(evidence, "relu")).astype(np.float64)
    near(evidence.value(variable), float(values[-1] / values[0]), variable, help)


@check(points=1)
def error_factor(evidence: Evidence) -> None:
    """error_factor is mean |p - y| after the last epoch divided by that before the first."""
    _factor(evidence, "error_factor", lambda r: r.output_error, "relu.output_error[-1] and relu.output_error[0].")


@check(points=1)
def hidden_factor(evidence: Evidence) -> None:
    """hidden_factor is mean |h3| after the last epoch divided by that before the first."""
    help = 'h3 is the last hidden layer: the last column of relu.hidden_statistic("abs_mean").'
    _factor(evidence, "hidden_factor", lambda r: hidden_of(r, "abs_mean", len(WIDTHS) - 2)[:, -1], help)


QUESTIONS = dict(
    [
        question("activation_gradients", "Activations and their slopes", activation_values, activation_slopes),
        question("numerical_bias", "The numerical derivative", numerical_bias),
        question("build_network", "Define the network", network_layers, network_start, network_output),
        question("model_loss", "Loss and gradients", loss_value, loss_gradients),
        question("gradient_distributions", "Distributions", distribution_counts, distribution_centres),
        question("own_loop", "Your own training loop", own_recorded, own_loop_is_right),
        question("recordings", "Both trainings", relu_recorded, sigmoid_recorded),
        question("final_loss", "Final losses", final_losses),
        question("attenuation", "Question 1: a function for the attenuation", attenuation_function),
        question(
            "attenuation_values",
            "Question 1: the attenuation",
            attenuation_at_start,
            attenuation_over_training,
        ),
        question("exploding", "Question 1: exploding and clipped", explodes, clipped_trains),
        question("workspace", "Question 2: the workspace", loop_was_watched, what_grew, what_changed),
        question("growth", "Question 3: layer 4 grows", growth),
        question("precision", "Question 3: which curve can you believe?", precision_recorded, precision_values),
        question("factors", "Question 3: the two factors", error_factor, hidden_factor),
    ]
)
