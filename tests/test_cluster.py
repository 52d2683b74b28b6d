"""A class as job arrays: what is asked of Slurm, what a task does, what its processes leave behind. Without a Slurm."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import paused_lab
import pytest
from click.testing import CliRunner

from autograder import chunks, cli, cluster, grading, marking, node, results, scratch, submission
from autograder.chunks import Array, Order, Process, RunFolder
from autograder.grading import GradingError
from labkit.jobs import JobError, batch, scheduler, site


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A PATH on which no Slurm is, where tests put programs of their own."""
    (tmp_path / "programs").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    return tmp_path / "programs"


def program(where: Path, name: str, lines: str) -> None:
    path = where / name
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    made = paused_lab.make_course(tmp_path_factory.mktemp("cluster") / "course")
    paused_lab.hand_in_all(made, 6)
    return made


@pytest.fixture
def task(released):
    return marking.prepare(released, "toy").graded_by("evidence")


def order_of(task, **changes):
    return Order(**{"assignment": "toy", "how": "evidence", "force": False, "limits": task.limits.to_json(),
                    "base": task.base} | changes)  # fmt: skip


@pytest.fixture
def run(released, task):
    found = chunks.new_run(released, order_of(task))
    yield found
    found.remove()
    for path in (released / "results" / "toy").glob("*.json"):
        path.unlink()


def worked(run, students, **changes):
    """A task that marks these; what its process said."""
    order = Order(**{**vars(run.order()), **changes})
    node.work(run, order, Array(0, "name", (tuple(students),)), 0)
    return run.processes()[-1]


# what a task does


def test_does_a_task_mark_its_students_and_say_so(run, released) -> None:
    said = worked(run, ["s00", "s02", "s03"])
    assert (said.marked, said.found, said.doing, said.errors) == (("s00", "s02", "s03"), (), "", {})
    assert run.done() == {"s00", "s02", "s03"}
    found = {name: results.load(released, "toy", name).status for name in run.done()}
    assert found == {"s00": "person", "s02": "refused", "s03": "person"}


def test_is_what_stands_there_not_marked_twice(run) -> None:
    worked(run, ["s00"])
    run.take_back("s00")  # killed before it could say so
    worked(run, ["s00"])
    assert sorted((one.marked, one.found) for one in run.processes()) == [((), ("s00",)), (("s00",), ())]
    run.take_back("s00")
    worked(run, ["s00"], force=True)
    assert sum(one.marked == ("s00",) for one in run.processes()) == 2


def test_does_a_submission_that_another_process_marks_wait_for_that(run, monkeypatch) -> None:
    looks = []

    def ends_at_the_third_look(_seconds: float) -> None:
        looks.append(set(run.done()))
        if len(looks) == 3:
            run.note_done("s00")

    monkeypatch.setattr(node, "time", SimpleNamespace(sleep=ends_at_the_third_look))
    with run.claimed("s00") as free:
        assert free
        said = worked(run, ["s00", "s03"])
    assert looks == [{"s03"}] * 3  # the other one was marked meanwhile
    assert said.marked == ("s03",)


def test_come_submissions_at_which_others_ended_last_and_at_last_never(run) -> None:
    for k in range(chunks.TRIES):
        run.note(Process(0, 0, "n1", doing="s00"), f"0-0-{k}.json")
    run.note(Process(0, 0, "n1", errors={"s03": "OSError: full"}), "0-0-full.json")
    chunk = node._Chunk(run, run.order(), None, Array(0, "name", ((),)), 0)
    assert list(chunk._in_order(("s00", "s03", "s04"))) == ["s04", "s03"]


