"""Back-propagation written out, for networks of fully connected layers trained side by side.

K networks of equal widths differ in their weights, activations and learning rates; those of one seed see the same
mini-batches. Their parameters lie in one flat row, gradients are written where the recorder reads them, and a step
makes the next row. For the layers l = 1 ... n with weights W_l, biases b_l and activations a_l, and a column for each
image:

    z_l = W_l h_{l-1} + b_l        h_l = a_l(z_l)      p = softmax(z_n)
    d_n = (p - y) / batch          d_l = (W_{l+1}^T d_{l+1}) * a_l'(z_l)
    dloss/dW_l = d_l h_{l-1}^T     dloss/db_l = sum of d_l over the batch

Columns are quicker than rows here: the softmax of 10 classes goes along the batch, and no product transposes.
"""

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from labkit import initialisations
from labkit.experiments import Experiment
from labkit.losses import logits_of_classes
from labkit.optimizers import MOMENTS, exact_norm, fused_adam_update, rmsprop_update, sgd_update
from labkit.tape import Layout, Probe, in_pieces

aten = torch.ops.aten
# Those whose derivative can be told from their value: the value may then take the place of what it was made of.
ACTIVATIONS = ("relu", "sigmoid", "tanh", "leaky_relu", "elu", "linear")
CHUNK = 5000  # observations of which an accuracy is taken at once
TRANSPOSED = 8  # networks that share a mini-batch, from which on it is worth a transposed copy


def fits(e: Experiment) -> bool:
    """Can a stack train this experiment? Others are left to autograd."""
    return e.plain and e.activation in ACTIVATIONS


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


def activate(z: Tensor, activation: str, slope: float) -> Tensor:
    """a(z), changing `z` itself."""
    if activation == "relu":
        return torch.relu_(z)
    if activation == "sigmoid":
        return torch.sigmoid_(z)
    if activation == "tanh":
        return torch.tanh_(z)
    if activation == "leaky_relu":
        return torch.nn.functional.leaky_relu_(z, slope)
    if activation == "elu":
        return torch.nn.functional.elu_(z)
    return z


def backward(d: Tensor, h: Tensor, activation: str, slope: float) -> Tensor:
    """d * a'(z), told from h = a(z), into `d`'s memory: the kernels that autograd itself calls."""
    if activation == "relu":
        aten.threshold_backward.grad_input(d, h, 0, grad_input=d)
    elif activation == "sigmoid":
        aten.sigmoid_backward.grad_input(d, h, grad_input=d)
    elif activation == "tanh":
        aten.tanh_backward.grad_input(d, h, grad_input=d)
    elif activation == "leaky_relu":
        aten.leaky_relu_backward.grad_input(d, h, slope, True, grad_input=d)
    elif activation == "elu":
        aten.elu_backward.grad_input(d, 1, 1, 1, True, h, grad_input=d)
    return d


