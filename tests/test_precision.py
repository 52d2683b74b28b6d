"""Are products exact while a training runs, and is all that was chosen outside as before when it is over?"""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from labkit.dense import Stack
from labkit.precision import exact
from labkit.recorder import Recorder
from labkit.training import train, train_lightly

backends: Any = torch.backends
NEW: dict[str, Any] = {
    "all": backends, "cuda": backends.cudnn, "cuda.matmul": backends.cuda.matmul, "cuda.conv": backends.cudnn.conv,
    "cuda.rnn": backends.cudnn.rnn, "mkldnn": backends.mkldnn, "mkldnn.matmul": backends.mkldnn.matmul,
    "mkldnn.conv": backends.mkldnn.conv, "mkldnn.rnn": backends.mkldnn.rnn,
}  # fmt: skip
OLD: dict[str, tuple[Callable[[], Any], Callable[[Any], None]]] = {
    "products": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "matmul.allow_tf32": (
        lambda: backends.cuda.matmul.allow_tf32,
        lambda value: setattr(backends.cuda.matmul, "allow_tf32", value),
    ),
    "cudnn.allow_tf32": (
        lambda: backends.cudnn.allow_tf32,
        lambda value: setattr(backends.cudnn, "allow_tf32", value),
    ),
}
# what a notebook may have chosen, in order
ORDERS: dict[str, list[tuple[str, Any]]] = {
    "nothing": [],
    "matmul by its old name": [("matmul.allow_tf32", True)],
    "cudnn by its old name": [("cudnn.allow_tf32", False)],
    "both by their old names": [("matmul.allow_tf32", True), ("cudnn.allow_tf32", True)],
    "high": [("products", "high")],
    "medium": [("products", "medium")],
    "matmul": [("cuda.matmul", "tf32")],
    "convolutions": [("cuda.conv", "ieee")],
    "recurrent layers": [("cuda.rnn", "ieee")],
    "cuda": [("cuda", "tf32")],
    "cuda exactly": [("cuda", "ieee")],
    "all": [("all", "tf32")],
    "all exactly": [("all", "ieee")],
    "all by 16 bits": [("all", "bf16")],
    "the processor by 16 bits": [("mkldnn.matmul", "bf16")],
    "new after old": [("matmul.allow_tf32", True), ("cuda.matmul", "ieee")],
    "old after new": [("all", "ieee"), ("products", "high"), ("cudnn.allow_tf32", True)],
    "all but one": [("all", "tf32"), ("cuda.conv", "ieee"), ("mkldnn.matmul", "ieee")],
    "back to nothing": [("cuda.matmul", "tf32"), ("cuda.matmul", "none"), ("cuda.conv", "none")],
}


def choose(name: str, value: Any) -> None:
    if name in OLD:
        OLD[name][1](value)
    else:
        NEW[name].fp32_precision = value


def shown() -> dict[str, Any]:
    """What reading each name gives, or that it raises."""
    found = {name: place.fp32_precision for name, place in NEW.items()}
    for name, (get, _) in OLD.items():
        try:
            found[name] = get()
        except RuntimeError:
            found[name] = "raises"
    return found


def _reset() -> None:
    for name, value in (("products", "highest"), ("cudnn.allow_tf32", True), ("all", "none"), ("cuda", "none")):
        choose(name, value)
    for name in ("cuda.matmul", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn"):
        choose(name, "none")


@pytest.fixture(autouse=True)
def _as_torch_begins():
    _reset()
    yield
    _reset()


@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("order", ORDERS)
def test_within_all_names_say_one_thing_and_behind_it_what_they_said_before(order: str, tf32: bool) -> None:
    for name, value in ORDERS[order]:
        choose(name, value)
    before = shown()
    with exact(tf32):
        within = shown()
    assert shown() == before
    rounded = "tf32" if tf32 else "ieee"
    assert {within[f"cuda.{name}"] for name in ("matmul", "conv", "rnn")} == {rounded}
    assert {within[f"mkldnn.{name}"] for name in ("matmul", "conv", "rnn")} == {"ieee"}
    assert [within[name] for name in OLD] == ["high" if tf32 else "highest", tf32, tf32]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("later", [("all", "ieee"), ("all", "tf32"), ("cuda", "ieee"), ("cuda.matmul", "none")])
def test_what_is_chosen_later_reaches_whom_it_would_have_reached(order: str, later: tuple[str, str]) -> None:
    """Of what shows the same, some follow and some do not."""
    choices = [*ORDERS[order], later]
    for name, value in choices:
        choose(name, value)
    without = shown()
    _reset()
    for name, value in choices[:-1]:
        choose(name, value)
    with exact():
        pass
    choose(*later)
    assert shown() == without


def test_an_error_puts_all_back_and_so_does_one_within_another() -> None:
    choose("products", "high")
    before = shown()
    with exact():
        within = shown()
        with pytest.raises(ValueError, match="inside"), exact(tf32=True):
            raise ValueError("inside")
        assert shown() == within
    assert shown() == before


@pytest.mark.parametrize(("tf32", "within"), [(False, "ieee"), (True, "tf32")])
def test_a_torch_without_that_table_is_asked_by_its_public_names(monkeypatch, tf32: bool, within: str) -> None:
    names = backends.cuda.matmul, backends.cudnn.conv
    before = [name.fp32_precision for name in names]
    monkeypatch.setattr("labkit.precision._WRITE", "_renamed")
    with exact(tf32):
        assert [name.fp32_precision for name in names] == [within, within]
    assert [name.fp32_precision for name in names] == before


@pytest.mark.parametrize(
    ("changes", "run"),
    [({}, train), ({"normalisation": "batch"}, train), ({}, lambda e, **_: train_lightly([e], device="cpu"))],
)
def test_the_start_is_probed_exactly_too(short, monkeypatch, changes, run) -> None:
    """An audit holds the probe batch of the start against a replay."""
    seen = []
    for owner, name in ((Stack, "probe"), (Recorder, "_probe_network")):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given, real=real: (seen.append(shown()), real(*given))[1])
    choose("products", "high")
    run(short.replace(epochs=1, **changes), device="cpu", progress=False)
    assert [found["cuda.matmul"] for found in seen] == ["ieee", "ieee"]


def test_a_training_is_the_same_whatever_was_chosen(short) -> None:
    plain = train(short, device="cpu", progress=False)
    choose("products", "medium")
    again = train(short, device="cpu", progress=False)
    np.testing.assert_array_equal(again.loss, plain.loss)
    np.testing.assert_array_equal(again.probe_gradient, plain.probe_gradient)


def test_in_a_process_in_which_nobody_chose_nothing_is_said_and_all_reads_as_before() -> None:
    """torch's own beginning can be seen once in a process."""
    code = """
import torch, labkit
def shown():
    b = torch.backends
    new = [place.fp32_precision for place in (b, b.cudnn, b.cuda.matmul, b.cudnn.conv, b.cudnn.rnn, b.mkldnn.matmul)]
    return new, b.cuda.matmul.allow_tf32, b.cudnn.allow_tf32, torch.get_float32_matmul_precision()
before, within = shown(), []
e = labkit.experiment("vanishing/relu").replace(observations=200, pool=200, epochs=1)
labkit.train(e, watch=lambda _: within.append(shown()), progress=False, device="cpu")
assert shown() == before, shown()
assert within == [(["none", "none", "ieee", "ieee", "ieee", "ieee"], False, False, "highest")], within
"""
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], check=True)
