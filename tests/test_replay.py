"""Is a replay what was recorded, and is its back-propagation right by finite differences?"""

from dataclasses import replace

import numpy as np
import pytest

from labkit import deviations, initialisations
from labkit.experiments import Experiment, experiment
from labkit.propagation import Kink, backpropagate, kinks_of
from labkit.recorder import Recorder
from labkit.recording import STATISTICS, RecordingError
from labkit.replay import FIGURES, _Stretches, has_network_of, probe, replay, start_of
from labkit.replay import _flat as flat_shares
from labkit.replay import _sizes as measured_sizes
from labkit.training import train


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "leaky_relu", "linear"])
def test_gradients_are_central_differences(activation: str) -> None:
    e = Experiment().replace(activation=activation)
    random = np.random.RandomState(1)
    images, labels = random.uniform(0, 1, (5, 12)), random.randint(0, 4, 5)
    layers = initialisations.draw((12, 6, 5, 4), "he_normal", seed=3)
    layers = [(w, b + random.uniform(-0.1, 0.1, b.shape)) for w, b in layers]
    _, gradients = backpropagate(layers, images, labels, e)
    step = 1e-6
    for layer, pair in enumerate(gradients):
        for part, gradient in enumerate(pair):
            for index in list(np.ndindex(gradient.shape))[::7]:
                sides = []
                for sign in (1, -1):
                    moved = [[w.copy(), b.copy()] for w, b in layers]
                    moved[layer][part][index] += sign * step
                    sides.append(backpropagate([(w, b) for w, b in moved], images, labels, e)[0])
                assert gradient[index] == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-4, abs=1e-9)


RECURRENTS = ("rnn", "lstm", "gru")
RECURRENT = {"data": "long_lag", "steps": 6, "widths": (4, 5, 3), "activation": "tanh"}
CHANGES = [
    {},
    {"activation": "sigmoid"},
    {"optimizer": "sgd", "learning_rate": 0.1, "clip_norm": 0.3},
    {"dtype": "float64"},
    {"widths": (784, 10)},
    {"activation": "leaky_relu", "slope": 0.2},
    {"activation": "elu", "epsilon": 1e-3},
    {"activation": "gelu"},
    {"activation": "silu", "dtype": "float64"},
    {"optimizer": "rmsprop", "epsilon": 1e-7, "initialisation": "normal", "gain": 0.1},
    {"clip_each": 0.05, "dtype": "float64"},
    {"clip_value": 0.01, "dtype": "float64"},
    {"data": "circles", "widths": (2, 5, 5, 1), "activation": "tanh"},
    {"normalisation": "batch"},
    {"normalisation": "layer", "residual": True, "activation": "silu"},
    {"residual": True, "dtype": "float64", "clip_norm": 0.3},
    {**RECURRENT, "architecture": "rnn"},
    {**RECURRENT, "architecture": "lstm", "dtype": "float64"},
    {**RECURRENT, "architecture": "gru", "normalisation": "layer"},
    {"architecture": "residual_conv", "widths": (1, 2, 2, 4, 10), "normalisation": "batch", "epochs": 2},
]


@pytest.mark.parametrize("changes", CHANGES)
def test_a_replay_is_what_was_recorded(short, changes: dict) -> None:
    e = short.replace(**{"epochs": 6, **changes})
    recording = train(e, device="cpu", progress=False)
    tolerance = 1e-9 if e.dtype == "float64" else 1e-4
    again = replay(recording, [0, *range(2, e.epochs + 1)], 3)
    assert again.start.tolist() == list(range(0, 3 * e.epochs, 3))
    rows = again.start[:, None] + np.arange(3)
    np.testing.assert_allclose(again.loss, recording.loss[rows], rtol=tolerance)
    for column in range(5):
        off = np.abs(again.gradient[..., column] - recording.gradient[rows][..., column])
        assert (off <= tolerance * again.gradient[..., 3]).all()
    np.testing.assert_allclose(again.update_norm, recording.update_norm[rows], rtol=10 * tolerance)
    np.testing.assert_allclose(again.weight_norm, recording.weight_norm[rows], rtol=tolerance)
    np.testing.assert_allclose(again.clip_factor, recording.clip_factor[rows], rtol=tolerance)
    size = again.weight_norm * again.gradient[..., 3]
    assert (np.abs(again.weight_dot_gradient - recording.weight_dot_gradient[rows]) <= tolerance * size).all()
    off = np.abs(again.bias_dot_gradient - recording.bias_dot_gradient[rows])
    assert (off <= tolerance * again.bias_size.max()).all()
    after = recording.checkpoint_parameters[2:]
    np.testing.assert_allclose(again.parameters, after, atol=10 * tolerance * np.abs(after).max())
    assert deviations.worst(deviations.of_iterations(recording, again)).max() < 1
    ends = deviations.of_ends(recording, again)
    assert all((off <= deviations.QUANTITIES[name].tolerance).all() for name, off in ends.items())
    probes = deviations.of_probes(recording, probe(recording, [0, 2], e), [0, 2])
    assert all((off <= deviations.QUANTITIES[name].tolerance).all() for name, off in probes.items())
    assert recording.through_time.shape == (e.epochs + 1, e.steps if e.architecture in RECURRENTS else 0)
    assert has_network_of(recording, e)
    np.testing.assert_allclose(recording.checkpoint_parameters[0], start_of(e), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("zeros", "within"), [(0, True), (1, True), (2, False)])
