"""Does the audit accept every honest recording, find each forgery, and draw what no student can know?"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.nn.functional import cross_entropy

import labkit
from autograder import audit, auditing, cli, identities, questionnaire
from autograder.authenticity import examine
from autograder.checks import Failed
from labkit import data, deviations, networks, propagation, replay
from labkit.deviations import QUANTITIES
from labkit.experiments import Experiment, experiment
from labkit.recorder import Recorder, tensors
from labkit.recording import STATISTICS, Recording, RecordingError
from labkit.training import train, train_many

ASSIGNMENTS = Path(__file__).parent.parent / "assignments"
ALL = 10**6  # stretches: every one there is
BY_ITERATION = (
    "loss", "gradient", "update_norm", "weight_norm", "weight_dot_gradient", "bias_dot_gradient", "clip_factor",
)  # fmt: skip


def by_hand(e: Experiment, optimizer: object, network: torch.nn.Module) -> Recording:
    images, labels, _ = tensors(e)
    recorder = Recorder(network, optimizer, e)
    for epoch in range(e.epochs):
        for indices in data.epoch_batches(e, epoch):
            optimizer.zero_grad()
            loss = cross_entropy(network(images[indices]), labels[indices])
            loss.backward()
            factor = 1.0 if e.clip_norm is None else labkit.clip_gradients(network.parameters(), e.clip_norm)
            optimizer.step()
            recorder.step(loss, factor)
        recorder.end_epoch()
    return recorder.recording()


def their_loop(kind: type) -> Callable[[Experiment], Recording]:
    def run(e: Experiment) -> Recording:
        network = networks.of_experiment(e)
        return by_hand(e, kind(network.parameters(), e.learning_rate), network)

    return run


def trained(e: Experiment) -> Recording:
    return train(e, device="cpu", progress=False)


def side_by_side(e: Experiment) -> Recording:
    return train_many([e.replace(activation="sigmoid"), e], device="cpu", progress=False)[1]


RECURRENT = {"data": "long_lag", "steps": 8, "widths": (4, 6, 3), "activation": "tanh"}
HONEST = {
    "train": (trained, {}),
    "train, float64": (trained, {"dtype": "float64"}),
    "train_many": (side_by_side, {}),
    "loop, torch.optim.Adam": (their_loop(torch.optim.Adam), {}),
    "loop, labkit.Adam": (their_loop(labkit.Adam), {}),
    "loop, clipped": (their_loop(labkit.Adam), {"clip_norm": 0.05}),
    "loop, SGD clipped": (their_loop(torch.optim.SGD), {"optimizer": "sgd", "learning_rate": 0.1, "clip_norm": 0.3}),
    "sigmoid": (trained, {"activation": "sigmoid"}),
    "tanh": (trained, {"activation": "tanh"}),
    "leaky": (trained, {"activation": "leaky_relu"}),
    "linear, SGD": (trained, {"activation": "linear", "optimizer": "sgd", "learning_rate": 0.05}),
    "one iteration an epoch": (trained, {"observations": 128, "pool": 1000}),
    "two layers": (trained, {"widths": (784, 10)}),
    "RMSprop on circles": (
        trained, {"data": "circles", "widths": (2, 5, 5, 1), "optimizer": "rmsprop", "initialisation": "normal"},
    ),
    "gelu, each clipped": (trained, {"activation": "gelu", "clip_each": 0.02}),
    "elu, values clipped": (trained, {"activation": "elu", "clip_value": 0.005}),
    "leaky with a slope of 0.2": (trained, {"activation": "leaky_relu", "slope": 0.2}),
    "batch normalisation": (trained, {"normalisation": "batch"}),
    "residual, layer normalisation": (trained, {"normalisation": "layer", "residual": True}),
    "rnn": (trained, {**RECURRENT, "architecture": "rnn"}),
    "lstm": (trained, {**RECURRENT, "architecture": "lstm"}),
    "gru, layer normalisation": (trained, {**RECURRENT, "architecture": "gru", "normalisation": "layer"}),
    "residual_conv": (
        trained,
        {"architecture": "residual_conv", "widths": (1, 2, 2, 4, 10), "normalisation": "batch",
         "initialisation": "he_normal"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("student", ["ada", pytest.param("bela", marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", HONEST)
def test_honest_recordings_pass(case: str, student: str) -> None:
    run, changes = HONEST[case]
    e = experiment("vanishing/relu", student).replace(epochs=4).replace(**changes)
    recording = run(e)
    assert audit.stretches_of(recording) == range(4)
    examine(recording, e, stretches=ALL)


@pytest.mark.parametrize(("name", "student"), [("layers/tanh", "s7"), ("layers/sigmoid_glorot", "s5")])
def test_runs_whose_gradients_nearly_cancel_pass(name: str, student: str) -> None:
    """On two circles, with one output, hardly anything is left of a mini-batch's gradient but rounding."""
    e = experiment(name, student)
    examine(trained(e), e, stretches=ALL)


