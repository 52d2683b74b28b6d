"""Do the figures show what the recordings hold? Tested by the data of their artists, never by pixels."""

import itertools
import subprocess
import sys
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from mpl_toolkits.mplot3d.proj3d import proj_transform

from labkit import plots
from labkit.experiments import Experiment, experiment
from labkit.histogram import centres
from labkit.plots.curves import mark_largest, noise_share
from labkit.plots.figure import log_axis
from labkit.plots.words import COLOURS, FLOOR_UNITS, breakdown, labels, rounding_floor, running_median
from labkit.recording import HIDDEN_STATISTICS, STATISTICS, Origin, Recording

# Warnings reach a notebook's stderr, where nbgrader takes them for a failure; of other tests' files they may speak.
pytestmark = pytest.mark.filterwarnings("error", "default::ResourceWarning")

ITERATIONS, EPOCHS, BINS = 12, 3, 6
LAYERS = ("fc_1", "fc_2", "fc_3", "fc_4")
WIDTHS = (784, 10, 10, 10, 10)


def recorded(activation="relu", epochs=EPOCHS, layers=LAYERS, scale=1.0, **changes):
    """A recording made by hand: random figures of the shapes in the legend, gradients that shrink towards the input."""
    rng = np.random.default_rng(len(activation))
    count, iterations = len(layers), epochs * ITERATIONS // EPOCHS
    e = Experiment(activation=activation, epochs=EPOCHS, observations=500, batch_size=128, widths=WIDTHS)

    def statistics(rows):
        values = rng.uniform(0.5, 1, (rows, count, len(STATISTICS)))
        size = scale * 10.0 ** np.arange(-count, 0)[None, :] * values[:, :, 1]
        sign = rng.choice([-1, 1], (rows, count))
        values[:, :, 0] = sign * size / 3
        values[:, -1, 0] = sign[:, -1] * size[:, -1] * np.finfo("float32").eps  # 0 by algebra, rounding on the record
        values[:, :, 1], values[:, :, 3], values[:, :, 6] = size, 20 * size, 0
        return values.astype(np.float32)

    def counts(rows):
        return rng.integers(0, 50, (rows, count, BINS)).astype(np.int32)

    hidden = tuple(f"{activation}_{k}" for k in range(1, count))
    low = -rng.uniform(0.1, 0.4, (epochs, count))
    arrays = {
        "loss": rng.uniform(0.1, 2.3, iterations).astype(np.float32),
        "gradient": statistics(iterations),
        "update_norm": rng.uniform(0.01, 0.1, (iterations, count)),
        "weight_norm": rng.uniform(1, 4, (iterations, count)),
        "weight_dot_gradient": np.zeros((iterations, count)),
        "bias_dot_gradient": np.zeros((iterations, count)),
        "clip_factor": np.ones((iterations, count)),
        "epoch_end": np.arange(1, epochs + 1) * ITERATIONS // EPOCHS,
        "batch_counts": counts(epochs),
        "batch_range": np.stack([low, -2 * low], axis=-1),
        "probe_gradient": statistics(epochs + 1),
        "probe_counts": counts(epochs + 1),
        "probe_range": np.full(count, 0.25, dtype=np.float32),
        "probe_loss": rng.uniform(0.1, 2.3, epochs + 1),
        "accuracy": rng.uniform(0.1, 1, epochs + 1),
        "output_error": rng.uniform(0.02, 0.18, epochs + 1),
        "hidden": rng.uniform(0.1, 4, (epochs + 1, count - 1, len(HIDDEN_STATISTICS))),
        "through_time": np.zeros((epochs + 1, 0)),
        "weight": rng.uniform(0.1, 0.4, (epochs + 1, count, 2)),
        "weight_counts": counts(epochs + 1),
        "weight_range": np.ones(count),
        "checkpoint_iteration": np.zeros(1, dtype=np.int64),
        "checkpoint_parameters": np.zeros((1, 1)),
        "checkpoint_moments": np.zeros((1, 0, 1)),
    }
    shapes = tuple((10, 784 if k == 0 else 10) for k in range(count))
    origin = Origin(tuple(layers), shapes, (("fc_1.weight", (1,)),), hidden, (), experiment=e)
    return replace(Recording(origin, **arrays), **changes)


@pytest.fixture
def relu():
    return recorded("relu")


@pytest.fixture
def sigmoid():
    return recorded("sigmoid", scale=0.01)


@pytest.fixture(autouse=True)
def _few_dots(monkeypatch):
    """Nothing here looks at pixels; drawing fewer of them is faster."""
    monkeypatch.setattr(plots.LabFigure.png, "__defaults__", (48,))


def waterfall(axes):
    """The one collection of a tile."""
    (collection,) = [c for c in axes.collections if isinstance(c, Poly3DCollection)]
    return collection


def planes(axes):
    found = waterfall(axes)
    if hasattr(found, "_faces"):
        return found._faces
    return np.array([found._vec[:3, part].T for part in found._segslices])  # matplotlib 3.10


