"""How long the hand-in of a solved notebook takes, in each of its forms.

    python benchmarks/report.py [--assignment vanishing_gradients] [--notebook SOLVED.ipynb] [--rounds 3]

Aim: under 15 s for each document, from the command's start to the file. On a busy machine wall times grow; processor
time holds better. Without --notebook, the released notebook is
solved first, in a real kernel, with figures and recordings; that takes about a minute and is not counted. What comes
after the first round finds files in the machine's memory, and the library in its own. The forms take turns.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from notebook import ENCRYPTED, children

from autograder import classroom
from autograder.course import init, release

FORMS = ("pdf", "docx", "html")


def solved(course: Path, assignment: str) -> Path:
    """The notebook of a student who answered everything, run from top to bottom in a folder of its own."""
    init(course, [assignment])
    release(course, assignment)
    lab, about = classroom.Lab.read(course, assignment), classroom.class_of(assignment)
    answers = lab.cells(about.kinds[0])
    notebook = nbformat.reads(lab.released.decode(), as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = answers.get(cell.id, cell.source).replace('"solution"', '"ada"')
    folder = course / "solved"
    folder.mkdir()
    place = {"metadata": {"path": folder}}
    NotebookClient(notebook, timeout=None, resources=place, config=ENCRYPTED).execute()
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.id in answers:
            cell.source = about.essays.get(cell.id, "").format_map(about.numbers(folder))
    path = folder / f"{assignment}.ipynb"
    nbformat.write(notebook, path)
    return path


def seconds(notebook: Path, out: Path) -> tuple[float, float]:
    """Processor and wall seconds of the whole command, as a student calls it."""
    command = [sys.executable, "-c", "from labkit.cli import main; main()", "report", str(notebook), "-o", str(out)]
    processor, wall = children(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return children() - processor, time.perf_counter() - wall


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--assignment", default="vanishing_gradients")
    arguments.add_argument("--notebook", type=Path)
    arguments.add_argument("--rounds", type=int, default=3)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        notebook = chosen.notebook or solved(Path(folder) / "course", chosen.assignment)
        recordings = len(list(notebook.parent.glob("*.safetensors")))
        print(f"{notebook.name}: {notebook.stat().st_size / 1e6:.1f} MB, {recordings} recordings (aim 15 s)\n")
        taken: dict[str, list[tuple[float, float]]] = {form: [] for form in FORMS}
        for _ in range(chosen.rounds):
            for form in FORMS:
                taken[form].append(seconds(notebook, Path(folder) / f"lab.{form}"))
        print(f"{'':8}{'processor':>12}{'wall, first':>14}{'wall, median':>14}{'size':>12}")
        for form, times in taken.items():
            size = (Path(folder) / f"lab.{form}").stat().st_size / 1e6
            processor, wall = (statistics.median(part) for part in zip(*times, strict=True))
            print(f"{form:8}{processor:10.1f} s{times[0][1]:12.1f} s{wall:12.1f} s{size:9.2f} MB")


if __name__ == "__main__":
    main()
