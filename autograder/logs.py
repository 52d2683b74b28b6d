"""results/<assignment>/logs/<student>.log: what came of a submission, for whoever is asked why."""

from datetime import UTC, datetime
from pathlib import Path

from autograder import showing
from autograder.results import Result, path_of
from labkit.files import write_whole


def path(course: Path, assignment: str, student: str) -> Path:
    found = path_of(course, assignment, student)
    return found.parent / "logs" / f"{found.name.removesuffix('.json')}.log"


def write(course: Path, assignment: str, student: str, status: str, reason: str, result: Result | None) -> None:
    """Write a student's log anew; `result` is missing where there is none."""
    lines = [f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC  {student}, {assignment}: {status}", reason]
    if result is not None:
        lines += _lines(result)
    content = "\n".join(showing.one_line(line) for line in lines if line) + "\n"
    target = path(course, assignment, student)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, content.encode("utf-8", "replace"))


def _lines(result: Result) -> list[str]:
    points = showing.points
    lines = [f"{points(result.score)} of {points(result.max_score)} points by the checks"]
    used = f"{result.seconds:.1f} s, of which {result.cpu:.1f} s of processor time, {result.memory / 1024:.0f} MB"
    lines += [f"{used}; protection: {result.protection}"] if result.protection else []
    lines += [f"ended early: {result.ended}"] if result.ended else []
    lines += [f"stopped at a limit: the cell {cell}" for cell in result.stopped]
    lines += [f"remark: {remark}" for remark in result.remarks]
    for question in result.questions.values():
        lines.append(f"{points(question.points)} of {points(question.of)}  {question.title} ({question.name})")
        lines += [f"    {question.note}"] if question.note else []
        for verdict in question.verdicts:
            if verdict.outcome != "passed":
                lines.append(f"    {showing.WORDS[verdict.outcome][0]} {verdict.sentence} {verdict.found}")
                lines += [f"      {line}" for line in verdict.trace.splitlines()]
    return lines
