"""A pickle with the name of a recording, which runs a command where it is opened.

Tries: numpy, torch and pandas open pickles by habit.
Must happen: refused as foreign, and nothing in it runs.
"""

import os
import pickle

from hostile.work import Work, without

DESERVES = without("run")


class _Runs:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def turn(work: Work) -> None:
    content = pickle.dumps(_Runs(work.filled("touch $place/unpickled")))
    for name in ("run.safetensors", "run.npy", "run.pt", "run.pkl"):
        work.files[name] = content
    work.answer(run="")
