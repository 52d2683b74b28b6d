"""Sends the grader outputs of its own making, 8 MB for each of many cells, with names of errors that have no end.

Tries: the limit on all outputs together holds in the student's process only; names of errors have none.
Must happen: the grader keeps no more than its limit.
"""

from hostile.work import ALL, Work

DESERVES = ALL
CODE = """
import autograder.worker

huge = [{"output_type": "error", "ename": "x" * 8_000_000, "evalue": "$mark", "traceback": []}]
autograder.worker._run = lambda desk, source, left, limits: (desk.run(source, left), (huge, 1, False))[1]
"""


def turn(work: Work) -> None:
    work.first(CODE)
    work.cells.extend(
        {"cell_type": "code", "id": f"more{k}", "source": "1", "metadata": {}, "outputs": [], "execution_count": None}
        for k in range(30)
    )
