"""Escapes that clear the screen, set its title or write backwards: in errors, answers, files and cell ids.

Tries: an instructor reads reasons on a terminal.
Must happen: no control character reaches it.
"""

from hostile.work import Work, only

DESERVES = only("run", "timeline")
EVIL = "\x1b[2J\x1b[31m\x1b]0;owned\x07\u202e\r\n$student"


def turn(work: Work) -> None:
    evil = work.filled(EVIL)
    work.answer(
        number=f"import sys\nprint({evil!r}, file=sys.stderr)\nnumber = {evil!r}\nraise ValueError({evil!r})",
        softsign=f"def softsign(x):\n    raise ValueError({evil!r})",
        build=f"def build(width):\n    raise type({evil!r}.strip(), (BaseException,), {{}})({evil!r})",
    )
    work.files[evil.replace("/", "")] = b""
    work.cells.insert(0, {"cell_type": "code", "id": evil, "metadata": {}, "source": "1", "outputs": [],
                          "execution_count": None})  # fmt: skip
    work.cells.insert(0, {"cell_type": "code", "id": "ending", "metadata": {"nbgrader": {"grade_id": evil}},
                          "source": "import os; os._exit(3)", "outputs": [], "execution_count": None})  # fmt: skip
