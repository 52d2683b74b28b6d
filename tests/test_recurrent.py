"""Are the recurrent networks torch's, step by step, with every hidden state at hand?"""

import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from labkit import networks
from labkit.experiments import Experiment, ExperimentError, experiment

KINDS = ("rnn", "lstm", "gru")


def small(kind: str, **changes) -> Experiment:
    e = experiment(f"recurrent/{kind}").replace(widths=(5, 7, 4), dtype="float64", initialisation="pytorch")
    return e.replace(**changes)


def batch(steps: int = 9) -> tuple[Tensor, Tensor]:
    random = np.random.RandomState(0)
    return torch.from_numpy(random.standard_normal((6, steps, 5))), torch.arange(6) % 4


def torchs(network: networks.Recurrent, kind: str) -> nn.RNNBase:
    """torch's layer with our weights; its second bias vector is 0 where we have none."""
    theirs = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[kind](5, 7, batch_first=True, dtype=torch.float64)
    ours = dict(network.named_parameters())
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(ours["input.weight"])
        theirs.bias_ih_l0.copy_(ours["input.bias"])
        theirs.weight_hh_l0.copy_(ours["recurrent.weight"])
        theirs.bias_hh_l0.copy_(ours.get("recurrent.bias", torch.zeros_like(theirs.bias_hh_l0)))
    return theirs


