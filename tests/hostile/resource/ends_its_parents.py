"""Kills its parent and its parent's parent, first politely, then not.

Tries: without the grader nobody's grade is written.
Must happen: everybody has an outcome.
"""

from hostile.work import Work, without

DESERVES = without("number")
CODE = """
import os, signal, time

def parent(pid):
    return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])

chain = [os.getppid()]
try:
    chain.append(parent(chain[0]))
except OSError:
    pass
for number_ in (signal.SIGTERM, signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL):
    for pid in [*chain, $bystander]:
        try:
            # 1 is the machine's own, or that of the walls
            if pid > 1:
                os.kill(pid, number_)
        except OSError:
            pass
time.sleep(0.2)
number = 5
"""


def turn(work: Work) -> None:
    work.answer(number=CODE)
