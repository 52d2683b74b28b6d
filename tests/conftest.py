"""Runs that many tests look at: trained once, read by all."""

import os

# Before torch is loaded, here and in every process that a test starts: with a second thread, small networks wait more
# than they compute, most of all when tests run side by side.
os.environ["OMP_NUM_THREADS"] = "1"

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from autograder import questionnaire
from autograder.workers import Nursery, open_workers
from labkit.experiments import Experiment, experiment
from labkit.recording import Recording

# the same examples in every run, however busy the machine is; `pytest --hypothesis-profile=default` tries others
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")


# What takes minutes, longest first. Processes take one file after another: begun last, such a file would keep one of
# them busy while the others have nothing left.
LONG = (
    "slurm/test_submit.py", "test_hostile.py", "test_classroom.py", "browser/test_course.py", "test_grading.py",
    "test_sandbox.py", "test_audit.py", "slurm/test_class.py", "browser/test_panels.py", "test_activation_study.py",
    "test_layer_statistics.py", "test_exploding_gradients.py", "test_recurrent_gradients.py", "test_markers.py",
    "test_gradebook_tables.py", "test_autograder_cli.py", "test_trainability.py", "test_course.py", "test_workers.py",
    "test_rehearsal.py", "test_explaining.py", "test_ways_of_grading.py", "test_plots_folder.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    rank = {tests / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(scope="module", autouse=True)
def registered_questions() -> Iterator[None]:
    """What a course registers in one file's tests is not asked in the next file's."""
    before = dict(questionnaire._REGISTERED)
    yield
    questionnaire._REGISTERED.clear()
    questionnaire._REGISTERED.update(before)


@pytest.fixture(scope="session")
def open_nursery() -> Iterator[Callable[[], Nursery]]:
    """Opens the warm parent of students' processes when it is first asked for, and gives the same one from then on.

    Each loads torch anew, which takes longer than most of what it is asked to run; `close` does not end this one. It is
    opened in a thread that stays, for bubblewrap ends with the thread that started it.
    """
    opened: list[Nursery] = []
    with ThreadPoolExecutor(1) as stays:

        def once() -> Nursery:
            if not opened:
                opened.append(stays.submit(open_workers).result())
                opened[0].close = lambda: None  # type: ignore[method-assign]
            return opened[0]

        yield once
        for nursery in opened:
            del nursery.close
            nursery.close()


@pytest.fixture(scope="module")
def nursery(open_nursery: Callable[[], Nursery]) -> Nursery:
    """The one of all files."""
    return open_nursery()


@pytest.fixture(scope="module")
def warm(open_nursery: Callable[[], Nursery]) -> Iterator[None]:
    """What a file's tests grade or simulate in this process starts from that one, where it would open its own.

    Fixtures that grade for a whole file ask for this one. Markers in other processes open their own all the same.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in ("markers", "workers"):
            patch.setattr(f"autograder.{module}.open_workers", open_nursery)
        yield


@pytest.fixture
def ipython(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Starts this process's one IPython, whose displays are `display_pub.outputs`; a kernel's where somebody looks.

    It is a new one, with a folder of its own for its settings and history.
    """
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell

    def start(looked_at: bool = False) -> InteractiveShell:
        shell: Any = InteractiveShell.instance()
        shell.display_pub = CapturingDisplayPublisher()
        if looked_at:
            shell.display_formatter.active_types = shell.display_formatter.format_types
            shell.kernel = "somebody looks"
        return shell

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    InteractiveShell.clear_instance()
    yield start
    _close_ipython()


@pytest.fixture(autouse=True)
def _no_ipython_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    """An IPython that a test leaves open would be the next tests' own."""
    yield
    assert not _close_ipython(), f"{request.node.name} left an IPython open: let it use the fixture ipython"


def _close_ipython() -> bool:
    """Close this process's IPython, whatever class it has; was there one?"""
    module = sys.modules.get("IPython.core.interactiveshell")
    shell = module.InteractiveShell._instance if module else None
    if shell is not None:
        type(shell).clear_instance()
    return shell is not None


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
