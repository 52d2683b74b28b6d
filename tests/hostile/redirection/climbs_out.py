"""Paths with `..`, absolute paths and hard links: writes to classmates, results and settings.

Tries: the folder of a submission lies in the course, and so does everything else.
Must happen: no byte of the course changes, no file appears elsewhere.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
import json, os, shutil
from pathlib import Path

verdict = json.dumps({"student": "$student", "status": "graded", "score": 11, "format": 1})
course = Path("$course")
targets = [course / "submitted/zoe/trial/trial.ipynb", course / "expected.json", course / "nbgrader_config.py"]
targets += [course / f"results/trial/{name}" for name in ("$student.json", "ada.json", "$student.recorded")]
targets += [course / "release/trial/trial.ipynb", Path("$place/here"), Path("/tmp/$mark-$student")]
targets += [Path("/dev/shm/$mark-$student"), Path("../../../submitted/zoe/trial/trial.ipynb")]
for up in range(1, 6):
    targets += [Path("../" * up + "expected.json"), Path("../" * up + "zoe/trial/trial.ipynb")]
for path in targets:
    try:
        # where nothing is, nothing is left lying but in folders that are looked through
        if path.exists() or (path.is_absolute() and path.parent.is_dir()):
            path.write_text(verdict)
    except OSError:
        pass
for name in ("gradebook.db", "expected.json"):
    try:
        os.link(course / name, name)
        print(Path(name).read_bytes()[:100_000].decode(errors="replace"))
    except OSError:
        pass
shutil.rmtree(course / "submitted/zoe", ignore_errors=True)
"""


def turn(work: Work) -> None:
    work.blank()
    work.first(CODE)
