"""Re-run a stretch of a recording from its checkpoint, in numpy and float64: how far is it off?

The back-propagation here is written once more and apart from the one that trains, so that neither can hide the
other's fault, and so that a grader needs no torch.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from labkit import data, initialisations, theory
from labkit.experiments import Experiment
from labkit.recording import PROBE, STATISTICS, Recording, RecordingError

Floats = NDArray[np.float64]
Layers = list[tuple[Floats, Floats]]  # weights (outputs, inputs) and biases (outputs,), input side first


@dataclass(frozen=True, eq=False)
class Replay:
    """N iterations that follow a checkpoint; shapes as in a Recording."""

    start: int  # iterations done before
    loss: Floats  # (N,)
    gradient: Floats  # (N, L, S)
    update_norm: Floats  # (N, L)
    weight_norm: Floats  # (N, L)


def replay(recording: Recording, checkpoint: int, steps: int, experiment: Experiment | None = None) -> Replay:
    """Run `steps` iterations from a checkpoint. Data and settings are `experiment`'s, the file's own when it is None.

    A stretch ends early where the experiment ends.
    """
    e = experiment or recording.origin.experiment
    if e is None:
        raise RecordingError("this recording follows no experiment: only a recording with one can be replayed")
    start = int(recording.checkpoint_iteration[checkpoint])
    layers = _layers(recording, checkpoint, e)
    moments = [recording.checkpoint_moment(checkpoint, name) for name in recording.origin.moments]
    slots = [{k: v.astype(np.float64) for k, v in moment.items()} for moment in moments]
    if e.optimizer == "adam" and len(slots) != 2:
        raise RecordingError("this recording holds no moments of Adam: train it again")
    images, labels = _data(e)
    rows = []
    for number in range(start, min(start + steps, e.iterations)):
        epoch, batch = divmod(number, e.iterations_per_epoch)
        chosen = _order(e, epoch)[batch]
        loss, gradients = backpropagate(layers, images[chosen], labels[chosen], e)
        factor = _clip(gradients, e.clip_norm)
        gradients = [(w * factor, b * factor) for w, b in gradients]
        after = _step(layers, gradients, slots, number + 1, e)
        rows.append((loss, gradients, layers, after))
        layers = after
    return Replay(
        start,
        np.array([loss for loss, *_ in rows]),
        np.array([[statistics(w) for w, _ in gradients] for _, gradients, *_ in rows]),
        np.array([[np.linalg.norm(a - b) for (a, _), (b, _) in zip(new, old, strict=True)] for _, _, old, new in rows]),
        np.array([[np.linalg.norm(w) for w, _ in old] for _, _, old, _ in rows]),
    )


@dataclass(frozen=True, eq=False)
class ProbeReplay:
    """What the fixed probe batch shows at a checkpoint; meanings as in a Recording."""

    loss: float
    accuracy: float
    output_error: float
    hidden_size: Floats  # (A,) mean |h|
    gradient: Floats  # (L, S)


def probe(recording: Recording, checkpoint: int, experiment: Experiment) -> ProbeReplay:
    """What the experiment's probe batch shows of the network as it was at a checkpoint."""
    layers = _layers(recording, checkpoint, experiment)
    images, labels = _data(experiment)
    images, labels = images[:PROBE], labels[:PROBE]
    inputs, _, log_p = forward(layers, images, experiment)
    p = np.exp(log_p)
    loss, gradients = backpropagate(layers, images, labels, experiment)
    return ProbeReplay(
        loss=loss,
        accuracy=float((p.argmax(axis=1) == labels).mean()),
        output_error=float(np.abs(p - np.eye(p.shape[1])[labels]).mean()),
        hidden_size=np.array([np.abs(h).mean() for h in inputs[1:]]),
        gradient=np.array([statistics(w) for w, _ in gradients]),
    )


