"""The notebook is a folder of that name.

Tries: a grader that opens what is there.
Must happen: refused with the reason; nobody else is stopped.
"""

from hostile.work import NOTEBOOK, NOTHING, Work

DESERVES = NOTHING


def turn(work: Work) -> None:
    work.lay.append(lambda folder: (folder / NOTEBOOK).mkdir())
