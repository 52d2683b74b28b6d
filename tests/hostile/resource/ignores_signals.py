"""Ignores every signal that can be ignored, blocks the others, and loops.

Tries: a limit of time that is only a signal.
Must happen: it ends all the same; what was right elsewhere counts.
"""

from hostile.work import Work, without

DESERVES = without("number")
CODE = """
import signal

for number_ in signal.valid_signals():
    try:
        signal.signal(number_, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
while True:
    pass
"""


def turn(work: Work) -> None:
    work.answer(number=CODE)
