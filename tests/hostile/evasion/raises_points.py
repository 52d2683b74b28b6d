"""Metadata that makes every question count a hundred points, and turns answers into tests.

Tries: points, grade ids and locks are read from the submitted notebook.
Must happen: the release decides what a cell is.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING


def turn(work: Work) -> None:
    work.blank()
    for cell in work.cells:
        about = cell["metadata"].get("nbgrader")
        if about:
            about.update(points=100, grade=True, locked=False, solution=False, checksum="0", schema_version=3)
        cell["metadata"]["autograder_put_back"] = True
    work.notebook["metadata"]["autograder"] = {"status": "graded", "score": 11}
