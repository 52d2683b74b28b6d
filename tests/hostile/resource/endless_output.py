"""Prints without end, on stdout and on stderr, a line at a time and a megabyte at a time.

Tries: the memory of whoever keeps what is printed, and the pages that show it.
Must happen: the output is cut, the cell ends; what was right elsewhere counts.
"""

from hostile.work import Work, without

DESERVES = without("number")
CODE = """
import sys
while True:
    print("x" * 1_000_000)
    print("y", file=sys.stderr)
"""


def turn(work: Work) -> None:
    work.answer(number=CODE)
