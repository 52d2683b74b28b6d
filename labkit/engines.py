"""What computes an experiment's epochs: networks side by side, written out; or one network, by autograd."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from labkit import data, networks, optimizers
from labkit.batches import Batches
from labkit.dense import CHUNK, Stack
from labkit.experiments import Experiment
from labkit.graphs import Replays
from labkit.interrupts import undisturbed
from labkit.losses import logits_of_classes, mean_cross_entropy
from labkit.memory import rows_that_fit
from labkit.recorder import Recorder, origin, tensors
from labkit.recording import Origin, Recording, checkpoint_iterations
from labkit.tape import Tape


class Engine(Protocol):
    """Trains networks epoch by epoch, and has everything recorded, from before the first step on."""

    experiments: Sequence[Experiment]

    @property
    def done(self) -> int:
        """Iterations that were trained."""

    def epoch(self, number: int) -> None:
        """Train epoch `number`, from 0."""

    def broken_down(self) -> list[int]:
        """Networks whose loss was not finite in some iteration so far."""

    def retire(self, networks: Iterable[int]) -> None:
        """These have ended: whatever they compute from now on is of no interest."""

    def latest(self, networks: Iterable[int]) -> list[tuple[float, float, float]]:
        """For each of these its latest loss, and mean |gradient| of its first and of its last layer."""

    def recordings(
        self, networks: Iterable[int], stopped: str = "", finished: bool = False, latest: bool = False
    ) -> Iterator[Recording]:
        """What was recorded of these so far, one after another. `finished` has the accuracy over all the data measured,
        too; `latest` leaves all checkpoints but the first and the latest out, and is many times cheaper."""


class SideBySide:
    """Plain multilayer perceptrons of one shape: see `labkit.dense`. Neighbours of one seed share mini-batches.
    `lightly`, their recordings have the first checkpoint and the latest, and none between."""

    def __init__(self, experiments: Sequence[Experiment], device: torch.device, lightly: bool = False) -> None:
        self.experiments: Sequence[Experiment] = experiments
        self.first = e = experiments[0]
        self.rows = rows_that_fit(e, device, len(experiments))
        self.stack = Stack(experiments, device, self.rows)
        self.batches = Batches([experiments[ks.start] for ks in self.stack.shares], device)
        activations = [[one.activation] * (self.stack.layers - 1) for one in experiments]
        self.tape = Tape(self.stack.layout, activations, expected=e.iterations)
        self.schedule = set() if lightly else set(checkpoint_iterations(e))
        self.clipped = (e.clip_norm, e.clip_each, e.clip_value) != (None, None, None)
        self.filled = 0  # rows of the stack that the tape has not taken yet
        self.row = 0  # of the latest iteration
        self.finite = torch.ones(len(experiments), dtype=torch.bool, device=device)  # every loss that was looked at
        self.started = time.perf_counter()
        self.replays = Replays(device) if device.type == "cuda" else None
        self.warm = False  # has it trained an epoch, one launch after another?
        self._probe()
        self._checkpoint()

    @property
    def done(self) -> int:
        return self.tape.iterations + self.filled

    @torch.no_grad()
    def epoch(self, number: int) -> None:
        self.batches.of_epoch(number)
        # the first epoch has a checkpoint after its first step; the first here, also of a run that goes on, loads what
        # the kernels need
        if self.replays is None or not self.warm:
            self._one_by_one()
            self.warm = True
        else:
            self._replayed(self.replays)
        with undisturbed():
            self.tape.epoch(self.done, self.stack.gradients[self.row])
            self._probe()

    def _one_by_one(self) -> None:
        for batch in range(self.first.iterations_per_epoch):
            if self.filled == self.rows:
                with undisturbed():
                    self._flush()
            with undisturbed():  # parameters, moments and their rows belong together
                self._iteration(batch, self.filled)
                self._advance(1)

    def _replayed(self, replays: "Replays") -> None:
        """The same by graphs, each of as many iterations as there are rows."""
        count = self.first.iterations_per_epoch
        for start in range(0, count, self.rows):
            some = range(start, min(start + self.rows, count))
            with undisturbed():
                self._flush()
                replays.run(some, partial(self._iterations, some))
                self._advance(len(some))

    def _iterations(self, batches: range) -> None:
        for row, batch in enumerate(batches):
            self._iteration(batch, row)

    def _iteration(self, batch: int, row: int) -> None:
        """Loss, gradients and step of one mini-batch: on the device alone, and the same launches in every epoch."""
        stack = self.stack
        stack.gradient(*self.batches.batch(batch), row)
        if self.clipped:
            stack.clip(row)
        stack.step(row)

    def _advance(self, iterations: int) -> None:
        self.filled += iterations
        self.row = self.filled - 1
        if self.done in self.schedule:
            self._checkpoint()

    def broken_down(self) -> list[int]:
        self._look_at_losses()
        return [k for k, fine in enumerate(self.finite.tolist()) if not fine]

    @torch.no_grad()
    def retire(self, networks: Iterable[int]) -> None:
        for k in networks:
            self.stack.retire(k, self.filled)

    def latest(self, networks: Iterable[int]) -> list[tuple[float, float, float]]:
        losses, row = self.stack.losses, self.row
        return [(float(losses[row, k]), *self.stack.first_and_last_size(row, k)) for k in networks]

    def recordings(
        self, networks: Iterable[int], stopped: str = "", finished: bool = False, latest: bool = False
    ) -> Iterator[Recording]:
        chosen = list(networks)
        if not chosen:
            return
        with self.tape.closed(self.done, self._checkpoint):
            with torch.no_grad():
                with undisturbed():
                    self._flush()
                accuracy = self._accuracy() if finished else None
            for k in chosen:
                with undisturbed():  # what waits on the tape is taken or waits, and never both
                    found = self.tape.recording(k, self._origin(k, stopped, accuracy), latest)
                yield found

    def _origin(self, k: int, stopped: str, accuracy: list[float] | None) -> Origin:
        experiment, stack = self.experiments[k], self.stack
        return origin(
            stack.layout,
            experiment,
            tuple(f"{experiment.activation}_{i}" for i in range(1, stack.layers)),
            stack.moment_names,
            experiment.dtype,
            stack.device,
            wall_time=time.perf_counter() - self.started,
            data_digest=self.batches.digests[stack.share_of[k]],
            stopped=stopped,
            **({"final_accuracy": accuracy[k]} if accuracy else {}),
        )

    def _accuracy(self) -> list[float]:
        """Share of all its data that each network classifies right."""
        stack, batches = self.stack, self.batches
        right = torch.zeros(stack.count, dtype=torch.int64, device=stack.device)
        for inputs, labels in batches.whole():
            right += stack.right(inputs, labels, self.filled)
        found: list[float] = (right.double() / batches.places.shape[1]).tolist()
        return found

    @torch.no_grad()
    def _probe(self) -> None:
        probe = self.stack.probe(*self.batches.probe(), self.filled)
        self.tape.probe(probe, self.stack.parameters[self.filled])

    def _checkpoint(self) -> None:
        self.tape.checkpoint(self.done, self.stack.parameters[self.filled], self.stack.moments)

    def _look_at_losses(self) -> None:
        self.finite &= self.stack.losses[: self.filled].isfinite().all(0)

    def _flush(self) -> None:
        n, stack = self.filled, self.stack
        if n:
            self._look_at_losses()
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
        indices = data.epoch_batches(e, number)
        order = torch.from_numpy(np.concatenate(indices)).to(self.labels.device)
        for chosen in order.split(list(map(len, indices))):
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

    def broken_down(self) -> list[int]:
        return [] if self.finite else [0]

    def retire(self, networks: Iterable[int]) -> None:
        pass

    def latest(self, networks: Iterable[int]) -> list[tuple[float, float, float]]:
        matrices = [p.grad for p in self.network.parameters() if p.grad is not None and p.ndim > 1]
        first, last = (float(matrices[at].abs().mean()) for at in (0, -1))
        return [(float(self.losses[-1]), first, last) for _ in networks]

    def recordings(
        self, networks: Iterable[int], stopped: str = "", finished: bool = False, latest: bool = False
    ) -> Iterator[Recording]:
        found = self.recorder.recording(stopped, latest=latest)
        if finished:
            found = replace(found, origin=replace(found.origin, final_accuracy=self._accuracy()))
        yield from (found for _ in networks)

    @torch.no_grad()
    def _accuracy(self) -> float:
        right = 0
        for some, known in zip(self.inputs.split(CHUNK), self.labels.split(CHUNK), strict=True):
            right += int((logits_of_classes(self.network(some)).argmax(1) == known).sum())
        return right / len(self.labels)