def texts(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def curve(axes, label):
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return line


def faint(axes):
    """The values of every iteration, a row for each faint curve."""
    return np.array([line.get_ydata() for line in axes.lines if line.get_label() == "_each"])


# The waterfall


@pytest.mark.parametrize("layer", range(4))
def test_waterfall_of_the_batch_has_the_recorded_counts_at_the_bin_centres(relu, layer):
    figure = plots.gradient_distributions(relu, xlim=None)
    drawn = planes(figure.axes[layer])
    assert len(drawn) == EPOCHS
    for epoch, plane in enumerate(drawn):
        low, high = relu.batch_range[epoch, layer]
        filled = plane[2:-2]
        np.testing.assert_allclose(filled[:, 0], centres(low, high, BINS))
        np.testing.assert_array_equal(filled[:, 1], epoch + 1)
        np.testing.assert_array_equal(filled[:, 2], relu.batch_counts[epoch, layer])


def test_waterfall_of_the_probe_starts_before_training_with_log_counts(relu):
    axes = plots.gradient_distributions(relu, "probe").axes[1]
    drawn = planes(axes)
    np.testing.assert_array_equal(drawn[:, 0, 1], np.arange(EPOCHS + 1))
    np.testing.assert_allclose(drawn[:, 2:-2, 2], np.log10(1 + relu.probe_counts[:, 1]))
    np.testing.assert_allclose(drawn[0, 2:-2, 0], centres(-0.25, 0.25, BINS))
    assert axes.get_ylim() == (0, EPOCHS)


def test_the_title_of_a_waterfall_clears_its_box(relu):
    figure = plots.gradient_distributions(relu)
    figure.canvas.draw()
    for axes in figure.axes:
        corners = itertools.product(axes.get_xlim(), axes.get_ylim(), axes.get_zlim())
        seen = [axes.transData.transform(proj_transform(*corner, axes.get_proj())[:2]) for corner in corners]
        assert axes.title.get_window_extent().y0 > max(height for _, height in seen)


def test_waterfall_has_matlabs_labels_limits_and_view(relu):
    figure = plots.gradient_distributions(relu)
    assert figure.get_suptitle() == "Gradient Distributions with ReLU Layers"
    assert [axes.get_title() for axes in figure.axes] == [f"{name} Weights" for name in LAYERS]
    for axes in figure.axes:
        assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_zlabel()) == ("Gradients", "Epochs", "Counts")
        assert axes.get_xlim() == (-0.5, 0.5)
        assert axes.get_ylim() == (1, EPOCHS)
        # MATLAB's camera stands at (sin az, -cos az), matplotlib's at (cos azim, sin azim)
        az, azim = np.radians(-130), np.radians(axes.azim)
        np.testing.assert_allclose([np.cos(azim), np.sin(azim)], [np.sin(az), -np.cos(az)], atol=1e-12)
        assert axes.elev == 50


def test_waterfall_says_how_many_images_the_last_mini_batch_had(relu):
    assert any("of 116 images" in text for text in texts(plots.gradient_distributions(relu)))  # 500 = 3 x 128 + 116
    whole = replace(relu, origin=replace(relu.origin, experiment=relu.origin.experiment.replace(batch_size=100)))
    assert any("of 100 images" in text for text in texts(plots.gradient_distributions(whole)))
    assert any("probe batch" in text for text in texts(plots.gradient_distributions(relu, "probe")))


def test_waterfall_is_cut_off_at_its_limits(relu):
    figure = plots.gradient_distributions(relu, xlim=(-0.1, 0.2))
    drawn = planes(figure.axes[0])
    assert drawn[..., 0].min() == -0.1
    assert drawn[..., 0].max() == 0.2
    low, high = relu.batch_range[0, 0]
    x, counts = centres(low, high, BINS), relu.batch_counts[0, 0]
    np.testing.assert_allclose(drawn[0, 2:-2, 2].max(), np.interp(np.clip(x, -0.1, 0.2), x, counts).max())
    middles = np.array([centres(*edges, BINS) for edges in relu.batch_range[:, 0]])
    beyond = relu.batch_counts[:, 0][np.abs(middles - 0.05) > 0.15].sum()
    share = 100 * beyond / relu.batch_counts[:, 0].sum()
    assert any(f"{share:.2g} % lie beyond" in text.replace("\n", " ") for text in texts(figure.axes[0]))


def test_waterfall_hides_what_lies_wholly_beyond(relu):
    drawn = planes(plots.gradient_distributions(relu, xlim=(5, 6)).axes[0])
    assert not drawn[..., 2].any()


