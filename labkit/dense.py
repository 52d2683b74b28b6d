"""Back-propagation written out, for networks of fully connected layers trained side by side.

K networks of equal widths see the same mini-batches and differ in their weights and activations. Their parameters
lie in one flat row, gradients are written where the recorder reads them, and a step makes the next row: nothing is
copied. For the layers l = 1 ... n with weights W_l, biases b_l and activations a_l, and a column for each image:

    z_l = W_l h_{l-1} + b_l        h_l = a_l(z_l)      p = softmax(z_n)
    d_n = (p - y) / batch          d_l = (W_{l+1}^T d_{l+1}) * a_l'(z_l)
    dloss/dW_l = d_l h_{l-1}^T     dloss/db_l = sum of d_l over the batch

Columns are quicker than rows here: the softmax of 10 classes goes along the batch, and no product transposes.
"""

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from labkit import initialisations
from labkit.experiments import Experiment
from labkit.networks import LEAKY_SLOPE
from labkit.optimizers import adam_update, sgd_update
from labkit.tape import Layout, Probe

aten = torch.ops.aten


def layout(widths: Sequence[int]) -> Layout:
    """The flat layout of a stack of fully connected layers, as `Layout.of(networks.mlp(...))` gives it."""
    layers = [f"fc_{index}" for index in range(1, len(widths))]
    matrices = tuple(zip(widths[1:], widths, strict=False))
    return Layout(
        names=(*(f"{layer}.weight" for layer in layers), *(f"{layer}.bias" for layer in layers)),
        shapes=(*matrices, *((width,) for width in widths[1:])),
        layers=tuple(layers),
        bias=tuple(range(len(layers), 2 * len(layers))),
    )


def activate(z: Tensor, activation: str) -> Tensor:
    """a(z), changing `z` itself."""
    if activation == "relu":
        return torch.relu_(z)
    if activation == "sigmoid":
        return torch.sigmoid_(z)
    if activation == "tanh":
        return torch.tanh_(z)
    if activation == "leaky_relu":
        return torch.nn.functional.leaky_relu_(z, LEAKY_SLOPE)
    return z


def backward(d: Tensor, h: Tensor, activation: str) -> Tensor:
    """d * a'(z), told from h = a(z), into `d`'s memory: the kernels that autograd itself calls."""
    if activation == "relu":
        aten.threshold_backward.grad_input(d, h, 0, grad_input=d)
    elif activation == "sigmoid":
        aten.sigmoid_backward.grad_input(d, h, grad_input=d)
    elif activation == "tanh":
        aten.tanh_backward.grad_input(d, h, grad_input=d)
    elif activation == "leaky_relu":
        aten.leaky_relu_backward.grad_input(d, h, LEAKY_SLOPE, True, grad_input=d)
    return d


