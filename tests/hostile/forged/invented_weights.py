"""Weights on a straight line from start to end, and every statistic computed for them as it truly is.

Tries: start, data, losses and gradients are right; only no optimiser ever went this way.
Must happen: the steps are not those of the optimiser; no marks for the run.
"""

from typing import Any

from hostile.forging import recorded
from hostile.lab import own
from hostile.work import Work, without

DESERVES = without("run")


def turn(work: Work) -> None:
    import torch

    start, end = (torch.from_numpy(work.run.checkpoint_parameters[index].copy()) for index in (0, -1))
    ordered = _in_the_networks_order(work, start), _in_the_networks_order(work, end)

    def move(done: int, flat: torch.Tensor) -> None:
        flat.copy_(ordered[0] + (ordered[1] - ordered[0]) * done / work.run.iterations)

    work.hand_in_run(recorded(own(work.student), move))


def _in_the_networks_order(work: Work, flat: Any) -> Any:
    """A checkpoint has all weights before all biases; a network has each layer's bias after its weight."""
    import torch

    import labkit

    parts, taken = {}, 0
    for name, shape in work.run.origin.parameters:
        size = int(torch.tensor(shape).prod())
        parts[name] = flat[taken : taken + size]
        taken += size
    network = labkit.networks.of_experiment(own(work.student))
    return torch.cat([parts[name] for name, _ in network.named_parameters()])