def test_does_a_task_whose_every_submission_fails_leave_the_rest_to_others(run, monkeypatch) -> None:
    def fails(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(node.Here, "mark", fails)
    with pytest.raises(SystemExit, match="the grader stopped with OSError: no room"):
        worked(run, [f"s{k:02}" for k in range(6)])
    [said] = run.processes()
    assert (len(said.errors), run.done()) == (node.MOST_ERRORS, set())


def test_is_another_grader_on_the_node_refused(run) -> None:
    with pytest.raises(SystemExit, match="is not the one that submitted the job"):
        worked(run, ["s00"], base="another")
    assert not run.done()


def test_is_the_gradebook_left_alone_by_a_node(run, released) -> None:
    """Not even loaded: nbgrader's database is SQLAlchemy's."""
    run.write_array(Array(0, "name", (("s04",),)))
    book = released / "gradebook.db"
    before = book.read_bytes()
    code = (
        "import sys; from autograder import node; node.main(*sys.argv[1:]); "
        "sys.exit('sqlalchemy' in sys.modules or 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(run.path), "0"],
        env={**os.environ, "SLURM_ARRAY_TASK_ID": "0"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert run.processes()[0].marked == ("s04",)
    assert book.read_bytes() == before
    assert [path.name for path in released.glob("gradebook*")] == ["gradebook.db"]


def test_is_a_warning_before_the_end_an_end(monkeypatch) -> None:
    before = {one: signal.getsignal(one) for one in node.ENDINGS}
    try:
        with pytest.raises(SystemExit, match="ended by SIGUSR2: what is not marked"):
            node._end(signal.SIGUSR2, None)
        assert {signal.getsignal(one) for one in node.ENDINGS} == {signal.SIG_IGN}
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def test_is_a_run_of_another_version_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    (tmp_path / "order.json").write_text(json.dumps({"format": chunks.FORMAT + 1}))
    with pytest.raises(SystemExit, match="is no run of this version"):
        node.main(str(tmp_path), "0")


# what is asked of Slurm


@pytest.mark.parametrize(("students", "most", "expected"), [
    (1, 1001, 1), (24, 1001, 3), (500, 1001, 50), (1000, 1001, 100), (10_000, 1001, 100), (100_000, 1001, 1000),
    (150_000, 1001, 1000), (10_000, 30, 30), (3, 1, 1),
])  # fmt: skip
def test_has_an_array_as_many_tasks_as_the_site_allows(monkeypatch, students, most, expected) -> None:
    monkeypatch.setattr(scheduler, "most_tasks", lambda: most)
    names = [str(k) for k in range(students)]
    found = cluster._chunked(names, cluster._size(students))
    assert len(found) == expected <= most
    assert sorted(chain(*found)) == sorted(names)
    assert {chunk[0] for chunk in found} == set(names[: len(found)])


def test_does_the_file_ask_for_no_gpu_and_for_what_a_grader_needs(tmp_path, task) -> None:
    path = tmp_path / "site.toml"
    path.write_text('partition = "gpus"\ngres = "gpu:t4:{gpus}"\ncpus = 8\nmemory = "60G"\nminutes = 40\n'
                    '[grading]\npartition = "cpus"')  # fmt: skip
    assert (site(path).partition, site(path).cpus, site(path).memory) == ("gpus", 8, "60G")
    asked = site(path, "grading")
    assert (asked.partition, asked.cpus, asked.memory) == ("cpus", 1, "")
    lines = batch.array("grade-1", tmp_path / "50 %" / "0", asked, ["-m", "x"], 7, 3, {"A": "a b"}).splitlines()
    expected = {"array=0-6%3", "partition=cpus", "cpus-per-task=1", "time=40", f"output='{tmp_path}/50 %%/0-%a.txt'"}
    assert {"export A='a b'", "#SBATCH --requeue", *(f"#SBATCH --{one}" for one in expected)} <= set(lines)
    assert not any("gres" in line or "--mem" in line for line in lines)
    assert cluster._memory(task) == cluster.GRADER
    assert cluster._memory(task.graded_by("run")) == cluster.GRADER + task.limits.data_bytes


@pytest.mark.parametrize(("text", "words"), [
    ("grading = 3", "give a table"), ("[grading]\ncolour = 1", "says 'colour'"),
    ("[grading]\ncpus = '2'", "give a whole number"),
])  # fmt: skip
def test_is_a_wrong_table_for_grading_named(tmp_path, text, words) -> None:
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(JobError, match=words):
        site(tmp_path / "x.toml", "grading")


def test_are_the_tasks_of_an_array_told_apart_and_those_it_forgot_asked_of_sacct(programs) -> None:
    program(programs, "squeue", "echo '3|RUNNING|None'; echo '4|PENDING|Resources'")
    assert scheduler.tasks("7", "name", 2) == {
        3: ("RUNNING", "running", ""), 4: ("PENDING", "queued", "it waits for free resources")
    }  # fmt: skip
    assert set(scheduler.tasks("7", "name", 9)) == {3, 4}
    program(programs, "sacct", "echo '7_3|COMPLETED'; echo '7_5|NODE_FAIL'; echo '7_[6-9]|PENDING'")
    found = scheduler.tasks("7", "name", 9)
    assert [found[k][:2] for k in (3, 4, 5)] == [("RUNNING", "running"), ("PENDING", "queued"), ("NODE_FAIL", "failed")]


def test_is_no_answer_of_slurm_no_news(programs) -> None:
    program(programs, "squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    assert scheduler.tasks("7", "name", 2) is None
    with pytest.raises(JobError, match="does not say which jobs"):
        scheduler.find("name")
    program(programs, "squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert scheduler.tasks("7", "name", 2) == {}


def test_is_an_array_found_by_its_name_and_its_largest_size_asked(programs) -> None:
    program(programs, "squeue", "echo 12; echo 12")
    assert scheduler.find("name") == "12"
    program(programs, "scontrol", "echo 'MaxArraySize            = 51'")
    assert scheduler.most_tasks() == 51
    program(programs, "scontrol", "exit 1")
    assert scheduler.most_tasks() == scheduler.MOST_TASKS == 1001


# what is said at the door


def test_is_a_machine_without_slurm_told_in_one_sentence(programs, released) -> None:
    result = CliRunner().invoke(cli.main, ["grade", "toy", "--backend", "slurm", "--course", str(released)])
    assert result.exit_code == 1
    assert "there is no sbatch here" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(("more", "words"), [
    (["--backend", "cloud"], "'cloud' is not one of"), (["--profile", "teaching"], "say --backend slurm"),
])  # fmt: skip
def test_is_a_wrong_wish_a_wrong_use(released, more, words) -> None:
    result = CliRunner().invoke(cli.main, ["grade", "toy", *more, "--course", str(released)])
    assert result.exit_code == 2
    assert words in result.stderr


def test_is_an_unknown_profile_named_before_anything_is_read(programs, tmp_path) -> None:
    program(programs, "sbatch", "exit 1")
    with pytest.raises(JobError, match="choose generic, teaching"):
        grading.grade(tmp_path / "nowhere", "toy", backend="slurm", profile="unknown")


# what was left behind


def test_does_a_grading_here_end_the_jobs_of_one_that_was_killed(run, task, programs, released) -> None:
    run.write_array(Array(0, chunks.array_name(run, 0), (("s00",),)))  # killed before it could note the number
    squeue = 'case "$*" in *%F*) echo 31;; *) [ -e gone ] || echo "0|RUNNING|None";; esac'
    program(programs, "squeue", squeue.replace("gone", str(programs / "gone")))
    program(programs, "scancel", f"echo $* > {programs}/gone")
    cluster.end_left(task, going_on=True)  # the same grading may go on with them
    assert run.path.exists()
    cluster.end_left(task, going_on=False)
    assert (programs / "gone").read_text() == "31\n"
    assert not run.path.exists()


def test_are_jobs_of_another_kind_not_gone_on_with(run, task, programs) -> None:
    run.write_array(Array(0, "name", (("s00",),), slurm="31"))
    program(programs, "squeue", 'echo "0|RUNNING|None"')
    assert cluster._is_of(run, task)
    assert not cluster._is_of(run, task.graded_by("execute"))
    run.note_end(quiet=False)  # they were cancelled
    assert not cluster._is_of(run, task)


def test_is_a_grading_refused_while_old_jobs_cannot_be_asked_after(run, task, programs) -> None:
    run.write_array(Array(0, "name", (("s00",),), slurm="31"))
    with pytest.raises(GradingError, match=r"may still be at work, .* and remove "):
        cluster.end_left(task, going_on=False)
    run.note_end(quiet=True)
    cluster.end_left(task, going_on=False)
    assert not run.path.exists()


def test_is_a_run_read_as_it_was_written(run) -> None:
    arrays = [Array(0, "a", (("s00", "s01"), ("s02",)), "7"), Array(1, "b", (("s00",),))]
    for one in arrays:
        run.write_array(one)
    assert RunFolder(run.path).arrays() == arrays
    assert run.course == Path(run.path).parents[3]
    (run.path / "order.json").write_text("{")
    assert run.order() is None


def test_is_only_what_dead_processes_of_this_machine_left_cleared_away(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    ended = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout.strip()
    names = {f"{socket.gethostname()}@{ended}-x": False, f"{socket.gethostname()}@{os.getpid()}-x": True,
             f"other.host@{ended}-x": True, "somebody-elses": True}  # fmt: skip
    for name in names:
        (tmp_path / f"{scratch.IN_TEMP}{name}").mkdir()
    old = tmp_path / f"{scratch.IN_TEMP}other.host@{ended}-old"
    old.mkdir()
    os.utime(old, (0, 0))
    scratch.clear()
    assert {name: (tmp_path / f"{scratch.IN_TEMP}{name}").exists() for name in names} == names
    assert not old.exists()


def test_does_the_bar_say_what_the_cluster_is_at() -> None:
    class Bar:
        disable = True

        def __init__(self) -> None:
            self.seen: list[dict[str, object]] = []

        def set_postfix(self, values: dict[str, object], refresh: bool) -> None:
            self.seen.append(values)

        def update(self) -> None: ...

    shown = grading.RunningTable(Bar())
    shown.say("2 jobs run, 3 wait")
    shown.say("2 jobs run, 3 wait")
    shown.add(grading.Outcome("ada", "graded"))
    assert shown.bar.seen == [{"cluster": "2 jobs run, 3 wait"}, {"graded": 1, "cluster": "2 jobs run, 3 wait"}]


# how a class is followed to its end


class PretendedSlurm:
    """Arrays whose tasks run as soon as somebody asks after them, or do what a test says instead."""

    def __init__(self) -> None:
        self.scripts: list[Path] = []
        self.seen: dict[int, set[int]] = {}
        self.instead: dict[int, object] = {}  # by number of the array: (run, order, array, index) -> a state or None

    def submit(self, script: Path) -> str:
        self.scripts.append(script)
        return str(len(self.scripts))

    def tasks(self, number: str, name: str, count: int) -> dict[int, tuple[str, str, str]]:
        script = self.scripts[int(number) - 1]
        run, k = RunFolder(script.parent), int(script.stem.removeprefix("array-"))
        ended = {}
        for index in range(count):
            says = None
            if index not in self.seen.setdefault(k, set()):
                self.seen[k].add(index)
                says = self.instead.get(k, node.work)(run, run.order(), run.array(k), index)
            ended[index] = says or ("COMPLETED", "finished", "")
        return ended


@pytest.fixture
def slurm(monkeypatch, released):
    found = PretendedSlurm()
    for name in ("submit", "tasks"):
        monkeypatch.setattr(scheduler, name, getattr(found, name))
    monkeypatch.setattr(scheduler, "most_tasks", lambda: 1001)
    for name, value in {"LOOK": 0.0, "GRACE": 0.0, "POLL": 0.0, "SMALLEST": 3}.items():
        monkeypatch.setattr(cluster, name, value)
    yield found
    for path in (released / "results" / "toy").glob("*.json"):
        path.unlink()
    for left in chunks.runs(released, "toy"):
        left.remove()


WHO = [f"s{k:02}" for k in range(6)]


def came(task):
    with cluster.class_on(site("generic", "grading"), task, (task,), WHO, None, False, lambda _: None) as coming:
        return dict(coming)


def marks(found):
    return {student: one.result()[0].score for student, one in sorted(found.items())}


SCORES = {"s00": 0.0, "s01": 0.0, "s02": 0.0, "s03": 0.0, "s04": 1.0, "s05": 1.0}


def test_comes_every_submission_and_is_nothing_left_behind(slurm, task, released) -> None:
    found = came(task)
    assert marks(found) == SCORES
    assert not any(one.result()[2] for one in found.values())
    assert len(slurm.scripts) == 1
    assert not chunks.runs(released, "toy")
    assert all(one.result()[2] for one in came(task).values())  # they are there already
    assert len(slurm.scripts) == 1


@pytest.mark.parametrize(("looks", "cancelled", "left"), [(3, 0, 0), (10**6, 1, 1)])
def test_may_a_task_that_has_marked_everything_end_by_itself(
    slurm, task, released, monkeypatch, looks, cancelled, left
) -> None:
    """Slurm says of it for a while that it still runs: a container is taken down, or the site has an epilogue."""
    asked, ended, tasks, end = iter(range(10**6)), [], slurm.tasks, cluster._Class.end

    def slow_to_end(number, name, count):
        found = tasks(number, name, count)
        state = ("COMPLETING", "running", "")
        return dict.fromkeys(found, state) if next(asked) < looks else found

    def end_now(class_):
        monkeypatch.setattr(scheduler, "tasks", slow_to_end)
        end(class_)

    monkeypatch.setattr(cluster._Class, "end", end_now)
    monkeypatch.setattr(scheduler, "cancel", ended.append)
    monkeypatch.setattr(cluster, "GRACE", 0.2)
    assert marks(came(task)) == SCORES
    assert (len(ended), len(chunks.runs(released, "toy"))) == (cancelled, left)


def test_goes_what_an_ended_task_left_to_another(slurm, task) -> None:
    def only_the_first(run, order, array, index):
        first = Array(array.number, array.name, tuple(chunk[:1] for chunk in array.chunks))
        node.work(run, order, first, index)

    slurm.instead[0] = only_the_first
    assert marks(came(task)) == SCORES
    assert len(slurm.scripts) == 2


def test_is_a_result_that_was_damaged_made_again(slurm, task, released) -> None:
    def damages(run, order, array, index):
        node.work(run, order, array, index)
        if "s04" in array.chunks[index]:
            (released / "results" / "toy" / "evidence" / "s04.json").write_bytes(b"{")

    slurm.instead[0] = damages
    assert marks(came(task)) == SCORES
    assert len(slurm.scripts) == 2


def test_has_a_submission_whose_result_is_damaged_every_time_none(slurm, task, released) -> None:
    def damages(run, order, array, index):
        node.work(run, order, array, index)
        (released / "results" / "toy" / "evidence" / "s04.json").write_bytes(b"{")

    slurm.instead = dict.fromkeys(range(chunks.TRIES), damages)
    found = came(task)
    with pytest.raises(cluster.MarkerError, match="3 jobs could not mark it"):
        found["s04"].result()
    assert marks({name: one for name, one in found.items() if name != "s04"}) == {
        name: score for name, score in SCORES.items() if name != "s04"
    }


@pytest.fixture
def cannot_be_read(monkeypatch):
    """From when it is called, files of the submission of s04 cannot be read: root may read whatever a mode forbids."""
    read = submission._read

    def refused(path: Path, *more: object) -> bytes:
        if "s04" in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *more)

    return lambda: monkeypatch.setattr(submission, "_read", refused)


@pytest.mark.parametrize("when", ["graded before", "while it is marked"])
def test_is_a_submission_that_cannot_be_read_lost_and_nothing_else(slurm, task, cannot_be_read, when) -> None:
    def work(run, order, array, index):
        node.work(run, order, array, index)
        if index == len(array.chunks) - 1:
            cannot_be_read()

    if when == "graded before":
        came(task)
        cannot_be_read()
    else:
        slurm.instead[0] = work
    found = came(task)
    with pytest.raises(PermissionError):
        found.pop("s04").result()
    assert marks(found) == {name: score for name, score in SCORES.items() if name != "s04"}
    assert len(slurm.scripts) == 1


def test_are_jobs_that_were_cancelled_told_from_those_that_failed(slurm, task) -> None:
    def cancelled(run, order, array, index):
        if index == 0:
            node.work(run, order, array, index)
            return None
        return ("CANCELLED", "cancelled", "")

    slurm.instead[0] = cancelled
    found = came(task)
    with pytest.raises(cluster.MarkerError, match="was cancelled: grade again"):
        found["s05"].result()
    assert found["s04"].result()[0].score == 1


def test_is_a_class_of_which_no_task_begins_given_up_at_once(slurm, task, released) -> None:
    def says_why(run, order, array, index):
        (run.logs / f"{array.number}-{index}.txt").write_text(
            "no such module\nsrun: error: n1: task 0: Exited with 1\n"
        )
        return ("FAILED", "failed", "Slurm says FAILED")

    slurm.instead[0] = says_why
    with pytest.raises(GradingError, match="no task of Slurm's job 1 could mark anything: no such module"):
        came(task)
    assert chunks.runs(released, "toy")  # the logs stay


def test_is_a_slurm_that_falls_silent_named(slurm, task, monkeypatch) -> None:
    monkeypatch.setattr(scheduler, "tasks", lambda *_: None)
    monkeypatch.setattr(cluster, "SILENCE", 0.0)
    with pytest.raises(GradingError, match="given no answer for 0 minutes"):
        came(task)


def test_is_what_slurm_will_not_take_again_lost_and_nothing_else(slurm, task, monkeypatch) -> None:
    def only_s04(run, order, array, index):
        node.work(run, order, Array(0, "", ((), ("s04",))), 1)

    def refused(script):
        if slurm.scripts:
            raise JobError("Slurm refuses the job: no more jobs for you")
        return slurm.submit(script)

    slurm.instead[0] = only_s04
    monkeypatch.setattr(scheduler, "submit", refused)
    found = came(task)
    assert found["s04"].result()[0].score == 1
    with pytest.raises(cluster.MarkerError, match="no more jobs for you"):
        found["s00"].result()


def test_are_the_jobs_of_a_killed_command_taken_over_and_what_was_handed_in_anew_is_marked(
    slurm, task, released
) -> None:
    run = chunks.new_run(released, order_of(task))
    slurm.scripts.append(run.script(0))
    run.write_array(Array(0, "name", (("s00", "s04"),), slurm="1"))
    run.note_done("s04")  # of what was handed in before
    assert marks(came(task)) == SCORES
    # the second one for the rest of the class
    assert [script.name for script in slurm.scripts] == ["array-0.sh", "array-1.sh"]
