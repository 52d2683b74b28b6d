"""The gradebook after our grading, beside the one that nbgrader's own autograde writes for the same submissions."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import toy_lab
from toy_lab import hand_in, solved

from autograder import grading

PLAIN = """
c = get_config()
c.CourseDirectory.course_id = "gradient-lab"
c.ExecutePreprocessor.timeout = 120
"""
STARTUP = f"""
import sys
sys.path.append({str(Path(__file__).parent)!r})
import toy_lab
"""


@pytest.fixture(scope="module")
def courses(tmp_path_factory, warm):
    """The same release and submissions, graded by ours and by nbgrader's own."""
    root = tmp_path_factory.mktemp("tables")
    ours, plain = toy_lab.make_course(root / "ours"), root / "plain"
    for student, changes in (("ada", {}), ("bob", {"number": "number = 41"}), ("cora", {"words": "It is so."})):
        folder = hand_in(ours, student, solved(ours, **changes))
        (folder / "timestamp.txt").write_text("2026-03-02 10:00:00 UTC")
    for part in ("source", "release", "submitted"):
        shutil.copytree(ours / part, plain / part)
    (plain / "nbgrader_config.py").write_text(PLAIN)
    assert [one.status for one in grading.grade(ours, "toy", jobs=1, progress=False)] == ["graded"] * 3
    # nbgrader's kernel has to find the toy's questions
    startup = root / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "toy.py").write_text(STARTUP)
    for command in (["generate_assignment", "toy", "--force", "--create"], ["autograde", "toy", "--create"]):
        subprocess.run(
            [sys.executable, "-m", "nbgrader", *command],
            cwd=plain,
            env={**os.environ, "IPYTHONDIR": str(root / "ipython")},
            check=True,
            capture_output=True,
        )
    return ours, plain


def tables(course):
    """Every row by table, each id in it replaced by the row that it stands for."""
    with sqlite3.connect(course / "gradebook.db") as book:
        book.row_factory = sqlite3.Row
        names = [row[0] for row in book.execute("select name from sqlite_master where type = 'table'")]
        rows = {name: [dict(row) for row in book.execute(f'select * from "{name}"')] for name in names}
    # an id is 32 hexadecimal digits; a cell has rows of one id in two tables
    known = {}
    for name, found in rows.items():
        for row in found:
            if len(str(row.get("id"))) == 32:
                known.setdefault(row["id"], []).append((name, row))

    def told(row):
        return tuple(
            (column, tuple(sorted(map(repr, (named(one) for one in known[value])))) if value in known else value)
            for column, value in sorted(row.items())
            if column != "id" or value not in known
        )

    def named(one):
        name, row = one
        return (name, told({column: value for column, value in row.items() if column != "id"}))

    return {name: Counter(map(repr, map(told, found))) for name, found in rows.items()}


@pytest.mark.slow
def test_is_every_table_the_one_that_nbgrader_writes(courses):
    ours, plain = map(tables, courses)
    assert set(ours) == set(plain)
    assert ours["grade"].total() == 3 * 4
    for name in ours:
        assert ours[name] == plain[name], name


@pytest.mark.slow
def test_does_the_comparison_see_another_mark(courses, tmp_path):
    shutil.copy(courses[0] / "gradebook.db", tmp_path)
    with sqlite3.connect(tmp_path / "gradebook.db") as book:
        book.execute("update grade set auto_score = auto_score + 1 where auto_score = 0")
        assert book.total_changes == 1
    changed, plain = tables(tmp_path), tables(courses[1])
    assert [name for name in plain if changed[name] != plain[name]] == ["grade"]
