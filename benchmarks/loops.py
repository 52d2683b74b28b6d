"""The loop that everybody writes, around the Recorder."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import labkit
from labkit import data, networks
from labkit.experiments import Experiment
from labkit.recorder import tensors
from labkit.recording import Recording
from labkit.watching import Watch


def by_hand(
    e: Experiment, network: nn.Module | None = None, device: str = "cpu", watch: Watch | None = None
) -> Recording:
    """Train with torch's Adam, by default the experiment's own network."""
    images, labels, _ = tensors(e, device)
    network = networks.of_experiment(e).to(device) if network is None else network
    optimizer = torch.optim.Adam(network.parameters(), e.learning_rate)
    recorder = labkit.Recorder(network, optimizer, e, watch=watch)
    for epoch in range(e.epochs):
        for indices in data.epoch_batches(e, epoch):
            chosen = torch.from_numpy(indices).to(device)
            optimizer.zero_grad()
            loss = cross_entropy(network(images[chosen]), labels[chosen])
            loss.backward()
            optimizer.step()
            recorder.step(loss)
        recorder.end_epoch()
    return recorder.recording()
