"""The notebook is a named pipe that nobody ever writes to.

Tries: whoever opens it waits for ever.
Must happen: refused with the reason, at once.
"""

import os

from hostile.work import NOTEBOOK, NOTHING, Work

DESERVES = NOTHING


def turn(work: Work) -> None:
    work.lay.append(lambda folder: os.mkfifo(folder / NOTEBOOK))