def test_one_value_of_the_replayed_probe_may_be_0_by_chance(runs, ada, zeros: int, within: bool) -> None:
    recording, layer = runs["sigmoid"], 3
    again = probe(recording, [0, 2], ada["sigmoid"])
    again.gradient[1, layer, STATISTICS.index("zero_share")] += zeros / again.gradients[layer].shape[-1]
    off = deviations.of_probes(recording, again, [0, 2])["probe_zero_share"]
    assert (off[1, layer] <= deviations.QUANTITIES["probe_zero_share"].tolerance) == within


@pytest.mark.parametrize(("zeros", "within"), [(0, True), (1, True), (2, False)])
def test_one_value_of_a_replayed_iteration_may_be_0_by_chance(runs, zeros: int, within: bool) -> None:
    recording, layer = runs["sigmoid"], 3
    again = replay(recording, [0, 2], 3)
    again.gradient[1, 2, layer, STATISTICS.index("zero_share")] += zeros / again.last_gradient[layer].shape[-1]
    off = deviations.of_iterations(recording, again)["zero_share"]
    assert (off[1, 2, layer] <= deviations.QUANTITIES["zero_share"].tolerance) == within


def test_stretches_side_by_side_are_those_one_by_one(runs) -> None:
    recording = runs["relu"]
    together = replay(recording, [0, 3, 7], 40)
    for k, checkpoint in enumerate([0, 3, 7]):
        alone = replay(recording, [checkpoint], 40)
        for name in ("loss", "gradient", "update_norm", "parameters", "moments"):
            np.testing.assert_allclose(getattr(alone, name)[0], getattr(together, name)[k], rtol=1e-9, atol=1e-15)


def test_a_replay_in_blocks_is_the_same(runs, monkeypatch) -> None:
    whole = replay(runs["relu"], [2, 5], 40)
    monkeypatch.setattr("labkit.replay.BLOCK_BYTES", 2 * 7 * whole.parameters.nbytes)
    parts = replay(runs["relu"], [2, 5], 40)
    np.testing.assert_array_equal(whole.gradient, parts.gradient)
    np.testing.assert_array_equal(whole.moments, parts.moments)


def test_float32_is_close_to_float64(runs) -> None:
    wide, narrow = (replay(runs["sigmoid"], [0, 3], 40, dtype=dtype) for dtype in (np.float64, np.float32))
    assert narrow.parameters.dtype == np.float32
    assert np.abs(wide.gradient - narrow.gradient)[..., :3].max() < 1e-4 * wide.gradient[..., 2].max()


def test_a_stretch_ends_where_the_experiment_ends(runs) -> None:
    assert replay(runs["relu"], [50], 100).loss.shape == (1, 40)


# kinks


def kinked(short, monkeypatch, beside: float = 1e-3):
    """A recording, the replay of its first epoch, and a kink that its replay lists; near is what is within `beside`."""
    monkeypatch.setattr("labkit.propagation.WIDE", 1e-3)
    monkeypatch.setattr("labkit.propagation.BESIDE", beside)
    recording = train(short, device="cpu", progress=False)
    again = replay(recording, [0], 3)
    return recording, again, again.kinks[0][0]


def test_a_turned_kink_is_another_replay_from_there_on_and_back_again(short, monkeypatch) -> None:
    recording, again, kink = kinked(short, monkeypatch)
    turned = replay(recording, [0, 0], 3, turned=[[kink], []])
    assert kink in turned.kinks[0]
    np.testing.assert_array_equal(turned.gradient[1], again.gradient[0])
    same = (turned.gradient[0] == again.gradient[0]).all(axis=(1, 2))
    assert same[: kink.row].all()
    assert not same[kink.row :].any()


