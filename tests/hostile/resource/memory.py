"""Takes 2 GB, written to, and keeps them.

Tries: the machine of the grader, and of everybody graded beside it.
Must happen: a MemoryError in that cell; what was right elsewhere counts.
"""

from hostile.work import Work, without

DESERVES = without("number")
CODE = """
kept = []
for _ in range(32):
    kept.append(bytearray(b"x") * (64 * 2 ** 20))
number = 5
"""


def turn(work: Work) -> None:
    work.answer(number=CODE)
