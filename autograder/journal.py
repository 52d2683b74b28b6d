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

import numpy as np

from autograder import answers, submission
from autograder.answers import AnswerError
from labkit.files import write_whole

FILE = "answers.json"
FORMAT = 1
LARGEST = 8 * 2**20  # bytes of the file
LONGEST = 2**20  # bytes of one answer
# of an answer's largest number: rounding on another machine leaves 1e-5 of it, and checks allow more than this
NEAR = 1e-3


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


def lacking(known: Mapping[str, Any], replies: Mapping[str, Any]) -> list[str]:
    """The names of these replies that could be noted, and are not."""
    return [name for name, reply in replies.items() if name not in known and len(answers.to_bytes(reply)) <= LONGEST]


def unlike(known: Mapping[str, Any], replies: Mapping[str, Any]) -> list[str]:
    """The names under which something else is noted than these replies say, beyond rounding."""
    return [name for name, reply in replies.items() if name in known and not _same(known[name], reply)]


def _same(noted: Any, now: Any) -> bool:
    try:
        return _alike(answers.decode(noted["value"]), answers.decode(now["value"]))
    except (AnswerError, KeyError, TypeError):
        return False


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float | np.ndarray) and isinstance(other, float | np.ndarray):
        return _near(np.asarray(one, np.float64), np.asarray(other, np.float64))
    return type(one) is type(other) and bool(one == other)


def _near(one: answers.Array, other: answers.Array) -> bool:
    size = np.abs(other[np.isfinite(other)]).max(initial=0)
    return one.shape == other.shape and np.allclose(one, other, rtol=0, atol=NEAR * size, equal_nan=True)
