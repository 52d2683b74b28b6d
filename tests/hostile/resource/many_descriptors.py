"""Opens files and sockets until there are none left, and never closes them.

Tries: the channel to the grader needs one, too.
Must happen: a limit on open files; the cell fails, the rest counts.
"""

from hostile.work import Work, without

DESERVES = without("number")
CODE = """
import os, socket
kept = []
while True:
    kept.append(open(os.devnull))
    kept.append(socket.socketpair())
"""


def turn(work: Work) -> None:
    work.answer(number=CODE)
