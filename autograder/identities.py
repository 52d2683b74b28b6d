"""Identities that hold at every iteration of every honest recording, whatever the seed, the hardware and the dynamics.

They cost nothing and need no replay, so they reach where an audit does not: every iteration, also behind the point from
which rounding decides how a run goes on. Residuals are in roundings of the recording's own kind of numbers; what honest
recordings leave is measured by benchmarks/tolerance.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autograder.checks import Failed
from labkit import theory
from labkit.experiments import Experiment
from labkit.recording import Recording
from labkit.replay import moments_of

Floats = NDArray[np.float64]
UNDERFLOW = 1e-16  # of a gradient like this float32 holds no square, and beside its 1e-8 Adam makes nothing of it
SOFTMAX_ROOM = 500  # roundings
LEAST_FACTOR = 1e-4  # of clipping that is believed: behind a storm nobody compares it, and it excuses sums later on
DOUBT = 0.1  # nats: below it most of a mini-batch is classified without


@dataclass(frozen=True)
class Identity:
    """An identity, and how many roundings of the experiment's kind of numbers may be left of it."""

    sentence: str
    room: float
    of: Callable[[Recording, Experiment, int], Floats]  # residuals, the iteration first


def holds(recording: Recording, experiment: Experiment, rows: int) -> None:
    """Raise `Failed` unless every identity that the experiment has holds at the first `rows` iterations."""
    rounding = float(np.finfo(experiment.dtype).eps)
    for name in of(experiment):
        identity = IDENTITIES[name]
        with np.errstate(over="ignore", invalid="ignore"):
            residuals = identity.of(recording, experiment, rows)
        wrong = ~(residuals <= identity.room * rounding)
        if wrong.any():
            iteration = int(np.argwhere(wrong)[0][0]) + 1
            raise Failed(
                f"{identity.sentence}: this does not hold at iteration {iteration}, nor at {wrong.sum() - 1:,} others",
                "It holds for every training of this network; record what the loop computes, where it computes it.",
            )


def of(e: Experiment) -> tuple[str, ...]:
    """The names of the identities that hold for an experiment."""
    names = ["clipped"]
    # the classes' gradients add up to 0, and stay so when the whole of them is scaled
    if e.widths[-1] > 1 and e.clip_value is None:
        names.append("softmax")
    if e.plain and e.activation in ("relu", "leaky_relu", "linear") and (e.clip_each, e.clip_value) == (None, None):
        names.append("homogeneity")
    return (
        *names,
        *{"adam": ("adam_first_step", "adam_moments"), "rmsprop": (), "sgd": ("sgd_step", "sgd_norm")}[e.optimizer],
    )


def _softmax(recording: Recording, _: Experiment, rows: int) -> Floats:
    """Of what is classified without doubt, p is rounded at 1, so that p - y is rounding itself; the loss is about as
    large as |p - y| there. Where such an image is the only one of a mini-batch with hidden values that are not 0, the
    loss is that of the others: so no sum is asked to be smaller than the rounding of the largest gradient so far, both
    as they were before they were clipped."""
    with np.errstate(invalid="ignore"):
        doubt = np.minimum(1, np.maximum(recording.loss[:rows].astype(np.float64), 0) / DOUBT)
        factor = recording.clip_factor[:rows, -1].astype(np.float64)
        size = recording.statistic("abs_mean")[:rows, -1].astype(np.float64) / np.maximum(factor, LEAST_FACTOR)
        held = size / np.maximum(size, np.fmax.accumulate(size) / SOFTMAX_ROOM)
    shares: Floats = theory.softmax_residual(recording)[:rows] * doubt * np.nan_to_num(held, nan=1.0)
    return shares


def _homogeneity(recording: Recording, e: Experiment, rows: int) -> Floats:
    least = float(np.sqrt(np.finfo(e.dtype).tiny, dtype=np.float64))
    return theory.homogeneity_residual(recording, least)[:rows]


def _adam_first_step(recording: Recording, _: Experiment, rows: int) -> Floats:
    return np.array([theory.first_step_residual(recording)] if rows else [])


