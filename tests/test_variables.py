"""What stands in the workspace's table, which changes it sees, and which files it refuses."""

import gc
import importlib.util
import json
import subprocess
import sys
import weakref
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit import variables
from labkit.variables import Change, Step, Timeline, TimelineError, rows, workspace


def row(value):
    (found,) = rows({"x": value})
    return found


def word(before, after):
    """What the timeline says of x."""
    timeline = Timeline()
    timeline.observe({"x": before})
    return str(timeline.observe({"x": after}))


def test_import_loads_neither_torch_nor_ipython():
    code = "import sys, labkit.variables; print({'torch', 'IPython', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@dataclass
class Pair:
    loss: object
    layers: object


@pytest.mark.parametrize(
    ("value", "preview", "size", "class_"),
    [
        (0.25, "0.25", "1x1", "float"),
        (True, "True", "1x1", "bool"),
        (None, "None", "1x1", "NoneType"),
        ("sigmoid", "'sigmoid'", "1x7", "str"),
        ("a\n\u202eb", r"'a\n\u202eb'", "1x4", "str"),
        (np.float32(0.5), "0.5", "1x1", "float32"),
        ([], "[]", "1x0", "list"),
        ((1, "a"), "(1, 'a')", "1x2", "tuple"),
        ({"loss": [1.0, 2.0]}, "{'loss': [1.0, 2.0]}", "1x1", "dict"),
        (deque(range(10)), "[0, 1, 2, 3, 4, 5, …]", "1x10", "deque"),
        (range(3), "range(0, 3)", "1x3", "range"),
        (np.zeros((0, 3)), "empty", "0x3", "ndarray float64"),
        (np.array(2.5), "2.5", "1x1", "ndarray float64"),
        (np.array([1, 2]), "1  2", "1x2", "ndarray int64"),
        (np.arange(10.0).reshape(2, 5), "0 to 9", "2x5", "ndarray float64"),
        (
            np.array([1.0, 2.0, 3.0, np.nan, np.inf, 4.0, 5.0]),
            "1 to 5, 2 not finite",
            "1x7",
            "ndarray float64",
        ),
        (np.zeros((5000, 1, 28, 28), "f4"), "0  0  0  0  0  0  …", "5000x1x28x28", "ndarray float32"),
        (Pair(np.zeros(2000), ("fc_1", 2)), "Pair(loss=1x2000 float64, layers=('fc_1', 2))", "1x1", "Pair"),
    ],
)
def test_row(value, preview, size, class_):
    found = row(value)
    assert (found.value, found.size, found.class_) == (preview, size, class_)


def test_bytes_of_an_array_are_those_of_its_elements():
    assert row(np.zeros((5000, 784), "f4")).bytes == 15_680_000


def test_what_was_imported_is_not_the_students():
    """Are the student's functions shown, and those of others, modules and IPython's names left out?"""
    namespace = {"__name__": "__main__"}
    source = "from __future__ import annotations\nimport os\nfrom json import dumps\n"
    source += "from fractions import Fraction\nfrom math import sin\n"
    source += "from numpy import exp, mean\nfrom typing import Any\n"
    exec(source + "def model_loss(net): ...\nclass Net: ...\nIn = _i = 1\nb = A = 2", namespace)
    assert [found.name for found in rows(namespace)] == ["A", "b", "model_loss", "Net"]


def test_numpy_functions_are_imported():
    assert rows({"sin": np.sin, "mean": np.mean, "len": len}) == []


class Raises:
    def __repr__(self):
        raise ValueError("no")


class Exits:
    def __repr__(self):
        raise SystemExit

    __sizeof__ = __len__ = __eq__ = __hash__ = __repr__


class Attributes:
    def __getattribute__(self, name):
        raise RuntimeError(name)

    __class__ = property(lambda self: 1 / 0)


class Pretends:
    __class__ = np.ndarray


class Meta(type):
    def __getattribute__(cls, name):
        raise RuntimeError(name)


class Odd(metaclass=Meta):
    pass


class Hungry(list):
    def __len__(self):
        raise ValueError

    __iter__ = __getitem__ = __repr__ = __sizeof__ = __len__


