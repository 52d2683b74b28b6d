"""Lists within lists in the metadata of an added cell: not too deep to be read, too deep to be copied or written.

Tries: a later step, which needs more of the stack than the reader, stops.
Must happen: left out or refused with the reason.
"""

from hostile.work import ALL, Work

DESERVES = ALL
DEPTH = 700


def turn(work: Work) -> None:
    deep: object = []
    for _ in range(DEPTH):
        deep = [deep]
    work.cells.append({"cell_type": "raw", "id": "deep", "source": "x", "metadata": {"deep": deep}})
