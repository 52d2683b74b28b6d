"""Are labkit's optimisers torch's, without torch's compiler?"""

import subprocess
import sys

import numpy as np
import pytest
import torch

from labkit import optimizers
from labkit.experiments import Experiment, ExperimentError


def _steps(make, count: int = 25) -> torch.Tensor:
    torch.manual_seed(0)
    w = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    b = torch.randn(6, dtype=torch.float64, requires_grad=True)
    optimizer = make([w, b])
    for number in range(count):
        x = torch.linspace(-1, 1, 5, dtype=torch.float64) * (number + 1)
        optimizer.zero_grad()
        ((w @ x + b).square().sum() / 10 ** (number % 5)).backward()
        optimizer.step()
    return torch.cat([w.flatten(), b]).detach()


def test_adam_is_torchs() -> None:
    torch.testing.assert_close(
        _steps(lambda p: optimizers.Adam(p, 0.01)), _steps(lambda p: torch.optim.Adam(p, 0.01)), rtol=1e-12, atol=1e-14
    )


def test_rmsprop_is_torchs() -> None:
    """Keras's constants, PyTorch's formula: epsilon is added to the root."""
    theirs = _steps(lambda p: torch.optim.RMSprop(p, 0.01, alpha=0.9, eps=1e-3))
    torch.testing.assert_close(_steps(lambda p: optimizers.RMSprop(p, 0.01, 1e-3)), theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", ["adam", "rmsprop", "sgd"])
def test_an_experiment_has_its_optimizer_and_its_epsilon(kind: str) -> None:
    e = Experiment(optimizer=kind, learning_rate=0.03, epsilon=1e-2)
    theirs = {
        "adam": lambda p: torch.optim.Adam(p, 0.03, eps=1e-2),
        "rmsprop": lambda p: torch.optim.RMSprop(p, 0.03, alpha=0.9, eps=1e-2),
        "sgd": lambda p: torch.optim.SGD(p, 0.03),
    }[kind]
    found = _steps(lambda p: optimizers.of_experiment(e, p))
    torch.testing.assert_close(found, _steps(theirs), rtol=1e-12, atol=1e-14)
    other = _steps(lambda p: optimizers.of_experiment(e.replace(epsilon=1e-8), p))
    assert torch.equal(found, other) == (kind == "sgd")


@pytest.mark.parametrize("kind", ["Adam", "RMSprop", "SGD"])
def test_the_state_has_the_names_that_are_recorded(kind: str) -> None:
    w = torch.ones(2, requires_grad=True)
    optimizer = getattr(optimizers, kind)([w], 0.1)
    w.sum().backward()
    optimizer.step()
    assert tuple(optimizer.state.get(w, {})) == optimizers.MOMENTS[kind.lower()]


def test_sgd_is_torchs() -> None:
    torch.testing.assert_close(
        _steps(lambda p: optimizers.SGD(p, 1e-4)), _steps(lambda p: torch.optim.SGD(p, 1e-4)), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize(("norm", "largest"), [(5.0, 1.0), (0.5, 1.0), (1e-9, 1.0), (1e6, 0.25)])
def test_clipping_is_torchs(norm: float, largest: float) -> None:
    """The norm afterwards is n max / (n + 1e-6)."""
    ours = [torch.zeros(3, requires_grad=True), torch.zeros(2, 2, requires_grad=True)]
    theirs = [torch.zeros(3, requires_grad=True), torch.zeros(2, 2, requires_grad=True)]
    for a, b in zip(ours, theirs, strict=True):
        a.grad = torch.full_like(a, norm / 7**0.5)
        b.grad = a.grad.clone()
    factor = optimizers.clip_gradients(ours, largest)
    torch.nn.utils.clip_grad_norm_(theirs, largest)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    assert factor == pytest.approx(min(1.0, largest / (norm + 1e-6)), rel=1e-5)


def _with_gradients(*sizes: float) -> list[torch.Tensor]:
    made = [torch.zeros(3, requires_grad=True), torch.zeros(2, 2, requires_grad=True)]
    for parameter, size in zip(made, sizes, strict=True):
        parameter.grad = torch.linspace(-1, 1, parameter.numel()).view(parameter.shape) * size
    return made


def test_clipping_each_by_itself_is_keras() -> None:
    """keras.optimizers, clipnorm: each gradient has at most that norm, whatever the others have."""
    ours = _with_gradients(10.0, 0.1)
    before = [float(p.grad.norm()) for p in ours]
    factors = optimizers.clip_each(ours, 1.0)
    assert [float(p.grad.norm()) for p in ours] == pytest.approx([1.0, before[1]], rel=1e-5)
    assert factors == pytest.approx([1 / before[0], 1.0], rel=1e-5)


def test_clipping_values_is_torchs() -> None:
    ours, theirs = _with_gradients(3.0, 0.5), _with_gradients(3.0, 0.5)
    before = [float(p.grad.norm()) for p in ours]
    factors = optimizers.clip_values(ours, 1.0)
    torch.nn.utils.clip_grad_value_(theirs, 1.0)
    for a, b, norm, factor in zip(ours, theirs, before, factors, strict=True):
        assert torch.equal(a.grad, b.grad)
        assert factor == pytest.approx(float(b.grad.norm()) / norm, rel=1e-6)


@pytest.mark.parametrize("size", [1e20, 1e30, 1e37])
@pytest.mark.parametrize("way", [{"clip_norm": 2.0}, {"clip_each": 2.0}, {"clip_value": 2.0}])
def test_a_gradient_of_which_float32_holds_no_square_is_clipped_and_not_lost(way: dict, size: float) -> None:
    """By hand in float64, in which these squares are."""
    ours = _with_gradients(size, 3 * size)
    wide = [p.grad.double().numpy() for p in ours]
    norms = [np.sqrt((g**2).sum()) for g in wide]
    if "clip_value" in way:
        clipped = [np.clip(g, -2.0, 2.0) for g in wide]
        factors = [np.sqrt((g**2).sum()) / norm for g, norm in zip(clipped, norms, strict=True)]
    else:
        factors = [2.0 / (norm if "clip_each" in way else np.hypot(*norms)) for norm in norms]
        clipped = [g * factor for g, factor in zip(wide, factors, strict=True)]
    found = np.broadcast_to(optimizers.clip(Experiment(**way), ours), 2)
    np.testing.assert_allclose(found, factors, rtol=1e-6)
    for parameter, expected in zip(ours, clipped, strict=True):
        np.testing.assert_allclose(parameter.grad, expected, rtol=1e-6)


def test_nothing_to_clip_is_a_factor_of_one() -> None:
    still = [torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)]
    still[0].grad = torch.zeros(2)
    assert optimizers.clip_each(still, 1.0) == optimizers.clip_values(still, 1.0) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("changes", "function"),
    [
        ({"clip_norm": 0.5}, lambda p: optimizers.clip_gradients(p, 0.5)),
        ({"clip_each": 0.5}, lambda p: optimizers.clip_each(p, 0.5)),
        ({"clip_value": 0.5}, lambda p: optimizers.clip_values(p, 0.5)),
        ({}, lambda _: 1.0),
    ],
)
def test_an_experiment_is_clipped_as_it_says(changes: dict, function) -> None:
    ours, theirs = _with_gradients(3.0, 5.0), _with_gradients(3.0, 5.0)
    assert optimizers.clip(Experiment(**changes), ours) == function(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a.grad, b.grad)


