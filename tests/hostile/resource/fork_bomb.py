"""Forks itself nine times over, 512 processes in all, that wait.

Tries: no process is left for anybody else.
Must happen: a limit, and an end of all of them.
"""

from hostile.work import Work, without

DESERVES = without("number")
SPARED = "nothing there limits the number of processes"
CODE = """
import os, time
parent = os.getpid()
for _ in range(9):
    try:
        os.fork()
    except OSError:
        break
if os.getpid() != parent:
    time.sleep(60)
    os._exit(0)
number = 5
"""


def turn(work: Work) -> None:
    work.answer(number=CODE)