def forward(layers: Layers, images: Floats, e: Experiment) -> tuple[list[Floats], list[Floats], Floats]:
    """What goes into each layer (batch, inputs), what comes out of it before the activation (batch, outputs), and the
    logarithms of the softmax (batch, classes)."""
    inputs, before = [images], []
    for weights, biases in layers:
        before.append(inputs[-1] @ weights.T + biases)
        inputs.append(theory.value(e.activation, before[-1]))
    z = before[-1] - before[-1].max(axis=1, keepdims=True)
    return inputs[:-1], before, z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def backpropagate(layers: Layers, images: Floats, labels: NDArray[np.int64], e: Experiment) -> tuple[float, Layers]:
    """Mean cross-entropy in nats of images (batch, inputs), and its gradients in the layers' shapes."""
    inputs, before, log_p = forward(layers, images, e)
    rows = np.arange(len(labels))
    d = np.exp(log_p)
    d[rows, labels] -= 1
    d /= len(labels)
    gradients: Layers = []
    for index in reversed(range(len(layers))):
        gradients.append((d.T @ inputs[index], d.sum(axis=0)))
        if index:
            d = (d @ layers[index][0]) * theory.slope(e.activation, before[index - 1])
    return -float(log_p[rows, labels].mean()), gradients[::-1]


def statistics(values: Floats) -> Floats:
    """(S,) statistics of one matrix, in STATISTICS order."""
    size = np.abs(values)
    found = {
        "mean": values.mean(),
        "abs_mean": size.mean(),
        "sd": values.std(),
        "norm": np.linalg.norm(values),
        "abs_max": size.max(),
        "zero_share": (values == 0).mean(),
        "nonfinite": np.count_nonzero(~np.isfinite(values)),
    }
    return np.array([found[name] for name in STATISTICS], dtype=np.float64)


def start_of(experiment: Experiment) -> Floats:
    """(P,) all parameters as the experiment's seed gives them, in a checkpoint's order."""
    layers = initialisations.of_experiment(experiment)
    return np.concatenate([w.ravel() for w, _ in layers] + [b for _, b in layers])


def _layers(recording: Recording, checkpoint: int, e: Experiment) -> Layers:
    kept = recording.checkpoint(checkpoint)
    names = [f"fc_{index}" for index in range(1, len(e.widths))]
    shapes = {
        f"{name}.weight": shape for name, shape in zip(names, zip(e.widths[1:], e.widths, strict=False), strict=True)
    }
    if any(kept.get(name, np.zeros(0)).shape != shape for name, shape in shapes.items()):
        raise RecordingError("the recorded network is not the experiment's: train it again as the assignment has it")
    return [(kept[f"{n}.weight"].astype(np.float64), kept[f"{n}.bias"].astype(np.float64)) for n in names]


def _step(layers: Layers, gradients: Layers, slots: list[dict[str, Floats]], number: int, e: Experiment) -> Layers:
    after = []
    for index, (values, slopes) in enumerate(zip(layers, gradients, strict=True), start=1):
        names = (f"fc_{index}.weight", f"fc_{index}.bias")
        after.append(tuple(_update(v, g, slots, n, number, e) for v, g, n in zip(values, slopes, names, strict=True)))
    return [(w, b) for w, b in after]


def _update(values: Floats, g: Floats, slots: list[dict[str, Floats]], name: str, number: int, e: Experiment) -> Floats:
    if e.optimizer == "sgd":
        return values - e.learning_rate * g
    mean, square = slots
    mean[name] = 0.9 * mean[name] + 0.1 * g
    square[name] = 0.999 * square[name] + 0.001 * g * g
    m, v = mean[name] / (1 - 0.9**number), square[name] / (1 - 0.999**number)
    return values - e.learning_rate * m / (np.sqrt(v) + 1e-8)


def _clip(gradients: Layers, largest: float | None) -> float:
    if largest is None:
        return 1.0
    norm = math.sqrt(sum(float((w * w).sum() + (b * b).sum()) for w, b in gradients))
    return min(1.0, largest / (norm + 1e-6))


@lru_cache(maxsize=2)
def _data(e: Experiment) -> tuple[Floats, NDArray[np.int64]]:
    drawn = data.student_digits(e.observations, seed=e.seed, pool=e.pool)
    return drawn.images.reshape(len(drawn), -1).astype(np.float64), drawn.labels


@lru_cache(maxsize=64)
def _order(e: Experiment, epoch: int) -> list[NDArray[np.int64]]:
    return data.epoch_batches(e, epoch)
