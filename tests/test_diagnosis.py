"""Does the diagnosis say of a recording what was put into it?"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from labkit import data
from labkit.backward import LOOKS
from labkit.diagnosis import Diagnosis, diagnose
from labkit.experiments import Experiment, experiment
from labkit.flow import INPUT_SIZE, mean_slopes
from labkit.losses import mean_cross_entropy
from labkit.networks import activation_module, of_experiment
from labkit.optimizers import SGD, Adam, RMSprop
from labkit.plots.gains import expected_gains, measured_gains
from labkit.recorder import Recorder
from labkit.recording import Recording, RecordingError
from labkit.theory import gain, scale_for
from labkit.training import train

SMALL = Experiment(observations=500, pool=1000, batch_size=100, epochs=1, optimizer="sgd", learning_rate=0.01)


def trained(**changes: object) -> Recording:
    return train(SMALL.replace(**changes), device="cpu", progress=False)


def deep(k: float, activation: str = "linear", **changes: object) -> Recording:
    """Eight hidden layers of 64 units whose gain is k by theory."""
    scale = scale_for(activation, "he_normal", 64, k)
    widths = (784, *(64,) * 8, 10)
    return trained(widths=widths, activation=activation, initialisation="he_normal", gain=scale, **changes)


@pytest.fixture(scope="module")
def vanishing() -> Recording:
    return deep(0.2, "sigmoid", epochs=3)


def scaled(recording: Recording, factor: float) -> Recording:
    """The recording of the same training with a loss times that factor, by plain SGD with a learning rate over it."""
    by = np.ones(recording.gradient.shape[-1])
    by[:5] = factor  # mean, abs_mean, sd, norm and abs_max; shares and counts stay
    return replace(
        recording,
        loss=recording.loss.astype(np.float64) * factor,
        gradient=recording.gradient.astype(np.float64) * by,
        probe_gradient=recording.probe_gradient.astype(np.float64) * by,
        through_time=recording.through_time.astype(np.float64) * factor,
        weight_dot_gradient=recording.weight_dot_gradient.astype(np.float64) * factor,
        bias_dot_gradient=recording.bias_dot_gradient.astype(np.float64) * factor,
    )


def estimated(recording: Recording) -> Recording:
    """The recording of the same training with data that nobody has: its gains have to be estimated."""
    return replace(recording, origin=replace(recording.origin, data_digest="0" * 64))


def in_order(recording: Recording, order: list[int]) -> Recording:
    """The recording with its layers' gradients in another order."""
    return replace(recording, gradient=recording.gradient[:, order], probe_gradient=recording.probe_gradient[:, order])


# The labs' networks


def test_the_labs_sigmoid_network_vanishes_and_its_relu_network_does_not(runs: dict[str, Recording]) -> None:
    assert diagnose(runs["sigmoid"]).verdict == "vanishing"
    assert diagnose(runs["relu"]).verdict == "healthy"


def test_all_sentences_have_figures_and_the_text_shows_them(runs: dict[str, Recording]) -> None:
    found = diagnose(runs["sigmoid"])
    assert str(found).startswith("vanishing/sigmoid: vanishing\n")
    assert all(any(c.isdigit() for c in line) for line in found.why)
    assert all(line in str(found) for line in (*found.why, *found.next))
    assert found.next
    assert found.fires
    assert not diagnose(runs["relu"]).next


def test_what_adam_hides_is_said(runs: dict[str, Recording]) -> None:
    assert any("hides" in line for line in diagnose(runs["sigmoid"]).why)


@pytest.mark.parametrize("name", ["activations/sigmoid", "activations/relu", "activations/leaky_relu"])
def test_six_layers_vanish_with_sigmoid_alone(name: str) -> None:
    e = experiment(name).replace(data="digits", observations=2000, pool=4000, batches=None, epochs=5)
    verdict = diagnose(train(e, device="cpu", progress=False)).verdict
    assert verdict == ("vanishing" if name.endswith("sigmoid") else "healthy")


@pytest.mark.parametrize("name", ["layers/sigmoid", "layers/tanh", "layers/relu"])
def test_five_units_wide_vanish_with_sigmoid_alone(name: str) -> None:
    verdict = diagnose(train(experiment(name).replace(epochs=20), device="cpu", progress=False)).verdict
    assert verdict == ("vanishing" if name.endswith("sigmoid") else "healthy")


