"""Is a recording what it says it is: this student's run of this experiment, with the figures that such a run has?

Nothing here compares with a literal. A recording is held against identities that every run obeys, against the start
that the student's seed gives, and against a replay of a few iterations after each of its checkpoints. Each way of
being wrong has its own sentence.
"""

from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from autograder.checks import Failed
from labkit.experiments import Experiment
from labkit.recording import STATISTICS, Recording
from labkit.replay import Replay, replay, start_of

Floats = NDArray[np.float64]

# Honest float32 runs are within 1e-6 of a layer's own spread of the replay in float64 (benchmarks/replay_noise.py);
# a wrong gradient is off by a tenth of it and more.
TOLERANCE = 1e-3
STEPS = 2  # iterations replayed after each checkpoint
# What float32 cannot hold, or not the square of, may still be a number in the replay's float64; then it is beyond this.
_HUGE = 1e30
# Statistics of a float32 layer contradict each other by rounding only.
ROUNDING = 1e-4

_MEAN, _SIZE, _SD, _NORM, _MAX, _ZEROS, _NONFINITE = range(len(STATISTICS))
_ADVICE = "Run the training cell again and hand in the file that it saves."


def examine(recording: Recording, expected: Experiment, open_fields: tuple[str, ...] = ()) -> None:
    """Raise `Failed` unless the recording is an honest run of `expected`, whose `open_fields` the student chooses."""
    if (finding := _finding(recording, expected, open_fields)) is not None:
        raise Failed(finding.found, finding.help)


@lru_cache(maxsize=16)
def _finding(recording: Recording, expected: Experiment, open_fields: tuple[str, ...]) -> Failed | None:
    """What is wrong with a recording, kept because several questions ask it of the same one."""
    try:
        _examine(recording, expected, open_fields)
    except Failed as failure:
        return failure
    return None


def _examine(recording: Recording, expected: Experiment, open_fields: tuple[str, ...]) -> None:
    experiment = same_experiment(recording, expected, open_fields)
    ran_to_its_end(recording, experiment)
    finite = np.isfinite(recording.gradient).all(axis=(1, 2)) & np.isfinite(recording.loss)
    rows = int(finite.argmin()) if not finite.all() else len(finite)  # iterations before the first that is not finite
    for look in (not_zero, gradients_not_weights, statistics_agree, in_order):
        look(recording, rows)
    starts_from_seed(recording, experiment)
    replays(recording, experiment, rows)
    if rows < recording.iterations:
        breaks_down(recording, experiment, rows)


def same_experiment(recording: Recording, expected: Experiment, open_fields: tuple[str, ...] = ()) -> Experiment:
    """The experiment that the grader runs: `expected`, with the student's choice for the open fields."""
    found = recording.origin.experiment
    if found is None:
        raise Failed(
            "the recording does not say which experiment it follows",
            "Pass the experiment to the Recorder or to train.",
        )
    if found.seed != expected.seed:
        raise Failed(
            f"this is another student's run: its seed is {found.seed}, yours is {expected.seed}",
            "Type your own id in the first cell, then train again.",
        )
    for field in fields(Experiment):
        name = field.name
        if name in ("name", "student", *open_fields):
            continue
        if getattr(found, name) != getattr(expected, name):
            raise Failed(
                f"this is a run of another experiment: its {name} is {getattr(found, name)}, "
                f"the assignment has {getattr(expected, name)}",
                _ADVICE,
            )
    return expected.replace(**{name: getattr(found, name) for name in open_fields})


def ran_to_its_end(recording: Recording, experiment: Experiment) -> None:
    if recording.complete and recording.iterations == experiment.iterations and recording.epochs == experiment.epochs:
        return
    if "not finite" in recording.origin.stopped and not np.isfinite(recording.loss).all():
        return
    raise Failed(
        f"it has {recording.iterations:,} iterations in {recording.epochs} epochs, the assignment needs "
        f"{experiment.iterations:,} in {experiment.epochs}",
        f"It says: {recording.origin.stopped}. {_ADVICE}" if recording.origin.stopped else _ADVICE,
    )


def not_zero(recording: Recording, rows: int) -> None:
    sizes = recording.gradient[:rows, :, _MAX]
    for layer, name in enumerate(recording.layers):
        if rows and not (sizes[:, layer] > 0).any():
            raise Failed(
                f"every gradient of {name} is exactly 0, at all {rows:,} iterations",
                "Gradients that vanish are small, never all zero: was it recorded before backward() was called?",
            )


