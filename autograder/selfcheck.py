"""`autograder.check("name")`: the grader's checks, run by the student on the notebook as it is now."""

import secrets
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from autograder import answering, answers, checks, journal, questionnaire, showing
from autograder.evidence import AnsweredEvidence
from labkit.recording import Recording

# anybody may know it: the grader draws its inputs from a seed of its own
PUBLIC_SEED = 20_240_229
STUDENT = "student"  # the variable in which a notebook keeps whose it is
# one for the session: what was audited is not audited again for the next question
SALT = secrets.token_bytes(16)


def check(name: str) -> float:
    """Show what the checks of a question say about this notebook now; the points they would give.

    The recordings and the timeline are those in the working directory. A check that fails raises nothing.
    """
    question = questionnaire.find(name)
    namespace = _namespace(sys._getframe(1).f_globals)
    live = evidence(namespace, Path.cwd())
    verdicts = checks.run(question, live)
    if _shell() is not None:
        journal.note(Path.cwd(), live.said)
    said = (question.title, verdicts, question.points)
    _show(showing.as_html(*said), showing.as_text(*said))
    return checks.earned(verdicts)


def evidence(namespace: dict[str, Any], folder: Path) -> "LiveEvidence":
    """What there is to look at in a notebook's own process: its variables and the files beside it."""
    student = namespace.get(STUDENT)
    ask = partial(answering.respond, namespace)
    found = LiveEvidence([folder], student if isinstance(student, str) else "", PUBLIC_SEED, ask)
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
