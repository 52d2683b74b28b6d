"""Does the whole set of figures come out, whatever the recordings went through and whatever their names are?"""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image
from test_plots import recorded

from labkit import plots
from labkit.plots.folder import _drawings

pytestmark = pytest.mark.filterwarnings("error", "default::ResourceWarning")


@pytest.fixture(autouse=True)
def _few_dots(monkeypatch):
    """Nothing here looks at pixels; drawing fewer of them is faster."""
    monkeypatch.setattr(plots.LabFigure.png, "__defaults__", (48,))


OF_ONE = ("distributions-batch", "distributions-probe", "weight-distributions", "weight-histograms", "growth")
TOGETHER = (
    "activations", "losses", "accuracy", "mean-gradients", "gradient-sizes", "signed-or-absolute", "attenuation",
    "gradient-statistics", "weight-statistics", "distributions-heatmap", "updates",
)  # fmt: skip


def of(recording, **changes):
    """The recording as one of another experiment."""
    e = recording.origin.experiment.replace(**changes)
    return replace(recording, origin=replace(recording.origin, experiment=e))


def is_math_text(text):
    """Would matplotlib read it as mathtext? It does when an even number of its dollars is not escaped."""
    dollars = text.count("$") - text.count("\\$")
    return dollars > 0 and dollars % 2 == 0


@pytest.fixture
def no_pixels(monkeypatch):
    """Figures are made, but not painted."""
    monkeypatch.setattr("labkit.plots.figure.LabFigure.png", lambda figure: figure.alt_text.encode())


def test_everything_that_fits_is_written(no_pixels, tmp_path):
    relu, sigmoid = recorded("relu"), recorded("sigmoid")
    paths = plots.everything([relu, sigmoid], tmp_path / "new" / "folder")
    assert [path.stem for path in paths] == [
        "activations", "losses", "accuracy", "first-and-last", "mean-gradients", "gradient-sizes",
        "signed-or-absolute", "attenuation", "gradient-statistics", "weight-statistics", "distributions-heatmap",
        "updates", *(f"{name}-{network}" for network in ("relu", "sigmoid") for name in OF_ONE),
    ]  # fmt: skip
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == sorted(p.name for p in paths)


def test_files_carry_their_description(tmp_path, monkeypatch):
    relu = recorded("relu")
    monkeypatch.setattr("labkit.plots.folder._drawings", lambda recordings: [("losses", partial(plots.losses, relu))])
    (path,) = plots.everything(relu, tmp_path)
    with Image.open(path) as image:
        assert image.text["Description"] == plots.losses(relu).alt_text


def test_everything_leaves_out_what_was_not_recorded(no_pixels, tmp_path):
    recording = recorded(epochs=0, gradient=recorded().gradient, loss=recorded().loss,
                         update_norm=recorded().update_norm, weight_norm=recorded().weight_norm)  # fmt: skip
    names = {path.stem for path in plots.everything(recording, tmp_path)}
    assert "losses" in names
    assert not any("distributions" in name for name in names)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_diverged_and_dead_runs_can_be_drawn(value, tmp_path):
    recording = recorded()
    for name in ("gradient", "update_norm", "loss", "probe_gradient", "output_error", "hidden"):
        getattr(recording, name)[1:] = value
    recording.batch_counts[1:] = recording.probe_counts[1:] = 0
    recording.batch_range[1:] = [-0.5, 0.5]
    assert len(plots.everything(recording, tmp_path)) == len(TOGETHER) + len(OF_ONE)


def test_names_from_outside_are_drawn_letter_by_letter(tmp_path):
    layers = ("$\\frac$", "\\$x$", "_hidden\nlayer", "\u5b57\U0001f600" + "x" * 300)
    recording = recorded(layers=layers)
    origin = replace(recording.origin, activations=("a", "b", "$\\sqrt$"), experiment=None)
    recording = replace(recording, origin=origin)
    assert len(plots.everything(recording, tmp_path)) == len(TOGETHER) + len(OF_ONE)
    titles = [axes.get_title() for axes in plots.mean_gradients(recording).axes[:4]]
    assert not any(map(is_math_text, titles))
    assert titles[2:] == [" _hidden layer Weights", "??" + "x" * 35 + "... Weights"]
    first = recording.statistic("abs_mean")[0, 0]
    assert f"$\\frac$ {first:.3g}, \\$x$" in plots.gradient_sizes(recording).alt_text


def stems(recordings, folder):
    return [path.stem for path in plots.everything(recordings, folder)]


def test_clipped_runs_have_their_norms_before_and_after(no_pixels, tmp_path):
    assert "gradient-norms" in stems([recorded(), of(recorded(), clip_each=1.0)], tmp_path)
    assert "gradient-norms" not in stems([recorded()], tmp_path)


def test_recurrent_networks_have_time_steps_and_no_activation_to_choose(no_pixels, tmp_path):
    changes = {"data": "long_lag", "architecture": "lstm", "widths": (5, 24, 4), "activation": "tanh"}
    found = stems(of(recorded(through_time=np.ones((4, 5))), **changes), tmp_path)
    assert "through-time" in found
    assert not {"activations", "growth-lstm", "gain-per-layer"} & set(found)


def test_of_runs_over_seeds_the_first_stands_for_all_outside_the_bands(no_pixels, tmp_path):
    found = stems([of(recorded(), seed=seed) for seed in range(3)], tmp_path)
    assert "bands" in found
    assert found.count("updates") == 1
    assert [name for name in found if name.startswith("growth")] == ["growth-relu"]


def test_of_one_seed_out_of_several_title_and_description_say_so(no_pixels, tmp_path):
    told = {
        p.stem: p.read_text() for p in plots.everything([of(recorded(), seed=seed) for seed in (4, 5, 6)], tmp_path)
    }
    sentence = "Of runs that differ in their seeds alone one is drawn, seed 4 of 3; the others are left out."
    assert {name for name, text in told.items() if sentence not in text} == {"activations", "bands"}
    assert not any(sentence in p.read_text() for p in plots.everything(recorded(), tmp_path / "one"))


def test_networks_of_other_layers_share_what_has_no_layers(no_pixels, tmp_path):
    found = stems([recorded(), recorded("tanh", layers=("a", "b"))], tmp_path)
    assert {"losses", "accuracy", "first-and-last", "updates-1", "updates-2"} <= set(found)
    assert "updates" not in found


def test_more_than_four_networks_are_drawn_in_several_figures(no_pixels, tmp_path):
    found = stems([of(recorded(), learning_rate=rate) for rate in (0.1, 0.2, 0.3, 0.4, 0.5)], tmp_path)
    assert {"gradient-statistics-1", "gradient-statistics-2"} <= set(found)


def test_data_that_are_not_here_leave_out_what_is_computed_from_them(no_pixels, tmp_path, monkeypatch):
    from labkit.data import DataError

    def missing(recordings):
        raise DataError("MNIST is not here")

    monkeypatch.setattr("labkit.plots.folder.gain_per_layer", missing)
    assert "updates" in stems(recorded(), tmp_path)


def test_figures_of_one_network_say_which_where_its_activation_does_not():
    """A network and the same with clipping have files of their own, which are looked at beside each other."""
    free = recorded("linear")
    found = dict(_drawings([free, of(free, clip_each=1.0), recorded("relu")]))
    for name in OF_ONE:
        titles = [
            found[f"{name}-{whose}"]().get_suptitle() for whose in ("linear-not-clipped", "linear-clip-each-1", "relu")
        ]
        assert titles[0].endswith("(not clipped)")
        assert titles[1].endswith("(clip each 1)")
        assert "(" not in titles[2]
