"""The gradients of the first step, of many seeds' networks side by side: what the explorer shows.

Data, mini-batch, weights and loss are those that `train` starts from, seed by seed. What is written here is the way
forward, once for S networks; the gradients are autograd's. What was drawn for one setting is kept for the next: numbers
of a seed's layer serve every width, scale and activation.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn import functional

from labkit import data, initialisations, optimizers
from labkit.experiments import Experiment, ExperimentError, Initialisation
from labkit.losses import logits_of_classes
from labkit.networks import activation_module
from labkit.streams import stream

Floats = NDArray[np.float64]

BATCH = 512  # observations that are kept of a seed's data: the first of its first epoch
KEPT = 40  # seeds whose first observations are kept
NUMBERS = 2**24  # random numbers that are kept, 128 MB: twenty seeds of thirty layers of 100 units, twice over
SAFE = 1e-14  # a norm above this lost nothing in float32: squares of its larger parts are well above 1e-38
EPSILON = 1e-5  # that a normalisation adds to the variance, as in `labkit.networks`


@dataclass(frozen=True, eq=False)
class Start:
    """Gradients on the first mini-batch. S seeds, L layers that have weights, input side first; before clipping."""

    seeds: tuple[int, ...]
    loss: Floats  # (S,) mean cross-entropy of the mini-batch, nats
    deltas: Floats  # (S, L) root mean square of dloss/dz of single images, over a layer's units and the images
    weights: Floats  # (S, L) root mean square of the mini-batch's dloss/dW, over a layer's weights
    entering: Floats  # (S, L) mean square of what enters a layer, over its inputs and the images
    clipped: Floats  # (L,) of the first seed's `weights` what the experiment's clipping leaves for the step

    @property
    def gains(self) -> Floats:
        """(S, L-1) the factor on the mean square of dloss/dz from layer l + 1 to layer l; NaN where one is 0."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            found: Floats = (self.deltas[:, :-1] / self.deltas[:, 1:]) ** 2
        return np.where(np.isfinite(found) & (found > 0), found, np.nan)

    def joined(self, other: "Start") -> "Start":
        """These seeds and those of another."""
        arrays = {
            name: np.concatenate([getattr(self, name), getattr(other, name)])
            for name in ("loss", "deltas", "weights", "entering")
        }
        return Start(seeds=self.seeds + other.seeds, **arrays, clipped=self.clipped)


def check(e: Experiment) -> None:
    """Can its gradients be taken side by side? Fully connected layers with one width or several can."""
    if e.architecture != "mlp":
        raise ExperimentError(f"{e.name} is a {e.architecture}: the explorer takes fully connected layers, an mlp")


def at_start(e: Experiment, seeds: Sequence[int]) -> Start:
    """The gradients of the first step of this experiment with each of the seeds."""
    check(e)
    if not seeds:
        raise ExperimentError("no seeds: give one or more")
    parameters = _stacked([dict(initialisations.of_mlp(e.replace(seed=seed), _drawn)) for seed in seeds], e)
    return _measured(e, seeds, parameters)


def at_parameters(e: Experiment, parameters: Mapping[str, NDArray[Any]]) -> Start:
    """The same of the experiment's own seed with other parameters, such as a recording's checkpoint."""
    check(e)
    return _measured(e, [e.seed], _stacked([parameters], e))


def clips(e: Experiment) -> bool:
    """Does its training clip gradients?"""
    return (e.clip_norm, e.clip_each, e.clip_value) != (None, None, None)


def cost(e: Experiment) -> int:
    """Multiplications of one network's way there and back, about."""
    weights = sum(before * after for before, after in zip(e.widths, e.widths[1:], strict=False))
    return 3 * weights * e.batch_size


def _stacked(networks: Sequence[Mapping[str, NDArray[Any]]], e: Experiment) -> dict[str, Tensor]:
    """Each parameter of all networks, (S, ...)."""
    found = {}
    for name, first in networks[0].items():
        found[name] = torch.empty((len(networks), *first.shape), dtype=getattr(torch, e.dtype))
        for place, network in zip(found[name], networks, strict=True):
            place.copy_(torch.from_numpy(network[name]))
    return found


