"""Symbolic links in place of files: to a classmate's recording, the course's secrets, /etc and itself.

Tries: whoever copies or reads a submission follows its links.
Must happen: links are left out and named; what they point to is neither graded nor shown.
"""

from pathlib import Path

from hostile.work import Work, without

DESERVES = without("run")
CODE = """
from pathlib import Path

for name in ("secret.txt", "solution.ipynb", "classmate", "run.safetensors"):
    try:
        for path in (Path(name), *Path(name).rglob("*")):
            if path.is_file():
                print(path.read_bytes()[:200_000].decode(errors="replace"))
    except OSError as error:
        print(type(error))
"""


def turn(work: Work) -> None:
    work.wrong("run")
    work.first(CODE)
    course = work.outside.course
    targets = {
        "run.safetensors": course / "submitted/zoe/trial/run.safetensors",
        "workspace.json": course / "gradebook.db",
        "secret.txt": course / ".grading-secret",
        "solution.ipynb": course / "source/trial/trial.ipynb",
        "classmate": course / "submitted/zoe",
        "self": Path("self"),
        "passwords": Path("/etc/shadow"),
    }
    for name, target in targets.items():
        work.lay.append(lambda folder, name=name, target=target: (folder / name).symlink_to(target))
