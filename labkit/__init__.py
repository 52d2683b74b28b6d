"""Gradient Lab: train networks, watch gradients vanish, explode and grow, record it all.

Importing this costs nothing: each name below is loaded when it is first used, and torch only with those that need it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.desk import workspace
    from labkit.diagnosis import diagnose
    from labkit.experiments import Experiment, ExperimentError, experiment
    from labkit.explorer import explore
    from labkit.jobs import Job, JobError, open_job, submit
    from labkit.live import LiveDistributions, LiveTraining
    from labkit.maps import Map, trainability
    from labkit.optimizers import SGD, Adam, RMSprop, clip_each, clip_gradients, clip_values
    from labkit.recorder import Recorder
    from labkit.recording import Recording, RecordingError
    from labkit.training import train, train_many

_HOME = {
    "Adam": "optimizers",
    "Experiment": "experiments",
    "ExperimentError": "experiments",
    "Job": "jobs",
    "JobError": "jobs",
    "LiveDistributions": "live",
    "LiveTraining": "live",
    "Map": "maps",
    "RMSprop": "optimizers",
    "Recorder": "recorder",
    "Recording": "recording",
    "RecordingError": "recording",
    "SGD": "optimizers",
    "clip_each": "optimizers",
    "clip_gradients": "optimizers",
    "clip_values": "optimizers",
    "diagnose": "diagnosis",
    "experiment": "experiments",
    "explore": "explorer",
    "open_job": "jobs",
    "submit": "jobs",
    "train": "training",
    "train_many": "training",
    "trainability": "maps",
    "workspace": "desk",
}
_ROOMS = ("data", "histogram", "networks", "plots", "theory")

__all__ = [
    "SGD",
    "Adam",
    "Experiment",
    "ExperimentError",
    "Job",
    "JobError",
    "LiveDistributions",
    "LiveTraining",
    "Map",
    "RMSprop",
    "Recorder",
    "Recording",
    "RecordingError",
    "clip_each",
    "clip_gradients",
    "clip_values",
    "diagnose",
    "experiment",
    "explore",
    "open_job",
    "submit",
    "train",
    "train_many",
    "trainability",
    "workspace",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"labkit.{_HOME[name]}"), name)
    if name in _ROOMS:
        return import_module(f"labkit.{name}")
    raise AttributeError(f"labkit has no {name!r}: choose from {', '.join(sorted([*_HOME, *_ROOMS]))}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS])
