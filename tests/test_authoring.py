"""Sources in percent format and the notebooks that nbgrader reads."""

import json
import os
import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autograder import authoring
from autograder.authoring import back, build, build_all, expand
from autograder.cells import CODE_STUB, AuthoringError, without_solutions

EXAMPLE = '''# Licence: MIT
"""A source may begin with a docstring."""

# %% [markdown]
# # Doubling
#
# text with a [link](https://example.org)

# %% fixed="imports"
import math

# %% answer="double"
def double(x):
    """Twice x."""
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION


# %% test="double" points=2
assert double(2) == 4

# %% [markdown] essay="why" points=3
# ### BEGIN SOLUTION
# By the chain rule.
# ### END SOLUTION

# %% [markdown] task="table" points=1.5
# Draw it.
# ### BEGIN MARK SCHEME
# one point for the axes
# ### END MARK SCHEME

# %% id="scratch"

# %%
x = 1

# %%
x = 1
'''
SOLUTION = "### BEGIN SOLUTION\nx = 1\n### END SOLUTION\n"
ESSAY = "# ### BEGIN SOLUTION\n# x\n# ### END SOLUTION\n"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "example.py"
    path.write_text(EXAMPLE)
    return path


def cell(text):
    return expand(text, "example").cells[0]


def edited(notebook, change):
    """`notebook` as JupyterLab saves it after `change`."""
    nb = nbformat.read(notebook, 4)
    change(nb)
    notebook.write_text(nbformat.writes(nb))


KINDS = [
    ("# %%\nx = 1\n", "code", None),
    ("# %% [markdown]\n# x\n", "markdown", None),
    ('# %% fixed="a"\nx = 1\n', "code", {"grade_id": "a", "locked": True}),
    ('# %% [markdown] fixed="a"\n# x\n', "markdown", {"grade_id": "a", "locked": True}),
    (f'# %% answer="a"\n{SOLUTION}', "code", {"grade_id": "a", "solution": True}),
    ('# %% test="a" points=2\nx\n', "code", {"grade_id": "test_a", "grade": True, "locked": True, "points": 2}),
    (
        f'# %% [markdown] essay="a" points=0.5\n{ESSAY}',
        "markdown",
        {"grade_id": "a", "grade": True, "solution": True, "points": 0.5},
    ),
    (
        '# %% [markdown] task="a" points=1\n# x\n',
        "markdown",
        {"grade_id": "a", "locked": True, "task": True, "points": 1},
    ),
]


@pytest.mark.parametrize(("text", "cell_type", "expected"), KINDS)
def test_each_kind_of_cell_gets_the_metadata_that_nbgrader_wants(text, cell_type, expected):
    """Does each header become nbgrader's flags, and the name the id of the cell?"""
    flags = {"schema_version": 3, "grade": False, "solution": False, "locked": False, "task": False}
    found = cell(text)
    assert found.cell_type == cell_type
    assert found.metadata.get("nbgrader") == (None if expected is None else flags | expected)
    assert expected is None or found.id == expected["grade_id"]


def test_names_of_plain_cells_are_kept():
    """Is a plain cell's name its id, and does the notebook say that it was given?"""
    found = cell('# %% id="scratch"\n')
    assert found.id == "scratch"
    assert found.metadata == {"name": "scratch"}


def test_ids_of_plain_cells_stay_when_cells_come_and_go():
    """Does a cell's made-up id depend on its content only, and are equal cells told apart?"""
    ids = [cell.id for cell in expand("# %%\nx = 1\n\n# %%\ny = 1\n\n# %%\nx = 1\n", "example").cells]
    assert ids[1] == cell("# %%\ny = 1\n").id
    assert ids[2] == f"{ids[0]}-2"


def test_jupytext_reads_the_same_cells():
    """Would any editor that knows the percent format show the same cells?"""
    ours = [(cell.cell_type, cell.source) for cell in expand(EXAMPLE, "example").cells]
    theirs = jupytext.reads(EXAMPLE[EXAMPLE.index("# %%") :], fmt="py:percent").cells
    assert ours == [(cell.cell_type, cell.source) for cell in theirs]


def test_notebook_is_valid_for_nbformat_and_nbgrader():
    """Do nbformat and nbgrader's own validator accept the whole example?"""
    from nbgrader.nbgraderformat import MetadataValidator

    notebook = expand(EXAMPLE, "example")
    nbformat.validate(notebook)
    MetadataValidator().validate_nb(notebook)


