"""Tape: rows of gradients and weights on the device become the statistics of a Recording on the host.

A training loop puts flat rows on it, one per iteration. When some dozen rows have come together, or an epoch
ends, their statistics are taken in bulk and cross to the host once. K networks of one layout share a tape.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from labkit.histogram import BINS
from labkit.recording import HIDDEN_STATISTICS, STATISTICS, Array, Origin, Recording, RecordingError

FLAT = 0.05  # an activation is saturated within this share of its range from a bound

# The flat part of each activation: where its derivative is near 0.
_SATURATED: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda h: h == 0,
    "sigmoid": lambda h: (h < FLAT) | (h > 1 - FLAT),
    "tanh": lambda h: h.abs() > 1 - 2 * FLAT,
}


@dataclass(frozen=True)
class Layout:
    """Where each tensor of a network lies in a flat row: the weight matrices first, then everything else."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    layers: tuple[str, ...]  # the first tensors are these layers' weight matrices
    bias: tuple[int | None, ...]  # for each layer, which tensor is its bias

    @property
    def sizes(self) -> list[int]:
        return [math.prod(shape) for shape in self.shapes]

    def views(self, row: Tensor, networks: int) -> list[Tensor]:
        """Each tensor of a row (..., networks * P) as (..., networks, size)."""
        parts = torch.split(row, [networks * size for size in self.sizes], dim=-1)
        return [part.unflatten(-1, (networks, size)) for part, size in zip(parts, self.sizes, strict=True)]

    @classmethod
    def of(cls, network: nn.Module) -> "Layout":
        """The layout of any module: layers are its submodules with a `weight` of two or more dimensions."""
        parameters = dict(network.named_parameters())
        matrices = [
            (layer, f"{layer}.weight" if layer else "weight")
            for layer, module in network.named_modules()
            if isinstance(getattr(module, "weight", None), nn.Parameter) and module.weight.ndim > 1
        ]
        if not matrices:
            raise RecordingError("the network has no layer with a weight matrix: there is nothing to record")
        weights = [name for _, name in matrices]
        names = [*weights, *(name for name in parameters if name not in weights)]
        bias = [name.removesuffix("weight") + "bias" for name in weights]
        return cls(
            tuple(names),
            tuple(tuple(parameters[name].shape) for name in names),
            tuple(layer or "weight" for layer, _ in matrices),
            tuple(names.index(name) if name in names else None for name in bias),
        )


@dataclass(frozen=True)
class Probe:
    """What the fixed probe batch shows of K networks."""

    gradient: Tensor  # (K * P,) flat, in the layout's order
    loss: Tensor  # (K,)
    accuracy: Tensor  # (K,)
    output_error: Tensor  # (K,)
    hidden: Tensor  # (K, A, len(HIDDEN_STATISTICS))


def statistics(values: Tensor) -> Tensor:
    """(..., n) to (..., S) in STATISTICS order, in float64: the mean is summed so, whatever the values' own type."""
    n = values.shape[-1]
    mean = values.sum(-1, dtype=torch.float64) / n
    size = values.abs()
    norm = torch.linalg.vector_norm(values, dim=-1).double()
    sd = (norm.square() / n - mean.square()).clamp_min(0).sqrt()
    columns = [mean, size.sum(-1).double() / n, sd, norm, size.amax(-1).double()]
    if values.is_cuda or n >= 2**24 or not bool(norm.isfinite().all()):
        zero_share, nonfinite = 1 - values.count_nonzero(-1).double() / n, n - values.isfinite().sum(-1).double()
    else:  # counting by signs is four times faster, and exact while float32 holds the count
        zero_share, nonfinite = 1 - size.sign_().sum(-1).double() / n, torch.zeros_like(mean)
    return torch.stack([*columns, zero_share, nonfinite], dim=-1)


def hidden_statistics(values: Tensor, activation: str) -> Tensor:
    """(..., batch, units) to (..., len(HIDDEN_STATISTICS)): mean, mean |.|, sd, saturated share, dead share."""
    flat = _SATURATED.get(activation, torch.zeros_like)(values).to(values.dtype)
    both = values.flatten(-2)
    return torch.stack(
        [
            both.mean(-1),
            both.abs().mean(-1),
            both.std(-1, correction=0),
            flat.flatten(-2).mean(-1),
            (flat.amin(-2) == 1).to(values.dtype).mean(-1),
        ],
        dim=-1,
    ).double()


class CommonBins:
    """Histograms of values whose range is not known beforehand, all on the same bins from -range to +range.

    The range is a power of two. When a value lies outside, it doubles and neighbouring bins merge, which is exact.
    """

    def __init__(self, rows: int, bins: int) -> None:
        self.bins = bins
        self.range = np.zeros(rows)  # 0 until the first value
        self.counts: list[Array] = []  # one (rows, bins) for each epoch

    def reach(self, largest: Array) -> Array:
        """Widen the ranges (rows,) so that they hold `largest`, and give them."""
        for row, value in enumerate(largest):
            wanted = 2.0 ** math.ceil(math.log2(value)) if 0 < value < math.inf else 2.0**-40
            if self.range[row] == 0:
                self.range[row] = wanted
            while self.range[row] < wanted:
                self._double(row)
        return self.range

    def _double(self, row: int) -> None:
        half = self.bins // 2
        merged = half + np.arange(-half, half) // 2
        for counts in self.counts:
            counts[row] = np.bincount(merged, weights=counts[row], minlength=self.bins)
        self.range[row] *= 2


