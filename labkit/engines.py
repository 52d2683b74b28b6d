"""What computes an experiment's epochs: networks side by side, written out; or one network, by autograd."""

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from labkit import data, networks, optimizers
from labkit.dense import CHUNK, Stack
from labkit.experiments import Experiment
from labkit.interrupts import undisturbed
from labkit.losses import logits_of_classes, mean_cross_entropy
from labkit.recorder import BLOCK_BYTES, Recorder, origin, tensors
from labkit.recording import PROBE, Recording, checkpoint_iterations
from labkit.tape import Tape

BLOCK_ROWS = 40  # iterations whose rows wait for their statistics: few enough to stay in the processor's cache


class Engine(Protocol):
    """Trains networks epoch by epoch, and has everything recorded, from before the first step on."""

    experiments: Sequence[Experiment]

    @property
    def done(self) -> int:
        """Iterations that were trained."""

    def epoch(self, number: int) -> None:
        """Train epoch `number`, from 0."""

    def still_finite(self) -> bool:
        """Were all losses finite so far?"""

    def latest(self) -> list[tuple[float, float, float]]:
        """For each network its latest loss, and mean |gradient| of its first and of its last layer."""

    def recordings(self, stopped: str = "", finished: bool = False, latest: bool = False) -> list[Recording]:
        """What was recorded so far. `finished` has the accuracy over all the data measured, too; `latest` leaves all
        checkpoints but the first and the latest out, and is many times cheaper."""


class SideBySide:
    """Plain multilayer perceptrons that share their data and mini-batches: see `labkit.dense`."""

    def __init__(self, experiments: Sequence[Experiment], device: torch.device) -> None:
        self.experiments: Sequence[Experiment] = experiments
        self.first = e = experiments[0]
        self.images, self.labels, self.digest = tensors(e, device)
        self.images = self.images.flatten(1)
        self.one_hot = torch.nn.functional.one_hot(self.labels, e.classes).to(self.images.dtype)
        row = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(e.widths))
        fits = BLOCK_BYTES // (2 * row * len(experiments) * self.images.element_size())
        self.rows = max(1, min(BLOCK_ROWS, fits))
        self.stack = Stack(experiments, device, self.rows)
        self.tape = Tape(self.stack.layout, [[one.activation] * (self.stack.layers - 1) for one in experiments])
        self.schedule = set(checkpoint_iterations(e))
        self.clipped = (e.clip_norm, e.clip_each, e.clip_value) != (None, None, None)
        self.filled = 0  # rows of the stack that the tape has not taken yet
        self.finite = True  # every loss that it took
        self.row = 0  # of the latest iteration
        self.started = time.perf_counter()
        self._probe()
        self._checkpoint()

    @property
    def done(self) -> int:
        return self.tape.iterations + self.filled

    @torch.no_grad()
    def epoch(self, number: int) -> None:
        stack = self.stack
        for indices in data.epoch_batches(self.first, number):
            if self.filled == self.rows:
                with undisturbed():
                    self._flush()
            row = self.row = self.filled
            chosen = torch.from_numpy(indices).to(stack.device)
            with undisturbed():  # parameters, moments and their rows belong together
                stack.gradient(self.images.index_select(0, chosen), self.one_hot.index_select(0, chosen), row)
                if self.clipped:
                    stack.clip(row)
                stack.step(row, self.done + 1)
                self.filled += 1
                if self.done in self.schedule:
                    self._checkpoint()
        with undisturbed():
            self.tape.epoch(self.done, stack.gradients[self.row])
            self._probe()

    def still_finite(self) -> bool:
        self.finite = self.finite and bool(self.stack.losses[: self.filled].isfinite().all())
        return self.finite

    def latest(self) -> list[tuple[float, float, float]]:
        losses, row = self.stack.losses, self.row
        return [(float(losses[row, k]), *self.stack.first_and_last_size(row, k)) for k in range(len(self.experiments))]

    @torch.no_grad()
    def recordings(self, stopped: str = "", finished: bool = False, latest: bool = False) -> list[Recording]:
        early = self.tape.last_checkpoint != self.done
        if early:
            self._checkpoint()
        self._flush()
        accuracy = self.stack.accuracy(self.images, self.labels, 0) if finished else None
        found = [
            self.tape.recording(
                k,
                origin(
                    self.stack.layout,
                    experiment,
                    tuple(f"{experiment.activation}_{i}" for i in range(1, self.stack.layers)),
                    self.stack.moment_names,
                    experiment.dtype,
                    self.stack.device,
                    wall_time=time.perf_counter() - self.started,
                    data_digest=self.digest,
                    stopped=stopped,
                    **({"final_accuracy": accuracy[k]} if accuracy else {}),
                ),
                latest,
            )
            for k, experiment in enumerate(self.experiments)
        ]
        if early:  # the run may go on: looking at it must not leave a checkpoint behind
            self.tape.checkpoints.pop()
        return found

    @torch.no_grad()
    def _probe(self) -> None:
        probe = self.stack.probe(self.images[:PROBE], self.labels[:PROBE], self.filled)
        self.tape.probe(probe, self.stack.parameters[self.filled])

    def _checkpoint(self) -> None:
        self.tape.checkpoint(self.done, self.stack.parameters[self.filled], self.stack.moments)

    def _flush(self) -> None:
        n, stack = self.filled, self.stack
        if n:
            self.still_finite()
            self.tape.block(stack.losses[:n], stack.gradients[:n], stack.parameters[: n + 1], stack.clips[:n])
            stack.carry(n)
            self.filled = 0


