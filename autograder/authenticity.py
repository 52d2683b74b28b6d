"""Is a recording what it says it is: this student's run of this experiment, with the figures that such a run has?

Nothing here compares with a literal. A recording is held against identities that every run obeys, against the start
that the student's seed gives, and against a replay of a few iterations after each of its checkpoints. Each way of
being wrong has its own sentence.
"""

from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from autograder.checks import Failed
from labkit.experiments import Experiment
from labkit.recording import HIDDEN_STATISTICS, STATISTICS, Recording, checkpoint_iterations
from labkit.replay import ProbeReplay, Replay, probe, replay, start_of

Floats = NDArray[np.float64]

# Honest float32 runs are within 1e-6 of a layer's own spread of the replay in float64 (benchmarks/replay_noise.py);
# a wrong gradient is off by a tenth of it and more.
TOLERANCE = 1e-3
STEPS = 2  # iterations replayed after each checkpoint
# What float32 cannot hold, or not the square of, may still be a number in the replay's float64; then it is beyond this.
_HUGE = 1e30
LEAP = 0.5  # of a layer's own norm; a training that learns moves its weights by a hundredth of it and less
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
    has_its_checkpoints(recording, experiment, rows)
    starts_from_seed(recording, experiment)
    checkpoints_agree(recording, rows)
    replays(recording, experiment, rows)
    probes_agree(recording, experiment, rows)
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
            f"this is another student's run: it was trained with the seed {found.seed} as {_id(found.student)}, "
            f"yours is {expected.seed}, as {_id(expected.student)}",
            "Type the id under which you hand in, in the first cell, then run all cells again.",
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


def _id(student: str) -> str:
    return repr(student[:40]) if student else "nobody"


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


def has_its_checkpoints(recording: Recording, experiment: Experiment, rows: int) -> None:
    """The recorder decides where checkpoints are taken, not the file: whoever leaves some out has figures to hide."""
    taken, done = recording.checkpoint_iteration.tolist(), recording.iterations
    expected = [at for at in checkpoint_iterations(experiment) if at < done]
    if taken != [*expected, done]:
        raise Failed("its checkpoints are not those that a training leaves", _ADVICE)
    kept = recording.checkpoint_iteration < rows
    if not np.isfinite(recording.checkpoint_parameters[kept]).all():
        raise Failed("a checkpoint holds values that are not finite, where the loss still is", _ADVICE)


def checkpoints_agree(recording: Recording, rows: int) -> None:
    """From one checkpoint to the next no layer moves further than its updates together (triangle inequality)."""
    taken = [at for at in recording.checkpoint_iteration.tolist() if at <= rows]
    layers = [f"{layer}.weight" for layer in recording.layers]
    kept = [recording.checkpoint(index) for index in range(len(taken))]
    for index, (start, stop) in enumerate(pairwise(taken)):
        moved = np.array([np.linalg.norm(kept[index + 1][name] - kept[index][name]) for name in layers])
        room = recording.update_norm[start:stop].astype(np.float64).sum(axis=0)
        if np.isfinite(moved).all() and not (moved <= room * (1 + ROUNDING) + 1e-6).all():
            raise Failed(f"between iterations {start} and {stop} its weights moved further than all updates", _ADVICE)
    last = np.array([np.linalg.norm(kept[-1][name]) for name in layers])
    if taken[-1] == recording.iterations == rows:
        room = recording.update_norm[-1] * (1 + ROUNDING) + last * ROUNDING
        if not (np.abs(last - recording.weight_norm[-1]) <= room).all():
            raise Failed("its last checkpoint does not follow from its last iteration", _ADVICE)


def probes_agree(recording: Recording, experiment: Experiment, rows: int) -> None:
    """Hold what the probe batch showed against the checkpoints that were taken at the same time."""
    ends = [0, *recording.epoch_end.tolist()]
    for checkpoint, taken in enumerate(recording.checkpoint_iteration.tolist()):
        if taken in ends and (taken == 0 or taken <= rows):
            with np.errstate(over="ignore", invalid="ignore"):
                _compare_probe(recording, ends.index(taken), probe(recording, checkpoint, experiment))


def _compare_probe(recording: Recording, row: int, again: ProbeReplay) -> None:
    size = HIDDEN_STATISTICS.index("abs_mean")
    tests: tuple[tuple[str, Floats, Floats], ...] = (
        ("the probe's loss", recording.probe_loss[row], np.array(again.loss)),
        ("mean |p - y|", recording.output_error[row], np.array(again.output_error)),
        ("mean |h|", recording.hidden[row, :, size], again.hidden_size),
        ("the probe's mean |gradient|", recording.probe_gradient[row, :, _SIZE], again.gradient[:, _SIZE]),
        ("the probe's norm of the gradient", recording.probe_gradient[row, :, _NORM], again.gradient[:, _NORM]),
    )
    for what, found, true in tests:
        if not (np.abs(found - true) <= TOLERANCE * np.abs(true) + np.finfo(np.float32).tiny).all():
            raise Failed(f"{what} after epoch {row} is not what a replay of your run gives", _ADVICE)
    # an image whose two best classes are equally likely may fall to either side
    if not abs(float(recording.accuracy[row]) - again.accuracy) <= 0.01:
        raise Failed(f"the probe's accuracy after epoch {row} is not what a replay of your run gives", _ADVICE)


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
        if start < rows:
            with np.errstate(over="ignore", invalid="ignore"):  # a run that explodes does so in the replay, too
                again = replay(recording, checkpoint, min(steps, rows - start), experiment)
            _compare(recording, _before_a_leap(again))


def _before_a_leap(again: Replay) -> Replay:
    """The iterations up to the first step that throws weights further than they are large: it makes the rounding of
    float32 as large, and what follows another run."""
    leaps = np.flatnonzero(~(again.update_norm <= LEAP * again.weight_norm).all(axis=1))
    stop = int(leaps[0]) + 1 if leaps.size else len(again.loss)
    arrays = {name: getattr(again, name)[:stop] for name in ("loss", "gradient", "update_norm", "weight_norm")}
    return Replay(again.start, **arrays)


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
    limit = TOLERANCE * spread + np.finfo(np.float32).tiny
    size_off = np.abs(recorded[:, :, _SIZE] - again.gradient[:, :, _SIZE])
    mean_off = np.abs(recorded[:, :, _MEAN] - again.gradient[:, :, _MEAN])
    tiny = np.finfo(np.float32).tiny  # a network that died has gradients and updates of exactly 0
    norm, updates, weights = again.gradient[:, :, _NORM], again.update_norm, again.weight_norm
    tests: tuple[tuple[str, Floats, Floats], ...] = (
        ("mean |gradient|", size_off, limit),
        ("the mean gradient", mean_off, limit),
        ("the norm of the gradient", np.abs(recorded[:, :, _NORM] - norm), TOLERANCE * norm + tiny),
        ("the norm of the weights", np.abs(recording.weight_norm[stretch] - weights), TOLERANCE * weights + tiny),
        ("the norm of the update", np.abs(recording.update_norm[stretch] - updates), 10 * TOLERANCE * updates + tiny),
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
    elsewhere = _stands_at(recording, again.gradient[row])
    if elsewhere not in (None, iteration - 1):
        return Failed(
            f"its iterations are not in the order in which they happened: the gradients of iteration {iteration} stand "
            f"at iteration {(elsewhere or 0) + 1}",
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
