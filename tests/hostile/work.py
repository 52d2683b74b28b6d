"""An honest submission, and the ways in which a hostile one differs from it."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from string import Template
from typing import Any

from hostile.lab import ASSIGNMENT, ESSAY, POINTS, RIGHT, WRONG, own
from hostile.outside import Outside
from labkit.recording import Recording

ALL = dict(POINTS)
NOTHING = dict.fromkeys(POINTS, 0.0)
NOTEBOOK = f"{ASSIGNMENT}.ipynb"

Cell = dict[str, Any]


def only(*tests: str) -> dict[str, float]:
    """The marks of who got just these questions right."""
    return {name: POINTS[name] if name.removeprefix("test_") in tests else 0.0 for name in POINTS}


def without(*tests: str) -> dict[str, float]:
    """The marks of who got all but these questions right."""
    return {name: 0.0 if name.removeprefix("test_") in tests else POINTS[name] for name in POINTS}


@dataclass
class Work:
    """What a student is about to hand in. It starts as a complete and honest submission.

    In every text `$course` and the other words of `Outside.words` are filled in; `$student` is the student's id.
    """

    student: str
    released: dict[str, Any]  # the notebook as it was released
    outside: Outside
    files: dict[str | bytes, bytes] = field(default_factory=dict)  # beside the notebook, by name
    content: bytes | None = None  # of the notebook's file, where it is not what `notebook` gives
    lay: list[Callable[[Path], None]] = field(default_factory=list)  # what no bytes can say: links, pipes, folders

    def __post_init__(self) -> None:
        self.notebook = json.loads(json.dumps(self.released))
        self.answer(**RIGHT)

    @property
    def cells(self) -> list[Cell]:
        found: list[Cell] = self.notebook["cells"]
        return found

    def cell(self, id: str) -> Cell:
        return next(cell for cell in self.cells if cell.get("id") == id)

    def answer(self, **sources: str) -> None:
        """Write something else into these cells."""
        for id, source in sources.items():
            self.cell(id)["source"] = self.filled(source)

    def wrong(self, *ids: str) -> None:
        """Answer wrongly, by default everywhere: code that runs and gives other values."""
        self.answer(**{id: WRONG[id] for id in ids or WRONG})

    def blank(self) -> None:
        """Leave every answer but the id as it was released."""
        before = {cell.get("id"): cell["source"] for cell in self.released["cells"]}
        for id in RIGHT.keys() - {"student_id"}:
            self.cell(id)["source"] = before[id]

    def first(self, code: str) -> None:
        """Code that runs before everything else that the student wrote."""
        self.answer(student_id=f"{RIGHT['student_id']}\n{code}")

    def last(self, code: str) -> None:
        """Code that runs after everything else that the student wrote."""
        self.answer(timeline=f"{RIGHT['timeline']}\n{code}")

    def last_after_wrong(self, code: str) -> None:
        """Wrong answers everywhere, and then this code."""
        self.wrong()
        self.answer(timeline=code)

    def filled(self, text: str) -> str:
        return Template(text).safe_substitute(self.outside.words(self.student))

    @cached_property
    def run(self) -> Recording:
        """The student's own honest run."""
        return trained(self.student)

    def hand_in_run(self, recording: Recording) -> None:
        """Beside the notebook, with digests that fit, as whoever can forge can save."""
        path = self.outside.scratch / "forged.safetensors"
        self.files["run.safetensors"] = recording.save(path).read_bytes()
        # what is handed in has to stand as it is: training anew would mend it
        self.answer(run='recording = labkit.Recording.load("run.safetensors")')

    def write(self, folder: Path) -> None:
        """Into submitted/, as it lies there after collecting."""
        folder.mkdir(parents=True)
        for name, content in self.files.items():
            path = os.path.join(os.fsencode(folder), os.fsencode(name))  # noqa: PTH118  a name may be no text
            with open(path, "wb") as file:  # noqa: PTH123
                file.write(content)
        for lay in self.lay:
            lay(folder)
        if not os.path.lexists(folder / NOTEBOOK):
            (folder / NOTEBOOK).write_bytes(self.content or json.dumps(self.notebook).encode())


def trained(student: str, **changes: Any) -> Recording:
    """An honest run of the student's experiment, or of one that differs in some fields."""
    from labkit.training import train

    return train(own(student).replace(**changes), device="cpu", progress=False)


__all__ = ["ALL", "ESSAY", "NOTEBOOK", "NOTHING", "Work", "only", "trained", "without"]
