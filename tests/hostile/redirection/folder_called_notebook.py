"""Hands in, beside the notebook, a folder with the name of another notebook, and something in it.

Tries: whoever clears other notebooks away stops at a folder.
Must happen: the honest answers keep their marks.
"""

from pathlib import Path

from hostile.work import ALL, Work

DESERVES = ALL


def turn(work: Work) -> None:
    work.lay.append(_lay)


def _lay(folder: Path) -> None:
    (folder / "more.ipynb").mkdir()
    (folder / "more.ipynb" / "notes.txt").write_text("notes")
