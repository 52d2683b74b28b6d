"""Course directories: where nbgrader's own commands, formgrader and JupyterLab find everything.

<course>/nbgrader_config.py             settings
<course>/<name>.py                      an assignment as reviewed text, never released
<course>/source/<name>/<name>.ipynb     built from it; what nbgrader reads
<course>/release/<name>/                for students, without solutions
<course>/gradebook.db                   and submitted/, autograded/, feedback/: nbgrader's
"""

from __future__ import annotations

import difflib
import json
import re
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder import mending
from autograder.authoring import CONFIG, build, notebook_of, rendered, sources, write_if_other
from autograder.gradebook import environment_on_path, first_cause, settings

# what may lie beside a source notebook: nbgrader releases all of it
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".svg"}
# nbgrader's words around what students must not see
SECRETS = re.compile(r"(BEGIN|END) (SOLUTION|HIDDEN TESTS|MARK SCHEME)")


class CourseError(ValueError):
    """A course that cannot be made or released; one sentence with what to do."""


@dataclass(frozen=True)
class Course:
    """A course directory, and what `init` did in it."""

    root: Path
    added: tuple[str, ...]  # files, relative to the root
    kept: tuple[str, ...]  # files that were there and stay as they are

    def __str__(self) -> str:
        kept = f", kept {', '.join(self.kept)}" if self.kept else ""
        return f"{self.root}: added {', '.join(self.added) or 'nothing'}{kept}"


def assignments_home() -> Path:
    """The assignments that come with the package: in a clone beside it, in an installed wheel within it."""
    here = Path(__file__).resolve().parent
    for home in (here / "_assignments", here.parent / "assignments"):
        if (home / CONFIG).is_file():
            return home
    raise CourseError("the assignments are not beside the package: install gradient-lab again")


def init(directory: Path, assignments: list[str] | None = None) -> Course:
    """Make `directory` a course with these assignments, by default all; to a course, add what is missing.

    No file that is there changes. If a file cannot be written, those that were added are taken away again.
    """
    root = directory.absolute()
    _check_place(root)
    home = assignments_home()
    names = _chosen(home, assignments)
    added: list[Path] = []
    try:
        kept = [path for path in _originals(home, names) if not _add(home / path, root / path, added)]
        kept += [path for path in map(_notebook, names) if not _add_notebook(root, path, added)]
    except (OSError, ValueError) as error:
        _take_away(added, root)
        raise CourseError(f"nothing was added to {directory}: {error}") from error
    return Course(root, tuple(str(path.relative_to(root)) for path in added), tuple(map(str, kept)))


def assignments(course: Path) -> list[str]:
    """Every assignment of a course: what has a source, as text or as a notebook alone, or a release."""
    folders = [path.name for room in ("source", "release") for path in (course / room).glob("[!.]*") if path.is_dir()]
    return sorted({*(source.stem for source in sources(course)), *folders})


def named(course: Path, name: str) -> str:
    """The assignment that is meant, also by its folder or a file of it; `CourseError` says which there are."""
    bare = bare_name(name)
    if bare not in (known := assignments(course)):
        raise CourseError(unknown(course, bare, known))
    return bare


def bare_name(name: str) -> str:
    """vanishing_gradients, where a shell completed it to a folder, a source or a notebook."""
    return name.rstrip("/").removesuffix(".ipynb").removesuffix(".py")


def unknown(course: Path, name: str, known: Collection[str]) -> str:
    """The sentence about an assignment that is not there, with those that are, the name most like it first."""
    there = difflib.get_close_matches(name, known, max(1, len(known)), cutoff=0)
    return f"{course.absolute()} has no assignment {name}; there are: {', '.join(there) or 'none'}"


def release(course: Path, assignment: str) -> Path:
    """Build an assignment and let nbgrader make the students' version; the folder that holds it.

    The folder changes only once nbgrader has succeeded and no solution was found in what it made.
    """
    course = course.absolute()
    notebook = build(_source(course, assignment))
    _check_beside(notebook)
    config = settings(course)  # it may register questions
    _check_points(assignment, notebook)
    with tempfile.TemporaryDirectory(prefix=".release-", dir=course) as scratch:
        _generate(course, assignment, config, Path(scratch).name)
        made = Path(scratch) / assignment
        _check_released(made, notebook)
        return _swap(made, course / "release" / assignment)


# init


