"""Is a figure shown once, with its description, and does the live view keep to its time?"""

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.figure import Figure
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_notebook
from test_plots import recorded

from labkit import plots
from labkit.live import SHARE, LiveDistributions


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """An IPython that shows images, as a notebook's kernel does, and keeps what it was given."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    shell = InteractiveShell.instance()
    shell.display_formatter.active_types = shell.display_formatter.format_types
    shell.display_pub = publisher = CapturingDisplayPublisher()
    shell.kernel = "somebody looks"
    yield shell, publisher
    InteractiveShell.clear_instance()


@pytest.mark.parametrize("pyplot", [False, True])
def test_figure_as_last_value_is_shown_once_with_its_description(shell, pyplot):
    running, publisher = shell
    relu = recorded()
    running.user_ns.update(plots=plots, relu=relu)
    if pyplot:
        # what the inline backend registers when pyplot is imported
        running.display_formatter.formatters["image/png"].for_type(Figure, lambda figure: "of the backend")
    result = running.run_cell("plots.losses(relu)")
    result.raise_error()
    (output,) = publisher.outputs
    told = plots.losses(relu).alt_text
    assert f'alt="{told}"' in output["data"]["text/html"]
    assert output["data"]["text/plain"] == told
    assert output["metadata"]["image/png"]["alt"] == told
    assert output["data"]["image/png"] in output["data"]["text/html"]


@pytest.mark.parametrize("magic", ["", "%matplotlib inline\nimport matplotlib.pyplot"])
def test_real_kernel_shows_a_figure_once(tmp_path, magic):
    saved = recorded().save(tmp_path / "relu.safetensors")
    code = f"from labkit import Recording, plots\nplots.losses(Recording.load({str(saved)!r}))"
    notebook = new_notebook(cells=[new_code_cell(f"{magic}\n{code}")])
    NotebookClient(notebook, kernel_name="python3", timeout=60).execute()
    (output,) = notebook.cells[0].outputs
    assert output.output_type == "display_data"
    page, _ = HTMLExporter().from_notebook_node(notebook)
    assert page.count(f'alt="{plots.losses(recorded()).alt_text}"') == 1
    assert page.count("<img") == 1


@pytest.fixture
def clock(monkeypatch):
    """The time that the live view reads, and a picture that costs what the test says."""
    now = {"is": 0.0, "costs": 0.0}

    def costly(self):
        now["is"] += now["costs"]
        return {} if now["costs"] else drawn(self)

    drawn = LiveDistributions.figure
    monkeypatch.setattr("labkit.live.time.perf_counter", lambda: now["is"])
    monkeypatch.setattr(LiveDistributions, "figure", costly)
    return now


def test_live_view_leaves_the_first_epochs_out_and_always_draws_the_last(clock, shell):
    _, publisher = shell
    live = LiveDistributions()
    for epoch, moment in ((1, 0.0), (1, 0.3), (2, 0.6), (2, 0.9), (2, 1.2), (3, 1.3)):
        clock["is"] = moment
        live([recorded(epochs=epoch)])
    told = [output["data"]["text/plain"] for output in publisher.outputs]
    assert [f"after epoch {epoch}" in text for epoch, text in zip((2, 2, 3), told, strict=True)] == [True] * 3
    assert [bool(output.get("update")) for output in publisher.outputs] == [False, True, True]
    assert len({output["transient"]["display_id"] for output in publisher.outputs}) == 1


@pytest.mark.parametrize("costs", [0.001, 0.05, 0.4, 3])
def test_drawings_take_their_share_of_the_time_and_no_more(clock, shell, costs, monkeypatch):
    _, publisher = shell
    live, clock["costs"], recording = LiveDistributions(), costs, recorded(epochs=2)
    monkeypatch.setattr(LiveDistributions, "figure", lambda _: clock.update({"is": clock["is"] + costs}) or Blank())
    live([recording])
    while clock["is"] < 25:
        clock["is"] += 0.1
        if live.due():
            live([recording])
            # a first drawing may turn out to be dearer than all the time before it
            assert costs * (len(publisher.outputs) - 1) <= SHARE * clock["is"]
    assert len(publisher.outputs) >= 0.6 * min(25 / (0.6 + costs), SHARE * 25 / costs)


class Blank:
    def bundle(self, _):
        return {"text/plain": ""}

    def metadata(self):
        return {}


def test_where_nobody_looks_only_the_last_epoch_is_drawn(clock, shell):
    running, publisher = shell
    running.kernel = None
    live = LiveDistributions(seconds=0)
    for moment, epoch in enumerate((1, 2, 2, 3)):
        clock["is"] = moment
        assert not live.due()
        live([recorded(epochs=epoch)])
    assert len(publisher.outputs) == 1


def test_live_view_starts_anew_for_another_run(clock, shell):
    _, publisher = shell
    live = LiveDistributions(seconds=0)
    for moment, activation in enumerate(("relu", "relu", "sigmoid", "sigmoid")):
        clock["is"] = moment
        live([recorded(activation, epochs=1)])
    assert len(publisher.outputs) == 2
    assert not any(output.get("update") for output in publisher.outputs)


def test_live_view_outside_a_notebook_does_nothing(monkeypatch):
    monkeypatch.setattr("labkit.live.shows_images", lambda: False)
    monkeypatch.setattr(LiveDistributions, "figure", lambda self: pytest.fail("drew a figure"))
    LiveDistributions()([recorded()])
    LiveDistributions().draw()


def test_live_view_draws_a_diverged_run_to_its_end(clock, shell):
    _, publisher = shell
    live, diverged = LiveDistributions(), recorded(epochs=2)
    live([recorded(epochs=1)])
    diverged.loss[-1] = float("nan")
    live([diverged])
    assert len(publisher.outputs) == 1


def test_live_view_draws_what_is_left_after_an_interrupt(clock, shell):
    _, publisher = shell
    live = LiveDistributions()
    live([recorded(epochs=1)])
    live([recorded(epochs=2)])
    assert publisher.outputs == []
    live.draw()
    assert "after epoch 2" in publisher.outputs[-1]["data"]["text/plain"]


def test_live_view_refuses_a_time_below_zero():
    with pytest.raises(plots.PlotError, match="seconds is -1"):
        LiveDistributions(seconds=-1)
