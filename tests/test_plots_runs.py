"""Do the figures that compare runs show what the recordings hold?"""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from test_plots import EPOCHS, ITERATIONS, curve, faint, recorded, texts, without_probe

from labkit import plots
from labkit.plots.runs import before_and_after, seed_groups
from labkit.recording import STATISTICS

pytestmark = pytest.mark.filterwarnings("error", "default::ResourceWarning")


def with_experiment(recording, **changes):
    e = recording.origin.experiment.replace(**changes)
    return replace(recording, origin=replace(recording.origin, experiment=e))


def clipped(factor=0.25, **changes):
    return with_experiment(recorded(clip_factor=np.full((ITERATIONS, 4), factor)), **changes)


def test_accuracy_is_the_probes_for_networks_of_any_layers():
    both = [recorded("relu"), recorded("tanh", layers=("a", "b"))]
    figure = plots.accuracy(both)
    for recording, label in zip(both, ("ReLU", "tanh"), strict=True):
        np.testing.assert_allclose(curve(figure.axes[0], label).get_ydata(), recording.accuracy)
    assert f"tanh: {both[1].accuracy[0]:.1%} before training" in figure.alt_text
    figure.canvas.draw()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["ReLU", "tanh"]
    assert legend.get_window_extent().y1 < figure.axes[0].get_window_extent().y0
    axes = Figure().add_subplot()
    plots.accuracy(both, axes=axes)
    assert len(axes.get_legend().get_texts()) == 2


def test_first_and_last_have_the_mean_absolute_gradients_of_those_layers():
    both = [recorded("relu"), recorded("sigmoid", scale=0.01)]
    figure = plots.first_and_last(both)
    for axes, layer in zip(figure.axes, (0, -1), strict=True):
        np.testing.assert_allclose(faint(axes), [r.statistic("abs_mean")[:, layer] for r in both])
        assert axes.get_yscale() == "log"
    assert figure.axes[1].get_title() == "Last layer: fc_4 Weights"
    size = both[0].statistic("abs_mean").astype(float)
    assert f"averaged over all iterations: {np.mean(size[:, -1] / size[:, 0]):,.0f}" in figure.alt_text


def test_norms_before_the_clip_are_those_after_over_the_factor():
    recording = clipped()
    figure = plots.gradient_norms([recorded(), recording])
    _, before, after = map(faint, figure.axes)
    np.testing.assert_allclose(after, recording.statistic("norm").T)
    np.testing.assert_allclose(before, 4 * after)
    assert "clipped in 0.0% of the iterations" in figure.alt_text
    assert "clipped in 100.0% of the iterations" in figure.alt_text


def test_a_run_that_explodes_does_not_flatten_the_rows_of_the_others():
    loud = recorded()
    loud.gradient[1, 2] *= 1e30
    figure = plots.gradient_norms([loud, clipped(clip_norm=2.0)])
    alone, before, after = figure.axes
    assert alone.get_ylim()[1] > 1e20
    assert before.get_ylim() == after.get_ylim()
    assert before.get_ylim()[1] < 1e6
    assert any("a scale for each row" in text for text in texts(figure))
    alone, before, _ = plots.gradient_norms([recorded(), clipped(clip_norm=2.0)]).axes
    assert alone.get_ylim() == before.get_ylim()


@pytest.mark.parametrize("by", ["iteration", "epoch"])
def test_a_run_that_nothing_clipped_has_one_panel(by):
    alone = plots.gradient_norms(recorded(), by=by)
    (axes,) = alone.axes
    assert axes.get_title() == "ReLU: nothing clipped"
    assert alone.alt_text.startswith(
        "Gradient norms, nothing clipped, log scale. ReLU: clipped in 0.0% of the iterations"
    )
    assert "before the clip" not in alone.alt_text
    assert not any("Clipping" in text for text in texts(alone))
    np.testing.assert_allclose(faint(plots.gradient_norms(recorded()).axes[0]), recorded().statistic("norm").T)