def gradients_not_weights(recording: Recording, rows: int) -> None:
    norm, weights = recording.gradient[:rows, :, _NORM], recording.weight_norm[:rows]
    same = np.isclose(norm, weights, rtol=1e-3, atol=0).mean(axis=0)
    for layer, name in enumerate(recording.layers):
        if rows and same[layer] > 0.5:
            raise Failed(
                f"what is recorded as the gradient of {name} are its weights: both have the norm {norm[-1, layer]:.3g}",
                "Record parameter.grad, not the parameter.",
            )


def statistics_agree(recording: Recording, rows: int) -> None:
    """|mean| <= mean |.| <= rms <= max |.| and sd^2 = rms^2 - mean^2 hold for any numbers whatever."""
    g = recording.gradient[:rows].astype(np.float64)
    count = np.array([np.prod(shape) for shape in recording.origin.shapes], dtype=np.float64)
    rms = g[:, :, _NORM] / np.sqrt(count)
    slack = rms * ROUNDING
    spread = np.abs(g[:, :, _SD] ** 2 + g[:, :, _MEAN] ** 2 - rms**2) <= ROUNDING * rms**2
    laws: tuple[tuple[str, NDArray[np.bool_]], ...] = (
        ("|mean| is larger than mean |gradient|", np.abs(g[:, :, _MEAN]) <= g[:, :, _SIZE] + slack),
        ("mean |gradient| is larger than the root mean square", g[:, :, _SIZE] <= rms + slack),
        ("the root mean square is larger than max |gradient|", rms <= g[:, :, _MAX] + slack),
        ("mean, sd and norm do not belong to the same numbers", spread),
        (
            "the share of zeros is not between 0 and 1",
            (g[:, :, _ZEROS] >= -ROUNDING) & (g[:, :, _ZEROS] <= 1 + ROUNDING),
        ),
    )
    for wrong, holds in laws:
        if not holds.all():
            iteration, layer = (int(index) for index in np.argwhere(~holds)[0])
            raise Failed(
                f"the statistics of {recording.layers[layer]} contradict each other "
                f"at iteration {iteration + 1}: {wrong}",
                "Is a signed value recorded where an absolute one belongs?",
            )


def in_order(recording: Recording, rows: int) -> None:
    """A norm cannot change by more than the norm of the update (triangle inequality)."""
    if rows < 2:
        return
    norms = recording.weight_norm[:rows].astype(np.float64)
    change = np.abs(np.diff(norms, axis=0))
    room = recording.update_norm[: rows - 1] * (1 + ROUNDING) + norms[:-1] * 1e-6
    wrong = np.flatnonzero((~(change <= room)).any(axis=1))
    if wrong.size:
        raise Failed(
            "its iterations are not in the order in which they happened: "
            f"after iteration {wrong[0] + 1} the weights changed by more than their update; "
            f"so it is at {wrong.size:,} of {rows - 1:,} iterations",
            _ADVICE,
        )


def starts_from_seed(recording: Recording, experiment: Experiment) -> None:
    taken = recording.checkpoint_iteration.tolist()
    if not taken or taken[0] != 0:
        raise Failed("it has no checkpoint of the network before its first iteration", _ADVICE)
    kept, start = recording.checkpoint_parameters[0].astype(np.float64), start_of(experiment)
    if kept.shape != start.shape or not np.abs(kept - start).max() <= 1e-6 * max(1.0, float(np.abs(start).max())):
        raise Failed(
            "it does not start from the weights that your seed gives",
            "Make the network with labkit.networks.of_experiment from your own experiment, and train it once.",
        )


def replays(recording: Recording, experiment: Experiment, rows: int, steps: int = STEPS) -> None:
    """Hold the iterations after every checkpoint against a replay."""
    for checkpoint, start in enumerate(recording.checkpoint_iteration.tolist()):
        if start < rows and np.isfinite(recording.checkpoint_parameters[checkpoint]).all():
            with np.errstate(over="ignore", invalid="ignore"):  # a run that explodes does so in the replay, too
                again = replay(recording, checkpoint, min(steps, rows - start), experiment)
            _compare(recording, again)


def breaks_down(recording: Recording, experiment: Experiment, rows: int) -> None:
    """A run that says it was no longer finite at iteration `rows` + 1 must be so in a replay, too."""
    before = np.flatnonzero(recording.checkpoint_iteration <= rows)
    start = int(recording.checkpoint_iteration[before[-1]])
    with np.errstate(over="ignore", invalid="ignore"):
        again = replay(recording, int(before[-1]), rows - start + 1, experiment)
    loss, largest = float(again.loss[-1]), float(again.gradient[-1, :, _NORM].max())
    if abs(loss) < _HUGE and largest < np.sqrt(_HUGE):
        raise Failed(
            f"it says that the loss is no longer a number at iteration {rows + 1}, "
            f"a replay of your run gives {loss:.4g}",
            _ADVICE,
        )


