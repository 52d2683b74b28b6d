"""Does the whole set of figures come out, whatever the recordings went through and whatever their names are?"""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from test_plots import recorded

from labkit import plots

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def _few_dots(monkeypatch):
    """Nothing here looks at pixels; drawing fewer of them is faster."""
    monkeypatch.setattr("labkit.plots.figure.DPI", 48)


def is_math_text(text):
    """Would matplotlib read it as mathtext? It does when an even number of its dollars is not escaped."""
    dollars = text.count("$") - text.count("\\$")
    return dollars > 0 and dollars % 2 == 0


def test_everything_writes_whole_files_with_their_description(tmp_path):
    relu, sigmoid = recorded("relu"), recorded("sigmoid")
    paths = plots.everything([relu, sigmoid], tmp_path / "new" / "folder")
    assert [path.name for path in paths] == [
        "activations.png", "distributions-batch-relu.png", "distributions-probe-relu.png",
        "distributions-batch-sigmoid.png", "distributions-probe-sigmoid.png", "distributions-heatmap.png",
        "losses.png", "mean-gradients.png", "gradient-sizes.png", "signed-or-absolute.png", "attenuation.png",
        "growth-relu.png", "updates-relu.png", "growth-sigmoid.png", "updates-sigmoid.png",
    ]  # fmt: skip
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == sorted(p.name for p in paths)
    with Image.open(paths[6]) as image:
        assert image.text["Description"] == plots.losses([relu, sigmoid]).alt_text


def test_everything_leaves_out_what_was_not_recorded(tmp_path):
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
    assert len(plots.everything(recording, tmp_path)) == 11


def test_names_from_outside_are_drawn_letter_by_letter(tmp_path):
    layers = ("$\\frac$", "\\$x$", "_hidden\nlayer", "\u5b57\U0001f600" + "x" * 300)
    recording = recorded(layers=layers)
    origin = replace(recording.origin, activations=("a", "b", "$\\sqrt$"), experiment=None)
    recording = replace(recording, origin=origin)
    assert len(plots.everything(recording, tmp_path)) == 11
    titles = [axes.get_title() for axes in plots.mean_gradients(recording).axes[:4]]
    assert not any(map(is_math_text, titles))
    assert titles[2:] == [" _hidden layer Weights", "??" + "x" * 35 + "... Weights"]
    first = recording.statistic("abs_mean")[0, 0]
    assert f"$\\frac$ {first:.3g}, \\$x$" in plots.gradient_sizes(recording).alt_text