@pytest.mark.parametrize("order", [1, -1])
def test_beside_a_clipped_run_the_lowest_panel_of_each_column_has_the_numbers(order):
    figure = plots.gradient_norms([recorded(), clipped(clip_norm=2.0)][::order])
    both = [f"ReLU, clip norm 2: {when} the clip" for when in ("before", "after")]
    first, second = (["ReLU, not clipped"], both)[::order]
    assert [axes.get_title() for axes in figure.axes] == [*first, *second]
    lowest = [bool(axes.get_xlabel()) for axes in figure.axes]
    assert lowest == [False, True, True]
    assert [any(label.get_visible() for label in axes.get_xticklabels()) for axes in figure.axes] == lowest


def test_where_clipping_left_nothing_there_is_no_norm_before():
    recording = clipped(0.0)
    assert np.isnan(before_and_after(recording)["before the clip"]).all()
    assert plots.gradient_norms(recording).alt_text


@pytest.mark.parametrize(
    ("change", "words"),
    [({"clip_each": 2.0}, "limit of each matrix"), ({"clip_norm": 2.0}, "limit of all parameters together")],
)
def test_the_limit_of_the_clip_is_drawn_and_named(change, words):
    figure = plots.gradient_norms(clipped(**change))
    assert all(any(np.array_equal(line.get_ydata(), [2, 2]) for line in axes.lines) for axes in figure.axes)
    assert words in texts(figure)
    assert words not in texts(plots.gradient_norms(clipped()))


def test_norms_by_epoch_are_medians_over_its_mini_batches():
    recording = recorded()
    figure = plots.gradient_norms(recording, by="epoch")
    norms = np.median(recording.statistic("norm").reshape(EPOCHS, -1, 4), axis=1)
    np.testing.assert_allclose([line.get_ydata() for line in figure.axes[0].lines], norms.T)
    assert figure.axes[0].get_xlabel() == "Epoch"


def test_updates_of_two_optimisers_stand_beside_each_other():
    adam, sgd = recorded(), with_experiment(recorded(), optimizer="sgd")
    sgd = replace(sgd, update_norm=sgd.update_norm / 100)
    figure = plots.updates([adam, sgd])
    assert len(figure.axes) == 6
    np.testing.assert_allclose(faint(figure.axes[1]), adam.update_norm.T)
    np.testing.assert_allclose(faint(figure.axes[4]), sgd.update_norm.T)
    assert figure.axes[1].get_ylim() == figure.axes[4].get_ylim()
    assert figure.axes[3].get_title() == "ReLU, sgd\nGradient norm  ‖dloss/dW‖"
    assert "Updates of the ReLU, sgd network" in figure.alt_text


# Time steps


def through(architecture="lstm", steps=5):
    changes = {"data": "long_lag", "architecture": architecture, "widths": (5, 24, 4), "activation": "tanh"}
    norms = 10.0 ** np.arange(-steps, 0) * np.array([[1.0], [2.0], [3.0], [4.0]])
    return with_experiment(recorded(through_time=norms), **changes)


def test_through_time_has_a_tile_for_each_network_with_start_and_end():
    figure = plots.through_time([through("rnn"), through("lstm"), through("gru")])
    assert [axes.get_title() for axes in figure.axes] == ["RNN", "LSTM", "GRU"]
    for axes in figure.axes:
        assert axes.get_yscale() == "log"
        np.testing.assert_allclose(axes.lines[0].get_ydata(), 10.0 ** np.arange(-5, 0))
        np.testing.assert_allclose(axes.lines[1].get_ydata(), 4 * 10.0 ** np.arange(-5, 0))
        np.testing.assert_array_equal(axes.lines[0].get_xdata(), [1, 2, 3, 4, 5])
    assert "RNN: before training step 1's is 10,000 times smaller than step 5's" in figure.alt_text


@pytest.mark.parametrize(("value", "broken", "words"), [
    (np.nan, 5, "no end: the loss is not finite\nfrom iteration 6 on"), (np.inf, None, "no end: not finite"),
    (0.0, None, "no end: all its gradients are 0"),
])  # fmt: skip
def test_a_network_whose_end_cannot_be_drawn_says_so(value, broken, words):
    lost, ended = through("rnn"), through("lstm")
    lost.through_time[-1] = value
    lost.loss[broken or len(lost.loss) :] = np.nan
    figure = plots.through_time([lost, ended])
    left, right = figure.axes
    assert texts(left).count(words) == 1
    assert not any("no end" in text for text in texts(right))
    assert words.replace("\n", " ") in figure.alt_text
    assert "RNN: before training step 1's is 10,000 times smaller than step 5's, no end" in figure.alt_text
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["before training", "after the last epoch"]
    alone = plots.through_time(lost)
    assert [text.get_text() for text in alone.legends[0].get_texts()] == ["before training"]