def _check_place(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise CourseError(f"{root} is a file: name a directory for the course")
    if root.exists() and any(root.iterdir()) and not (root / CONFIG).is_file():
        raise CourseError(f"{root} is not empty and no course ({CONFIG} is missing): name an empty directory")


def _chosen(home: Path, assignments: list[str] | None) -> list[str]:
    known = [source.stem for source in sources(home)]
    for name in assignments or []:
        if name not in known:
            raise CourseError(f"no assignment is called {name}; there are: {', '.join(known) or 'none'}")
    return list(dict.fromkeys(known if assignments is None else assignments))


def _originals(home: Path, names: list[str]) -> list[Path]:
    """What is copied as it is, relative to the home: settings, sources, pictures."""
    beside = [path for name in names for path in sorted((home / _notebook(name)).parent.glob("*"))]
    pictures = [path.relative_to(home) for path in beside if path.suffix in PICTURES]
    # the settings come first: with them, an init that was cut off can be run again
    return [Path(CONFIG), *(Path(f"{name}.py") for name in names), *pictures]


def _notebook(name: str) -> Path:
    return notebook_of(Path(f"{name}.py"))


def _add(original: Path, copy: Path, added: list[Path]) -> bool:
    if copy.exists():
        return False
    write_if_other(copy, original.read_bytes())
    added.append(copy)
    return True


def _add_notebook(root: Path, path: Path, added: list[Path]) -> bool:
    """Built here and not copied: the course's own source may have been edited."""
    if (root / path).exists():
        return False
    write_if_other(root / path, rendered(root / f"{path.stem}.py"))
    added.append(root / path)
    return True


def _take_away(added: list[Path], root: Path) -> None:
    for path in reversed(added):
        path.unlink()
    for folder in sorted({folder for path in added for folder in path.parents}, reverse=True):
        if root in folder.parents and not any(folder.iterdir()):
            folder.rmdir()


# release


def _source(course: Path, assignment: str) -> Path:
    if not (course / CONFIG).is_file():
        raise CourseError(f"{course} is no course, {CONFIG} is missing: make one with `autograder init`")
    known = {source.stem: source for source in sources(course)}
    if assignment not in known:
        raise CourseError(unknown(course, assignment, known))
    return known[assignment]


def _check_beside(notebook: Path) -> None:
    for path in _files(notebook.parent):
        if path.name != notebook.name and path.suffix not in PICTURES and not _hidden(path):
            raise CourseError(
                f"nbgrader would release {path}, which lies beside {notebook.name}: move it "
                f"elsewhere (only {', '.join(sorted(PICTURES))} may stay)"
            )


def _check_points(assignment: str, notebook: Path) -> None:
    """Before nbgrader's gradebook learns them: do the test cells agree with their checks, where there are any?"""
    from autograder import questionnaire  # here and not above: it loads every check's libraries

    if assignment not in questionnaire.assignments():
        return
    try:
        questionnaire.behind(assignment, mending.points_of(mending.read(notebook.read_bytes())))
    except questionnaire.QuestionnaireError as error:
        raise CourseError(str(error)) from error


def _files(folder: Path) -> list[Path]:
    """The files of a folder, relative to it."""
    return [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _generate(course: Path, assignment: str, config: Any, folder: str) -> None:
    """`nbgrader generate_assignment` in this process, into a folder of its own."""
    # here and not above: they take seconds to import
    from nbgrader.converters import GenerateAssignment
    from nbgrader.coursedir import CourseDirectory
    from nbgrader.utils import capture_log

    directory = CourseDirectory(config=config, root=str(course), assignment_id=assignment, release_directory=folder)
    with environment_on_path():
        result = capture_log(GenerateAssignment(coursedir=directory, config=config))
    if not result["success"]:
        raise CourseError(f"nbgrader could not release {assignment}: {first_cause(result)}")


def _check_released(made: Path, notebook: Path) -> None:
    found = set(_files(made))
    expected = {path for path in _files(notebook.parent) if path.suffix in PICTURES} | {Path(notebook.name)}
    for path in sorted(found ^ expected):
        raise CourseError(
            f"the release would {'show' if path in found else 'lack'} {path}: see CourseDirectory.ignore in {CONFIG}"
        )
    source = {cell["id"]: cell for cell in _cells(notebook)}
    for cell in _cells(made / notebook.name):
        _check_cell(cell, source.get(cell["id"], {"source": "", "metadata": {}}))


def _cells(notebook: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(notebook.read_text("utf-8"))["cells"]
    return cells


def _check_cell(cell: dict[str, Any], source: dict[str, Any]) -> None:
    text = "".join(cell["source"])
    solved = source["metadata"].get("nbgrader", {}).get("solution", False)
    if SECRETS.search(text) or (solved and text == "".join(source["source"])) or cell.get("outputs"):
        raise CourseError(
            f"the release of cell {cell['id']} would show what its source hides: see "
            f"ClearSolutions and GenerateAssignment in {CONFIG}"
        )


def _swap(made: Path, target: Path) -> Path:
    target.parent.mkdir(exist_ok=True)
    if target.exists():
        # out of the way under another name, so that students never find half of two releases
        target.replace(made.with_name(".before"))
    made.replace(target)
    return target
