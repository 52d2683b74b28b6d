"""The gain per layer of a plain network while it trains.

`plots.gains.measured_gains` computes it from a recording, in numpy; here the network's own modules and autograd do, in
float64 as there, in a thirtieth of the time where numpy's products wait for a second thread.
"""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from labkit import backward, networks
from labkit.experiments import Experiment
from labkit.losses import mean_cross_entropy
from labkit.recording import Array


class Deltas:
    """dloss/dz of an experiment's probe batch, for the parameters that it is given."""

    def __init__(self, e: Experiment) -> None:
        inputs, labels = backward.probe_batch(e)
        self.network = networks.of_experiment(e).double()
        shape = (-1, 1, 28, 28) if e.widths[0] == 28 * 28 else (-1, e.widths[0])
        self.inputs, self.labels = torch.from_numpy(inputs).reshape(shape), torch.from_numpy(labels)
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