# Seeds


def seeds(count, activation="relu", optimizer="adam"):
    rng = np.random.default_rng(count)
    found = []
    for seed in range(count):
        recording = with_experiment(recorded(activation), seed=seed, optimizer=optimizer, name=f"a/{seed}")
        factor = np.exp(rng.normal())
        probe, gradient = recording.probe_gradient * factor, recording.gradient * factor
        found.append(replace(recording, probe_gradient=probe, gradient=gradient))
    return found


def test_runs_that_differ_in_their_seeds_alone_are_one_group():
    groups = seed_groups([*seeds(3), *seeds(2, optimizer="sgd"), recorded("tanh")])
    assert [len(group) for group in groups] == [3, 2, 1]


def test_bands_are_numpys_percentiles_over_the_runs():
    runs = seeds(21)
    figure = plots.bands([*runs, recorded("sigmoid")])
    start = np.array([r.probe_statistic("abs_mean")[0] for r in runs], dtype=float)
    whole = np.array([r.statistic("abs_mean").mean(axis=0) for r in runs], dtype=float)
    for axes, sizes in zip(figure.axes, (start, whole), strict=True):
        low, median, high = np.percentile(sizes, [2.5, 50, 97.5], axis=0)
        np.testing.assert_allclose(axes.lines[0].get_ydata(), median, rtol=1e-5)
        (band,) = [c for c in axes.collections if isinstance(c, PolyCollection)]  # a lone run has none
        corners = band.get_paths()[0].vertices
        np.testing.assert_allclose(sorted(set(corners[:, 1].round(12))), sorted({*low.round(12), *high.round(12)}))
    assert {"ReLU, 21 runs", "Sigmoid, 1 run"} <= set(texts(figure))
    assert "ReLU, 21 runs: fc_1" in figure.alt_text
    assert "the band that holds 95 % of the runs" in figure.alt_text


def test_the_band_of_a_few_runs_is_called_their_range():
    told = "about the range of only 3 runs"
    assert told in plots.bands(seeds(3)).alt_text
    assert any(told in text for text in texts(plots.bands([*seeds(21), *seeds(3, optimizer="sgd")])))
    assert "band" not in plots.bands(recorded()).alt_text


def test_a_peak_among_the_norms_is_marked_with_its_layer():
    recording = clipped()
    recording.gradient[1, 2, STATISTICS.index("norm")] = 900
    assert "largest: 3,600 (fc_3, iteration 2)" in texts(plots.gradient_norms(recording).axes[0])
    assert not any(text.startswith("largest") for text in texts(plots.gradient_norms(clipped())))


BAD = [
    (lambda: plots.accuracy([]), "there is no recording to plot"),
    (lambda: plots.accuracy(recorded(accuracy=np.full(EPOCHS + 1, np.nan))), "without a probe batch of classes"),
    (lambda: plots.first_and_last([recorded(epochs=0)]), "has no iteration"),
    (lambda: plots.gradient_norms(recorded(), by="year"), "by is 'year': choose from iteration, epoch"),
    (lambda: plots.gradient_norms([recorded(), recorded(layers=("a", "b"))]), "plot them in separate figures"),
    (lambda: plots.through_time(recorded()), "has no time steps: plot recordings of recurrent networks"),
    (lambda: plots.bands([recorded(), recorded("tanh", layers=("a", "b"))]), "plot them in separate figures"),
    (lambda: plots.bands([]), "there is no recording to plot"),
]


@pytest.mark.parametrize(("draw", "words"), BAD)
def test_bad_input_is_one_sentence(draw, words):
    with pytest.raises(plots.PlotError) as error:
        draw()
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_diverged_and_dead_runs_can_be_drawn(value):
    recording = clipped()
    for name in ("gradient", "clip_factor", "probe_gradient", "loss"):
        getattr(recording, name)[1:] = value
    for draw in (plots.gradient_norms, plots.first_and_last, plots.bands, plots.gradient_statistics):
        assert draw(recording).png().startswith(b"\x89PNG")


def test_a_run_without_a_probe_has_bands_over_training():
    assert "nan" in plots.bands(without_probe()).alt_text
