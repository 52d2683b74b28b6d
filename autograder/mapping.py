"""Is a map of trainability what it says it is: this student's, of the assignment's networks, with what came of them?

Every network of a map follows from the student's seed. So a grader draws some, in secret, and computes them again: of
many the gradients at the start, of some the whole training, in numpy. Which are drawn follows from a salt that no
student knows and from the map's digest.

A map with a share f of invented fields passes with a probability of about (1 - f)^RUNS; nobody gains by a single one.
Fields whose trainings part by rounding alone count among the honest ones from there on; of the coarse maps that were
looked at (benchmarks/map_fields.py) none that learnt is among them.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autograder.audit import draw
from autograder.authenticity import differs
from autograder.checks import Failed
from labkit import maps, retraining
from labkit.experiments import Experiment
from labkit.maps import Grid, Map
from labkit.retraining import Retraining

STARTS, RUNS = 12, 4  # fields of which the start, and the whole training, are computed again
# Hidden layers times iterations of one retraining: 3 s. It is the whole of the deepest network of a coarse map, for an
# accuracy is compared at the end alone; what takes longer is run for as many iterations.
LAYERS = 20_000
# Gradients at the start are computed in float64, so other libraries' products agree within 1e-15: nearly always. In 200
# layers of a chaotic network that becomes percents; there, UNSURE times what a start shows that is moved by a rounding.
START, UNSURE = 1e-4, 100.0
# Of a loss of order 1. Maps are trained in float64 and hold losses in float32, so honest ones are within 1e-7 where
# rounding is not amplified. Where it is, one training takes leave of another within a few iterations, sooner or later:
# so they are within SPREAD times what trainings that differ by rounding are apart AHEAD iterations later.
LOSS, SPREAD, AHEAD = 1e-6, 10.0, 3
LOST = 0.01  # nats; this far apart, trainings have nothing in common any more
VOTES = 2  # images; honest trainings that agree differ by none
STORMY = 0.15  # of an accuracy at the end of a training that rounding has led elsewhere
FOLLOWED = 1e-4  # of a loss of order 1; a recording that stays within it to its end was not led elsewhere
HUGE = 1e4  # nats; the next step of such a network can lead anywhere
_ADVICE = "Delete the file, run the cell that makes the map again, and hand in what it saves."


@dataclass(frozen=True)
class AskedMap:
    """The map that has to be handed in."""

    base: Experiment
    grid: Grid


def examine(found: Map, asked: AskedMap, salt: bytes | None = None) -> None:
    """Raise `Failed` unless the map is an honest one of the networks that are asked for."""
    if (failure := _failure(found, asked, secrets.token_bytes(16) if salt is None else salt)) is not None:
        raise Failed(failure.found, failure.help)


@lru_cache(maxsize=16)
def _failure(found: Map, asked: AskedMap, salt: bytes) -> Failed | None:
    """What is wrong with a map, kept because several questions ask it of the same one."""
    try:
        is_asked_for(found, asked)
        holds_together(found)
        every = range(found.accuracy.size)
        starts_from_seed(found, draw(salt, f"{found.digest} start", every, STARTS))
        trained(found, draw(salt, f"{found.digest} run", every, RUNS))
    except Failed as failure:
        return failure
    return None


def is_asked_for(found: Map, asked: AskedMap) -> None:
    """The student's own seed, the assignment's networks and budget, all of the grid."""
    grid = asked.grid
    differs(found.base, asked.base, "map")
    missing = [depth for depth in grid.depths if depth not in found.depths]
    if missing and set(found.depths) < set(grid.depths) and found.variances == grid.variances:
        raise Failed(
            f"it is not finished: it lacks the networks with {_listed(missing)} hidden layers",
            "Run the cell that makes the map again: it goes on where it was.",
        )
    for what, has, wants in (("depths", found.depths, grid.depths), ("variances", found.variances, grid.variances)):
        if tuple(has) != tuple(wants):
            raise Failed(f"it has the {what} {_listed(has)}; the assignment has {_listed(wants)}", _ADVICE)


def _listed(values: Sequence[float]) -> str:
    some = ", ".join(f"{one:g}" for one in values[:12])
    return f"{some}, ..." if len(values) > 12 else some or "(none)"


def holds_together(found: Map) -> None:
    """What every training leaves: losses above 0, shares of images, gradients in every layer and none beyond."""
    finite = np.isfinite(found.loss)
    broken = ~finite.all(axis=2)
    first = np.where(broken, finite.argmin(axis=2), finite.shape[2])
    before = np.arange(finite.shape[2]) < first[..., None]
    depth = np.broadcast_to(np.array(found.depths)[:, None], found.accuracy.shape)
    inside = np.arange(found.start.shape[2]) <= depth[..., None]
    images = found.accuracy * found.base.observations
    laws: tuple[tuple[str, Any], ...] = (
        ("a loss is below 0", ~(before & (found.loss < 0)).any(axis=2)),
        ("it has an accuracy, and yet its loss is no number in the end", ~broken | np.isnan(found.accuracy)),
        ("its accuracy is no number, and yet its loss is one to the end", broken | np.isfinite(found.accuracy)),
        (
            "its accuracy is no share of the training images",
            broken | ((found.accuracy >= 0) & (found.accuracy <= 1) & (np.abs(images - np.round(images)) < 1e-6)),
        ),
        ("a gradient at the start is missing, or below 0", (~inside | (found.start >= 0)).all(axis=2)),
        ("it has gradients of layers that it has not", (inside | np.isnan(found.start)).all(axis=2)),
    )
    for wrong, holds in laws:
        if not holds.all():
            d, v = (int(index) for index in np.argwhere(~holds)[0])
            raise Failed(f"{_where(found, d, v)}: {wrong}", _ADVICE)


def _where(found: Map, d: int, v: int) -> str:
    return f"in the network with {found.depths[d]} hidden layers at sigma_w^2 = {found.variances[v]:g}"


def starts_from_seed(found: Map, drawn: Sequence[int]) -> None:
    """The gradients at the start follow from the seed."""
    for index in drawn:
        d, v = divmod(index, len(found.variances))
        e, has = found.cell(d, v), found.start_of(d, v)
        want = maps.at_start(e)
        if (_off(has, want) <= START).all():
            continue
        off = ~(_off(has, want) <= START + UNSURE * _off(maps.at_start(e, maps.ROUNDED), want))
        off |= np.isfinite(want) & (want > 0) & ~(np.isfinite(has) & (has > 0))
        if off.any():
            layer = int(np.argmax(off))
            raise Failed(
                f"{_where(found, d, v)} the gradient of layer {layer + 1} at the start is {has[layer]:.4g}, "
                f"your seed gives {want[layer]:.4g}",
                _ADVICE,
            )


def _off(has: NDArray[np.float64], want: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each layer, as a share of what is wanted."""
    with np.errstate(invalid="ignore"):
        off = np.abs(has - want) / np.maximum(want, np.finfo(np.float64).tiny)
    return np.where(has == want, 0.0, off)


