"""Figures that claims are held against: each gives one number for every run, and says so where runs are too short."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from labkit import theory
from labkit.ensembles import sizes_over_training
from labkit.recording import Recording

Runs = Mapping[str, Sequence[Recording]]  # by the experiment's name, one for each seed
Floats = NDArray[np.float64]
Of = Callable[[Recording], float]  # a figure of one run
Figure = Callable[[Runs], list[float]]  # that figure of every run


class TooLittle(ValueError):
    """The runs do not reach as far as the claim does; the message is what stands in place of a verdict."""


def each(of: Of, name: str) -> Figure:
    """The figure of every run of an experiment."""
    return lambda runs: [of(recording) for recording in runs[name]]


def ratio(of: Of, over: str, under: str) -> Figure:
    """The figure of one experiment over that of another, seed by seed."""
    return lambda runs: [_divided(of(a), of(b)) for a, b in paired(runs[over], runs[under])]


def difference(of: Of, more: str, less: str) -> Figure:
    """The figure of one experiment less that of another, seed by seed."""
    return lambda runs: [of(a) - of(b) for a, b in paired(runs[more], runs[less])]


def paired(left: Sequence[Recording], right: Sequence[Recording]) -> list[tuple[Recording, Recording]]:
    """Runs of two experiments with the same seed; `TooLittle` where there is none."""
    others = {recording.origin.seed: recording for recording in right}
    pairs = [(one, others[one.origin.seed]) for one in left if one.origin.seed in others]
    if not pairs:
        raise TooLittle("no seed was run with both")
    return pairs


def _divided(over: float, under: float) -> float:
    return over / under if under else math.inf


def accuracy(r: Recording) -> float:
    """Share of all training data classified right at the end."""
    return r.origin.final_accuracy


def accuracy_before(r: Recording) -> float:
    """Share of the probe batch classified right before the first step."""
    return float(r.accuracy[0])


def late_change(r: Recording) -> float:
    """What the last tenth of the epochs changed in the probe batch's accuracy."""
    return float(r.accuracy[-1] - r.accuracy[-1 - max(1, r.epochs // 10)]) if r.epochs else math.nan


def last_loss(r: Recording) -> float:
    """Mean loss of the last epoch's mini-batches, nats."""
    return float(np.mean(r.loss[-max(1, r.iterations // max(1, r.epochs)) :]))


def signed_mean_of_last(r: Recording) -> float:
    """|signed mean| over mean |gradient| of the last layer, which the softmax makes 0."""
    return float(np.median(theory.softmax_residual(r)))


def growth_of_last(r: Recording) -> float:
    """Mean |gradient| of the last layer, mean of the last tenth of the training over that of the first."""
    size = r.statistic("abs_mean")[:, -1].astype(np.float64)
    part = max(1, len(size) // 10)
    return _divided(float(size[-part:].mean()), float(size[:part].mean()))


def recorded_sizes(r: Recording, every: int = 2) -> Floats:
    """(L,) mean |gradient| on the probe batch, averaged over every second record, as S4 took them."""
    found: Floats = r.probe_statistic("abs_mean")[::every].astype(np.float64).mean(axis=0)
    return found


def recorded_ratio(r: Recording) -> float:
    """Last layer over first layer of `recorded_sizes`."""
    sizes = recorded_sizes(r)
    return _divided(float(sizes[-1]), float(sizes[0]))


def first_size(r: Recording) -> float:
    """Mean |gradient| of the first layer, averaged over the training."""
    return float(sizes_over_training(r)[0])


def last_size(r: Recording) -> float:
    """Mean |gradient| of the last layer, averaged over the training."""
    return float(sizes_over_training(r)[-1])


def sd_by_layer(r: Recording) -> Floats:
    """(L,) sd of the gradient on the probe batch, median over epochs."""
    found: Floats = np.median(r.probe_statistic("sd"), axis=0).astype(np.float64)
    return found


def sd(r: Recording) -> float:
    """Median of `sd_by_layer` over the layers."""
    return float(np.median(sd_by_layer(r)))


def mean_by_layer(r: Recording) -> Floats:
    """(L,) |signed mean| of the gradient on the probe batch, median over epochs."""
    found: Floats = np.median(np.abs(r.probe_statistic("mean")), axis=0).astype(np.float64)
    return found


def mean_of_last_over_others(r: Recording) -> float:
    """|signed mean| of the last layer's gradient over the largest of the other layers'."""
    sizes = mean_by_layer(r)
    return _divided(float(sizes[-1]), float(sizes[:-1].max()))


def uneven_wiggling(r: Recording) -> float:
    """Sd over epochs of a layer's signed mean gradient: the largest layer's over the smallest's."""
    wiggling = r.probe_statistic("mean").astype(np.float64).std(axis=0)
    return _divided(float(wiggling.max()), float(wiggling.min()))


def spread_by_layer(r: Recording) -> Floats:
    """(L,) by how much the sd of a layer's weights grew over the training."""
    found: Floats = (r.weight[-1, :, 1] - r.weight[0, :, 1]).astype(np.float64)
    return found


def first_spreads_most(r: Recording) -> float:
    """Growth of the sd of the first layer's weights over the largest change of another layer's."""
    growth = spread_by_layer(r)
    return _divided(float(growth[0]), float(np.abs(growth[1:]).max()))


def negative_weights(layer: int) -> Of:
    """Share of the weights of a layer (from 0) below 0 at the end."""
    return lambda r: float((r.checkpoint(-1)[f"{r.layers[layer]}.weight"] < 0).mean())


def weight_means(r: Recording) -> Floats:
    """(L,) mean of each layer's weights at the end."""
    found: Floats = r.weight[-1, :, 0].astype(np.float64)
    return found


def weights_near_zero(index: int, reach: float = 0.1) -> Of:
    """Share of all weights within `reach` of 0 at a checkpoint."""

    def share(r: Recording) -> float:
        checkpoint = r.checkpoint(index)
        weights = np.concatenate([checkpoint[f"{layer}.weight"].ravel() for layer in r.layers])
        return float((np.abs(weights) <= reach).mean())

    return share


def change_of_near_zero(r: Recording) -> float:
    """Share of the weights within 0.1 of 0, at the end less at the start."""
    return weights_near_zero(-1)(r) - weights_near_zero(0)(r)


def change_after(epoch: int) -> Of:
    """The largest change of the probe batch's accuracy, up or down, after an epoch (from 1)."""

    def change(r: Recording) -> float:
        if r.epochs <= epoch:
            raise TooLittle(f"too short to say ({r.epochs} epochs)")
        return float(np.abs(r.accuracy[epoch + 1 :] - r.accuracy[epoch]).max())

    return change


def plotted_norms(r: Recording) -> Floats:
    """(E,) norm of all weight gradients together on the probe batch after each epoch, as S5 took them: unclipped."""
    norms = r.probe_statistic("norm")[1:].astype(np.float64)
    found: Floats = np.sqrt((norms**2).sum(axis=1))
    return found


def growth_of_norm(epoch: int) -> Of:
    """The plotted norm after an epoch (from 1) over that after the epoch before."""
    return lambda r: _growth(plotted_norms(r), epoch)


def growth_of_loss(epoch: int) -> Of:
    """The probe batch's loss after an epoch (from 1) over that after the epoch before."""
    return lambda r: _growth(r.probe_loss[1:].astype(np.float64), epoch)


def _growth(values: Floats, epoch: int) -> float:
    if len(values) < epoch:
        raise TooLittle(f"too short to say ({len(values)} epochs)")
    return _divided(float(values[epoch - 1]), float(values[epoch - 2]))


def epoch_of_jump(factor: float) -> Of:
    """The first epoch (from 1) whose plotted norm is so many times that of the epoch before; 0 where there is none."""

    def epoch(r: Recording) -> float:
        norms = plotted_norms(r)
        jumps = np.flatnonzero(norms[1:] >= factor * norms[:-1])
        return float(jumps[0] + 2) if len(jumps) else 0.0

    return epoch


def largest_plotted(r: Recording) -> float:
    """The largest norm of one layer's gradient on the probe batch after an epoch: unclipped."""
    return float(np.nanmax(r.probe_statistic("norm")[1:]))


def largest_used(r: Recording) -> float:
    """The largest norm of one layer's gradient as the optimiser used it: clipped, where the run clips."""
    return float(np.nanmax(r.statistic("norm")))


def clipped_share(r: Recording) -> float:
    """Share of the iterations and layers in which the gradient was clipped."""
    return float((r.clip_factor < 1).mean())
