"""The gain per layer of a plain network while it trains.

`plots.gains.measured_gains` computes it from a recording, in numpy; here the network's own modules and autograd do, in
float64 as there, in a thirtieth of the time where numpy's products wait for a second thread.
"""

from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor, nn

from labkit import data, networks
from labkit.experiments import Experiment
from labkit.losses import mean_cross_entropy
from labkit.recording import PROBE, Array


class Deltas:
    """dloss/dz of an experiment's probe batch, for the parameters that it is given."""

    def __init__(self, e: Experiment) -> None:
        self.network = networks.of_experiment(e).double()
        self.inputs, self.labels = _probe(data.which(e))
        self.outputs: list[Tensor] = []
        for module in self.network.modules():
            if isinstance(module, nn.Linear):
                module.register_forward_hook(lambda _m, _i, output: self.outputs.append(output))

    def gains(self, parameters: Mapping[str, Array]) -> list[float]:
        """(L-1,) mean square of dloss/dz_l over that of layer l + 1."""
        self.network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in parameters.items()})
        self.outputs.clear()
        with torch.enable_grad():
            loss = mean_cross_entropy(self.network(self.inputs), self.labels)
            squares = [float(g.square().mean()) for g in torch.autograd.grad(loss, self.outputs)]
        return [first / second if second else float("nan") for first, second in pairwise(squares)]


@lru_cache(maxsize=1)  # networks side by side share it, and drawing the sample takes longer than a look
def _probe(chosen: tuple[str, int, int, int, int, int]) -> tuple[Tensor, Tensor]:
    drawn = data.shared(chosen)
    inputs, labels = drawn.inputs[:PROBE].copy(), drawn.labels[:PROBE].copy()
    return torch.from_numpy(inputs).double().flatten(1), torch.from_numpy(labels)


def warm_up() -> None:
    """Have torch load what it loads at the first gradient, which takes as long as many looks."""
    with torch.enable_grad():
        one = torch.ones(1, requires_grad=True)
        torch.autograd.grad(one.sum(), one)
