"""What the workspace panel sends to the browser, and what it must never do to a student's variables."""

import base64
import copy
import gc
import io
import json
import signal
import sys
import time
import weakref
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from labkit import desk
from labkit.desk import _Watcher
from labkit.pages import Ask, page
from labkit.panels import workspace as room
from labkit.panels.workspace import WorkspacePanel, row_of
from labkit.patience import Impatient, within
from labkit.ranges import range_of, whole_range

NOTEBOOK = Path(__file__).parent.parent / "assignments/source/vanishing_gradients/vanishing_gradients.ipynb"


class Desk:
    """A notebook with a panel, and everything that would go to the browser, through JSON."""

    def __init__(self, namespace):
        self.namespace = namespace
        self.watcher = _Watcher(namespace)
        self.panel = self.watcher.panel = WorkspacePanel(namespace, self.watcher.timeline)
        self.panel.show_beside()
        self.sent = []
        self.panel.send = lambda content: self.sent.append(json.loads(json.dumps(content, allow_nan=False)))
        self.number = 0

    def cell(self, act=lambda namespace: None):
        act(self.namespace)
        self.number += 1
        info = SimpleNamespace(raw_cell="act()")
        self.watcher.after_cell(SimpleNamespace(execution_count=self.number, info=info))
        return self.sent[-1]

    def ask(self, **asked):
        self.panel._asked(None, {"for": "view", **asked}, [])
        return self.sent[-1]

    def page(self, name, *path, **asked):
        return self.ask(ask="page", name=name, path=list(path), **asked)


def test_after_a_cell_only_what_changed_is_sent():
    desk_ = Desk({"x": [1.0], "y": 2, "z": "a"})
    first = desk_.cell()
    assert [row["name"] for row in first["rows"]] == ["x", "y", "z"]
    assert first["marks"] == dict.fromkeys("xyz", "new")

    def act(namespace):
        namespace["x"].append(2.0)
        namespace["w"] = 1
        del namespace["z"]

    second = desk_.cell(act)
    assert [row["name"] for row in second["rows"]] == ["w", "x"]
    assert (second["marks"], second["gone"], second["names"]) == (
        {"w": "new", "x": "grew"},
        [["z", "1x1"]],
        ["w", "x", "y"],
    )
    assert desk_.cell()["marks"] == {}
    assert desk_.cell()["rows"] == []


def test_a_cell_with_observed_iterations_is_one_change():
    desk_ = Desk({"losses": []})
    desk_.cell()

    def loop(namespace):
        for k in range(3):
            namespace["losses"].append(k)
            desk_.watcher.observe(f"iteration {k}")

    assert desk_.cell(loop)["marks"] == {"losses": "grew"}
    assert [step.source for step in desk_.watcher.timeline.steps[1:4]] == [f"iteration {k}" for k in range(3)]


def test_the_row_of_an_array():
    values = np.array([[1.0, -2.0], [np.nan, 4.0]])
    (row,) = Desk({"x": values}).cell()["rows"]
    assert (row["shape"], row["dtype"], row["device"], row["bytes"]) == ("(2, 2)", "float64", "cpu", 32)
    assert (row["low"], row["mean"], row["high"], row["sampled"]) == (-2.0, 1.0, 4.0, False)


def test_a_sample_is_called_one_and_the_whole_is_read_when_asked():
    values = np.zeros(100_000)
    values[1] = 5.0
    desk_ = Desk({"x": values})
    (row,) = desk_.cell()["rows"]
    assert (row["sampled"], row["high"]) == (True, 0.0)
    assert desk_.page("x")["range"]["text"].startswith("min ≈ 0, mean ≈ 0, max ≈ 0, of 1,961 of the 100,000")
    whole = desk_.page("x", whole=True)["range"]
    assert whole == {"text": "min 0, mean 5e-05, max 5", "more": False}


