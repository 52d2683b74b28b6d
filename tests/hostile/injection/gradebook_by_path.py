"""Opens the gradebook by its absolute path, writes marks, and makes a trigger that does so ever after.

Tries: a trigger in the database raises marks long after this process has ended.
Must happen: the gradebook cannot be reached.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
import sqlite3
from pathlib import Path

if Path("$course/gradebook.db").exists():
    with sqlite3.connect("$course/gradebook.db", timeout=5) as base:
        base.execute("UPDATE grade SET manual_score = 2")
        base.execute("CREATE TRIGGER generous AFTER UPDATE ON grade BEGIN UPDATE grade SET auto_score = 2; END")
        print($proof)
"""


def turn(work: Work) -> None:
    work.blank()
    work.last_after_wrong(CODE)