@pytest.mark.parametrize("student", ["ada", "q3", "q9", "q17", "pupil10", "pupil24"])
@pytest.mark.parametrize("changes", [{"gain": 1.5}, {"gain": 10.0, "clip_norm": 1.0}, {"gain": 30.0}])
def test_runs_that_rounding_decides_pass(changes: dict, student: str) -> None:
    base = experiment("vanishing/exploding", student)
    examine(trained(base.replace(**changes)), base, ("gain", "clip_norm"), stretches=ALL)


def test_whole_trainings_pass(runs, ada) -> None:
    for name, recording in runs.items():
        examine(recording, ada[name], stretches=ALL)


# forgeries: S1's ReLU run, of which the epochs 21 to 25 are wrong


FIRST, LAST, LENGTH = 20, 25, 40  # epochs from 0, iterations of one
ROWS = slice(FIRST * LENGTH, LAST * LENGTH)


def changed(r: Recording, **changes: Callable[[np.ndarray], np.ndarray]) -> Recording:
    """The rows of the forged epochs, changed where they are by iteration."""
    arrays = {name: getattr(r, name).copy() for name in changes}
    for name, change in changes.items():
        rows = ROWS if name in BY_ITERATION else slice(None)
        arrays[name][rows] = change(arrays[name][rows])
    return replace(r, **arrays)


def between_checkpoints(r: Recording) -> Recording:
    """Invented from the second iteration of each epoch on; norms of weights and updates stay, and with them every
    inequality, and statistics of one layer belong together."""
    random = np.random.RandomState(0)

    def invent(g: np.ndarray) -> np.ndarray:
        g = g.reshape(-1, LENGTH, *g.shape[1:])
        factor = np.exp(0.05 * random.standard_normal(g.shape[:3]))
        factor[:, 0] = 1
        g[..., :5] *= factor[..., None]
        return g.reshape(-1, *g.shape[2:])

    return changed(r, gradient=invent)


def spliced(r: Recording, other: Recording) -> Recording:
    """One epoch of another run, with its checkpoint."""
    rows = slice(FIRST * LENGTH, (FIRST + 1) * LENGTH)
    arrays = {name: getattr(r, name).copy() for name in (*BY_ITERATION, "batch_counts", "batch_range")}
    for name in BY_ITERATION:
        arrays[name][rows] = getattr(other, name)[rows]
    for name in ("batch_counts", "batch_range"):
        arrays[name][FIRST] = getattr(other, name)[FIRST]
    return replace(r, **arrays)


def edited_checkpoint(r: Recording) -> Recording:
    """One checkpoint a little further along, and everything made to fit that can be told without running it again."""
    at = r.checkpoint_iteration.tolist().index(FIRST * LENGTH)
    parameters = r.checkpoint_parameters.copy()
    parameters[at] += 0.01 * (parameters[at + 1] - parameters[at])
    return refitted(replace(r, checkpoint_parameters=parameters), [at])


def refitted(r: Recording, checkpoints: list[int]) -> Recording:
    """Statistics computed anew, and consistently, from the checkpoints as they are: probe rows, and the first
    iteration after each."""
    e = r.origin.experiment
    arrays = {name: getattr(r, name).copy() for name in (*BY_ITERATION, "probe_gradient", "probe_loss", "accuracy")}
    arrays |= {name: getattr(r, name).copy() for name in ("output_error", "hidden", "weight")}
    arrays |= {name: getattr(r, name).copy() for name in ("probe_counts", "weight_counts")}
    again, probe = replay.replay(r, checkpoints, 1), replay.probe(r, checkpoints, e)
    for k, row in enumerate(again.start):
        for name in BY_ITERATION:
            arrays[name][row] = getattr(again, name)[k, 0]
    rows = deviations.probe_rows(r, checkpoints)
    arrays["probe_gradient"][rows], arrays["probe_loss"][rows] = probe.gradient, probe.loss
    arrays["accuracy"][rows], arrays["output_error"][rows] = probe.accuracy.mean(axis=-1), probe.output_error
    arrays["hidden"][rows] = np.concatenate([probe.hidden, probe.flat.mean(axis=-1)], axis=-1)
    weights = [w.reshape(len(w), -1) for w, _ in propagation.layers_of(r.checkpoint_parameters[checkpoints], e.widths)]
    arrays["weight"][rows] = np.stack([np.stack([w.mean(axis=-1), w.std(axis=-1)], axis=-1) for w in weights], axis=1)
    for layer in range(len(weights)):
        for name, reach, values in (
            ("probe_counts", r.probe_range[layer], probe.gradients[layer]),
            ("weight_counts", r.weight_range[layer], weights[layer]),
        ):
            for k, row in enumerate(rows):
                arrays[name][row, layer], _ = np.histogram(values[k], bins=30, range=(-reach, reach))
    return replace(r, **arrays)


