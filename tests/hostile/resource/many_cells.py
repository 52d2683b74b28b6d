"""A notebook of a hundred thousand cells.

Tries: whoever compares each cell with each cell.
Must happen: refused with the reason, at once.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING


def turn(work: Work) -> None:
    work.blank()
    empty = {"cell_type": "code", "metadata": {}, "source": "", "outputs": [], "execution_count": None}
    work.notebook["cells"] = [*work.cells, *({**empty, "id": f"c{k}"} for k in range(100_000))]
