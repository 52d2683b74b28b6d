"""Are the activations and slopes in numpy those of torch and of finite differences?"""

from typing import get_args

import numpy as np
import pytest
import torch

from labkit import activations, networks
from labkit.experiments import Activation, ExperimentError

ALL = get_args(Activation)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("leaky", [0.01, 0.2])
def test_values_and_slopes_are_torchs(name: Activation, leaky: float) -> None:
    x = torch.linspace(-12, 12, 241, dtype=torch.float64).requires_grad_(True)
    y = networks.activation_module(name, leaky)(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    z = x.detach().numpy()
    # torch takes 1 + erf far below 0, where its digits cancel
    np.testing.assert_allclose(activations.value(name, z, leaky), y.detach().numpy(), rtol=1e-12, atol=2e-15)
    np.testing.assert_allclose(activations.slope(name, z, leaky), slope.numpy(), rtol=1e-12, atol=2e-15)


@pytest.mark.parametrize("name", ALL)
def test_slopes_are_finite_differences(name: Activation) -> None:
    z, h = np.linspace(-5, 5, 100).reshape(4, 25), 1e-6  # no point lies at the kink
    numerical = (activations.value(name, z + h, 0.2) - activations.value(name, z - h, 0.2)) / (2 * h)
    np.testing.assert_allclose(activations.slope(name, z, 0.2), numerical, atol=1e-8)


@pytest.mark.parametrize("name", ALL)
def test_far_from_0_nothing_overflows(name: Activation) -> None:
    z = np.array([-1e4, 1e4])
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(activations.value(name, z)).all()
        assert np.isfinite(activations.slope(name, z)).all()


def test_homogeneous_ones_are_slope_times_input_and_the_others_are_not() -> None:
    z = np.linspace(-3, 3, 61)
    for name in ALL:
        same = np.allclose(activations.value(name, z), activations.slope(name, z) * z, rtol=1e-12)
        assert same == (name in activations.HOMOGENEOUS)


@pytest.mark.parametrize("call", [activations.value, activations.slope])
@pytest.mark.parametrize("name", ["swish", "", "ReLU"])
def test_unknown_names_list_the_choices(call, name: str) -> None:
    with pytest.raises(ExperimentError, match=r"choose from relu, sigmoid, tanh, leaky_relu, elu, gelu, silu, linear"):
        call(name, [0.0])
