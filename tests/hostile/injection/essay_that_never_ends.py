"""An essay of formulas that begin and never end, 400 KB of it.

Tries: nbgrader's page looks for the end of each: hours for one student's feedback.
Must happen: the page is made at once.
"""

from hostile.work import ALL, ESSAY, Work

DESERVES = ALL


def turn(work: Work) -> None:
    work.answer(**{ESSAY: "\\begin{a}" * 15_000 + "\n\n" + "\\\\[" * 30_000 + "\n\na" + " " * 50_000 + "b"})