class Tape:
    """Collects what K networks of one layout leave behind while they train side by side."""

    def __init__(self, layout: Layout, networks: int = 1, bins: int = BINS) -> None:
        if bins < 2 or bins % 2:
            raise RecordingError(f"bins is {bins}: choose an even number, because common bins are split at zero")
        self.layout, self.networks, self.bins = layout, networks, bins
        self.iterations = 0
        self.blocks: list[dict[str, Array]] = []
        self.epochs: list[dict[str, Array]] = []
        self.probes: list[dict[str, Array]] = []
        self.checkpoints: list[tuple[int, Array, Array]] = []
        rows = networks * len(layout.layers)
        self.gradient_bins, self.weight_bins = CommonBins(rows, bins), CommonBins(rows, bins)

    def _matrices(self, row: Tensor) -> list[Tensor]:
        return self.layout.views(row, self.networks)[: len(self.layout.layers)]

    def block(self, loss: Tensor, gradients: Tensor, parameters: Tensor, clip: Tensor | None = None) -> None:
        """Take R iterations: loss (R, K), gradients (R, K P), parameters before and after (R + 1, K P)."""
        before, after = parameters[:-1], parameters[1:]
        all_gradients = self.layout.views(gradients, self.networks)
        all_before = self.layout.views(before, self.networks)
        layers = len(self.layout.layers)
        changes = [
            torch.linalg.vector_norm(new - old, dim=-1)
            for new, old in zip(self._matrices(after), all_before[:layers], strict=True)
        ]
        dots = [(w * g).sum(-1) for w, g in zip(all_before, all_gradients, strict=True)]
        none = torch.zeros_like(dots[0])
        values = {
            "gradient": torch.stack([statistics(g) for g in all_gradients[:layers]], dim=2),  # (R, K, L, S)
            "update_norm": torch.stack(changes, dim=2),
            "weight_norm": torch.stack([torch.linalg.vector_norm(w, dim=-1) for w in all_before[:layers]], dim=2),
            "weight_dot_gradient": torch.stack(dots[:layers], dim=2),
            "bias_dot_gradient": torch.stack([none if b is None else dots[b] for b in self.layout.bias], dim=2),
            "loss": loss.clone(),  # the loop goes on writing into its rows
            "clip_factor": torch.ones_like(loss) if clip is None else clip.clone(),
        }
        self.blocks.append(_to_host(values))
        self.iterations += len(loss)

    def epoch(self, gradient: Tensor) -> None:
        """End an epoch whose last mini-batch left this gradient (K P,)."""
        matrices = self._matrices(gradient)
        finite = [m.nan_to_num(0, 0, 0) for m in matrices]
        low, high = (torch.cat([getattr(m, end)(-1) for m in finite]).cpu().numpy() for end in ("amin", "amax"))
        empty = np.where(low == high, 0.5, 0).astype(low.dtype)
        low, high = low - empty, high + empty
        self.epochs.append(
            {
                "batch_counts": self._counts(matrices, low, high),
                "batch_range": np.stack([low, high], axis=-1),
                "epoch_end": np.array(self.iterations),
            }
        )

    def probe(self, probe: Probe | None, parameters: Tensor) -> None:
        """Take a probe row: what the probe batch shows, and the weights (K P,) as they are now."""
        weights = self._matrices(parameters)
        row = {"weight": torch.stack([torch.stack([w.mean(-1), w.std(-1, correction=0)], -1) for w in weights], 1)}
        shape = (self.networks, len(self.layout.layers))
        if probe is not None:
            gradients = self._matrices(probe.gradient)
            row |= {
                "probe_gradient": torch.stack([statistics(g) for g in gradients], dim=1),
                "probe_loss": probe.loss,
                "accuracy": probe.accuracy,
                "output_error": probe.output_error,
                "hidden": probe.hidden,
            }
            self.gradient_bins.counts.append(self._common(self.gradient_bins, gradients))
        else:
            self.gradient_bins.counts.append(np.zeros((math.prod(shape), self.bins)))
        self.weight_bins.counts.append(self._common(self.weight_bins, weights))
        self.probes.append(_to_host(row))

    def checkpoint(self, parameters: Tensor, moments: Sequence[Tensor]) -> None:
        """Keep all parameters (K P,) and the optimiser's moments as they are after this many iterations."""
        kept = [np.stack(_split(self.layout, row, self.networks)) for row in (parameters, *moments)]
        kept_moments = np.stack(kept[1:], axis=1) if moments else np.zeros((self.networks, 0, kept[0].shape[1]))
        self.checkpoints.append((self.iterations, kept[0], kept_moments))

    def _common(self, bins: CommonBins, values: list[Tensor]) -> Array:
        largest = torch.cat([v.abs().amax(-1) for v in values]).double().cpu().numpy()
        reach = bins.reach(np.nan_to_num(largest, posinf=0))
        return self._counts(values, -reach, reach).astype(np.float64)

    def _counts(self, values: list[Tensor], low: Array, high: Array) -> Array:
        """(L K, B) counts of each matrix's finite values between its outer edges (L K,), layer by layer."""
        rows = [network for matrix in values for network in matrix]
        edges = zip(rows, low.tolist(), high.tolist(), strict=True)
        counts: Array = torch.stack([torch.histc(row, self.bins, a, b) for row, a, b in edges]).cpu().numpy()
        return counts

    def recording(self, network: int, origin: Origin) -> Recording:
        """The recording of one of the K networks."""
        layers, dtype = len(self.layout.layers), np.dtype(origin.dtype)
        rows = slice(network, None, self.networks)  # of an array that goes layer by layer, network by network

        def by_iteration(name: str, *tail: int) -> Array:
            parts = [block[name][:, network] for block in self.blocks]
            return np.concatenate([np.zeros((0, *tail)), *parts]).astype(dtype)

        def by_probe(name: str, *tail: int) -> Array:
            missing = np.full(tail, np.nan)
            return np.stack([row[name][network] if name in row else missing for row in self.probes]).astype(dtype)

        def by_epoch(name: str, *tail: int) -> Array:
            return np.array([epoch[name][rows] for epoch in self.epochs]).reshape(-1, layers, *tail)

        def common(bins: CommonBins) -> Array:
            return np.stack([counts[rows] for counts in bins.counts]).astype(np.int32)

        s = len(STATISTICS)
        return Recording(
            origin=origin,
            loss=by_iteration("loss"),
            gradient=by_iteration("gradient", layers, s),
            update_norm=by_iteration("update_norm", layers),
            weight_norm=by_iteration("weight_norm", layers),
            weight_dot_gradient=by_iteration("weight_dot_gradient", layers),
            bias_dot_gradient=by_iteration("bias_dot_gradient", layers),
            clip_factor=by_iteration("clip_factor"),
            epoch_end=np.array([int(epoch["epoch_end"]) for epoch in self.epochs], dtype=np.int64),
            batch_counts=by_epoch("batch_counts", self.bins).astype(np.int32),
            batch_range=by_epoch("batch_range", 2).astype(dtype),
            probe_gradient=by_probe("probe_gradient", layers, s),
            probe_counts=common(self.gradient_bins),
            probe_range=self.gradient_bins.range[rows].astype(dtype),
            probe_loss=by_probe("probe_loss"),
            accuracy=by_probe("accuracy"),
            output_error=by_probe("output_error"),
            hidden=by_probe("hidden", len(origin.activations), len(HIDDEN_STATISTICS)),
            weight=by_probe("weight", layers, 2),
            weight_counts=common(self.weight_bins),
            weight_range=self.weight_bins.range[rows].astype(dtype),
            checkpoint_iteration=np.array([at for at, _, _ in self.checkpoints], dtype=np.int64),
            checkpoint_parameters=np.stack([row[network] for _, row, _ in self.checkpoints]).astype(dtype),
            checkpoint_moments=np.stack([moments[network] for _, _, moments in self.checkpoints]).astype(dtype),
        )


