"""`autograder.check("name")` and `autograder.check()`: the grader's checks, run by the student on the notebook as it is
now."""

import contextlib
import os
import re
import secrets
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from autograder import answering, answers, checks, journal, mending, questionnaire, readiness, showing
from autograder.evidence import AnsweredEvidence
from autograder.mending import MendingError, Notebook
from autograder.readiness import Asked, Readiness
from labkit.maps import Map
from labkit.recording import Recording

# anybody may know it: the grader draws its inputs from a seed of its own
PUBLIC_SEED = 20_240_229
STUDENT = "student"  # the variable in which a notebook keeps whose it is
CHECKED = re.compile(r"""autograder\.check\(\s*["'](\w+)["']\s*\)""")
# one for the session: what was audited is not audited again for the next question
SALT = secrets.token_bytes(16)


def check(name: str | None = None) -> float:
    """Show what the checks of a question say about this notebook now; the points they would give.

    Without a name: all questions of the lab, the texts in the saved notebook, and the files to hand in.
    The recordings and the timeline are those in the working directory. A check that fails raises nothing.
    """
    namespace = _namespace(sys._getframe(1).f_globals)
    if name is None:
        return _check_all(namespace, Path.cwd())
    question = questionnaire.find(name)
    live = evidence(namespace, Path.cwd())
    verdicts = checks.run(question, live)
    if _shell() is not None:
        journal.note(Path.cwd(), live.said)
    (once,) = showing.said_once([(question.title, verdicts)])
    said = (question.title, once, question.points)
    _show(showing.as_html(*said), showing.as_text(*said))
    return checks.earned(verdicts)


def _check_all(namespace: dict[str, Any], folder: Path) -> float:
    path, found = saved_notebook(namespace, folder) or (None, None)
    assignment = readiness.assignment_of(found) if found else readiness.asking(_checked(namespace))
    if not assignment:
        sentence = (
            "Which lab is this? No notebook of a lab was found here, and no check has been run yet: "
            "save the notebook, or run one of its checks first."
        )
        _show(showing.as_lines(sentence), sentence)
        return 0.0
    state = ready(assignment, namespace, folder, path, found)
    _show(showing.readiness_html(state), showing.readiness_text(state))
    return state.points


def ready(
    assignment: str, namespace: dict[str, Any], folder: Path, path: Path | None = None, found: Notebook | None = None
) -> Readiness:
    """How far the lab is: its variables, the files in the folder, and the notebook as it was saved at `path`."""
    live = evidence(namespace, folder)
    asked = []
    for question in questionnaire.of(assignment).values():
        verdicts = checks.run(question, live)
        asked.append(Asked(question.title, question.points, tuple(verdicts), checks.earned(verdicts)))
    if _shell() is not None:
        journal.note(folder, live.said)
    seen = f" and {path.name} as it was saved {saved_at(path)}" if path else ""
    return Readiness(
        assignment=assignment,
        student=live.student,
        asked=tuple(asked),
        texts=tuple(readiness.texts(found)) if found else (),
        files=tuple(readiness.files(assignment, live.student, folder, found, live.said)),
        blanks=tuple(readiness.blanks(found)) if found else (),
        remarks=tuple(readiness.deleted(assignment, found)) if found else (),
        looked_at=f"the variables of this session, the files in {folder.name or folder}{',' if seen else ''}{seen}",
        mended=tuple(_unlike(namespace, found)) if found else (),
        saved=found is not None,
    )


def saved_notebook(namespace: dict[str, Any], folder: Path) -> tuple[Path, Notebook] | None:
    """The file of the notebook that this kernel runs, as far as that can be known: what the front end says, else the
    notebook of a lab in the folder that was saved last."""
    said = [os.environ.get("JPY_SESSION_NAME"), namespace.get("__vsc_ipynb_file__")]
    named = [folder / Path(one).name for one in said if isinstance(one, str) and one.endswith(".ipynb")]
    beside = sorted(folder.glob("*.ipynb"), key=_saved, reverse=True)
    for path in (*named, *beside):
        with contextlib.suppress(OSError, MendingError):
            found = mending.read(path.read_bytes())
            if readiness.assignment_of(found):
                return path, found
    return None


