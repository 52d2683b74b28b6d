"""Submissions, graded and measured."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hostile.catalogue import Submission
from hostile.damage import Damage, Scene, earned, fingerprints
from hostile.lab import ASSIGNMENT
from hostile.outside import Outside
from hostile.sides import Name, copied, grade, marks, released
from hostile.work import Work


@dataclass(frozen=True)
class Measured:
    """What came of some submissions that were graded together."""

    damage: Mapping[str, Damage]  # by the submission's id
    neighbours: Damage  # done to the honest ones, or by nobody knows whom
    earned: Mapping[str, float]  # points by the submission's id


def measured(
    side: Name, template: Path, root: Path, canaries: Mapping[str, str], chosen: Sequence[Submission]
) -> Measured:
    """Hand these submissions in beside the honest ones, grade them all, and look at what they did.

    `root` is a folder of its own, which is gone afterwards.
    """
    root.mkdir()
    course = copied(template, root / "course")
    try:
        with Outside(root / "outside", course, canaries) as outside:
            for one in chosen:
                _hand_in(one, course, outside)
            before = fingerprints(course)
            pages = [one.student for one in chosen if one.family == "injection"]
            # each may use up all the time that a submission has
            patience = 150 if side == "nbgrader" else 400 + 10 * len(chosen)
            ended = grade(side, course, outside, pages=pages, seconds=patience)
            scene = Scene(side, course, outside, ended, before, tuple(pages) if side == "ours" else ())
            points = {one.id: earned(marks(course).get(one.student, {})) for one in chosen}
            found = Measured({one.id: scene.of(one) for one in chosen}, scene.of_neighbours(chosen), points)
            outside.clear()
            return found
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _hand_in(one: Submission, course: Path, outside: Outside) -> None:
    work = Work(one.student, released(course), outside)
    one.turn(work)
    work.write(course / "submitted" / one.student / ASSIGNMENT)
