"""Ways to make a recording that never happened, and in which everything fits that the forger thought of."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from labkit.experiments import Experiment
from labkit.recording import Recording

BY_ITERATION = (
    "loss", "gradient", "update_norm", "weight_norm", "weight_dot_gradient", "bias_dot_gradient", "clip_factor",
)  # fmt: skip
AMPLITUDES = slice(0, 5)  # the statistics that grow with the gradient

Move = Callable[[int, Any], None]  # sets the parameters (a flat tensor) as they are to be after an iteration


def recorded(experiment: Experiment, move: Move) -> Recording:
    """The student's own data and order, every statistic as it truly is for weights that somebody invented."""
    import torch

    import labkit
    from labkit.recorder import tensors

    network = labkit.networks.of_experiment(experiment)
    optimizer = labkit.Adam(network.parameters())
    recorder = labkit.Recorder(network, optimizer, experiment)
    images, labels, _ = tensors(experiment, torch.device("cpu"))
    done = 0
    for epoch in range(experiment.epochs):
        for indices in labkit.data.epoch_batches(experiment, epoch):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(images[indices]), labels[indices])
            loss.backward()
            optimizer.step()
            done += 1
            with torch.no_grad():
                flat = torch.nn.utils.parameters_to_vector(network.parameters())
                move(done, flat)
                torch.nn.utils.vector_to_parameters(flat, network.parameters())
            recorder.step(loss)
        recorder.end_epoch()
    return recorder.recording()


def relabelled(recording: Recording, experiment: Experiment) -> Recording:
    """The same figures under another description."""
    origin = replace(recording.origin, experiment=experiment, student=experiment.student, seed=experiment.seed)
    return replace(recording, origin=origin)


def rows_of(recording: Recording, other: Recording, start: int) -> Recording:
    """The figures of `other` from iteration `start` on."""
    mixed = {name: getattr(recording, name).copy() for name in BY_ITERATION}
    for name, values in mixed.items():
        values[start:] = getattr(other, name)[start:]
    return replace(recording, **mixed)


def noisy(values: Any, share: float) -> Any:
    """The values, each off by about that share."""
    return (values * (1 + share * np.random.default_rng(0).standard_normal(values.shape))).astype(values.dtype)
