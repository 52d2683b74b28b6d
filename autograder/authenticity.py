"""Is a recording what it says it is: this student's run of this experiment, with the figures that such a run has?

Nothing here compares with a literal. A recording is held against identities that every run obeys, against the start
that the student's seed gives, against the first iteration after each of its checkpoints, run again, and in an audit
against secret stretches of it, run again from end to end. Each way of being wrong has its own sentence.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from autograder import audit, identities
from autograder.audit import STRETCHES, Finding
from autograder.checks import Failed
from labkit import deviations
from labkit.counts import counted
from labkit.deviations import OF_ITERATIONS, OF_PROBES
from labkit.experiments import Experiment
from labkit.histogram import BINS, LEAST_REACH
from labkit.propagation import Floats
from labkit.recording import STATISTICS, Recording, checkpoint_iterations
from labkit.replay import Replay, has_network_of, matrices_of, moments_of, probe, replay, start_of

# What float32 cannot hold, or not the square of, may still be a number in the replay's float64; then it is beyond this.
_HUGE = 1e30
# Statistics of a float32 layer contradict each other by rounding only.
ROUNDING = 1e-4
# A start is drawn in float64 and rounded once to the run's own kind of numbers, by half an eps of each weight; what
# libraries differ by beforehand is 1e-13 of the largest (see labkit.initialisations).
START_ROUNDINGS, START_DRAWN = 5, 1e-12
# Of a histogram: two tell no more than what share is below the middle, and a million take gigabytes to compare.
FEWEST_BINS, MOST_BINS = 10, 1000
MOST_SAID = 80  # characters of what a file says of itself

_MEAN, _SIZE, _SD, _NORM, _MAX, _ZEROS, _NONFINITE = range(len(STATISTICS))
_ADVICE = "Run the training cell again and hand in the file that it saves."
_TELLING = ("abs_mean", "mean", "norm")  # mismatches of these say more when they are looked at together


NOBODY = ("", "-")  # the student of what is asked where nobody says who hands in


@dataclass(frozen=True)
class Asked:
    """The run that a recording has to be."""

    experiment: Experiment
    open_fields: tuple[str, ...] = ()  # what the student chooses


def examine(
    recording: Recording,
    expected: Experiment,
    open_fields: tuple[str, ...] = (),
    salt: bytes | None = None,
    stretches: int = STRETCHES,
) -> None:
    """Raise `Failed` unless the recording is an honest run of `expected`, whose `open_fields` the student chooses.

    `salt` decides which stretches are audited; without one, nobody can know.
    """
    salt = secrets.token_bytes(16) if salt is None else salt
    if (finding := _finding(recording, expected, open_fields, salt, stretches)) is not None:
        raise Failed(finding.found, finding.help)


@lru_cache(maxsize=16)
def _finding(
    recording: Recording, expected: Experiment, open_fields: tuple[str, ...], salt: bytes, stretches: int
) -> Failed | None:
    """What is wrong with a recording, kept because several questions ask it of the same one."""
    try:
        experiment, rows = _consistent(recording, expected, open_fields)
        every = audit.stretches_of(recording)
        broken = rows < recording.iterations
        # where a run ends before its end, each of its steps has to lead there
        audited(recording, experiment, tuple(every) if broken else audit.draw(salt, recording.digest, every, stretches))
        if broken:
            breaks_down(recording, experiment, rows)
    except Failed as failure:
        return failure
    return None


def _consistent(recording: Recording, expected: Experiment, open_fields: tuple[str, ...]) -> tuple[Experiment, int]:
    """Everything but the audit; the grader's experiment, and the iterations before the first that is not finite."""
    experiment = same_experiment(recording, expected, open_fields)
    has_its_network(recording, experiment)
    ran_to_its_end(recording, experiment)
    rows = deviations.finite_iterations(recording)
    not_zero(recording, rows)
    gradients_not_weights(recording, rows)
    statistics_agree(recording, experiment, rows)
    in_order(recording, rows)
    has_its_checkpoints(recording, experiment, rows)
    starts_from_seed(recording, experiment)
    checkpoints_agree(recording, rows)
    replays(recording, experiment, rows)
    probes_agree(recording, experiment, rows)
    if rows == recording.iterations:
        bins_reach(recording)
    identities.holds(recording, experiment, rows)
    return experiment, rows


