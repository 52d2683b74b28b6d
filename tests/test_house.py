"""Do the rooms keep to the import rules, and is the house in order?"""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

ROOT = Path(__file__).parent.parent
PYTHON = sorted([*ROOT.glob("labkit/**/*.py"), *ROOT.glob("autograder/**/*.py")])
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\n")


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it, except for types alone."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = [ast.Pass()]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def reaches(path: Path, name: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for module in imports(path))


@pytest.mark.parametrize("path", PYTHON, ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_import_only_what_they_may(path: Path) -> None:
    room = str(path.relative_to(ROOT))
    assert not reaches(path, "assignments")
    if room.startswith("labkit/"):
        assert not reaches(path, "autograder")
        assert not reaches(path, "nbgrader")
    torchless = ("autograder/checks", "autograder/questions/", "autograder/gradebook", "autograder/evidence",
                 "autograder/authenticity", "autograder/audit", "autograder/identities", "labkit/recording",
                 "labkit/replay", "labkit/propagation", "labkit/deviations", "labkit/theory", "labkit/data",
                 "labkit/claims", "labkit/flow", "labkit/backward", "labkit/diagnosis",
                 "labkit/digits", "labkit/mnist", "labkit/circles",
                 "labkit/sequences", "labkit/streams", "labkit/cache", "labkit/activations", "labkit/catalogue",
                 "labkit/ensembles", "labkit/plots", "labkit/experiments", "labkit/initialisations",
                 "labkit/histogram")  # fmt: skip
    if room.startswith(torchless):
        assert not reaches(path, "torch")


def test_the_import_rule_catches_a_planted_import(tmp_path: Path) -> None:
    planted = tmp_path / "x.py"
    planted.write_text("def f():\n    from autograder import checks\n    import torch.nn as nn\n")
    assert reaches(planted, "autograder")
    assert reaches(planted, "torch")
    assert not reaches(planted, "nbgrader")


@pytest.mark.parametrize(
    "statement", ["import labkit", "import autograder", "import labkit.recording, autograder.checks"]
)
def test_importing_loads_nothing_heavy_and_says_nothing(statement: str) -> None:
    heavy = "torch matplotlib.pyplot nbgrader IPython ipywidgets"
    loaded = f"loaded = [m for m in {heavy.split()!r} if m in sys.modules]"
    code = f"import sys\n{statement}\n{loaded}\nassert not loaded, loaded"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_everything_promised_is_there() -> None:
    import labkit

    for name in labkit.__all__:
        assert getattr(labkit, name) is not None
    assert set(labkit.__all__) <= set(dir(labkit))
    with pytest.raises(AttributeError, match="choose from"):
        labkit.nothing  # noqa: B018


@pytest.mark.skipif(not any(TRACKED), reason="not a git checkout, so nothing is tracked")
def test_what_is_tracked_is_in_order() -> None:
    hosts = re.compile(r"python[h]osted\.org|py[p]i\.org|registry\.npm[j]s|deb\.deb[i]an\.org")
    for name in filter(None, TRACKED):
        path = ROOT / name
        if not path.is_file():
            continue
        assert path.stat().st_size < 1_500_000, f"{name} is too large"
        if path.suffix in {".py", ".md", ".toml", ".txt", ".ipynb", ".html", ""}:
            assert not hosts.search(path.read_text()), f"{name} names the host of a registry"
        if path.suffix == ".ipynb":
            cells = json.loads(path.read_text())["cells"]
            assert not any(c.get("outputs") or c.get("execution_count") for c in cells), f"{name} has outputs"


@pytest.mark.parametrize("source", sorted((ROOT / "assignments").glob("*.py")), ids=lambda p: p.stem)
def test_the_committed_notebook_is_the_built_one(source: Path) -> None:
    if source.name == "nbgrader_config.py":
        return
    from autograder.authoring import notebook_of, rendered

    assert notebook_of(source).read_bytes() == rendered(source), "run `autograder build` and commit the notebook"


@pytest.mark.parametrize("room", ["labkit", "autograder"])
def test_every_command_is_in_the_readme_and_has_an_example(room: str) -> None:
    from importlib import import_module

    readme = (ROOT / "README.md").read_text()
    main = import_module(f"{room}.cli").main
    for name, command in main.commands.items():
        assert f"{room} {name}" in readme, f"the README does not mention `{room} {name}`"
        assert "Example" in (command.help or ""), f"`{room} {name} --help` has no example"


@pytest.mark.parametrize("room", ["labkit", "autograder"])
def test_help_is_whole_and_says_defaults(room: str) -> None:
    """The list of commands has a line of 80 characters for each."""
    from importlib import import_module

    main = import_module(f"{room}.cli").main
    listed = CliRunner().invoke(main, ["--help"]).output.split("Commands:")[1]
    assert "..." not in listed, f"shorten the first sentence: {listed}"
    for name, command in main.commands.items():
        for option in (one for one in command.params if isinstance(one, click.Option) and not one.is_flag):
            has_one = isinstance(option.default, str | int | float | Path) and option.default != ""
            assert option.show_default or not has_one, f"`{room} {name} --help` does not say what {option.name} is"
