"""Makes files of 4 GB and removes each at once, while it keeps them open.

Tries: no folder names them, so whoever adds up folders finds nothing, and the disk is full.
Must happen: a limit; what was right elsewhere counts.
"""

from hostile.work import Work, without

DESERVES = without("number")
SPARED = "it would fill the disk"
CODE = """
import os, time

kept = []
for k in range(16):
    kept.append(open(f"$student-{k}", "wb"))
    os.remove(f"$student-{k}")
    os.posix_fallocate(kept[-1].fileno(), 0, 256 * 2 ** 20)
time.sleep(2.5)
print($proof)
number = 5
"""


def turn(work: Work) -> None:
    work.answer(number=CODE)
