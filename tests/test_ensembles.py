"""Do bands over seeds say where the runs lie?"""

from dataclasses import replace

import numpy as np
import pytest

from labkit import ensembles
from labkit.experiments import Experiment, ExperimentError
from labkit.training import train

INF = float("inf")


def test_a_band_is_median_and_percentiles() -> None:
    """0 ... 200: 2.5 % of them are below 5, and above 195."""
    values = np.random.RandomState(0).permutation(201)[:, None] * np.array([1.0, -2.0])
    found = ensembles.band(values)
    np.testing.assert_allclose(found.median, [100, -200])
    np.testing.assert_allclose([found.low, found.high], [[5, -390], [195, -10]])
    assert found.runs == 201


def test_a_run_that_broke_down_stays_out() -> None:
    found = ensembles.band([1.0, 2.0, np.nan, 3.0])
    assert (float(found.median), found.runs) == (2.0, 3)
    assert ensembles.band([[np.nan, 1.0], [np.nan, np.nan]]).runs == 1  # one of its layers has a figure


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, INF, INF, INF], (INF, INF, INF)),
        ([1.0, 2.0, 3.0, INF], (1.075, 2.5, INF)),
        ([1.0, 2.0, INF], (1.05, 2.0, INF)),
        ([1.0, 2.0, INF, INF], (1.075, INF, INF)),
        ([-INF, 1.0, 2.0, np.nan], (-INF, 1.0, 1.95)),
        ([INF], (INF, INF, INF)),
        ([np.nan, np.nan], (np.nan, np.nan, np.nan)),
    ],
)
def test_beside_an_infinite_figure_the_band_is_infinite(values: list[float], expected: tuple[float, ...]) -> None:
    found = ensembles.band(values)
    np.testing.assert_allclose([found.low, found.median, found.high], expected)


@pytest.mark.parametrize("runs", [1, 2, 3, 20, 41])
def test_of_finite_figures_it_is_numpys(runs: int) -> None:
    values = np.random.RandomState(runs).lognormal(0, 9, (runs, 300))
    values[1:, :100][np.random.RandomState(1).rand(runs - 1, 100) < 0.3] = np.nan
    found = ensembles.band(values)
    np.testing.assert_array_equal(
        [found.low, found.median, found.high], np.nanpercentile(values, [2.5, 50, 97.5], axis=0)
    )


def test_seeds_change_the_seed_alone() -> None:
    e = Experiment(epochs=1)
    some = ensembles.seeds_of(e, 3)
    assert [one.seed for one in some] == [0, 1, 2]
    assert {one.replace(seed=0) for one in some} == {e}


@pytest.mark.parametrize(
    ("call", "words"),
    [(lambda: ensembles.seeds_of(Experiment(), 0), "0 seeds"), (lambda: ensembles.band([]), "no runs")],
)
def test_bad_input_gets_one_sentence(call, words: str) -> None:
    with pytest.raises(ExperimentError, match=words):
        call()


def test_sizes_of_recordings(short) -> None:
    runs = [train(e, device="cpu", progress=False) for e in ensembles.seeds_of(short.replace(epochs=1), 3)]
    found = ensembles.over(runs, ensembles.sizes_at_start)
    np.testing.assert_allclose(found.median, np.median([r.probe_gradient[0, :, 1] for r in runs], axis=0), rtol=1e-6)
    ratios = [float(r.probe_gradient[0, -1, 1] / r.probe_gradient[0, 0, 1]) for r in runs]
    assert [ensembles.last_over_first(r) for r in runs] == pytest.approx(ratios, rel=1e-6)
    whole = runs[0].gradient[:, :, 1].mean(axis=0)
    np.testing.assert_allclose(ensembles.sizes_over_training(runs[0]), whole, rtol=1e-5)


def test_iterations_that_are_not_finite_stay_out_of_a_size(short) -> None:
    run = train(short.replace(epochs=1), device="cpu", progress=False)
    gradient = run.gradient.copy()
    gradient[0, 0, 1], gradient[1, 1, 1] = INF, np.nan
    sizes = gradient[:, :, 1].astype(np.float64)
    expected = [layer[np.isfinite(layer)].mean() for layer in sizes.T]
    found = ensembles.sizes_over_training(replace(run, gradient=gradient))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.isfinite(found).all()