def invented_weights(r: Recording) -> Recording:
    """Weights of the forged epochs invented between two true checkpoints, and all statistics computed from them."""
    taken = r.checkpoint_iteration.tolist()
    ends = [taken.index(epoch * LENGTH) for epoch in range(FIRST, LAST + 1)]
    parameters, share = r.checkpoint_parameters.copy(), np.linspace(0, 1, len(ends))[:, None]
    parameters[ends] = (1 - share) * parameters[ends[0]] + share * parameters[ends[-1]]
    return refitted(replace(r, checkpoint_parameters=parameters), ends[1:-1])


def other_probes(r: Recording, other: Recording) -> Recording:
    names = ("probe_gradient", "probe_loss", "accuracy", "output_error", "hidden")
    return replace(r, **{name: getattr(other, name) for name in names})


def last_batches_of(r: Recording, other: Recording, name: str) -> Recording:
    """What another run has of the last mini-batches of the forged epochs."""
    values = getattr(r, name).copy()
    values[FIRST:LAST] = getattr(other, name)[FIRST:LAST]
    return replace(r, **{name: values})


FORGERIES: dict[str, tuple[Callable[[Recording, Recording], Recording], str]] = {
    "figures between checkpoints": (lambda r, _: between_checkpoints(r), r"of fc_1 at iteration 802 is recorded as"),
    "an epoch of another run": (spliced, "moved further|weights changed by more|at iteration 801|stand at iteration"),
    "edited checkpoint": (
        lambda r, _: edited_checkpoint(r), "the next checkpoint's parameters of fc_1 after iteration 800",
    ),
    "invented weights": (lambda r, _: invented_weights(r), "of fc_1 at iteration|changed by more than their update"),
    "histogram of the last mini-batch": (
        lambda r, o: last_batches_of(r, o, "batch_counts"), "the last mini-batch's histogram of fc_1 after iteration",
    ),
    "its range": (
        lambda r, o: last_batches_of(r, o, "batch_range"), "the range of the last mini-batch's histogram",
    ),
    "probe rows of another network": (other_probes, "the probe's loss after epoch 0 is not what a replay"),
    "probe's histogram": (
        lambda r, o: replace(r, probe_counts=o.probe_counts), "the histogram of the probe's gradient after epoch 0",
    ),
    "weights' histogram": (
        lambda r, o: replace(r, weight_counts=o.weight_counts), "the histogram of the weights after",
    ),
    "weights' mean": (lambda r, _: replace(r, weight=r.weight * 1.01), "mean or sd of the weights after epoch 0"),
    "zeros": (lambda r, _: changed(r, gradient=lambda g: g * [1, 1, 1, 1, 1, 0.5, 1]), "the share of zeros"),
    "loss": (lambda r, _: changed(r, loss=lambda x: x * 1.01), "the loss at iteration 801 is recorded as"),
    "update": (
        lambda r, _: changed(r, update_norm=lambda x: x * 1.02), "the norm of the update of fc_1 at iteration 801",
    ),
    "sums of w * gradient": (
        lambda r, _: changed(r, weight_dot_gradient=lambda x: x * 2, bias_dot_gradient=lambda x: x * 2),
        r"sum w \* gradient of fc_1 at iteration 801",
    ),
    "sums of b * gradient": (
        lambda r, _: changed(r, bias_dot_gradient=lambda x: x * 1.01), r"sum b \* gradient|at iteration 801",
    ),
    "clip factor": (lambda r, _: changed(r, clip_factor=lambda x: x * 0.9), "the clip factor of fc_1 at iteration 801"),
    "moments before the start": (
        lambda r, _: replace(r, checkpoint_moments=r.checkpoint_moments + 1e-3), "did not start anew",
    ),
    "moments": (lambda r, _: moments_from(r), "the norm of the update of fc_1 at iteration 41"),
    "other settings in the file": (
        lambda r, _: replace(r, origin=replace(r.origin, experiment=r.origin.experiment.replace(epochs=49))),
        "another experiment: its epochs is 49",
    ),
    "epochs that end elsewhere": (
        lambda r, _: replace(r, epoch_end=np.r_[r.epoch_end[:20] - 1, r.epoch_end[20:]]), "do not end where",
    ),
    "a last epoch that ends early": (lambda r, _: last_row_of_another(r), "do not end where"),
    "moments that leap": (lambda r, _: leaping_moments(r), "mean of g is at most 7.27 times .* at iteration 840, nor"),
    "another network's layers": (
        lambda r, _: replace(r, origin=replace(r.origin, layers=("a", "b", "c", "d"))),
        "network is not the experiment's",
    ),
    "another optimiser's moments": (
        lambda r, _: replace(r, origin=replace(r.origin, moments=("square_avg", "exp_avg"))), "not trained with Adam",
    ),
}  # fmt: skip


