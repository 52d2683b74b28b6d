"""A student called @A1, whose row in a table would be calculated.

Tries: spreadsheets run a cell that begins like a formula.
Must happen: the table holds it as a text.
"""

from hostile.work import ALL, Work

DESERVES = ALL
STUDENT = "@SUM"


def turn(work: Work) -> None:
    assert work.student == STUDENT
