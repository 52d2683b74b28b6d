"""A class graded on a Slurm cluster of which a node dies midway: is every submission graded exactly once, and as here?

    python benchmarks/cluster_grading.py [--submissions 1000] [--nodes 2] [--kill-node] [--run] [--slots 100]

The class is small on purpose: what is looked at is who marks what, how often, and what reaches the gradebook. Each
submission is a notebook of its own for a lab of three questions (tests/toy_lab.py) with its recorded answers: no two
students have the same files. Of a hundred, about a third answered wrongly, three broke a check, three handed in no
notebook. They are graded by their recorded answers; --run runs every notebook in a sandbox as well, which is dearer.
No network is trained and no recording replayed: what a submission of a real lab costs is measured by grading.py.

The class is graded by one process on this machine, and, a copy of it, by the Slurm that tests/slurm starts, whose
nodes share this machine's cores: so times tell what a submission costs, and not how much faster a cluster is. With
--kill-node all processes of one node are killed when a tenth is marked, and Slurm is told that it failed. The last
lines are arithmetic from the measured costs, and no measurement.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from autograder import chunks, cluster, grading, markers, marking, report, results
from autograder.grading import Outcome

# the class and the Slurm of the tests
sys.path.append(str(Path(__file__).parent.parent / "tests"))

import paused_lab
import toy_lab
from slurm.cluster import Cluster, missing

LARGE = 10_000


@dataclass(frozen=True)
class Run:
    """One grading of the class."""

    outcomes: list[Outcome]
    wall: float  # seconds
    marking: float  # seconds, of all submissions together
    exported: bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--submissions", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--kill-node", action="store_true")
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--slots", type=int, default=100)
    a = parser.parse_args()
    if absent := missing():
        sys.exit(f"no Slurm here ({', '.join(absent)}): apt-get install slurm-wlm munge")
    # the address of a socket has at most 107 bytes
    with tempfile.TemporaryDirectory(prefix="grading-") as name:
        root = Path(name)
        here, there = two_classes(root, a.submissions)
        how: marking.How = "run" if a.run else "evidence"
        print(f"{a.submissions} submissions, {'run in sandboxes' if a.run else 'by recorded answers'}\n", flush=True)
        serial = graded(here, how)
        told("one process, here", serial)
        slurm = Cluster(root / "slurm", a.nodes)
        (root / "slurm").mkdir()
        os.environ.update(slurm.environment)
        chunks.RunFolder.remove = lambda _: None  # what the jobs said is counted below
        try:
            slurm.start()
            killing = threading.Thread(target=kill_a_node, args=(slurm, there, a.submissions // 10), daemon=True)
            if a.kill_node:
                killing.start()
            far = graded(there, how, backend="slurm")
            told(f"{a.nodes} nodes on the same cores", far)
        finally:
            slurm.stop()
        [run] = chunks.runs(there, "toy")
        compared(serial, far, run)
        arithmetic(serial, warm_up(there, how), a.slots)


def two_classes(root: Path, submissions: int) -> tuple[Path, Path]:
    """The same class twice, with the same secret."""
    here, there = paused_lab.make_course(root / "here"), root / "there"
    for k in range(submissions):
        name, odd = f"student-{k:04}", k % 100
        number = "break the check" if odd in (5, 35, 65) else k if odd % 3 == 0 else 42
        paused_lab.hand_in(here, name, number)
        notebook = toy_lab.solved(here, words=f"Because, says {name}.", number=f"number = {number!r}")
        toy_lab.hand_in(here, name, notebook)
        if odd in (7, 37, 67):
            (here / "submitted" / name / "toy" / "toy.ipynb").unlink()
    marking.prepare(here, "toy")  # draws the course's secret
    shutil.copytree(here, there)
    return here, there


def graded(course: Path, how: marking.How, backend: grading.Backend = "local") -> Run:
    started = time.perf_counter()
    outcomes = grading.grade(course, "toy", jobs=1 if backend == "local" else None, how=how, backend=backend)
    wall = time.perf_counter() - started
    marked = [results.load(course, "toy", one.student) for one in outcomes]
    exported = report.export_csv(course, "toy", course / "points.csv").read_bytes()
    return Run(outcomes, wall, sum(one.seconds for one in marked if one is not None), exported)


def told(words: str, run: Run) -> None:
    ends = ", ".join(f"{number} {status}" for status, number in sorted(Counter(o.status for o in run.outcomes).items()))
    each = run.marking / len(run.outcomes)
    print(f"{words:28}{run.wall:7.0f} s   {each:.3f} s of marking a submission   {ends}", flush=True)


def kill_a_node(slurm: Cluster, course: Path, marked: int) -> None:
    """As a power cut does it, once so many are marked."""
    while sum(len(run.done()) for run in chunks.runs(course, "toy")) < marked:
        time.sleep(0.05)
    node = slurm.ask("squeue", "-h", "-t", "running", "-o", "%N").split()[0]
    slurm.kill_node(node)
    slurm.fail_node(node)
    left = len(list((course / "submitted").iterdir())) - sum(len(r.done()) for r in chunks.runs(course, "toy"))
    print(f"    {node} was killed when {left} submissions were not marked yet", flush=True)


def compared(serial: Run, far: Run, run: chunks.RunFolder) -> None:
    marked = Counter(student for process in run.processes() for student in process.marked)
    found = {student for process in run.processes() for student in process.found}
    arrays = run.arrays()
    tasks = sum(len(array.chunks) for array in arrays)
    print(f"\n{len(arrays)} job array(s) of {tasks} tasks in all, {len(run.processes())} processes of them marked")
    once = sum(number == 1 for number in marked.values()) + len(found - marked.keys())
    print(f"marked exactly once: {once} of {len(serial.outcomes)}; of {len(found)} it is known by their result alone, "
          "for their process was killed as it had stored it")  # fmt: skip
    plain = [[(o.student, o.status, o.reason, o.score) for o in one.outcomes] for one in (serial, far)]
    print(f"the same outcomes as of one process: {plain[0] == plain[1]}")
    print(f"the same exported points, byte for byte: {serial.exported == far.exported}")


def warm_up(course: Path, how: marking.How) -> float:
    """Seconds until a task is ready for its first submission: its modules and, where notebooks are run, its worker."""
    task = marking.prepare(course, "toy", grading_limits(course)).graded_by(how)
    order = chunks.Order("toy", how, False, task.limits.to_json(), task.base)
    run = chunks.new_run(course, order)
    run.write_array(chunks.Array(0, "warm-up", (("student-0000",),)))
    results.path_of(course, "toy", "student-0000").unlink()
    environment = {**os.environ, **markers.variables(), "SLURM_ARRAY_TASK_ID": "0"}
    command = [sys.executable, "-P", "-m", "autograder.node", str(run.path), "0"]
    started = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def grading_limits(course: Path) -> marking.Limits:
    from autograder import gradebook
    from autograder.preprocessors import limits_of

    return limits_of(gradebook.settings(course))


def arithmetic(run: Run, ready: float, slots: int) -> None:
    """What the measured costs come to for a large class, if every slot is a core of its own as fast as this one."""
    count = len(run.outcomes)
    mark, write = run.marking / count, (run.wall - run.marking) / count
    size = cluster._size(LARGE)
    tasks = -(-LARGE // size)
    marking_ = -(-tasks // slots) * (ready + size * mark)
    print(f"\nmeasured: {mark:.3f} s to mark a submission, {write:.3f} s to write it into the gradebook, "
          f"{ready:.1f} s to begin a task")  # fmt: skip
    print(f"ARITHMETIC, not measured, for {LARGE:,} such submissions on {slots} slots: {tasks} tasks of {size};")
    print(f"    marking {marking_ / 60:.1f} min; the one writer, meanwhile, {LARGE * write / 60:.0f} min")


if __name__ == "__main__":
    main()