class ByAutograd:
    """One network of any architecture, in the loop that everybody writes."""

    def __init__(self, experiment: Experiment, device: torch.device) -> None:
        self.experiments: Sequence[Experiment] = [experiment]
        self.inputs, self.labels, self.digest = tensors(experiment, device)
        self.network = networks.of_experiment(experiment).to(device)
        self.optimizer = optimizers.of_experiment(experiment, self.network.parameters())
        self.recorder = Recorder(self.network, self.optimizer, experiment)
        self.done = 0
        self.losses: list[Tensor] = []  # of the latest epoch
        self.finite = True

    def epoch(self, number: int) -> None:
        e, self.losses = self.experiments[0], []
        for indices in data.epoch_batches(e, number):
            chosen = torch.from_numpy(indices).to(self.labels.device)
            self.optimizer.zero_grad()
            loss = mean_cross_entropy(self.network(self.inputs[chosen]), self.labels[chosen])
            loss.backward()
            factor = optimizers.clip(e, self.network.parameters())
            with undisturbed():  # a step and its record belong together
                self.optimizer.step()
                self.recorder.step(loss, factor)
                self.done += 1
                self.losses.append(loss.detach())
        self.recorder.end_epoch()
        self.finite = self.finite and bool(torch.stack(self.losses).isfinite().all())

    def still_finite(self) -> bool:
        return self.finite

    def latest(self) -> list[tuple[float, float, float]]:
        matrices = [p.grad for p in self.network.parameters() if p.grad is not None and p.ndim > 1]
        first, last = (float(matrices[at].abs().mean()) for at in (0, -1))
        return [(float(self.losses[-1]), first, last)]

    def recordings(self, stopped: str = "", finished: bool = False, latest: bool = False) -> list[Recording]:
        found = self.recorder.recording(stopped, latest=latest)
        if finished:
            found = replace(found, origin=replace(found.origin, final_accuracy=self._accuracy()))
        return [found]

    @torch.no_grad()
    def _accuracy(self) -> float:
        right = 0
        for some, known in zip(self.inputs.split(CHUNK), self.labels.split(CHUNK), strict=True):
            right += int((logits_of_classes(self.network(some)).argmax(1) == known).sum())
        return right / len(self.labels)
