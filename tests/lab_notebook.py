"""An assignment's built notebook, run in the tests' own process: its variables, its recordings, what a check loses."""

import ast
import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autograder import authoring, checks, questionnaire
from autograder.cells import without_solutions
from autograder.classroom import MARKS, Kind
from autograder.selfcheck import evidence as live_evidence
from labkit.recording import Recording

Solved = tuple[dict[str, Any], dict[str, Recording]]  # variables, and recordings by name
Lost = dict[str, tuple[float, str]]  # points and words of each check that does not pass


class LabNotebook:
    """The notebook of one assignment."""

    def __init__(self, lab: str) -> None:
        self.lab = lab
        self.points = {name: question.points for name, question in questionnaire.of(lab).items()}
        self.source = Path(__file__).parent.parent / "assignments" / f"{lab}.py"
        self.path = authoring.notebook_of(self.source)

    def cells(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.path.read_bytes())["cells"]
        return found

    def code_cells(self) -> Iterator[tuple[str, str]]:
        """Names and texts of answers and of what is given: neither checks nor figures."""
        for cell in self.cells():
            told, text = cell["metadata"].get("nbgrader", {}), "".join(cell["source"])
            if cell["cell_type"] == "code" and not text.startswith(("plots.", "autograder.check")):
                yield told.get("grade_id", cell["id"]), text

    def points_of_cells(self) -> dict[str, float]:
        """Of the test cells, by question."""
        told = [cell["metadata"].get("nbgrader", {}) for cell in self.cells()]
        tests = [one for one in told if one.get("grade") and not one.get("solution")]
        return {one["grade_id"].removeprefix("test_"): one["points"] for one in tests}

    def solved(self, folder: Path) -> Solved:
        """The solution's variables, for the student ada, and its recordings by name."""
        namespace: dict[str, Any] = {}
        with contextlib.chdir(folder):
            for name, text in self.code_cells():
                text = MARKS.sub("", text).replace('student = "solution"', 'student = "ada"')
                exec(compile(text, name, "exec"), namespace)
        asked = questionnaire.recordings(self.lab, "ada")
        return namespace, {name: Recording.load(folder / f"{name}.safetensors") for name in asked}

    def untouched(self) -> dict[str, Any]:
        """The variables of a release in which nothing was answered."""
        namespace: dict[str, Any] = {}
        for name, text in self.code_cells():
            try:
                exec(compile(without_solutions(text), name, "exec"), namespace)
            except NameError:
                continue  # what an answer would have made
            except RuntimeError as error:
                if error.args:  # the blank's own says nothing
                    raise
        return namespace

    def lost(self, name: str, namespace: Mapping[str, Any], runs: Mapping[str, Recording]) -> Lost:
        """What does not pass of a question; a check that breaks is an error."""
        evidence = live_evidence(dict(namespace), Path("/nowhere"))
        # one salt and the same objects: what was once examined is known
        evidence.salt, evidence._recordings = b"salt", dict(runs)
        verdicts = checks.run(questionnaire.of(self.lab)[name], evidence)
        broken = [verdict.trace for verdict in verdicts if verdict.outcome == "broken"]
        assert not broken, broken[0]
        return {v.check: (v.of, f"{v.found} {v.help}") for v in verdicts if v.outcome != "passed"}

    def lost_by(self, kind: Kind, solved: Solved, folder: Path) -> tuple[dict[str, float], str]:
        """The points that a kind of student loses by edits, by question, and what is said.

        The notebook runs on from the first edited cell; trainings that the edits do not change are found in the folder.
        """
        namespace, runs = dict(solved[0]), dict(solved[1])
        for name, run in runs.items():
            run.save(folder / f"{name}.safetensors")
        before = {path.stem: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
        cells = edited = dict(self.code_cells())
        for edit in kind.edits:
            edited = edit.apply(edited)
        for edit in kind.edits:
            for made in _makes(edited[edit.cell]):
                namespace.pop(made, None)
        first = min(list(cells).index(edit.cell) for edit in kind.edits)
        with contextlib.chdir(folder):
            for name in list(cells)[first:]:
                with contextlib.suppress(Exception):  # as in a notebook, the next cell runs all the same
                    exec(compile(MARKS.sub("", edited[name]), name, "exec"), namespace)
        for path in folder.glob("*.safetensors"):
            if path.stem in runs and path.stat().st_mtime_ns != before[path.stem]:
                runs[path.stem] = Recording.load(path)
        missing = {name: self.lost(name, namespace, runs) for name in self.points}
        points = {name: sum(of for of, _ in each.values()) for name, each in missing.items() if each}
        return points, " ".join(words for each in missing.values() for _, words in each.values())

    def earned_by(self, name: str, namespace: Mapping[str, Any], folder: Path) -> float:
        """What a question gives for these variables and the files in a folder."""
        verdicts = checks.run(questionnaire.of(self.lab)[name], live_evidence(dict(namespace), folder))
        assert not checks.needs_person(verdicts)
        return checks.earned(verdicts)


def _makes(text: str) -> set[str]:
    """The names that a cell gives values to."""
    return set(compile(text, "cell", "exec").co_names) & {
        node.id if isinstance(node, ast.Name) else node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    }
