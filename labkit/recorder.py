"""Recorder: attaches to anybody's torch loop and leaves a Recording."""

import platform
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from labkit import data
from labkit.experiments import Experiment
from labkit.histogram import BINS
from labkit.interrupts import undisturbed
from labkit.losses import logits_of_classes, mean_cross_entropy
from labkit.optimizers import MOMENTS
from labkit.recording import CHECKPOINT_EPOCHS, PROBE, Origin, Recording, RecordingError
from labkit.tape import Layout, Probe, Tape
from labkit.watching import Watch, Watching

BLOCK_ROWS = 128  # iterations whose rows stay on the device before their statistics are taken ...
BLOCK_BYTES = 64 * 2**20  # ... unless that many do not fit into this

_HIDDEN_MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
    nn.LeakyReLU: "leaky_relu",
    nn.ELU: "elu",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
    nn.Identity: "linear",
}


class Recorder:
    """Records a loop that you write yourself, and never changes what it computes.

        recorder = Recorder(network, optimizer, experiment)
        for epoch in range(experiment.epochs):
            for images, labels in ...:
                ...; loss.backward(); optimizer.step()
                recorder.step(loss)
            recorder.end_epoch()
        recording = recorder.recording()

    `experiment` and `probe` (inputs, labels) are optional; without a probe batch its rows are NaN. With an
    experiment the probe is the first 250 of its data. A network that keeps what it carries from one time step to the
    next in a list `memory` has the gradients of that recorded, too.

    `watch` is called with the recording so far at the end of an epoch (see `labkit.watching`). With `LiveTraining()`
    in a notebook, whoever stops the loop is told in which file what was recorded so far is.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Any = None,
        experiment: Experiment | None = None,
        *,
        probe: tuple[Tensor, Tensor] | None = None,
        loss_function: Callable[[Tensor, Tensor], Tensor] = mean_cross_entropy,
        bins: int = BINS,
        checkpoint_epochs: int = CHECKPOINT_EPOCHS,
        watch: Watch | None = None,
    ) -> None:
        self.network, self.optimizer, self.experiment = network, optimizer, experiment
        self.loss_function, self.checkpoint_epochs = loss_function, checkpoint_epochs
        self.watching = Watching(watch)
        self._attend = getattr(watch, "attend", None)
        self.layout = Layout.of(network)
        named = dict(network.named_parameters())
        self.parameters: list[Tensor] = [named[name] for name in self.layout.names]
        self._order = {name: number for number, name in enumerate(named)}
        self._hidden = hidden_modules(network)
        expected = None if experiment is None else experiment.iterations
        self.tape = Tape(self.layout, [[kind for _, _, kind in self._hidden]], bins, expected)
        self._data_digest = ""
        self._probe = probe if probe is not None else self._experiments_probe()
        self._started = time.perf_counter()
        first = self.parameters[0]
        row = sum(self.layout.sizes)
        rows = max(1, min(BLOCK_ROWS, BLOCK_BYTES // (2 * row * first.element_size())))
        self._gradients = torch.zeros(rows, row, dtype=first.dtype, device=first.device)
        self._weights = torch.zeros(rows + 1, row, dtype=first.dtype, device=first.device)
        self._losses: list[Tensor] = []
        self._clips: list[list[float]] = []
        self._filled = 0
        self._last = 0  # the row of the latest iteration, also after its statistics were taken
        self._weights[0] = self._flat(self.parameters)
        self._gradient_views, self._weight_views = self._views(self._gradients), self._views(self._weights)
        self._take_probe()
        self._checkpoint()

    @property
    def done(self) -> int:
        """Iterations that were recorded."""
        return self.tape.iterations + self._filled

    @torch.no_grad()
    def step(self, loss: Tensor, clip_factor: float | Sequence[float] = 1.0) -> None:
        """Record one iteration; call it after `optimizer.step()` and before the next `zero_grad()`.

        `loss` is the mini-batch's scalar; `clip_factor` is what `clip_gradients`, `clip_each` or `clip_values`
        returned, if you clip: one factor, or one for each of `network.parameters()`.
        """
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise RecordingError("recorder.step needs the loss as a tensor with one number: pass the mean loss")
        if self._attend is not None:
            self._attend(self)
        with undisturbed():
            self._record(loss, clip_factor)

    def _record(self, loss: Tensor, clip_factor: float | Sequence[float]) -> None:
        row = self._filled
        gradients = [self._without(p) if p.grad is None else p.grad for p in self.parameters]
        # one call for all tensors: twice as fast as torch.cat, and public code lies on it, torch.optim for one
        torch._foreach_copy_(self._gradient_views[row], gradients)
        torch._foreach_copy_(self._weight_views[row + 1], self.parameters)
        self._losses.append(loss.detach())
        self._clips.append(self._by_layer(clip_factor))
        self._filled, self._last = row + 1, row
        if self.done == 1:
            self._check_first_step()
            self._checkpoint()
        if self._filled == len(self._gradients):
            self._flush()

    def _by_layer(self, factor: float | Sequence[float]) -> list[float]:
        if not isinstance(factor, Sequence):
            return [factor] * len(self.layout.layers)
        if len(factor) != len(self._order):
            raise RecordingError(
                f"recorder.step got {len(factor)} clip factors for {len(self._order)} parameters: "
                "pass what clip_each or clip_values returned for network.parameters()"
            )
        return [factor[self._order[name]] for name in self.layout.names[: len(self.layout.layers)]]

    def end_epoch(self) -> None:
        """End an epoch: take histograms, the probe batch and a checkpoint."""
        if self.done == (self.tape.epoch_end[-1] if self.tape.epoch_end else 0):
            raise RecordingError("this epoch recorded no iteration: call recorder.step(loss) in the loop over batches")
        with undisturbed():
            self.tape.epoch(self.done, self._gradients[self._last])
            self._take_probe()
            due = len(self.tape.epoch_end) % self.checkpoint_epochs == 0
            if due and self.tape.last_checkpoint != self.done:  # an epoch may have one iteration
                self._checkpoint()
        last = self.experiment is not None and len(self.tape.epoch_end) >= self.experiment.epochs
        self.watching.look(last, lambda latest: [self.recording("still running", latest=latest)])
        if last:
            self.watching.end([self.recording()])

    def recording(self, stopped: str = "", *, latest: bool = False) -> Recording:
        """What was recorded so far. `stopped` says why the run ended early, if it did; `latest` leaves all checkpoints
        but the first and the latest out, and is many times cheaper."""
        with undisturbed():
            return self._recording(stopped, latest)

    def _recording(self, stopped: str, latest: bool) -> Recording:
        self._flush()
        with self.tape.closed(self.done, self._checkpoint):
            return self.tape.recording(0, self._origin(stopped), latest)

    def save(self, path: Path | str) -> Path:
        """Write what was recorded so far."""
        return self.recording().save(path)

    def _without(self, parameter: Tensor) -> Tensor:
        """The gradient of a parameter that has none."""
        if parameter.requires_grad and self.done == 0:
            raise RecordingError(
                "a parameter has no gradient: call loss.backward() before recorder.step(loss), and zero_grad() after it"
            )
        return torch.zeros_like(parameter)  # frozen, or not used in this step

    def _check_first_step(self) -> None:
        moved = bool((self._weights[0] != self._weights[1]).any())
        if not moved and bool((self._gradients[0] != 0).any()):
            raise RecordingError("the first step changed no weight: call recorder.step(loss) after optimizer.step()")

    def _views(self, rows: Tensor) -> list[list[Tensor]]:
        """Each row as tensors in the parameters' shapes, to copy into."""
        shapes, sizes = self.layout.shapes, self.layout.sizes
        return [[part.view(s) for part, s in zip(row.split(sizes), shapes, strict=True)] for row in rows]

    def _flat(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """(P,) all tensors one after another, 0 for one that is None."""
        pairs = zip(tensors, self.parameters, strict=True)
        return torch.cat([(torch.zeros_like(p) if t is None else t).detach().reshape(-1) for t, p in pairs])

    @torch.no_grad()
    def _flush(self) -> None:
        if self._filled == 0:
            return
        n = self._filled
        losses = torch.stack(self._losses).reshape(n, 1)
        clips = torch.tensor(self._clips, dtype=losses.dtype)[..., None]
        self.tape.block(losses, self._gradients[:n], self._weights[: n + 1], clips)
        self._losses.clear()
        self._clips.clear()
        self._weights[0].copy_(self._weights[n])
        self._filled = 0

    @torch.no_grad()
    def _checkpoint(self) -> None:
        state = getattr(self.optimizer, "state", {})
        moments = [self._flat([state.get(p, {}).get(name) for p in self.parameters]) for name in self._moments()]
        self.tape.checkpoint(self.done, self._weights[self._filled], moments)

    def _moments(self) -> tuple[str, ...]:
        """Names of the optimiser's tensors that have the parameters' shapes; known from the first step on."""
        kind = type(self.optimizer).__name__.lower()
        return MOMENTS.get(kind.removesuffix("w"), ())

    def _take_probe(self) -> None:
        probe = None if self._probe is None else self._probe_network(*self._probe)
        self.tape.probe(probe, self._weights[self._filled])

    def _probe_network(self, inputs: Tensor, labels: Tensor) -> Probe:
        """A forward and backward pass of its own, which touches neither `.grad` nor the network's mode."""
        seen: dict[nn.Module, Tensor] = {}  # of a module that is called at every time step, what it gave last
        hooks = [
            module.register_forward_hook(lambda m, _i, output: seen.__setitem__(m, output.detach()))
            for _, module, _ in self._hidden
        ]
        modes = [(module, module.training) for module in self.network.modules()]
        drops = [(module, module.dropout) for module, _ in modes if isinstance(module, nn.RNNBase)]
        try:
            for module, _ in modes:
                module.training = False
            for module, _ in drops:  # cuDNN differentiates them in training mode alone, which for them is dropout
                module.training, module.dropout = True, 0.0
            with torch.enable_grad():
                outputs = self.network(inputs)
                loss = self.loss_function(outputs, labels)
                memory = list(getattr(self.network, "memory", ()))
                gradients = torch.autograd.grad(loss, [*self.parameters, *memory], allow_unused=True)
        finally:
            for module, mode in modes:
                module.training = mode
            for module, share in drops:
                module.dropout = share
            for hook in hooks:
                hook.remove()
        hidden = tuple(seen[module].flatten(1)[None] for _, module, _ in self._hidden)
        own, through = gradients[: len(self.parameters)], gradients[len(self.parameters) :]
        time = torch.stack([torch.linalg.vector_norm(g) for g in through if g is not None])[None] if memory else None
        logits = logits_of_classes(outputs.detach()) if outputs.ndim == 2 else outputs.detach()
        return Probe(self._flat(own), logits[None], labels, loss.detach()[None], hidden, time)

    def _experiments_probe(self) -> tuple[Tensor, Tensor] | None:
        if self.experiment is None:
            return None
        first = self.parameters[0]
        inputs, labels, self._data_digest = _probe_batch(self.experiment)
        return inputs.to(first.device, first.dtype), labels.to(first.device)

    def _origin(self, stopped: str) -> Origin:
        first = self.parameters[0]
        return origin(
            self.layout,
            self.experiment,
            tuple(name for name, _, _ in self._hidden),
            self._moments(),
            str(first.dtype).removeprefix("torch."),
            first.device,
            wall_time=time.perf_counter() - self._started,
            data_digest=self._data_digest,
            stopped=stopped,
        )


def tensors(experiment: Experiment, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, str]:
    """The experiment's inputs (n, ...), for images (n, 1, 28, 28), its labels (n,) and the digest of both."""
    drawn = data.of_experiment(experiment)
    inputs = torch.from_numpy(drawn.inputs).to(device, getattr(torch, experiment.dtype))
    return inputs, torch.from_numpy(drawn.labels).to(device), drawn.digest


@lru_cache(maxsize=4)
def _probe_batch(e: Experiment) -> tuple[Tensor, Tensor, str]:
    """The first of an experiment's inputs, their labels, and the whole sample's digest."""
    drawn = data.of_experiment(e)
    inputs, labels = drawn.inputs[:PROBE].copy(), drawn.labels[:PROBE].copy()
    return torch.from_numpy(inputs), torch.from_numpy(labels), drawn.digest


def origin(
    layout: Layout,
    experiment: Experiment | None,
    activations: tuple[str, ...],
    moments: tuple[str, ...],
    dtype: str,
    device: torch.device,
    **rest: Any,
) -> Origin:
    """Where a recording made now, by this version, comes from."""
    return Origin(
        layers=layout.layers,
        shapes=layout.shapes[: len(layout.layers)],
        parameters=tuple(zip(layout.names, layout.shapes, strict=True)),
        activations=activations,
        moments=moments,
        experiment=experiment,
        student=experiment.student if experiment else "",
        seed=experiment.seed if experiment else None,
        dtype=dtype,
        device=_device_name(device),
        versions=_versions(),
        **rest,
    )


def hidden_modules(network: nn.Module) -> list[tuple[str, nn.Module, str]]:
    """Name, module and kind of each activation, in the order in which the network holds them."""
    return [(name, m, _HIDDEN_MODULES[type(m)]) for name, m in network.named_modules() if type(m) in _HIDDEN_MODULES]


def _device_name(device: torch.device) -> str:
    return f"{device.type} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


@lru_cache(maxsize=1)  # reading them takes milliseconds
def _versions() -> dict[str, str]:
    return {
        "gradient-lab": _own_version(),
        "torch": str(torch.__version__),
        "numpy": version("numpy"),
        "python": platform.python_version(),
    }


def _own_version() -> str:
    try:
        return version("gradient-lab")
    except PackageNotFoundError:  # run from a clone that nobody installed, as on a node that only mounts it
        return "not installed"