class Stack:
    """K networks on `rows` rows of parameters and gradients: row r's gradients make row r + 1's parameters."""

    def __init__(self, experiments: Sequence[Experiment], device: torch.device, rows: int) -> None:
        self.experiments, self.device = experiments, device
        first = experiments[0]
        self.layout, self.count = layout(first.widths), len(experiments)
        self.layers = len(first.widths) - 1
        size = sum(self.layout.sizes) * self.count
        kind = {"dtype": getattr(torch, first.dtype), "device": device}
        self.parameters = torch.zeros(rows + 1, size, **kind)
        self.gradients = torch.zeros(rows, size, **kind)
        self.losses = torch.zeros(rows, self.count, **kind)
        self.clips = torch.ones(rows, self.count, **kind)
        self.moments = tuple(torch.zeros(size, **kind) for _ in self.moment_names)
        self._weights = [self._views(row) for row in self.parameters]
        self._slopes = [self._views(row) for row in self.gradients]
        # neighbours with one activation are computed together
        runs = groupby(range(self.count), key=lambda k: experiments[k].activation)
        self._runs = [(name, slice((ks := list(group))[0], ks[-1] + 1)) for name, group in runs]
        for k, experiment in enumerate(experiments):
            for layer, (weights, biases) in enumerate(initialisations.of_experiment(experiment)):
                self._weights[0][layer][k] = torch.from_numpy(weights)
                self._weights[0][self.layers + layer][k] = torch.from_numpy(biases)

    @property
    def moment_names(self) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq") if self.experiments[0].optimizer == "adam" else ()

    def _views(self, row: Tensor) -> list[Tensor]:
        """Each tensor of a row in its shape, (K, *shape)."""
        views = self.layout.views(row, self.count)
        return [view.unflatten(-1, shape) for view, shape in zip(views, self.layout.shapes, strict=True)]

    def _activate(self, z: Tensor) -> Tensor:
        for activation, ks in self._runs:
            activate(z[ks], activation)
        return z

    def forward(self, images: Tensor, row: int) -> list[Tensor]:
        """[h_1 ... h_{n-1}, z_n] of the images (batch, inputs), each (K, units, batch)."""
        weights = self._weights[row]
        n = self.layers
        # the first layer has most of the weights and one input for all: a single product for the K networks
        z = torch.addmm(weights[n].view(-1, 1), weights[0].flatten(0, 1), images.T)
        outputs = [z.view(self.count, -1, len(images))]
        for layer in range(1, n):
            h = self._activate(outputs[-1])
            outputs.append(torch.baddbmm(weights[n + layer].unsqueeze(2), weights[layer], h))
        return outputs

    def backward(self, images: Tensor, outputs: list[Tensor], d: Tensor, row: int, slopes: list[Tensor]) -> None:
        """Fill `slopes` with the gradients that follow from d = dloss/dz_n (K, classes, batch)."""
        weights, n = self._weights[row], self.layers
        for layer in range(n - 1, 0, -1):
            h = outputs[layer - 1]
            torch.bmm(d, h.transpose(1, 2), out=slopes[layer])
            torch.sum(d, 2, out=slopes[n + layer])
            d = torch.bmm(weights[layer].transpose(1, 2), d)
            for activation, ks in self._runs:
                backward(d[ks], h[ks], activation)
        torch.mm(d.flatten(0, 1), images, out=slopes[0].flatten(0, 1))
        torch.sum(d, 2, out=slopes[n])

    def gradient(self, images: Tensor, one_hot: Tensor, row: int) -> None:
        """Loss and gradients of a mini-batch: images (batch, inputs), one_hot (batch, classes)."""
        outputs, y = self.forward(images, row), one_hot.T
        log_p = outputs[-1].log_softmax(1)
        d = log_p.exp().sub_(y).div_(len(images))
        torch.sum(log_p.mul_(y), (1, 2), out=self.losses[row]).div_(-len(images))
        self.backward(images, outputs, d, row, self._slopes[row])

    def clip(self, row: int, largest: float) -> None:
        """Scale each network's gradients down to the L2 norm `largest`; see `optimizers.clip_gradients`."""
        squares = [view.flatten(1).square().sum(1) for view in self._slopes[row]]
        norm = torch.stack(squares).sum(0).sqrt()
        factor = (largest / (norm + 1e-6)).clamp(max=1)
        for view in self._slopes[row]:
            view.mul_(factor.view(-1, *[1] * (view.ndim - 1)))
        self.clips[row] = factor

    def step(self, row: int, number: int) -> None:
        """The optimiser's step `number` (from 1): row + 1's parameters from this row's parameters and gradients."""
        here, slope, rate = self.parameters[row], self.gradients[row], self.experiments[0].learning_rate
        if self.moments:
            mean, square = self.moments
            adam_update(self.parameters[row + 1], here, slope, (mean, square), number, rate)
        else:
            sgd_update(self.parameters[row + 1], here, slope, rate)

    def carry(self, row: int) -> None:
        """Go on at row 0 with the parameters of this row."""
        self.parameters[0].copy_(self.parameters[row])

    def probe(self, images: Tensor, labels: Tensor, row: int) -> Probe:
        """What a batch shows of the networks as they are at this row."""
        outputs = self.forward(images, row)
        one_hot = torch.nn.functional.one_hot(labels, outputs[-1].shape[1])
        d = outputs[-1].softmax(1).sub_(one_hot.T).div_(len(images))
        flat = torch.zeros_like(self.parameters[0])
        self.backward(images, outputs, d, row, self._views(flat))
        known = labels.expand(self.count, -1)
        loss = torch.nn.functional.cross_entropy(outputs[-1], known, reduction="none")
        hidden = tuple(h.transpose(1, 2) for h in outputs[:-1])
        return Probe(flat, outputs[-1].transpose(1, 2), labels, loss.mean(-1), hidden)

    def first_and_last_size(self, row: int, network: int) -> tuple[float, float]:
        """Mean |gradient| of the first and of the last layer of one network at this row."""
        first, last = (self._slopes[row][layer][network] for layer in (0, self.layers - 1))
        return float(first.abs().mean()), float(last.abs().mean())

    def accuracy(self, images: Tensor, labels: Tensor, row: int) -> list[float]:
        """Share of the images that each network classifies right."""
        right = self.forward(images, row)[-1].argmax(1) == labels
        return [float(share) for share in right.double().mean(-1)]