class Shapeless(np.ndarray):
    shape = nbytes = dtype = property(lambda self: 1 / 0)


class Talks:
    def __repr__(self):
        return "a\n" * 10**6


class Number:
    def __repr__(self):
        return 3


class Slow:
    """Holds much, so that its repr is not asked for."""

    def __init__(self):
        self.values = [0.0] * 100

    def __repr__(self):
        pytest.fail("asked")


class Unset(Pair):
    def __init__(self):
        pass


def cyclic():
    inside = []
    outside = {"list": inside, "self": None}
    outside["self"] = outside
    inside += [inside, outside]
    return inside


def deep():
    value = []
    for _ in range(100_000):
        value = [value]
    return value


def lazy_module():
    spec = importlib.util.find_spec("colorsys")
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOSTILE = {
    "huge number": (10**5000, "integer of 16,610 bits"),
    "repr raises": (Raises(), "<repr raised ValueError>"),
    "repr exits": (Exits(), "not read"),
    "repr is long": (Talks(), None),
    "repr is no text": (Number(), "<repr raised TypeError>"),
    "repr may be slow": (Slow(), "Slow object"),
    "attributes raise": (Attributes(), "Attributes object"),
    "class is a lie": (Pretends(), "Pretends object"),
    "metaclass raises": (Odd(), None),
    "a class of it": (Odd, "class Odd"),
    "list without its methods": (Hungry([1, 2]), "[1, 2]"),
    "array without its attributes": (np.zeros(2).view(Shapeless), "0  0"),
    "array of objects": (np.array([Raises(), None]), None),
    "array as large as the sky": (np.broadcast_to(0.0, (10**9, 10**9)), "0  0  0  0  0  0  …"),
    "array of long texts": (np.array(["x" * 10**6]), None),
    "array of records": (np.zeros(20, [("a", "f4"), ("b", "O")]), None),
    "masked array": (np.ma.masked_all(10), None),
    "dataclass without fields": (Unset(), "<repr raised AttributeError>"),
    "cycle": (cyclic(), "[[[…], {…}], {'list': […], 'self': {…}}]"),
    "deep": (deep(), "[[[…]]]"),
    "long": ([[0.0]] * 10**6, None),
    "wide": ([list(range(1000))] * 1000, None),
    "unsortable keys": ({1: 2, "a": Raises(), None: 3}, None),
    "range": (range(10**30), None),
    "long text": ("x" * 10**7, None),
    "dict's values": (dict.fromkeys(range(10**5)).values(), "dict_values object"),
    "generator": ((i for i in ()), "generator object"),
    "ordered": (OrderedDict(a=1), "{'a': 1}"),
    "default": (defaultdict(list, a=[1]), "{'a': [1]}"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_it_holds_there_is_a_row_and_a_step(name):
    value, preview = HOSTILE[name]
    namespace = {"x": value, "after": 1}
    after, found = rows(namespace)
    assert (after.value, found.name) == ("1", "x")
    assert preview in (None, found.value)
    assert len(found.value) <= 60
    assert found.value.isprintable()
    assert 0 <= found.bytes < 2**63
    timeline = Timeline()
    assert [change.name for change in timeline.observe(namespace).appeared] == ["after", "x"]
    assert timeline.observe(namespace).all == ()
    assert str(workspace(namespace))
    assert workspace(namespace)._repr_html_()


def test_a_lazy_module_stays_asleep():
    module = lazy_module()
    assert rows({"colorsys": module}) == []
    assert type(module).__name__ == "_LazyModule"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (-1, -2, "x changed"),
        (1, True, "x changed"),
        (1.5, 1.5, "nothing changed"),
        (float("nan"), -float("nan"), "x changed"),
        (float("nan"), float("nan"), "nothing changed"),
        ("sigmoid", "relu", "x shrank"),
        ([-1], [-2], "x changed"),
        (np.zeros(3), np.zeros(3), "x changed"),
        (np.zeros(3), np.zeros(30), "x grew"),
        (np.float64(1), np.float64(2), "x changed"),
    ],
)
def test_another_value(before, after, said):
    assert word(before, after) == said


