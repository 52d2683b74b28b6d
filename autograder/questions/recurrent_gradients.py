"""The questions of the recurrent-gradients lab, in the notebook's order."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autograder.answers import Tensor
from autograder.authenticity import Asked
from autograder.checks import Failed, check
from autograder.evidence import Evidence
from autograder.questions.shared import (
    FLOAT32,
    MEASURED,
    Floats,
    all_above_zero,
    all_finite,
    all_near,
    close,
    honest_run,
    keyed,
    near,
    numbers,
    question,
    two,
)
from labkit import data, initialisations, theory
from labkit.experiments import Activation, Architecture, Experiment, experiment
from labkit.recording import PROBE, Recording

STEPS, UNITS = 20, 16
KINDS: tuple[Architecture, ...] = ("rnn", "lstm", "gru")
FACTORS = {"low": 0.8, "one": 1.0, "high": 1.25}  # of orthogonal weights
FORGET = slice(UNITS, 2 * UNITS)  # rows of the forget gates, in i f g o
BIASES = (-2.0, 0.0, 1.0, 4.0)  # of the forget gates
LARGEST_FACTOR = 1.4  # of the exploding network's weights
EXPLODED = 1000  # of the whole gradient's norm, which begins below 10 with a factor of 1
NATS = 1e-3  # room for rounding a loss to three digits behind the point; chance is off by more, learnt or not
RATIO = 1e-3  # of norms in float32: within 1e-5; another definition is off by more than 1e-2


# ---- which runs


def of_kind(student: str, kind: Architecture) -> Experiment:
    """recurrent/rnn, lstm or gru with 16 units, on 1,000 sequences of 20 steps, in float64.

    In float32 the gradient of a step long ago can be rounded to 0, of which no ratio is left.
    """
    return experiment(f"recurrent/{kind}", student or "-").replace(
        steps=STEPS,
        observations=1000,
        widths=(5, UNITS, 4),
        epochs=5,
        dtype="float64",
        initialisation="pytorch",
        learning_rate=0.02,
    )


def dial(student: str, name: str, activation: Activation = "tanh") -> Experiment:
    """An rnn whose weights are orthogonal times 0.8, 1 or 1.25."""
    return of_kind(student, "rnn").replace(initialisation="orthogonal", gain=FACTORS[name], activation=activation)


def loudest(student: str) -> Experiment:
    """What is made to explode, with a factor of 1 as yet."""
    return dial(student, "one", "linear").replace(optimizer="sgd", learning_rate=0.01, epochs=2)


def recordings(student: str) -> dict[str, Asked]:
    """Every recording that the assignment asks for, and which run of the student's own it has to be."""
    return {
        **{kind: Asked(of_kind(student, kind)) for kind in KINDS},
        "loud": Asked(loudest(student), ("gain", "clip_norm")),
        "clipped": Asked(loudest(student), ("gain", "clip_norm")),
    }


def run_of(evidence: Evidence, name: str) -> Recording:
    """The recording of that name, once it was found to be an honest run of the student's own experiment."""
    return honest_run(evidence, name, recordings(evidence.student))


# ---- back-propagation through time, by hand


def rnn_flow(
    p: Mapping[str, Floats], sequences: NDArray[Any], labels: NDArray[Any], activation: Activation = "tanh"
) -> Floats:
    """(T,) L2 norms of dloss/dh_t of an rnn over a batch (batch, T, inputs), of the mean cross-entropy."""
    u, h = p["recurrent.weight"], np.zeros((len(labels), len(p["recurrent.weight"])))
    before = []  # each activation
    for x in _steps(sequences):
        before.append(x @ p["input.weight"].T + p["input.bias"] + h @ u.T)
        h = theory.value(activation, before[-1], 0.0)
    gradients = [_into_last_state(p, h, labels)]
    for z in before[:0:-1]:
        gradients.append((gradients[-1] * theory.slope(activation, z, 0.0)) @ u)
    return _norms(gradients)


