"""Adam and SGD in a few lines each, on plain tensors.

They are here because constructing the first `torch.optim` optimiser imports torch's compiler, which takes longer
than the lab's training. They are used in the same way: `zero_grad()`, then `loss.backward()`, then `step()`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor

from labkit.experiments import Experiment, ExperimentError

BETAS = (0.9, 0.999)
EPSILON = 1e-8


def adam_update(
    out: Tensor,
    parameters: Tensor,
    gradient: Tensor,
    moments: tuple[Tensor, Tensor],
    step: int,
    learning_rate: float,
) -> None:
    """Write the parameters after Adam's step number `step` (from 1) into `out`, which may be `parameters` itself.

    Kingma & Ba 2015, Algorithm 1, with its constants, which are also MATLAB's and PyTorch's defaults. `moments`,
    the running means of the gradient and of its square, are changed in place. All tensors have one shape.
    """
    mean, square = moments
    mean.lerp_(gradient, 1 - BETAS[0])
    square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
    scale = torch.sqrt(square).div_(math.sqrt(1 - BETAS[1] ** step)).add_(EPSILON)
    torch.addcdiv(parameters, mean, scale, value=-learning_rate / (1 - BETAS[0] ** step), out=out)


def sgd_update(out: Tensor, parameters: Tensor, gradient: Tensor, learning_rate: float) -> None:
    """Write the parameters after a step of plain gradient descent into `out`."""
    torch.add(parameters, gradient, alpha=-learning_rate, out=out)


class _Optimizer(ABC):
    """What both share. `state` has the layout of torch.optim's: parameter -> name -> tensor."""

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float) -> None:
        self.parameters = list(parameters)
        if not self.parameters:
            raise ExperimentError("the optimiser got no parameters: pass network.parameters()")
        if not (0 < learning_rate < math.inf):
            raise ExperimentError(f"learning_rate is {learning_rate}: it must be a number above 0")
        self.learning_rate = learning_rate
        self.steps = 0
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    def zero_grad(self) -> None:
        """Forget the gradients, so that the next `backward()` does not add to them."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change every parameter that has a gradient."""
        self.steps += 1
        for parameter in self.parameters:
            if parameter.grad is not None:
                self._update(parameter, parameter.grad)

    @abstractmethod
    def _update(self, parameter: Tensor, gradient: Tensor) -> None:
        """Change one parameter in place."""


class Adam(_Optimizer):
    """Adam with its published defaults: betas 0.9 and 0.999, epsilon 1e-8."""

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float = 1e-3) -> None:
        super().__init__(parameters, learning_rate)
        for parameter in self.parameters:
            self.state[parameter] = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}

    def _update(self, parameter: Tensor, gradient: Tensor) -> None:
        moments = (self.state[parameter]["exp_avg"], self.state[parameter]["exp_avg_sq"])
        adam_update(parameter, parameter, gradient, moments, self.steps, self.learning_rate)


class SGD(_Optimizer):
    """Plain gradient descent: each parameter minus learning_rate times its gradient."""

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float = 0.01) -> None:
        super().__init__(parameters, learning_rate)

    def _update(self, parameter: Tensor, gradient: Tensor) -> None:
        sgd_update(parameter, parameter, gradient, self.learning_rate)


def of_experiment(experiment: Experiment, parameters: Iterable[Tensor]) -> Adam | SGD:
    """The experiment's optimiser for these parameters."""
    kind: type[Adam] | type[SGD] = Adam if experiment.optimizer == "adam" else SGD
    return kind(parameters, experiment.learning_rate)


def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients down together to the L2 norm `max_norm`; gives the factor, 1 when they were below it.

    Pascanu, Mikolov & Bengio 2013, Algorithm 1, with the 1e-6 in the denominator that
    `torch.nn.utils.clip_grad_norm_` adds.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
    factor = min(1.0, max_norm / (float(norm) + 1e-6))
    for gradient in gradients:
        gradient.mul_(factor)
    return factor
