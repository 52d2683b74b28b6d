"""All test cells are gone, and honest answers to two questions are left.

Tries: where there is no test, none can fail.
Must happen: the questions are asked all the same.
"""

from hostile.work import Work, only

DESERVES = only("number", "build")


def turn(work: Work) -> None:
    work.wrong("softsign", "run", "timeline")
    work.notebook["cells"] = [cell for cell in work.cells if not (cell.get("id") or "").startswith("test_")]
