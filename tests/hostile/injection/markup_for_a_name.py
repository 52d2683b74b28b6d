"""A student whose name is a script tag.

Tries: names stand in every page and in every path.
Must happen: refused with the reason, shown as text.
"""

from hostile.work import ALL, Work

DESERVES = ALL
STUDENT = "<script>hostile<"


def turn(work: Work) -> None:
    assert work.student == STUDENT