def lstm_flow(p: Mapping[str, Floats], sequences: NDArray[Any], labels: NDArray[Any]) -> Floats:
    """(T,) L2 norms of dloss/dc_t of an lstm, along the memory and through the hidden states and gates."""
    h = c = np.zeros((len(labels), p["recurrent.weight"].shape[1]))
    taken = []  # gates of each step, the memory before it and after
    for x in _steps(sequences):
        i, f, g, o = np.split(x @ p["input.weight"].T + p["input.bias"] + h @ p["recurrent.weight"].T, 4, axis=1)
        i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
        last, c = c, f * c + i * g
        h = o * np.tanh(c)
        taken.append((i, f, g, o, last, c))
    into_h = _into_last_state(p, h, labels)
    gradients = [into_h * taken[-1][3] * (1 - np.tanh(c) ** 2)]
    for step in range(len(taken) - 1, 0, -1):
        i, f, g, o, last, c = taken[step]
        d = gradients[-1]
        of_gates = (d * g * i * (1 - i), d * last * f * (1 - f), d * i * (1 - g**2), into_h * np.tanh(c) * o * (1 - o))
        into_h = np.concatenate(of_gates, axis=1) @ p["recurrent.weight"]
        gradients.append(d * f + into_h * taken[step - 1][3] * (1 - np.tanh(last) ** 2))
    return _norms(gradients)


def _steps(sequences: NDArray[Any]) -> Floats:
    return np.asarray(sequences, dtype=np.float64).swapaxes(0, 1)


def _sigmoid(z: Floats) -> Floats:
    return theory.value("sigmoid", z, 0.0)


def _into_last_state(p: Mapping[str, Floats], h: Floats, labels: NDArray[Any]) -> Floats:
    logits = h @ p["output.weight"].T + p["output.bias"]
    error = np.exp(logits - logits.max(axis=1, keepdims=True))
    error /= error.sum(axis=1, keepdims=True)
    error[np.arange(len(labels)), labels] -= 1
    found: Floats = error @ p["output.weight"] / len(labels)
    return found


def _norms(gradients: list[Floats]) -> Floats:
    """Of gradients from the last step to the first, the first step first."""
    return np.array([float(np.linalg.norm(g)) for g in reversed(gradients)])


def first_over_last(norms: NDArray[Any]) -> float:
    """The first step's norm over the last step's."""
    return float(norms[0]) / float(norms[-1])


def start_ratio(e: Experiment) -> float:
    """The ratio of an rnn's norms at its start, on the probe batch."""
    found = data.of_experiment(e)
    norms = rnn_flow(initialisations.named(e), found.inputs[:PROBE], found.labels[:PROBE], e.activation)
    return first_over_last(norms)


def memory_ratio(e: Experiment, bias: float) -> float:
    """The ratio of an lstm's norms at its start, all of whose forget gates have that bias."""
    parameters, found = initialisations.named(e), data.of_experiment(e)
    parameters["input.bias"][FORGET] = bias
    return first_over_last(lstm_flow(parameters, found.inputs[:PROBE], found.labels[:PROBE]))


# ---- chance


def _entropy(shares: Floats) -> float:
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum())


@check(points=1)
def entropy_of_shares(evidence: Evidence) -> None:
    """entropy gives the entropy of the classes' shares in nats; a class that never occurs adds nothing."""
    for classes, empty in ((2, 0), (5, 0), (7, 2), (1, 3)):
        shares = np.concatenate([evidence.random.dirichlet(np.ones(classes)), np.zeros(empty)])
        evidence.random.shuffle(shares)
        found = numbers(evidence.call("entropy", shares), "entropy(shares)", ())
        expected = _entropy(shares)
        if not abs(found - expected) <= FLOAT32:
            help = "0 ln 0 counts as 0: leave such classes out." if empty else "Minus the sum of p ln p, natural log."
            raise Failed(f"entropy of {classes + empty} shares is {found:.6g}, expected is {expected:.6g}", help)


@check(points=1)
def chance_level(evidence: Evidence) -> None:
    """chance has the loss and the accuracy of a network that knows how frequent each class is and nothing else."""
    found = keyed(evidence.value("chance"), "chance", ("loss", "accuracy"))
    labels = data.of_experiment(of_kind(evidence.student, "rnn")).labels
    shares = np.bincount(labels) / len(labels)
    for key, expected, help in (
        ("loss", _entropy(shares), "The entropy of the shares of the classes, in nats."),
        ("accuracy", float(shares.max()), "It always names the most frequent class."),
    ):
        near(found[key], expected, f"chance[{key!r}]", help, source="your data set")


# ---- by hand


@check(points=2)
def one_step(evidence: Evidence) -> None:
    """rnn_step gives the next hidden states, tanh(W x + b + U h), for each sequence of the batch."""
    for p, batch in _networks(evidence):
        inputs, units = p["input.weight"].shape[1], len(p["input.bias"])
        x, h = evidence.random.standard_normal((batch, inputs)), evidence.random.uniform(-1, 1, (batch, units))
        given = evidence.call("rnn_step", Tensor(x), Tensor(h), _weights(p))
        expected = np.tanh(x @ p["input.weight"].T + p["input.bias"] + h @ p["recurrent.weight"].T)
        close(given, expected, "rnn_step(x, h, weights)", FLOAT32, "Sequences are rows: W x is x @ W.T there.")