def set_pixel(x):
    x[2500, 0, 14, 14] = 1.0


def add_mean(x):
    x += 1


@pytest.mark.parametrize(
    ("value", "change"),
    [
        ([0.5], lambda x: x.append(0.25)),
        ([0.5, "a"], lambda x: x.__setitem__(1, "b")),
        ({"loss": [0.5]}, lambda x: x["loss"].append(0.25)),
        ({"loss": {"train": [0.5]}}, lambda x: x["loss"]["train"].append(0.25)),
        ({"a": 1}, lambda x: x.update(a=2)),
        ({1, 2}, lambda x: x.add(3)),
        (deque([1.0]), lambda x: x.append(3.0)),
        (np.zeros((5000, 784)), add_mean),
        (np.zeros((5000, 784)).T, add_mean),
        ([np.zeros(3)], lambda x: add_mean(x[0])),
        (Pair([1], 2), lambda x: x.loss.append(3)),
        (np.array([None, 1], dtype=object), lambda x: x.__setitem__(0, "a")),
    ],
)
def test_a_change_in_place_is_seen_once(value, change):
    timeline = Timeline()
    timeline.observe({"x": value})
    change(value)
    assert [found.name for found in timeline.observe({"x": value}).changed] == ["x"]
    assert timeline.observe({"x": value}).all == ()


def test_the_sample_reads_more_than_one_column():
    """The border of a digit is always 0: does a change of the inner pixels show?"""
    images = np.zeros((5000, 784))
    before = variables.fingerprint(images)
    images[:, 300:500] = 1
    assert variables.fingerprint(images) != before


@given(count=st.integers(0, 10**15), wanted=st.integers(0, 1000))
def test_places_are_few_and_inside(count, wanted):
    places = variables._places(count, wanted)
    assert len(places) <= wanted
    assert not len(places) or (places[0] == 0 and places[-1] < count)


def test_torch():
    """Are tensors and networks described without being computed with, and are their changes seen?"""
    import torch

    network = torch.nn.Sequential(torch.nn.Linear(784, 100), torch.nn.Sigmoid(), torch.nn.Linear(100, 10))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    x = {
        "bfloat": torch.tensor([1.0, 2.5], dtype=torch.bfloat16),
        "elsewhere": torch.zeros(3, 4, device="meta"),
        "images": torch.rand(5000, 1, 28, 28),
        "lazy": torch.nn.LazyLinear(3),
        "loss": torch.tensor(0.25, requires_grad=True) * 2,
        "network": network,
        "optimizer": optimizer,
        "sparse": torch.eye(3).to_sparse(),
        "turned": torch.arange(20.0).reshape(4, 5).T,
    }
    table = {found.name: found for found in rows(x)}
    assert {name: found.value for name, found in table.items() if name != "images"} == {
        "bfloat": "1  2.5",
        "elsewhere": "meta, not read",
        "lazy": "0 learnables in 2 arrays",
        "loss": "0.5",
        "network": "79,510 learnables in 4 arrays",
        "optimizer": "SGD object",
        "sparse": "not read",
        "turned": "0 to 19",
    }
    assert (table["images"].size, table["images"].bytes) == ("5000x1x28x28", 15_680_000)
    assert (table["images"].class_, table["network"].class_) == ("Tensor float32", "Sequential")
    assert table["network"].bytes == 79_510 * 4

    def changed(act):
        act()
        return [change.name for change in timeline.observe(x).changed]

    def train():
        network(x["images"][:8].reshape(8, -1)).sum().backward()
        optimizer.step()

    timeline = Timeline()
    timeline.observe(x)
    assert timeline.observe(x).all == ()
    assert changed(train) == ["network", "optimizer"]
    assert changed(lambda: x["images"].__setitem__((2, 0, 3, 3), 5.0)) == ["images"]
    assert changed(lambda: x["turned"].numpy().__iadd__(1)) == ["turned"]
    assert changed(lambda: network[0].weight.data.mul_(2)) == ["network"]
    assert changed(lambda: setattr(network[0].weight, "data", torch.zeros(100, 784))) == ["network"]


