"""Metadata with points that are NaN, infinite, negative, a text, and a grade id that is a list.

Tries: a mark beyond numbers, or a grader that stops at them.
Must happen: the release decides; an outcome for everybody.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING


def turn(work: Work) -> None:
    work.blank()
    odd = iter([float("nan"), float("inf"), -5, "many", None, [], {}, True] * 5)
    for cell in work.cells:
        if about := cell["metadata"].get("nbgrader"):
            about["points"] = next(odd)
    work.cell("test_run")["metadata"]["nbgrader"]["grade_id"] = ["test_run"]
    work.cell("number")["metadata"]["nbgrader"] = "none"
