"""Is a class that a real Slurm grades graded exactly once, and as it is here, whatever happens to jobs and command?"""

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paused_lab
import pytest
import toy_lab

from autograder import chunks, gradebook, grading, report, results
from autograder.grading import GradingError, Outcome
from labkit.jobs import JobError
from slurm.cluster import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
PATIENCE = 120  # seconds
FEW = [f"s{k:02}" for k in range(9)]
COMMAND = """
import sys
from pathlib import Path
from autograder import cluster, grading
cluster.SMALLEST = 4
grading.grade(Path(sys.argv[1]), "toy", sys.argv[2:], how="evidence", backend="slurm", progress=False)
"""


@pytest.fixture(autouse=True)
def quick(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small chunks, and as little patience as one machine's file system needs."""
    for name, value in {"SMALLEST": 4, "LOOK": 0.5, "GRACE": 1.0, "POLL": 0.1}.items():
        monkeypatch.setattr(f"autograder.cluster.{name}", value)
    monkeypatch.setenv(paused_lab.PAUSE, "0.3")


@pytest.fixture
def course(released: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(released, tmp_path / "course"))


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = paused_lab.make_course(tmp_path_factory.mktemp("class") / "course")
    paused_lab.hand_in_all(made, 24)
    return made


def there(course: Path, **wishes: object) -> list[Outcome]:
    return grading.grade(course, "toy", how="evidence", backend="slurm", progress=False, **wishes)  # type: ignore[arg-type]


def run_of(course: Path) -> chunks.RunFolder:
    [found] = chunks.runs(course, "toy")
    return found


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def some_are_done(course: Path, at_least: int) -> bool:
    return any(len(run.done()) >= at_least for run in chunks.runs(course, "toy"))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the jobs said stays, to be counted."""
    monkeypatch.setattr(chunks.RunFolder, "remove", lambda self: None)


def busiest(run: chunks.RunFolder) -> str:
    """The node on which a process has most of its chunk before it."""
    return min(run.processes(), key=lambda process: len(process.marked)).node


def assert_marked_once(run: chunks.RunFolder, students: set[str]) -> None:
    """Of what a process stored, and was killed before it could say so, another one says that it was there."""
    marked = Counter(student for process in run.processes() for student in process.marked)
    assert max(marked.values()) == 1, marked
    assert marked.keys() | {student for process in run.processes() for student in process.found} == students


def table(course: Path) -> bytes:
    return report.export_csv(course, "toy", course / "points.csv").read_bytes()


@pytest.fixture(scope="module")
def serial(released: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Outcome], bytes]:
    """What one process on this machine makes of the class."""
    copy = Path(shutil.copytree(released, tmp_path_factory.mktemp("serial") / "course"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(paused_lab.PAUSE, raising=False)
        found = grading.grade(copy, "toy", how="evidence", jobs=1, progress=False)
    return found, table(copy)


def plain(outcomes: list[Outcome], students: list[str] | None = None) -> list[tuple[str, str, str, float]]:
    """What came of these students, by default of all."""
    found = [(one.student, one.status, one.reason, one.score) for one in outcomes]
    return [one for one in found if students is None or one[0] in students]


@contextlib.contextmanager
def failing(cluster: Cluster, node: str) -> Iterator[None]:
    cluster.fail_node(node)
    try:
        yield
    finally:
        cluster.ask("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        until(lambda: set(cluster.nodes().values()) <= {"idle", "mixed", "allocated"})


def test_is_a_class_graded_once_and_as_here_though_a_node_fails(cluster, course, kept, serial, monkeypatch) -> None:
    monkeypatch.setenv(paused_lab.PAUSE, "2")  # the node has to fail before its work is done
    with ThreadPoolExecutor(1) as pool:
        graded = pool.submit(there, course)
        until(lambda: graded.done() or some_are_done(course, 4))
        with failing(cluster, busiest(run_of(course))):
            outcomes = graded.result(PATIENCE)
    expected, exported = serial
    assert plain(outcomes) == plain(expected)
    assert not any(one.cached for one in outcomes)
    run = run_of(course)
    restarted = [log for log in run.logs.iterdir() if "DUE TO NODE FAILURE" in log.read_text()]
    assert restarted, "no task was on the node that failed"
    assert_marked_once(run, {one.student for one in outcomes})
    assert len(gradebook.scores(course, "toy")) == len(outcomes) == 24
    assert table(course) == exported
    assert all(one.cached for one in there(course))


def test_does_a_killed_command_go_on_where_its_jobs_are(cluster, course, kept, serial, monkeypatch) -> None:
    monkeypatch.setenv(paused_lab.PAUSE, "1")
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", COMMAND, str(course), *FEW]) as command:
        until(lambda: command.poll() is not None or some_are_done(course, 1))
        command.kill()
    assert command.returncode == -signal.SIGKILL
    [array] = run_of(course).arrays()
    outcomes = there(course, students=FEW)
    assert plain(outcomes) == plain(serial[0], FEW)
    run = run_of(course)
    assert [one.slurm for one in run.arrays()] == [array.slurm]
    assert_marked_once(run, set(FEW))


def test_does_one_submission_that_ends_its_task_cost_no_other_its_grade(course, kept) -> None:
    paused_lab.hand_in(course, "s00", paused_lab.DEADLY)
    found = {one.student: one for one in there(course, students=[f"s{k:02}" for k in range(6)])}
    assert found["s00"].status == "failed"
    assert "3 jobs could not mark it" in found["s00"].reason
    assert {one.status for name, one in found.items() if name != "s00"} == {"person", "refused"}
    assert_marked_once(run_of(course), found.keys() - {"s00"})
    assert results.load(course, "toy", "s00") is None


def test_are_jobs_that_somebody_cancelled_said_and_the_rest_graded_later(cluster, course, serial, monkeypatch) -> None:
    monkeypatch.setenv(paused_lab.PAUSE, "1")
    with ThreadPoolExecutor(1) as pool:
        graded = pool.submit(there, course, students=FEW)
        until(lambda: graded.done() or some_are_done(course, 1))
        cluster.ask("scancel", run_of(course).arrays()[0].slurm)
        outcomes = graded.result(PATIENCE)
    lost = [one for one in outcomes if one.status == "failed"]
    assert 0 < len(lost) < len(outcomes)
    assert all("was cancelled: grade again to go on" in one.reason for one in lost)
    again = there(course, students=FEW)
    assert plain(again) == plain(serial[0], FEW)
    assert sum(one.cached for one in again) == len(outcomes) - len(lost)


def test_are_submissions_run_there_behind_the_same_walls(course) -> None:
    toy_lab.hand_in(course, "s04", toy_lab.solved(course, number="import os; os._exit(0)"))
    who = {"students": ["s03", "s04"], "progress": False}
    far = [(plain([one]), results.load(course, "toy", one.student)) for one in
           grading.grade(course, "toy", backend="slurm", **who)]  # fmt: skip
    here = [(plain([one]), results.load(course, "toy", one.student)) for one in
            grading.grade(course, "toy", jobs=1, force=True, **who)]  # fmt: skip
    assert [one for one, _ in far] == [one for one, _ in here]
    assert [(one.protection, one.ended, one.key) for _, one in far] == [
        (one.protection, one.ended, one.key) for _, one in here
    ]


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ('partition = "nowhere"', "choose another partition"),
        ("[grading]\ncpus = 99", "no room for so many minutes, cores|no node has"),
        ('[grading]\nmemory = "900G"', "no node has|no room"),
        ("minutes = 600", "fewer minutes|so many minutes"),
    ],
)
def test_is_a_wish_that_cannot_be_refused_at_once(course, tmp_path: Path, profile: str, words: str) -> None:
    (tmp_path / "site.toml").write_text(profile)
    with pytest.raises(JobError, match=words) as refused:
        there(course, profile=tmp_path / "site.toml")
    assert "\n" not in str(refused.value)
    assert not (course / "results" / "toy" / "s00.json").exists()


def test_is_an_environment_that_the_nodes_lack_one_sentence(course, tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text('python = "/nowhere/python"')
    with pytest.raises(GradingError, match=r"could mark anything: .*nowhere/python"):
        there(course, profile=tmp_path / "site.toml")
