"""Floods the channel to the grader with one message that never ends, and announces one of 4 GB.

Tries: a grader that reads until the end, or makes room for what was announced.
Must happen: the channel is closed with a reason; everybody else is graded.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
import os, stat

for descriptor in range(3, 256):
    try:
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            os.set_blocking(descriptor, True)
            os.write(descriptor, b"\\xff\\xff\\xff\\xff" + b"[" * 100_000)
            for _ in range(2000):
                os.write(descriptor, b"[" * 100_000)
    except OSError:
        pass
"""


def turn(work: Work) -> None:
    work.blank()
    work.first(CODE)
