"""Runs that many tests look at: trained once, read by all."""

import os

# Before torch is loaded, here and in every process that a test starts: with a second thread, small networks wait more
# than they compute, most of all when tests run side by side.
os.environ["OMP_NUM_THREADS"] = "1"

from collections.abc import Iterator

import pytest
from hypothesis import settings

from autograder import questionnaire
from labkit.experiments import Experiment, experiment
from labkit.recording import Recording

# the same examples in every run; `pytest --hypothesis-profile=default` tries others
settings.register_profile("same", derandomize=True)
settings.load_profile("same")


@pytest.fixture(scope="module", autouse=True)
def registered_questions() -> Iterator[None]:
    """What a course registers in one file's tests is not asked in the next file's."""
    before = dict(questionnaire._REGISTERED)
    yield
    questionnaire._REGISTERED.clear()
    questionnaire._REGISTERED.update(before)


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