def test_waterfall_is_painted_from_the_far_epoch_to_the_near_one():
    """mplot3d's own order, by mean depth, puts a high histogram before a low one of a later epoch."""
    recording = recorded()
    recording.batch_counts[:] = 1
    recording.batch_counts[1] = 5000
    collection = waterfall(plots.gradient_distributions(recording, xlim=None).axes[0])
    order = [tuple(colour) for colour in collection.get_facecolor()]
    by_epoch = [tuple(colour) for colour in collection._facecolor3d]
    assert len(set(by_epoch)) == EPOCHS
    assert order == by_epoch  # the camera stands behind the last epoch


def test_interrupted_run_keeps_the_colours_of_the_whole_run():
    whole = waterfall(plots.gradient_distributions(recorded()).axes[0])._facecolor3d
    short = waterfall(plots.gradient_distributions(recorded(epochs=1)).axes[0])._facecolor3d
    np.testing.assert_array_equal(short[0], whole[0])


# The heat map


def test_heatmap_shares_axes_and_gives_counts_per_common_width(relu):
    fine = recorded("sigmoid")
    fine.probe_range[:] = 0.0625
    figure = plots.distribution_heatmap([relu, fine])
    grid = np.array([a for a in figure.axes if a.get_label() != "<colorbar>"][:8]).reshape(4, 2)
    for row in range(4):
        left, right = (m for a in grid[row] for m in a.collections if isinstance(m, QuadMesh))
        assert grid[row, 0].get_ylim() == grid[row, 1].get_ylim()
        assert left.norm is right.norm
        np.testing.assert_allclose(left.get_array()[:, ::2].filled(0), relu.probe_counts[:, row].T)
        np.testing.assert_allclose(right.get_array()[:, ::2].filled(0), 4 * fine.probe_counts[:, row].T)
        np.testing.assert_allclose(right.get_coordinates()[:, 0, 1], np.linspace(-0.0625, 0.0625, BINS + 1))
    assert [a.get_title() for a in grid[0]] == ["ReLU", "Sigmoid"]
    assert any("Weights per 0.0833" in text for text in texts(figure))
    assert figure.axes[0].get_xlim() == (-0.5, EPOCHS + 0.5)


def test_heatmap_of_the_batch_has_each_epochs_own_bins(relu):
    mesh = plots.distribution_heatmap(relu, "batch").axes[0].collections[0]
    bounds = mesh.get_coordinates()[:, ::2, 1]
    np.testing.assert_allclose(bounds[[0, -1]].T, relu.batch_range[:, 0])


# Curves over the iterations


def test_losses_are_the_recorded_losses(relu, sigmoid):
    figure = plots.losses([relu, sigmoid])
    for recording, label in ((relu, "ReLU"), (sigmoid, "Sigmoid")):
        lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == ITERATIONS]
        assert any(np.array_equal(line.get_ydata(), recording.loss) for line in lines)
        assert f"{label}: {recording.loss[0]:.3g} at iteration 1, {recording.loss[-1]:.3g} at 12" in figure.alt_text
    assert lines[0].get_xdata()[0] == 1
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["ReLU", "Sigmoid"]


def test_a_loss_that_explodes_is_drawn_on_a_log_axis(relu, sigmoid):
    loss = relu.loss.copy()
    loss[2] = 1e20
    loud = replace(relu, loss=loss)
    assert plots.losses([loud, sigmoid]).axes[0].get_yscale() == "log"
    assert "log scale" in plots.losses([loud, sigmoid]).alt_text
    assert plots.losses([relu, sigmoid]).axes[0].get_yscale() == "linear"
    axes = plots.losses(loud).axes[0]
    assert curve(axes, "_largest").get_xydata().tolist() == [[3, loss[2]]]
    assert "largest: 1e+20 (iteration 3)" in texts(axes)
    assert "_largest" not in [line.get_label() for line in plots.losses(relu).axes[0].lines]


@pytest.mark.parametrize("largest", [1e268, 1e290, 1e305, np.finfo(np.float64).max])
def test_a_loss_beyond_which_there_is_no_power_of_ten_is_drawn(relu, largest):
    loss = relu.loss.astype(np.float64)
    loss[1], loss[2:] = largest, np.nan
    figure = plots.losses(replace(relu, loss=loss))
    assert figure.png().startswith(b"\x89PNG")
    low, high = figure.axes[0].get_ylim()
    assert low < loss[0]
    assert high > 0.5 * largest
    assert np.isfinite(figure.axes[0].get_yticks()).all()


def test_a_run_that_broke_down_is_shaded_to_its_end_and_told(relu):
    broken = replace(relu, loss=relu.loss.copy(), gradient=relu.gradient.copy(), update_norm=relu.update_norm.copy())
    broken.loss[1], broken.loss[2:], broken.gradient[2:], broken.update_norm[1:] = 1e30, np.nan, np.nan, np.inf
    figure = plots.losses(broken)
    assert figure.axes[0].get_yscale() == "log"
    assert figure.axes[0].get_xlim()[1] >= ITERATIONS
    first = {plots.losses: 3, plots.gradient_sizes: 3, plots.mean_gradients: 3, plots.updates: 2}
    for draw, k in first.items():
        figure = draw(broken)
        assert f"not finite\nfrom iteration {k} on" in texts(figure)
        assert f"Not finite from iteration {k} on." in figure.alt_text
        assert "Not finite" not in draw(relu).alt_text
    lone = [line for line in plots.updates(broken).axes[1].lines if np.isfinite(line.get_ydata()).sum() == 1]
    assert lone
    assert all(line.get_marker() == "." for line in lone)