def test_weights_three_times_as_large_explode() -> None:
    e = experiment("vanishing/exploding").replace(gain=3.0, epochs=1, observations=500, pool=1000)
    found = diagnose(train(e, device="cpu", progress=False))
    assert found.verdict == "exploding"
    assert found.reach[0] > 100
    assert any("not finite at iterations" in line for line in found.why)


def test_by_sgd_the_sigmoid_network_stays_where_it_began_and_its_first_layer_rests() -> None:
    """What Adam hides: its steps in the first layer are as large as in the last, or larger."""
    names = [f"vanishing/{activation}{by}" for activation in ("sigmoid", "relu") for by in ("", "_sgd")]
    small = {"observations": 2000, "batch_size": 50, "epochs": 10}
    runs = {name: train(experiment(name).replace(**small), device="cpu", progress=False) for name in names}
    moved = {name: diagnose(run).update_ratio[0] / diagnose(run).update_ratio[-1] for name, run in runs.items()}
    assert moved["vanishing/sigmoid"] > 0.5
    assert moved["vanishing/sigmoid_sgd"] < 0.2 < moved["vanishing/relu_sgd"]
    assert runs["vanishing/sigmoid_sgd"].accuracy[-1] < 0.3 < runs["vanishing/relu_sgd"].accuracy[-1]
    hides = {name: "hides that they vanish" in str(diagnose(run)) for name, run in runs.items()}
    assert hides == {name: name == "vanishing/sigmoid" for name in names}


# Against theory, and against gradients taken by autograd


@pytest.mark.parametrize("k", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("known", [True, False])
def test_the_gain_of_linear_layers_is_theirs_by_theory(k: float, known: bool) -> None:
    recording = deep(k)
    found = diagnose(recording if known else estimated(recording))
    # over seeds the logarithm of the size's square has a variance of 2 / 64 a layer (Hanin & Nica)
    assert found.exact == known
    assert diagnose(recording).theory == pytest.approx(k)
    assert found.gain[0] == pytest.approx(k, rel=0.2)
    assert found.reach[0] == pytest.approx(k**4, rel=0.5)


@pytest.mark.parametrize(("k", "verdict"), [(0.4, "vanishing"), (1.0, "healthy"), (2.5, "exploding")])
@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_the_dial_vanishes_holds_and_explodes(k: float, verdict: str, activation: str) -> None:
    """Weight gradients alone cannot tell: theirs are of one size in every layer of these."""
    recording = deep(k, activation)
    weights = recording.probe_statistic("norm")[0, 1:-1]
    assert weights.max() < 6 * weights.min()
    assert diagnose(recording).verdict == diagnose(estimated(recording)).verdict == verdict


SHAPES: list[dict[str, object]] = [
    {"activation": "relu"},
    {"activation": "gelu", "residual": True},
    {"activation": "leaky_relu", "slope": 0.2, "normalisation": "layer"},
    {"activation": "tanh", "normalisation": "batch"},
    {"activation": "silu", "normalisation": "layer", "residual": True},
    {"activation": "elu", "normalisation": "batch", "residual": True},
    {"activation": "sigmoid", "widths": (784, 20, 20, 30, 30, 10), "residual": True},
    {"activation": "tanh", "data": "circles", "widths": (2, 6, 6, 6, 1)},
]


def by_autograd(recording: Recording, checkpoint: int) -> list[torch.Tensor]:
    """dloss/dz of every fully connected layer, each image's own, by autograd in float64 on a checkpoint."""
    e = recording.origin.experiment
    assert e is not None
    network, drawn = of_experiment(e).double(), data.of_experiment(e)
    network.load_state_dict({n: torch.from_numpy(v.copy()) for n, v in recording.checkpoint(checkpoint).items()})
    seen: list[torch.Tensor] = []
    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda _m, _i, z: seen.append(z))
    inputs, labels = torch.from_numpy(drawn.inputs[:250].copy()).double(), torch.from_numpy(drawn.labels[:250].copy())
    return list(torch.autograd.grad(mean_cross_entropy(network(inputs), labels), seen))