ERRORS = [
    ("x = 1\n", ["example.py", "no cell"]),
    ("import os\n# %%\nx = 1\n", ["line 1", "above the first"]),
    ("x = (\n# %%\nx = 1\n", ["example.py line", "not Python"]),
    ('\n# %% answr="a"\nx\n', ["line 2", '(# %% answr="a")', "answr", "answer, essay, fixed, id, points, task, test"]),
    ("# %% Setup\nx\n", ["line 1", "Setup", "answer, essay"]),
    ("# %% answer=a\nx\n", ["line 1", "answer=a", 'test="name"']),
    ("# %% fixed\nx\n", ["line 1", "fixed", 'test="name"']),
    ('# %% tags=["x"]\nx\n', ["tags"]),
    ('# %% fixed="a" id="b"\nx\n', ["one thing", "fixed and id"]),
    ('# %% fixed="two words"\nx\n', ["two words", "letters, digits"]),
    ('# %% fixed="a-b"\nx\n', ["a-b", "letters, digits"]),
    ("# %% fixed=3\nx\n", ["3", "letters, digits"]),
    (f'# %% fixed="{"a" * 65}"\nx\n', ["64 characters"]),
    (f'# %% test="{"a" * 60}" points=1\nx\n', ["64 characters"]),
    ('# %% fixed="a"\nx\n\n# %% fixed="a"\nx\n', ["line 4", "id a is already that of example.py line 1"]),
    (f'# %% answer="test_a"\n{SOLUTION}\n# %% test="a" points=1\nx\n', ["line 6", "test_a"]),
    ('# %% id="a"\nx\n\n# %% fixed="a"\nx\n', ["line 4", "already"]),
    ('# %% test="a"\nx\n', ["needs points", "None"]),
    ('# %% test="a" points="2"\nx\n', ["needs points", "2"]),
    ('# %% test="a" points=-1\nx\n', ["needs points", "-1"]),
    ('# %% test="a" points=NaN\nx\n', ["needs points", "nan"]),
    ('# %% test="a" points=Infinity\nx\n', ["needs points", "inf"]),
    ('# %% test="a" points=true\nx\n', ["needs points", "True"]),
    ('# %% [markdown] task="a"\n# x\n', ["needs points"]),
    (f'# %% answer="a" points=1\n{SOLUTION}', ["points belong to", "not to answer"]),
    ("# %% points=1\nx\n", ["points belong to", "not to plain"]),
    ('# %% essay="a" points=1\nx\n', ["essay", "markdown", "not to code"]),
    ('# %% task="a" points=1\nx\n', ["task", "markdown", "not to code"]),
    ('# %% [markdown] answer="a"\n# x\n', ["answer", "code", "not to markdown"]),
    ('# %% [markdown] test="a" points=1\n# x\n', ["test", "code", "not to markdown"]),
    ("# %% [raw]\nx\n", ["not raw"]),
    ('# %% answer="a"\nx\n', ["### BEGIN SOLUTION"]),
    ('# %% [markdown] essay="a" points=1\n# x\n', ["### BEGIN SOLUTION"]),
    ('# %% answer="a"\n### BEGIN SOLUTION\nx\n', ["needs one END SOLUTION"]),
    ('# %% answer="a"\n### END SOLUTION\nx\n', ["needs one END SOLUTION"]),
    (f'# %% answer="a"\n### BEGIN SOLUTION\n{SOLUTION}', ["needs one END SOLUTION"]),
    (f"# %%\n{SOLUTION}", ["SOLUTION lines only in", "answer and essay"]),
    ("# %%\n### BEGIN HIDDEN TESTS\n### END HIDDEN TESTS\n", ["HIDDEN TESTS lines only in", "test"]),
    ("# %% [markdown]\n# BEGIN MARK SCHEME\n# END MARK SCHEME\n", ["MARK SCHEME lines only in", "task"]),
    ("# %%\n%matplotlib inline\n", ["no magics", "%matplotlib inline"]),
    ("# %%\nimport os\n!ls\n", ["no magics", "!ls"]),
    ("# %%\nfiles = !ls\n", ["no magics", "files = !ls"]),
    ("# %%\nprint?\n", ["no magics", "print?"]),
    ("# %%\n%%time\nx = 1\n", ["no magics", "%%time"]),
    ("# %%\nx = = 1\n", ["not Python", "x = = 1"]),
    ('# %%\nx = """\n# %% [markdown]\n"""\n', ["line 1", "not Python"]),
    ('# %% answer="a"\ndef f():\n### BEGIN SOLUTION\n    return 1\n### END SOLUTION\n', ["without the solution"]),
    ("# %% [markdown]\ntext\n", ["begins with #", "text"]),
    ("# %%\nx = 1\n# In[2]:\ny = 1\n", ["another one for jupytext"]),
]


@pytest.mark.parametrize(("text", "words"), ERRORS)
def test_a_wrong_source_gives_one_sentence_that_names_the_cell(text, words):
    """Does the message name the line, the header, what was found and what would be right?"""
    with pytest.raises(AuthoringError) as error:
        expand(text, "example")
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


