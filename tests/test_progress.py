"""Does the bar of a training fit, cost next to nothing, and stay in the saved notebook?"""

import io
import sys

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from labkit import progress
from labkit.experiments import experiment
from labkit.training import train, train_many

LAST = "relu + sigmoid |██████████| 120/120, epoch 3/3, loss "


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def pair():
    return [experiment(f"vanishing/{name}", student="ada").replace(epochs=3) for name in ("relu", "sigmoid")]


@pytest.fixture
def displayed(monkeypatch):
    """A notebook's kernel; each state of its display."""
    states = []

    class Handle:
        def update(self, bundle, raw):
            states.append(bundle["text/plain"])

    def display(bundle, raw, display_id):
        states.append(bundle["text/plain"])
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr(progress, "kernel_looks", lambda: True)
    return states


def test_a_saved_notebook_holds_the_last_state_without_widgets():
    code = """
import labkit
pair = [labkit.experiment(f"vanishing/{name}", student="ada").replace(epochs=3) for name in ("relu", "sigmoid")]
recordings = labkit.train_many(pair)
"""
    notebook = new_notebook(cells=[new_code_cell(code)])
    NotebookClient(notebook, kernel_name="python3", timeout=120).execute()
    saved = nbformat.reads(nbformat.writes(notebook), 4)
    (output,) = saved.cells[0].outputs
    assert list(output.data) == ["text/plain"]
    assert output.data["text/plain"].startswith(LAST)
    assert "widgets" not in saved.metadata


def test_the_display_ends_with_the_last_epoch_and_writes_nothing_else(displayed, pair, capfd):
    relu, sigmoid = train_many(pair, device="cpu")
    words = f"loss {relu.loss[-1]:.2g} and {sigmoid.loss[-1]:.2g}, last/first "
    ratios = [f"{r.statistic('abs_mean')[-1, -1] / r.statistic('abs_mean')[-1, 0]:.2g}" for r in (relu, sigmoid)]
    assert displayed[0].startswith("relu + sigmoid |          | 0/120 [")
    assert displayed[-1].startswith(f"{LAST}{words.removeprefix('loss ')}{' and '.join(ratios)} [")
    assert capfd.readouterr() == ("", "")


def test_updates_keep_their_distance(displayed, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    with progress.bar(1000, "run") as bar:
        bar._time = lambda: now[0]
        for _ in range(1000):
            now[0] += 0.01
            bar.update()
    assert 10 / progress.SECONDS * 0.9 <= len(displayed) <= 10 / progress.SECONDS + 2
    assert progress.SECONDS >= 0.2


def test_words_are_made_only_for_what_is_displayed(displayed, monkeypatch, short):
    made = []
    postfix = "labkit.training._Run._postfix"
    monkeypatch.setattr(postfix, lambda self, epoch: made.append(epoch) or "")
    monkeypatch.setattr(progress, "SECONDS", 3600)
    train(short, device="cpu")
    assert made == [short.epochs - 1]


def test_what_was_done_before_says_nothing_of_how_long_the_rest_takes(displayed, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    with progress.bar(100, "map", done=50, form=progress.SHARE) as bar:
        now[0] = 10.0
        bar.update(10)
    assert displayed[0].startswith("map |█████     | 50 % [")
    assert displayed[-1] == "map |██████    | 60 % [00:10<00:40]"


def test_an_interrupted_bar_stays_where_it_was(displayed):
    bar = progress.bar(100, "run")
    bar.update(44)
    bar.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert "44/100" in displayed[-1]


@pytest.mark.parametrize("numbers", [("0.15 and 1.5", "4.1 and 95"), ("0.054 and 0.0038", "1.2e+02 and 9.3")])
def test_the_bar_of_two_networks_fits_in_100_columns(monkeypatch, numbers):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress.bar(2000, "relu + sigmoid") as bar:
        bar.ncols = 100
        bar.update(880)
        bar.set_postfix_str(f"epoch 22/50, loss {numbers[0]}, last/first {numbers[1]}")
        line = str(bar)
    assert len(line) <= 100
    assert numbers[1] in line


@pytest.mark.parametrize("shown", [True, False])
def test_nothing_is_written_where_nobody_looks(capfd, short, shown):
    train(short, device="cpu", progress=shown)
    assert capfd.readouterr() == ("", "")


def test_the_graders_shell_is_no_kernel(ipython):
    from autograder.shell import Desk

    desk = Desk.instance()
    assert not progress.kernel_looks()
    desk.run("import labkit; r = labkit.train(labkit.experiment('vanishing/relu', student='a').replace(epochs=2))")
    assert desk.outputs.kept == []
