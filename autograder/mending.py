"""A submitted notebook put in order, so that every cell of the release is there once and is what it was.

Students delete, copy, move and retype cells, and editors drop metadata; nbgrader stops at several of these. Cells
are found again by grade id, then by cell id, then by content, then by the place between their neighbours. Pure
functions over a notebook's JSON; the same submission is always mended alike.
"""

import copy
import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from autograder.cells import CODE_STUB

Cell = dict[str, Any]
Notebook = dict[str, Any]

LARGEST = 50 * 2**20  # bytes of a notebook, figures included
MOST_CELLS = 2000
ALIKE = 0.6  # how much of a released cell must be left for it to be recognised
STUBS = {*CODE_STUB.splitlines(), "YOUR ANSWER HERE"}  # what nbgrader leaves where a solution stood
FLAGS = ("grade", "solution", "locked", "task")
PUT_BACK = "autograder_put_back"  # in the metadata of a released cell that the submission lacks
CELL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class MendingError(ValueError):
    """What was handed in is no notebook that can be graded; one sentence that says why and what to do."""


def read(content: bytes) -> Notebook:
    """The notebook in `content`, in nbformat 4.5's form and without outputs, whoever wrote it."""
    if len(content) > LARGEST:
        raise MendingError(
            f"the notebook has {len(content) / 1e6:,.0f} MB, at most {LARGEST / 1e6:,.0f} can be "
            "graded: clear its outputs and hand it in again"
        )
    if b"\0" in content:
        raise MendingError("the notebook holds null bytes and is damaged: hand it in again")
    try:
        found = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise MendingError(
            "the file is not a readable notebook (no JSON, cut off or nested too deep): "
            "save it in JupyterLab and hand it in again"
        ) from error
    return normal(found)


