"""Test cells turned into text, answers into raw cells, the essay into code.

Tries: a test that is no code cannot fail.
Must happen: each cell is again what it was; right answers count, and here there are none.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING


def turn(work: Work) -> None:
    work.blank()
    for cell in work.cells:
        kind = cell["cell_type"]
        if cell["metadata"].get("nbgrader"):
            cell["cell_type"] = {"code": "markdown", "markdown": "code"}[kind]
            cell.pop("outputs", None)
            cell.pop("execution_count", None)
            if kind == "markdown":
                cell.update(outputs=[], execution_count=None)