def _networks(evidence: Evidence) -> list[tuple[dict[str, Floats], int]]:
    """Parameters of small rnns that nobody has seen, and a size of a batch for each."""
    draw, found = evidence.random, []
    for factor in (0.6, 1.1, 1.7):
        inputs, units, classes = (int(n) for n in draw.randint(3, 8, 3))
        shapes = {
            "input.weight": (units, inputs),
            "input.bias": (units,),
            "recurrent.weight": (units, units),
            "output.weight": (classes, units),
            "output.bias": (classes,),
        }
        p = {name: draw.standard_normal(shape) * factor / units**0.5 for name, shape in shapes.items()}
        found.append((p, int(draw.randint(4, 9))))
    return found


def _weights(p: Mapping[str, Floats]) -> list[Tensor]:
    return [Tensor(values) for values in p.values()]


def _flow_cases(evidence: Evidence) -> list[tuple[Any, Floats]]:
    """What gradients_through_time gives for networks and sequences that nobody has seen, and what it should."""
    draw, found = evidence.random, []
    for p, batch in _networks(evidence):
        sequences = draw.standard_normal((batch, int(draw.randint(5, 12)), p["input.weight"].shape[1]))
        labels = draw.randint(0, len(p["output.bias"]), batch)
        given = evidence.call("gradients_through_time", Tensor(sequences), Tensor(labels), _weights(p))
        found.append((given, rnn_flow(p, sequences, labels)))
    return found


@check(points=1)
def norm_for_each_step(evidence: Evidence) -> None:
    """gradients_through_time gives one number above 0 for each time step."""
    for given, expected in _flow_cases(evidence):
        norms = numbers(given, "gradients_through_time(sequences, labels, weights)", expected.shape)
        all_above_zero(norms, "norm", "expected is one above 0")


@check(points=2, needs=[norm_for_each_step])
def norms_through_time(evidence: Evidence) -> None:
    """gradients_through_time gives the norm of dloss/dh_t over the batch, the first step first."""
    for given, expected in _flow_cases(evidence):
        norms = numbers(given, "gradients_through_time(sequences, labels, weights)", expected.shape)
        help = (
            "The L2 norm over all sequences and units together, of the mean cross-entropy of the last state's logits; "
            "first step first; begin with a state of zeros."
        )
        all_near(norms, expected, f"the norm at step {{}} of {len(norms)}", RATIO, help)


@check(points=2)
def product_of_jacobians(evidence: Evidence) -> None:
    """jacobian_product gives the Jacobian of the last hidden state with respect to the first."""
    for steps, units in ((2, 3), (4, 5), (7, 4)):
        states = evidence.random.uniform(-0.9, 0.9, (steps, units))
        u = evidence.random.standard_normal((units, units)) / units**0.5
        expected = np.eye(units)
        for h in states[1:]:
            expected = (1 - h**2)[:, None] * u @ expected
        given = evidence.call("jacobian_product", Tensor(states), Tensor(u))
        help = (
            f"{steps} states make {steps - 1} factors, diag(1 - h_t^2) U for t = 2 to {steps}; the last step's stands "
            "on the left."
        )
        close(given, expected, f"jacobian_product of {steps} states", FLOAT32, help)


def _spectra(evidence: Evidence) -> list[tuple[Any, Floats]]:
    """What spectrum gives: for random matrices, whose eigenvalues are complex, negative ones, and a triangular one."""
    draw = evidence.random
    turn = np.kron(np.eye(2), np.array([[0.0, -1.0], [1.0, 0.0]])) * draw.uniform(0.5, 2)
    triangular = np.diag([-1.5, 0.5, 0.7]) * draw.uniform(0.5, 2) + np.triu(draw.uniform(2, 3, (3, 3)), 1)
    return [
        (two(evidence.call("spectrum", Tensor(matrix)), "spectrum(matrix)"), matrix)
        for matrix in (draw.standard_normal((5, 5)), turn, triangular)
    ]


@check(points=1)
def spectral_radius(evidence: Evidence) -> None:
    """spectrum gives first the largest size of an eigenvalue, complex ones included."""
    for (radius, _), matrix in _spectra(evidence):
        expected = np.abs(np.linalg.eigvals(matrix)).max()
        close(radius, expected, "the spectral radius", FLOAT32, "The largest |eigenvalue|; the first of the two.")