def test_parameters_without_a_gradient_stay() -> None:
    used, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer = optimizers.Adam([used, unused], 0.1)
    used.sum().backward()
    optimizer.step()
    assert torch.equal(unused, torch.ones(2))
    assert not torch.equal(used, torch.ones(2))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: optimizers.Adam([]), "got no parameters"),
        (lambda: optimizers.SGD([torch.zeros(1)], 0), "learning_rate is 0"),
        (lambda: optimizers.Adam([torch.zeros(1)], float("nan")), "learning_rate is nan"),
    ],
)
def test_bad_settings_have_their_sentence(make, words: str) -> None:
    with pytest.raises(ExperimentError, match=words):
        make()


def test_starting_to_train_does_not_load_torchs_compiler() -> None:
    code = """
import sys, torch, labkit
e = labkit.experiment("vanishing/relu").replace(observations=200, pool=200, epochs=1)
labkit.train(e, progress=False, device="cpu")
network = labkit.networks.of_experiment(e)
optimizer = labkit.Adam(network.parameters())
recorder = labkit.Recorder(network, optimizer, e)
loss = torch.nn.functional.cross_entropy(network(torch.rand(4, 784)), torch.arange(4))
loss.backward()
optimizer.step()
recorder.step(loss)
recorder.end_epoch()
assert "torch._dynamo" not in sys.modules
torch.optim.Adam([torch.zeros(1)])
assert "torch._dynamo" in sys.modules, "torch.optim no longer costs that: labkit's optimisers may go"
"""
    subprocess.run([sys.executable, "-c", code], check=True)
