"""Do our processes leave out what takes a second to load, and are notebooks validated all the same?"""

import subprocess
import sys
from importlib import metadata

import pytest
from click.testing import CliRunner

from autograder import markers
from autograder.cli import main

VALIDATES = """
import sys
if "without" in sys.argv:
    from autograder.lean import without_grammars
    without_grammars()
import nbformat
from nbformat.v4 import new_code_cell, new_notebook
nbformat.validate(new_notebook(cells=[new_code_cell("1 + 1")]))
try:
    nbformat.validate(new_notebook(metadata=dict(kernelspec=3)))
except nbformat.ValidationError:
    print("refused", "lark" in sys.modules)
"""


def validated(*arguments: str) -> str:
    ran = subprocess.run([sys.executable, "-c", VALIDATES, *arguments], capture_output=True, text=True, check=True)
    return ran.stdout.strip()


def test_a_notebook_is_validated_without_the_grammars() -> None:
    assert validated("without") == "refused False"


def test_there_is_something_to_leave_out() -> None:
    # not by an import: in this process a command may have left it out already
    if not list(metadata.distributions(name="rfc3987-syntax")):
        pytest.skip("rfc3987-syntax is not installed: nothing is left out")
    assert validated() == "refused True"


def test_commands_leave_them_out(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.delitem(sys.modules, "rfc3987_syntax", raising=False)
    assert CliRunner().invoke(main, ["init", str(tmp_path / "made")]).exit_code == 0
    assert sys.modules["rfc3987_syntax"] is None


def test_markers_leave_them_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "rfc3987_syntax", raising=False)
    with pytest.raises(ValueError, match="negative file descriptor"):
        markers.main("-1")
    assert sys.modules["rfc3987_syntax"] is None