@pytest.mark.parametrize("changes", SHAPES, ids=lambda changes: " ".join(map(str, changes.values())))
def test_where_the_experiment_is_known_gain_and_reach_are_autograds(changes: dict[str, object]) -> None:
    recording = trained(**{"widths": (784, 20, 20, 20, 10), "epochs": 2, "learning_rate": 0.1, **changes})
    found = diagnose(recording)
    assert found.exact
    for row, checkpoint in ((0, 0), (2, -1)):
        deltas = by_autograd(recording, checkpoint)
        mean_squares = [float(delta.square().mean()) for delta in deltas]
        per_layer = (mean_squares[0] / mean_squares[-2]) ** (1 / (len(deltas) - 2))
        widths = (deltas[0].shape[1] / deltas[-2].shape[1]) ** (0.5 / (len(deltas) - 2))  # 1 where all are equal
        assert found.gain[row] == pytest.approx(per_layer * widths, rel=1e-6)
        assert found.reach[row] == pytest.approx(float(deltas[0].norm() / deltas[-1].norm()), rel=1e-6)
        assert (found.size[row] / found.size[row, -1]).tolist() == pytest.approx(
            [math.sqrt(size / mean_squares[-1]) for size in mean_squares], rel=1e-6
        )


@pytest.mark.parametrize("k", ["half", "one", "two"])
def test_skip_connections_count(k: str) -> None:
    """What goes around a layer is added to what goes through it: a gain of k becomes one of about 1 + k."""
    e = experiment(f"exploding/gain_{k}").replace(residual=True, observations=500, pool=1000, epochs=1)
    recording = train(e, device="cpu", progress=False)
    found, deltas = diagnose(recording), by_autograd(recording, 0)
    assert found.verdict == "exploding"
    assert found.reach[0] == pytest.approx(float(deltas[0].norm() / deltas[-1].norm()), rel=1e-6)
    assert found.gain[0] == pytest.approx(1 + {"half": 0.5, "one": 1.0, "two": 2.0}[k], rel=0.15)
    assert "scale_for" not in " ".join(found.next)


@pytest.mark.parametrize("k", ["half", "one", "two"])
def test_the_dials_gain_is_the_figures_and_lies_in_the_band(k: str) -> None:
    dial = experiment(f"exploding/gain_{k}").replace(observations=500, pool=1000, epochs=1)
    recordings = [train(dial.replace(seed=seed), device="cpu", progress=False) for seed in range(3)]
    for recording in recordings:
        found = diagnose(recording)
        figure = np.exp(np.log(measured_gains(recording)[:-1]).mean())  # the last is that of the output layer
        assert found.gain[0] == pytest.approx(figure, rel=1e-9)
        assert found.band[0] < found.gain[0] < found.band[1]
        assert any("inside its band" in line for line in found.why)


def test_a_network_off_the_dial_lies_outside_the_band() -> None:
    recording = deep(2.0, "relu")
    e = recording.origin.experiment
    assert e is not None
    planted = replace(recording, origin=replace(recording.origin, experiment=e.replace(gain=e.gain / 2)))
    assert any("is above its band" in line for line in diagnose(planted).why)
    assert any("inside its band" in line for line in diagnose(recording).why)


def test_the_band_is_that_of_many_networks() -> None:
    """relu's 95 % band for nine layers of 64, by drawing 300 networks and carrying one image's gradient back."""
    e = Experiment(widths=(784, *(64,) * 9, 10), initialisation="he_normal")
    rng, gains = np.random.default_rng(0), []
    for _ in range(300):
        z, d = rng.normal(size=(9, 64)), rng.normal(size=64)
        start = (d**2).mean()
        for layer in range(8):
            d = rng.normal(size=(64, 64)).T @ d * math.sqrt(2 / 64) * (z[layer] > 0)
        gains.append(((d**2).mean() / start) ** (1 / 8))
    recording = trained(widths=e.widths, initialisation="he_normal")
    low, high = diagnose(recording).band
    assert 0.91 < np.mean([low < gain < high for gain in gains]) < 0.99


def test_theory_of_unequal_widths_is_that_of_each_layer() -> None:
    e = SMALL.replace(widths=(784, 40, 80, 60, 20, 10), initialisation="he_uniform")
    found = diagnose(train(e, device="cpu", progress=False))
    each = expected_gains(e)[:-1]
    assert found.theory == pytest.approx((each.prod() * math.sqrt(40 / 20)) ** (1 / 3))
    assert found.band[0] < found.gain[0] < found.band[1]


