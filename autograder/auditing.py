"""Audit the recordings of a class as they were handed in, without running any student's code.

Which stretches are drawn follows from the course's secret, the student and the recording, as in grading.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autograder import audit as audits
from autograder import grading, mapping, marking, questionnaire, submission
from autograder.authenticity import Asked, examine
from autograder.checks import Failed
from autograder.marking import GradingError, Task
from autograder.submission import Submission, SubmissionError
from labkit.maps import Map
from labkit.recording import Recording, RecordingError

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Audited:
    """What came of one recording, or of a submission without any."""

    student: str
    recording: str  # its name; empty for a submission without recordings
    stretches: int  # that were drawn
    verdict: str  # what is wrong; empty for an honest recording

    @property
    def honest(self) -> bool:
        return not self.verdict


def audit(
    course: Path, assignment: str, students: Sequence[str] | None = None, stretches: int = audits.STRETCHES
) -> Iterator[Audited]:
    """Look at every recording that these students handed in, by default all; in the order of their names.

    A file that cannot be read is named and stops nothing. `GradingError` when the assignment asks for no recordings,
    or cannot be graded at all.
    """
    task = marking.prepare(course.absolute(), assignment)
    if not (questionnaire.recordings(assignment, "") or questionnaire.maps(assignment, "")):
        raise GradingError(f"{assignment} does not say which recordings it asks for: there is nothing to audit")
    for student in grading.chosen(task.course, assignment, students):
        yield from _student(task, student, stretches)


def _student(task: Task, student: str, stretches: int) -> Iterator[Audited]:
    asked = questionnaire.recordings(task.assignment, student)
    try:
        handed_in = submission.find(task.submitted(student), student, task.assignment)
    except (SubmissionError, OSError) as error:
        yield Audited(student, "", 0, str(error))
        return
    names = [name for name in asked if f"{name}{SUFFIX}" in handed_in.files]
    maps = questionnaire.maps(task.assignment, student)
    mapped = [name for name in maps if f"{name}{SUFFIX}" in handed_in.files]
    if not (names or mapped):
        yield Audited(student, "", 0, "no recording was handed in")
    for name in names:
        yield _recording(task, handed_in, name, asked, stretches)
    for name in mapped:
        yield _map(task, handed_in, name, maps[name])


def _recording(task: Task, handed_in: Submission, name: str, asked: Mapping[str, Asked], stretches: int) -> Audited:
    drawn = 0

    def look() -> None:
        nonlocal drawn
        recording = Recording.from_bytes(handed_in.read(f"{name}{SUFFIX}"), f"{name}{SUFFIX}")
        drawn = min(stretches, len(audits.stretches_of(recording)))
        salt = task.salt(handed_in.student)
        examine(recording, asked[name].experiment, asked[name].open_fields, salt, stretches)

    verdict = _verdict(look)
    return Audited(handed_in.student, name, drawn, verdict)


def _map(task: Task, handed_in: Submission, name: str, asked: mapping.AskedMap) -> Audited:
    """The same of a map: its networks that are trained again count as stretches."""

    def look() -> None:
        found = Map.from_bytes(handed_in.read(f"{name}{SUFFIX}"), f"{name}{SUFFIX}")
        mapping.examine(found, asked, task.salt(handed_in.student))

    return Audited(handed_in.student, name, mapping.RUNS, _verdict(look))


def _verdict(look: Callable[[], None]) -> str:
    """What is wrong with what is looked at; nothing where all is right."""
    try:
        look()
    except Failed as failure:
        return failure.found
    except RecordingError as error:
        return str(error)
    except Exception as error:  # whatever a file makes of us, the class goes on
        return f"it could not be audited ({type(error).__name__}): look at it yourself"
    return ""
