"""All hostile submissions, one file each: <family>/<name>.py with a docstring, DESERVES and turn(work)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from hostile.work import Work

HOME = Path(__file__).parent
FAMILIES = ("overfitting", "evasion", "redirection", "injection", "resource", "forged")


@dataclass(frozen=True)
class Submission:
    """One way to want more than was earned."""

    family: str
    name: str
    tries: str  # the first line of its docstring
    deserves: Mapping[str, float]  # marks by grade id, at most
    turn: Callable[[Work], None]  # makes it of an honest submission
    student: str  # under which it is handed in
    spared: str = ""  # why it is not run where nothing holds it; empty when it is

    @property
    def id(self) -> str:
        return f"{self.family}/{self.name}"


def submissions(chosen: Iterable[str] = ()) -> list[Submission]:
    """Those of these families and of these FAMILY/NAME, by default all, in the order of their names."""
    found = [_load(path) for family in FAMILIES for path in sorted((HOME / family).glob("[!_]*.py"))]
    wanted = list(chosen)
    for word in wanted:
        if not any(word in (one.family, one.id) for one in found):
            raise LookupError(f"there is no submission {word}: give a family ({', '.join(FAMILIES)}) or FAMILY/NAME")
    return [one for one in found if not wanted or one.family in wanted or one.id in wanted]


def _load(path: Path) -> Submission:
    module = import_module(f"hostile.{path.parent.name}.{path.stem}")
    return Submission(
        path.parent.name,
        path.stem,
        (module.__doc__ or "").strip().split("\n", 1)[0],
        module.DESERVES,
        module.turn,
        getattr(module, "STUDENT", path.stem),
        getattr(module, "SPARED", ""),
    )