def _measured(e: Experiment, seeds: Sequence[int], parameters: Mapping[str, Tensor]) -> Start:
    inputs, labels = _batches(e, seeds)
    with _one_thread():
        leaves = {name: value.requires_grad_() for name, value in parameters.items()}
        z, entering = forward(e, leaves, inputs)
        logits = logits_of_classes(z[-1]).flatten(0, 1)
        loss = functional.cross_entropy(logits, labels.flatten(), reduction="none").view(len(seeds), -1).mean(1)
        gradients = torch.autograd.grad(loss.sum(), [*z, *leaves.values()])
        of_leaves = dict(zip(leaves, gradients[len(z) :], strict=True))
        before = _rms([of_leaves[f"fc_{k}.weight"] for k in range(1, len(z) + 1)])
        return Start(
            seeds=tuple(seeds),
            loss=loss.detach().double().numpy(),
            # the loss is a mean over the images: an image's own is as many times larger
            deltas=_rms(gradients[: len(z)]) * inputs.shape[1],
            weights=before,
            entering=_rms([x.detach() for x in entering]) ** 2,
            clipped=_clipped(e, of_leaves) if clips(e) else before[0],
        )


def forward(e: Experiment, parameters: Mapping[str, Tensor], inputs: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """What each layer gives (S, batch, units), before a normalisation, and what enters it; inputs (S, batch, values).

    The networks of `labkit.networks`, S of them at once.
    """
    activation, last = activation_module(e.activation, e.slope), len(e.widths) - 1
    x, z, entering = inputs, [], []
    for k in range(1, last + 1):
        weights, biases = parameters[f"fc_{k}.weight"].transpose(1, 2), parameters.get(f"fc_{k}.bias")
        z.append(torch.bmm(x, weights) if biases is None else torch.baddbmm(biases.unsqueeze(1), x, weights))
        entering.append(x)
        if k < last:
            h = activation(_normalised(e, parameters, k, z[-1]))
            x = h + x if e.residual and h.shape == x.shape else h
    return z, entering


def _normalised(e: Experiment, parameters: Mapping[str, Tensor], k: int, z: Tensor) -> Tensor:
    if e.normalisation == "none":
        return z
    scale, shift = parameters[f"norm_{k}.weight"], parameters[f"norm_{k}.bias"]
    if e.normalisation == "layer":
        return functional.layer_norm(z, z.shape[-1:], eps=EPSILON) * scale.unsqueeze(1) + shift.unsqueeze(1)
    side_by_side = z.transpose(0, 1).flatten(1)  # (batch, S units): each unit is normalised by itself
    normed = functional.batch_norm(side_by_side, None, None, scale.flatten(), shift.flatten(), True, eps=EPSILON)
    return normed.view(len(normed), *scale.shape).transpose(0, 1)


def _rms(tensors: Sequence[Tensor]) -> Floats:
    """(S, L)"""
    return torch.stack([_norm(t.flatten(1)) / t[0].numel() ** 0.5 for t in tensors], 1).numpy()


def _norm(rows: Tensor) -> Tensor:
    """(S,) in float64. Squares of what has all but vanished, or is about to overflow, are taken in float64, too."""
    norm: Tensor = torch.linalg.vector_norm(rows, dim=1).double()
    if not ((norm > SAFE) & (norm < 1 / SAFE)).all():
        norm = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
    return norm


def _clipped(e: Experiment, gradients: Mapping[str, Tensor]) -> Floats:
    """(L,) root mean square of the first network's dloss/dW as the optimiser would get it, by the training's clip."""
    own = [torch.zeros_like(gradient[0]) for gradient in gradients.values()]
    for parameter, gradient in zip(own, gradients.values(), strict=True):
        parameter.grad = gradient[0].clone()
    optimizers.clip(e, own)
    left = {name: parameter.grad for name, parameter in zip(gradients, own, strict=True)}
    weights = [left[f"fc_{k}.weight"] for k in range(1, len(e.widths))]
    found: Floats = _rms([slope.unsqueeze(0) for slope in weights if slope is not None])[0]
    return found


@contextmanager
def _one_thread() -> Iterator[None]:
    """On a busy machine small products wait longer for a second thread than it saves them."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)


def _batches(e: Experiment, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Each seed's first mini-batch: inputs (S, batch, values) and labels (S, batch)."""
    size, most = min(e.batch_size, e.observations), max(BATCH, e.batch_size)
    found = [_first(data.which(e.replace(seed=seed)), most) for seed in seeds]
    inputs = torch.from_numpy(np.stack([inputs[:size] for inputs, _ in found]))
    return inputs.to(getattr(torch, e.dtype)), torch.from_numpy(np.stack([labels[:size] for _, labels in found]))


@lru_cache(maxsize=KEPT)
def _first(chosen: tuple[str, int, int, int, int, int], most: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The first observations, `most` or all, in the order in which the first epoch has them, whatever its batches."""
    drawn, (_, observations, seed, *_) = data.shared(chosen), chosen
    order = data.batches(observations, observations, seed, 0)[0][:most]
    return drawn.inputs[order].reshape(len(order), -1), drawn.labels[order]


class _Kept:
    """A stream that starts over as often as one likes: its numbers are drawn once, and more when more are wanted.

    Those that come first are the same however many are drawn. Normal and uniform numbers have a stream each: a layer
    takes one kind alone.
    """

    total = 0  # numbers that all of them keep

    def __init__(self, seed: int, name: str) -> None:
        self.streams = {kind: stream(seed, "weights", name) for kind in ("normal", "uniform")}
        self.numbers: dict[str, Floats] = {kind: np.empty(0) for kind in self.streams}
        self.taken = 0

    def again(self) -> "_Kept":
        self.taken = 0
        return self

    def standard_normal(self, size: tuple[int, ...]) -> Floats:
        return self._next("normal", size)

    def uniform(self, low: float, high: float, size: int | tuple[int, ...]) -> Floats:
        if (low, high) != (-1, 1):
            raise ValueError(f"uniform numbers from {low} to {high}: those that are kept lie between -1 and 1")
        return self._next("uniform", (size,) if isinstance(size, int) else size)

    def _next(self, kind: str, size: tuple[int, ...]) -> Floats:
        end, have = self.taken + int(np.prod(size)), self.numbers[kind]
        if end > len(have):
            random, more = self.streams[kind], end - len(have)
            fresh = random.standard_normal(more) if kind == "normal" else random.uniform(-1, 1, more)
            have = self.numbers[kind] = np.concatenate([have, fresh])
            _Kept.total += more
        found = have[self.taken : end].reshape(size)
        self.taken = end
        return found


_STREAMS: dict[tuple[int, str], _Kept] = {}


def _drawn(seed: int, name: str, shape: tuple[int, ...], initialisation: Initialisation) -> tuple[Floats, Floats]:
    """What `initialisations.drawn` gives."""
    if initialisation == "orthogonal":
        return _factored(seed, name, shape)
    return initialisations.layer(_stream(seed, name), shape, initialisation)


@lru_cache(maxsize=800)
def _factored(seed: int, name: str, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Orthogonal matrices take a factorisation each, which costs more than all else."""
    with threadpool_limits(1, "blas"):
        return initialisations.layer(_stream(seed, name), shape, "orthogonal")


def _stream(seed: int, name: str) -> _Kept:
    if _Kept.total > NUMBERS:
        _STREAMS.clear()
        _Kept.total = 0
    if (seed, name) not in _STREAMS:
        _STREAMS[seed, name] = _Kept(seed, name)
    return _STREAMS[seed, name].again()
