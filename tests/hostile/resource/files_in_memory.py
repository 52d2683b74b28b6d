"""Makes files of 2.2 GB that exist in memory only, and belong to no process's memory.

Tries: nobody is seen to use it, so that the kernel ends others for want of memory.
Must happen: refused or ended; what was right elsewhere counts.
"""

from hostile.work import Work, without

DESERVES = without("number")
SPARED = "it would take the machine's memory"
CODE = """
import os, time

kept = [os.memfd_create(f"m{k}") for k in range(9)]
for file in kept:
    os.posix_fallocate(file, 0, 256 * 2 ** 20)
time.sleep(1)
print($proof)
number = 5
"""


def turn(work: Work) -> None:
    work.answer(number=CODE)
