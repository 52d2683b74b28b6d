"""Are labkit's optimisers torch's, without torch's compiler?"""

import subprocess
import sys

import pytest
import torch

from labkit import optimizers
from labkit.experiments import ExperimentError


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
