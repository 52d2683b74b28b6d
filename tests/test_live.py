"""Is a figure shown once, with its description, and does the live view keep to its time?"""

import pytest
from matplotlib.figure import Figure
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_notebook
from test_plots import recorded

from labkit import plots
from labkit.live import SHARE, LiveDistributions, LiveTraining


@pytest.fixture
def shell(ipython):
    """An IPython that shows images, as a notebook's kernel does, and keeps what it was given."""
    shell = ipython(looked_at=True)
    return shell, shell.display_pub


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


class Panel:
    """In the place of the widget: a look at it takes what the test says."""

    def __init__(self, now, costs):
        self.now, self.costs, self.told, self.closed = now, costs, [], False

    def more(self, recordings, over=""):
        self.now["is"] += self.costs
        self.told.append((recordings[0].epochs, over))

    def close(self):
        self.closed = True


@pytest.fixture
def clock(monkeypatch):
    """The time that the live view reads, its panels, and what a look costs."""
    now = {"is": 0.0, "costs": 0.0, "panels": []}

    def opens(self, _recordings):
        self._panel = Panel(now, now["costs"])
        now["panels"].append(self._panel)
        self._show({"text/plain": "a widget"}, {})

    monkeypatch.setattr("labkit.live.time.perf_counter", lambda: now["is"])
    monkeypatch.setattr(LiveTraining, "_open", opens)
    monkeypatch.setattr(plots.LabFigure.png, "__defaults__", (48,))
    return now


@pytest.mark.parametrize("costs", [0.001, 0.01, 0.05, 0.4])
def test_looks_take_their_share_of_the_time_and_no_more(clock, shell, costs):
    live, recording = LiveTraining(), recorded(epochs=2)
    clock["costs"], looks = costs, 0
    while clock["is"] < 60:
        clock["is"] += 0.1
        if live.due():
            live([recording])
            looks += 1
            # opening it comes once, and a first look may turn out to be dearer than all the time before it
            assert costs * (looks - 2) <= SHARE * clock["is"]
    assert looks >= 0.6 * min(60 / (live.seconds + 0.1 + costs), SHARE * 60 / costs)


def test_the_figure_takes_the_place_of_the_view_and_an_update_of_it(clock, shell):
    _, publisher = shell
    live = LiveTraining(seconds=0)
    for moment, epoch in enumerate((1, 2)):
        clock["is"] = moment
        live([recorded(epochs=epoch)])
    live.end([recorded(epochs=3)])
    (panel,) = clock["panels"]
    assert (panel.told, panel.closed) == ([(1, ""), (2, ""), (3, "done")], True)
    assert [bool(output.get("update")) for output in publisher.outputs] == [False, True]
    assert len({output["transient"]["display_id"] for output in publisher.outputs}) == 1
    assert "after epoch 3" in publisher.outputs[-1]["data"]["text/plain"]


def test_another_run_has_a_place_of_its_own_even_when_it_is_the_same_experiment(clock, shell):
    _, publisher = shell
    live = LiveTraining(seconds=0)
    for activation in ("relu", "relu", "sigmoid"):
        live([recorded(activation, epochs=1)])
        live.end([recorded(activation, epochs=1)])
    assert [bool(output.get("update")) for output in publisher.outputs] == [False, True] * 3
    assert all(panel.closed for panel in clock["panels"])


def test_a_run_too_short_for_a_look_has_its_figure(clock, shell):
    _, publisher = shell
    LiveTraining().end([recorded(epochs=1)])
    (output,) = publisher.outputs
    assert "after epoch 1" in output["data"]["text/plain"]


@pytest.mark.parametrize("kernel", [None, "without a front end"])
def test_where_nobody_looks_nothing_is_looked_at(clock, shell, monkeypatch, kernel):
    running, publisher = shell
    running.kernel = kernel
    monkeypatch.setattr("labkit.live.somebody_could_press", lambda: False)
    live = LiveTraining(seconds=0)
    assert not live.live
    assert not live.due()
    live([recorded(epochs=1)])
    assert publisher.outputs == []
    live.end([recorded(epochs=2)])
    assert len(publisher.outputs) == (1 if kernel else 0)  # the grader's shell is no kernel: not even a figure


def test_outside_a_notebook_nothing_is_loaded_or_drawn(monkeypatch):
    monkeypatch.setattr("labkit.live._load", lambda: pytest.fail("loaded the panel"))
    monkeypatch.setattr(LiveTraining, "figure", lambda self: pytest.fail("drew a figure"))
    live = LiveTraining()
    live([recorded()])
    live.end([recorded()])
    live.draw()


def test_the_figure_can_be_drawn_again_after_the_end(clock, shell):
    _, publisher = shell
    live = LiveTraining()
    live.end([recorded(epochs=2)])
    live.draw()
    assert len(publisher.outputs) == 2
    assert publisher.outputs[0]["data"]["text/plain"] == publisher.outputs[1]["data"]["text/plain"]


def test_the_name_in_the_released_notebooks_is_the_same_view():
    assert LiveDistributions is LiveTraining


@pytest.mark.parametrize(
    ("arguments", "words"), [({"seconds": -1}, "seconds is -1"), ({"source": "weights"}, "source is 'weights'")]
)
def test_bad_arguments_have_their_sentence(arguments, words):
    with pytest.raises(plots.PlotError, match=words):
        LiveTraining(**arguments)


@pytest.mark.parametrize(("layers", "networks", "inches"), [(4, 2, (16, 6.6)), (7, 1, (12, 9.9)), (7, 2, (12, 19.8))])
def test_the_figure_has_room_for_every_layer(layers, networks, inches):
    """Deep networks' tiles overlapped: seven of them in the place of four."""
    live = LiveTraining()
    names = tuple(f"fc_{k}" for k in range(1, layers + 1))
    live._recordings = [recorded(epochs=1, layers=names)] * networks
    assert live.figure().get_size_inches() == pytest.approx(inches, abs=0.1)