@pytest.mark.parametrize(
    ("values", "first"),
    [([1, 2], None), ([1, np.nan, 2], None), ([1, 2, np.inf], 2), ([np.nan, np.nan], 0), ([[1, 1], [1, np.nan]], 1)],
)
def test_a_breakdown_lasts_to_the_end(values, first):
    assert breakdown(np.array(values)) == first


def test_of_clipped_runs_the_figures_say_that_gradients_are_those_after_the_clip(relu, sigmoid):
    clipped = replace(relu, clip_factor=np.full((ITERATIONS, 4), 0.5))
    for draw in (plots.mean_gradients, plots.gradient_sizes, plots.attenuation, plots.updates, plots.first_and_last):
        found = " ".join(texts(draw(clipped))).replace("\n", " ")
        assert "after clipping" in found
        assert "of clipped runs after clipping" in " ".join(texts(draw([clipped, sigmoid]))).replace("\n", " ")
        assert "after clipping" not in " ".join(texts(draw(relu)))
    assert any("after clipping" in text for text in texts(plots.gradient_distributions(clipped)))
    assert any("fixed probe batch, not clipped" in text for text in texts(plots.growth(clipped)))
    assert "on the probe batch, not clipped" in plots.growth(clipped).alt_text


def test_running_median_is_centred_but_at_the_end(relu):
    line = curve(plots.losses(relu).axes[0], "ReLU")  # 4 iterations an epoch: a window of 5
    np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 13))
    expected = [np.median(relu.loss[k - h : k + h + 1]) for k in range(12) for h in [min(k, 2)]]
    np.testing.assert_allclose(line.get_ydata(), expected)
    assert any("running median over up to 5 iterations" in text for text in texts(plots.losses(relu)))
    assert len(running_median(relu.loss[:4], 5)[0]) == 0


def test_of_long_runs_every_kth_running_median_is_taken():
    values = np.random.default_rng(0).normal(size=20_000)
    at, medians = running_median(values, 41)
    assert 2000 <= len(at) <= 4000
    assert (at[0], at[-1]) == (1, 20_000)
    np.testing.assert_array_equal(medians[[7, 70]], [np.median(values[k - 21 : k + 20]) for k in at[[7, 70]]])
    np.testing.assert_array_equal(medians[[0, -1]], [values[0], np.median(values[-21:])])


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("vanishing/relu", {"observations": 20, "batch_size": 8}, "mini-batch of 4 images"),
        # 100 of the 1,834 mini-batches of an epoch are taken, and none of them is cut short
        ("activations/relu", {"data": "digits", "observations": 20, "batch_size": 8, "batches": 2}, "of 8 images"),
        ("layers/relu", {"observations": 20, "batch_size": 8}, "mini-batch of 4 points"),
    ],
)
def test_distributions_say_how_many_of_what_the_last_mini_batch_has(relu, name, changes, words):
    recording = replace(relu, origin=replace(relu.origin, experiment=experiment(name).replace(**changes, pool=10_000)))
    assert any(words in text.replace("\n", " ") for text in texts(plots.gradient_distributions(recording)))
    kind = words.split()[-1]
    assert any(f"the {kind}' parts cancel" in text for text in texts(plots.growth(recording)))


def test_what_only_begins_high_is_no_peak_and_two_peaks_have_words_of_their_own():
    axes = Figure().add_subplot()
    mark_largest(axes, np.geomspace(1, 1e-3, 1000))
    assert not axes.texts
    for height in (50.0, 48.0):
        values = np.ones(1000)
        values[600] = height
        mark_largest(axes, values)
    first, second = axes.texts
    assert [text.get_text() for text in (first, second)] == [f"largest: {h} (iteration 601)" for h in (50, 48)]
    assert first.get_position()[1] - second.get_position()[1] >= 10, "points between the lines"


def test_a_caption_of_three_lines_has_room_above_the_tiles():
    deep = recorded(layers=tuple(f"fc_{k}" for k in range(1, 23)))
    clipped = replace(deep, clip_factor=np.full_like(deep.clip_factor, 0.5))
    figure = plots.gradient_sizes([deep, clipped])
    figure.draw_without_rendering()
    caption = next(text for text in figure.texts if "dloss/dW" in text.get_text())
    assert caption.get_text().count("\n") == 2
    above = max(axes.title.get_window_extent().y1 for axes in figure.axes if axes.get_visible())
    assert caption.get_window_extent().y0 > above


