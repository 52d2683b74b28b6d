"""The gradients of any network at given parameters, by autograd: what `labkit.replay` needs where it has no formula."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from labkit import networks
from labkit.experiments import Experiment
from labkit.losses import mean_cross_entropy
from labkit.propagation import KINKED, Floats, Ints, Kink, Pass, Sides, on_side_of
from labkit.recorder import hidden_modules
from labkit.recording import Origin


class ByAutograd:
    """An experiment's torch network, filled anew for each row of parameters."""

    def __init__(self, e: Experiment, origin: Origin, dtype: "np.dtype[Any]") -> None:
        self.network = networks.of_experiment(e).to(torch.float64 if dtype == np.float64 else torch.float32)
        named = dict(self.network.named_parameters())
        self.parameters = [named[name] for name, _ in origin.parameters]
        self.layers = len(origin.layers)
        self.kinked = e.activation in KINKED
        self.modules = [module for _, module, _ in hidden_modules(self.network)]

    def inputs(self, images: Floats) -> Floats:
        return images

    def __call__(
        self, parameters: Floats, images: Floats, labels: Ints, gradients: Floats, sides: Sides, _sizes: Floats | None
    ) -> Pass:
        passes: list[Pass] = []
        for k, row in enumerate(parameters):
            x, y = (images[k], labels[k]) if labels.ndim > 1 else (images, labels)
            turned = [kink for number, kink in sides.turned if number == k]
            beside = passes[0].before if sides.together and passes and self.kinked else None
            passes.append(self._one(row, x, y, gradients[k], turned, beside))
        return Pass(
            np.stack([one.loss for one in passes]),
            np.stack([one.outputs for one in passes]),
            [np.stack(same) for same in zip(*(one.before for one in passes), strict=True)],
            [np.stack(same) for same in zip(*(one.hidden for one in passes), strict=True)],
            np.stack([one.through_time for one in passes]),
            np.stack([one.apart for one in passes]),
        )

    def _one(
        self,
        row: Floats,
        images: Floats,
        labels: Ints,
        gradient: Floats,
        turned: Sequence[Kink],
        first: Sequence[Floats] | None,
    ) -> Pass:
        """The same for one network, every array without its first axis; `first` is on the sides to be taken."""
        self._fill(row)
        before: list[Tensor] = []
        hidden: list[Tensor] = []

        def look(_module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            z = _turned(arguments[0], [kink for kink in turned if kink.layer == len(before)])
            if first is not None:
                z = _moved(z, on_side_of(first[len(before)], _columns(z.detach())))
            before.append(z.detach())
            return (z,)

        hooks = [module.register_forward_pre_hook(look) for module in self.modules]
        hooks += [
            module.register_forward_hook(lambda _m, _i, output: hidden.append(output.detach()))
            for module in self.modules
        ]
        try:
            # torch warns of arrays that may only be read, such as data that many replays share
            outputs = self.network(torch.from_numpy(np.require(images, requirements="W")))
            loss = mean_cross_entropy(outputs, torch.from_numpy(np.require(labels, requirements="W")))
            memory = list(getattr(self.network, "memory", ()))
            found = torch.autograd.grad(loss, [*self.parameters, *memory], allow_unused=True)
        finally:
            for hook in hooks:
                hook.remove()
        own, through = found[: len(self.parameters)], found[len(self.parameters) :]
        gradient[:] = np.concatenate([_plain(g, p) for g, p in zip(own, self.parameters, strict=True)])
        return Pass(
            np.asarray(loss.item()),
            outputs.detach().T.numpy(),
            [_columns(z) for z in before],
            [_columns(h) for h in hidden],
            np.array([float(torch.linalg.vector_norm(g)) for g in through if g is not None]),
            np.zeros((self.layers, 2)),
        )

    @torch.no_grad()
    def _fill(self, row: Floats) -> None:
        start = 0
        for parameter in self.parameters:
            stop = start + parameter.numel()
            parameter.copy_(torch.from_numpy(row[start:stop]).view(parameter.shape))
            start = stop


def _moved(z: Tensor, columns: Floats) -> Tensor:
    """z (batch, ...) with the values of columns (units, batch), and the gradient as it is."""
    wanted = torch.from_numpy(np.ascontiguousarray(columns.T)).view(z.shape)
    return z + (wanted - z.detach())


def _turned(z: Tensor, kinks: Sequence[Kink]) -> Tensor:
    """z (batch, ...) with these values on the other side of 0, and the gradient as it is."""
    if not kinks:
        return z
    other = torch.zeros_like(z).flatten(1)
    for kink in kinks:
        other[kink.image, kink.unit] = 1
    return z - 2 * z.detach() * other.view(z.shape)


def _columns(values: Tensor) -> Floats:
    """(units, batch) of values (batch, ...)."""
    found: Floats = values.flatten(1).T.numpy()
    return found


def _plain(gradient: Tensor | None, parameter: Tensor) -> Floats:
    found: Floats = (torch.zeros_like(parameter) if gradient is None else gradient).detach().flatten().numpy()
    return found