def moments_from(r: Recording) -> Recording:
    moments = r.checkpoint_moments.copy()
    moments[2:, 0] *= 1.1
    return replace(r, checkpoint_moments=moments)


def last_row_of_another(r: Recording) -> Recording:
    """An epoch that ends where no checkpoint was taken: nothing stands beside its probe row, nor at its end."""
    error, hidden = r.output_error.copy(), r.hidden.copy()
    error[-1], hidden[-1] = error[-1] / 100, hidden[-1] * 7
    return replace(r, epoch_end=np.r_[r.epoch_end[:-1], r.epoch_end[-1] - 1], output_error=error, hidden=hidden)


def leaping_moments(r: Recording) -> Recording:
    """The smallest mean squares of one layer at 0: its norm does not tell, and Adam's next step is a leap."""
    moments = r.checkpoint_moments.copy()
    at = r.checkpoint_iteration.tolist().index((FIRST + 1) * LENGTH)
    (weights, _), *_ = propagation.layers_of(moments[at, 1:], r.origin.experiment.widths)
    smallest = np.argsort(weights, axis=None)[:40]
    assert np.linalg.norm(weights.ravel()[smallest]) < QUANTITIES["moments"].tolerance * np.linalg.norm(weights)
    moments[at, 1, smallest] = 0
    return replace(r, checkpoint_moments=moments)


def broken_down(r: Recording) -> Recording:
    """One epoch is trained. Moments throw the weights away after it, nobody looks where no epoch is said to end, and
    behind the first figure that is not finite stands whatever one likes."""
    moments = r.checkpoint_moments.copy()
    moments[2, 0] = 1e6 * np.random.RandomState(0).choice([-1, 1], moments.shape[-1])
    thrown = replace(r, checkpoint_moments=moments)
    step, arrays = replay.replay(thrown, [2], 1), {name: getattr(r, name).copy() for name in BY_ITERATION}
    for name in BY_ITERATION:
        arrays[name][LENGTH] = getattr(step, name)[0, 0]
    arrays["loss"][LENGTH + 1], arrays["loss"][LENGTH + 2 :] = np.nan, 1e-3
    kept = {name: getattr(r, name)[:1] for name in ("probe_gradient", "probe_counts", "probe_loss", "accuracy")}
    kept |= {name: getattr(r, name)[:1] for name in ("output_error", "hidden", "weight", "weight_counts")}
    kept |= {name: getattr(r, name)[:0] for name in ("epoch_end", "batch_counts", "batch_range")}
    return replace(thrown, origin=replace(r.origin, stopped="the loss is not finite since epoch 2"), **arrays, **kept)


def test_whoever_breaks_down_has_ended_every_epoch_before(runs, ada) -> None:
    with pytest.raises(Failed, match="its epochs do not end where"):
        examine(broken_down(runs["relu"]), ada["relu"], stretches=ALL)


@pytest.mark.parametrize("name", ["epoch_end", "checkpoint_iteration"])
def test_a_file_whose_epochs_end_at_fractions_was_altered(runs, tmp_path, monkeypatch, name: str) -> None:
    r = runs["relu"]
    with monkeypatch.context() as forger:
        forger.setattr(Recording, "chain", lambda _: [])
        path = replace(r, **{name: getattr(r, name).astype(np.float64)}).save(tmp_path / "forged")
    with pytest.raises(RecordingError, match=f"{name} does not hold numbers"):
        Recording.load(path)


def on_a_kink(r: Recording, checkpoint: int, images: np.ndarray) -> Recording:
    """One unit's weights moved until a value before the first ReLU is 0 but for rounding: too little to be seen."""
    parameters, e = r.checkpoint_parameters.copy(), r.origin.experiment
    for _ in range(3):
        layers = propagation.layers_of(parameters[[checkpoint]].astype(np.float64), e.widths)
        _, (z, *_), _ = propagation.forward(layers, images[None], e)
        unit, image = np.unravel_index((np.abs(z[0]) / np.linalg.norm(images, axis=1)).argmin(), z[0].shape)
        x = images[image].astype(np.float64)
        parameters[checkpoint, unit * len(x) : (unit + 1) * len(x)] -= z[0, unit, image] * x / (x @ x)
    return replace(r, checkpoint_parameters=parameters)


def test_nobody_hides_behind_a_value_on_a_kink(runs, ada) -> None:
    """Two sides of one kink are no storm: both are tried, and what fits neither is a forgery."""
    e, r = ada["relu"], runs["relu"]
    images, _, _ = tensors(e)
    images = images.numpy().reshape(len(images), -1)
    at = r.checkpoint_iteration.tolist().index(FIRST * LENGTH)
    batch = next(iter(data.epoch_batches(e, FIRST)))
    planted = on_a_kink(r, at, images[batch])
    was, now = r.checkpoint_parameters[at - 1 : at + 1], planted.checkpoint_parameters[at]
    assert np.linalg.norm(now - was[1]) < QUANTITIES["parameters"].tolerance * np.linalg.norm(was[1] - was[0])
    assert deviations.calm(planted, at, LENGTH, e).all()
    assert deviations.calm_probe(on_a_kink(r, at, images[:250]), at, e)
    forged = on_a_kink(between_checkpoints(r), at, images[batch])
    found = audit.audit(forged, e, [FIRST]).findings
    assert [finding.iteration for finding in found] == [FIRST * LENGTH + 2]


