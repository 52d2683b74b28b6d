"""What a whole class costs, and whether a grading that is killed again and again ends with the same marks.

    python benchmarks/class_of.py [--students 500] [--jobs 2] [--kills 3] [--seed 0] [--course FOLDER] [--evidence-only]

A simulated class of the vanishing-gradients lab: every kind of student, and one in twenty hostile. It is graded once
in one go; then a copy that was never graded is graded by a process that is killed (SIGKILL) at random moments and
started again. The points of both are exported, and have to be the same bytes. FOLDER keeps the submissions for another
time. The marks of those who are not hostile are held against what their kind of work loses. Memory is what all
processes of the grading have at most, shared pages counted once (PSS), read every 2 seconds; growth is the seconds
that a submission costs, fitted over the class in the order in which results appeared.
"""

import argparse
import contextlib
import csv
import json
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autograder import classroom, course, questionnaire
from autograder.workers import WorkersError

LAB = "vanishing_gradients"
SIMULATED = "simulated"
EVERY = 20  # students, of whom one is hostile
# what a hostile student writes into the first cell that is to be answered
HOSTILE = (
    "import os\nos._exit(0)",
    "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "while True:\n    pass",
    "import os\nwhile True:\n    os.fork()",
    "held = bytearray(8 * 2**30)\nheld[:] = b'x' * len(held)",
    "with open('large', 'wb') as file:\n    while True:\n        file.write(bytes(2**24))",
    "print('x' * 10**9)",
    "import subprocess\nsubprocess.Popen(['sleep', '1000'], start_new_session=True)",
    "import gc, sys\nfor one in gc.get_objects():\n    if hasattr(one, 'points'):\n        one.points = 100",
    "class Yes:\n    def __eq__(self, other):\n        return True\nimport numpy as np\nnp.allclose = lambda *_: True",
)


@dataclass(frozen=True)
class Run:
    """One grading of the class, however often it was begun."""

    wall: float  # seconds
    memory: float  # GB at most
    kills: int
    said: str
    exported: bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--course", type=Path)
    parser.add_argument("--evidence-only", action="store_true")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="class-") as name:
        root = (a.course or Path(name)).absolute()
        made = simulated(root, a.students, a.jobs, a.seed)
        print(f"{len(made)} submissions, {size_of(root / SIMULATED / 'submitted') / 1e9:.1f} GB, {a.jobs} jobs")
        how = ["--evidence-only"] if a.evidence_only else []
        whole = in_one_go(root, a.jobs, how)
        told("in one go", whole, len(made))
        grown(root / "whole")
        if not a.evidence_only:  # what only a function can show waits for a run
            fair(root / SIMULATED, made, whole.exported)
        if a.kills:
            draw = random.Random(a.seed)
            # early enough that the last one meets the grading, too
            moments = [draw.uniform(0.1, 0.9) * whole.wall / a.kills for _ in range(a.kills)]
            broken = graded(copy_of(root, "killed"), a.jobs, moments, how)
            told(f"killed {broken.kills} times", broken, len(made))
            print(f"the same points, byte for byte: {broken.exported == whole.exported}")


def in_one_go(root: Path, jobs: int, how: Sequence[str]) -> Run:
    """The class graded once; from the last time, where the folder was kept."""
    kept = root / "whole.json"
    place = root / "whole"
    if kept.exists():
        found = json.loads(kept.read_text())
        return Run(found["wall"], found["memory"], 0, "", (place / "reports" / f"{LAB}.csv").read_bytes())
    whole = graded(copy_of(root, place.name), jobs, [], how)
    kept.write_text(json.dumps({"wall": whole.wall, "memory": whole.memory}))
    return whole


def simulated(root: Path, students: int, jobs: int, seed: int) -> list[str]:
    """The class, made once and kept; its course was released, and its secret drawn, so that copies of it are equal."""
    place = root / SIMULATED
    if not (place / "made.json").exists():
        course.init(place, [LAB])
        course.release(place, LAB)
        class_ = classroom.simulate(place, LAB, students, seed, jobs)
        for number, one in enumerate(class_[EVERY - 1 :: EVERY]):
            make_hostile(one.folder / f"{LAB}.ipynb", HOSTILE[number % len(HOSTILE)])
        run("export", place, LAB, check=False)
        (place / "made.json").write_text(json.dumps([one.id for one in class_]))
    found: list[str] = json.loads((place / "made.json").read_text())
    return found


