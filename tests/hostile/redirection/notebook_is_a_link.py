"""The notebook itself is a link to a classmate's.

Tries: to be graded for the work of another without a copy of it.
Must happen: a link is no notebook; nothing earned, and nothing of the classmate shown.
"""

from hostile.work import NOTEBOOK, NOTHING, Work

DESERVES = NOTHING


def turn(work: Work) -> None:
    target = work.outside.course / "submitted/zoe/trial/trial.ipynb"
    work.lay.append(lambda folder: (folder / NOTEBOOK).symlink_to(target))