def test_a_test_may_stand_without_an_answer():
    """Can a test look at something other than one answer?"""
    assert cell('# %% test="whole_lab" points=1\nautograder.check("whole_lab")\n').id == "test_whole_lab"


def test_the_same_source_gives_the_same_bytes(source, tmp_path):
    """Is a build deterministic, without outputs, versions or a missing end of line?"""
    first, second = build(source), build(source, tmp_path / "second.ipynb")
    assert first == tmp_path / "source" / "example" / "example.ipynb"
    assert first.read_bytes() == second.read_bytes()
    assert first.read_text().endswith("}\n")
    notebook = json.loads(first.read_text())
    assert "version" not in notebook["metadata"]["language_info"]
    assert all(not cell.get("outputs") for cell in notebook["cells"])


def test_an_unchanged_notebook_is_not_written_again(source):
    """Does a build without news leave the file and its time alone?"""
    target = build(source)
    os.utime(target, (1, 1))
    build(source)
    assert target.stat().st_mtime == 1


def test_a_failed_write_leaves_the_old_notebook(source, monkeypatch):
    """Is a notebook replaced whole or not at all, and nothing left beside it?"""
    target = build(source)
    before = target.read_bytes()
    source.write_text(EXAMPLE + "\n# %%\ny = 2\n")
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            build(source)
    assert target.read_bytes() == before
    assert list(target.parent.iterdir()) == [target]


def test_a_mistake_in_one_source_leaves_every_notebook(source, tmp_path):
    """Are all sources read before the first notebook is written?"""
    (tmp_path / "nbgrader_config.py").write_text("c = get_config()\n")
    (tmp_path / "notes.py").write_text("x = 1\n")
    other = tmp_path / "other.py"
    other.write_text("# %%\nx = = 1\n")
    with pytest.raises(AuthoringError, match=r"other\.py line 1"):
        build_all(tmp_path)
    assert not (tmp_path / "source").exists()
    other.write_text("# %%\nx = 1\n")
    assert [path.stem for path in build_all(tmp_path)] == ["example", "other"]


def test_edits_in_the_notebook_are_not_overwritten(source):
    """Does a build refuse to lose what was written in JupyterLab, but not what was only run?"""
    target = build(source)
    edited(target, lambda nb: nb.cells[-1].update(execution_count=3))
    build(source)
    edited(target, lambda nb: nb.cells[-1].update(source="x = 7"))
    before = target.read_bytes()
    source.write_text(EXAMPLE + "\n# %%\ny = 2\n")
    for attempt in (lambda: build(source), lambda: build_all(source.parent)):
        with pytest.raises(AuthoringError, match="build --back"):
            attempt()
    assert target.read_bytes() == before
    back(target, source)
    assert "x = 7" in build(source).read_text()


def test_a_changed_source_replaces_the_notebook(source):
    """Does a notebook that nobody edited follow its source, whatever the files' times?"""
    target = build(source)
    source.write_text(EXAMPLE.replace("x = 1", "x = 8"))
    os.utime(source, (1, 1))
    assert "x = 8" in build(source).read_text()
    assert build(source) == target


def test_back_keeps_every_line_that_did_not_change(source):
    """Do comments above the cells, spacing and spelling survive the way there and back?"""
    text = EXAMPLE.replace("# text", "#text").replace('essay="why" points=3', 'essay="why"  points=3.0')
    source.write_text(text)
    back(build(source), source)
    assert source.read_text() == text


def test_back_carries_new_moved_and_removed_cells(source):
    """Is what was done in JupyterLab in the source, and does its build say the same again?"""

    def change(nb):
        nb.cells.insert(0, nb.cells.pop())
        del nb.cells[1]
        new = nbformat.v4.new_markdown_cell("two  \n\nlines", metadata={"tags": [], "slideshow": {}})
        nb.cells.append(new)

    target = build(source)
    edited(target, change)
    wanted = [(cell.cell_type, cell.source) for cell in nbformat.read(target, 4).cells]
    back(target, source)
    assert [(cell.cell_type, cell.source) for cell in expand(source.read_text(), "example").cells] == wanted
    assert source.read_text().startswith("# Licence: MIT\n")
    assert source.read_text().endswith("# %% [markdown]\n# two  \n#\n# lines\n")


def nbgrader(**meta):
    return lambda cell: cell.metadata.update(nbgrader=meta)


