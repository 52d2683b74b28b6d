"""Does the recorder record what happened, and leave what happens as it was?"""

import copy
import importlib.metadata

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn
from torch.nn.functional import cross_entropy

import labkit
from labkit import data, networks
from labkit.recorder import Recorder, tensors
from labkit.recording import PROBE, STATISTICS, Recording, RecordingError, checkpoint_iterations
from labkit.replay import statistics as by_hand
from labkit.tape import CommonBins, Layout, counts, hidden_statistics, statistics


def loop(network, optimizer, e, recorder=None, zero_in_place=False) -> list[dict[str, np.ndarray]]:
    """A plain loop; gives float64 copies of every gradient, taken by hand."""
    images, labels, _ = tensors(e)
    kept = []
    for epoch in range(e.epochs):
        for indices in data.batches(e.observations, e.batch_size, e.seed, epoch):
            before = {name: p.detach().double().numpy().copy() for name, p in network.named_parameters()}
            if zero_in_place:
                optimizer.zero_grad(set_to_none=False)
            else:
                optimizer.zero_grad()
            loss = cross_entropy(network(images[indices]), labels[indices])
            loss.backward()
            optimizer.step()
            if recorder:
                recorder.step(loss)
            kept.append({
                "loss": loss.item(), "before": before,
                "gradient": {name: p.grad.double().numpy().copy() for name, p in network.named_parameters()},
                "after": {name: p.detach().double().numpy().copy() for name, p in network.named_parameters()},
            })  # fmt: skip
        if recorder:
            recorder.end_epoch()
    return kept


@pytest.fixture(scope="module")
def recorded(short) -> tuple[Recording, list]:
    network = networks.of_experiment(short)
    optimizer = torch.optim.Adam(network.parameters(), short.learning_rate)
    recorder = Recorder(network, optimizer, short)
    kept = loop(network, optimizer, short, recorder)
    return recorder.recording(), kept


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.SGD, labkit.Adam])
def test_watching_changes_nothing_bit_for_bit(short, make) -> None:
    watched, alone = networks.of_experiment(short), networks.of_experiment(short)
    torch.manual_seed(3)
    optimizer = make(watched.parameters(), 1e-3)
    recorder = Recorder(watched, optimizer, short)
    loop(watched, optimizer, short, recorder)
    recorder.recording()
    after_watching = torch.get_rng_state()
    torch.manual_seed(3)
    loop(alone, make(alone.parameters(), 1e-3), short)
    for a, b in zip(watched.parameters(), alone.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a.grad, b.grad)
    assert torch.equal(torch.get_rng_state(), after_watching)
    assert watched.training


def test_a_look_that_fails_leaves_no_checkpoint_behind(short, monkeypatch) -> None:
    network = networks.of_experiment(short)
    recorder = Recorder(network, labkit.Adam(network.parameters()), short)
    images, labels, _ = tensors(short)

    def full(*_) -> None:
        raise MemoryError

    for number in range(3):
        cross_entropy(network(images[:8]), labels[:8]).backward()
        recorder.optimizer.step()
        recorder.step(torch.tensor(1.0))
        if number == 1:
            with monkeypatch.context() as patch:
                patch.setattr("labkit.tape.Tape._take_probes", full)
                with pytest.raises(MemoryError):
                    recorder.recording()
    recorder.end_epoch()
    assert recorder.recording().checkpoint_iteration.tolist() == [0, 1, 3]


def test_counts_are_exact_where_the_numbers_themselves_are_coarse() -> None:
    """float16 holds no 5,001."""
    values = torch.full((5001,), torch.inf, dtype=torch.float16)
    taken = dict(zip(STATISTICS, statistics(values).tolist(), strict=True))
    assert taken["nonfinite"] == 5001
    assert taken["zero_share"] == 0


