"""A function that takes just less than its time at every call, and a value that takes long to look at.

Tries: many calls, each within its limit, hold the grader up for hours.
Must happen: a limit for all of them together.
"""

from hostile.work import ALL, Work

DESERVES = ALL
CODE = """
import time

def softsign(x):
    time.sleep(1.5)
    return x / (1 + abs(x))
"""


def turn(work: Work) -> None:
    work.answer(softsign=CODE)
