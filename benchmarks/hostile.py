"""Hostile submissions on nbgrader's own autograde and on ours, side by side: what each of them could do.

    python benchmarks/hostile.py [--only FAMILY|FAMILY/NAME ...] [--ours]

Four kinds of damage, measured (docs/hostile.md): W wrong marks, L leaks, G lost grades, S survivors. nbgrader runs with
its default settings, each submission in a course of its own; ours as an instructor would have it, a family at a time.
Exits with 1 unless ours has no damage at all.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
# before this file's own folder, in which it is called hostile, too
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from hostile.catalogue import FAMILIES, Submission, submissions
from hostile.comparing import Measured, measured
from hostile.damage import KINDS, Damage
from hostile.outside import canaries
from hostile.sides import Name, make_course
from tqdm import tqdm

LETTERS = "WLGS"
Cell = tuple[str, Damage]  # points as text, and what was done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="FAMILY/NAME", help="a family or single submissions")
    parser.add_argument("--ours", action="store_true", help="leave nbgrader's own autograde out")
    arguments = parser.parse_args()
    chosen = submissions(arguments.only)
    sides: list[Name] = ["ours"] if arguments.ours else ["nbgrader", "ours"]
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        found = {side: _run(side, Path(name), chosen) for side in sides}
    _print(chosen, found)
    sys.exit(int(any(damage.all for _, damage in found["ours"].values())))


def _run(side: Name, root: Path, chosen: Sequence[Submission]) -> dict[str, Cell]:
    drawn = canaries()
    template = make_course(side, root / side, drawn)
    cells: dict[str, Cell] = {}
    groups = dict(_groups(side, chosen))

    def run(title: str) -> dict[str, Cell]:
        place = root / f"{side}-{title.replace('/', '-')}"
        return _cells(title, groups[title], measured(side, template, place, drawn, groups[title]))

    # our grader has jobs of its own
    with ThreadPoolExecutor(2 if side == "nbgrader" else 1) as pool:
        found = pool.map(run, groups)
        for more in tqdm(found, desc=side, total=len(groups), unit="grading", disable=None):
            cells |= more
    return cells


def _groups(side: Name, chosen: Sequence[Submission]) -> Iterator[tuple[str, list[Submission]]]:
    """What is graded together: a family by ours, each alone where one may spoil the course of all."""
    if side == "nbgrader":
        yield from ((one.id, [one]) for one in chosen if not one.spared)
        return
    for family in FAMILIES:
        if group := [one for one in chosen if one.family == family]:
            yield f"{family}, the honest ones", group


def _cells(title: str, group: Sequence[Submission], found: Measured) -> dict[str, Cell]:
    cells = {one.id: (f"{found.earned[one.id]:g}", found.damage[one.id]) for one in group}
    if title not in cells:
        return cells | {title: ("", found.neighbours)}
    # alone in its course, it is to blame for everything
    points, own = cells[title]
    both = zip(own.parts, found.neighbours.parts, strict=True)
    return {title: (points, Damage(*(mine + theirs for mine, theirs in both)))}


def _print(chosen: Sequence[Submission], found: Mapping[Name, Mapping[str, Cell]]) -> None:
    names = [*(one.id for one in chosen), *(title for title in found["ours"] if "," in title)]
    about = {one.id: one for one in chosen}
    heads = "".join(f"{side:>14}" for side in found)
    print(f"\n{'W wrong marks, L leaks, G lost grades, S survivors':58}{'deserved':>9}{heads}")
    for name in names:
        deserved = f"{sum(about[name].deserves.values()):g}" if name in about else ""
        cells = "".join(f"{_text(found[side].get(name)):>14}" for side in found)
        print(f"{name:58}{deserved:>9}{cells}")
    _print_totals(found)
    for side, cells in found.items():
        print(f"\n{side}, in words:")
        for name, (_, damage) in cells.items():
            for sentence in damage.all:
                print(f"  {name}: {sentence}")
    for one in chosen:
        if one.spared and "nbgrader" in found:
            print(f"  {one.id} was not run on nbgrader: {one.spared}")


def _text(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    points, damage = cell
    letters = "".join(letter for letter, there in zip(LETTERS, damage.counts, strict=True) if there)
    return f"{points} {letters or 'none'}".strip()


def _print_totals(found: Mapping[Name, Mapping[str, Cell]]) -> None:
    for number, kind in enumerate(KINDS):
        totals = "".join(f"{sum(damage.counts[number] for _, damage in found[side].values()):>14}" for side in found)
        print(f"{f'submissions with {kind}':67}{totals}")
    print(f"{'submissions run':67}" + "".join(f"{sum(',' not in name for name in found[side]):>14}" for side in found))


if __name__ == "__main__":
    main()