def test_a_replay_goes_on_from_an_earlier_one(runs, monkeypatch) -> None:
    """With a kink turned it is the replay from the start, to rounding, and runs only what comes behind that kink."""
    monkeypatch.setattr("labkit.propagation.WIDE", 1e-3)
    plain = replay(runs["relu"], [5], 20)
    kink = next(kink for kink in plain.kinks[0] if kink.row > 5)
    run = []
    batch = _Stretches._batch
    monkeypatch.setattr(_Stretches, "_batch", lambda self: run.append(self.done) or batch(self))
    sides = [[kink], [kink, *(other for other in plain.kinks[0][-1:] if other != kink)]]
    anew = replay(runs["relu"], [5, 5], 20, turned=sides)
    run.clear()
    onward = replay(runs["relu"], [5, 5], 20, turned=sides, before=plain)
    assert run == list(range(kink.row, 20))
    for name in (*FIGURES, "parameters", "moments"):
        found, true = (getattr(one, name).astype(np.float64) for one in (onward, anew))
        np.testing.assert_allclose(found, true, rtol=1e-9, atol=1e-12, err_msg=name)
    assert (onward.kinks, onward.turned) == (anew.kinks, anew.turned)
    assert not np.array_equal(onward.gradient[0, kink.row], plain.gradient[0, kink.row])

    kept = replay(runs["relu"], [5], 20, turned=sides[:1], before=plain).states
    assert [state.done for state in kept] == list(range(1, 20))
    back = replay(runs["relu"], [5], 20, before=replay(runs["relu"], [5], 20, turned=sides[:1]))
    np.testing.assert_allclose(back.gradient, plain.gradient, rtol=1e-9, atol=1e-12)


def test_states_stay_within_their_room(runs, monkeypatch) -> None:
    monkeypatch.setattr("labkit.replay.STATE_BYTES", 10 * 3 * 8 * 8180)  # ten, of parameters and two moments in float64
    plain = replay(runs["relu"], [5], 40)
    assert [state.done for state in plain.states] == list(range(4, 40, 4))
    assert not replay(runs["relu"], [5, 6], 40).states
    assert not replay(runs["relu"], [5], 40, closely=False).states


def on_the_other_side(recording, kink):
    """The recording as it would be if rounding had decided otherwise about that value of its first epoch."""
    turned = replay(recording, [0], 3, turned=[[kink]])
    gradient = recording.gradient.copy()
    gradient[:3] = turned.gradient[0]
    changed = {name: getattr(recording, name).copy() for name in ("loss", "update_norm", "weight_norm")}
    changed |= {name: getattr(recording, name).copy() for name in ("weight_dot_gradient", "bias_dot_gradient")}
    for name, values in changed.items():
        values[:3] = getattr(turned, name)[0]
    return replace(recording, gradient=gradient, **changed)


@pytest.mark.parametrize("beside", [1e-3, 1e-9])
def test_a_recording_that_took_the_other_side_is_followed(short, monkeypatch, beside: float) -> None:
    """Rounding decided otherwise, near the kink or, swollen, from afar: the replay finds the side from the recorded
    figures alone."""
    recording, _, kink = kinked(short, monkeypatch, beside)
    assert kink.near == (beside == 1e-3)
    otherwise = on_the_other_side(recording, kink)
    plain = deviations.worst(deviations.of_iterations(otherwise, replay(otherwise, [0], 3)))
    assert plain[0, kink.row] > 10 * deviations.SUSPICIOUS
    followed = deviations.follow(otherwise, [0, 2], 3, short)
    assert deviations.worst(deviations.of_iterations(otherwise, followed)).max() < deviations.SUSPICIOUS


def test_a_swell_before_it_does_not_hide_the_other_side(short, monkeypatch) -> None:
    """An iteration that is suspicious, but within the tolerance, came before: no kink explains it, nor need it."""
    recording, again, _ = kinked(short, monkeypatch)
    otherwise, kink = next(
        (found, kink)
        for kink in again.kinks[0]
        if kink.row > 0
        for found in [on_the_other_side(recording, kink)]
        if deviations.worst(deviations.of_iterations(found, again))[0, kink.row] > 2 * deviations.CERTAIN
    )
    gradient = otherwise.gradient.copy()
    norm = STATISTICS.index("norm")
    gradient[0, :, norm] *= 1 + 0.5 * deviations.QUANTITIES["norm"].tolerance
    swollen = replace(otherwise, gradient=gradient)
    followed = deviations.compare(swollen, deviations.follow(swollen, [0], 3, short)).suspicion()[0]
    assert followed[0] == pytest.approx(0.5, rel=0.05)
    assert followed[kink.row : 3].max() < deviations.SUSPICIOUS


