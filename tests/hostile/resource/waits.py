"""Waits for ever without computing anything, in a cell and in a function.

Tries: limits that count processor time only.
Must happen: waiting has a limit, too.
"""

from hostile.work import Work, without

DESERVES = without("softsign")
CODE = """
import threading

def softsign(x):
    threading.Event().wait()
"""


def turn(work: Work) -> None:
    work.answer(softsign=CODE)