def test_of_a_long_training_some_rows_are_looked_at() -> None:
    recording = trained(epochs=60, observations=100)
    found = diagnose(recording)
    looked = np.flatnonzero(np.isfinite(found.gain))
    assert len(looked) == LOOKS
    assert (looked[0], looked[-1]) == (0, 60)


def off_the_data(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> Recording:
    def none(_e: Experiment) -> data.Dataset:
        raise data.DataError("MNIST is not here")

    monkeypatch.setattr(data, "of_experiment", none)
    return recording


def of_other_data(recording: Recording, _: pytest.MonkeyPatch) -> Recording:
    return estimated(recording)


def of_another_loss(recording: Recording, _: pytest.MonkeyPatch) -> Recording:
    return replace(recording, probe_loss=recording.probe_loss * 2)


def of_other_names(recording: Recording, _: pytest.MonkeyPatch) -> Recording:
    named = tuple((name.replace("fc_", "dense_"), shape) for name, shape in recording.origin.parameters)
    return replace(recording, origin=replace(recording.origin, parameters=named))


@pytest.mark.parametrize("without", [off_the_data, of_other_data, of_another_loss, of_other_names])
def test_what_cannot_be_carried_back_is_estimated(
    without: Callable[[Recording, pytest.MonkeyPatch], Recording], monkeypatch: pytest.MonkeyPatch, vanishing: Recording
) -> None:
    assert diagnose(vanishing).exact
    found = diagnose(without(vanishing, monkeypatch))
    assert not found.exact
    assert found.verdict == "vanishing"
    assert any("is an estimate" in line for line in found.why)
    assert not any("inside" in line or "outside" in line for line in found.why)


def test_estimated_sizes_go_as_those_of_single_images(vanishing: Recording) -> None:
    single = [float(delta.square().mean().sqrt()) for delta in by_autograd(vanishing, 0)][:-1]
    measured = diagnose(estimated(vanishing)).size[0, :-1]
    # a batch's mean keeps what its images have in common: the same share of it in every layer, near enough
    assert np.polyfit(range(8), np.log(measured), 1)[0] == pytest.approx(
        np.polyfit(range(8), np.log(single), 1)[0], rel=0.1
    )


@pytest.mark.parametrize("name", ["vanishing/relu", "layers/tanh"])
def test_the_inputs_size_is_that_of_the_data(name: str) -> None:
    e = experiment(name).replace(seed=3)
    inputs = data.of_experiment(e).inputs.astype(np.float64)
    assert math.sqrt((inputs**2).mean()) == pytest.approx(INPUT_SIZE[e.data], rel=0.02)


def test_mnists_size_follows_from_its_mean_and_sd() -> None:
    assert math.hypot(0.1307, 0.3081) == pytest.approx(INPUT_SIZE["mnist"], rel=0.01)


def test_theory_and_its_band_are_named(vanishing: Recording) -> None:
    found = diagnose(vanishing)
    e = vanishing.origin.experiment
    assert e is not None
    assert found.theory == pytest.approx(gain("sigmoid", "he_normal", 64, e.gain)) == pytest.approx(0.2)
    assert found.band[0] < found.theory < found.band[1]
    assert any(line.startswith("Theory has 0.2 for sigmoid") for line in found.why)
    assert not any("inside its band" in line for line in diagnose(trained()).why)  # its layers have 10 units


@pytest.mark.parametrize(("activation", "scale"), [("sigmoid", 1), ("sigmoid", 20), ("tanh", 1), ("relu", 1)])
def test_mean_slopes_are_those_of_the_probe_batch(activation: str, scale: float) -> None:
    recording = trained(widths=(784, *(40,) * 4, 10), activation=activation, initialisation="he_normal", gain=scale)
    _against_autograd(recording, rel=0.1)


def test_mean_slopes_of_leaky_relu_are_near() -> None:
    recording = trained(widths=(784, *(40,) * 4, 10), activation="leaky_relu", slope=0.2, initialisation="he_normal")
    _against_autograd(recording, rel=0.1)


def _against_autograd(recording: Recording, rel: float) -> None:
    e = recording.origin.experiment
    assert e is not None
    inputs = data.of_experiment(e).inputs[:250].reshape(250, -1).astype(np.float64)
    parameters, h, slopes = recording.checkpoint(0), torch.from_numpy(inputs), []
    for k in range(1, 5):
        z = h @ torch.from_numpy(parameters[f"fc_{k}.weight"]).double().T
        z = z.requires_grad_()
        h = activation_module(e.activation, e.slope)(z)
        slopes.append(float(torch.autograd.grad(h.sum(), z)[0].square().mean().sqrt()))
        h = h.detach()
    assert mean_slopes(recording)[0] == pytest.approx(slopes, rel=rel)


# Planted mistakes


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_size_of_all_gradients_together_decides_nothing(
    runs: dict[str, Recording], vanishing: Recording, factor: float
) -> None:
    for recording in (*runs.values(), vanishing, deep(2.5, "relu")):
        before, after = diagnose(recording), diagnose(scaled(recording, factor))
        assert after.verdict == before.verdict
        assert after.why == before.why
        np.testing.assert_allclose(after.gain, before.gain, rtol=1e-6)


def test_a_recording_of_zeros_is_dead(runs: dict[str, Recording]) -> None:
    for recording in runs.values():
        none = scaled(recording, 0.0)
        found = diagnose(none)
        assert found.verdict == "dead"
        assert "exactly 0" in found.why[0]


def test_a_layer_without_gradients_is_dead_and_named(runs: dict[str, Recording]) -> None:
    gradient, probe = runs["relu"].gradient.copy(), runs["relu"].probe_gradient.copy()
    gradient[:, :2], probe[:, :2] = 0, 0
    found = diagnose(replace(runs["relu"], gradient=gradient, probe_gradient=probe))
    assert found.verdict == "dead"
    assert "fc_1 and fc_2 are exactly 0" in found.why[0]


def test_gradients_in_another_order_change_an_estimate(runs: dict[str, Recording], vanishing: Recording) -> None:
    """The weights still say that it vanishes, the gradients that it explodes: together, neither."""
    backwards = diagnose(estimated(in_order(vanishing, [7, 6, 5, 4, 3, 2, 1, 0, 8])))
    assert backwards.verdict == "healthy"
    assert backwards.size[0, 0] > 100 * backwards.size[0, 7]
    assert diagnose(estimated(in_order(runs["sigmoid"], [2, 1, 0, 3]))).verdict != "vanishing"


@pytest.mark.parametrize("factor", [2.0, 3.0])
def test_a_layer_of_other_weights_changes_what_is_measured(factor: float) -> None:
    """Of linear layers one with weights twice as large multiplies the gradient by two, and the loss is another."""
    recording = deep(1.0)
    parameters, at = recording.checkpoint_parameters.copy(), 0
    for name, shape in recording.origin.parameters:
        size = math.prod(shape)
        if name == "fc_5.weight":
            parameters[0, at : at + size] *= factor
        at += size
    before = diagnose(recording)
    assert not diagnose(replace(recording, checkpoint_parameters=parameters)).exact
    silent = np.full_like(recording.probe_loss, np.nan)
    after = diagnose(replace(recording, checkpoint_parameters=parameters, probe_loss=silent))
    assert after.gain[0] == pytest.approx(before.gain[0] * factor ** (2 / 7), rel=0.02)


def test_iterations_that_are_not_finite_are_named(runs: dict[str, Recording]) -> None:
    loss = runs["relu"].loss.copy()
    loss[[41, 1998]] = np.nan, np.inf
    found = diagnose(replace(runs["relu"], loss=loss))
    assert found.verdict == "not finite"
    assert found.not_finite == (42, 1999)
    assert "not finite at iterations 42, 1,999." in found.why[0]


def test_a_gradient_that_is_not_finite_counts(runs: dict[str, Recording]) -> None:
    gradient = runs["relu"].gradient.copy()
    gradient[6, 2, -1] = 3  # nonfinite values
    found = diagnose(replace(runs["relu"], gradient=gradient))
    assert found.not_finite == (7,)
    assert "at iteration 7." in found.why[0]


def dial(**changes: object) -> Recording:
    e = experiment("exploding/gain_one", "ada").replace(observations=300, widths=(784, *(32,) * 10, 10), **changes)
    return train(e, device="cpu", progress=False)


@pytest.mark.parametrize("factor", [1e-6, 1e-15, 1e-30])
def test_what_float32_has_no_room_for_has_vanished_and_is_not_dead(factor: float) -> None:
    """Weights times 1e-30 leave exact zeros of all gradients, and yet no unit is dead."""
    recording = dial(gain=factor)
    assert (recording.statistic("norm") == 0).any()
    found = diagnose(recording)
    assert found.verdict == "vanishing"
    assert found.gain[0] == pytest.approx(factor**2, rel=0.5)
    assert f"1/10^{-10 * math.log10(factor):.0f}"[:5] in found.why[0]
    assert any("larger weights" in line for line in found.next)


@pytest.mark.parametrize("normalisation", ["batch", "layer"])
def test_skip_connections_around_what_normalises_do_not_explode(normalisation: str) -> None:
    """Twice as deep makes it a few times as large, where what explodes would be squared."""
    reach = {}
    for depth in (10, 20):
        e = experiment("exploding/gain_one", "ada").replace(normalisation=normalisation, residual=True, epochs=1)
        run = train(e.replace(observations=300, widths=(784, *(32,) * depth, 10)), device="cpu", progress=False)
        found = diagnose(run)
        assert found.verdict == "healthy", str(found)
        assert any("power of the depth" in line for line in found.why)
        reach[depth] = float(found.reach[0])
    assert reach[10] > 4
    assert reach[20] < 4 * reach[10] < reach[10] ** 2


def test_each_figure_says_what_it_is_of(runs: dict[str, Recording]) -> None:
    """The gain is between hidden layers, what arrives comes from the outputs; and which part of the training it is."""
    found = diagnose(runs["sigmoid"])
    start = found.gain[: max(1, round(0.05 * runs["sigmoid"].epochs))]
    epochs = int(np.flatnonzero(np.isfinite(start))[-1])
    early = float(np.exp(np.nanmean(np.log(start))))
    assert f"multiplied by {early:.2g} from each hidden layer to the one before it" in found.why[0]
    assert "from the outputs on, their own layer included" in found.why[0]
    assert found.why[0].startswith("Over the first epoch" if epochs == 1 else "Before the first step")
    assert not any("t the start" in line for line in found.why)


def test_a_list_of_many_iterations_is_cut() -> None:
    recording = trained(epochs=3)
    found = diagnose(replace(recording, loss=np.full_like(recording.loss, np.nan)))
    assert "1, 2, 3, 4, 5 and 10 more" in found.why[0]


def test_a_recording_without_iterations_is_refused() -> None:
    recording = trained()
    none = {f: getattr(recording, f)[:0] for f in ("loss", "gradient", "update_norm", "weight_norm")}
    with pytest.raises(RecordingError, match="no iterations: train"):
        diagnose(replace(recording, **none))


# Few layers, other layers, other loops


@pytest.mark.parametrize(("widths", "words"), [((784, 10), "one layer"), ((784, 10, 10), "2 layers")])
def test_few_layers_leave_nothing_to_compare(widths: tuple[int, ...], words: str) -> None:
    found = diagnose(trained(widths=widths))
    assert found.verdict == "nothing to compare"
    assert words in found.why[0]
    assert not found.fires


def of_a_loop(network: nn.Module, optimizer: SGD | Adam | RMSprop, inputs: torch.Tensor, probe: bool) -> Diagnosis:
    labels = torch.arange(len(inputs)) % 10
    batch = (inputs, labels)
    recorder = Recorder(network, optimizer, probe=batch if probe else None)
    for _ in range(2):
        for _ in range(4):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(inputs), labels)
            loss.backward()
            optimizer.step()
            recorder.step(loss)
        recorder.end_epoch()
    return diagnose(recorder.recording())


