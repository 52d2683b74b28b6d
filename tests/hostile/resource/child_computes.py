"""Lets children compute in endless loops while it waits for them.

Tries: limits that count one process only.
Must happen: it ends, and the children with it.
"""

from hostile.work import Work, without

DESERVES = without("number")
CODE = """
import subprocess, sys
burning = [subprocess.Popen([sys.executable, "-c", "while True: pass", "$student"]) for _ in range(2)]
burning[0].wait()
number = 5
"""


def turn(work: Work) -> None:
    work.answer(number=CODE)