def test_a_small_last_mini_batch_draws_no_jump():
    values = np.ones(200)
    values[-1] = 50.0
    assert running_median(values, 41)[1].max() == 1
    values[0] = 50.0
    assert running_median(values, 41)[1][0] == 50, "a peak at the start is shown"


def test_mean_gradients_are_signed(relu, sigmoid):
    figure = plots.mean_gradients([relu, sigmoid])
    for layer, axes in enumerate(figure.axes[:4]):
        for recording, label in ((relu, "ReLU"), (sigmoid, "Sigmoid")):
            np.testing.assert_array_equal(curve(axes, label).get_ydata(), recording.statistic("mean")[:, layer])
        assert axes.get_title() == f"{LAYERS[layer]} Weights"
    assert (relu.statistic("mean") < 0).any()
    assert {"ReLU", "Sigmoid", "ReLU, rounding floor"} <= set(texts(figure))


def test_rounding_floor_is_a_band_of_that_layers_size(relu):
    figure = plots.mean_gradients(relu)
    for layer, axes in enumerate(figure.axes[:4]):
        (band,) = [c for c in axes.collections if isinstance(c, PolyCollection)]
        edge = band.get_paths()[0].vertices[:, 1].max()
        expected = FLOOR_UNITS * np.finfo("float32").eps * relu.statistic("abs_mean")[:, layer].max()
        np.testing.assert_allclose(edge, expected, rtol=1e-6)


def test_only_the_last_layer_is_called_noise(relu):
    np.testing.assert_array_equal(noise_share(relu), [0, 0, 0, 1])
    figure = plots.mean_gradients(relu)
    assert [any("rounding noise" in t for t in texts(axes)) for axes in figure.axes[:4]] == [False, False, False, True]
    assert "noise: fc_4 (100.0% of the iterations)" in figure.alt_text


def test_layer_without_a_gradient_is_not_called_noise(relu):
    relu.gradient[:, 1, :2] = 0
    assert noise_share(relu)[1] == 0


def test_floor_follows_the_dtype(relu):
    double = replace(relu, origin=replace(relu.origin, dtype="float64"))
    np.testing.assert_allclose(rounding_floor(double) / rounding_floor(relu), 2.0**-29)
    assert noise_share(double)[-1] == 0


def test_gradient_sizes_are_mean_absolute_values_on_a_log_axis(relu, sigmoid):
    figure = plots.gradient_sizes([relu, sigmoid])
    for layer, axes in enumerate(figure.axes[:4]):
        assert axes.get_yscale() == "log"
        assert axes.get_ylabel() == "Mean |gradient|"
        assert axes.get_xlabel() == "Iteration"
        np.testing.assert_array_equal(faint(axes), [r.statistic("abs_mean")[:, layer] for r in (relu, sigmoid)])
    first = sigmoid.statistic("abs_mean")[0]
    assert f"fc_1 {first[0]:.3g}, fc_2 {first[1]:.3g}" in figure.alt_text
    assert "times smaller than fc_4" in figure.alt_text


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (1e-3, 2e-1, []),  # powers of ten enough
        (2e-3, 8e-2, [2e-3, 5e-3, 2e-2, 5e-2]),
        (1.5e-5, 9e-5, [2e-5, 5e-5]),
        (2.1e-3, 8e-3, [3e-3, 4e-3, 6e-3]),
        (0.71, 1.25, [0.8, 0.9]),
    ],
)
def test_a_log_axis_has_few_labels_between_powers_of_ten_and_never_none(low, high, labels):
    figure = plots.LabFigure(4, 3)
    axes = figure.subplots()
    log_axis(axes)
    axes.set_ylim(low, high)
    figure.draw_without_rendering()
    shown = [t for t in axes.yaxis.get_minorticklabels() if t.get_text() and low <= t.get_position()[1] <= high]
    np.testing.assert_allclose([text.get_position()[1] for text in shown], labels)
    for text, value in zip(shown, labels, strict=True):
        digit, power = text.get_text().removeprefix(r"$\mathdefault{").removesuffix("}}$").split(r" \times 10^{")
        assert float(f"{digit}e{power}") == pytest.approx(value)


def test_signed_sizes_stand_beside_the_floor(relu):
    axes = plots.gradient_sizes(relu, signed=True).axes[3]
    mean, floor = curve(axes, "ReLU, |mean|").get_ydata(), curve(axes, "ReLU, floor").get_ydata()
    np.testing.assert_allclose(mean, np.abs(relu.statistic("mean")[:, 3]))
    np.testing.assert_allclose(floor, rounding_floor(relu)[:, 3])


def test_zeros_and_infinities_are_gaps_that_the_description_counts(relu):
    relu.gradient[0, 0, 1], relu.gradient[1, 0, 1], relu.gradient[2, 1, 1] = 0, np.inf, np.nan
    figure = plots.gradient_sizes(relu)
    every = figure.axes[0].lines[0].get_ydata()
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(every)), [0, 1])
    assert "Left out as gaps: 1 zeros and 2 values that are not finite." in figure.alt_text