def test_the_timeline_keeps_nothing_alive():
    namespace = {"x": Raises(), "images": np.zeros(3)}
    dies = [weakref.ref(value) for value in namespace.values()]
    timeline = Timeline()
    pane = workspace(namespace)
    timeline.observe(namespace)
    pane.observe()
    namespace.clear()
    gc.collect()
    assert [ref() for ref in dies] == [None, None]
    assert [change.name for change in timeline.observe(namespace).gone] == ["images", "x"]


def told():
    timeline = Timeline()
    losses = []
    namespace = {"losses": losses, "rate": 0.1}
    timeline.observe(namespace, 1, "\n\nlosses = []\nrate = 0.1")
    for _ in range(100):
        losses.append(0.5)
        timeline.observe(namespace, 2, "for batch in batches:")
    del namespace["rate"]
    timeline.observe(namespace | {"name": "b" * 90}, 3, "name = " + "b" * 90)
    return timeline


def test_summary():
    timeline = told()
    assert timeline.changes() == {"losses": 100, "rate": 0, "name": 0}
    assert timeline.grew() == {"losses": (sys.getsizeof([]), 920)}
    assert timeline.largest_growth() == ("losses", 56, 920)
    assert (timeline.steps[0].source, len(timeline.steps[-1].source)) == ("losses = []", 80)
    assert str(timeline.steps[-1]) == "name new, rate gone"
    assert [change.name for change in timeline.steps[1].grew] == ["losses"]
    assert Timeline().largest_growth() is None


def test_a_second_look_in_a_cell_that_finds_nothing_is_no_step():
    timeline = Timeline()
    for cell in (1, 1, 2, None, None):
        timeline.observe({"x": 1}, cell)
    assert [step.cell for step in timeline.steps] == [1, 2, None, None]


names = st.from_regex(r"[a-zé][a-z0-9]{0,98}", fullmatch=True)
sizes = st.lists(st.integers(0, 2**62), min_size=2, max_size=5).map(lambda shape: "x".join(map(str, shape)))
counts = st.integers(0, 2**63 - 1)
changed = st.builds(Change, names, sizes, sizes, counts, counts)
appeared = changed.map(lambda change: replace(change, size_before=""))
gone = changed.map(lambda change: replace(change, size_after=""))
sources = st.text(max_size=200).map(lambda text: variables._line(text, 80))
steps = st.builds(
    Step,
    st.none() | counts,
    sources,
    *(st.lists(kind, max_size=3).map(tuple) for kind in (appeared, changed, gone)),
)


@given(st.lists(steps, max_size=5), counts)
def test_save_then_load_is_the_identity(tmp_path_factory, kept, dropped):
    path = tmp_path_factory.getbasetemp() / "workspace.json"
    timeline = Timeline()
    timeline.steps, timeline.dropped = kept, dropped
    timeline.save(path)
    loaded = Timeline.load(path)
    assert (loaded.steps, loaded.dropped) == (kept, dropped)


def test_the_file_is_the_same_each_time(tmp_path):
    for name in ("a.json", "b.json"):
        told().save(tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]


@pytest.mark.parametrize(("variables_", "loops"), [(1, 3000), (400, 90)])
def test_a_full_timeline_still_loads(tmp_path, variables_, loops):
    timeline = Timeline()
    for i in range(loops):
        timeline.observe({f"variable_{n}": i for n in range(variables_)}, source="x" * 80)
    timeline.save(tmp_path / "workspace.json")
    loaded = Timeline.load(tmp_path / "workspace.json")
    assert 0 < loaded.dropped == timeline.dropped == loops - len(loaded.steps)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "workspace.json"
    told().save(path)
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda number: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        Timeline().save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def written(**changes):
    step = {"cell": 1, "source": "x = 1", "appeared": [["x", "", "1x1", 0, 28]], "changed": [], "gone": []}
    whole = {"format": "labkit workspace", "version": 1, "dropped": 0, "steps": [step]}
    step |= {key: value for key, value in changes.items() if key not in whole}
    return json.dumps(whole | {key: value for key, value in changes.items() if key in whole})