def test_every_statistic_is_what_numpy_finds_in_float64(recorded) -> None:
    recording, kept = recorded
    assert recording.iterations == 9
    for i, step in enumerate(kept):
        assert recording.loss[i] == pytest.approx(step["loss"], rel=1e-6)
        for k, layer in enumerate(recording.layers):
            weight, bias = f"{layer}.weight", f"{layer}.bias"
            g, w = step["gradient"][weight], step["before"][weight]
            expected = by_hand(g.ravel())
            scale = np.abs(g).max()
            np.testing.assert_allclose(recording.gradient[i, k, :5], expected[:5], rtol=2e-6, atol=1e-9 * scale)
            np.testing.assert_allclose(recording.gradient[i, k, 5:], expected[5:], rtol=1e-6)
            assert recording.weight_norm[i, k] == pytest.approx(np.linalg.norm(w), rel=1e-6)
            assert recording.update_norm[i, k] == pytest.approx(np.linalg.norm(step["after"][weight] - w), rel=1e-4)
            room = 1e-6 * np.linalg.norm(w) * np.linalg.norm(g)
            assert recording.weight_dot_gradient[i, k] == pytest.approx((w * g).sum(), abs=room)
            dot = (step["before"][bias] * step["gradient"][bias]).sum()
            assert recording.bias_dot_gradient[i, k] == pytest.approx(dot, abs=room)


def test_last_mini_batch_histograms_are_numpys(recorded) -> None:
    recording, kept = recorded
    for e, last in enumerate(recording.epoch_end - 1):
        for k, layer in enumerate(recording.layers):
            g = kept[last]["gradient"][f"{layer}.weight"]
            counts, edges = np.histogram(g, bins=30)
            np.testing.assert_allclose(recording.batch_range[e, k], edges[[0, -1]], rtol=1e-6)
            assert recording.batch_counts[e, k].sum() == g.size
            # a value on an edge may fall to either side
            assert np.abs(np.cumsum(recording.batch_counts[e, k] - counts)).max() <= 2


def test_probe_and_weights_after_each_epoch(recorded, short) -> None:
    recording, kept = recorded
    images, labels = (whole[:PROBE] for whole in tensors(short)[:2])
    network = networks.of_experiment(short).double()
    rows = [kept[0]["before"], *(kept[last]["after"] for last in recording.epoch_end - 1)]
    for e, row in enumerate(rows):
        network.load_state_dict({name: torch.from_numpy(value) for name, value in row.items()})
        network.zero_grad()
        logits = network(images.double())
        cross_entropy(logits, labels).backward()
        p = logits.softmax(-1).detach()
        error = (p - nn.functional.one_hot(labels, 10)).abs().mean().item()
        assert recording.output_error[e] == pytest.approx(error, rel=1e-5)
        assert recording.accuracy[e] == pytest.approx((p.argmax(-1) == labels).double().mean().item())
        for k, layer in enumerate(recording.layers):
            g = getattr(network, layer).weight.grad.numpy()
            np.testing.assert_allclose(recording.probe_gradient[e, k, 1:5], by_hand(g.ravel())[1:5], rtol=1e-4)
            reach = recording.probe_range[k]
            counts, _ = np.histogram(g, bins=30, range=(-reach, reach))
            assert recording.probe_counts[e, k].sum() == g.size
            assert np.abs(np.cumsum(recording.probe_counts[e, k] - counts)).max() <= 2
            w = row[f"{layer}.weight"]
            np.testing.assert_allclose(recording.weight[e, k], [w.mean(), w.std()], rtol=1e-5, atol=1e-8)
            assert recording.weight_counts[e, k].sum() == w.size


def test_checkpoints_hold_parameters_and_moments(recorded) -> None:
    recording, kept = recorded
    assert recording.checkpoint_iteration.tolist() == [0, 1, 3, 6, 9]
    for name, value in recording.checkpoint(1).items():
        np.testing.assert_allclose(value, kept[0]["after"][name], rtol=1e-6)
    for name, value in recording.checkpoint_moment(1, "exp_avg").items():
        np.testing.assert_allclose(value, 0.1 * kept[0]["gradient"][name], rtol=1e-4, atol=1e-12)


def test_looking_at_a_recording_midway_leaves_no_trace_in_it(short, recorded) -> None:
    network = networks.of_experiment(short)
    optimizer = torch.optim.Adam(network.parameters(), short.learning_rate)
    recorder = Recorder(network, optimizer, short)
    step, seen = recorder.step, []

    def step_and_look(loss: torch.Tensor) -> None:
        step(loss)
        seen.append(recorder.recording().checkpoint_iteration.tolist())

    recorder.step = step_and_look
    loop(network, optimizer, short, recorder)
    assert seen[4] == [0, 1, 3, 5]
    assert recorder.recording().checkpoint_iteration.tolist() == checkpoint_iterations(short) == [0, 1, 3, 6, 9]
    np.testing.assert_array_equal(recorder.recording().gradient, recorded[0].gradient)


