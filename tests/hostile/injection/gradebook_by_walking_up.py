"""Walks up from its folder to a gradebook.db and gives itself, and everybody, full marks.

Tries: nbgrader's kernel runs inside the course with the instructor's rights.
Must happen: there is no gradebook to be found; no mark of anybody changes.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
import sqlite3
from pathlib import Path

for folder in Path.cwd().parents:
    book = folder / "gradebook.db"
    # only that of the course of this trial: other people's lie on this machine, too
    if book.is_file() and str(book).startswith("$course"):
        with sqlite3.connect(book, timeout=5) as base:
            base.execute("UPDATE grade SET manual_score = 2, extra_credit = 5")
            base.execute("UPDATE comment SET manual_comment = 'well done'")
            print($proof)
"""


def turn(work: Work) -> None:
    work.blank()
    work.first(CODE)
