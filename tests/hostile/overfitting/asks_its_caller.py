"""A function that looks for the expected values in the frames of whoever called it.

Tries: tests compute what they expect beside the call; a frame above holds it.
Must happen: whoever compares is in another process; nothing earned.
"""

from hostile.work import Work, without

DESERVES = without("softsign")
CODE = """
import sys

def softsign(x):
    frame = sys._getframe(1)
    while frame is not None:
        for name in ("expected", "want", "right", "solution"):
            if name in frame.f_globals or name in frame.f_locals:
                return frame.f_locals.get(name, frame.f_globals.get(name))
        frame = frame.f_back
    return np.array([0.0, 0.5, -0.75])
"""


def turn(work: Work) -> None:
    work.answer(softsign=CODE)