def same_experiment(recording: Recording, expected: Experiment, open_fields: tuple[str, ...] = ()) -> Experiment:
    """The experiment that the grader runs: `expected`, with the student's choice for the open fields."""
    found = recording.origin.experiment
    if found is None:
        raise Failed(
            "the recording does not say which experiment it follows",
            "Pass the experiment to the Recorder or to train.",
        )
    differs(found, expected, "run", open_fields)
    return expected.replace(**{name: getattr(found, name) for name in open_fields})


def differs(found: Experiment, expected: Experiment, what: str, open_fields: tuple[str, ...] = ()) -> None:
    """Raise `Failed` where a run, or a map, says of itself that it is another's or of another experiment."""
    if found.seed != expected.seed and expected.student in NOBODY:
        raise Failed(
            f"the notebook does not say whose it is; this {what} was trained as {_id(found.student)}",
            'Give the id under which you hand in, student = "...", then run all cells again.',
        )
    if found.seed != expected.seed:
        raise Failed(
            f"this is another student's {what}: it was trained with the seed {_said(found.seed)} "
            f"as {_id(found.student)}, yours is {expected.seed}, as {_id(expected.student)}",
            "Type the id under which you hand in, under 'Who are you?', then run all cells again.",
        )
    for field in fields(Experiment):
        name = field.name
        if name in ("name", "student", *open_fields):
            continue
        if getattr(found, name) != getattr(expected, name):
            raise Failed(
                f"this is a {what} of another experiment: its {name} is {_said(getattr(found, name))}, "
                f"the assignment has {getattr(expected, name)}",
                _ADVICE,
            )


def _id(student: str) -> str:
    return repr(student[:40]) if student else "nobody"