def test_what_is_tried_lists_no_kinks_of_its_own(short, monkeypatch) -> None:
    """There may be thousands at every iteration, and listing them takes longer than the training itself."""
    recording, again, _ = kinked(short, monkeypatch)
    assert len({kink.row for kink in again.kinks[0]}) > 1
    monkeypatch.setattr("labkit.replay.kinks_of", lambda *given: listed.append(given[-1]) or kinks_of(*given))
    listed: list[int] = []
    loss = recording.loss.copy()
    loss[2] *= 2
    followed = deviations.follow(replace(recording, loss=loss), [0], 3, short)
    assert listed == [0, 1, 2]
    assert followed.kinks == again.kinks


def test_what_is_tried_on_its_other_side() -> None:
    """A unit whose input died puts out its bias for many images, and it passes its kink for all of them at once."""
    died = tuple(Kink(row=4, layer=1, unit=3, image=image, distance=1e-7) for image in range(60))
    one, other = Kink(4, 1, 4, 0, 2e-7), Kink(1, 0, 2, 9, 3e-7)
    swollen, long_ago = Kink(5, 0, 0, 0, 1e-4), Kink(1, 0, 0, 1, 1e-4)
    kinks = [other, long_ago, *died, one, swollen]
    near = deviations._candidates(kinks, (), 5, near=True)
    assert near[-2:] == [(one,), died]
    assert len(near) == deviations.MOST_KINKS
    assert deviations._candidates(kinks, (), 5, near=False) == [(swollen,)]
    assert deviations._candidates(kinks, died, 5, near=True) == [(other,), (one,)]
    assert deviations._candidates(kinks, (), 1, near=True) == [(other,)]
    assert deviations._candidates(kinks, (), 1, near=False) == [(long_ago,)]


def test_smooth_activations_have_no_kinks(runs) -> None:
    assert replay(runs["sigmoid"], [0], 40).kinks == [[]]


# what rounding decides