def test_the_example_of_the_bad_files_is_good(tmp_path):
    (tmp_path / "workspace.json").write_text(written())
    assert Timeline.load(tmp_path / "workspace.json").changes() == {"x": 0}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is not there"),
        ("", "cut off"),
        (written()[:60], "cut off"),
        ("[" * 900_000, "cut off"),
        ("1" * 900_000, "cut off"),
        (b"\x93NUMPY\xff", "cut off"),
        (b"\x80\x04\x95", "cut off"),
        (" " * 1_000_001, "more than 1,000,000 bytes"),
        ("[]", "is no timeline"),
        ('{"cells": []}', "is no timeline"),
        (written(format="labkit recording"), "is no timeline"),
        (written(version=2), "format version 2, this labkit reads version 1"),
        (written(version="\u202e" * 100), "format version"),
        (written(version=True), "format version True"),
        (written(dropped=-1), "count of dropped"),
        (written(dropped=1.0), "count of dropped"),
        (written(steps={}), "a list of at most 2,000 steps"),
        (written(steps=[{}] * 2001), "a list of at most 2,000 steps"),
        (written(steps=[1]), "step 1 without exactly cell, source, appeared, changed, gone"),
        (written(more=1), "step 1 without exactly"),
        (written(cell="1"), "step 1 whose cell is no number"),
        (written(cell=True), "step 1 whose cell is no number"),
        (written(source=["a"]), "source is no line of text"),
        (written(source="a\nb"), "source is no line of text"),
        (written(source="a" * 81), "source is no line of text"),
        (written(source="\ud800"), "source is no line of text"),
        (written(gone=None), 'step 1 whose "gone"'),
        (written(gone=[["x", "", "1x1", 0, 28]]), 'step 1 whose "gone"'),
        (written(changed=[["x", "", "1x1", 0, 28]]), 'step 1 whose "changed"'),
        (written(changed=[["<b>", "1x1", "1x1", 0, 28]]), 'step 1 whose "changed"'),
        (written(changed=[["x", "1x1", "1x٣", 0, 28]]), 'step 1 whose "changed"'),
        (written(changed=[["x", "1x1", "1x1", -1, 28]]), 'step 1 whose "changed"'),
        (written(changed=[["x", "1x1", "1x1", True, 28]]), 'step 1 whose "changed"'),
        (written(changed=[["x", "1x1", "1x1", 0, 2**63]]), 'step 1 whose "changed"'),
        (written(changed=[["x", "1x1", "1x1", 0, float("nan")]]), 'step 1 whose "changed"'),
        (written(changed=[["x"]]), 'step 1 whose "changed"'),
        (written(changed=["xxxxx"]), 'step 1 whose "changed"'),
    ],
    ids=lambda given: given if isinstance(given, str) and len(given) < 60 else "file",
)
def test_a_bad_file_is_refused_in_one_sentence(tmp_path, content, words):
    path = tmp_path / "workspace.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TimelineError) as refused:
        Timeline.load(path)
    said = str(refused.value)
    assert words in said
    assert said.startswith("workspace.json ")
    assert "run the notebook again" in said
    assert len(said) < 250
    assert said.isprintable()


def test_a_folder_is_no_timeline(tmp_path):
    with pytest.raises(TimelineError, match="is not a file"):
        Timeline.load(tmp_path)


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
    assert '<td style="text-align:left">new</td>' in text
    assert '<td style="text-align:right">28</td>' in text


@pytest.fixture
def shell():
    from IPython.core.interactiveshell import InteractiveShell

    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(user_ns={"__name__": "__main__"})
    shell.history_manager.enabled = False
    shell.run_cell("from labkit.variables import workspace", store_history=True)
    yield shell
    InteractiveShell.clear_instance()


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
    assert str(pane).endswith("1 variables; 1 changed in cell 5 “del rate”.\nGone: rate.")
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


def test_a_failing_look_is_a_sentence_in_the_table(shell, monkeypatch, capsys):
    run(shell, "workspace()")
    with monkeypatch.context() as broken:
        broken.setattr(Timeline, "observe", lambda *given: 1 / 0)
        run(shell, "x = 1")
    assert "could not be looked at (ZeroDivisionError)" in str(run(shell, "workspace()"))
    assert "Traceback" not in capsys.readouterr().out