def normal(found: object) -> Notebook:
    """`read`'s form of what JSON gave."""
    notebook = found if isinstance(found, dict) else {}
    major = notebook.get("nbformat")
    if type(major) is int and major != 4:
        raise MendingError(
            f"the notebook has format {major}, format 4 is needed: open it in JupyterLab, save it and hand it in again"
        )
    cells = notebook.get("cells")
    if major != 4 or not isinstance(cells, list):
        raise MendingError("the file is JSON but not a notebook: hand in the notebook itself")
    if len(cells) > MOST_CELLS:
        raise MendingError(f"the notebook has {len(cells):,} cells, at most {MOST_CELLS:,} can be graded")
    metadata = notebook.get("metadata")
    return {
        "cells": [_normal_cell(cell) for cell in cells if isinstance(cell, dict)],
        "metadata": metadata if isinstance(metadata, dict) else {},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _normal_cell(cell: Cell) -> Cell:
    """What every cell has, each part of its kind; what the format does not know is left out."""
    metadata = cell.get("metadata")
    kind = cell.get("cell_type")
    made: Cell = {
        "cell_type": kind if kind in ("code", "markdown") else "raw",
        "source": _joined(cell.get("source")),
        "metadata": dict(metadata) if isinstance(metadata, dict) else {},
    }
    if isinstance(cell.get("id"), str):
        made["id"] = cell["id"]
    attachments = cell.get("attachments")
    if kind == "markdown" and isinstance(attachments, dict):
        made["attachments"] = {
            str(name): shown
            for name, bundle in attachments.items()
            if isinstance(bundle, dict)
            # nbgrader's page stops at one that is empty
            if (shown := {str(mime): data for mime, data in bundle.items() if isinstance(data, str)})
        }
    return _as_kind(made, made["cell_type"])


def _joined(source: object) -> str:
    """A source is a text or a list of lines. Half of a surrogate pair cannot be written to any file."""
    lines = source if isinstance(source, list) else [source]
    text = "".join(line for line in lines if isinstance(line, str))
    return text.encode("utf-8", "replace").decode()


def _as_kind(cell: Cell, kind: str) -> Cell:
    """The cell as one of that type."""
    cell["cell_type"] = kind
    if kind == "code":
        cell.pop("attachments", None)
        cell.update(outputs=[], execution_count=None)
    else:
        cell.pop("outputs", None)
        cell.pop("execution_count", None)
    return cell


def grade_id(cell: Cell) -> str:
    """The grade id in a cell's metadata; empty where there is none."""
    found = cell["metadata"].get("nbgrader")
    name = found.get("grade_id") if isinstance(found, dict) else None
    graded = isinstance(found, dict) and any(found.get(flag) is True for flag in FLAGS)
    return name if graded and isinstance(name, str) else ""


def _flag(cell: Cell, name: str) -> bool:
    return bool(cell["metadata"]["nbgrader"].get(name))


def is_test(cell: Cell) -> bool:
    """Is it a cell whose marks come from checks?"""
    return bool(grade_id(cell)) and cell["cell_type"] == "code" and _flag(cell, "grade") and not _flag(cell, "solution")


def points_of(notebook: Notebook) -> dict[str, float]:
    """The points of each test cell, by its grade id."""
    tests = [cell for cell in notebook["cells"] if is_test(cell)]
    return {grade_id(cell): float(cell["metadata"]["nbgrader"].get("points", math.nan)) for cell in tests}


@dataclass
class _Desk:
    """The state of one mending: which submitted cell is which released one."""

    released: list[Cell]
    submitted: list[Cell]

    def __post_init__(self) -> None:
        self.place: dict[int, int] = {}  # released index -> submitted index
        self.remarks: list[str] = []

    @property
    def taken(self) -> set[int]:
        return set(self.place.values())

    def missing(self, named: bool = True) -> list[int]:
        """Released cells without a match; with `named` only those that nbgrader knows."""
        return [k for k, cell in enumerate(self.released) if k not in self.place and (not named or grade_id(cell))]

    def free(self) -> list[int]:
        return [k for k in range(len(self.submitted)) if k not in self.taken]


def mend(submitted: Notebook, released: Notebook) -> tuple[Notebook, list[str]]:
    """The submitted notebook with every released cell in its place, and a sentence for each thing that was mended.

    Both in `read`'s form. Cells that the student added stay; the order of the cells stays the student's. A notebook
    with the test cells of another assignment, and none of this one's, raises `MendingError`.
    """
    here, there = ({grade_id(cell) for cell in one["cells"] if is_test(cell)} for one in (submitted, released))
    if here and there and not here & there:
        raise MendingError(
            f"the notebook is another assignment's: it tests {', '.join(sorted(here))[:80]}, "
            f"this one {', '.join(sorted(there))[:80]}"
        )
    desk = _Desk(released["cells"], [{**cell, "metadata": _known(cell["metadata"])} for cell in submitted["cells"]])
    _match_grade_ids(desk)
    _match_cell_ids(desk)
    _match_same_content(desk)
    _match_similar_content(desk)
    _match_by_place(desk)
    cells = _restored(desk)
    _name_all(cells, desk)
    return {**copy.deepcopy(released), "cells": cells}, desk.remarks


def _known(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What mending goes by, without what a student's notebook may say besides: nbgrader stops at what has no form."""
    found = metadata.get("nbgrader")
    kept: dict[str, Any] = {PUT_BACK: True} if metadata.get(PUT_BACK) is True else {}
    if isinstance(found, dict):
        name = found.get("grade_id")
        kept["nbgrader"] = {flag: True for flag in FLAGS if found.get(flag) is True}
        kept["nbgrader"] |= {"grade_id": name} if isinstance(name, str) else {}
    return kept


# Finding cells again


def _match_grade_ids(desk: _Desk) -> None:
    known = {grade_id(cell): k for k, cell in enumerate(desk.released) if grade_id(cell)}
    candidates: dict[int, list[int]] = {}
    for s, cell in enumerate(desk.submitted):
        name = grade_id(cell)
        if name in known:
            candidates.setdefault(known[name], []).append(s)
        elif name:
            desk.remarks.append(f"The assignment has no cell {name[:80]!r}: it counts as one that was added.")
    for r, found in candidates.items():
        desk.place[r] = _first_worked_on(desk, r, found)
        if len(found) > 1:
            desk.remarks.append(
                f"The cell {grade_id(desk.released[r])} is there {len(found)} times: the first one "
                "that was worked on counts."
            )


def _first_worked_on(desk: _Desk, r: int, found: Iterable[int]) -> int:
    """Of several copies of an answer the first that is neither empty nor as it was released."""
    candidates = list(found)
    untouched = {"", desk.released[r]["source"].strip()}
    worked_on = (s for s in candidates if desk.submitted[s]["source"].strip() not in untouched)
    return next(worked_on, candidates[0])


def _match_cell_ids(desk: _Desk) -> None:
    known = {cell["id"]: k for k, cell in enumerate(desk.released) if "id" in cell}
    free = set(desk.free())
    for s, cell in enumerate(desk.submitted):
        r = known.get(cell.get("id", ""))
        if r is not None and s in free and r not in desk.place:
            desk.place[r] = s
            _remark_lost_name(desk, r)


def _match_same_content(desk: _Desk) -> None:
    free: dict[str, list[int]] = {}
    for s in desk.free():
        free.setdefault(desk.submitted[s]["source"].strip(), []).append(s)
    for r in desk.missing(named=False):
        found = free.get(desk.released[r]["source"].strip(), [])
        # YOUR ANSWER HERE stands in every essay: such a text says nothing
        if found and _words(desk.released[r]["source"]):
            desk.place[r] = found.pop(0)
            _remark_lost_name(desk, r)


def _match_similar_content(desk: _Desk) -> None:
    for r in desk.missing():
        wanted = _words(desk.released[r]["source"])
        scores = [(_alike(wanted, _words(desk.submitted[s]["source"])), -s) for s in desk.free()]
        best, place = max(scores, default=(0.0, 0))
        if best >= ALIKE:
            desk.place[r] = -place
            _remark_lost_name(desk, r)


def _words(source: str) -> list[str]:
    """The lines that say something, without the stubs that every released answer has."""
    return [line.strip() for line in source.splitlines() if line.strip() and line.strip() not in STUBS][:500]


def _alike(wanted: list[str], found: list[str]) -> float:
    """How much of `wanted` is still in `found`, in order; what was added does not count."""
    if not wanted or not found:
        return 0.0
    blocks = difflib.SequenceMatcher(None, wanted, found, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / len(wanted)


def _match_by_place(desk: _Desk) -> None:
    """A cell whose two neighbours are where they were, and which stands alone between them."""
    for r in desk.missing():
        before, after = desk.place.get(r - 1), desk.place.get(r + 1)
        s = -1 if r > 0 and before is None else (before + 1 if before is not None else 0)
        end = len(desk.submitted) if r + 1 == len(desk.released) else after
        fits = 0 <= s < len(desk.submitted) and end == s + 1 and s not in desk.taken
        if fits and desk.submitted[s]["cell_type"] == desk.released[r]["cell_type"]:
            desk.place[r] = s
            _remark_lost_name(desk, r)


def _remark_lost_name(desk: _Desk, r: int) -> None:
    name = grade_id(desk.released[r])
    if name:
        desk.remarks.append(f"The cell {name} had lost its metadata and was recognised.")


# Putting back


def _restored(desk: _Desk) -> list[Cell]:
    origin = {s: r for r, s in desk.place.items()}
    _remark_order(desk)
    cells = desk.submitted
    known = [_as_released(desk, origin[s], cell) if s in origin else _added(cell) for s, cell in enumerate(cells)]
    return _with_deleted(desk, known)


def _as_released(desk: _Desk, r: int, cell: Cell) -> Cell:
    """What the release decides about a cell is as released; what the student wrote stays."""
    released = desk.released[r]
    name = grade_id(released)
    if not name:
        return _added(cell)
    if cell["cell_type"] != released["cell_type"]:
        desk.remarks.append(
            f"The cell {name} was turned into {cell['cell_type']}: it is {released['cell_type']} again."
        )
        cell = _as_kind(cell, released["cell_type"])
    if not _flag(released, "solution") and cell["source"] != released["source"]:
        desk.remarks.append(f"The cell {name} was changed, and is not yours to change: it is as released again.")
        cell["source"] = released["source"]
    blank = is_blank_put_back(cell) and cell["source"] == released["source"]
    cell["metadata"] = copy.deepcopy(released["metadata"]) | ({PUT_BACK: True} if blank else {})
    cell["id"] = released.get("id", "")
    return cell


def _added(cell: Cell) -> Cell:
    for key in ("nbgrader", PUT_BACK):
        cell["metadata"].pop(key, None)
    return cell


def is_blank_put_back(cell: Cell) -> bool:
    """Is this the blank of an answer that was deleted, perhaps because the answer stands in another cell?"""
    return cell["metadata"].get(PUT_BACK) is True


def _with_deleted(desk: _Desk, cells: list[Cell]) -> list[Cell]:
    """Each deleted cell after the one that it followed in the release."""
    behind: dict[int, list[Cell]] = {}
    for r in desk.missing():
        anchor = max((k for k in desk.place if k < r), default=None)
        back = copy.deepcopy(desk.released[r])
        if _flag(back, "solution"):
            back["metadata"][PUT_BACK] = True
        behind.setdefault(-1 if anchor is None else desk.place[anchor], []).append(back)
        desk.remarks.append(f"The cell {grade_id(desk.released[r])} was deleted: it is back as released.")
    whole = list(behind.get(-1, []))
    for s, cell in enumerate(cells):
        whole += [cell, *behind.get(s, [])]
    return whole


def _remark_order(desk: _Desk) -> None:
    order = [desk.place[r] for r in sorted(desk.place) if grade_id(desk.released[r])]
    if order != sorted(order):
        desk.remarks.append("Cells stand in another order than in the release: they were run in the order handed in.")


def _name_all(cells: list[Cell], desk: _Desk) -> None:
    """Each cell under an id of its own, the same whenever the same notebook is mended."""
    kept = {cell["id"] for cell in desk.released if grade_id(cell) and cell.get("id")}
    for number, cell in enumerate(cells):
        name = grade_id(cell)
        if name:
            cell["id"] = cell.get("id") or name
            continue
        if not CELL_ID.fullmatch(cell.get("id", "")) or cell["id"] in kept:
            cell["id"] = next(new for k in range(number, 10 * MOST_CELLS) if (new := f"added-{k}") not in kept)
        kept.add(cell["id"])