def _saved(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def saved_at(path: Path) -> str:
    """When a file was saved, in words."""
    try:
        moment = datetime.fromtimestamp(path.stat().st_mtime)
    except OSError:
        return "at some time"
    same = moment.date() == datetime.now().date()
    return f"at {moment:%H:%M:%S}" if same else f"on {moment.day} {moment:%B %Y} at {moment:%H:%M}"


def _checked(namespace: dict[str, Any]) -> list[str]:
    """The questions that were checked in this session."""
    return [name for source in _ran(namespace) for name in CHECKED.findall(source)]


def _ran(namespace: dict[str, Any]) -> list[str]:
    """The cells that IPython has run in this session."""
    history = namespace.get("_ih")
    return [source for source in history if isinstance(source, str)] if isinstance(history, list) else []


def _unlike(namespace: dict[str, Any], found: Notebook) -> list[str]:
    """Answers that stand in the saved notebook otherwise than they were run: one of the two is out of date."""
    ran = {source.strip() for source in _ran(namespace)}
    if not ran:
        return []
    cells = [cell for cell in found["cells"] if cell["cell_type"] == "code" and readiness.has(cell, "solution")]
    other = [cell for cell in cells if not readiness.is_blank(cell) and cell["source"].strip() not in ran]
    return [
        f"The cell {mending.grade_id(cell)} has not been run as it stands in the saved notebook: "
        "save the notebook, or run the cell again"
        for cell in other
    ]


def evidence(namespace: dict[str, Any], folder: Path) -> "LiveEvidence":
    """What there is to look at in a notebook's own process: its variables and the files beside it."""
    student = namespace.get(STUDENT)
    return looking_at(folder, student if isinstance(student, str) else "", partial(answering.respond, namespace))


def looking_at(folder: Path, student: str, ask: Callable[[dict[str, Any]], Any]) -> "LiveEvidence":
    """What a student's own checks look at: the files, and what the process that `ask` reaches replies."""
    found = LiveEvidence([folder], student, PUBLIC_SEED, ask)
    found.salt = SALT
    return found


class LiveEvidence(AnsweredEvidence):
    """Evidence whose recordings are one object for as long as their file stays the same, from check to check, and that
    remembers what variables were asked for."""

    def __init__(self, folders: Sequence[Path], student: str, seed: int, ask: Callable[[dict[str, Any]], Any]) -> None:
        super().__init__(folders, student, seed, ask)
        self.said: dict[str, Any] = {}  # replies by the name of the variable

    def value(self, name: str) -> Any:
        request = answers.value_request(name)
        reply = self.ask(request)
        if "value" in reply:
            self.said[name] = reply
        return answers.value_of(request, reply)

    def _loaded_map(self, file: str) -> Map:
        path = self._file(file)
        try:
            state = path.stat()
        except OSError:
            return Map.load(path)  # says what is wrong
        return _read_map(path, state.st_ino, state.st_mtime_ns, state.st_size)

    def _loaded(self, file: str) -> Recording:
        path = self._file(file)
        try:
            state = path.stat()
        except OSError:
            return Recording.load(path)  # says what is wrong
        return _read(path, state.st_ino, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=16)
def _read(path: Path, *_: int) -> Recording:
    return Recording.load(path)


@lru_cache(maxsize=16)
def _read_map(path: Path, *_: int) -> Map:
    return Map.load(path)


def _namespace(caller: dict[str, Any]) -> dict[str, Any]:
    shell = _shell()
    return caller if shell is None else shell.user_ns


def _shell() -> Any:
    """IPython's shell, when the notebook runs in one."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


def _show(page: str, text: str) -> None:
    if _shell() is None:
        print(text)
        return
    from IPython import display

    shown: Any = display.display
    shown({"text/html": page, "text/plain": text}, raw=True)
