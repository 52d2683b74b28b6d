"""Hands in four thousand files and a hundred folders within folders.

Tries: whoever walks through them, copies them, and names them in a log.
Must happen: refused with the reason.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING


def turn(work: Work) -> None:
    work.blank()
    work.files.update({f"file-{k}.txt": b"" for k in range(4000)})
    work.lay.append(lambda folder: (folder / "/".join(["deep"] * 100)).mkdir(parents=True))