def _said(value: object) -> str:
    """One printable line, and no long one, of what a file says."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(value)[: MOST_SAID + 1])
    return text if len(text) <= MOST_SAID else f"{text[: MOST_SAID - 1]}…"


def has_its_network(recording: Recording, experiment: Experiment) -> None:
    if not has_network_of(recording, experiment):
        raise Failed("the recorded network is not the experiment's", "Build it as the assignment has it.")
    bins = {getattr(recording, name).shape[-1] for name in ("batch_counts", "probe_counts", "weight_counts")}
    if not min(bins) >= FEWEST_BINS:
        raise Failed(
            f"its histograms have {min(bins)} bins, too few to tell one training from another",
            f"Leave the Recorder's bins at {BINS}, and train it again.",
        )
    if not max(bins) <= MOST_BINS:
        raise Failed(
            f"its histograms have {max(bins):,} bins, a grader compares {MOST_BINS:,}",
            f"Leave the Recorder's bins at {BINS}, and train it again.",
        )
    if recording.origin.moments != moments_of(experiment):
        raise Failed(
            f"it was not trained with {experiment.optimizer.capitalize()}: its checkpoints hold other moments",
            "Make the optimiser as the assignment has it, and pass it to the Recorder.",
        )


def ran_to_its_end(recording: Recording, experiment: Experiment) -> None:
    if recording.complete and recording.iterations == experiment.iterations and recording.epochs == experiment.epochs:
        return
    broke_down = "not finite" in recording.origin.stopped and not np.isfinite(recording.loss).all()
    if broke_down and recording.iterations <= experiment.iterations:
        return
    raise Failed(
        f"it has {counted(recording.iterations, 'iteration')} in {counted(recording.epochs, 'epoch')}, "
        f"the assignment needs {experiment.iterations:,} in {experiment.epochs}",
        f"It says: {_said(recording.origin.stopped)}. {_ADVICE}" if recording.origin.stopped else _ADVICE,
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


def statistics_agree(recording: Recording, experiment: Experiment, rows: int) -> None:
    """|mean| <= mean |.| <= rms <= max |.| and sd^2 = rms^2 - mean^2 hold for any numbers whatever, but that a square
    below the least number of their kind may be 0."""
    g = recording.gradient[:rows].astype(np.float64)
    count = np.array([np.prod(shape) for shape in recording.origin.shapes], dtype=np.float64)
    rms = g[:, :, _NORM] / np.sqrt(count)
    lost = float(np.finfo(experiment.dtype).tiny)  # of a mean of squares
    slack = rms * ROUNDING + np.sqrt(lost)
    spread = np.abs(g[:, :, _SD] ** 2 + g[:, :, _MEAN] ** 2 - rms**2) <= ROUNDING * rms**2 + 2 * lost
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
    ends, length = recording.epoch_end.tolist(), experiment.iterations_per_epoch
    whole = list(range(length, done + 1, length))
    # what no epoch ends with is compared with nothing: only where a run stopped may its last epoch be cut or left open
    if ends not in (whole, sorted({*whole, done}), [at for at in whole if at < done]):
        raise Failed("its epochs do not end where the assignment's do", _ADVICE)
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


def bins_reach(recording: Recording) -> None:
    """Common bins reach to the power of two above the largest value: on wider ones rounding decides about all."""
    ends = np.isin(recording.checkpoint_iteration, [0, *recording.epoch_end])
    parts = matrices_of(recording.checkpoint_parameters[ends], recording.origin)
    weights = np.array([np.abs(w).max() for w, _ in parts], dtype=np.float64)
    gradients = recording.probe_gradient[:, :, _MAX].astype(np.float64).max(axis=0)
    for what, reach, largest in (
        ("weights", recording.weight_range, weights),
        ("probe's gradient", recording.probe_range, gradients),
    ):
        # values that are not finite at a run's end say nothing of those beside them
        most = np.maximum(2 * (1 + ROUNDING) * np.where(np.isfinite(largest), largest, np.inf), LEAST_REACH)
        wide = np.isfinite(reach) & (reach > most)
        if wide.any():
            raise Failed(
                f"the histogram of the {what} of {recording.layers[int(wide.argmax())]} reaches further than its "
                "values do",
                _ADVICE,
            )


def probes_agree(recording: Recording, experiment: Experiment, rows: int) -> None:
    """Hold what the probe batch showed against the checkpoints that were taken at the same time."""
    ends = {0, *recording.epoch_end.tolist()}
    taken = recording.checkpoint_iteration.tolist()
    chosen = [index for index, at in enumerate(taken) if at in ends and (at == 0 or at <= rows)]
    off = deviations.of_probes(recording, probe(recording, chosen, experiment), chosen)
    # only what is off can have a kink on another side
    left = [chosen[k] for k in np.flatnonzero(np.any([_beyond(off, name) for name in OF_PROBES], axis=0)).tolist()]
    if not left:
        return
    off = deviations.of_probes(recording, deviations.follow_probes(recording, left, experiment), left)
    for name, quantity in OF_PROBES.items():
        for k in np.flatnonzero(_beyond(off, name)).tolist():
            if deviations.calm_probe(recording, left[k], experiment):
                row = int(deviations.probe_rows(recording, left)[k])
                raise Failed(f"{quantity.words} after epoch {row} is not what a replay of your run gives", _ADVICE)


def _beyond(off: dict[str, Floats], name: str) -> NDArray[np.bool_]:
    """(C,) where a quantity deviates by more than is tolerated, or by what is no number."""
    within: NDArray[np.bool_] = (off[name] <= OF_PROBES[name].tolerance).min(axis=-1, initial=True)
    return ~within


def starts_from_seed(recording: Recording, experiment: Experiment) -> None:
    taken = recording.checkpoint_iteration.tolist()
    if not taken or taken[0] != 0:
        raise Failed("it has no checkpoint of the network before its first iteration", _ADVICE)
    kept, start = recording.checkpoint_parameters[0].astype(np.float64), start_of(experiment)
    rounding, size = np.finfo(experiment.dtype), np.abs(start)
    room = START_ROUNDINGS * float(rounding.eps) * size + START_DRAWN * size.max() + float(rounding.smallest_subnormal)
    if kept.shape != start.shape or not (np.abs(kept - start) <= room).all():
        raise Failed(
            "it does not start from the weights that your seed gives",
            "Make the network with labkit.networks.of_experiment from your own experiment, and train it once.",
        )
    if recording.checkpoint_moments[0].any():
        raise Failed("its optimiser did not start anew: there are moments before the first step", _ADVICE)


def replays(recording: Recording, experiment: Experiment, rows: int) -> None:
    """Hold the first iteration after every checkpoint against a replay: gradients and steps follow from these."""
    taken, length = recording.checkpoint_iteration.tolist(), experiment.iterations_per_epoch
    starts = [index for index, at in enumerate(taken) if at < rows]
    # side by side go those whose mini-batches have one size
    groups = [k for k in starts if taken[k] % length == 0], [k for k in starts if taken[k] % length]
    found = [one for chosen in groups if chosen for one in _first_steps(recording, experiment, chosen)]
    if found:
        _, failure = min(found, key=lambda one: one[0])
        raise failure


def _first_steps(recording: Recording, experiment: Experiment, chosen: list[int]) -> list[tuple[int, Failed]]:
    """For each of these checkpoints whose next iteration is not what it should be: its number, and what is wrong."""
    found, _ = audit.mismatches(recording, experiment, chosen, 1)
    return [(one.finding.iteration, _mismatch(recording, one.again, one.finding)) for one in found]


def audited(recording: Recording, experiment: Experiment, stretches: tuple[int, ...]) -> None:
    """Hold whole stretches against their replay."""
    if findings := audit.audit(recording, experiment, stretches).findings:
        raise Failed(findings[0].sentence, _help(findings[0]))


def breaks_down(recording: Recording, experiment: Experiment, rows: int) -> None:
    """A run that says it was no longer finite at iteration `rows` + 1 must be so in a replay, too: in float64, or in
    its own kind of numbers, in which large ones become infinities sooner."""
    before = np.flatnonzero(recording.checkpoint_iteration <= rows)
    start = int(recording.checkpoint_iteration[before[-1]])
    for dtype in (experiment.dtype, "float64"):
        again = replay(recording, [int(before[-1])], rows - start + 1, experiment, dtype)
        loss, largest = float(again.loss[0, -1]), float(again.gradient[0, -1, :, _NORM].max())
        if not (abs(loss) < _HUGE and largest < np.sqrt(_HUGE)):
            return
    raise Failed(
        f"it says that the loss is no longer a number at iteration {rows + 1}, a replay of your run gives {loss:.4g}",
        _ADVICE,
    )


def _mismatch(recording: Recording, again: Replay, finding: Finding) -> Failed:
    """Say in which way the recorded gradients are not those of one stretch."""
    if not any(finding.quantity is OF_ITERATIONS[name] for name in _TELLING):
        return Failed(finding.sentence, _help(finding))
    start, row = int(again.start[0]), finding.iteration - 1 - int(again.start[0])
    recorded = recording.gradient[start : start + again.loss.shape[1]].astype(np.float64)
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
        r, a = recorded[:, inner], again.gradient[0, :, inner]
        if fits(r, a):
            return Failed(sentence.format(factor=_factor(r, a)) + f", from iteration {start + 1} on", _ADVICE)
    elsewhere = _stands_at(recording, again.gradient[0, row])
    if elsewhere not in (None, finding.iteration - 1):
        return Failed(
            "its iterations are not in the order in which they happened: the gradients of iteration "
            f"{finding.iteration} stand at iteration {(elsewhere or 0) + 1}",
            _ADVICE,
        )
    return Failed(finding.sentence, _help(finding))


def _help(finding: Finding) -> str:
    if finding.recorded is None:
        return _ADVICE
    if finding.quantity is OF_ITERATIONS["loss"]:
        return "Record the mean cross-entropy of the mini-batch, at the iteration it belongs to."
    return "Did the loop clear the gradients (zero_grad) before each backward(), and take the mini-batches in order?"


def _stands_at(recording: Recording, true: Floats) -> int | None:
    """The row of the recording that holds these statistics (L, S), if there is one."""
    same = np.isclose(recording.gradient[:, :, _SIZE], true[:, _SIZE], rtol=1e-3, atol=0).all(axis=1)
    return int(same.argmax()) if same.any() else None


def _factor(recorded: Floats, again: Floats) -> float:
    return float(np.median(recorded[..., _SIZE] / again[..., _SIZE]))