def stack(activation: type[nn.Module], bias: bool = True, depth: int = 8) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(depth):
        layer = nn.Linear(64, 64, bias=bias)
        # Glorot's for sigmoid, as Keras has it, He's for relu; torch's own vanish with both
        nn.init.xavier_uniform_(layer.weight) if activation is nn.Sigmoid else nn.init.kaiming_normal_(layer.weight)
        layers += [layer, activation()]
    return nn.Sequential(*layers, nn.Linear(64, 10, bias=bias))


@pytest.mark.parametrize("probe", [True, False])
@pytest.mark.parametrize("optimizer", [SGD, Adam, RMSprop])
@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.ReLU])
def test_a_loop_of_ones_own_is_diagnosed(
    activation: type[nn.Module], optimizer: type[SGD | Adam | RMSprop], probe: bool
) -> None:
    network = stack(activation)
    found = of_a_loop(network, optimizer(network.parameters(), 1e-4), torch.randn(100, 64), probe)
    assert found.name == "a loop of your own"
    assert math.isnan(found.theory)
    assert found.verdict == ("vanishing" if activation is nn.Sigmoid else "healthy")


def test_a_loop_without_biases_leaves_the_first_layer_out() -> None:
    network = stack(nn.Sigmoid, bias=False)
    found = of_a_loop(network, SGD(network.parameters(), 1e-4), torch.randn(100, 64), probe=True)
    assert found.verdict == "vanishing"
    assert np.isnan(found.size[:, 0]).all()


