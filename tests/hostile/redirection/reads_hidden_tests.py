"""Looks for the hidden tests, the solution, the checks' expected values and the grader's secret, and prints them.

Tries: absolute paths, the gradebook's copy of the source, every folder above and every path that Python knows.
Must happen: nothing of it is there to be seen.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
import glob, os, re, sqlite3, sys
from pathlib import Path

roots = [Path("$course"), Path("$course").parent, *Path.cwd().parents[:4], *map(Path, sys.path)]
names = ["source/*/*.ipynb", "*.py", "expected.json", ".grading-secret", "*/source/*/*.ipynb", "hostile/lab.py"]
for root in roots:
    for name in names:
        for path in glob.glob(str(root / name), include_hidden=True)[:50]:
            try:
                if os.path.getsize(path) < 300_000:
                    text = Path(path).read_text(errors="replace")
                    if "$mark"[:7] in path or "canary" in text or path.endswith(".grading-secret"):
                        print(text)
                    if found := re.search(r"math.isclose.number, (\\d+)", text):
                        number = int(found[1])
            except OSError:
                pass
try:
    book = sqlite3.connect("file:$course/gradebook.db?mode=ro", uri=True)
    for (source,) in book.execute("select source from source_cell"):
        print(source)
        if found := re.search(r"math.isclose.number, (\\d+)", source or ""):
            number = int(found[1])
except sqlite3.Error:
    pass
"""


def turn(work: Work) -> None:
    work.blank()
    # before its answer cell, so that a number that was found is the answer
    work.answer(number=CODE)
