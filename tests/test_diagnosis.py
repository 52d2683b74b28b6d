"""Does the diagnosis say of a recording what was put into it?"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from labkit import data
from labkit.diagnosis import Diagnosis, diagnose
from labkit.experiments import Experiment, experiment
from labkit.flow import INPUT_SIZE, mean_slopes
from labkit.networks import activation_module, of_experiment
from labkit.optimizers import SGD, Adam, RMSprop
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


# Against theory, and against gradients taken by autograd


@pytest.mark.parametrize("k", [0.5, 1.0, 2.0])
def test_the_gain_of_linear_layers_is_theirs_by_theory(k: float) -> None:
    found = diagnose(deep(k))
    # over seeds the logarithm of the size's square has a variance of 2 / 64 a layer (Hanin & Nica)
    assert found.theory == pytest.approx(k)
    assert found.gain[0] == pytest.approx(k, rel=0.2)
    assert found.reach[0] == pytest.approx(k**4, rel=0.5)


@pytest.mark.parametrize(("k", "verdict"), [(0.4, "vanishing"), (1.0, "healthy"), (2.5, "exploding")])
@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_the_dial_vanishes_holds_and_explodes(k: float, verdict: str, activation: str) -> None:
    """Weight gradients alone cannot tell: theirs are of one size in every layer of these."""
    recording = deep(k, activation)
    weights = recording.probe_statistic("norm")[0, 1:-1]
    assert weights.max() < 6 * weights.min()
    assert diagnose(recording).verdict == verdict


def test_sizes_are_those_of_single_images_gradients(vanishing: Recording) -> None:
    e = vanishing.origin.experiment
    assert e is not None
    network = of_experiment(e).double()
    drawn = data.of_experiment(e)
    inputs = torch.from_numpy(drawn.inputs[:250].copy()).double()
    seen: list[torch.Tensor] = []
    for module in network:
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda _m, _i, z: seen.append(z))
    loss = nn.functional.cross_entropy(network(inputs), torch.from_numpy(drawn.labels[:250].copy()))
    single = [float(g.square().mean().sqrt()) for g in torch.autograd.grad(loss, seen)][:-1]
    measured = diagnose(vanishing).size[0, :-1]
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


def test_layers_in_another_order_change_the_verdict(runs: dict[str, Recording], vanishing: Recording) -> None:
    """The weights still say that it vanishes, the gradients that it explodes: together, neither."""
    backwards = diagnose(in_order(vanishing, [7, 6, 5, 4, 3, 2, 1, 0, 8]))
    assert backwards.verdict == "healthy"
    assert backwards.size[0, 0] > 100 * backwards.size[0, 7]
    assert diagnose(in_order(runs["sigmoid"], [2, 1, 0, 3])).verdict != "vanishing"


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