def test_first_step_and_moments_tell_the_same_inputs_size() -> None:
    found = []
    for optimizer in (SGD, Adam, RMSprop):
        network = stack(nn.Tanh)
        torch.manual_seed(1)
        inputs = torch.randn(100, 64)
        found.append(of_a_loop(network, optimizer(network.parameters(), 1e-3), inputs, probe=True).size[0])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-2)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-2)


@pytest.mark.parametrize(("activation", "verdict"), [(nn.Sigmoid, "vanishing"), (nn.ReLU, "healthy")])
def test_convolutions_are_diagnosed_by_their_weights_gradients(activation: type[nn.Module], verdict: str) -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before in (1, *(8,) * 7):
        conv = nn.Conv2d(before, 8, 3, padding=1)
        nn.init.kaiming_normal_(conv.weight)
        layers += [conv, activation()]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 36, 10))
    found = of_a_loop(network, SGD(network.parameters(), 1e-4), torch.randn(50, 1, 6, 6), probe=True)
    assert found.verdict == verdict
    assert "weight gradient" in found.why[0]


@pytest.mark.parametrize(("per_step", "verdict"), [(0.6, "vanishing"), (1.0, "healthy"), (1.5, "exploding")])
def test_time_steps_vanish_hold_and_explode(per_step: float, verdict: str) -> None:
    e = experiment("recurrent/rnn").replace(observations=100, epochs=1, steps=12)
    recording = train(e, device="cpu", progress=False)
    steps = 1e-3 * per_step ** np.arange(11, -1, -1)
    found = diagnose(replace(recording, through_time=np.tile(steps, (2, 1))))
    assert found.verdict == verdict
    assert found.through_time[0] == pytest.approx(per_step**11)
    assert "From the last time step to the first" in found.why[0]


