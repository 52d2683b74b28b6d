"""What a cluster asks for in a job, as small TOML files: a partition, a kind of GPU, a container."""

import tomllib
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from labkit.jobs.folder import JobError

FOLDER = Path(__file__).parent / "sites"
Purpose = Literal["training", "grading"]


@dataclass(frozen=True)
class Site:
    """How jobs are asked for at one site. An empty text leaves that to the site's own default."""

    name: str
    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    gres: str = "gpu:{gpus}"
    gpus: int = 1
    cpus: int = 2
    memory: str = ""  # as Slurm writes it: 8G
    minutes: int = 30
    setup: list[str] = field(default_factory=list)  # lines of the shell, before the training
    command: list[str] = field(default_factory=list)  # put before the program, such as a container's
    python: str = ""  # empty for the interpreter that submits


def site(name: str | Path = "generic", purpose: Purpose = "training") -> Site:
    """The site of this name, or of a TOML file of your own. Raises JobError.

    For grading, what stands under [grading] takes the place of the rest; where nothing stands there, a job has one
    core, and `memory` is left to whoever knows what grading takes.
    """
    path = Path(name) if str(name).endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        said = tomllib.loads(path.read_text())
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.toml")))
        raise JobError(f"there is no profile {str(name)!r}: choose {known}, or name a .toml file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise JobError(f"{path} is no profile: {error}") from error
    grading = said.pop("grading", {})
    if type(grading) is not dict:
        raise JobError(f"{path}: grading is {grading!r}, give a table: [grading]")
    _check(path, said)
    _check(path, grading)
    if purpose == "grading":
        said = {**said, "cpus": 1, "memory": "", **grading}
    return Site(path.stem, **said)


def _check(path: Path, said: dict[str, Any]) -> None:
    kinds = {f.name: list if f.default is MISSING else type(f.default) for f in fields(Site) if f.name != "name"}
    for key, value in said.items():
        if key not in kinds:
            raise JobError(f"{path} says {key!r}: a profile has {', '.join(kinds)}, and a table [grading] of these")
        if type(value) is not kinds[key] or (kinds[key] is list and not all(type(v) is str for v in value)):
            wanted = {str: "a text", int: "a whole number", list: "a list of texts"}[kinds[key]]
            raise JobError(f"{path}: {key} is {value!r}, give {wanted}")
        if key == "gres" and not _takes_a_number(str(value)):
            raise JobError(f"{path}: gres is {value!r}, write {{gpus}} where the number of GPUs stands")
        if any("\n" in text for text in (value if kinds[key] is list else [str(value)])):
            raise JobError(f"{path}: {key} has more than one line, give one")


def _takes_a_number(gres: str) -> bool:
    try:
        gres.format(gpus=1)
    except (KeyError, IndexError, ValueError, AttributeError):
        return False
    return True