@check(points=1)
def largest_singular_value(evidence: Evidence) -> None:
    """spectrum gives second the largest singular value."""
    for (_, norm), matrix in _spectra(evidence):
        expected = np.linalg.svd(matrix, compute_uv=False).max()
        close(norm, expected, "the largest singular value", FLOAT32, "The second of the two; it is no eigenvalue of U.")


# ---- vanish, hold, explode


def _ratios(evidence: Evidence, variable: str, activation: Activation, help: str) -> None:
    found = keyed(evidence.value(variable), variable, tuple(FACTORS))
    for name in FACTORS:
        expected = start_ratio(dial(evidence.student, name, activation))
        near(found[name], expected, f"{variable}[{name!r}]", help, source="your network")


_OF_START = "Norm of gradients[0] over norm of gradients[-1], before any training, on the probe batch."


@check(points=1)
def foreseen(evidence: Evidence) -> None:
    """foreseen has, for each factor, the ratio that algebra gives for a linear network."""
    found = keyed(evidence.value("foreseen"), "foreseen", tuple(FACTORS))
    for name, factor in FACTORS.items():
        value = numbers(found[name], f"foreseen[{name!r}]", ())
        if not abs(value / factor ** (STEPS - 1) - 1) <= MEASURED:
            raise Failed(
                f"foreseen[{name!r}] is {value:.6g}, which is not what algebra gives",
                "By what does one step back multiply a gradient's length? From h_20 to h_1, how many steps are there?",
            )


@check(points=1)
def of_linear(evidence: Evidence) -> None:
    """of_linear has the measured ratios of the linear networks at their start."""
    _ratios(evidence, "of_linear", "linear", _OF_START)


@check(points=1)
def of_tanh(evidence: Evidence) -> None:
    """of_tanh has the measured ratios of the tanh networks at their start."""
    _ratios(evidence, "of_tanh", "tanh", _OF_START)


# ---- three cells


@check(points=1)
def rnn_recorded(evidence: Evidence) -> None:
    """rnn.safetensors is the training of your own RNN."""
    run_of(evidence, "rnn")


@check(points=1)
def lstm_recorded(evidence: Evidence) -> None:
    """lstm.safetensors is the training of your own LSTM."""
    run_of(evidence, "lstm")


@check(points=1)
def gru_recorded(evidence: Evidence) -> None:
    """gru.safetensors is the training of your own GRU."""
    run_of(evidence, "gru")


@check(points=1)
def ratios_at_start(evidence: Evidence) -> None:
    """at_start has the first step's norm over the last step's, in each of your recordings before the training."""
    found = keyed(evidence.value("at_start"), "at_start", KINDS)
    for kind in KINDS:
        expected = first_over_last(run_of(evidence, kind).through_time[0])
        near(found[kind], expected, f"at_start[{kind!r}]", "Row 0 of through_time, its first column over its last.")


@check(points=1)
def factor_per_step(evidence: Evidence) -> None:
    """per_step has the factor by which one step back multiplies the gradient, their geometric mean."""
    found = keyed(evidence.value("per_step"), "per_step", KINDS)
    for kind in KINDS:
        expected = first_over_last(run_of(evidence, kind).through_time[0]) ** (1 / (STEPS - 1))
        near(found[kind], expected, f"per_step[{kind!r}]", "The 19th root of the ratio: 20 steps are 19 apart.")


@check(points=1)
def nats_learnt(evidence: Evidence) -> None:
    """nats_learnt has by how much each network's loss on the probe batch ends below the chance level."""
    found = keyed(evidence.value("nats_learnt"), "nats_learnt", KINDS)
    labels = data.of_experiment(of_kind(evidence.student, "rnn")).labels
    chance = _entropy(np.bincount(labels) / len(labels))
    for kind in KINDS:
        value = numbers(found[kind], f"nats_learnt[{kind!r}]", ())
        if not abs(value - (chance - float(run_of(evidence, kind).probe_loss[-1]))) <= NATS:
            raise Failed(
                f"nats_learnt[{kind!r}] is {value:.6g}, which is not what your recording gives",
                "The chance level minus the last of probe_loss, in nats.",
            )


# ---- the forget gate


@check(points=1)
def memory_alone(evidence: Evidence) -> None:
    """memory_alone has what the forget gate alone leaves of a gradient over 19 steps, for each bias."""
    found = numbers(evidence.value("memory_alone"), "memory_alone", (len(BIASES),))
    for value, bias in zip(found, BIASES, strict=True):
        expected = (1 / (1 + np.exp(-bias))) ** (STEPS - 1)
        help = "The sigmoid of the bias, to the power of 19."
        near(value, expected, f"memory_alone for a bias of {bias:g}", help, source="the formula")