def test_a_simple_recurrent_network_vanishes_through_time() -> None:
    e = experiment("recurrent/rnn").replace(observations=200, epochs=3, steps=60)
    found = diagnose(train(e, device="cpu", progress=False))
    assert found.verdict == "vanishing"
    assert "lstm" in found.next[0]


def test_what_was_saved_is_diagnosed_as_what_was_recorded(vanishing: Recording, tmp_path: object) -> None:
    again = Recording.load(vanishing.save(f"{tmp_path}/a.safetensors"))
    assert str(diagnose(again)) == str(diagnose(vanishing))


# Words


def words(recording: Recording) -> str:
    return str(diagnose(recording))


def through(recording: Recording, first: float) -> Recording:
    """The recording with gradients through time that are `first` times as large at the first step as at the last."""
    steps = recording.through_time.shape[1]
    return replace(recording, through_time=np.tile(np.geomspace(first, 1, steps), (len(recording.through_time), 1)))


@pytest.fixture(scope="module")
def steps() -> Recording:
    e = experiment("recurrent/rnn").replace(observations=100, epochs=1, steps=5)
    return train(e, device="cpu", progress=False)


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (1.0, "arrives with all of its size at the start"),
        (0.98, "arrives with all of its size at the start"),
        (0.5, "with 1/2 of its size"),
        (3.0, "with 3 times its size"),
        (99.7, "with 100 times its size"),
        (0.0125, "with 1/80 of its size"),
        (1 / 8.4e13, "with 1/10^14 of its size"),
    ],
)
def test_shares_are_said_in_words(steps: Recording, first: float, said: str) -> None:
    text = words(through(steps, first))
    assert said in text
    assert "e+" not in text
    assert "1/1 " not in text


