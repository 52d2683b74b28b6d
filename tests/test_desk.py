"""The workspace's table, without IPython and after each cell of a shell."""

import re
import subprocess
import sys

import numpy as np
import pytest

from labkit.desk import workspace
from labkit.timeline import Timeline


def test_import_loads_neither_torch_nor_ipython():
    code = "import sys, labkit.desk; print({'torch', 'IPython', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_table_without_ipython(tmp_path):
    pane = workspace({"x": 0.5, "images": np.zeros((5000, 784))}, path=tmp_path / "workspace.json")
    assert str(pane).splitlines() == [
        "Name    Value                    Size  Class                 Bytes  Change",
        "images  0  0  0  0  0  0  …  5000x784  ndarray float64  31,360,000  new",
        "x       0.5                       1x1  float                    24  new",
        "2 variables; 2 changed at the first look.",
    ]
    assert len(Timeline.load(tmp_path / "workspace.json").steps) == 1


def test_a_failing_save_without_ipython_is_a_sentence(tmp_path):
    assert "w.json could not be written" in str(workspace({}, path=tmp_path / "none" / "w.json"))


def test_a_full_timeline_says_so():
    pane = workspace({})
    pane.timeline.dropped = 3
    assert "The timeline is full: 3 later steps are not in it." in str(pane)


def test_without_a_namespace_it_is_the_callers():
    namespace = {"workspace": workspace, "x": 1}
    exec("pane = workspace()", namespace)
    assert "x" in [found.name for found in namespace["pane"].rows]


def test_html_is_escaped_and_says_the_change_in_words():
    text = workspace({"x": "<script>&", "y": 1})._repr_html_()
    assert "&lt;script&gt;&amp;" in text
    assert "<script>" not in text
    assert '<td style="text-align:left; white-space:nowrap">new</td>' in text
    assert '<td style="text-align:right; white-space:nowrap">28</td>' in text


def test_no_cell_wraps_and_the_table_scrolls_in_its_own_box():
    text = workspace({"a_name_of_some_length": "words " * 100, "y": 1})._repr_html_()
    cells = re.findall(r"<t[dh] [^>]*>", text)
    assert len(cells) == 18
    assert all("white-space:nowrap" in cell for cell in cells)
    # a long value leaves room for the columns behind it
    assert [k % 6 for k, cell in enumerate(cells) if "max-width" in cell] == [1, 1, 1]
    assert re.fullmatch(r'<div style="overflow-x:auto"><table>.*</table></div><p>.*</p>', text)


@pytest.fixture
def shell(ipython):
    shell = ipython()
    shell.run_cell("from labkit.desk import workspace", store_history=True)
    return shell


def run(shell, *cells):
    for cell in cells:
        result = shell.run_cell(cell, store_history=True)
        assert result.success, cell
    return result.result


def test_every_cell_is_a_step(shell, tmp_path, monkeypatch):
    """Is each cell looked at once, however often workspace() is called, and is the file written?"""
    monkeypatch.chdir(tmp_path)
    pane = run(
        shell,
        "losses = []; pane = workspace(path='workspace.json')",
        "\n# first epoch\nlosses.append(0.5)",
        "workspace(); rate = 0.1",
        "del rate",
        "workspace()",
    )
    assert [(step.cell, step.source, str(step)) for step in pane.timeline.steps] == [
        (2, "losses = []; pane = workspace(path='workspace.json')", "losses new"),
        (3, "# first epoch", "losses grew"),
        (4, "workspace(); rate = 0.1", "rate new"),
        (5, "del rate", "rate gone"),
        (6, "workspace()", "nothing changed"),
    ]
    assert str(pane).endswith("1 variable; 1 changed in cell 5 “del rate”.\nGone: rate.")
    assert Timeline.load(tmp_path / "workspace.json").steps == pane.timeline.steps
    assert len(shell.events.callbacks["post_run_cell"]) == 1


def test_the_table_shows_this_cell_or_else_the_last_one(shell):
    pane = run(shell, "workspace()", "a = 1", "b = 2; workspace()")
    assert [change.name for change in pane.step.all] == ["b"]
    pane = run(shell, "workspace()")
    assert [change.name for change in pane.step.all] == ["b"]


def test_a_loop_in_one_cell_is_observed_by_hand(shell):
    pane = run(
        shell,
        "pane = workspace()",
        "losses = []\nfor i in range(3):\n    losses.append(i)\n    pane.observe(f'iteration {i}')",
        "workspace()",
    )
    assert [step.source for step in pane.timeline.steps if step.cell == 3] == [f"iteration {i}" for i in range(3)]
    assert pane.timeline.changes()["losses"] == 2


def test_a_cell_that_raises_is_a_step(shell):
    run(shell, "workspace()")
    shell.run_cell("x = 1\n1/0", store_history=True)
    assert "x" in run(shell, "workspace()").timeline.changes()


def test_a_failing_save_is_a_sentence_in_the_table(shell, tmp_path, capsys):
    run(shell, f"workspace(path={str(tmp_path / 'none' / 'workspace.json')!r})", "x = 1")
    pane = run(shell, "workspace()")
    assert "workspace.json could not be written: No such file or directory." in str(pane)
    assert "could not be written" in pane._repr_html_()
    (tmp_path / "none").mkdir()
    assert "written" not in str(run(shell, "x = 2", "workspace()"))
    assert "Traceback" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (ZeroDivisionError, "could not be looked at (ZeroDivisionError)."),
        (SystemExit, "could not be looked at (SystemExit)."),
        (KeyboardInterrupt, "The look after the last cell was interrupted."),
    ],
)
def test_a_failing_look_is_a_sentence_in_the_table(shell, monkeypatch, capsys, raised, told):
    def fail(*_given):
        raise raised

    run(shell, "workspace()")
    with monkeypatch.context() as broken:
        broken.setattr(Timeline, "observe", fail)
        run(shell, "x = 1")
    assert told in run(shell, "str(workspace())")
    assert told not in run(shell, "str(workspace())")
    assert "Traceback" not in capsys.readouterr().out
