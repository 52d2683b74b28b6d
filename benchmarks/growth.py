"""Does a submission cost more, the more were graded before it? And does the class report of so many still open?

    python benchmarks/growth.py [--submissions 10000] [--chunk 250] [--minutes 60] [--course FOLDER]

Notebooks of a small lab of three questions (tests/toy_lab.py), no two alike, with recorded answers: a third of them
wrong, three of a hundred without a notebook. They are graded by their recorded answers, in one process, chunk by
chunk; each chunk is a call of its own, and whatever a call looks at of those that were graded before counts. Costs are
processor time, so that a busy machine does not tell. After --minutes no further chunk begins; with --course a later
call goes on where this one ended. Growth is the slope of a straight line through the chunks' costs.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from autograder import grading, report

sys.path.append(str(Path(__file__).parent.parent / "tests"))

import paused_lab
import toy_lab


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--submissions", type=int, default=10_000)
    parser.add_argument("--chunk", type=int, default=250)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--course", type=Path)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="growth-") as name:
        root = (a.course or Path(name)).absolute()
        done = root / "growth.json"
        course = root / "course" if done.exists() else paused_lab.make_course(root / "course")
        costs: list[tuple[int, float]] = json.loads(done.read_text()) if done.exists() else []
        end = time.monotonic() + 60 * a.minutes
        while (before := sum(size for size, _ in costs)) < a.submissions and time.monotonic() < end:
            costs.append(graded(course, before, min(a.chunk, a.submissions - before)))
            done.write_text(json.dumps(costs))
        told(costs)
        reported(course)


def graded(course: Path, first: int, count: int) -> tuple[int, float]:
    """Hand in and grade so many more; their number, and the seconds of processor time of the grading."""
    names = [f"student-{k:05}" for k in range(first, first + count)]
    for k, name in enumerate(names, first):
        number = k if k % 3 == 0 else 42
        paused_lab.hand_in(course, name, number)
        notebook = toy_lab.solved(course, words=f"Because, says {name}.", number=f"number = {number!r}")
        toy_lab.hand_in(course, name, notebook)
        if k % 100 in (7, 37, 67):
            (course / "submitted" / name / "toy" / "toy.ipynb").unlink()
    started = time.process_time()
    outcomes = grading.grade(course, "toy", names, jobs=1, how="evidence", progress=False)
    seconds = time.process_time() - started
    if failed := [one for one in outcomes if one.status == "failed"]:
        sys.exit(f"{failed[0].student}: {failed[0].reason}")
    return count, seconds


def told(costs: list[tuple[int, float]]) -> None:
    sizes, seconds = (np.array(column, float) for column in zip(*costs, strict=True))
    each, middle = seconds / sizes, np.cumsum(sizes) - sizes / 2
    print(f"{int(sizes.sum()):,} submissions in {len(costs)} chunks, {each @ sizes / sizes.sum():.4f} s each, "
          f"{each[0]:.4f} s in the first chunk, {each[-1]:.4f} s in the last")  # fmt: skip
    if len(costs) < 4:
        return
    # the first chunk also loads nbgrader
    away = middle[1:] - middle[1:].mean()
    slope = away @ each[1:] / (away @ away)
    off = each[1:] - each[1:].mean() - slope * away
    error = np.sqrt(off @ off / (len(away) - 2) / (away @ away))
    share = 100 * 1000 / each[1:].mean()
    print(f"growth per 1,000 submissions: {slope * share:+.2f}% of a submission's cost, standard error "
          f"{error * share:.2f}%")  # fmt: skip


def reported(course: Path) -> None:
    started = time.process_time()
    path = report.report(course, "toy")
    page = time.process_time() - started
    started = time.process_time()
    report.export_csv(course, "toy", course / "points.csv")
    print(f"class report: {page:.1f} s of processor time, {path.stat().st_size / 1e6:.1f} MB; "
          f"export: {time.process_time() - started:.1f} s")  # fmt: skip


if __name__ == "__main__":
    main()
