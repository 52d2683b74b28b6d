"""Maps of trainability: their file, how they are made, trained again and drawn."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from labkit import maps, networks, plots, progress, retraining, theory
from labkit.backward import probe_batch
from labkit.cli import main
from labkit.experiments import ExperimentError, experiment
from labkit.interrupts import Interrupted
from labkit.maps import GRIDS, Map
from labkit.plots import maps as drawn
from labkit.recording import RecordingError
from labkit.training import train_many


def made(depths=(2, 5, 10), variances=(0.5, 1.0, 4.0)):
    """A map that nobody trained."""
    base = experiment("trainability/tanh", "ada").replace(epochs=1, batches=20)
    start = np.full((len(depths), len(variances), max(depths) + 1), np.nan)
    for row, depth in enumerate(depths):
        layers = np.arange(depth + 1)
        for column, variance in enumerate(variances):
            start[row, column, : depth + 1] = 0.3 * theory.depth_scales("tanh", variance).chi_1 ** (
                (depth - layers) / 2
            )
    accuracy = np.linspace(0.1, 0.9, start[..., 0].size).reshape(start.shape[:2])
    loss = np.linspace(2.3, 0.4, 20, dtype=np.float32) * np.ones((*accuracy.shape, 1), np.float32)
    return Map(base, depths, variances, accuracy, loss, start)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("map") / "map.safetensors"
    return maps.trainability("sigmoid", "ada", "tiny", path, progress=False), path


# the file


def test_a_map_comes_back_as_it_was_saved(tmp_path):
    one = made()
    again = Map.load(one.save(tmp_path / "m.safetensors"))
    assert (again.base, again.depths, again.variances, again.digest) == (
        one.base,
        one.depths,
        one.variances,
        one.digest,
    )
    for name in maps.ARRAYS:
        np.testing.assert_array_equal(getattr(again, name), getattr(one, name))


def test_a_map_is_the_same_file_each_time_it_is_saved(tmp_path):
    saved = {made().save(tmp_path / f"{k}.safetensors").read_bytes() for k in range(8)}
    assert len(saved) == 1


def altered(content):
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda content: b"", "is no map"),
        (lambda content: content[:100], "is no map"),
        (lambda content: content[:-10], "cut off or damaged"),
        (altered, "its digest does not fit"),
        (lambda content: content.replace(b"tanh", b"tanx"), "description cannot be read"),
        (lambda content: content.replace(b'\\"depths\\": [2, 5', b'\\"depths\\": [5, 2'), "not in order"),
        (
            lambda content: content.replace(b'\\"depths\\": [2, 5', b'\\"depths\\": [0, 5'),
            "description cannot be read",
        ),
        (lambda content: content.replace(b'\\"format\\": 1', b'\\"format\\": 7'), "another format"),
        (lambda content: b"\xff" * 8 + content, "is no map"),
    ],
)
def test_a_file_that_is_no_map_is_refused(tmp_path, spoil, words):
    path = made().save(tmp_path / "m.safetensors")
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(RecordingError, match=words):
        Map.load(path)


def test_a_map_whose_arrays_have_other_shapes_is_refused(tmp_path):
    one = made()
    for changes in (
        {"accuracy": one.accuracy[:2]},
        {"loss": one.loss[..., :5]},
        {"start": np.zeros(one.start.shape, np.int64)},
    ):
        path = replace(one, **changes).save(tmp_path / "m.safetensors")
        with pytest.raises(RecordingError, match="was altered"):
            Map.load(path)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: maps.of_student("gelu"), "there is no map for 'gelu': choose from tanh, relu, sigmoid"),
        (lambda: maps.of_student("tanh", "ada", "huge"), "choose from tiny, coarse, fine"),
        (lambda: Map.load("/nowhere/m.safetensors"), "there is no map"),
        (lambda: retraining.retrain(experiment("exploding/gain_one")), "by adam"),
        (lambda: plots.starting_gradients(made(), 7), "choose from 2, 5, 10"),
        (lambda: plots.trainability(replace(made(), depths=())), "no networks yet"),
    ],
)
def test_bad_input_is_said_in_a_sentence(ask, words):
    with pytest.raises((ExperimentError, RecordingError, plots.PlotError), match=words):
        ask()


def test_the_small_map_stands_for_the_coarse_one_where_the_environment_says_so(monkeypatch):
    assert maps.of_student("tanh", "ada")[1] == GRIDS["coarse"]["tanh"]
    monkeypatch.setenv(maps.INSTEAD, "tiny")
    assert maps.of_student("tanh", "ada")[1] == GRIDS["tiny"]["tanh"]
    assert maps.of_student("tanh", "ada", "fine")[1] == GRIDS["fine"]["tanh"]


def test_every_grid_has_networks_on_both_sides_of_the_critical_point():
    for size, grids in GRIDS.items():
        for activation, grid in grids.items():
            critical = theory.critical_variance(activation)
            assert min(grid.variances) < critical < max(grid.variances), (size, activation)
            assert list(grid.depths) == sorted(set(grid.depths))
            assert list(grid.variances) == sorted(set(grid.variances))


# how a map is made


def test_a_map_goes_on_where_it_was_and_trains_nothing_twice(trained, tmp_path, monkeypatch):
    whole, _ = trained
    rows = np.array([0, 2])
    part = replace(whole, depths=(1, 5), accuracy=whole.accuracy[rows], loss=whole.loss[rows], start=whole.start[rows])
    path, real, asked = part.save(tmp_path / "m.safetensors"), maps.row, []
    monkeypatch.setattr(maps, "row", lambda cells, *rest: asked.append(len(cells[0].widths) - 2) or real(cells, *rest))
    again = maps.trainability("sigmoid", "ada", "tiny", path, progress=False)
    assert asked == [2]
    np.testing.assert_array_equal(again.accuracy, whole.accuracy)
    np.testing.assert_array_equal(again.loss, whole.loss)
    np.testing.assert_array_equal(again.start, whole.start)
    assert maps.trainability("sigmoid", "ada", "tiny", path, progress=False).digest == again.digest
    assert asked == [2]


# seconds of one core for each row of two coarse maps, by its depth
SPENT = {
    "tanh": {5: 1.41, 10: 2.10, 20: 3.46, 40: 5.94, 80: 10.99, 140: 19.90, 200: 29.08},
    "relu": {5: 1.17, 10: 1.96, 20: 2.62, 40: 4.30, 80: 8.08, 140: 13.22, 200: 18.17},
}


@pytest.mark.parametrize("activation", SPENT)
@pytest.mark.parametrize("done", [0, 3])
def test_the_bar_knows_from_the_second_row_on_how_long_a_map_takes(activation, done, tmp_path, monkeypatch):
    now, left, seconds = [0.0], {}, SPENT[activation]
    base, grid = maps.of_student(activation, "ada")

    def row(cells, variances, *_rest):
        now[0] += seconds[len(cells[0].widths) - 2]
        return empty(cells[0], (len(cells[0].widths) - 2,), variances)

    def empty(e, depths, variances):
        shape = (len(depths), len(variances))
        return Map(e, depths, variances, np.zeros(shape), np.zeros((*shape, base.iterations), np.float32),
                   np.zeros((*shape, max(depths, default=0) + 1)))  # fmt: skip

    class Bar(progress._Bar):
        def display(self, **_):
            known = self.format_dict
            left[known["n"]] = (known["total"] - known["n"]) / known["rate"] if known["rate"] else math.nan

    path = empty(base, grid.depths[:done], grid.variances).save(tmp_path / "m.safetensors")
    monkeypatch.setattr(maps, "row", row)
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    monkeypatch.setattr(progress, "_Line", Bar)
    monkeypatch.setattr(progress, "kernel_looks", lambda: True)
    maps.trainability(activation, "ada", save=path)
    said = list(left.values())[2:-1]  # before the first row's end it cannot know, and at the end there is nothing left
    rest = np.cumsum([seconds[depth] for depth in reversed(grid.depths[done + 2 :])])[::-1]
    # by the depth alone it is twice the true time after two rows of ReLU networks
    np.testing.assert_allclose(said, rest, rtol=0.35)


@pytest.mark.parametrize(("done", "file", "words"), [
    (2, "m.safetensors", ["interrupted after 2 of 3 depths", "m.safetensors keeps them", "goes on where it was"]),
    (0, "m.safetensors", ["before the first of 3 depths", "nothing was kept"]),
    (2, None, ["after 2 of 3 depths", "without save= nothing"]),
])  # fmt: skip
def test_who_interrupts_a_map_reads_what_of_it_is_kept(trained, tmp_path, monkeypatch, done, file, words):
    whole, _ = trained
    rows = iter(range(done))

    def row(cells, *_rest):
        if next(rows, None) is None:
            raise KeyboardInterrupt
        at = slice(k := whole.depths.index(len(cells[0].widths) - 2), k + 1)
        layers = whole.depths[k] + 1
        return replace(whole, depths=(whole.depths[k],), accuracy=whole.accuracy[at], loss=whole.loss[at],
                       start=whole.start[at, :, :layers])  # fmt: skip

    monkeypatch.setattr(maps, "row", row)
    with pytest.raises(Interrupted) as said:
        maps.trainability("sigmoid", "ada", "tiny", file and tmp_path / file, progress=False)
    assert all(one in str(said.value) for one in words)
    if file and done:
        assert Map.load(tmp_path / file).depths == whole.depths[:done]


@pytest.fixture
def quickly(trained, monkeypatch):
    """Rows of a finished map instead of trainings."""
    whole, _ = trained

    def row(cells, *_rest):
        at = slice(k := whole.depths.index(len(cells[0].widths) - 2), k + 1)
        layers = whole.depths[k] + 1
        return replace(whole, depths=(whole.depths[k],), accuracy=whole.accuracy[at], loss=whole.loss[at],
                       start=whole.start[at, :, :layers])  # fmt: skip

    monkeypatch.setattr(maps, "row", row)
    return whole


def test_another_map_in_the_file_is_kept_beside_it(quickly, tmp_path, capsys):
    file = tmp_path / "map_sigmoid.safetensors"
    for student in ("ada", "bob", "ada", "ada"):
        maps.trainability("sigmoid", student, "tiny", file, progress=False)
    said = [line for line in capsys.readouterr().out.splitlines() if "kept" in line]
    assert ["of ada" in said[0], "map_sigmoid-earlier.safetensors" in said[0], "of bob" in said[1]] == [True] * 3
    names = ("map_sigmoid", "map_sigmoid-earlier", "map_sigmoid-earlier2")
    assert [path.name for path in sorted(tmp_path.iterdir())] == sorted(f"{name}.safetensors" for name in names)
    kept = [Map.load(tmp_path / f"{name}.safetensors") for name in names]
    assert [one.base.student for one in kept] == ["ada", "ada", "bob"]
    assert all(one.depths == quickly.depths for one in kept)


def test_a_map_of_nobody_says_so_before_it_takes_minutes(quickly, tmp_path, capsys):
    maps.trainability("sigmoid", "", "tiny", tmp_path / "m.safetensors", progress=False)
    assert "no student is given" in capsys.readouterr().out
    maps.trainability("sigmoid", "ada", "tiny", progress=False)
    assert "no student is given" not in capsys.readouterr().out


def test_networks_that_break_down_stop_no_others():
    base = experiment("trainability/relu").replace(epochs=1, batches=3)
    variances = (1.0, 1e300, 3.0)
    cells = [maps.cell(base, 2, s) for s in variances]
    row = maps.row(cells, variances, "cpu")
    assert np.isnan(row.accuracy[0]).tolist() == [False, True, False]
    assert np.isfinite(row.loss[0]).all(axis=1).tolist() == [True, False, True]
    for v, run in enumerate(train_many(cells, device="cpu", progress=False)):
        np.testing.assert_array_equal(row.loss[0, v, : run.iterations], run.loss.astype(np.float32))
        if v != 1:
            assert row.accuracy[0, v] == run.origin.final_accuracy
    assert [row.cell(0, v) for v in range(3)] == cells


def test_the_gradients_at_the_start_are_those_of_autograd():
    e = maps.cell(experiment("trainability/tanh", "ada"), 4, 1.7).replace(dtype="float64")
    network, (images, labels) = networks.of_experiment(e), probe_batch(e)
    kept = []
    for module in network.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda _m, _i, z: (z.retain_grad(), kept.append(z))[0])
    outputs = network(torch.from_numpy(images))
    torch.nn.functional.cross_entropy(outputs, torch.from_numpy(labels), reduction="sum").backward()
    want = [float(z.grad.square().mean().sqrt()) for z in kept]
    np.testing.assert_allclose(maps.at_start(e), want, rtol=1e-9)


def test_a_field_trained_again_in_numpy_is_what_torch_recorded(trained):
    found, _ = trained
    for d, v in ((0, 1), (2, 2)):
        again = retraining.retrain(found.cell(d, v))
        np.testing.assert_allclose(again.loss, found.loss[d, v], atol=2e-5)
        assert again.accuracy == pytest.approx(found.accuracy[d, v], abs=1e-3)
        other = retraining.retrain(found.cell(d, v), steps=5)
        assert len(other.loss) == 5
        assert math.isnan(other.accuracy)


# figures


def test_the_map_has_its_accuracies_lines_and_words():
    one = made()
    one.accuracy[2, 2] = math.nan
    figure = plots.trainability(one)
    axes = figure.axes[0]
    (mesh,) = axes.collections
    np.testing.assert_array_equal(mesh.get_array().filled(np.nan), one.accuracy)
    lines = {line.get_label(): line for line in axes.lines}
    x, y = lines[r"theory, $6\,\xi_c$"].get_data()
    at = int(np.argmin(np.abs(x - 0.6)))
    assert y[at] == pytest.approx(6 / abs(math.log(x[at])))
    assert lines["critical point"].get_xdata()[0] == pytest.approx(1, abs=1e-6)
    assert len(axes.texts) == 9
    assert "4: to 5, 6 xi_c 48, 6 xi_gradient 19" in figure.alt_text
    assert "In 1 networks the loss left the finite numbers" in figure.alt_text
    edges = mesh.get_coordinates()[0, :, 0]
    assert all(a < s < b for a, s, b in zip(edges, one.variances, edges[1:], strict=False))


def test_numbers_stand_on_their_fields_own_colours_above_every_line():
    axes = plots.trainability(made()).axes[0]
    (mesh,) = axes.collections
    fields = mesh.cmap(mesh.norm(mesh.get_array())).reshape(-1, 4)
    np.testing.assert_allclose([text.get_bbox_patch().get_facecolor() for text in axes.texts], fields)
    assert min(text.get_zorder() for text in axes.texts) > max(line.get_zorder() for line in axes.lines)


def test_the_critical_point_has_one_colour():
    drawn_in = [plots.trainability(made()), plots.starting_gradients(made())]
    lines = [line for figure in drawn_in for axes in figure.axes for line in axes.lines]
    keys = [line for figure in drawn_in for line in figure.legends[0].get_lines()]
    critical = [line.get_color() for line in (*lines, *keys) if line.get_label() == "critical point"]
    assert len(critical) == 4
    assert len(set(critical)) == 1


def test_gradients_at_the_start_lie_on_theory_where_theory_made_them():
    one = made()
    np.testing.assert_allclose(
        drawn.measured_gains(one)[2], [theory.depth_scales("tanh", s).chi_1 for s in one.variances], rtol=1e-9
    )
    figure = plots.starting_gradients(one)
    sizes, gains = figure.axes[:2]
    np.testing.assert_allclose(sizes.lines[0].get_ydata(), one.start_of(2, 0))
    assert gains.lines[1].get_xdata().tolist() == list(one.variances)
    assert "0.5 at 0.5 (theory 0.5)" in figure.alt_text


def test_a_map_with_one_hidden_layer_has_no_gain():
    one = made((1, 3))
    assert np.isnan(drawn.measured_gains(one)[0]).all()
    assert np.isfinite(drawn.measured_gains(one)[1]).all()


def test_the_command_makes_map_and_figures_and_reads_what_is_there(trained, tmp_path):
    whole, _ = trained
    whole.save(tmp_path / "map_sigmoid.safetensors")
    asked = ["map", "trainability/sigmoid", "--student", "ada", "--size", "tiny", "--out", str(tmp_path)]
    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 0, done.output
    assert "3 depths to 5 by 4 variances" in done.output
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"map_sigmoid.safetensors", "map_sigmoid.png", "map_sigmoid-start.png"}
    wrong = CliRunner().invoke(main, ["map", "trainability/gelu", "--out", str(tmp_path)])
    assert wrong.exit_code == 1
    assert "choose from tanh, relu, sigmoid" in wrong.output