@pytest.mark.parametrize("rate", [1e-9, 1e-5])
def test_nobody_hides_in_a_network_that_hardly_moves(ada, rate: float) -> None:
    """Beside a step so short, half a rounding of the weights is large, and yet leads nowhere."""
    e = ada["relu"].replace(epochs=2, optimizer="sgd", learning_rate=rate)
    r = trained(e)
    assert (r.update_norm < 1e-5 * r.weight_norm).all()
    examine(r, e, stretches=ALL)
    loss = r.loss.copy()
    loss[LENGTH + 17] *= 1.01
    with pytest.raises(Failed, match="the loss at iteration 58 is recorded as"):
        examine(replace(r, loss=loss), e, stretches=ALL)


def test_no_run_goes_on_behind_the_end_of_its_experiment(ada) -> None:
    """What would stand there has no mini-batches with which to compare it."""
    e = ada["relu"].replace(epochs=2)
    r = trained(e.replace(epochs=3))
    loss = r.loss.copy()
    loss[-LENGTH // 2 :] = np.nan
    origin = replace(r.origin, experiment=e, stopped="the loss is not finite since epoch 3")
    with pytest.raises(Failed, match="it has 120 iterations in 3 epochs, the assignment needs 80 in 2"):
        examine(replace(r, loss=loss, origin=origin), e, stretches=ALL)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_network_without_time_has_no_gradients_through_it(runs, ada, steps: int) -> None:
    r = runs["relu"]
    with pytest.raises(Failed, match="carried through time after epoch 0"):
        examine(replace(r, through_time=np.ones((r.epochs + 1, steps), np.float32)), ada["relu"])


def test_nobody_hides_a_histogram_on_bins_that_reach_too_far(runs, ada) -> None:
    """Beside the middle of such bins every value may be on either side of 0."""
    r = runs["relu"]
    counts = np.zeros_like(r.weight_counts)
    half = counts.shape[-1] // 2
    counts[..., half] = r.weight_counts.sum(axis=-1)
    forged = replace(r, weight_counts=counts, weight_range=np.full_like(r.weight_range, 1e30))
    with pytest.raises(Failed, match="histogram of the weights of fc_1 reaches further"):
        examine(forged, ada["relu"])


def test_a_histogram_of_more_bins_than_can_be_compared_is_refused(runs, ada) -> None:
    r = runs["relu"]
    wide = {name: np.zeros((*getattr(r, name).shape[:2], 1002), np.int8) for name in ("batch_counts", "probe_counts")}
    wide["weight_counts"] = wide["probe_counts"]
    with pytest.raises(Failed, match="its histograms have 1,002 bins, a grader compares 1,000"):
        examine(replace(r, **wide), ada["relu"])


@pytest.fixture(scope="module")
def other(ada) -> Recording:
    """Another run of the same network: bela's."""
    return trained(experiment("vanishing/relu", "bela"))


@pytest.mark.parametrize("case", FORGERIES)
def test_each_forgery_is_refused_with_its_own_sentence(runs, other, ada, case: str, tmp_path) -> None:
    forge, words = FORGERIES[case]
    # through a file with fitting digests: whoever forges makes them anew
    forged = Recording.load(forge(runs["relu"], other).save(tmp_path / "forged"))
    with pytest.raises(Failed, match=words) as caught:
        examine(forged, ada["relu"], stretches=ALL)
    assert "\n" not in caught.value.found


def test_an_older_run_with_other_settings_is_refused(ada) -> None:
    """The file says what the assignment has; the figures are those of another learning rate."""
    e = ada["relu"].replace(epochs=3)
    older = trained(e.replace(learning_rate=0.002))
    with pytest.raises(Failed, match="the norm of the update of fc_1 at iteration 1 is recorded as"):
        examine(replace(older, origin=replace(older.origin, experiment=e)), e)


def test_only_the_audit_finds_what_lies_between_checkpoints(runs, ada) -> None:
    forged = between_checkpoints(runs["relu"])
    examine(forged, ada["relu"], stretches=0)
    clean = audit.audit(forged, ada["relu"], range(FIRST))
    assert clean.findings == ()
    assert clean.stretches == tuple(range(FIRST))
    found = audit.audit(forged, ada["relu"], range(FIRST - 2, FIRST + 3)).findings
    assert [finding.iteration for finding in found] == [802, 842, 882]
    assert all(finding.deviation > finding.quantity.tolerance for finding in found)


def behind_leaps(r: Recording, e: Experiment) -> Recording:
    """Moments that throw the weights far at the start of every epoch but the first; what follows is invented."""
    moments = r.checkpoint_moments.copy()
    moments[2:, 1] *= 1e-12
    leaping = replace(r, checkpoint_moments=moments)
    first = replay.replay(leaping, range(2, 51), 1, e)
    gradient, updates = r.gradient.copy().reshape(50, LENGTH, 4, -1), r.update_norm.copy().reshape(50, LENGTH, 4)
    gradient[1:, 1:, :, :5] *= 1.1
    updates[1:, 0] = first.update_norm[:, 0]
    assert (updates[1:, 0] > deviations.LEAP * first.weight_norm[:, 0]).any(axis=-1).all()
    return replace(leaping, gradient=gradient.reshape(r.gradient.shape), update_norm=updates.reshape(-1, 4))


def test_nobody_hides_behind_a_leap_that_only_the_second_look_sees(runs, ada, monkeypatch) -> None:
    """A checkpoint can be built whose first step is a leap in float64, and in the run's own float32 just none."""
    r, e, at, follow = runs["relu"], ada["relu"], 10 * LENGTH, deviations.follow
    loss, updates = r.loss.copy(), r.update_norm.copy()
    loss[at + 1 : at + LENGTH] *= 1.01
    updates[at] = r.weight_norm[at]
    forged = replace(r, loss=loss, update_norm=updates)

    def leaping(recording: Recording, chosen: list[int], steps: int, e: Experiment, **more: bool) -> replay.Replay:
        again = follow(recording, chosen, steps, e, **more)
        if again.start[0] == at:
            again.update_norm[:, 0] = again.weight_norm[:, 0]
        return again

    assert audit.audit(forged, e, (10,)).stretches == (10,)
    monkeypatch.setattr(deviations, "follow", leaping)
    found = audit.audit(forged, e, (10,))
    assert not found.findings
    assert found.stretches == tuple(audit.stretches_of(forged))


def test_nobody_hides_behind_a_leap(runs, ada) -> None:
    """Behind a leap nothing can be compared; then the stretch that must have led there is looked at, too."""
    forged, e = behind_leaps(runs["relu"], ada["relu"]), ada["relu"]
    clean = audit.audit(runs["relu"], e, (5, 30))
    assert (clean.stretches, clean.findings) == ((5, 30), ())
    found = audit.audit(forged, e, (5, 30))
    assert found.stretches == tuple(range(50))
    assert [(one.iteration, one.quantity) for one in found.findings] == [(LENGTH, QUANTITIES["moments"])]


@pytest.mark.parametrize("name", ["abs_mean", "sd", "norm", "update_norm", "loss", "weight_dot_gradient"])
def test_one_figure_off_by_a_hundredth_is_found(runs, ada, name: str) -> None:
    """The smallest forgery: one iteration of one epoch, one percent."""
    r = runs["relu"]
    column = STATISTICS.index(name) if name in STATISTICS else None
    source = "gradient" if column is not None else name
    values = getattr(r, source).copy()
    values[(817, slice(None), column) if column is not None else 817] *= 1.01
    (finding,) = audit.audit(replace(r, **{source: values}), ada["relu"], (19, 20, 21)).findings
    assert (finding.iteration, finding.quantity) == (818, QUANTITIES[name])
    assert finding.recorded == pytest.approx(1.01 * finding.replayed, rel=1e-3)


# the draw


SALTS = [n.to_bytes(4, "big") for n in range(1000)]
EPOCHS = range(50)


def test_a_draw_is_the_same_for_the_same_salt_and_without_repetition() -> None:
    drawn = audit.draw(b"secret", "digest", EPOCHS)
    assert drawn == audit.draw(b"secret", "digest", EPOCHS) == tuple(sorted(set(drawn)))
    assert len(drawn) == audit.STRETCHES == 8
    assert set(drawn) < set(EPOCHS)
    assert audit.draw(b"secret", "digest", range(3)) == (0, 1, 2)


def test_a_draw_follows_from_the_salt_and_from_the_recording_together() -> None:
    """Whoever lacks the salt learns nothing from the recording, and a salt says nothing about another recording."""
    assert len({audit.draw(salt, "digest", EPOCHS) for salt in SALTS}) == len(SALTS)
    assert all(audit.draw(salt, "a", EPOCHS) != audit.draw(salt, "b", EPOCHS) for salt in SALTS)


def test_every_epoch_is_drawn_as_often() -> None:
    """8 of 50 in 1,000 draws: 160 each, with a standard deviation of 11.6; 5 of them for the farthest of 50."""
    counts = np.zeros(50)
    for salt in SALTS:
        counts[list(audit.draw(salt, "digest", EPOCHS))] += 1
    assert counts.sum() == 8000
    assert np.abs(counts - 160).max() < 58


@pytest.mark.parametrize("share", [0.05, 0.25])
def test_forged_epochs_are_found_as_often_as_the_draw_says(runs, ada, share: float) -> None:
    r, m, epochs = runs["relu"], audit.STRETCHES, 50
    wrong = np.random.RandomState(1).permutation(epochs)[: round(share * epochs)]
    digest = "of the forged recording"
    gradient = r.gradient.copy().reshape(epochs, LENGTH, 4, -1)
    gradient[wrong, 1:, :, :5] *= 1.02
    forged = replace(r, gradient=gradient.reshape(r.gradient.shape))
    found = audit.audit(forged, ada["relu"], range(epochs)).findings
    assert {(finding.iteration - 1) // LENGTH for finding in found} == set(wrong.tolist())
    draws = [audit.draw(salt, digest, EPOCHS) for salt in SALTS]
    hits = np.mean([not set(wrong).isdisjoint(drawn) for drawn in draws])
    # without replacement: a little more often than 1 - (1 - f)^m
    expected = 1 - np.prod([(epochs - len(wrong) - k) / (epochs - k) for k in range(m)])
    assert hits == pytest.approx(expected, abs=5 * np.sqrt(expected * (1 - expected) / 1000))
    assert expected >= 1 - (1 - len(wrong) / epochs) ** m


def test_the_same_salt_decides_the_same(runs, ada) -> None:
    """A recording with one forged epoch is refused with the salts that draw it, and with no other."""
    r = runs["relu"]
    gradient = r.gradient.copy()
    gradient[7 * LENGTH + 3, :, :5] *= 1.05
    forged = replace(r, gradient=gradient)
    # the digest, and with it the draw, is another one with each run
    digest = forged.digest
    drawn = [salt for salt in SALTS if 7 in audit.draw(salt, digest, EPOCHS)]
    for salt in drawn[:3]:
        with pytest.raises(Failed, match="at iteration 284 is recorded as"):
            examine(forged, ada["relu"], salt=salt)
    for salt in [salt for salt in SALTS if salt not in drawn][:3]:
        examine(forged, ada["relu"], salt=salt)
    assert 3 <= len(drawn) <= len(SALTS) - 3


# identities


def test_identities_hold_for_honest_recordings_and_not_for_others(runs, ada) -> None:
    for name, recording in runs.items():
        identities.holds(recording, ada[name], recording.iterations)
    r = runs["relu"]
    planted = {
        "adds up to 0 over the classes": changed(r, gradient=lambda g: g + np.eye(7)[0] / 1000),
        "sum w": changed(r, weight_dot_gradient=lambda x: x * [1, 1.01, 1, 1]),
        "clipped": changed(r, clip_factor=lambda x: x * 0.5),
    }
    for words, forged in planted.items():
        with pytest.raises(Failed, match=f"{words}.* does not hold at iteration 801, nor at"):
            identities.holds(forged, ada["relu"], r.iterations)
    stepped = replace(r, checkpoint_parameters=r.checkpoint_parameters * 1.1)
    with pytest.raises(Failed, match="Adam's first step"):
        identities.holds(stepped, ada["relu"], r.iterations)


@pytest.mark.parametrize("factor", [1.0, 0.005])
def test_one_sure_image_alone_with_hidden_values_leaves_rounding_and_no_forgery(runs, ada, factor: float) -> None:
    """The others' loss is as large as ever, and what is left of the gradient is the rounding of p at 1; that is too
    small to be clipped, when those before it were."""
    r, at = runs["relu"], 100
    largest = float(r.statistic("abs_mean")[:at, -1].max())
    for share, honest in ((0.5 * 2**-24, True), (1e-4, False)):
        gradient, factors = r.gradient.copy(), r.clip_factor.copy()
        gradient[:at, :, :5] *= factor
        factors[:at] = factor
        gradient[at, -1, [STATISTICS.index(name) for name in ("mean", "abs_mean")]] = share * largest
        identity = identities.IDENTITIES["softmax"]
        clipped = replace(r, gradient=gradient, clip_factor=factors)
        residual = identity.of(clipped, ada["relu"], r.iterations)[at]
        assert (residual <= identity.room * np.finfo(np.float32).eps) == honest


def test_one_small_clip_factor_does_not_excuse_what_comes_later(runs, ada) -> None:
    """Behind a storm nobody compares the factors."""
    r, identity = runs["relu"], identities.IDENTITIES["softmax"]
    gradient, factors = r.gradient.copy(), r.clip_factor.copy()
    mean, size = (STATISTICS.index(name) for name in ("mean", "abs_mean"))
    gradient[200:240, -1, mean] = 0.3 * gradient[200:240, -1, size]
    factors[100] = 1e-12
    forged = replace(r, gradient=gradient, clip_factor=factors)
    residuals = identity.of(forged, ada["relu"], r.iterations)[200:240]
    assert (residuals > identity.room * np.finfo(np.float32).eps).all()


def test_gradients_whose_squares_are_0_leave_no_residual_of_homogeneity(runs, ada) -> None:
    """Their norm is recorded as 0, the sums over products with weights are not."""
    r, at = runs["relu"], 100
    identity, gradient = identities.IDENTITIES["homogeneity"], r.gradient.copy()
    gradient[at, :, [STATISTICS.index(name) for name in ("norm", "sd")]] = 0
    for size, honest in ((1e-30, True), (1e-15, False)):
        sums = r.weight_dot_gradient.copy()
        sums[at] = size * np.array([-0.7, 1.2, -1.7, 0.9])
        small = replace(r, gradient=gradient, weight_dot_gradient=sums, bias_dot_gradient=np.zeros_like(sums))
        residuals = identity.of(small, ada["relu"], r.iterations)[at]
        assert (residuals.max() <= identity.room * np.finfo(np.float32).eps) == honest


def test_identities_of_sgd_hold_at_every_step_and_find_another_learning_rate() -> None:
    e = experiment("vanishing/exploding", "ada").replace(gain=3.0, clip_norm=1.0)
    r = trained(e)
    identities.holds(r, e, r.iterations)
    with pytest.raises(Failed, match="a step of SGD is the learning rate times the gradient"):
        identities.holds(r, e.replace(learning_rate=0.0505), r.iterations)
    shuffled = r.weight_norm[np.random.RandomState(0).permutation(r.iterations)]
    with pytest.raises(Failed, match=r"after a step of SGD, \|w\|"):
        identities.holds(replace(r, weight_norm=shuffled), e, r.iterations)


# a class


@pytest.fixture
def course(tmp_path: Path, runs) -> Path:
    """Submissions of recordings alone: nothing of them is run."""
    lab = "vanishing_gradients"
    (tmp_path / "nbgrader_config.py").write_text("")
    (tmp_path / "release" / lab).mkdir(parents=True)
    shutil.copy(ASSIGNMENTS / "source" / lab / f"{lab}.ipynb", tmp_path / "release" / lab)
    for student, names in {"ada": ("relu", "sigmoid"), "bela": ("relu",), "chidi": (), "dana": ("sigmoid",)}.items():
        (tmp_path / "submitted" / student / lab).mkdir(parents=True)
        for name in names:
            runs[name].save(tmp_path / "submitted" / student / lab / f"{name}.safetensors")
    damaged = tmp_path / "submitted" / "dana" / lab / "sigmoid.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:5000])
    (tmp_path / "submitted" / "ada" / lab / "left-over.safetensors").write_bytes(b"none that was asked for")
    return tmp_path


def test_a_class_is_audited_from_its_files_alone(course: Path) -> None:
    ada_relu, ada_sigmoid, bela, chidi, dana = auditing.audit(course, "vanishing_gradients")
    assert (ada_relu.recording, ada_relu.stretches, ada_relu.honest) == ("relu", 8, True)
    assert (ada_sigmoid.recording, ada_sigmoid.stretches, ada_sigmoid.honest) == ("sigmoid", 8, True)
    assert "another student's run" in bela.verdict
    assert (chidi.recording, chidi.verdict) == ("", "no recording was handed in")
    assert "is cut off" in dana.verdict


def test_a_file_that_breaks_the_audit_is_named_and_stops_nothing(course: Path, monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(auditing, "examine", broken)
    found = list(auditing.audit(course, "vanishing_gradients"))
    assert [one.student for one in found] == ["ada", "ada", "bela", "chidi", "dana"]
    assert found[0].verdict == "it could not be audited (MemoryError): look at it yourself"


def test_the_audit_command_ends_well_only_when_all_are_honest(course: Path) -> None:
    def run(*arguments: str):
        return CliRunner().invoke(cli.main, ["audit", "vanishing_gradients", *arguments, "--course", str(course)])

    done = run("ada", "--stretches", "2")
    assert done.exit_code == 0, done.output
    assert [line.split() for line in done.output.splitlines() if "honest" in line] == [
        ["│", "ada", "│", name, "│", "2", "│", "honest", "│"] for name in ("relu", "sigmoid")
    ]
    done = run()
    assert done.exit_code == 1
    assert done.stderr == "Error: 2 of 4 recordings not found to be honest, 1 student without a recording to look at\n"
    assert run("chidi").stderr == "Error: 1 student without a recording to look at\n"
    assert run("dana").stderr == "Error: 1 of 1 recording not found to be honest\n"
    assert "no recording was handed in" in done.output
    assert "eve has handed in nothing" in run("eve").output


def test_an_assignment_that_asks_for_no_recordings_says_so(course: Path, monkeypatch) -> None:
    monkeypatch.setattr(questionnaire, "recordings", lambda *_: {})
    with pytest.raises(auditing.GradingError, match="does not say which recordings it asks for"):
        list(auditing.audit(course, "vanishing_gradients"))
