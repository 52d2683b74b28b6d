"""Crashes the interpreter: a stack without end in C, and a read from address 0.

Tries: a grader that waits for a kernel that is gone.
Must happen: what crashed is left out; what was right elsewhere counts.
"""

from hostile.work import Work, without

DESERVES = without("number", "softsign")


def turn(work: Work) -> None:
    work.answer(
        number="import ctypes\nctypes.string_at(0)",
        softsign="import sys\nsys.setrecursionlimit(10 ** 9)\ndef softsign(x):\n    return softsign(x)",
    )
