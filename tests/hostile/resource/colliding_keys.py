"""Answers with a dictionary of numbers whose hashes are all the same.

Tries: the grader, which builds it anew, compares each key with all the others: hours for the whole class.
Must happen: no readable answer, at once; everybody else is graded.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
import autograder.answering

reply = {"value": {"dict": [[k * (2 ** 61 - 1), 0] for k in range(1, 450_000)]}}
autograder.answering.respond = lambda *_: reply
"""


def turn(work: Work) -> None:
    work.last_after_wrong(CODE)
