"""A process that forks a successor and ends, again and again, so that no number holds for long.

Tries: a killer that goes by a list of numbers is always too late.
Must happen: nothing that it started is alive afterwards.
"""

from hostile.work import ALL, Work

DESERVES = ALL
CODE = """
import os, time

if os.fork() == 0:
    os.setsid()
    os.closerange(3, 256)
    until = time.time() + 120
    while time.time() < until:
        time.sleep(0.02)
        try:
            if os.fork():
                os._exit(0)
        except OSError:
            pass
    os._exit(0)
"""


def turn(work: Work) -> None:
    work.first(CODE)