def test_updates_have_the_norms_and_their_ratio(relu):
    figure = plots.updates(relu)
    expected = (relu.statistic("norm"), relu.update_norm, relu.update_norm / relu.weight_norm)
    for axes, values in zip(figure.axes, expected, strict=True):
        assert axes.get_yscale() == "log"
        np.testing.assert_allclose(np.transpose(faint(axes)), values)
    ratio = expected[2][-1, 2]
    assert f"fc_3 {ratio:.3g}" in figure.alt_text
    e = relu.origin.experiment
    assert any(f"trained by adam with learning rate {e.learning_rate:g}; per weight" in text for text in texts(figure))
    plain = replace(relu, origin=replace(relu.origin, experiment=e.replace(optimizer="sgd", learning_rate=0.1)))
    assert plots.updates(plain).alt_text.startswith("Updates of the ReLU network by sgd with learning rate 0.1, log")
    assert plots.updates([relu, plain]).alt_text.startswith("Updates of the ReLU, adam, learning rate 0.001 network, ")


# Depth


@pytest.mark.parametrize("at", [0, 5, -1])
def test_attenuation_has_one_iteration_and_the_last_epochs_median(relu, sigmoid, at):
    figure = plots.attenuation([relu, sigmoid], at)
    size = sigmoid.statistic("abs_mean")
    one, last = (axes.lines[1].get_ydata() for axes in figure.axes)
    np.testing.assert_allclose(one, size[at])
    np.testing.assert_allclose(last, np.median(size[-4:], axis=0))
    assert figure.axes[0].get_title() == f"Iteration {at % ITERATIONS + 1}"
    assert f"fc_1 is {size[at, -1] / size[at, 0]:,.0f}"[:9] in figure.alt_text
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == list(LAYERS)


def test_attenuation_counts_how_many_times_smaller(relu):
    relu.gradient[0, :, 1] = [2e-3, 5e-3, 1e-2, 0.5]
    told = plots.attenuation(relu).alt_text
    assert "ReLU fc_1 0.002, fc_2 0.005, fc_3 0.01, fc_4 0.5; fc_1 is 250 times smaller than fc_4." in told
    relu.gradient[0, :, 1] = [0.5, 0.1, 0.1, 1e-4]
    assert "fc_1 is 5,000 times larger than fc_4" in plots.attenuation(relu).alt_text


def test_attenuation_compares_layers_with_as_many_outputs(relu):
    """A last layer of another width has other gradients for that reason alone."""
    shapes = ((256, 784), (256, 256), (256, 256), (10, 256))
    wide = replace(relu, origin=replace(relu.origin, shapes=shapes))
    assert "times smaller than fc_3" in plots.attenuation(wide).alt_text
    assert "depends on its layer's inputs and width" in plots.attenuation(wide).alt_text
    narrowing = replace(relu, origin=replace(relu.origin, shapes=((30, 784), (20, 30), (15, 20), (10, 15))))
    assert "times smaller than fc_4" in plots.attenuation(narrowing).alt_text


def test_attenuation_of_one_layer_compares_nothing():
    figure = plots.attenuation(recorded(layers=("fc_1",)))
    assert "times" not in figure.alt_text
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["ReLU"]
    low, high = figure.axes[0].get_ylim()
    assert high > 2 * low


def test_attenuation_as_root_mean_square(relu):
    figure = plots.attenuation(relu, statistic="rms")
    sizes = relu.statistic("norm")[0] / np.sqrt([7840, 100, 100, 100])
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), sizes)
    assert figure.axes[0].get_ylabel() == "Rms gradient"


def test_growth_multiplies_the_output_error_and_the_last_hidden_size(relu):
    axes = plots.growth(relu).axes[0]
    gradient, error, hidden, product = (line.get_ydata() for line in axes.lines[:4])
    size = relu.hidden_statistic("abs_mean")[:, -1]
    recorded_gradient = relu.probe_statistic("abs_mean")[:, -1]
    np.testing.assert_allclose(gradient, recorded_gradient / recorded_gradient[0])
    np.testing.assert_allclose(error, relu.output_error / relu.output_error[0])
    np.testing.assert_allclose(hidden, size / size[0])
    np.testing.assert_allclose(product, error * hidden)
    assert [line.get_label() for line in axes.lines[:3]] == [
        "mean |gradient| of fc_4 Weights", "mean |p − y| of the outputs", "mean |relu_3|",
    ]  # fmt: skip
    assert f"mean |relu_3|: {size[0]:.3g} to {size[-1]:.3g}" in plots.growth(relu).alt_text


