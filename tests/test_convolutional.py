"""Is the residual convolutional network the fifth seed's, with TensorFlow's padding?"""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from labkit import networks
from labkit.experiments import Experiment, experiment
from labkit.networks.convolutional import SameConv, SamePool, same_padding
from labkit.tape import Layout


def small(**changes) -> Experiment:
    e = experiment("exploding/residual_conv").replace(widths=(1, 4, 4, 6, 10), dtype="float64")
    return e.replace(**changes)


def images(n: int = 5) -> Tensor:
    return torch.from_numpy(np.random.RandomState(0).uniform(size=(n, 1, 28, 28)))


def written_out(x: np.ndarray, filters: np.ndarray, stride: int) -> np.ndarray:
    """The convolution by loops, as TensorFlow documents its "same": output i looks at inputs i * stride + k - before,
    before = (total padding) // 2, and what lies outside the image is 0."""
    size, kernel = x.shape[-1], filters.shape[-1]
    out = -(-size // stride)
    before = max((out - 1) * stride + kernel - size, 0) // 2
    found = np.zeros((len(x), len(filters), out, out))
    for i in range(out):
        for j in range(out):
            for k in range(kernel):
                for m in range(kernel):
                    row, column = i * stride + k - before, j * stride + m - before
                    if 0 <= row < size and 0 <= column < size:
                        found[:, :, i, j] += x[:, :, row, column] @ filters[:, :, k, m].T
    return found


@pytest.mark.parametrize(("size", "kernel", "stride"), [(28, 7, 2), (7, 3, 2), (4, 3, 2), (14, 3, 1), (7, 1, 2)])
def test_convolutions_pad_as_tensorflow_documents(size: int, kernel: int, stride: int) -> None:
    random = np.random.RandomState(1)
    x, filters = random.standard_normal((2, 3, size, size)), random.standard_normal((4, 3, kernel, kernel))
    conv = SameConv(3, 4, kernel, stride, bias=False, dtype=torch.float64)
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(filters))
    expected = written_out(x, filters, stride)
    np.testing.assert_allclose(conv(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-10, atol=1e-12)
    if (size, kernel, stride) == (28, 7, 2):  # where torch's own padding gives another picture
        torchs = nn.functional.conv2d(torch.from_numpy(x), conv.weight, stride=2, padding=3)
        assert np.abs(torchs.detach().numpy() - expected).max() > 1


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "both"),
    [
        (28, 7, 2, (2, 3)),
        (14, 3, 2, (0, 1)),
        (7, 3, 2, (1, 1)),
        (4, 3, 2, (0, 1)),
        (7, 3, 1, (1, 1)),
        (7, 1, 2, (0, 0)),
    ],
)
def test_the_larger_half_lies_behind(size: int, kernel: int, stride: int, both: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride) == both


def test_pooling_takes_the_largest_and_never_the_padding() -> None:
    x = -torch.from_numpy(np.random.RandomState(2).uniform(1, 2, (2, 3, 14, 14)))
    pooled = SamePool()(x)
    assert pooled.shape == (2, 3, 7, 7)
    for i in range(7):
        rows = slice(2 * i, 2 * i + 3)
        torch.testing.assert_close(pooled[:, :, i, 6], x[:, :, rows, 12:].amax((2, 3)))
    assert pooled.max() < 0


def test_layers_read_well_in_a_plot() -> None:
    network = networks.of_experiment(experiment("exploding/residual_conv"))
    layers = Layout.of(network).layers
    assert layers[:4] == ("conv_1", "block_1.conv_1", "block_1.conv_2", "block_2.conv_1")
    assert [name for name in layers if "shortcut" in name] == ["block_3.shortcut", "block_5.shortcut"]
    assert layers[-1] == "fc"
    assert len(layers) == 1 + 6 * 2 + 2 + 1
    assert network.conv_1.stride == network.block_3.conv_1.stride == network.block_3.shortcut.stride == (2, 2)
    assert network.block_4.conv_1.stride == network.block_3.conv_2.stride == (1, 1)
    assert [name for name, _ in network.named_children()][:4] == ["conv_1", "relu_1", "norm_1", "pool"]


@pytest.mark.parametrize("normalisation", ["none", "batch", "layer"])
def test_forward_is_that_of_the_seed_written_out(normalisation: str) -> None:
    network, x = (
        networks.of_experiment(small(normalisation=normalisation, slope=0.2, activation="leaky_relu")),
        images(),
    )
    p = dict(network.named_parameters())

    def act(z: Tensor) -> Tensor:
        return torch.where(z > 0, z, 0.2 * z)

    def norm(z: Tensor) -> Tensor:
        axes = {"none": None, "batch": (0, 2, 3), "layer": (1, 2, 3)}[normalisation]
        if axes is None:
            return z
        return (z - z.mean(axes, keepdim=True)) / (z.var(axes, correction=0, keepdim=True) + 1e-5).sqrt()

    def conv(name: str, z: Tensor, stride: int = 1) -> Tensor:
        out = written_out(z.detach().numpy(), p[f"{name}.weight"].detach().numpy(), stride)
        return torch.from_numpy(out) + p[f"{name}.bias"][:, None, None]

    x_1 = network.pool(norm(act(conv("conv_1", x, 2))))
    y_1 = norm(act(conv("block_1.conv_2", norm(act(conv("block_1.conv_1", x_1))))))
    x_2 = act(y_1 + x_1)
    y_2 = norm(act(conv("block_2.conv_2", norm(act(conv("block_2.conv_1", x_2, 2))))))
    x_3 = act(y_2 + conv("block_2.shortcut", x_2, 2))
    expected = x_3.flatten(1) @ p["fc.weight"].T + p["fc.bias"]
    torch.testing.assert_close(network(x), expected, rtol=1e-9, atol=1e-11)


def test_nothing_is_kept_from_one_batch_for_the_next() -> None:
    network = networks.of_experiment(small())
    assert not list(network.buffers())
    x = images(8)
    first = network(x[:4])
    network(x[4:])
    assert torch.equal(network(x[:4]), first)
    assert torch.equal(network.eval()(x[:4]), first)


def test_the_seed_alone_decides_and_torchs_random_state_is_left_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    a, b, c = (networks.of_experiment(small(seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a(images()), b(images()))
    assert not torch.equal(a(images()), c(images()))


def test_gradients_reach_every_parameter() -> None:
    network = networks.of_experiment(small(normalisation="layer"))
    cross_entropy(network(images()), torch.arange(5)).backward()
    for name, p in network.named_parameters():
        assert p.grad.abs().max() > 0, name
