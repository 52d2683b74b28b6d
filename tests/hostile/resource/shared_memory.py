"""Takes 1.7 GB of memory that it could share with its children.

Tries: the limit on memory that a process writes for itself counts none of it.
Must happen: a limit; what was right elsewhere counts.
"""

from hostile.work import Work, without

DESERVES = without("number")
SPARED = "it would take the machine's memory"
CODE = """
import mmap, time

at_once = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | 0x8000
kept = [mmap.mmap(-1, 64 * 2 ** 20, flags=at_once) for _ in range(27)]
time.sleep(1)
print($proof)
number = 5
"""


def turn(work: Work) -> None:
    work.answer(number=CODE)