@check(points=2)
def memory_measured(evidence: Evidence) -> None:
    """memory_measured has the true ratio of the norms of dloss/dc_t at the start of your LSTM, for each bias."""
    found = numbers(evidence.value("memory_measured"), "memory_measured", (len(BIASES),))
    e = of_kind(evidence.student, "lstm")
    for value, bias in zip(found, BIASES, strict=True):
        help = "A new network for each bias; of network.memory, not of the states; only the forget gates' rows change."
        near(value, memory_ratio(e, bias), f"memory_measured for a bias of {bias:g}", help, source="your network")


# ---- exploding


def _loud(evidence: Evidence, name: str) -> Recording:
    recording = run_of(evidence, name)
    gain = recording.origin.experiment.gain if recording.origin.experiment else 0
    if not 1 < gain <= LARGEST_FACTOR:
        raise Failed(
            f"its weights are multiplied by {gain:g}, the assignment asks for more than 1 and at most "
            f"{LARGEST_FACTOR:g}",
            "Train loud_experiment.replace(gain=...) again with a factor in between.",
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
    if np.isfinite(recording.loss).all() and not (largest := norms_before(recording).max()) >= EXPLODED:
        raise Failed(
            f"the norm of its gradient stays below {largest:.3g}; exploding shows as {EXPLODED:,} and more, or as a "
            "loss that is no longer a number",
            "Choose a larger factor.",
        )


@check(points=2, needs=[loud_explodes])
def clipped_is_finite(evidence: Evidence) -> None:
    """clipped.safetensors is the same run with the gradients clipped to a norm of 1, and its loss stays finite."""
    loud, clipped = _loud(evidence, "loud"), _loud(evidence, "clipped")
    if _changed(clipped) != _changed(loud, clip_norm=1.0):
        raise Failed("it is not the same experiment with clip_norm=1.0", "Change nothing else, the factor included.")
    all_finite(clipped)


def norms_before(recording: Recording) -> Floats:
    """(I,) norm of all weight matrices' gradients together, before the clipping."""
    after, factor = recording.statistic("norm").astype(np.float64), recording.clip_factor.astype(np.float64)
    before = np.divide(after, factor, out=np.zeros_like(after), where=factor > 0)
    found: Floats = np.sqrt((before**2).sum(axis=1))
    return found


@check(points=1)
def norm_before(evidence: Evidence) -> None:
    """norm_before has the norm of the clipped run's gradient before the clipping, at each iteration."""
    expected = norms_before(run_of(evidence, "clipped"))
    found = numbers(evidence.value("norm_before"), "norm_before", expected.shape)
    for at, (value, norm) in enumerate(zip(found, expected, strict=True), start=1):
        help = "Each matrix's norm over its clip_factor; then the root of the sum of the three squares."
        near(value, float(norm), f"norm_before at iteration {at}", help)


@check(points=1)
def share_clipped(evidence: Evidence) -> None:
    """share_clipped is the share of the clipped run's iterations at which its gradient was shortened."""
    recording = run_of(evidence, "clipped")
    expected = float((recording.clip_factor[:, 0] < 1).mean())
    near(evidence.value("share_clipped"), expected, "share_clipped", "Where is clip_factor below 1?")


@check(points=1)
def ratio_through_time(evidence: Evidence) -> None:
    """ratio_through_time has the first step's norm over the last step's of the clipped run, at its start and end."""
    found = keyed(evidence.value("ratio_through_time"), "ratio_through_time", ("start", "end"))
    for name, row in (("start", 0), ("end", -1)):
        expected = first_over_last(run_of(evidence, "clipped").through_time[row])
        near(found[name], expected, f"ratio_through_time[{name!r}]", f"Row {row} of through_time, first over last.")


QUESTIONS = dict(
    [
        question("chance", "The chance level", entropy_of_shares, chance_level),
        question("rnn_step", "One step by hand", one_step),
        question("gradients_through_time", "The gradient at each time step", norm_for_each_step, norms_through_time),
        question("jacobians", "A product of Jacobians", product_of_jacobians, spectral_radius, largest_singular_value),
        question("dial", "Vanish, hold, explode", foreseen, of_linear, of_tanh),
        question("runs", "RNN, LSTM and GRU", rnn_recorded, lstm_recorded, gru_recorded),
        question("time_ratios", "What is left over time", ratios_at_start, factor_per_step, nats_learnt),
        question("forget_gate", "The forget gate", memory_alone, memory_measured),
        question("exploding_recurrence", "Exploding, and clipped", loud_explodes, clipped_is_finite),
        question("clipped_recurrence", "What clipping mends", norm_before, share_clipped, ratio_through_time),
    ]
)
