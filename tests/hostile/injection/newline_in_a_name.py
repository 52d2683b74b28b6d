"""A student whose name has two lines and an escape.

Tries: logs, tables and shell scripts go by lines.
Must happen: refused with the reason; nobody else is stopped.
"""

from hostile.work import ALL, Work

DESERVES = ALL
STUDENT = "two\nlines\x1b[31m"


def turn(work: Work) -> None:
    assert work.student == STUDENT