def _adam_moments(recording: Recording, e: Experiment, rows: int) -> Floats:
    """How far |m| is above what it can be beside v, for any gradients whatever (Cauchy-Schwarz over the steps).

    An audit compares the moments of a layer by their norm. Where v is next to nothing, very little m would throw the
    weights so far that what follows can be compared with nothing.
    """
    taken = np.flatnonzero((recording.checkpoint_iteration > 0) & (recording.checkpoint_iteration <= rows))
    at = [recording.origin.moments.index(name) for name in moments_of(e)]
    mean, square = recording.checkpoint_moments[taken][:, at].astype(np.float64).swapaxes(0, 1)
    most = 0.1 / np.sqrt(0.001 * (1 - 0.9**2 / 0.999)) * np.sqrt(square) + UNDERFLOW
    above = np.zeros(rows)
    above[recording.checkpoint_iteration[taken].astype(int) - 1] = np.maximum(np.abs(mean) / most - 1, 0).max(axis=1)
    return above


def _sgd_step(recording: Recording, e: Experiment, rows: int) -> Floats:
    """|update - lr * gradient| for their norms; both ends of a step are rounded."""
    update, step, weights = _lengths(recording, e, rows)
    ends = np.maximum(weights, update)
    return np.abs(update - step) / (step + ends + np.finfo(np.float64).tiny)


def _sgd_norm(recording: Recording, e: Experiment, rows: int) -> Floats:
    """|w'|^2 = |w|^2 - 2 lr <w, g> + lr^2 |g|^2 (T3 of a network with biases: each layer by itself)."""
    _, step, weights = (values**2 for values in _lengths(recording, e, rows))
    along = 2 * e.learning_rate * recording.weight_dot_gradient[: max(rows - 1, 0)].astype(np.float64)
    difference = weights[1:] - weights[:-1] + along - step[:-1]
    return np.abs(difference) / (weights[1:] + weights[:-1] + step[:-1] + np.finfo(np.float64).tiny)


def _lengths(recording: Recording, e: Experiment, rows: int) -> tuple[Floats, Floats, Floats]:
    """(rows, L) the norm of the update, lr times that of the gradient, and that of the weights before."""
    step = e.learning_rate * recording.statistic("norm")[:rows].astype(np.float64)
    return recording.update_norm[:rows].astype(np.float64), step, recording.weight_norm[:rows].astype(np.float64)


def _clipped(recording: Recording, e: Experiment, rows: int) -> Floats:
    """How far the gradients are above the size to which they were clipped, and factors above 1; without clipping, how
    far the factors are from 1."""
    factor = recording.clip_factor[:rows].astype(np.float64)
    norms, largest = (recording.statistic(name)[:rows].astype(np.float64) for name in ("norm", "abs_max"))
    if e.clip_norm is not None:  # the weights' part is no longer than all of it
        above = np.sqrt((norms**2).sum(axis=1, keepdims=True)) / e.clip_norm - 1
    elif e.clip_each is not None:
        above = norms / e.clip_each - 1
    elif e.clip_value is not None:
        above = largest / e.clip_value - 1
    else:
        return np.abs(factor - 1)
    residuals: Floats = np.maximum(np.maximum(above, factor - 1), 0)
    return residuals


IDENTITIES: Mapping[str, Identity] = {
    "softmax": Identity("the gradient of the last layer adds up to 0 over the classes", SOFTMAX_ROOM, _softmax),
    "homogeneity": Identity(
        "sum w * gradient of a layer is that of the one before it plus its sum b * gradient", 300, _homogeneity
    ),
    "adam_first_step": Identity("Adam's first step is -lr g / (|g| + 1e-8)", 10_000, _adam_first_step),
    "adam_moments": Identity(
        "Adam's mean of g is at most 7.27 times the root of its mean of g^2", 10_000, _adam_moments
    ),
    "sgd_step": Identity("a step of SGD is the learning rate times the gradient", 100, _sgd_step),
    "sgd_norm": Identity("after a step of SGD, |w|^2 is |w|^2 - 2 lr <w, g> + lr^2 |g|^2", 500, _sgd_norm),
    "clipped": Identity("a gradient is no larger than the size to which it is clipped", 100, _clipped),
}
