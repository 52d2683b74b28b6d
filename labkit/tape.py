"""Tape: rows of gradients and weights on the device become the statistics of a Recording on the host.

A training loop puts flat rows on it, one per iteration. When some dozen rows have come together, or an epoch
ends, their statistics are taken in bulk and cross to the host once. K networks of one layout share a tape.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn

from labkit.histogram import BINS, LEAST_REACH
from labkit.recording import HIDDEN_STATISTICS, STATISTICS, Array, Origin, Recording, RecordingError

FEWEST = 1024  # rows that there is room for from the beginning, where nobody knows how many will come
PROBE_ROWS = 10  # epochs whose probe rows wait until their statistics are taken in bulk ...
WAITING_BYTES = 16 * 2**20  # ... unless one such row of all networks is a large part of this
PIECE_BYTES = 2**21  # of what statistics are taken of at once on a CPU: more of it does not stay in the cache
PARTIAL = 64  # neighbours whose sum is taken in their own kind of numbers, before sums of these are taken in float64
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

    def stacks(self, row: Tensor, networks: int) -> list[Tensor]:
        """The weight matrices of a row (..., networks * P): neighbours of one size as (..., layers, networks, size)."""
        groups = [(len(list(same)), size) for size, same in groupby(self.sizes[: len(self.layers)])]
        ends = [networks * count * size for count, size in groups]
        parts = torch.split(row[..., : sum(ends)], ends, dim=-1)
        return [part.unflatten(-1, (count, networks, size)) for part, (count, size) in zip(parts, groups, strict=True)]

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
    """What the fixed probe batch leaves in K networks; its figures are taken later, in bulk."""

    gradient: Tensor  # (K * P,) flat, in the layout's order
    logits: Tensor  # (K, batch, classes)
    labels: Tensor  # (batch,) class numbers, or (K, batch) where each network has a batch of its own
    loss: Tensor  # (K,)
    hidden: tuple[Tensor, ...]  # A of (K, batch, units), after each activation
    through_time: Tensor | None = None  # (K, T) as in a Recording


def statistics(values: Tensor) -> Tensor:
    """(..., n) to (..., S) in STATISTICS order, in float64: the mean is summed so, whatever the values' own type."""
    return _finished(_sums(values, torch.empty_like(values)), values.shape[-1])


def _sums(values: Tensor, room: Tensor) -> Tensor:
    """(..., n) to (..., 6) in float64, what statistics are made of: sum, sum |.|, norm, largest |.|, how many are not
    0, and how many are not finite. `room`, in the values' shape, is overwritten."""
    size = torch.abs(values, out=room)
    norm = torch.linalg.vector_norm(values, dim=-1)
    columns = [size.sum(-1), norm, size.amax(-1)]
    if not values.is_cuda and values.shape[-1] < 2**24 and bool(norm.isfinite().all()):
        sums = _sum(values)
        # four times faster than counting, and exact while float32 holds the count
        columns += [size.sign_().sum(-1), torch.zeros_like(norm)]
    else:
        sums = values.sum(-1, dtype=torch.float64)
        columns += [values.count_nonzero(-1), (~values.isfinite()).sum(-1)]
        columns = [column.double() for column in columns]  # in which these counts are exact
    return torch.cat([sums.unsqueeze(-1), torch.stack(columns, dim=-1).double()], dim=-1)


def _finished(sums: Tensor, n: int | Tensor) -> Tensor:
    """(..., 6) of n values each to (..., S)."""
    total, size, norm, largest, not_zero, nonfinite = sums.unbind(-1)
    mean = total / n
    sd = (norm.square() / n - mean.square()).clamp_min(0).sqrt()
    return torch.stack([mean, size / n, sd, norm, largest, 1 - not_zero / n, nonfinite], dim=-1)