@pytest.mark.parametrize("shape", [(), (7,), (0, 3), (50, 1000), (3, 40, 50), (1, 9000), (2, 3, 4, 5, 6)])
def test_ranges_are_those_of_numpy(shape, monkeypatch):
    monkeypatch.setattr("labkit.ranges.BLOCK", 1000)
    values = np.asarray(np.random.RandomState(0).randn(*shape))
    for array in (values, np.asfortranarray(values)):
        found = whole_range(array)
        if not values.size:
            assert found is None
            continue
        assert (found.low, found.high, found.read) == (values.min(), values.max(), values.size)
        assert found.mean == pytest.approx(values.mean(), rel=1e-9, abs=1e-12)


def test_an_element_changed_between_those_of_the_fingerprint_shows_in_the_row():
    values = np.zeros((50, 100))
    desk_ = Desk({"x": values})
    desk_.cell()
    sent = desk_.cell(lambda namespace: namespace["x"].__setitem__((7, 77), 9.0))
    assert sent["rows"][0]["high"] == 9.0
    assert sent["marks"] == {"x": "changed"}


@pytest.mark.parametrize("limit", ["BUDGET", "LOOK"])
def test_rows_without_time_come_when_the_browser_asks(monkeypatch, limit):
    count = 500
    monkeypatch.setattr(room, "BUDGET", 60.0)
    monkeypatch.setattr(room, "LOOK", 60.0)
    monkeypatch.setattr(room, limit, 0.0)
    desk_ = Desk({f"v{k}": k for k in range(count)})
    sent = desk_.cell()
    assert len(sent["rows"]) == 1
    assert sent["rest"] == count - 1
    rows = len(sent["rows"])
    while sent["rest"]:
        sent = desk_.ask(ask="rest")
        assert sent["names"] is None  # those of the message before
        rows += len(sent["rows"])
    assert rows == count


def test_a_page_keeps_nothing_alive():
    class Thing:
        def __init__(self):
            self.values = np.zeros(3)

    desk_ = Desk({"x": Thing(), "images": np.zeros((9, 28, 28)), "inside": {"a": Thing()}})
    dies = [weakref.ref(desk_.namespace[name]) for name in ("x", "images")]
    dies.append(weakref.ref(desk_.namespace["inside"]["a"]))
    desk_.cell()
    for name in ("x", "images"):
        desk_.page(name)
    desk_.page("inside", 0, 0)
    desk_.page("images", view="image", whole=True)
    desk_.namespace.clear()
    gc.collect()
    assert [ref() for ref in dies] == [None, None, None]
    assert desk_.cell()["gone"] == [["images", "9x28x28"], ["inside", "1x1"], ["x", "1x1"]]
    assert "is gone" in desk_.page("x")["text"]


def test_the_check_for_what_is_kept_alive_catches_a_panel_that_keeps(monkeypatch):
    kept = []
    monkeypatch.setattr(room, "row_of", lambda name, value, seen: kept.append(value) or row_of(name, value, seen))
    desk_ = Desk({"x": np.zeros(3)})
    dies = weakref.ref(desk_.namespace["x"])
    desk_.cell()
    desk_.namespace.clear()
    gc.collect()
    assert dies() is not None