@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_torchs(kind: str) -> None:
    network, (x, y) = networks.of_experiment(small(kind, seed=2)), batch()
    theirs = torchs(network, kind)
    hidden, _ = theirs(x)
    torch.testing.assert_close(network(x), network.output(hidden[:, -1]), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(torch.stack(network.states, 1), hidden, rtol=1e-12, atol=1e-14)
    cross_entropy(network(x), y).backward()
    cross_entropy(network.output(hidden[:, -1]), y).backward(inputs=list(theirs.parameters()))
    pairs = [("input.weight", "weight_ih_l0"), ("input.bias", "bias_ih_l0"), ("recurrent.weight", "weight_hh_l0")]
    for mine, other in [*pairs, *([("recurrent.bias", "bias_hh_l0")] if kind == "gru" else [])]:
        ours, found = network.get_parameter(mine).grad, theirs.get_parameter(other).grad
        torch.testing.assert_close(ours, found, rtol=1e-10, atol=1e-15)
        assert ours.abs().max() > 1e-6


def test_gates_in_another_order_would_be_seen() -> None:
    network, (x, _) = networks.of_experiment(small("lstm")), batch()
    theirs = torchs(network, "lstm")
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(theirs.weight_ih_l0.roll(7, 0))
    assert (theirs(x)[0][:, -1] - (network(x), network.states[-1])[1]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_the_states_are_finite_differences(kind: str) -> None:
    """The loss changes along a direction in h_t as dloss/dh_t says, when the state is moved and everything after it
    follows; an lstm's cell stays where it is."""
    network, (x, y) = networks.of_experiment(small(kind)), batch()
    gradients = torch.autograd.grad(cross_entropy(network(x), y), network.states)
    at, step = 3, network.step
    direction = torch.from_numpy(np.random.RandomState(1).standard_normal((6, 7)))

    def loss(moved: float) -> float:
        count = iter(range(9))

        def shifted(drive, state):
            h, memory = step(drive, state)
            if next(count) != at:
                return h, memory
            h = h + moved * direction
            return h, memory if kind == "lstm" else h

        network.step = shifted
        with torch.no_grad():
            found = float(cross_entropy(network(x), y))
        del network.step
        return found

    numerical = (loss(1e-5) - loss(-1e-5)) / 2e-5
    assert float((gradients[at] * direction).sum()) == pytest.approx(numerical, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_each_pass_leaves_its_own_states(kind: str) -> None:
    network = networks.of_experiment(small(kind))
    assert network.states == []
    for steps in (9, 4):
        network(batch(steps)[0])
        assert [state.shape for state in network.states] == [(6, 7)] * steps
        assert len(network.memory) == steps
    same = all(h is c for h, c in zip(network.states, network.memory, strict=True))
    assert same == (kind != "lstm")
    twin = copy.deepcopy(network)  # states inside a graph cannot be copied
    assert twin.states == []
    torch.testing.assert_close(twin(batch()[0]), network(batch()[0]))
    assert isinstance(pickle.loads(pickle.dumps(network)), networks.Recurrent)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("rnn", ["input.weight", "input.bias", "recurrent.weight", "output.weight", "output.bias"]),
        ("lstm", ["input.weight", "input.bias", "recurrent.weight", "output.weight", "output.bias"]),
        (
            "gru",
            ["input.weight", "input.bias", "recurrent.weight", "recurrent.bias", "output.weight", "output.bias"],
        ),
    ],
)
def test_names_and_shapes(kind: str, names: list[str]) -> None:
    plain, normed = (networks.of_experiment(small(kind, normalisation=n)) for n in ("none", "layer"))
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[kind]
    assert list(plain.state_dict()) == names
    assert set(normed.state_dict()) == {*names, "norm.weight", "norm.bias"}
    assert plain.input.weight.shape == (7 * gates, 5)
    assert plain.recurrent.weight.shape == (7 * gates, 7)
    assert normed.norm.weight.shape == (7 * gates,)


def test_an_rnn_takes_any_activation() -> None:
    x, _ = batch(1)
    for name in ("relu", "leaky_relu", "linear", "silu", "sigmoid"):
        network = networks.of_experiment(small("rnn", activation=name, slope=0.3))
        network(x)
        torch.testing.assert_close(
            network.states[0], networks.activation_module(name, 0.3)(network.input(x[:, 0])), rtol=1e-12, atol=1e-14
        )


@pytest.mark.parametrize("kind", KINDS)
def test_layer_normalisation_makes_a_gate_blind_to_the_size_of_its_weights(kind: str) -> None:
    network, (x, _) = networks.of_experiment(small(kind, normalisation="layer")), batch()
    network.norm.epsilon = 1e-14
    before = network(x)
    with torch.no_grad():
        for name in ("input.weight", "input.bias", "recurrent.weight", "recurrent.bias"):
            if name in network.state_dict():
                network.get_parameter(name)[-7:] *= 3  # of the last gate
    torch.testing.assert_close(network(x), before, rtol=1e-9, atol=1e-10)
    with torch.no_grad():
        network.norm.weight[-7:] *= 3
    assert (network(x) - before).abs().max() > 1e-3


def test_normalisation_is_torchs_on_each_gate() -> None:
    network, (x, _) = networks.of_experiment(small("lstm", normalisation="layer")), batch(1)
    network(x)
    i, _, g, o = (nn.functional.layer_norm(z, (7,)) for z in network.input(x[:, 0]).chunk(4, 1))
    torch.testing.assert_close(network.memory[0], torch.sigmoid(i) * torch.tanh(g), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(network.states[0], torch.sigmoid(o) * torch.tanh(network.memory[0]))


def test_what_an_lstm_hands_on_lasts_where_an_rnns_fades() -> None:
    """Forget gates that start open let dloss/dc shrink by sigmoid(1) = 0.73 a step, small tanh weights by more."""
    sizes = {}
    for kind in ("rnn", "lstm"):
        network, (x, y) = networks.of_experiment(small(kind, initialisation="glorot_uniform", gain=0.5)), batch(60)
        found = torch.autograd.grad(cross_entropy(network(x), y), network.memory)
        sizes[kind] = float((found[0].norm() / found[-1].norm()) ** (1 / 59))
    assert sizes["lstm"] == pytest.approx(torch.sigmoid(torch.tensor(1.0)).item(), rel=0.1)
    assert sizes["rnn"] < sizes["lstm"] - 0.05


def test_backpropagation_goes_through_every_step_bounded_by_the_largest_singular_value() -> None:
    """||dloss/dh_t|| <= sigma_max ||dloss/dh_{t+1}||, for tanh' <= 1 (Pascanu et al. 2013)."""
    network, (x, y) = networks.of_experiment(small("rnn")), batch()
    sizes = [float(g.norm()) for g in torch.autograd.grad(cross_entropy(network(x), y), network.states)]
    largest = float(torch.linalg.matrix_norm(network.recurrent.weight.detach(), 2))
    for earlier, later in pairwise(sizes):
        assert 0 < earlier <= largest * later


@pytest.mark.parametrize("shape", [(6, 5), (6, 9, 4), (6, 0, 5), (6, 9, 5, 1)])
def test_other_shapes_are_refused_in_a_sentence(shape: tuple[int, ...]) -> None:
    with pytest.raises(ExperimentError, match=r"the sequences have a shape of .*: give \(batch, steps, 5\)"):
        networks.of_experiment(small("gru"))(torch.zeros(shape, dtype=torch.float64))