def _step(gradients: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """(..., 9) in float64 of a step's gradients and of the parameters (..., n) around it: the gradients' sums, the
    norms of the update and of the weights before it, and the weights' product with the gradients. Each is read while it
    is in the cache, and there is one room for what lies in between."""
    room = torch.empty_like(gradients)
    sums = _sums(gradients, room)
    norms = [_norm(torch.sub(after, before, out=room)), _norm(before)]
    dot = torch.mul(before, gradients, out=room).sum(-1)
    return torch.cat([sums, torch.stack([*norms, dot], dim=-1).double()], dim=-1)


def _sum(values: Tensor) -> Tensor:
    """(...) sums of finite values (..., n) in float64. A CPU would make a float64 copy of all of them first, so those
    of PARTIAL neighbours are taken as they are: that is off by 1e-8 of the mean size, far below a norm's rounding."""
    whole = values.shape[-1] // PARTIAL * PARTIAL
    if whole < 16 * PARTIAL:
        return values.sum(-1, dtype=torch.float64)
    parts = values[..., :whole].unflatten(-1, (-1, PARTIAL)).sum(-1)
    found: Tensor = parts.sum(-1, dtype=torch.float64) + values[..., whole:].sum(-1, dtype=torch.float64)
    return found


def in_pieces(what: Callable[..., Tensor], *values: Tensor, dim: int = 0) -> Tensor:
    """`what` of values (..., n), which keeps all dimensions but the last; on a CPU, of what stays in its cache."""
    first = values[0]
    size = first.numel() * first.element_size()
    if first.is_cuda or size <= PIECE_BYTES or dim == first.ndim - 1:
        return what(*values)
    each = max(1, math.ceil(first.shape[dim] / math.ceil(size / PIECE_BYTES)))
    pieces = zip(*(value.split(each, dim) for value in values), strict=True)
    return torch.cat([in_pieces(what, *piece, dim=dim + 1) for piece in pieces], dim)


def hidden_statistics(values: Tensor, activation: str) -> Tensor:
    """(..., batch, units) to (..., len(HIDDEN_STATISTICS)): mean, mean |.|, sd, saturated share, dead share."""
    flat = _SATURATED.get(activation, torch.zeros_like)(values).double()
    both = values.flatten(-2).double()
    shares = flat.mean(-2)  # of the batch, for each unit
    mean, sd = _mean_and_sd(both)
    return torch.stack([mean, both.abs().mean(-1), sd, shares.mean(-1), (shares == 1).double().mean(-1)], dim=-1)


def counts(values: Tensor, edges: Tensor, bins: int) -> Tensor:
    """(..., B) counts of the finite values (..., n) in bins of equal width between outer edges (..., 2).

    What `torch.histc` counts, for many rows at once; a value on an edge between two bins may fall into either.
    """
    rows, low, high = values.flatten(0, -2), *edges.to(values).flatten(0, -2).unsqueeze(-1).unbind(1)
    left_out = float(bins + 1)  # the place behind that of values on the upper edge
    place = (rows - low).div_(high - low).mul_(bins).nan_to_num_(left_out, left_out, left_out).clamp_(0, left_out)
    # small whole numbers are counted twice as fast as large ones
    offset = torch.arange(len(rows), device=values.device, dtype=torch.int32).unsqueeze(1) * (bins + 2)
    found = place.int().add_(offset).flatten().bincount(minlength=len(rows) * (bins + 2)).view(len(rows), -1)
    found[:, bins - 1] += found[:, bins]
    return found[:, :bins].view(*values.shape[:-1], bins)


class CommonBins:
    """Histograms of values whose range is not known beforehand, all on the same bins from -range to +range.

    The range is a power of two. When a value lies outside, it doubles and neighbouring bins merge, which is exact.
    """

    def __init__(self, rows: int, bins: int) -> None:
        self.bins = bins
        self.range = np.zeros(rows)  # 0 until the first value
        self.counts: list[Array] = []  # one (rows, bins) for each epoch

    def reaches(self, largest: Array) -> Array:
        """(N, rows) what the ranges will be once each row of `largest` (N, rows) has come, one after another."""
        wanted = np.full(largest.shape, LEAST_REACH)
        sound = (largest > 0) & (largest < math.inf)
        fraction, power = np.frexp(largest[sound])  # exact: a logarithm could miss a power of two
        wanted[sound] = np.ldexp(1.0, power - (fraction == 0.5))
        ranges: Array = np.maximum.accumulate(np.concatenate([self.range[None], wanted]))[1:]
        return ranges

    def add(self, counts: Array, reach: Array) -> None:
        """Take the counts (rows, bins) of an epoch, made on the ranges (rows,) that it reached."""
        for row in np.flatnonzero((self.range > 0) & (self.range < reach)):
            while self.range[row] < reach[row]:
                self._double(int(row))
        self.range = reach.copy()
        self.counts.append(counts)

    def _double(self, row: int) -> None:
        half = self.bins // 2
        merged = half + np.arange(-half, half) // 2
        for counts in self.counts:
            counts[row] = np.bincount(merged, weights=counts[row], minlength=self.bins)
        self.range[row] *= 2


class Rows:
    """Rows that come in blocks, by name, on the host; each name's in one array that doubles as it fills.

    A small array kept from each block would lie between the large ones that pass, and leave holes that none of those
    fits into again: 22 layers of 256 units grew by 7 MB a block, to more than 10 GB in 18,750 iterations.
    """

    def __init__(self, expected: int | None = None) -> None:
        self.arrays: dict[str, Array] = {}
        self.filled = 0
        self.room = expected or FEWEST

    def extend(self, block: Mapping[str, Tensor | Array]) -> None:
        """Take rows (R, ...) of the same names each time."""
        for name, values in _to_host(block).items():
            there, end = self.arrays.get(name), self.filled + len(values)
            if there is None or end > len(there):
                grown = np.empty((self.room if end <= self.room else 2 * end, *values.shape[1:]), values.dtype)
                if there is not None:
                    grown[: self.filled] = there[: self.filled]
                self.arrays[name] = there = grown
            there[self.filled : end] = values
        self.filled = end

    def of(self, name: str) -> Array:
        return self.arrays[name][: self.filled]


class Tape:
    """Collects what K networks of one layout leave behind while they train side by side."""

    def __init__(
        self, layout: Layout, activations: Sequence[Sequence[str]], bins: int = BINS, expected: int | None = None
    ) -> None:
        """`activations` has, for each network, the kind of each of its A hidden activations. `expected` iterations need
        no more room than they take; more may come."""
        if bins < 2 or bins % 2:
            raise RecordingError(f"bins is {bins}: choose an even number, because common bins are split at zero")
        self.layout, self.activations, self.bins = layout, activations, bins
        self.networks = networks = len(activations)
        self.iterations = 0
        self.rows = Rows(expected)  # of every iteration
        self.epochs: list[dict[str, Array]] = []
        self.probes: list[dict[str, Array]] = []
        self.checkpoints: list[tuple[int, Array]] = []  # iterations done, and parameters and moments (K, 1 + M, P)
        self.epoch_end: list[int] = []
        self._last_gradients: list[Tensor] = []
        self._copied: list[tuple[int, Tensor]] = []  # checkpoints that wait for their way to the host, (1 + M, K P)
        self._waiting: list[tuple[Probe | None, Tensor]] = []
        rows = networks * len(layout.layers)
        self.gradient_bins, self.weight_bins = CommonBins(rows, bins), CommonBins(rows, bins)

    def _layers(self, *rows: Tensor, what: Callable[..., Tensor]) -> Tensor:
        """`what` of each weight matrix of rows (N, K P), as (N, L, K, ...); layers of one size are taken together."""
        stacks = [self.layout.stacks(row, self.networks) for row in rows]
        return torch.cat([in_pieces(what, *same) for same in zip(*stacks, strict=True)], dim=1)

    def block(self, loss: Tensor, gradients: Tensor, parameters: Tensor, clip: Tensor | None = None) -> None:
        """Take R iterations: loss (R, K), gradients (R, K P), parameters before and after (R + 1, K P), and what
        clipping made of each layer's norm, (R, L, K)."""
        before, after = parameters[:-1], parameters[1:]
        taken = self._layers(gradients, before, after, what=_step).cpu()
        sizes = torch.tensor(self.layout.sizes[: taken.shape[1]]).view(-1, 1)
        update_norm, weight_norm, weight_dot_gradient = taken[..., -3:].unbind(-1)
        values = {
            "gradient": _finished(taken[..., :-3], sizes),
            "update_norm": update_norm,
            "weight_norm": weight_norm,
            "weight_dot_gradient": weight_dot_gradient,
            "bias_dot_gradient": self._bias_dot(before, gradients),
            "loss": loss.clone(),  # the loop goes on writing into its rows
            "clip_factor": loss.new_ones(taken.shape[:-1]) if clip is None else clip.clone(),
        }
        self.rows.extend({name: value.to(loss.dtype) for name, value in values.items()})
        self.iterations += len(loss)

    def _bias_dot(self, parameters: Tensor, gradients: Tensor) -> Tensor:
        """(R, L, K); 0 for a layer without a bias."""
        b, g = (self.layout.views(row, self.networks) for row in (parameters, gradients))
        none = b[0].new_zeros(b[0].shape[:-1])
        return torch.stack([none if at is None else _dot(b[at], g[at]) for at in self.layout.bias], dim=1)

    def epoch(self, iterations: int, gradient: Tensor) -> None:
        """End an epoch after this many iterations in all, whose last mini-batch left this gradient (K P,)."""
        self.epoch_end.append(iterations)
        self._last_gradients.append(gradient.clone())

    def _take_last_gradients(self) -> None:
        """Histograms of the last mini-batches that wait, each on bins of its own range."""
        if not self._last_gradients:
            return
        rows = torch.stack(self._last_gradients)
        finite = rows.nan_to_num(0, 0, 0)
        edges = self._layers(finite, what=lambda g: torch.stack([g.amin(-1), g.amax(-1)], -1))  # (N, L, K, 2)
        edges += (edges[..., :1] == edges[..., 1:]) * edges.new_tensor([-0.5, 0.5])
        for found, ends in zip(self._counts(rows, edges), edges.flatten(1, 2).cpu().numpy(), strict=True):
            self.epochs.append({"batch_counts": found, "batch_range": ends})
        self._last_gradients.clear()

    def probe(self, probe: Probe | None, parameters: Tensor) -> None:
        """Take a probe row: what the probe batch shows, and the weights (K P,) as they are now."""
        self._waiting.append((probe, parameters.clone()))
        row = 8 * parameters.numel() * parameters.element_size()  # probe row, checkpoint, what is made of them
        if len(self._waiting) >= min(PROBE_ROWS, WAITING_BYTES // row):
            self._take_probes()
            self._take_last_gradients()
            self._take_checkpoints()

    def _take_probes(self) -> None:
        """Statistics of the probe rows that wait, in bulk."""
        if not self._waiting:
            return
        probes, weights = [probe for probe, _ in self._waiting if probe], torch.stack([w for _, w in self._waiting])
        taken = {"weight": self._layers(weights, what=lambda w: torch.stack(_mean_and_sd(w), -1))}
        if probes:
            gradients = torch.stack([probe.gradient for probe in probes])
            taken |= {
                "probe_gradient": self._layers(gradients, what=statistics),
                "probe_loss": torch.stack([probe.loss for probe in probes]),
                "hidden": self._hidden(probes),
                "through_time": _through_time(probes),
                **_classified(torch.stack([probe.logits for probe in probes]), probes[0].labels),
            }
            self._count_on_common_bins(self.gradient_bins, gradients)
        self._count_on_common_bins(self.weight_bins, weights)
        self.probes.append(_to_host(taken))
        self._waiting.clear()

    def _hidden(self, probes: list[Probe]) -> Tensor:
        """(N, K, A, ...) statistics of the hidden activations; networks with one kind of activation together."""
        found = []
        for at, values in enumerate(zip(*(probe.hidden for probe in probes), strict=True)):
            rows, parts, start = torch.stack(values), [], 0
            for kind, same in groupby(kinds[at] for kinds in self.activations):
                stop = start + len(list(same))
                parts.append(hidden_statistics(rows[:, start:stop], kind))
                start = stop
            found.append(torch.cat(parts, dim=1))
        none = probes[0].loss.new_zeros(len(probes), self.networks, 0, len(HIDDEN_STATISTICS))
        return torch.stack(found, dim=2) if found else none

    def _count_on_common_bins(self, bins: CommonBins, rows: Tensor) -> None:
        """Each row is counted on the range that it reached itself, so that how many wait together changes no count: a
        value beside an edge may fall to its other side on wider bins."""
        sizes = self._layers(rows.nan_to_num(0, 0, 0), what=lambda values: values.abs().amax(-1))
        ranges = bins.reaches(sizes.flatten(1).double().cpu().numpy())
        reach = torch.from_numpy(ranges).to(rows).view_as(sizes)
        for counts, reached in zip(self._counts(rows, torch.stack([-reach, reach], -1)), ranges, strict=True):
            bins.add(counts, reached)

    def checkpoint(self, iterations: int, parameters: Tensor, moments: Sequence[Tensor]) -> None:
        """Keep all parameters (K P,) and the optimiser's moments as they are after this many iterations."""
        self._copied.append((iterations, torch.stack([parameters, *moments])))

    @property
    def last_checkpoint(self) -> int | None:
        """Iterations that were done when the latest checkpoint was taken."""
        taken = self._copied or self.checkpoints
        return taken[-1][0] if taken else None

    @contextmanager
    def closed(self, done: int, checkpoint: Callable[[], None]) -> Iterator[None]:
        """Within it the latest checkpoint is of `done` iterations: one that `checkpoint` takes to that end is gone
        behind it, for the run may go on, and looking at it must not leave one behind."""
        early = self.last_checkpoint != done
        try:
            if early:
                checkpoint()
            yield
        finally:
            if early and self.last_checkpoint == done:
                (self._copied or self.checkpoints).pop()

    def _take_checkpoints(self) -> None:
        """Checkpoints that wait: each network's parameters one after another."""
        for at, rows in self._copied:
            each = torch.cat(self.layout.views(rows, self.networks), dim=-1).transpose(0, 1)
            self.checkpoints.append((at, each.cpu().numpy()))
        self._copied.clear()

    def _counts(self, rows: Tensor, edges: Tensor) -> Array:
        """(N, L K, B) counts of each matrix of rows (N, K P) between outer edges (N, L, K, 2), layer by layer."""
        stacks = self.layout.stacks(rows, self.networks)
        ends = edges.split([stack.shape[1] for stack in stacks], dim=1)
        found = [
            in_pieces(lambda values, outer: counts(values, outer, self.bins), *pair)
            for pair in zip(stacks, ends, strict=True)
        ]
        return torch.cat(found, dim=1).flatten(1, 2).to(torch.int32).cpu().numpy()

    def recording(self, network: int, origin: Origin, latest: bool = False) -> Recording:
        """The recording of one of the K networks. `latest` has it hold the first and the latest checkpoint alone, which
        is all that a look during training needs: the checkpoints are most of a recording."""
        self._take_probes()
        self._take_last_gradients()
        self._take_checkpoints()
        layers, dtype = len(self.layout.layers), np.dtype(origin.dtype)
        # an interrupt may fall between the end of an epoch and its probe row: then the epoch has not ended
        epochs = min(len(self.epochs), len(self.weight_bins.counts) - 1)
        rows = slice(network, None, self.networks)  # of an array that goes layer by layer, network by network
        checkpoints = [self.checkpoints[0], self.checkpoints[-1]] if latest else self.checkpoints

        def by_iteration(name: str, *tail: int) -> Array:
            if not self.rows.filled:
                return np.zeros((0, *tail), dtype)
            rows = self.rows.of(name)
            return (rows[:, :, network] if tail else rows[:, network]).astype(dtype)

        def by_layer(name: str, tail: int) -> Array:
            missing = np.full((1, layers, tail), np.nan)
            parts = [np.broadcast_to(missing, taken["weight"].shape[:1] + missing.shape[1:]) if name not in taken
                     else taken[name][:, :, network] for taken in self.probes]  # fmt: skip
            return np.concatenate(parts)[: epochs + 1].astype(dtype)

        def by_probe(name: str, *tail: int) -> Array:
            missing = np.full((1, *tail), np.nan)
            parts = [np.broadcast_to(missing, taken["weight"].shape[:1] + tail) if name not in taken
                     else taken[name][:, network] for taken in self.probes]  # fmt: skip
            return np.concatenate(parts)[: epochs + 1].astype(dtype)

        def by_epoch(name: str, *tail: int) -> Array:
            return np.array([epoch[name][rows] for epoch in self.epochs[:epochs]]).reshape(-1, layers, *tail)

        def common(bins: CommonBins) -> Array:
            counts = [row[rows] for row in bins.counts[: epochs + 1]]
            return np.array(counts or np.zeros((epochs + 1, layers, self.bins))).astype(np.int32)

        s, steps = (
            len(STATISTICS),
            max((taken["through_time"].shape[2] for taken in self.probes if "through_time" in taken), default=0),
        )
        return Recording(
            origin=origin,
            loss=by_iteration("loss"),
            gradient=by_iteration("gradient", layers, s),
            update_norm=by_iteration("update_norm", layers),
            weight_norm=by_iteration("weight_norm", layers),
            weight_dot_gradient=by_iteration("weight_dot_gradient", layers),
            bias_dot_gradient=by_iteration("bias_dot_gradient", layers),
            clip_factor=by_iteration("clip_factor", layers),
            epoch_end=np.array(self.epoch_end[:epochs], dtype=np.int64),
            batch_counts=by_epoch("batch_counts", self.bins).astype(np.int32),
            batch_range=by_epoch("batch_range", 2).astype(dtype),
            probe_gradient=by_layer("probe_gradient", s),
            probe_counts=common(self.gradient_bins),
            probe_range=self.gradient_bins.range[rows].astype(dtype),
            probe_loss=by_probe("probe_loss"),
            accuracy=by_probe("accuracy"),
            output_error=by_probe("output_error"),
            hidden=by_probe("hidden", len(origin.activations), len(HIDDEN_STATISTICS)),
            through_time=by_probe("through_time", steps),
            weight=by_layer("weight", 2),
            weight_counts=common(self.weight_bins),
            weight_range=self.weight_bins.range[rows].astype(dtype),
            checkpoint_iteration=np.array([at for at, _ in checkpoints], dtype=np.int64),
            checkpoint_parameters=np.stack([kept[network, 0] for _, kept in checkpoints]).astype(dtype, copy=False),
            checkpoint_moments=np.stack([kept[network, 1:] for _, kept in checkpoints]).astype(dtype, copy=False),
        )


def _through_time(probes: list[Probe]) -> Tensor:
    """(N, K, T) of N probe rows; T is 0 where there is no time."""
    none = probes[0].loss.new_zeros(len(probes[0].loss), 0)
    return torch.stack([none if probe.through_time is None else probe.through_time for probe in probes])


def _classified(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Accuracy and mean |p - y|, (N, K) each, of logits (N, K, batch, classes), class numbers (batch,) or (K, batch).

    Losses other than cross-entropy over classes leave NaN.
    """
    shapes = (logits.shape[2:3], logits.shape[1:3])
    if logits.ndim != 4 or labels.is_floating_point() or labels.shape not in shapes:
        unknown = torch.full(logits.shape[:2], math.nan)
        return {"accuracy": unknown, "output_error": unknown}
    known = labels.expand(logits.shape[:-1])[..., None, :]
    z = logits.transpose(-1, -2).contiguous()  # along the batch is quicker than along a few classes
    right = z.softmax(-2).gather(-2, known)[..., 0, :]
    # |p - y| is 1 - p at the right class, and the other classes' p add up to the same
    error = 2 * (1 - right).mean(-1) / logits.shape[-1]
    return {"accuracy": (z.max(-2).indices == labels).double().mean(-1), "output_error": error}


def _mean_and_sd(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and sd of values (..., n), in float64."""
    mean = values.mean(-1, dtype=torch.float64)
    square = torch.linalg.vector_norm(values, dim=-1, dtype=torch.float64).square() / values.shape[-1]
    return mean, (square - mean.square()).clamp_min(0).sqrt()


def _norm(values: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(values, dim=-1)
    return norm


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)


def _to_host(values: Mapping[str, Tensor | Array]) -> dict[str, Array]:
    return {
        name: value.detach().cpu().numpy() if isinstance(value, Tensor) else value for name, value in values.items()
    }