def test_a_training_that_learns_is_calm_and_one_that_explodes_is_not(runs, ada) -> None:
    assert deviations.calm(runs["sigmoid"], 5, 40, ada["sigmoid"]).all()
    e = experiment("vanishing/exploding", "ada").replace(gain=3.0, clip_norm=1.0)
    assert not deviations.calm(train(e, device="cpu", progress=False), 0, 40, e).any()
    late = e.replace(gain=1.5, clip_norm=None)
    until = deviations.calm(train(late, device="cpu", progress=False), 0, 40, late)
    assert until[0]
    assert not until[-1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_twins_are_rounded_after_every_step(runs, ada, dtype: str) -> None:
    """By half a rounding of the run's own kind of numbers, up or down by chance, each in its own direction."""
    e, half = ada["sigmoid"].replace(dtype=dtype), np.finfo(dtype).eps / 2
    first, *twins = replay(runs["sigmoid"], [5] * 3, 1, e, shake=(0.0, 1e-300, 1e-300)).parameters
    assert np.array_equal(first, replay(runs["sigmoid"], [5], 1, e).parameters[0])
    up, down = ((twin - first) / first for twin in twins)
    assert np.allclose(np.abs([up, down]), half, rtol=0, atol=np.finfo(np.float64).eps)
    # half a rounding of float64 is beyond what its own numbers can be moved by
    for share in ((up > 0).mean(), (down > 0).mean(), (up * down > 0).mean()):
        assert 0.45 < share < 0.55 or dtype == "float64"


def test_what_an_exploded_network_has_left_is_measured_though_float32_holds_no_square_of_it() -> None:
    """Honest runs that exploded and went on with dead layers were refused for their hidden values."""
    z = np.array([[[-np.inf, -2e37], [3e19, 5e19], [-1e19, 2e19]]], dtype=np.float32)  # 3 units, 2 images
    h = np.maximum(z, 0)
    wide = h.astype(np.float64)
    with np.errstate(over="raise", invalid="raise"):
        expected = [wide.mean(), wide.mean(), wide.std()]
    np.testing.assert_allclose(measured_sizes(h)[0], expected, rtol=1e-6)
    (saturated_least, saturated_most), (dead_least, dead_most) = flat_shares(h, z, "relu")[0]
    assert saturated_least <= 3 / 6 <= saturated_most
    assert dead_least <= 1 / 3 <= dead_most


@pytest.mark.parametrize("student", ["amara13", "viktor13"])
def test_a_probe_of_a_run_that_exploded_is_that_of_its_recording(student: str) -> None:
    e = experiment("vanishing/exploding", student).replace(gain=3.0)
    recording = train(e, device="cpu", progress=False)
    ends = [2, 3, 4]  # of the epochs: behind the start stands the first step's checkpoint
    off = deviations.of_probes(recording, deviations.follow_probes(recording, ends, e), ends)
    assert recording.hidden[1:, :, 0].max() > 1e15
    for name, values in off.items():
        assert (values <= deviations.OF_PROBES[name].tolerance).all(), name


def test_a_histogram_is_held_between_those_of_wider_and_of_narrower_bins() -> None:
    values = np.random.RandomState(0).standard_normal((2, 500))
    low, high = np.full(2, -4.0), np.full(2, 4.0)
    counts = np.stack([np.histogram(row, bins=20, range=(-4, 4))[0] for row in values])
    nowhere = np.zeros(2)
    assert deviations.misplaced_share(counts, low, high, values, nowhere).max() == 0
    shifted = values + 1e-3
    assert deviations.misplaced_share(counts, low, high, shifted, nowhere).max() > 0
    assert deviations.misplaced_share(counts, low, high, shifted, nowhere + 2e-3).max() == 0
    moved = counts + np.eye(20, dtype=int)[3] - np.eye(20, dtype=int)[10]
    np.testing.assert_allclose(deviations.misplaced_share(moved, low, high, values, nowhere), 1 / 500, rtol=1e-9)
    assert deviations.misplaced_share(counts * 2, low, high, values, nowhere).min() >= 1


# one iteration


def test_one_iteration_stands_beside_its_replay(runs) -> None:
    found = deviations.at_iteration(runs["relu"], 431)
    assert (found.start, found.calm) == (400, True)
    assert not any(figure.off for figure in found.figures)
    loss = next(figure for figure in found.figures if figure.quantity.words == "the loss")
    assert loss.recorded == runs["relu"].loss[430]
    assert loss.replayed == pytest.approx(loss.recorded, rel=1e-5)
    forged = replace(runs["relu"], loss=runs["relu"].loss * 1.01)
    off = [figure for figure in deviations.at_iteration(forged, 431).figures if figure.off]
    assert [figure.quantity.words for figure in off] == ["the loss"]


def test_the_start_is_the_first_checkpoint(runs) -> None:
    for recording in runs.values():
        start = start_of(recording.origin.experiment)
        np.testing.assert_allclose(recording.checkpoint_parameters[0], start, rtol=1e-6, atol=1e-9)


def test_another_seed_is_far_off(runs, ada) -> None:
    """What a replay can tell apart: honest noise is 1e-6 of a layer's spread, another seed's figures are not."""
    recording = runs["relu"]
    again = replay(recording, [4], 3, ada["relu"].replace(seed=1))
    assert deviations.worst(deviations.of_iterations(recording, again)).min() > 10


def test_what_cannot_be_replayed_says_why(runs, short) -> None:
    from labkit import networks

    alone = Recorder(networks.of_experiment(short)).recording()
    with pytest.raises(RecordingError, match="follows no experiment"):
        replay(alone, [0], 1)
    with pytest.raises(RecordingError, match="not the experiment's"):
        replay(runs["relu"], [0], 1, short.replace(widths=(784, 9, 10)))
    headless = replace(
        runs["relu"],
        origin=replace(runs["relu"].origin, moments=()),
        checkpoint_moments=runs["relu"].checkpoint_moments[:, :0],
    )
    with pytest.raises(RecordingError, match="no moments of Adam"):
        replay(headless, [0], 1)
    with pytest.raises(RecordingError, match="different sizes: replay them one by one"):
        replay(runs["relu"], [1, 2], 40)
    with pytest.raises(RecordingError, match="there is no iteration 2001: the recording has 1 to 2,000"):
        deviations.at_iteration(runs["relu"], 2001)
    with pytest.raises(RecordingError, match="follows no experiment"):
        deviations.at_iteration(alone, 1)