class Stack:
    """K networks on `rows` rows of parameters and gradients: row r's gradients make row r + 1's parameters.

    Those that have one seed share their mini-batches, so they should be neighbours. S groups of them: what goes in has
    the shape (S, batch, ...), a mini-batch for each.
    """

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
        self.clips = torch.ones(rows, self.layers, self.count, **kind)
        self.slope = first.slope
        self.moments = tuple(torch.zeros(size, **kind) for _ in self.moment_names)
        self.steps = torch.zeros((), dtype=torch.float32, device=device)  # that were made: exact up to 2^24
        self._weights = [self._views(row) for row in self.parameters]
        self._slopes = [self._views(row) for row in self.gradients]
        # neighbours with one activation are computed together, and so are those with one seed
        self._runs = _runs([one.activation for one in experiments])
        self.shares = [ks for _, ks in _runs([one.seed for one in experiments])]
        self.share_of = [share for share, ks in enumerate(self.shares) for _ in range(ks.start, ks.stop)]
        self._share = torch.tensor(self.share_of, device=device)
        self._even = len({ks.stop - ks.start for ks in self.shares}) == 1
        self._rates = self._rates_of([one.learning_rate for one in experiments])
        start = torch.empty_like(self.parameters[0], device="cpu")  # all networks' cross to the device at once
        views = self._views(start)
        for k, experiment in enumerate(experiments):
            for layer, (weights, biases) in enumerate(initialisations.of_experiment(experiment)):
                views[layer][k] = torch.from_numpy(weights)
                views[self.layers + layer][k] = torch.from_numpy(biases)
        self.parameters[0].copy_(start)

    @property
    def moment_names(self) -> tuple[str, ...]:
        return MOMENTS[self.experiments[0].optimizer]

    def _rates_of(self, rates: Sequence[float]) -> Tensor | None:
        """Each parameter's learning rate, like a row; None where all networks have one."""
        if len(set(rates)) == 1:
            return None
        row = torch.empty_like(self.parameters[0])
        each = torch.tensor(rates, dtype=row.dtype, device=row.device)
        for view in self.layout.views(row, self.count):
            view.copy_(each.unsqueeze(1).expand_as(view))
        return row

    def _views(self, row: Tensor) -> list[Tensor]:
        """Each tensor of a row in its shape, (K, *shape)."""
        views = self.layout.views(row, self.count)
        return [view.unflatten(-1, shape) for view, shape in zip(views, self.layout.shapes, strict=True)]

    def _activate(self, z: Tensor) -> Tensor:
        for activation, ks in self._runs:
            activate(z[ks], activation, self.slope)
        return z

    def _each(self, shared: Tensor) -> Tensor:
        """What the networks of a group share, (S, ...), for each network: (K, ...), or (1, ...) for one group."""
        return shared if len(shared) == 1 else shared.index_select(0, self._share)

    def _batched(self, groups: int) -> bool:
        """Can one call make the products of all groups?"""
        return groups > 1 and self._even

    def forward(self, images: Tensor, row: int) -> list[Tensor]:
        """[h_1 ... h_{n-1}, z_n] of the images (S, batch, inputs), each (K, units, batch)."""
        weights = self._weights[row]
        n = self.layers
        outputs = [self._first(images, weights[0], weights[n])]
        for layer in range(1, n):
            h = self._activate(outputs[-1])
            outputs.append(torch.baddbmm(weights[n + layer].unsqueeze(2), weights[layer], h))
        return outputs

    def _first(self, images: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
        """(K, units, batch). The first layer has most of the weights, and one input for all networks of a group: a
        single product for these."""
        columns, units = images.transpose(1, 2), weights.shape[1]
        if self._batched(len(images)):
            rows = weights.view(len(images), -1, weights.shape[2])
            return torch.baddbmm(biases.view(len(images), -1, 1), rows, columns).view(self.count, units, -1)
        if not weights.is_cuda and self.count >= TRANSPOSED * len(images):
            # a product of many rows takes longer to transpose its factor again and again
            columns = columns.contiguous()
        z = weights.new_empty(self.count, units, columns.shape[2])
        for ks, x in zip(self.shares, columns, strict=True):
            torch.addmm(biases[ks].reshape(-1, 1), weights[ks].flatten(0, 1), x, out=z[ks].flatten(0, 1))
        return z

    def backward(self, images: Tensor, outputs: list[Tensor], d: Tensor, row: int, slopes: list[Tensor]) -> None:
        """Fill `slopes` with the gradients that follow from d = dloss/dz_n (K, classes, batch)."""
        weights, n = self._weights[row], self.layers
        for layer in range(n - 1, 0, -1):
            h = outputs[layer - 1]
            torch.bmm(d, h.transpose(1, 2), out=slopes[layer])
            torch.sum(d, 2, out=slopes[n + layer])
            d = torch.bmm(weights[layer].transpose(1, 2), d)
            for activation, ks in self._runs:
                backward(d[ks], h[ks], activation, self.slope)
        torch.sum(d, 2, out=slopes[n])
        if self._batched(len(images)):
            together = slopes[0].view(len(images), -1, slopes[0].shape[2])
            torch.bmm(d.reshape(len(images), -1, d.shape[2]), images, out=together)
        else:
            for ks, x in zip(self.shares, images, strict=True):
                torch.mm(d[ks].flatten(0, 1), x, out=slopes[0][ks].flatten(0, 1))

    def gradient(self, images: Tensor, one_hot: Tensor, row: int) -> None:
        """Loss and gradients of a mini-batch: images (S, batch, inputs), one_hot (S, batch, classes)."""
        batch = images.shape[1]
        outputs, y = self.forward(images, row), self._each(one_hot.transpose(1, 2).contiguous())
        log_p = logits_of_classes(outputs[-1], 1).log_softmax(1)
        d = log_p.exp().sub_(y).div_(batch)
        torch.sum(log_p.mul_(y), (1, 2), out=self.losses[row]).div_(-batch)
        self.backward(images, outputs, d[:, -outputs[-1].shape[1] :], row, self._slopes[row])

    def clip(self, row: int) -> None:
        """Clip each network's gradients as the experiments have it; see `optimizers.clip`."""
        e, slopes = self.experiments[0], self._slopes[row]
        if e.clip_norm is not None:
            norm = exact_norm(torch.stack([_norm(view) for view in slopes]), dim=0)
            self._scale(row, [(e.clip_norm / (norm + 1e-6)).clamp(max=1)] * len(slopes))
        elif e.clip_each is not None:
            self._scale(row, [(e.clip_each / (_norm(view) + 1e-6)).clamp(max=1) for view in slopes])
        elif e.clip_value is not None:
            before = [_norm(view) for view in slopes[: self.layers]]
            for view in slopes:
                view.clamp_(-e.clip_value, e.clip_value)
            after = [_norm(view) for view in slopes[: self.layers]]
            self.clips[row] = torch.stack([(a / b).nan_to_num(1.0) for a, b in zip(after, before, strict=True)])

    def _scale(self, row: int, factors: list[Tensor]) -> None:
        """Multiply each tensor's gradient by its factors (K,), of any type."""
        for view, factor in zip(self._slopes[row], factors, strict=True):
            view.mul_(factor.to(view.dtype).view(-1, *[1] * (view.ndim - 1)))
        self.clips[row] = torch.stack(factors[: self.layers])

    def step(self, row: int) -> None:
        """The optimiser's next step: row + 1's parameters from this row's parameters and gradients.

        Where each network has its own learning rate, the step is taken with a rate of 1, from 0.
        """
        e, here, after = self.experiments[0], self.parameters[row], self.parameters[row + 1]
        rate, slope = (e.learning_rate if self._rates is None else 1.0), self.gradients[row]
        self.steps.add_(1)
        if self._rates is None:
            after.copy_(here)
        else:
            after.zero_()
        if e.optimizer == "adam":
            fused_adam_update(after, slope, self.moments, self.steps, rate, e.epsilon)
        elif e.optimizer == "rmsprop":
            rmsprop_update(after, after, slope, self.moments[0], rate, e.epsilon)
        else:
            sgd_update(after, after, slope, rate)
        if self._rates is not None:
            torch.addcmul(here, after, self._rates, out=after)

    def carry(self, row: int) -> None:
        """Go on at row 0 with the parameters of this row."""
        self.parameters[0].copy_(self.parameters[row])

    def retire(self, network: int, row: int) -> None:
        """Let a network that broke down go on from zeros at this row: what is not finite costs its neighbours time."""
        for view in (*self._weights[row], *(view for moment in self.moments for view in self._views(moment))):
            view[network] = 0

    def probe(self, images: Tensor, labels: Tensor, one_hot: Tensor, row: int) -> Probe:
        """What a batch shows of the networks as they are at this row: images (S, batch, inputs), labels (S, batch)."""
        outputs = self.forward(images, row)
        logits = logits_of_classes(outputs[-1], 1)
        d = logits.softmax(1).sub_(self._each(one_hot).transpose(1, 2)).div_(images.shape[1])
        flat = torch.zeros_like(self.parameters[0])
        self.backward(images, outputs, d[:, -outputs[-1].shape[1] :], row, self._views(flat))
        known = self._each(labels).expand(self.count, -1)
        loss = torch.nn.functional.cross_entropy(logits, known, reduction="none")
        hidden = tuple(h.transpose(1, 2) for h in outputs[:-1])
        return Probe(flat, logits.transpose(1, 2), known, loss.mean(-1), hidden)

    def first_and_last_size(self, row: int, network: int) -> tuple[float, float]:
        """Mean |gradient| of the first and of the last layer of one network at this row."""
        first, last = (self._slopes[row][layer][network] for layer in (0, self.layers - 1))
        return float(first.abs().mean()), float(last.abs().mean())

    def right(self, images: Tensor, labels: Tensor, row: int) -> Tensor:
        """(K,) how many of the images (S, batch, inputs) each network classifies right."""
        found = logits_of_classes(self.forward(images, row)[-1], 1).max(1).indices  # argmax takes much longer
        return (found == self._each(labels)).sum(-1)


def _runs(values: Sequence[Any]) -> list[tuple[Any, slice]]:
    """Each run of equal neighbours: the value, and where it stands."""
    runs = [(value, list(places)) for value, places in groupby(range(len(values)), key=values.__getitem__)]
    return [(value, slice(places[0], places[-1] + 1)) for value, places in runs]


def _norm(view: Tensor) -> Tensor:
    """(K,) L2 norms of a tensor of K networks, in float64."""
    return in_pieces(partial(exact_norm, dim=-1), view.flatten(1))
