"""The residual convolutional network of the fifth seed, with TensorFlow's padding.

TensorFlow's "same" gives ceil(n / stride) pixels for n, and pads by as much as that needs: half of it above and to the
left, and where it is odd the larger half below and to the right. With stride 2 that differs from torch's `padding`,
which pads all sides alike: 7x7 filters see 2 zeros before an image of 28 and 3 behind it.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from labkit.activations import LEAKY_SLOPE
from labkit.experiments import Activation, Normalisation
from labkit.initialisations import KERNEL, convolutions, features
from labkit.networks.parts import activation_module, linear, normalisation_module


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels that TensorFlow's "same" puts before and behind `size` of them."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _padded(images: Tensor, kernel: int, stride: int, value: float) -> Tensor:
    height, width = images.shape[-2:]
    around = (*same_padding(width, kernel, stride), *same_padding(height, kernel, stride))
    return functional.pad(images, around, value=value) if any(around) else images


class SameConv(nn.Conv2d):
    """A convolution of square filters with TensorFlow's "same" padding."""

    def reset_parameters(self) -> None:
        """Leave the parameters as they are: torch would draw them from its own random state."""

    def forward(self, input: Tensor) -> Tensor:
        images = _padded(input, self.kernel_size[0], self.stride[0], 0.0)
        return functional.conv2d(images, self.weight, self.bias, self.stride)


class SamePool(nn.Module):
    """The largest of 3x3 pixels, every second one, with TensorFlow's "same" padding, which never is the largest."""

    def forward(self, images: Tensor) -> Tensor:
        return functional.max_pool2d(_padded(images, KERNEL, 2, float("-inf")), KERNEL, 2)


class Block(nn.Module):
    """Two convolutions, each with its activation and normalisation behind it; then the input is added, through 1x1
    filters where the width changes, and goes through an activation once more."""

    def __init__(self, path: "OrderedDict[str, nn.Module]", shortcut: nn.Module | None, name: str, last: nn.Module):
        super().__init__()
        self._path, self._last = tuple(path), name
        for at, module in path.items():
            self.add_module(at, module)
        self.shortcut = shortcut
        self.add_module(name, last)

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for name in self._path:
            x = getattr(self, name)(x)
        x = x + (images if self.shortcut is None else self.shortcut(images))
        found: Tensor = getattr(self, self._last)(x)
        return found


def residual_conv(
    widths: Sequence[int],
    activation: Activation = "relu",
    leaky: float = LEAKY_SLOPE,
    normalisation: Normalisation = "none",
) -> nn.Sequential:
    """Images (batch, channels, 28, 28) to logits: a convolution of 7x7 filters and a pooling, which halve the image, a
    block for each further width, and a fully connected layer. Parameters hold nothing yet.

    `widths` are channels of the image, of the first convolution and of each block, and the classes. A block whose
    width grows halves the image in its first convolution and in its shortcut.
    """

    def convolve(name: str) -> tuple[nn.Module, int]:
        before, width, side, stride = sizes[name]
        return SameConv(before, width, side, stride), width

    def stage(prefix: str, index: int) -> "OrderedDict[str, nn.Module]":
        conv, width = convolve(f"{prefix}conv_{index}")
        modules = OrderedDict(
            [(f"conv_{index}", conv), (f"{activation}_{index}", activation_module(activation, leaky))]
        )
        if norm := normalisation_module(normalisation, width, image=True):
            modules[f"norm_{index}"] = norm
        return modules

    sizes = {name: tuple(rest) for name, *rest in convolutions(widths)}
    layers = stage("", 1)
    layers["pool"] = SamePool()
    for index, (before, width) in enumerate(pairwise(widths[1:-1]), start=1):
        at = f"block_{index}"
        shortcut = convolve(f"{at}.shortcut")[0] if before != width else None
        path = OrderedDict([*stage(f"{at}.", 1).items(), *stage(f"{at}.", 2).items()])
        layers[at] = Block(path, shortcut, f"{activation}_3", activation_module(activation, leaky))
    layers["flatten"], layers["fc"] = nn.Flatten(), linear(features(widths), widths[-1])
    return nn.Sequential(layers)