def make_hostile(path: Path, source: str) -> None:
    notebook = json.loads(path.read_bytes())
    cell = next(cell for cell in notebook["cells"] if cell["metadata"].get("nbgrader", {}).get("solution"))
    cell["source"] = f"{''.join(cell['source'])}\n{source}"
    path.write_text(json.dumps(notebook))


def copy_of(root: Path, name: str) -> Path:
    """The course before any grading; submissions are linked, since nobody writes to them."""
    from autograder import marking

    marking.prepare(root / SIMULATED, LAB)  # draws the course's secret
    target = root / name
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-rl", str(root / SIMULATED), str(target)], check=True)
    book = target / "gradebook.db"  # but the gradebook is written
    book.unlink()
    shutil.copy(root / SIMULATED / book.name, book)
    return target


def graded(place: Path, jobs: int, moments: Sequence[float], how: Sequence[str]) -> Run:
    """Grade until it ends by itself; the first times it is killed after so many seconds."""
    left, kills, most, started, said = list(moments), 0, 0.0, time.perf_counter(), ""
    with (place / "grading.log").open("w") as log:
        while True:
            process = subprocess.Popen(command("grade", place, LAB, "--jobs", str(jobs), *how), stdout=log, stderr=log)
            watch = Watch(process.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(left.pop(0) if left else None)
            if process.poll() is None:
                process.kill()
                kills += 1
            process.wait()
            most = max(most, watch.ended())
            if process.returncode >= 0:
                break
    wall = time.perf_counter() - started
    said = run("export", place, LAB)
    return Run(wall, most, kills, said, (place / "reports" / f"{LAB}.csv").read_bytes())


def command(name: str, place: Path, *more: str) -> list[str]:
    return [str(Path(sysconfig.get_path("scripts")) / "autograder"), name, *more, "--course", str(place)]


def run(name: str, place: Path, *more: str, check: bool = True) -> str:
    done = subprocess.run(command(name, place, *more), capture_output=True, text=True, check=False)
    if done.returncode and check:
        sys.exit(f"{name} ended with {done.returncode}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    return done.stdout


class Watch:
    """The most memory that a process and all below it have together."""

    def __init__(self, pid: int) -> None:
        self._pid, self._most, self._over = pid, 0, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(2):
            self._most = max(self._most, sum(map(memory, [self._pid, *below(self._pid)])))

    def ended(self) -> float:
        self._over.set()
        self._thread.join()
        return self._most / 1e6


def memory(pid: int) -> int:
    """Kilobytes, shared pages divided among those who share them; 0 for what has gone."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def below(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *below(child)]
    return found


def grown(place: Path) -> None:
    """What a submission costs, fitted over the class: the slope, as a share of the mean for every 1,000 students."""
    written = sorted(path.stat().st_mtime for path in (place / "results" / LAB).glob("*.recorded"))
    times = np.array(written)
    steps, number = np.diff(times), np.arange(len(times) - 1)
    slope, _ = np.polyfit(number, steps, 1)
    spread = steps.std() / np.sqrt(((number - number.mean()) ** 2).sum())
    mean = steps.mean()
    print(f"    {mean:.2f} s a submission; growth per 1,000 students {1000 * slope / mean:+.0%} of that, "
          f"standard error {1000 * spread / mean:.0%}")  # fmt: skip


def fair(place: Path, made: Sequence[str], exported: bytes) -> None:
    """Every question's points, held against those that the student's kind of work earns."""
    kinds = {kind.name: kind for kind in classroom.class_of(LAB).kinds}
    done, hostile = classroom.simulated(place, LAB), set(made[EVERY - 1 :: EVERY])
    rows = {row["student"]: row for row in csv.DictReader(exported.decode().splitlines())}
    marks, wrong = 0, []
    for student in made:
        if student in hostile:
            continue
        for name, question in questionnaire.of(LAB).items():
            earned = question.points - kinds[done[student]].loses.get(name, 0)
            marks += 1
            if rows[student][name] != f"{earned:g}":
                wrong.append(f"    {student} ({done[student]}), {name}: {rows[student][name]}, earned {earned:g}")
    honest = len(made) - len(hostile)
    print(f"    {honest} students who are not hostile, {marks} marks, {len(wrong)} not what was earned")
    print("\n".join(wrong), end="\n" if wrong else "")


def told(words: str, run: Run, students: int) -> None:
    print(f"{words}: {run.wall / 60:.1f} min, {run.wall / students:.2f} s a submission, {run.memory:.1f} GB at most")


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    try:
        main()
    except WorkersError as error:
        sys.exit(str(error))
