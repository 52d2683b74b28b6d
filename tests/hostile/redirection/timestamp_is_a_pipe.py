"""Hands in a named pipe called timestamp.txt, as nbgrader calls its note of when something was handed in.

Tries: whoever reads the note waits for ever, and the class with it.
Must happen: there is no note; everybody is graded.
"""

import os

from hostile.work import ALL, Work

DESERVES = ALL


def turn(work: Work) -> None:
    work.lay.append(lambda folder: os.mkfifo(folder / "timestamp.txt"))
