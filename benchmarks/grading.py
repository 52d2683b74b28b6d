"""What grading a submission costs: nbgrader's own autograde, ours through execution, ours from the evidence alone.

    python benchmarks/grading.py [--students 3] [--rounds 2]

The same honest submissions of the vanishing-gradients lab, on one core, in turn. nbgrader executes the whole notebook
in a kernel, with its trainings, and takes the points that the check cells give; ours finds the recordings that were
handed in. Marks have to be equal. Time is what the core was busy while a command ran, its start included, so nothing
else may run beside it: what a command's processes used by their own account leaves out a part of the student's sandbox.
What a further submission costs follows from grading all of them against one of them. Last comes where the time goes:
marking the last submission, its parts as shares of what the interpreter's profiler sees.
"""

import os

# before numpy is loaded; `autograder` sets it for its own processes
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import cProfile
import json
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from profiles import Parts, tell_shares

from autograder import authenticity, classroom, course, gradebook, markers, marking, results, submission
from labkit import propagation
from labkit.recording import Recording

LAB = "vanishing_gradients"
PLAIN = """
c = get_config()
c.CourseDirectory.course_id = "plain"
c.ExecutePreprocessor.timeout = 600
"""


# of marking by the evidence alone: the functions in which the time is spent
PARTS: Parts = {
    "secret stretches, run again": (authenticity.audited,),
    "the first iteration after each checkpoint": (authenticity.replays,),
    "the probe batch at each checkpoint": (authenticity.probes_agree,),
    "reading recordings, with their digests": (Recording.from_bytes, Recording.digest.fget),
    "the submission's digest, a copy, what is kept": (submission.Submission.copy, marking.Task.key, results.keep),
    "  of all that, products with the images": (propagation._of_images, propagation._by_images),
    "  of all that, gathering the images": ("'take' of 'numpy.ndarray' objects>",),
}


@dataclass(frozen=True)
class Cost:
    """Of one command, in seconds."""

    cpu: float
    wall: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(prefix="grading-") as name:
        compare(Path(name), arguments.students, arguments.rounds)


def compare(root: Path, students: int, rounds: int) -> None:
    ours, plain = root / "ours", root / "plain"
    course.init(ours, [LAB])
    course.release(ours, LAB)
    made = [one.id for one in classroom.simulate(ours, LAB, students, jobs=1, progress=False)]
    as_nbgrader_takes_it(ours, plain, made)
    commands: dict[str, Callable[[list[str]], list[str]]] = {
        "nbgrader autograde, with trainings": nbgrader,
        "autograder grade, through execution": lambda who: autograder(ours, who),
        "autograder grade --evidence-only": lambda who: autograder(ours, who, "--evidence-only"),
    }
    costs: dict[str, list[tuple[Cost, Cost]]] = {name: [] for name in commands}
    marks: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for name, command in commands.items():
            where = plain if name.startswith("nbgrader") else ours
            one, all_ = (run(command(who), where) for who in (made[:1], made))
            costs[name].append((one, all_))
            marks[name] = machine_marks(where)
    told(costs, marks, students)
    where_it_goes(ours, made[-1])


def where_it_goes(where: Path, student: str) -> None:
    """Print what marking a submission by evidence costs in its parts, and what its notebook's own process takes."""
    task, warm = marking.prepare(where, LAB), markers.Warm()

    def mark(how: marking.How) -> results.Result:
        chosen = task.graded_by(how)
        return marking.mark(chosen, student, chosen.submitted(student), warm)[0]

    try:
        for how in ("evidence", "run"):
            mark(how)  # what is kept from one submission to the next
        before = time.process_time()
        mark("evidence")
        alone = time.process_time() - before
        profile = cProfile.Profile()
        profile.runcall(mark, "evidence")
        print(f"\nmarking {student} by evidence alone: {alone:.2f} s, of which, as the profiler sees it")
        tell_shares(profile, PARTS)
        print(f"its notebook's own process, beside that: {mark('run').cpu:.2f} s")
    finally:
        warm.close()


def as_nbgrader_takes_it(ours: Path, plain: Path, students: list[str]) -> None:
    """The same course without our preprocessors, and the same notebooks without their recordings."""
    for part in ("source", "release"):
        shutil.copytree(ours / part, plain / part)
    (plain / "nbgrader_config.py").write_text(PLAIN)
    run([*nbgrader_command(), "generate_assignment", LAB, "--force", "--create"], plain)
    for student in students:
        target = plain / "submitted" / student / LAB
        target.mkdir(parents=True)
        shutil.copy(ours / "submitted" / student / LAB / f"{LAB}.ipynb", target)


def nbgrader_command() -> list[str]:
    return [sys.executable, "-m", "nbgrader"]


def nbgrader(who: list[str]) -> list[str]:
    chosen = ["--student", who[0]] if len(who) == 1 else []
    return [*nbgrader_command(), "autograde", LAB, "--force", "--create", *chosen]


def autograder(where: Path, who: list[str], *more: str) -> list[str]:
    program = str(Path(sysconfig.get_path("scripts")) / "autograder")
    return [program, "grade", LAB, *who, "--force", "--jobs", "1", "--course", str(where), *more]


def busy() -> float:
    """Seconds that the one core on which everything runs has been busy since the machine started."""
    (core,) = os.sched_getaffinity(0)
    line = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{core} "))
    user, nice, system, _idle, _waiting, irq, softirq, *_ = map(int, line.split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def run(command: list[str], where: Path) -> Cost:
    before, wall = busy(), os.times().elapsed
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return Cost(busy() - before, os.times().elapsed - wall)


def machine_marks(where: Path) -> dict[str, float]:
    """Points of the test cells by student."""
    return {
        one.student: sum(cell.score for name, cell in one.cells.items() if name.startswith("test_"))
        for one in gradebook.scores(where, LAB)
    }


def told(costs: dict[str, list[tuple[Cost, Cost]]], marks: dict[str, dict[str, float]], students: int) -> None:
    per = {}
    print(f"{students} submissions, one core\n")
    print(f"{'':38}{'first':>9}{'each further':>14}{'a minute':>10}{'ratio':>8}")
    for name, pairs in costs.items():
        first = statistics.median(one.cpu for one, _ in pairs)
        per[name] = statistics.median((all_.cpu - one.cpu) / max(1, students - 1) for one, all_ in pairs)
        ratio = next(iter(per.values())) / per[name]
        print(f"{name:38}{first:7.1f} s{per[name]:12.2f} s{60 / per[name]:10.1f}{ratio:8.1f}")
    names = list(marks)
    print(f"\nequal marks, nbgrader and execution: {marks[names[0]] == marks[names[1]]}")
    print(json.dumps(marks, indent=1))


if __name__ == "__main__":
    main()