def test_one_epoch_is_one_epoch() -> None:
    text = words(deep(1.0))
    assert " 1 epoch." in text
    assert "1 epochs" not in text


def test_one_time_step_leaves_nothing_to_compare() -> None:
    e = experiment("recurrent/rnn").replace(steps=1, observations=100, epochs=1)
    found = diagnose(train(e, device="cpu", progress=False))
    assert found.verdict == "nothing to compare"
    assert "1 time step" in found.why[0]
    assert found.next == ("Train on sequences of two time steps or more, and record again.",)


def test_a_probe_batch_is_asked_for_where_there_is_none() -> None:
    few = nn.Sequential(nn.Linear(64, 10), nn.ReLU(), nn.Linear(10, 10))
    advice = [of_a_loop(few, SGD(few.parameters(), 1e-3), torch.randn(20, 64), probe).next for probe in (True, False)]
    assert advice[0] == ("Add hidden layers, and record again.",)
    assert "probe batch" in advice[1][0]


def test_what_a_network_has_is_not_advised() -> None:
    wanted = [({"residual": True}, "Or add batch normalisation, or"), ({}, "residual connections or batch")]
    for changes, said in wanted:
        found = diagnose(saturated(trained(widths=(784, *(30,) * 9, 10), activation="sigmoid", **changes)))
        assert found.verdict == "vanishing"
        assert said in found.next[1]


def test_clipping_is_not_advised_where_gradients_were_clipped() -> None:
    e = experiment("recurrent/rnn").replace(observations=100, epochs=1, steps=12)
    steps = np.tile(1e-3 * 1.5 ** np.arange(11, -1, -1), (2, 1))
    wild = [
        deep(9.0),
        deep(9.0, residual=True),
        trained(learning_rate=1e30),
        replace(train(e, device="cpu", progress=False), through_time=steps),
    ]
    for recording in wild:
        clipped = replace(recording, clip_factor=np.full_like(recording.clip_factor, 0.1))
        assert diagnose(clipped).verdict == diagnose(recording).verdict in ("exploding", "not finite")
        assert any("lip the gradient's norm" in line for line in diagnose(recording).next)
        assert not any("lip the gradient's norm" in line for line in diagnose(clipped).next)
        assert any("Clipping, which was on" in line or "clip to less" in line for line in diagnose(clipped).next)


def test_an_lstm_is_not_advised_where_there_is_one() -> None:
    e = experiment("recurrent/lstm").replace(observations=100, epochs=1, steps=12)
    steps = np.tile(1e-3 * 0.5 ** np.arange(11, -1, -1), (2, 1))
    found = diagnose(replace(train(e, device="cpu", progress=False), through_time=steps))
    assert found.verdict == "vanishing"
    assert found.next == ("Start its forget gates wider open, from a bias above 1, or take fewer time steps.",)


def test_what_grows_while_a_network_learns_is_explained() -> None:
    calm, learned = deep(1.0), deep(1.0, epochs=20)
    parameters = learned.checkpoint_parameters.copy()
    parameters[1:] *= 1.5  # in each of nine layers the gradient grows by that
    grown = diagnose(
        replace(learned, checkpoint_parameters=parameters, probe_loss=np.full_like(learned.probe_loss, np.nan))
    )
    assert grown.verdict == "healthy"
    assert any("grows as a network learns is not counted" in line for line in grown.why)
    assert not any("grows as a network learns" in line for line in diagnose(calm).why)


def saturated(recording: Recording) -> Recording:
    """The recording with a first layer that saturates what is behind it, and without a loss that says otherwise."""
    parameters, first = recording.checkpoint_parameters.copy(), recording.origin.parameters[0]
    assert first[0] == "fc_1.weight"
    parameters[:, : math.prod(first[1])] *= 1e5
    return replace(recording, checkpoint_parameters=parameters, probe_loss=np.full_like(recording.probe_loss, np.nan))


def test_a_file_s_name_is_no_recording() -> None:
    with pytest.raises(RecordingError, match=r"read its file with labkit\.Recording\.load"):
        diagnose("run.safetensors")  # type: ignore[arg-type]