@pytest.fixture
def on_cuda(monkeypatch):
    """Tensors say that they are on a GPU, and each computation with them is noted."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    calls = []

    class Noting(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            calls.append(str(function))
            return function(*args, **(kwargs or {}))

    x, network = torch.arange(12.0).reshape(3, 4), torch.nn.Linear(4, 2)
    monkeypatch.setattr(torch.Tensor, "device", property(lambda tensor: torch.device("cuda:0")))
    monkeypatch.setattr(torch.Tensor, "is_cpu", property(lambda tensor: tensor.device.type == "cpu"))
    with Noting():
        yield {"x": x, "net": network, "many": [x, {"w": x}]}, calls


def test_nothing_is_computed_with_a_tensor_on_a_gpu_until_it_is_asked_for(on_cuda):
    namespace, calls = on_cuda
    desk_ = Desk(namespace)
    rows = {row["name"]: row for row in desk_.cell()["rows"]}
    assert (rows["x"]["device"], rows["x"]["value"], rows["x"]["low"]) == ("cuda:0", "cuda:0, not read", None)
    assert rows["net"]["device"] == "cuda:0"
    desk_.cell(lambda namespace: namespace.update(y=namespace["x"]))
    assert desk_.page("x")["kind"] == "elsewhere"
    assert desk_.page("net")["kind"] == "list"
    assert desk_.page("net", 0)["kind"] == "elsewhere"
    desk_.page("many")
    assert calls == []
    read = desk_.page("x", read=True)
    assert read["cells"][0] == ["0", "1", "2", "3"]
    assert read["range"] == {"text": "not computed, the values are on cuda:0", "more": True}
    assert desk_.page("x", read=True, whole=True)["range"]["text"] == "min 0, mean 5.5, max 11"
    assert calls  # the fake notes what is computed


def test_a_tensor_without_values_says_so():
    import torch

    desk_ = Desk({"x": torch.zeros(3, 4, device="meta")})
    (row,) = desk_.cell()["rows"]
    assert (row["device"], row["low"]) == ("meta", None)
    assert "cannot be read" in desk_.page("x", read=True)["text"]


def test_looking_does_not_stop_a_student_from_resizing_a_tensor():
    import torch

    x = torch.zeros(3)
    desk_ = Desk({"x": x})
    desk_.cell()
    desk_.page("x", whole=True)
    x.resize_(100)


def grid(value, **asked):
    return page("x", value, (), Ask.of({"view": "table", **asked}))


def test_any_slice_of_any_number_of_dimensions():
    values = np.arange(2 * 3 * 130 * 45).reshape(2, 3, 130, 45)
    shown = grid(values, at=[1, 2, 0, 0], row=100, column=40)
    assert (shown["first"], shown["total"]) == ([100, 40], [130, 45])
    assert shown["cells"] == [[str(v) for v in row] for row in values[1, 2, 100:, 40:].tolist()]
    turned = grid(values, axes=[2, 0], at=[0, 1, 0, 7])
    assert turned["cells"] == [[str(v) for v in row] for row in values[:, 1, :100, 7].T.tolist()]
    far = grid(values, at=[99, 99], row=10**6, column=10**6)
    assert far["cells"][-1][-1] == str(values[1, 2, -1, -1])


@pytest.mark.parametrize(
    ("value", "cells"),
    [
        (np.array(2.5), [["2.5"]]),
        (np.array([1, 2]), [["1"], ["2"]]),
        (np.zeros((0, 3)), []),
        (np.array([True]), [["True"]]),
        (np.array([None, "<b>"], object), [["None"], ["'<b>'"]]),
        (np.array(["2020-01-01"], "M8[D]"), None),
        (np.zeros(2, [("a", "f4"), ("b", "O")]), None),
    ],
)
def test_the_elements_of_an_array(value, cells):
    shown = grid(value)
    assert shown["kind"] == "grid"
    assert cells is None or shown["cells"] == cells


def test_tensors_show_the_same_as_their_arrays():
    import torch

    for tensor in (torch.randn(4, 5), torch.randn(5, 4).T, torch.randn(3, 2).bfloat16(), torch.eye(3).to_sparse()):
        expected = tensor.to_dense().float().numpy().tolist()
        assert grid(tensor)["cells"] == [[f"{v:.6g}" for v in row] for row in expected]


def pixels(shown):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(shown["png"]))))


@pytest.mark.parametrize(
    ("shape", "dtype", "at", "first"),
    [
        ((28, 28), "u1", (), "image"),
        ((28, 20, 3), "u1", (), "image"),
        ((3, 28, 20), "f4", (), "image"),
        ((1, 28, 28), "f4", (), "image"),
        ((9, 28, 28), "f4", (4,), "image"),
        ((9, 1, 28, 28), "f4", (4, 0), "image"),
        ((9, 3, 16, 20), "f4", (4,), "image"),
        ((9, 16, 20, 3), "f4", (4,), "image"),
        ((9, 784), "f4", (4,), "table"),
        ((100, 10), "f4", (), "table"),
    ],
)
def test_images(shape, dtype, at, first):
    values = (np.random.RandomState(0).rand(*shape) * 200).astype(dtype)
    assert page("x", values)["view"] == first
    shown = page("x", values, (), Ask(view="image", at=at))
    drawn = pixels(shown).astype(float)
    image = values[at].squeeze().astype(float)
    if image.ndim == 1:
        image = image.reshape(28, 28)
    if image.ndim == 3 and image.shape[0] == 3:
        image = image.transpose(1, 2, 0)
    image = image[..., None].repeat(3, 2) if image.ndim == 2 else image
    assert drawn.shape == image.shape
    assert np.corrcoef(drawn.ravel(), image.ravel())[0, 1] > 0.999


def test_a_large_image_is_thinned_and_says_so_and_a_nan_is_pink():
    values = np.full((2000, 700), 0.5)
    values[0, 0] = np.nan
    shown = page("x", values, (), Ask(view="image"))
    assert max(shown["size"]) <= 512
    assert "of 2000 rows" in shown["legend"]
    assert "1 pixels that are not finite" in shown["legend"]
    assert tuple(pixels(shown)[0, 0]) == (230, 97, 170)


def test_the_architecture_of_a_network():
    import torch

    network = torch.nn.Sequential(torch.nn.Linear(784, 100), torch.nn.ReLU(), torch.nn.Linear(100, 10))
    shown = page("net", network)
    assert [row["cells"] for row in shown["rows"]] == [
        ["0", "Linear", "100", "weight 100x784, bias 1x100", "78,500"],
        ["1", "ReLU", "", "", "0"],
        ["2", "Linear", "10", "weight 10x100, bias 1x10", "1,010"],
    ]
    learnables = sum(parameter.numel() for parameter in network.parameters())
    assert shown["sum"] == f"{learnables:,} learnables in 4 arrays"
    inside = page("net", network, [shown["rows"][2]["links"][0][1]])
    assert inside["title"] == "net.2.weight"
    assert inside["cells"][0][0] == f"{float(network[2].weight.detach()[0, 0]):.6g}"
    tied = torch.nn.Sequential(network[0], network[0])
    assert page("net", tied)["sum"].startswith("78,500 ")


@dataclass
class Run:
    loss: list
    name: str = "a"


@pytest.mark.parametrize(
    ("value", "path", "title", "found"),
    [
        ({"a": [1, 2]}, [0, 1], "x['a'][1]", "2: "),
        ([["text"]], [0, 0], "x[0][0]", "text"),
        (Run([0.5]), [0, 0], "x.loss[0]", "0.5: "),
        (deque(["b"]), [0], "x[0]", "b"),
        (list(range(1000)), [999], "x[999]", "999: "),
        ([1], [5], "x", "What was here is gone."),
        ([1], "no path", "x", None),
        ([1], [-1], "x[0]", "1: "),
    ],
)
def test_what_lies_inside(value, path, title, found):
    shown = page("x", value, path)
    assert shown["title"] == title
    assert found is None or shown["text"].startswith(found)


def test_a_recording_and_an_experiment_have_tables_of_their_own():
    import labkit

    e = labkit.experiment("vanishing/relu", "ada").replace(epochs=1)
    shown = page("e", e)
    assert ["epochs", "1"] in [[row["cells"][0].strip("."), row["cells"][1]] for row in shown["rows"]]
    recording = labkit.train(e, device="cpu", progress=False)
    layers = page("r", recording)
    assert [row["cells"][0] for row in layers["rows"]] == list(recording.layers)
    size = recording.statistic("abs_mean")
    assert layers["rows"][0]["cells"][2] == f"{size[0, 0]:.3g}"
    assert page("r", recording, (), Ask(view="fields"))["rows"][1]["cells"][0] == ".loss"


class Forever:
    def __repr__(self):
        while True:
            pass


class Leaves:
    value = property(lambda self: sys.exit(1))
    __class__ = property(lambda self: 1 / 0)
    __repr__ = __len__ = __array__ = __iter__ = __getattr__ = lambda self, *given: sys.exit(1)


def cyclic():
    inside = {}
    inside["self"] = [inside]
    return inside


HOSTILE = {
    "repr never returns": Forever(),
    "everything leaves": Leaves(),
    "cycle": cyclic(),
    "huge list": [[0.0]] * 10**6,
    "sky": np.broadcast_to(0.0, (10**9, 10**9)),
    "markup": "<script>alert(1)</script>\ud800",
    "huge number": 10**5000,
    "infinite": [float("inf"), float("nan")],
    "infinity": float("inf"),
    "bytes": b"\x00\xff" * 10**6,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_it_holds_there_is_a_row_and_a_page(name, monkeypatch):
    monkeypatch.setattr("labkit.ranges.PATIENCE", 0.1)
    desk_ = Desk({"x": HOSTILE[name]})
    assert [row["name"] for row in desk_.cell()["rows"]] == ["x"]
    assert desk_.cell()["marks"] == {}
    for asked in ({}, {"whole": True}, {"view": "image"}, {"read": True}):
        assert desk_.page("x", **asked)["kind"] in ("text", "grid", "list", "image")
    assert len(json.dumps(desk_.sent[-1])) < 500_000
    assert desk_.page("x", *[0] * 100)["title"].startswith("x")


@pytest.mark.parametrize(
    "message",
    [None, [], {}, {"ask": []}, {"ask": "page"}, {"ask": "page", "name": {}, "path": {"a": 1}}, {"ask": "timeline"},
     {"ask": "page", "name": "x", "path": [None, "a", 10**400], "row": -5, "axes": "ab", "at": [[1]]},
     {"ask": "timeline", "first": "a"}, {"ask": "page", "name": "__builtins__"}],
)  # fmt: skip
def test_no_message_of_the_browser_is_an_error(message):
    desk_ = Desk({"x": np.zeros((3, 3))})
    desk_.cell()
    desk_.panel._asked(None, copy.deepcopy(message), None)


def test_what_takes_too_long_is_stopped_and_the_timer_is_put_back():
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(Impatient):
        within(0.05, lambda: time.sleep(5))
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert within(0.05, lambda: 3) == 3


def test_a_closed_panel_is_opened_anew_by_the_next_call(monkeypatch):
    monkeypatch.setattr(desk, "browser_looks", lambda: True)
    watcher = _Watcher({"x": 1})
    watcher.open_panel()
    panel, beside = watcher.panel, watcher.panel._beside
    watcher.open_panel()
    assert (watcher.panel, panel._beside) == (panel, beside)
    panel._asked(None, {"ask": "closed"}, None)
    assert not panel.opened
    watcher.open_panel()
    assert panel.opened
    assert panel._beside is not beside


def test_the_timeline_in_the_panel():
    desk_ = Desk({"x": 1})
    desk_.cell()
    desk_.cell(lambda namespace: namespace.update(x=2))
    shown = desk_.ask(ask="timeline", first=0)
    assert shown["steps"] == [[2, "act()", [["x", "changed"]], 1], [1, "act()", [["x", "new"]], 1]]


def test_range_of_numbers():
    assert range_of(10**5000) is None
    assert range_of(0.5).mean == 0.5
    assert range_of("a") is None


@pytest.mark.slow
def test_a_run_without_a_browser_leaves_nothing_of_the_panel(tmp_path):
    """Does the released notebook's first cell, run by nbclient in a kernel, leave no trace of a widget?"""
    source = json.loads(NOTEBOOK.read_text())["cells"]
    first = next(c for c in source if c["cell_type"] == "code" and "labkit.workspace" in "".join(c["source"]))
    code = [line for line in "".join(first["source"]).splitlines() if "autograder" not in line]
    cells = [new_code_cell("\n".join(code)), new_code_cell("x = 1"), new_code_cell("labkit.workspace()")]
    notebook = new_notebook(cells=cells)
    NotebookClient(notebook, kernel_name="python3", timeout=120, resources={"metadata": {"path": tmp_path}}).execute()
    assert "widgets" not in notebook.metadata
    assert notebook.cells[0].outputs == [] or "Sidecar" not in json.dumps(notebook.cells[0].outputs)
    (shown,) = notebook.cells[2].outputs
    assert set(shown.data) == {"text/plain", "text/html"}
    html, _ = HTMLExporter().from_notebook_node(notebook)
    assert "Sidecar" not in html
    assert "widget-view" not in html
    assert (tmp_path / "workspace.json").is_file()