@pytest.mark.parametrize("numerical", [False, True])
def test_activations_and_their_slopes(numerical):
    figure = plots.activations(("relu", "sigmoid", "tanh", "leaky_relu", "linear"), numerical)
    x = np.linspace(-5, 5, 1000)
    for axes in figure.axes:
        value, slope = (line.get_ydata() for line in axes.lines)
        smooth = np.abs(x) > 0.02  # the kink of ReLU has no slope
        true = np.gradient(value, x) * (10 / 9.99 if numerical else 1)  # MATLAB divides by 0.01, not by 10/999
        np.testing.assert_allclose(slope[smooth][1:-1], true[smooth][1:-1], atol=1e-4)
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["ReLU", "Gradient of ReLU"]
    np.testing.assert_allclose(figure.axes[0].lines[1].get_ydata().max(), 10 / 9.99 if numerical else 1)
    np.testing.assert_allclose(figure.axes[1].lines[1].get_ydata().max(), 0.25025 if numerical else 0.25, atol=1e-5)
    assert "Sigmoid: gradient from 0.0066" in figure.alt_text


def test_leaky_slope_is_the_one_that_was_asked_for():
    value, slope = (line.get_ydata() for line in plots.activations("leaky_relu", leaky=0.2).axes[0].lines)
    np.testing.assert_allclose([value[0], slope[0], slope[-1]], [-1, 0.2, 1])


# Words


def test_labels_say_what_a_network_is():
    def labelled(**changes):
        one = recorded()
        return replace(one, origin=replace(one.origin, experiment=one.origin.experiment.replace(**changes)))

    recurrent = {"data": "long_lag", "architecture": "lstm", "widths": (5, 24, 4), "activation": "tanh"}
    deep = {"widths": (784, *(256,) * 11, 10)}
    found = labels([labelled(**recurrent), labelled(normalisation="batch"), labelled(residual=True), labelled(**deep)])
    assert found == [
        "LSTM",
        "ReLU, 784-10 × 4, batch normalisation, not residual",
        "ReLU, 784-10 × 4, not normalised, residual",
        "ReLU, 784-256 × 11-10, not normalised, not residual",
    ]
    assert labels([labelled(clip_each=1.0), labelled(clip_value=0.5)]) == ["ReLU, clip each 1", "ReLU, clip value 0.5"]
    assert labels([labelled(seed=1), labelled(seed=2)]) == ["ReLU, seed 1", "ReLU, seed 2"]
    assert labels([labelled(gain=0.5**0.5), labelled()]) == ["ReLU, weights × 0.7071", "ReLU, weights × 1"]


def test_networks_of_one_activation_are_told_apart():
    adam, sgd = recorded(), recorded()
    slower = sgd.origin.experiment.replace(optimizer="sgd", learning_rate=0.1)
    sgd = replace(sgd, origin=replace(sgd.origin, experiment=slower))
    assert labels([adam, sgd]) == ["ReLU, adam, learning rate 0.001", "ReLU, sgd, learning rate 0.1"]
    assert labels([adam, adam]) == ["ReLU (1)", "ReLU (2)"]
    clipping = adam.origin.experiment.replace(clip_norm=1.0)
    clipped = replace(adam, origin=replace(adam.origin, experiment=clipping))
    assert labels([adam, clipped]) == ["ReLU, not clipped", "ReLU, clip norm 1"]
    assert labels([adam, recorded("sigmoid")]) == ["ReLU", "Sigmoid"]


def test_networks_differ_in_more_than_colour(relu, sigmoid):
    for figure in (plots.losses([relu, sigmoid]), plots.attenuation([relu, sigmoid])):
        lines = [line for line in figure.axes[0].lines if not line.get_label().startswith("_")]
        assert len({line.get_color() for line in lines}) == 2
        assert len({line.get_linestyle() for line in lines}) == 2
    assert COLOURS[0] != COLOURS[1]


def overlap(figure, axis_label):
    """Does the legend below lie over the axis label of the tiles?"""
    figure.draw_without_rendering()
    (legend,) = figure.legends
    return any(
        legend.get_window_extent().overlaps(a.xaxis.label.get_window_extent()) for a in figure.axes if axis_label
    )


def test_legends_keep_off_the_axis_labels(relu):
    e = relu.origin.experiment
    several = [
        replace(relu, origin=replace(relu.origin, experiment=e.replace(seed=k, clip_norm=1.0))) for k in range(3)
    ]
    deep = [recorded(layers=tuple(f"fc_{k}" for k in range(1, 12)))] * 3
    figures = [plots.mean_gradients(several), plots.gradient_norms(several), plots.gradient_norms(deep)]
    assert not any(overlap(figure, "Iteration") for figure in figures)


# Figures


def drawings(recordings):
    one = recordings[0]
    return [
        plots.activations(), plots.gradient_distributions(one), plots.gradient_distributions(one, "probe"),
        plots.distribution_heatmap(recordings), plots.losses(recordings), plots.mean_gradients(recordings),
        plots.gradient_sizes(recordings), plots.attenuation(recordings), plots.growth(one), plots.updates(one),
    ]  # fmt: skip