def trained(found: Map, drawn: Sequence[int]) -> None:
    """Losses and accuracy are what training gives, as far as rounding allows to tell."""
    for index in drawn:
        d, v = divmod(index, len(found.variances))
        e = found.cell(d, v)
        steps = max(1, min(e.iterations, LAYERS // found.depths[d]))
        again = retraining.retrain(e, steps=steps)
        if (wrong := _unlike(found, (d, v), again, np.zeros(steps), 0.0)) is not None:
            apart = retraining.spread(e, again)
            soon = apart.loss[np.minimum(np.arange(steps) + AHEAD, steps - 1)]
            wrong = _unlike(found, (d, v), again, np.where(soon < LOST, soon, np.inf), apart.accuracy)
        if wrong is not None:
            raise Failed(f"{_where(found, d, v)} {wrong}", _ADVICE)


def _unlike(found: Map, at: tuple[int, int], again: Retraining, apart: NDArray[np.float64], votes: float) -> str | None:
    """The first figure that is off, in words."""
    has, want = found.loss[at][: len(again.loss)].astype(np.float64), again.loss
    # in a storm losses are anything, but not beyond all bounds where those of the retraining stay within them
    lost = np.isinf(apart) & ((has <= HUGE) | bool(~(want <= HUGE).all()))
    with np.errstate(invalid="ignore"):
        off = np.abs(has - want) / np.maximum(1, np.abs(want))
        near = off <= LOSS + SPREAD * np.where(np.isinf(apart), 0, apart)
    # of a loss that goes beyond all bounds, rounding decides at which step it is no number any more
    near |= lost | (~(has <= HUGE) & ~(want <= HUGE))
    if not near.all():
        step = int(np.argmin(near))
        return (
            f"the loss of iteration {step + 1} is recorded as {has[step]:.4g}, training it again gives {want[step]:.4g}"
        )
    accuracy = float(found.accuracy[at])
    if len(want) < found.base.iterations or np.isnan(again.accuracy) or np.isnan(accuracy):
        return None
    elsewhere = apart[-1] > LOST / 10 and not (off <= FOLLOWED).all()
    if not abs(accuracy - again.accuracy) <= (STORMY if elsewhere else VOTES / found.base.observations + 2 * votes):
        return f"the accuracy is recorded as {accuracy:.4g}, training it again gives {again.accuracy:.4g}"
    return None
