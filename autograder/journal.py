"""answers.json: what `autograder.check` saw of a notebook's variables, kept beside the notebook.

A grader that runs nothing takes it for what the student says, where the notebook assigns the variable: checks hold it
against the recordings. Functions are not in it.
"""

import ast
import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from autograder import answers, submission
from autograder.answers import AnswerError
from labkit.files import write_whole

FILE = "answers.json"
FORMAT = 1
LARGEST = 8 * 2**20  # bytes of the file
LONGEST = 2**20  # bytes of one answer


def note(folder: Path, replies: Mapping[str, Any]) -> None:
    """Add replies, by the name of the variable, to those in the folder. Where it cannot be written they are lost: a
    check never fails for that."""
    known = read(folder)
    added = {name: reply for name, reply in replies.items() if len(answers.to_bytes(reply)) <= LONGEST}
    together = {name: reply for name, reply in (known | added).items() if name not in replies or name in added}
    content = json.dumps({"format": FORMAT, "answers": together}, sort_keys=True).encode()
    if together != known and len(content) <= LARGEST:
        with contextlib.suppress(OSError):
            write_whole(folder / FILE, content)


def assigned(cells: Iterable[str]) -> frozenset[str]:
    """The names to which these cells of a notebook give a value, as far as Python can read them without running them.

    An answer that no cell assigns was never the notebook's: a run would not find it either.
    """
    found: set[str] = set()
    for source in cells:
        lines = source[: LARGEST // 100].splitlines()
        code = "\n".join("" if line.lstrip().startswith(("%", "!", "?")) else line for line in lines)
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            nodes = ast.walk(ast.parse(code))
            found |= {one.id for one in nodes if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
    return frozenset(found)


def read(folder: Path) -> dict[str, Any]:
    """The replies in a folder, by the name of the variable; none where there is no such file that can be read."""
    try:
        content = submission.beginning(folder / FILE, LARGEST + 1)
        found = answers.from_bytes(content) if len(content) <= LARGEST else None
    except (OSError, AnswerError):
        return {}
    known = found.get("answers") if isinstance(found, dict) and found.get("format") == FORMAT else None
    return known if isinstance(known, dict) else {}
