"""Cells that only draw, as they were released: they decide about nothing, and cost more than all others together.

Grading leaves them out, and shows in their place what the student's own run had drawn.
"""

import ast
import json
from collections.abc import Iterable
from typing import Any

from autograder.outputs import MOST_IN_ALL, Output, checked, size

ROOM = "plots"  # labkit's room of figures, by the name that the labs' notebooks import it under


def drawing(cells: Iterable[dict[str, Any]]) -> frozenset[str]:
    """The sources of the code cells that call figures and do nothing else."""
    sources = (cell["source"].strip() for cell in cells if cell["cell_type"] == "code")
    return frozenset(source for source in sources if _only_draws(source))


def _only_draws(source: str) -> bool:
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError):
        return False
    return bool(body) and all(isinstance(line, ast.Expr) and _is_figure(line.value) for line in body)


def _is_figure(call: ast.expr) -> bool:
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == ROOM
    )


def handed_in(content: bytes, sources: frozenset[str]) -> dict[str, list[Output]]:
    """What stands under cells of these sources in a notebook, rebuilt as the outputs of a run are; by source."""
    try:
        cells = json.loads(content.decode("utf-8-sig"))["cells"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return {}
    found: dict[str, list[Output]] = {}
    left = MOST_IN_ALL
    for cell in cells if isinstance(cells, list) else []:
        source = _joined(cell.get("source")).strip() if isinstance(cell, dict) else ""
        if source in sources and source not in found and isinstance(cell.get("outputs"), list):
            found[source] = checked([_whole(output) for output in cell["outputs"]], left)
            left -= sum(map(size, found[source]))
    return found


def _whole(output: Any) -> Any:
    """An output with its texts in one piece; a file may hold them line by line."""
    if not isinstance(output, dict):
        return output
    data = output.get("data")
    parts = {mime: _joined(part) for mime, part in data.items()} if isinstance(data, dict) else data
    return {**output, "text": _joined(output.get("text")), "data": parts}


def _joined(text: Any) -> str:
    lines = text if isinstance(text, list) else [text]
    return "".join(line for line in lines if isinstance(line, str))