def test_gradients_zeroed_in_place_are_recorded_too(short, recorded) -> None:
    network = networks.of_experiment(short)
    optimizer = torch.optim.Adam(network.parameters(), short.learning_rate)
    recorder = Recorder(network, optimizer, short)
    loop(network, optimizer, short, recorder, zero_in_place=True)
    np.testing.assert_array_equal(recorder.recording().gradient, recorded[0].gradient)


def test_a_convolutional_network_with_batch_norm_is_recorded_and_left_alone() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4 * 26 * 26, 10)
    )
    images, labels = torch.rand(20, 1, 28, 28), torch.arange(20) % 10
    running = copy.deepcopy(network.state_dict())
    optimizer = labkit.SGD(network.parameters(), 0.1)
    network[1].eval()  # as one freezes a normalisation
    modes = [module.training for module in network.modules()]
    recorder = Recorder(network, optimizer, probe=(images, labels))
    assert [module.training for module in network.modules()] == modes
    for name, value in network.state_dict().items():
        assert torch.equal(value, running[name]), f"the probe changed {name}"
    cross_entropy(network(images), labels).backward()
    optimizer.step()
    recorder.step(torch.tensor(1.5))
    recorder.end_epoch()
    recording = recorder.recording()
    assert recording.layers == ("0", "5")
    assert recording.origin.shapes == ((4, 1, 3, 3), (10, 2704))
    assert recording.loss.tolist() == [1.5]
    norm = network[0].weight.grad.double().norm().item()
    assert recording.statistic("norm")[0, 0] == pytest.approx(norm, rel=1e-6)


def test_without_a_probe_its_rows_are_nan(short) -> None:
    network = networks.of_experiment(short)
    recording = Recorder(network).recording()
    assert np.isnan(recording.probe_gradient).all()
    assert np.isnan(recording.accuracy).all()
    assert recording.iterations == 0


def test_non_finite_gradients_are_counted() -> None:
    network = nn.Linear(3, 2)
    optimizer = labkit.SGD(network.parameters(), 0.1)
    recorder = Recorder(network, optimizer)
    network.weight.grad = torch.tensor([[1.0, float("nan"), 0.0], [float("inf"), -float("inf"), 2.0]])
    network.bias.grad = torch.zeros(2)
    optimizer.step()
    recorder.step(torch.tensor(float("nan")))
    recorder.end_epoch()
    recording = recorder.recording()
    assert recording.statistic("nonfinite")[0, 0] == 3
    assert recording.statistic("zero_share")[0, 0] == pytest.approx(1 / 6)
    assert recording.batch_counts.sum() == 3  # the finite ones
    assert np.isnan(recording.loss).all()


def _misused(case: str) -> None:
    network = nn.Linear(3, 2)
    optimizer = labkit.SGD(network.parameters(), 0.1)
    if case == "no layer":
        Recorder(nn.ReLU())
    if case == "odd bins":
        Recorder(network, bins=31)
    recorder = Recorder(network, optimizer)
    loss = network(torch.ones(4, 3)).square().mean()
    if case == "no backward":
        recorder.step(loss)
    if case == "vector":
        recorder.step(torch.zeros(3))
    if case == "number":
        recorder.step(0.5)  # type: ignore[arg-type]
    if case == "before the optimiser":
        loss.backward()
        recorder.step(loss)
    if case == "empty epoch":
        recorder.end_epoch()


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("no layer", "no layer with a weight matrix"),
        ("odd bins", "choose an even number"),
        ("no backward", "call loss.backward()"),
        ("vector", "pass the mean loss"),
        ("number", "pass the mean loss"),
        ("before the optimiser", "after optimizer.step()"),
        ("empty epoch", "this epoch recorded no iteration"),
    ],
)
def test_a_wrong_loop_is_told_what_to_do(case: str, words: str) -> None:
    with pytest.raises(RecordingError) as caught:
        _misused(case)
    assert words in str(caught.value)