def probe_of(gradient: Tensor, logits: Tensor, labels: Tensor, hidden: Tensor) -> Probe:
    """The probe's figures from gradients (K P,), logits (K, batch, classes), class numbers (batch,) and hidden
    statistics (K, A, ...). Losses other than cross-entropy over classes leave NaN."""
    networks, batch = logits.shape[:2]
    if logits.ndim != 3 or labels.is_floating_point() or labels.shape != (batch,):
        unknown = torch.full((networks,), math.nan)
        return Probe(gradient, unknown, unknown, unknown, hidden)
    log_p = logits.log_softmax(-1)
    known = labels.expand(networks, batch)[..., None]
    right = log_p.gather(-1, known)
    # |p - y| summed over the classes is 2 (1 - p of the right class), for the others add up to the same
    error = 2 * (1 - right.exp()).mean((1, 2)) / logits.shape[-1]
    accuracy = (logits.argmax(-1) == labels).double().mean(-1)
    return Probe(gradient, -right.mean((1, 2)), accuracy, error, hidden)


def _to_host(values: dict[str, Tensor]) -> dict[str, Array]:
    return {name: value.detach().cpu().numpy() for name, value in values.items()}


def _split(layout: Layout, row: Tensor, networks: int) -> list[Array]:
    """A flat row (K P,) as the K networks' own rows (P,), on the host."""
    both = torch.cat(layout.views(row.detach(), networks), dim=-1)
    return list(both.cpu().numpy().copy())
