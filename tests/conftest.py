"""Runs that many tests look at: trained once, read by all."""

import pytest

from labkit.experiments import Experiment, experiment
from labkit.recording import Recording


@pytest.fixture(scope="session")
def ada() -> dict[str, Experiment]:
    """The lab's two experiments, as the student ada has them."""
    return {name: experiment(f"vanishing/{name}", "ada") for name in ("relu", "sigmoid")}


@pytest.fixture(scope="session")
def runs(ada: dict[str, Experiment]) -> dict[str, Recording]:
    """Both trainings of the lab, whole."""
    from labkit.training import train_many

    both = train_many(list(ada.values()), device="cpu", progress=False)
    return dict(zip(ada, both, strict=True))


@pytest.fixture(scope="session")
def short() -> Experiment:
    """A run of 3 epochs with a partial last mini-batch: 300 images in batches of 128."""
    return experiment("vanishing/relu", "short").replace(observations=300, pool=1000, epochs=3)
