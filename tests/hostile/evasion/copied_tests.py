"""Every test cell three times: an empty one first, one that gives 10.0, and the true one last.

Tries: the first, the last or the best copy of a grade id might count.
Must happen: blanks earn nothing, and the copies are named.
"""

import copy

from hostile.work import NOTHING, Work

DESERVES = NOTHING


def turn(work: Work) -> None:
    work.blank()
    cells = []
    for cell in work.cells:
        if (cell.get("id") or "").startswith("test_"):
            for source in ("pass", "10.0"):
                made = copy.deepcopy(cell)
                made["source"] = source
                cells.append(made)
        cells.append(cell)
    work.notebook["cells"] = cells
