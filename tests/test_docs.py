"""Do the pages tell the truth: links, commands, names, figures?"""

import ast
import importlib.util
import inspect
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
READERS = ("student", "instructor", "contributor")
SHELL = ("sh", "bash")

FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>\w*)\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`((?:[^`\n]|\n(?!\n))+)`(?!`)")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
OUR_FILE = re.compile(r"(labkit|autograder|docs|tests|benchmarks|assignments)/[\w/]*(\.\w+)?")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
# American and British: what these pages say the one way only
AMERICAN = re.compile(
    r"\b(behavior|color(?!map)|center(?!ed)|normaliz\w*|initializ\w*|analyz\w*|recogniz\w*|optimiz(?!er)\w*|labeled|gray)\b",
    re.IGNORECASE,
)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


each_page = pytest.mark.parametrize("page", PAGES, ids=named)


def blocks(text: str) -> list[tuple[str, str]]:
    """Kind and body of each fenced block, without the indent of the list that it stands in."""
    return [(m["kind"], re.sub(f"^{m['indent']}", "", m["body"], flags=re.MULTILINE)) for m in FENCE.finditer(text)]


def prose(text: str) -> str:
    return INLINE.sub("", FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """As a Git host makes them of the headings."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(FENCE.sub("", text)))
    return {heading.replace(" ", "-") for heading in plain}


def broken_links(page: Path, text: str) -> Iterator[str]:
    for target in LINK.findall(FENCE.sub("", text)):
        if re.match(r"https?://|mailto:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        if file and not there.exists():
            yield f"{target}: there is no such file"
        elif anchor and anchor not in anchors(there.read_text() if file else text):
            yield f"{target}: {there.name} has no such heading"


# ---- commands


def commands(text: str) -> Iterator[tuple[list[str], bool]]:
    """The words of each command on a page, and whether it stands there whole, to be typed."""
    for kind, body in blocks(text):
        if kind in SHELL:
            for line in body.replace("\\\n", " ").splitlines():
                for part in line.split("&&"):
                    yield shlex.split(part, comments=True), True
    for code in INLINE.findall(FENCE.sub("", text)):
        if re.match(r"(labkit|autograder|make|nbgrader) [\w<-]", code):
            yield [word for word in code.split() if word != "..."], False


def told(words: list[str], whole: bool) -> str:
    """What is wrong with a command of ours; empty for none, and for what is not ours to know."""
    if not words:
        return ""
    program, *arguments = [Path(words[0]).name, *words[1:]]
    if program == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        return "".join(f"there is no make {name}" for name in arguments if "=" not in name and name not in targets)
    if program == "nbgrader":
        from nbgrader.apps.nbgraderapp import NbGraderApp

        known = arguments and arguments[0] in NbGraderApp.subcommands
        return "" if known else f"nbgrader has no {' '.join(arguments[:1])}"
    if program == "python" and arguments[:1] and arguments[0].endswith(".py"):
        return "" if (ROOT / arguments[0]).is_file() else f"there is no {arguments[0]}"
    if program not in ("labkit", "autograder"):
        return ""
    return _not_in_click(program, import_module(f"{program}.cli").main, arguments, whole)


def _not_in_click(said: str, command: click.Command, arguments: list[str], whole: bool) -> str:
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        said = f"{said} {arguments[0]}"
        found = command.commands.get(arguments[0])
        if found is None:
            return f"there is no {said}"
        command, arguments = found, arguments[1:]
    context = click.Context(command, info_name=said)
    try:
        values, rest, _ = command.make_parser(context).parse_args(list(arguments))
    except click.UsageError as error:
        # a mention may name an option without its value
        return "" if not whole and isinstance(error, click.BadOptionUsage) else f"{said}: {error.format_message()}"
    if rest:
        return f"{said}: unexpected {' '.join(rest)}"
    for parameter in command.get_params(context):
        value = values.get(parameter.name)
        missing = value in (None, (), []) or not isinstance(value, str | tuple | list | bool | int)
        if whole and missing and parameter.required:
            return f"{said} needs {parameter.name}"
        if isinstance(parameter.type, click.Choice) and isinstance(value, str) and value not in parameter.type.choices:
            return f"{said}: {value} is none of {', '.join(parameter.type.choices)}"
    return ""


# ---- Python


def wrong_names(code: str) -> Iterator[str]:
    """Names of ours that do not exist, and arguments that their functions do not take."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and _ours(node.module):
            yield from (
                f"{node.module} has no {alias.name}" for alias in node.names if not _has(node.module, alias.name)
            )
        elif isinstance(node, ast.Attribute):
            yield from _missing(node)
        elif isinstance(node, ast.Call):
            yield from _refused(node)


def mentioned(text: str) -> Iterator[str]:
    """What is wrong with the names and the files of ours that the sentences of a page mention."""
    for code in INLINE.findall(FENCE.sub("", text)):
        if re.fullmatch(r"(labkit|autograder|plots)\.\w+[\w.]*(\(.*\))?", code):
            yield from wrong_names(code)
        elif OUR_FILE.fullmatch(code) and "NAME" not in code and not (ROOT / code).exists():
            yield f"there is no {code}"


def _ours(module: str) -> bool:
    return module.split(".")[0] in ("labkit", "autograder")


def _has(module: str, name: str) -> bool:
    try:
        return hasattr(import_module(module), name) or importlib.util.find_spec(f"{module}.{name}") is not None
    except ModuleNotFoundError:
        return False


def _thing(node: ast.expr) -> Any:
    """What an expression such as labkit.networks.of_experiment is; LookupError where it is nothing of ours."""
    if isinstance(node, ast.Name) and node.id in ("labkit", "autograder"):
        return import_module(node.id)
    if isinstance(node, ast.Name) and node.id == "plots":
        return import_module("labkit.plots")
    if not isinstance(node, ast.Attribute):
        raise LookupError
    owner = _thing(node.value)
    if not isinstance(owner, ModuleType | type):
        raise LookupError
    if isinstance(owner, ModuleType) and _has(owner.__name__, node.attr) and not hasattr(owner, node.attr):
        return import_module(f"{owner.__name__}.{node.attr}")
    return getattr(owner, node.attr)


def _missing(node: ast.Attribute) -> Iterator[str]:
    try:
        _thing(node)
    except AttributeError:
        yield f"{ast.unparse(node)} does not exist"
    except LookupError:
        pass


def _refused(node: ast.Call) -> Iterator[str]:
    try:
        parameters = inspect.signature(_thing(node.func)).parameters
    except (LookupError, AttributeError):
        return
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for keyword in node.keywords:
        if keyword.arg and keyword.arg not in parameters:
            yield f"{ast.unparse(node.func)} takes no {keyword.arg}"


# ---- figures


def bad_images(page: Path, text: str) -> Iterator[str]:
    for alt, target in IMAGE.findall(FENCE.sub("", text)):
        if not (page.parent / target).is_file():
            yield f"{target}: there is no such figure"
        if len(alt.split()) < 6:
            yield f"{target}: {alt!r} says too little of what is to be seen"


def drawn() -> ModuleType:
    """docs/figures.py, which draws them."""
    spec = importlib.util.spec_from_file_location("docs_figures", DOCS / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def descriptions(text: str) -> dict[str, str]:
    """What figures/README.md says of each figure."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)[1:]
    return {name: words.strip() for name, words in zip(parts[::2], parts[1::2], strict=True)}


def unlike(folder: Path, files: set[str]) -> set[str]:
    """What is in the folder or in the list, and not in both."""
    return {path.name for path in folder.iterdir()} ^ files


# ---- the pages as they are


@each_page
def test_every_link_and_anchor_leads_somewhere(page: Path) -> None:
    assert list(broken_links(page, page.read_text())) == []


@each_page
def test_every_command_is_there_with_these_options(page: Path) -> None:
    wrong = [told(words, whole) for words, whole in commands(page.read_text())]
    assert [one for one in wrong if one] == []


@each_page
def test_every_python_block_names_what_exists(page: Path) -> None:
    wrong = [one for kind, body in blocks(page.read_text()) if kind == "python" for one in wrong_names(body)]
    assert wrong == []


@each_page
def test_every_name_and_file_that_is_mentioned_exists(page: Path) -> None:
    assert list(mentioned(page.read_text())) == []


@each_page
def test_every_figure_is_there_and_described(page: Path) -> None:
    assert list(bad_images(page, page.read_text())) == []


@each_page
def test_words_are_british(page: Path) -> None:
    assert AMERICAN.findall(prose(page.read_text())) == []


@pytest.mark.parametrize("reader", READERS)
def test_each_reader_has_a_first_page_that_is_linked_and_leads_to_all_others(reader: str) -> None:
    first = DOCS / reader / "README.md"
    for start in (ROOT / "README.md", DOCS / "README.md"):
        linked = {(start.parent / target).resolve() for target in LINK.findall(start.read_text())}
        assert first in linked, f"{start.name} does not lead to {first}"
    on = {(first.parent / target.partition("#")[0]).resolve() for target in LINK.findall(first.read_text())}
    assert {path for path in first.parent.glob("*.md") if path != first} <= on


def test_the_figures_are_those_that_the_command_draws_and_small() -> None:
    folder = DOCS / "figures"
    assert unlike(folder, set(drawn().FILES)) == set()
    sizes = [path.stat().st_size for path in folder.iterdir()]
    assert max(sizes) < 300_000
    assert sum(sizes) < 1_500_000


def test_every_figure_is_used_and_carries_its_description() -> None:
    said = descriptions((DOCS / "figures" / "README.md").read_text())
    used = {Path(target).stem for page in PAGES for _, target in IMAGE.findall(page.read_text())}
    assert set(said) == set(drawn().DRAWINGS) == used
    for name, words in said.items():
        with Image.open(DOCS / "figures" / f"{name}.png") as image:
            assert image.text["Description"].strip() == words, name


# (page, what it says, figure, what the figure's description says): drawing anew must not leave old numbers on a page
QUOTED = [
    ("vanishing", "0.029 in `fc_6` and of 4.3e-6 in `fc_1`", "six-bands", "fc_1 4.29e-06"),
    ("vanishing", "0.029 in `fc_6`", "six-bands", "fc_6 0.029 "),
    ("vanishing", "3,000 times narrower", "six-waterfall", "2,926 times smaller"),
    ("vanishing", "stays at 2.31", "six-losses", "The median of the last 31 iterations is 2.31."),
    ("vanishing", "1,500 times smaller than `fc_5`", "remedies", "fc_1 is 1,493 times smaller than fc_5"),
    ("vanishing", "1.7 times with batch normalisation", "remedies", "fc_1 is 1.7 times smaller than fc_5"),
    ("vanishing", "9 times with residual", "remedies", "fc_1 is 8.85 times smaller than fc_5"),
    ("exploding", "starts at 196", "dial-losses", "196 at iteration 1"),
    ("exploding", "At the third iteration it is 3e11", "dial-losses", "2.97e+11 at iteration 3"),
    ("exploding", "down to a loss of about 5", "dial-losses", "The median of the last 21 iterations is 5.18."),
    ("exploding", "a million times", "through-time", "1.44e+06 times smaller"),
    ("growing", "falls to 0.19", "growth-tanh", "0.188 times its start"),
    ("growing", "2.8 times", "growth-tanh", "2.8 times its start"),
    ("growing", "falls to 0.15", "growth-relu", "0.154 times its start"),
    ("growing", "34 times", "growth-relu", "34.3 times its start"),
    ("growing", "3.7 times its start", "growth-relu", "3.7 times its start"),
    ("growing", "All of the curve lies inside", "signed-means", "fc_3 (100.0% of the iterations)"),
    ("growing", "the same layer is 0.02", "signed-or-absolute", "fc_3 0.0223"),
]


@pytest.mark.parametrize(("page", "words", "figure", "measured"), QUOTED)
def test_numbers_on_a_page_are_those_of_its_figure(page: str, words: str, figure: str, measured: str) -> None:
    text = " ".join((DOCS / "student" / f"{page}.md").read_text().split())
    assert words in text
    assert measured in descriptions((DOCS / "figures" / "README.md").read_text())[figure]


@pytest.mark.parametrize(
    ("activation", "initialisation", "words"),
    [
        ("sigmoid", "glorot_uniform", "0.0557"),
        ("sigmoid", "he_normal", "0.1010"),
        ("relu", "glorot_uniform", "0.5"),
        ("relu", "he_normal", "1"),
        ("linear", "glorot_uniform", "1"),
        ("linear", "he_normal", "2"),
    ],
)
def test_the_table_of_gains_is_what_theory_gives(activation: Any, initialisation: Any, words: str) -> None:
    from labkit.theory import gain

    assert gain(activation, initialisation, 1000) == pytest.approx(float(words), abs=6e-5)
    name = {"sigmoid": "sigmoid", "relu": "ReLU", "linear": "linear"}[activation]
    row = next(line for line in (DOCS / "student" / "vanishing.md").read_text().splitlines() if f"| {name} |" in line)
    assert words in row.split("|")[2 if initialisation == "glorot_uniform" else 3].split()


@pytest.mark.parametrize("source", sorted((ROOT / "assignments").glob("*.py")), ids=lambda p: p.stem)
def test_the_table_of_labs_has_their_points(source: Path) -> None:
    if source.name == "nbgrader_config.py":
        return
    headers = [line for line in source.read_text().splitlines() if line.startswith("# %%") and "points=" in line]
    machine = sum(int(line.split("points=")[1]) for line in headers if "test=" in line)
    person = sum(int(line.split("points=")[1]) for line in headers if "test=" not in line)
    assert f"| `{source.stem}` | {machine} + {person} |" in (ROOT / "README.md").read_text()


def test_no_two_labs_have_a_question_of_one_name() -> None:
    """`autograder.check(name)` finds the lab by it."""
    from autograder import questionnaire

    labs = [path.stem for path in sorted((ROOT / "assignments").glob("*.py")) if path.stem != "nbgrader_config"]
    names = [name for lab in labs for name in questionnaire.of(lab)]
    assert {"vanishing_gradients", "trainability"} <= set(labs)
    assert sorted(names) == sorted(set(names))


# ---- and does each check see a mistake?


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[x](nothing.md)", "no such file"),
        ("# Here\n[x](#there)", "no such heading"),
        ("[x](CHANGELOG.md#long-ago)", "no such heading"),
        ("# A `b`: c?\n[x](#a-b-c) [y](https://example.org/none) [z](CHANGELOG.md#unreleased)", ""),
    ],
)
def test_a_broken_link_is_seen(text: str, words: str) -> None:
    found = list(broken_links(ROOT / "x.md", text))
    assert (words in found[0]) if words else not found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("```sh\nlabkit dance\n```", "there is no labkit dance"),
        ("```sh\nlabkit run vanishing/relu --sudent ada\n```", "--sudent"),
        ("```sh\nlabkit replay x.safetensors\n```", "needs iteration"),
        ("```sh\nlabkit show\n```", "needs files"),
        ("```sh\nlabkit reproduce --data cifar\n```", "is none of"),
        ("```sh\ncd x && autograder grade\n```", "needs name"),
        ("```sh\n.venv/bin/autograder export tensorbord x y\n```", "unexpected"),
        ("```sh\nlabkit export tensorbord x\n```", "there is no labkit export tensorbord"),
        ("```sh\npython docs/figure.py\n```", "there is no docs/figure.py"),
        ("1. x\n\n   ```sh\n   make tset\n   ```", "no make tset"),
        ("say `autograder grade NAME --evidence`", "--evidence"),
        ("`nbgrader realease_feedback x`", "has no realease_feedback"),
        ("`labkit run` and `labkit replay FILE --at` and `autograder.check(...)` and `make demo`", ""),
        ("```sh\nlabkit replay x --at 3  # again\nls\nautograder init x && make PYTHON=p test\n```", ""),
    ],
)
def test_a_wrong_command_is_seen(text: str, words: str) -> None:
    found = [one for one in (told(*command) for command in commands(text)) if one]
    assert (found and words in found[0]) if words else not found, found


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("labkit.tain(e)", "labkit.tain does not exist"),
        ("from autograder.checks import Fialed", "has no Fialed"),
        ("from labkit.plot import losses", "has no losses"),
        ("labkit.train(e, saev='x')", "takes no saev"),
        ("labkit.Recording.laod('x')", "does not exist"),
        ("plots.loses(run)", "does not exist"),
        ("import numpy as np\nlabkit.networks.of_experiment(e)\nnp.nothing\nlabkit.recording.STATISTICS", ""),
    ],
)
def test_a_wrong_name_is_seen(code: str, words: str) -> None:
    found = list(wrong_names(code))
    assert (found and words in found[0]) if words else not found, found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("see `plots.loses`", "plots.loses does not exist"),
        ("see `labkit.exlpore(3)`", "does not exist"),
        ("in `labkit/catalog.py`", "there is no labkit/catalog.py"),
        ("in `tests/browsers/`", "there is no tests/browsers/"),
        ("`plots.losses`, `labkit/plots/`, `autograder.check(...)`, `assignments/NAME.py`, `autograder demo`", ""),
    ],
)
def test_a_wrong_mention_is_seen(text: str, words: str) -> None:
    found = list(mentioned(text))
    assert (found and words in found[0]) if words else not found, found


def test_code_that_is_no_python_is_seen() -> None:
    with pytest.raises(SyntaxError):
        list(wrong_names("labkit.train("))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("![Losses of two networks, the sigmoid's above](none.png)", "no such figure"),
        ("![](docs/figures/six-losses.png)", "says too little"),
        ("![losses](docs/figures/six-losses.png)", "says too little"),
    ],
)
def test_a_figure_that_is_missing_or_not_described_is_seen(text: str, words: str) -> None:
    assert words in next(bad_images(ROOT / "x.md", text))


def test_a_figure_too_many_or_too_few_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert unlike(tmp_path, {"a.png"}) == set()
    assert unlike(tmp_path, set()) == {"a.png"}
    assert unlike(tmp_path, {"a.png", "b.png"}) == {"b.png"}


@pytest.mark.parametrize("word", ["behavior", "color", "normalization", "initialized", "Optimization"])
def test_an_american_spelling_is_seen(word: str) -> None:
    assert AMERICAN.findall(prose(f"The {word} of `color` and an optimizer"))
    assert not AMERICAN.findall(prose("The behaviour of `color`, an optimizer, a colormap"))
