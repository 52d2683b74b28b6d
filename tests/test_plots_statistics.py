"""Do the figures of weights and gradients over the epochs show what the recordings hold?"""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.patches import StepPatch
from test_plots import EPOCHS, LAYERS, planes, recorded, texts, without_probe

from labkit import plots
from labkit.histogram import centres
from labkit.plots.words import abbreviated, chosen, layer_lines

pytestmark = pytest.mark.filterwarnings("error", "default::ResourceWarning")


def grid(figure, rows, columns):
    return np.array(figure.axes[: rows * columns]).reshape(rows, columns)


def curves(axes):
    """(curves, points) of a tile."""
    return np.array([line.get_ydata() for line in axes.lines])


def deep(count=22):
    return recorded(layers=tuple(f"fc_{k}" for k in range(1, count + 1)))


def test_weight_statistics_have_mean_and_sd_in_two_rows():
    both = [recorded("relu"), recorded("sigmoid")]
    figure = plots.weight_statistics(both)
    tiles = grid(figure, 2, 2)
    for column, recording in zip(tiles.T, both, strict=True):
        for k, axes in enumerate(column):
            np.testing.assert_allclose(curves(axes), recording.weight[:, :, k].T)
            np.testing.assert_array_equal(axes.lines[0].get_xdata(), np.arange(EPOCHS + 1))
    assert [axes.get_ylabel() for axes in tiles[:, 0]] == ["Mean weight", "S.D. of the weights"]
    assert [axes.get_title() for axes in tiles[0]] == ["ReLU", "Sigmoid"]
    assert tiles[0, 0].get_ylim() == tiles[0, 1].get_ylim()
    assert f"S.D. fc_1 {both[0].weight[0, 0, 1]:.3g}" in figure.alt_text


@pytest.mark.parametrize("source", ["probe", "first_batch"])
def test_gradient_statistics_have_mean_sd_and_loss_in_three_rows(source):
    recording = recorded()
    first = [0, 4, 8]  # 12 iterations in 3 epochs
    gradient = recording.probe_gradient if source == "probe" else recording.gradient[first]
    loss = recording.probe_loss if source == "probe" else recording.loss[first]
    mean, sd, last = grid(plots.gradient_statistics(recording, source), 3, 1)[:, 0]
    np.testing.assert_allclose(curves(mean), gradient[:, :, 0].T)
    np.testing.assert_allclose(curves(sd), gradient[:, :, 2].T)
    np.testing.assert_allclose(curves(last)[0], loss)
    assert (mean.get_yscale(), sd.get_yscale(), last.get_yscale()) == ("linear", "log", "linear")
    assert ("0: before training" in last.get_xlabel()) == (source == "probe")
    np.testing.assert_array_equal(last.lines[0].get_xdata()[0], 0 if source == "probe" else 1)


def test_an_unfinished_epoch_has_a_first_mini_batch_too():
    recording = recorded()
    cut = replace(recording, epoch_end=recording.epoch_end[:-1], batch_counts=recording.batch_counts[:-1])
    axes = plots.gradient_statistics(cut, "first_batch").axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [1, 2, 3])


def test_weight_histograms_show_start_and_end_on_the_same_bins():
    recording = recorded()
    figure = plots.weight_histograms(recording)
    for k, axes in enumerate(figure.axes[:4]):
        steps = [patch for patch in axes.patches if isinstance(patch, StepPatch)]
        for row, patch in zip((0, -1), steps, strict=True):
            values, edges, _ = patch.get_data()
            np.testing.assert_array_equal(values, recording.weight_counts[row, k])
            np.testing.assert_allclose(edges, np.linspace(-1, 1, 7))
        assert axes.get_title() == f"{LAYERS[k]} Weights"
    assert {"before training", f"after epoch {EPOCHS}"} <= set(texts(figure))


def test_weight_distributions_draw_weights_and_not_gradients():
    recording = recorded()
    figure = plots.weight_distributions(recording)
    for k, axes in enumerate(figure.axes):
        drawn = planes(axes)
        np.testing.assert_allclose(drawn[:, 2:-2, 2], np.log10(1 + recording.weight_counts[:, k]))
        np.testing.assert_allclose(drawn[0, 2:-2, 0], centres(-1, 1, 6))
        assert axes.get_xlabel() == "Weights"
    assert not np.array_equal(recording.weight_counts, recording.probe_counts)
    assert figure.alt_text.startswith("Weight distributions")


