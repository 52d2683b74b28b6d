"""Mini-batches on the device: the data, an epoch's order, one gather for each iteration."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from labkit import data
from labkit.experiments import Experiment
from labkit.recording import PROBE


class Batches:
    """What S experiments that differ in their seeds train on. Every method gives (S, batch, ...) for each of them.

    An epoch's order goes to the device once, from memory that the device reads by itself; after that nothing crosses.
    """

    def __init__(self, experiments: Sequence[Experiment], device: torch.device) -> None:
        self.experiments, self.device = experiments, device
        first = experiments[0]
        drawn = data.samples(first, [one.seed for one in experiments])
        self.digests = drawn.digests
        self.inputs = torch.from_numpy(drawn.inputs).to(device, getattr(torch, first.dtype)).flatten(1)  # (N, inputs)
        self.labels = torch.from_numpy(drawn.labels).to(device)  # (N,)
        self.one_hot = torch.nn.functional.one_hot(self.labels, first.classes).to(self.inputs.dtype)  # (N, classes)
        self._places = drawn.places
        self.places = torch.from_numpy(drawn.places).to(device)  # (S, n) where each one's observations are
        used = sum(map(len, data.epoch_batches(first, 0)))
        self.order = torch.zeros(len(experiments), used, dtype=torch.int64, device=device)
        self._most = max(first.batch_size, min(PROBE, self.places.shape[1]))  # observations of each that are looked at
        self._chosen = self.inputs.new_empty(len(experiments) * self._most, self.inputs.shape[1])

    def of_epoch(self, number: int) -> None:
        """Lay out the mini-batches of epoch `number`, from 0."""
        orders = [np.concatenate(data.epoch_batches(one, number)) for one in self.experiments]
        host = torch.from_numpy(np.take_along_axis(self._places, np.stack(orders), 1))
        if self.device.type == "cuda":
            host = host.pin_memory()
        self.order.copy_(host, non_blocking=True)

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """Inputs (S, batch, inputs) and one-hot labels (S, batch, classes) of the epoch's mini-batch `number`, from 0.
        The inputs stay until the next call."""
        size = self.experiments[0].batch_size
        chosen = self.order[:, number * size : (number + 1) * size]
        return self._inputs_at(chosen), self._at(self.one_hot, chosen)

    def whole(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and labels (S, batch) of all data, part by part. The inputs stay until the next call."""
        for places in self.places.split(self._most, dim=1):
            yield self._inputs_at(places), self._at(self.labels, places)

    def _inputs_at(self, places: Tensor) -> Tensor:
        """Into memory that is kept: fresh memory takes longer to come by than to fill."""
        inputs = self._chosen[: places.numel()]
        torch.index_select(self.inputs, 0, places.reshape(-1), out=inputs)
        return inputs.view(*places.shape, -1)

    def probe(self) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs, labels (S, batch) and one-hot labels of the probe batch. The inputs stay until the next call."""
        places = self.places[:, :PROBE]
        return self._inputs_at(places), self._at(self.labels, places), self._at(self.one_hot, places)

    def _at(self, values: Tensor, places: Tensor) -> Tensor:
        return values.index_select(0, places.reshape(-1)).view(*places.shape, *values.shape[1:])
