"""A whole training again, in numpy and from the seed alone: what should a field of a map hold?

Rounding is amplified on its way through a deep network and through a hundred steps, in some networks by more than all
digits. So `spread` runs a training again from starts that were moved by as little as rounding does: where these part,
nothing can be compared, and how far they are apart says what is to be tolerated before.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit import data, propagation, replay
from labkit.experiments import Experiment, ExperimentError

Floats = NDArray[Any]

CHUNK = 500  # images of which an accuracy is taken at once
# roundings by which each parameter is moved at the start: as many as sums over some hundred units or images leave
SHAKES = (24.0, -24.0)
_FIRST, _SECOND = 0.9, 0.999  # Adam's, as labkit.optimizers has them


@dataclass(frozen=True, eq=False)
class Retraining:
    """What came of one training. I iterations."""

    loss: Floats  # (I,) mean cross-entropy of the mini-batch, nats; NaN behind a loss that is no number
    accuracy: float  # share of all training images classified right at the end; NaN where none was reached


def retrain(e: Experiment, shake: float = 0.0, steps: int | None = None) -> Retraining:
    """Train the experiment's network anew, or the first `steps` iterations of it; its start is moved by `shake`
    roundings of its own kind of numbers, up and down by turns."""
    clipped = (e.clip_norm, e.clip_each, e.clip_value) != (None, None, None)
    if not e.plain or e.optimizer != "adam" or clipped:
        raise ExperimentError(f"{e.name} is no plain network by adam without clipping: there is no retraining of it")
    drawn = data.shared(data.which(e))
    images = drawn.inputs.reshape(len(drawn.inputs), -1).astype(e.dtype)
    signs = np.where(np.arange(len(start := replay.start_of(e))) % 3, 1.0, -1.0)
    parameters = (start * (1 + shake * float(np.finfo(e.dtype).eps) * signs)).astype(e.dtype)
    gradients, moments = np.empty_like(parameters), [np.zeros_like(parameters) for _ in range(2)]
    layers, slopes = (propagation.layers_of(flat, e.widths) for flat in (parameters, gradients))
    order = [batch for epoch in range(e.epochs) for batch in data.epoch_batches(e, epoch)][:steps]
    losses = np.full(len(order), np.nan)
    # a network can break down, and then it does so here, too
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        for at, batch in enumerate(order):
            losses[at], _ = propagation.backpropagate(layers, images[batch], drawn.labels[batch], e, slopes)
            if not np.isfinite(losses[at]):
                break
            _adam(parameters, gradients, moments, at + 1, e)
        whole = len(order) == e.iterations and np.isfinite(losses).all()
        accuracy = _right(layers, images, drawn.labels, e) if whole else math.nan
    return Retraining(losses, accuracy)


@dataclass(frozen=True, eq=False)
class Spread:
    """How far trainings are apart that differ by no more than rounding."""

    loss: Floats  # (I,) the largest difference so far, nats; of losses above 1 as a share of them
    accuracy: float


def spread(e: Experiment, first: Retraining) -> Spread:
    """Against trainings whose start was moved by some roundings."""
    others = [retrain(e, shake, len(first.loss)) for shake in SHAKES]
    with np.errstate(invalid="ignore"):
        off = np.max([np.abs(one.loss - first.loss) for one in others], axis=0) / np.maximum(1, np.abs(first.loss))
    votes = [np.nan_to_num(abs(one.accuracy - first.accuracy), nan=np.inf) for one in others]
    return Spread(np.maximum.accumulate(np.where(np.isnan(off), np.inf, off)), float(max(votes)))


def _adam(parameters: Floats, gradients: Floats, moments: list[Floats], number: int, e: Experiment) -> None:
    """Kingma & Ba 2015, Algorithm 1, in place."""
    mean, square = moments
    mean *= _FIRST
    mean += (1 - _FIRST) * gradients
    square *= _SECOND
    square += (1 - _SECOND) * gradients**2
    root = np.sqrt(square / (1 - _SECOND**number))
    root += e.epsilon
    parameters -= (e.learning_rate / (1 - _FIRST**number)) * mean / root


def _right(layers: propagation.Layers, images: Floats, labels: NDArray[np.int64], e: Experiment) -> float:
    found = 0
    for first in range(0, len(images), CHUNK):
        some = slice(first, first + CHUNK)
        *_, log_p = propagation.forward(layers, images[some], e)
        found += int((log_p.argmax(axis=0) == labels[some]).sum())
    return found / len(images)
