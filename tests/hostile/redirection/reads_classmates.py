"""Copies a classmate's answers, notes and recording while it is graded.

Tries: submitted/ and autograded/ of everybody lie beside the own.
Must happen: no other submission can be seen.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
import glob, json, os, shutil
from pathlib import Path

roots = ["$course", *map(str, Path.cwd().parents[:5]), "/proc/1/root", "/proc/self/root$course"]
for root in roots:
    for kind in ("submitted", "autograded", "feedback", "results"):
        for path in glob.glob(f"{root}/{kind}/*/trial/*") + glob.glob(f"{root}/{kind}/trial/*"):
            if "/$student" in path or not os.path.isfile(path):
                continue
            print(path)
            if path.endswith(".ipynb"):
                cells = json.loads(Path(path).read_text())["cells"]
                print("".join("".join(cell["source"]) for cell in cells))
                for cell in cells:
                    if cell.get("id") in ("number", "softsign", "build", "timeline"):
                        exec("".join(cell["source"]))
            elif path.endswith(("txt", "json")):
                print(Path(path).read_text(errors="replace")[:20_000])
"""


def turn(work: Work) -> None:
    work.blank()
    work.answer(timeline=CODE)