def test_heatmap_of_the_weights():
    recording = recorded()
    figure = plots.distribution_heatmap(recording, "weights")
    (mesh,) = [c for c in figure.axes[1].collections if isinstance(c, QuadMesh)]
    np.testing.assert_allclose(mesh.get_array()[:, ::2].filled(0), recording.weight_counts[:, 1].T)
    assert figure.axes[1].get_ylabel() == "fc_2 Weights\nWeight"


def test_of_deep_networks_some_layers_are_drawn_the_first_and_the_last_among_them():
    recording = deep()
    for draw, most in ((plots.gradient_sizes, 9), (plots.mean_gradients, 9), (plots.weight_histograms, 9)):
        figure = draw(recording)
        titles = [axes.get_title() for axes in figure.axes if axes.get_visible()]
        assert len(titles) == most
        assert (titles[0], titles[-1]) == ("fc_1 Weights", "fc_22 Weights")
        assert any("9 of 22 layers" in text for text in texts(figure))
        assert max(figure.get_size_inches()) <= 10
    assert plots.gradient_sizes(recording).axes[1].lines[0].get_ydata()[0] == recording.statistic("abs_mean")[0, 3]
    assert len(plots.distribution_heatmap(recording).axes) == 16  # 8 rows with their colour bars


def test_all_layers_of_a_deep_network_share_axes_from_dark_to_light():
    figure = plots.weight_statistics(deep())
    assert len(figure.axes[0].lines) == 22
    shades = [sum(bytes.fromhex(line["color"][1:])) for line in layer_lines(22)]
    assert shades[0] < shades[10] < shades[-1]
    assert len({line["color"] for line in layer_lines(22)}) == 22
    assert len(figure.legends[0].get_texts()) == 7


@pytest.mark.parametrize("count", [1, 2, 7, 9, 10, 22])
def test_chosen_layers_are_in_order_and_hold_both_ends(count):
    found = chosen(count, 9)
    assert found == sorted(set(found))
    assert (found[0], found[-1], len(found)) == (0, count - 1, min(count, 9))


def test_ticks_of_many_layers_do_not_run_into_each_other():
    axes = plots.attenuation(recorded(layers=tuple(f"block_{k}.conv" for k in range(1, 17)))).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [f"b{k}.c" for k in range(1, 17, 2)]
    assert axes.get_xlabel() == "Layer (b11.c: block_11.conv)"


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["fc_1", "fc_2"], ["fc_1", "fc_2"]),
        (["conv_1", "block_1.conv_1", "block_1.conv_2", "fc"], ["c1", "b1.c1", "b1.c2", "fc"]),
        (["first_of_many_layers", "first_of_many_lights"], ["first_…ayers", "first_…ights"]),
    ],
)
def test_long_names_are_abbreviated_and_stay_apart(names, short):
    assert abbreviated(names) == short


BAD = [
    (lambda: plots.gradient_distributions(recorded(), "weights"), "source is 'weights': choose from batch, probe"),
    (lambda: plots.distribution_heatmap(recorded(), "epoch"), "choose from batch, probe, weights"),
    (lambda: plots.gradient_statistics(recorded(), "epoch"), "source is 'epoch': choose from probe, first_batch"),
    (lambda: plots.gradient_statistics(without_probe()), "without a probe batch: pass probe="),
    (lambda: plots.weight_statistics([]), "there is no recording to plot"),
    (lambda: plots.weight_histograms("x.safetensors"), "str is not a recording"),
    (lambda: plots.weight_distributions(recorded(epochs=0)), "has no finished epoch"),
]


@pytest.mark.parametrize(("draw", "words"), BAD)
def test_bad_input_is_one_sentence(draw, words):
    with pytest.raises(plots.PlotError) as error:
        draw()
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_legend_of_many_rows_lies_below_the_axis_labels():
    """Seven layers with long names, as a residual network has them."""
    names = ("conv_1", *(f"block_{b}.conv_{c}" for b in (1, 2) for c in (1, 2)), "block_2.shortcut", "fc")
    for draw in (plots.gradient_statistics, plots.weight_statistics):
        figure = draw(recorded(layers=names))
        figure.draw_without_rendering()
        words = min(axes.xaxis.label.get_window_extent().y0 for axes in figure.axes if axes.get_xlabel())
        assert figure.legends[0].get_window_extent().y1 < words