def _compare(recording: Recording, again: Replay) -> None:
    stretch = slice(again.start, again.start + len(again.loss))
    recorded = recording.gradient[stretch].astype(np.float64)
    spread = again.gradient[:, :, _SD]
    limit = TOLERANCE * np.maximum(spread, np.finfo(np.float64).tiny)
    size_off = np.abs(recorded[:, :, _SIZE] - again.gradient[:, :, _SIZE])
    mean_off = np.abs(recorded[:, :, _MEAN] - again.gradient[:, :, _MEAN])
    norm_off = np.abs(recorded[:, :, _NORM] / again.gradient[:, :, _NORM] - 1)
    tests: tuple[tuple[str, Floats, Floats | float], ...] = (
        ("mean |gradient|", size_off, limit),
        ("the mean gradient", mean_off, limit),
        ("the norm of the gradient", norm_off, TOLERANCE),
        (
            "the norm of the weights",
            np.abs(recording.weight_norm[stretch] / again.weight_norm - 1),
            TOLERANCE,
        ),
        (
            "the norm of the update",
            np.abs(recording.update_norm[stretch] / again.update_norm - 1),
            10 * TOLERANCE,
        ),
    )
    for what, off, allowed in tests:
        if not (off <= allowed).all():
            raise _mismatch(
                recording, again, recorded, what, *(int(index) for index in np.argwhere(~(off <= allowed))[0])
            )
    loss_off = np.abs(recording.loss[stretch] - again.loss)
    if not (loss_off <= TOLERANCE * np.maximum(again.loss, 1e-3)).all():
        row = int((~(loss_off <= TOLERANCE * np.maximum(again.loss, 1e-3))).argmax())
        raise Failed(
            f"the loss at iteration {again.start + row + 1} is recorded as {recording.loss[again.start + row]:.4g}, "
            f"a replay of your run gives {again.loss[row]:.4g}",
            "Record the mean cross-entropy of the mini-batch, at the iteration it belongs to.",
        )


def _mismatch(recording: Recording, again: Replay, recorded: Floats, what: str, row: int, layer: int) -> Failed:
    """Say in which way the recorded gradients are not the replayed ones."""
    iteration, name = again.start + row + 1, recording.layers[layer]
    kinds: tuple[tuple[str, Callable[[Floats, Floats], bool]], ...] = (
        (
            "its signs are flipped: the recorded mean gradients are the negative of the replayed ones",
            lambda r, a: bool(np.allclose(r[..., _MEAN], -a[..., _MEAN], rtol=0.01, atol=0)),
        ),
        (
            "its gradients are scaled: they are {factor:.3g} times those of the replay",
            lambda r, a: bool(np.allclose(r[..., _SIZE] / a[..., _SIZE], _factor(r, a), rtol=0.01)),
        ),
    )
    inner = slice(0, -1) if recorded.shape[1] > 1 else slice(None)  # the last layer's mean is 0 by algebra
    for sentence, fits in kinds:
        r, a = recorded[:, inner], again.gradient[:, inner]
        if "gradient" in what and fits(r, a):
            return Failed(sentence.format(factor=_factor(r, a)) + f", from iteration {again.start + 1} on", _ADVICE)
    if (elsewhere := _stands_at(recording, again.gradient[row])) is not None:
        return Failed(
            f"its iterations are not in the order in which they happened: the gradients of iteration {iteration} stand "
            f"at iteration {elsewhere + 1}",
            _ADVICE,
        )
    columns = {"mean |gradient|": _SIZE, "the mean gradient": _MEAN, "the norm of the gradient": _NORM}
    if what in columns:
        found, true = recorded[row, layer, columns[what]], again.gradient[row, layer, columns[what]]
    else:
        source = "weight_norm" if "weights" in what else "update_norm"
        found, true = getattr(recording, source)[iteration - 1, layer], getattr(again, source)[row, layer]
    return Failed(
        f"{what} of {name} at iteration {iteration} is recorded as {found:.4g}, a replay of your run gives {true:.4g}",
        "Did the loop clear the gradients (zero_grad) before each backward(), and take the mini-batches in order?",
    )


def _stands_at(recording: Recording, true: Floats) -> int | None:
    """The row of the recording that holds these statistics (L, S), if there is one."""
    same = np.isclose(recording.gradient[:, :, _SIZE], true[:, _SIZE], rtol=TOLERANCE, atol=0).all(axis=1)
    return int(same.argmax()) if same.any() else None


def _factor(recorded: Floats, again: Floats) -> float:
    return float(np.median(recorded[..., _SIZE] / again[..., _SIZE]))
