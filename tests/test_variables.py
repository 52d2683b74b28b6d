"""What stands in the workspace's table, and which changes a fingerprint sees."""

import importlib.util
import sys
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit import changes, kinds
from labkit.desk import workspace
from labkit.timeline import Timeline
from labkit.variables import rows


def row(value):
    (found,) = rows({"x": value})
    return found


def word(before, after):
    """What the timeline says of x."""
    timeline = Timeline()
    timeline.observe({"x": before})
    return str(timeline.observe({"x": after}))


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

    def __hash__(cls):
        sys.exit(1)


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
    before = changes.fingerprint(images)
    images[:, 300:500] = 1
    assert changes.fingerprint(images) != before


@given(count=st.integers(0, 10**15), wanted=st.integers(0, 1000))
def test_places_are_few_and_inside(count, wanted):
    places = kinds.places(count, wanted)
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