def test_every_figure_describes_itself_and_changes_no_setting(relu, sigmoid):
    before = dict(matplotlib.rcParams)
    for figure in drawings([relu, sigmoid]):
        assert len(figure.alt_text) > 60
        assert "$" not in figure.alt_text
        assert figure.png().startswith(b"\x89PNG")
    assert dict(matplotlib.rcParams) == before


def test_figures_are_drawn_into_what_is_given(relu):
    figure = Figure()
    left, right = figure.subfigures(1, 2)
    assert plots.gradient_distributions(relu, figure=left) is figure
    assert plots.mean_gradients(relu, figure=right) is figure
    assert "Gradient distributions of the ReLU" in figure.alt_text
    assert "Signed mean gradient" in figure.alt_text
    axes = Figure().subplots()
    assert plots.losses(relu, axes=axes) is axes.figure
    assert plots.growth(relu, axes=Figure().subplots()).alt_text.startswith("Factors")


# Bad input


def without_probe():
    nothing = recorded()
    nothing.probe_gradient[:], nothing.probe_counts[:] = np.nan, 0
    return nothing


BAD = [
    (lambda: plots.losses([]), "there is no recording to plot"),
    (lambda: plots.losses(["relu.safetensors"]), "str is not a recording: read it with Recording.load"),
    (lambda: plots.losses(recorded(epochs=0)), "has no iteration: run the training cell"),
    (lambda: plots.mean_gradients([recorded(), recorded(layers=("a", "b"))]), "has a, b: plot them in separate"),
    (lambda: plots.gradient_distributions(recorded(epochs=0)), "has no finished epoch: train for at least one"),
    (lambda: plots.distribution_heatmap(recorded(epochs=0)), "has no finished epoch"),
    (lambda: plots.gradient_distributions(recorded(), "epoch"), "source is 'epoch': choose from batch, probe"),
    (lambda: plots.gradient_distributions(without_probe(), "probe"), "without a probe batch: pass probe="),
    (lambda: plots.growth(without_probe()), "without a probe batch: pass probe="),
    (lambda: plots.growth(recorded(layers=("fc_1",))), "has no hidden activation"),
    (lambda: plots.attenuation(recorded(), at=12), "at is 12: choose an iteration index from 0 to 11"),
    (lambda: plots.attenuation(recorded(), statistic="max"), "choose from abs_mean, rms"),
    (lambda: plots.activations(("relu", "swish")), "no activation 'swish': choose from relu, sigmoid"),
    (lambda: plots.activations(()), "no activation to plot"),
    (lambda: plots.everything([], "nowhere"), "there is no recording to plot"),
    (lambda: plots.everything(recorded(), "/proc/nowhere"), "/proc/nowhere cannot be written"),
]  # fmt: skip


@pytest.mark.parametrize(("draw", "words"), BAD)
def test_bad_input_is_one_sentence(draw, words):
    with pytest.raises(plots.PlotError) as error:
        draw()
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_description_cannot_leave_its_attribute(relu):
    figure = plots.losses(relu)
    figure.alt_text = 'a "quoted" <b>'
    assert 'alt="a &quot;quoted&quot; &lt;b&gt;"' in figure.bundle()["text/html"]


def test_picture_is_shown_in_its_size_in_inches(relu):
    bundle = plots.losses(relu).bundle()
    assert 'width="768"' in bundle["text/html"]  # 8 inches at 96 pixels


@pytest.mark.parametrize(("inches", "pixels"), [(9.0, 864), (17.0, 940)])
def test_no_page_has_to_scroll_sideways_for_a_wide_figure(inches, pixels):
    figure = plots.LabFigure(inches, 1)
    assert figure.bundle()["text/html"].endswith(f' width="{pixels}">')
    assert figure.bundle(dpi=50)["text/html"].endswith(f' width="{pixels}">')
    assert figure.metadata()["image/png"]["width"] == pixels


def test_nine_layers_are_drawn_no_wider_than_four():
    for count in (4, 9):
        recording = recorded(layers=tuple(f"fc_{k}" for k in range(1, count + 1)))
        assert plots.gradient_sizes(recording).get_size_inches()[0] == 10


def test_plots_load_neither_torch_nor_pyplot():
    unwanted = "('torch', 'matplotlib.pyplot', 'IPython')"
    code = f"import sys, labkit.live, labkit.plots; print([n for n in {unwanted} if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    assert found.stderr == ""


@pytest.mark.parametrize("networks", [1, 2])
def test_a_run_that_breaks_down_at_once_has_its_words_apart(networks):
    """Its largest loss is told at the top, where the words of its breakdown began."""
    loss = np.full(ITERATIONS, np.nan)
    loss[:4] = 2.3, 2.9, 40, 1e5
    figure = plots.losses([replace(recorded(), loss=loss), recorded("sigmoid")][:networks])
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    figure.draw_without_rendering()
    largest, broken = (text.get_window_extent() for text in texts[:2])
    assert "largest" in texts[0].get_text()
    assert "not finite" in texts[1].get_text()
    assert not largest.overlaps(broken)