NOT_CARRIED = [
    (lambda cell: cell.update(source="# %% x"), ["cell 1", "start another cell"]),
    (lambda cell: cell.update(source="%time x"), ["cell 1", "no magics"]),
    (lambda cell: cell.update(cell_type="raw"), ["cell 1", "not raw"]),
    (lambda cell: cell.update(attachments={"a.png": {"image/png": "AA=="}}), ["cell 1", "attached"]),
    (nbgrader(checksum="0" * 32), ["released"]),
    (nbgrader(grade=True, grade_id="a", points=1), ["begins with test_", "found a"]),
    (nbgrader(grade=True, grade_id="test_a", points=-1), ["needs points"]),
    (nbgrader(grade=True, solution=True, grade_id="q", points=1), ["q", "no header"]),
    (nbgrader(locked=True, grade_id="cell-1"), ["cell-1", "letters"]),
]


@pytest.mark.parametrize(("change", "words"), NOT_CARRIED)
def test_what_a_source_cannot_say_is_refused(tmp_path, change, words):
    """Is a notebook that cannot come home refused in one sentence, with the source as it was?"""
    source = tmp_path / "example.py"
    source.write_text("# %%\nx = 1\n")
    target = build(source)
    edited(target, lambda nb: change(nb.cells[0]))
    with pytest.raises(AuthoringError) as error:
        back(target, source)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert source.read_text() == "# %%\nx = 1\n"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_notebook_is_refused(tmp_path, text):
    """Does a file that is no notebook give one sentence?"""
    notebook = tmp_path / "example.ipynb"
    notebook.write_text(text)
    with pytest.raises(AuthoringError, match="not a notebook"):
        back(notebook, tmp_path / "example.py")


def test_a_name_that_nbgrader_cannot_use_is_refused(tmp_path):
    """Is an assignment's name checked before nbgrader meets it?"""
    path = tmp_path / "lab+1.py"
    path.write_text("# %%\nx = 1\n")
    with pytest.raises(AuthoringError, match=r"lab\+1"):
        build(path)


def test_the_stub_is_the_one_in_the_settings():
    """Do cells and nbgrader_config.py know an untouched answer by the same words?"""
    config = Path(authoring.__file__).parents[1] / "assignments" / authoring.CONFIG
    assert repr(CODE_STUB).strip("'") in config.read_text()
    solved = "def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION"
    released = without_solutions(solved)
    assert released == "def f():\n    # YOUR CODE HERE\n    raise NotImplementedError()"


words = st.text("ab éß#%!`$\\\"'[]", max_size=12).filter(lambda line: not line.startswith("%%"))
prose = st.lists(words, max_size=4).map("\n".join)
statements = st.sampled_from(
    [
        "x = 1",
        "# note",
        "def f(x):\n    return x",
        "if x:\n\n\n    pass",
        "",
        "'''a\n  b'''",
        "y = (1\n     % 2)",
        "print('%d' % 3)",
        "# %time",
    ]
)
code = st.lists(statements, max_size=3).map("\n".join)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
points = st.one_of(st.integers(0, 100), st.floats(0, 100, allow_subnormal=False))


def commented(text):
    text = re.sub(r"(?m)^(\s*)%%", r"\1", text)  # behind a comment's sign it would start a cell for jupytext
    return "\n".join(f"# {line}" if line else "#" for line in text.split("\n")) if text else ""


@st.composite
def texts(draw):
    """A source of a few cells of every kind, in any order and spacing, each with a name of its own."""
    pieces = []
    for number, name in enumerate(draw(st.lists(names, max_size=6))):
        kinds = [
            ("", code),
            (' id="{}"', code),
            (' fixed="{}"', code),
            (' test="{}" points={}', code),
            (' answer="{}"', code.map(lambda body: SOLUTION + body)),
            (" [markdown]", prose.map(commented)),
            (' [markdown] task="{}" points={}', prose.map(commented)),
            (' [markdown] essay="{}" points={}', prose.map(lambda body: ESSAY + commented(body))),
        ]
        header, body = draw(st.sampled_from(kinds))
        text = "# %%" + header.format(f"{name[:20]}_{number}", draw(points)) + "\n" + draw(body)
        pieces.append(text.rstrip() + "\n" * draw(st.integers(1, 3)))
    return draw(st.sampled_from(["", "# Licence\n\n"])) + "".join([*pieces, "# %%\nlast = 1\n"])


@settings(max_examples=60, deadline=None)
@given(text=texts())
def test_there_and_back_is_the_identity(tmp_path_factory, text):
    """Is back(build(x)) x, and does a source written afresh build the same notebook?"""
    source = tmp_path_factory.mktemp("round") / "example.py"
    source.write_text(text, "utf-8")
    notebook = build(source)
    before = notebook.read_bytes()
    assert back(notebook, source).read_text("utf-8") == text
    source.unlink()
    assert build(back(notebook, source)).read_bytes() == before
