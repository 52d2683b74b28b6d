"""Adam, RMSprop and SGD in a few lines each, on plain tensors; and three ways of clipping.

They are here because constructing the first `torch.optim` optimiser imports torch's compiler, which takes longer
than the lab's training. They are used in the same way: `zero_grad()`, then `loss.backward()`, then `step()`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from labkit.experiments import Experiment, ExperimentError

BETAS = (0.9, 0.999)
RHO = 0.9  # Keras's; PyTorch's RMSprop calls it alpha and has 0.99
EPSILON = 1e-8
MOMENTS = {"adam": ("exp_avg", "exp_avg_sq"), "rmsprop": ("square_avg",), "sgd": ()}  # as torch.optim names them


def adam_update(
    out: Tensor,
    parameters: Tensor,
    gradient: Tensor,
    moments: tuple[Tensor, Tensor],
    step: int,
    learning_rate: float,
    epsilon: float = EPSILON,
) -> None:
    """Write the parameters after Adam's step number `step` (from 1) into `out`, which may be `parameters` itself.

    Kingma & Ba 2015, Algorithm 1, with its constants, which are also MATLAB's and PyTorch's defaults. `moments`,
    the running means of the gradient and of its square, are changed in place. All tensors have one shape.
    """
    mean, square = moments
    mean.lerp_(gradient, 1 - BETAS[0])
    square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
    scale = torch.sqrt(square).div_(math.sqrt(1 - BETAS[1] ** step)).add_(epsilon)
    torch.addcdiv(parameters, mean, scale, value=-learning_rate / (1 - BETAS[0] ** step), out=out)


def fused_adam_update(
    parameters: Tensor, gradient: Tensor, moments: Sequence[Tensor], steps: Tensor, learning_rate: float, epsilon: float
) -> None:
    """The same in place, and by one kernel that goes through memory once; `steps`, a float32 scalar on the same device,
    says which step it is. This is what `torch.optim.Adam(fused=True)` calls, without what importing that costs."""
    mean, square = moments
    torch._fused_adam_(
        [parameters], [gradient], [mean], [square], [], [steps], lr=learning_rate, beta1=BETAS[0], beta2=BETAS[1],
        weight_decay=0.0, eps=epsilon, amsgrad=False, maximize=False,
    )  # fmt: skip


def rmsprop_update(
    out: Tensor, parameters: Tensor, gradient: Tensor, square: Tensor, learning_rate: float, epsilon: float
) -> None:
    """Write the parameters after a step of RMSprop into `out`; `square`, the running mean, is changed in place.

    square = 0.9 square + 0.1 g^2, and the step lr g / (sqrt(square) + epsilon): Hinton, Srivastava & Swersky 2012,
    lecture 6e, with Keras's constants.
    """
    square.mul_(RHO).addcmul_(gradient, gradient, value=1 - RHO)
    torch.addcdiv(parameters, gradient, torch.sqrt(square).add_(epsilon), value=-learning_rate, out=out)


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

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float = 1e-3, epsilon: float = EPSILON) -> None:
        super().__init__(parameters, learning_rate)
        self.epsilon = epsilon
        for parameter in self.parameters:
            self.state[parameter] = {name: torch.zeros_like(parameter) for name in MOMENTS["adam"]}

    def _update(self, parameter: Tensor, gradient: Tensor) -> None:
        moments = (self.state[parameter]["exp_avg"], self.state[parameter]["exp_avg_sq"])
        adam_update(parameter, parameter, gradient, moments, self.steps, self.learning_rate, self.epsilon)


class RMSprop(_Optimizer):
    """RMSprop with Keras's defaults: rho 0.9, epsilon 1e-7."""

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float = 1e-3, epsilon: float = 1e-7) -> None:
        super().__init__(parameters, learning_rate)
        self.epsilon = epsilon
        for parameter in self.parameters:
            self.state[parameter] = {"square_avg": torch.zeros_like(parameter)}

    def _update(self, parameter: Tensor, gradient: Tensor) -> None:
        square = self.state[parameter]["square_avg"]
        rmsprop_update(parameter, parameter, gradient, square, self.learning_rate, self.epsilon)


class SGD(_Optimizer):
    """Plain gradient descent: each parameter minus learning_rate times its gradient."""

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float = 0.01) -> None:
        super().__init__(parameters, learning_rate)

    def _update(self, parameter: Tensor, gradient: Tensor) -> None:
        sgd_update(parameter, parameter, gradient, self.learning_rate)


def of_experiment(experiment: Experiment, parameters: Iterable[Tensor]) -> Adam | RMSprop | SGD:
    """The experiment's optimiser for these parameters."""
    e = experiment
    if e.optimizer == "sgd":
        return SGD(parameters, e.learning_rate)
    return (Adam if e.optimizer == "adam" else RMSprop)(parameters, e.learning_rate, e.epsilon)


def clip(experiment: Experiment, parameters: Iterable[Tensor]) -> float | list[float]:
    """Clip all gradients as the experiment has it; gives what `Recorder.step` wants to know of it."""
    e = experiment
    if e.clip_norm is not None:
        return clip_gradients(parameters, e.clip_norm)
    if e.clip_each is not None:
        return clip_each(parameters, e.clip_each)
    return 1.0 if e.clip_value is None else clip_values(parameters, e.clip_value)


def exact_norm(values: Tensor, dim: int | None = None) -> Tensor:
    """L2 norm along `dim`, or of all values, in float64: of what is beyond 1e19 float32 holds no square."""
    norm: Tensor = torch.linalg.vector_norm(values, dim=dim, dtype=torch.float64)
    return norm


def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients down together to the L2 norm `max_norm`; gives the factor, 1 when they were below it.

    Pascanu, Mikolov & Bengio 2013, Algorithm 1, with the 1e-6 in the denominator that
    `torch.nn.utils.clip_grad_norm_` adds.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = exact_norm(torch.stack([exact_norm(g) for g in gradients]))
    factor = min(1.0, max_norm / (float(norm) + 1e-6))
    for gradient in gradients:
        gradient.mul_(factor)
    return factor


def clip_each(parameters: Iterable[Tensor], max_norm: float) -> list[float]:
    """Scale each parameter's gradient down to the L2 norm `max_norm`, by itself, as Keras's `clipnorm` does.

    Gives a factor for each parameter, 1 where its norm was below.
    """
    gradients = [parameter.grad for parameter in parameters]
    factors = [min(1.0, max_norm / (norm + 1e-6)) for norm in _norms(gradients)]
    for gradient, factor in zip(gradients, factors, strict=True):
        if gradient is not None:
            gradient.mul_(factor)
    return factors


def clip_values(parameters: Iterable[Tensor], largest: float) -> list[float]:
    """Cut every single value of the gradients off at `largest`, as `torch.nn.utils.clip_grad_value_` does.

    Gives for each parameter the norm of its gradient afterwards over that before; 1 where nothing was cut off.
    """
    gradients = [parameter.grad for parameter in parameters]
    before = _norms(gradients)
    for gradient in gradients:
        if gradient is not None:
            gradient.clamp_(-largest, largest)
    return [b / a if a else 1.0 for a, b in zip(before, _norms(gradients), strict=True)]


def _norms(gradients: Sequence[Tensor | None]) -> list[float]:
    """L2 norms, 0 of one that is missing. They are read together: a processor waits for its GPU once, not for each."""
    there = [gradient for gradient in gradients if gradient is not None]
    read = iter(torch.stack([exact_norm(g) for g in there]).tolist() if there else ())
    return [0.0 if gradient is None else next(read) for gradient in gradients]