@settings(deadline=None, max_examples=50)
@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=st.floats(-1e3, 1e3)))
def test_statistics_are_numpys_for_any_values(values: np.ndarray) -> None:
    found = statistics(torch.from_numpy(values)).numpy()
    for row, expected in zip(found, values, strict=True):
        want = by_hand(expected)
        # sd comes from norm and mean: where they nearly cancel, a rounding of the norm is left
        np.testing.assert_allclose(row, want, rtol=1e-9, atol=1e-7 * max(1e-9, np.abs(expected).max()))
        assert len(row) == len(STATISTICS)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(hnp.arrays(np.float64, 12, elements=st.floats(-1e6, 1e6, allow_subnormal=False)), min_size=1, max_size=6)
)
def test_common_bins_are_the_histogram_on_the_final_range(epochs: list[np.ndarray]) -> None:
    """Doubling merges bins exactly: as if the final range had been known from the first epoch on."""
    bins = CommonBins(1, 30)
    for values in epochs:
        (reach,) = bins.reaches(np.array([[np.abs(values).max()]]))
        place = np.clip(np.floor((values + reach) / (2 * reach / 30)), 0, 29).astype(int)
        bins.add(np.bincount(place, minlength=30)[None].astype(float), reach)
    reach = bins.range[0]
    for values, counted in zip(epochs, bins.counts, strict=True):
        expected, _ = np.histogram(values, bins=30, range=(-reach, reach))
        # a value within rounding of an edge may fall to either side
        assert (
            np.abs(np.cumsum(counted[0] - expected)).max()
            <= (np.abs(values / (reach / 15) % 1) < 1e-6).sum() + (np.abs(values / (reach / 15) % 1) > 1 - 1e-6).sum()
        )
        assert counted.sum() == 12


def test_ranges_of_many_epochs_at_once_are_those_of_one_after_another() -> None:
    largest = np.array([[0.3, 0.0], [0.2, np.nan], [5.0, np.inf], [1.0, 1e-30]])
    together, single = CommonBins(2, 30), CommonBins(2, 30)
    for row, reach in zip(largest, together.reaches(largest), strict=True):
        np.testing.assert_array_equal(single.reaches(row[None])[0], reach)
        single.add(np.ones((2, 30)), reach)
    assert together.reaches(largest).tolist() == [[0.5, 2**-40], [0.5, 2**-40], [8.0, 2**-40], [8.0, 2**-40]]
    assert single.range.tolist() == [8.0, 2**-40]
    assert single.counts[0].sum(1).tolist() == [30, 30]


@pytest.mark.parametrize("size", [1.0, 1e-30, 1e-37, 1e-40, 1e-43])
def test_are_values_counted_that_float32_hardly_holds(size) -> None:
    # steps of 1/31 lie on no edge of 30 bins, where rounding would decide
    values = (np.arange(-30, 31, 2) / 31 * size).astype(np.float32)
    expected, _ = np.histogram(values.astype(np.float64) / size, bins=30, range=(-1, 1))
    edges = torch.tensor([[-size, size]], dtype=torch.float32)
    found = counts(torch.from_numpy(values)[None], edges, 30)[0].numpy()
    assert found.sum() == len(values)
    # float32 has few values down there: one or two fall into the next bin
    assert np.abs(np.cumsum(found - expected)).max() <= (size < 1e-38)


def test_hidden_statistics_tell_saturated_from_dead() -> None:
    relu = torch.tensor([[0.0, 0.0, 2.0], [0.0, 1.0, 3.0]])
    mean, size, sd, saturated, dead = hidden_statistics(relu, "relu").tolist()
    assert (mean, size) == (1.0, 1.0)
    assert sd == pytest.approx(np.std([0, 0, 2, 0, 1, 3]))
    assert (saturated, dead) == (pytest.approx(0.5), pytest.approx(1 / 3))
    sigmoid = torch.tensor([[0.01, 0.5], [0.99, 0.5]])
    assert hidden_statistics(sigmoid, "sigmoid").tolist()[3:] == [0.5, 0.5]


def test_the_layout_of_a_stack_is_that_of_the_module(short) -> None:
    from labkit.dense import layout

    assert layout(short.widths) == Layout.of(networks.of_experiment(short))


def test_a_clone_that_was_not_installed_records_too(monkeypatch: pytest.MonkeyPatch) -> None:
    known = importlib.metadata.version

    def version(name: str) -> str:
        if name == "gradient-lab":
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr("labkit.recorder.version", version)
    labkit.recorder._versions.cache_clear()
    try:
        recorded = Recorder(nn.Linear(3, 2)).recording()
    finally:
        labkit.recorder._versions.cache_clear()
    assert recorded.origin.versions["gradient-lab"] == "not installed"
    assert recorded.origin.versions["torch"] == torch.__version__
