"""Does the table say what was published, what came out, by which rule, whether it holds, and why it does not?"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from labkit import reproduction
from labkit.claims import CLAIMS, FEWEST, Claim, TooLittle, figures, judge, remarks, rules
from labkit.cli import main
from labkit.ensembles import band
from labkit.experiments import ExperimentError, experiment
from labkit.recording import STATISTICS, Recording
from labkit.reproduction import Plan, finished, path_of, reproduce, slim, table, work
from labkit.training import train

CELL = re.compile(r"(?<!\\)\|")
NAMES = sorted({name for claim in CLAIMS for name in claim.needs})


def tiny(name: str, seed: int = 0):
    """An experiment's layers, thin, for four epochs of two mini-batches; a residual network becomes an MLP."""
    e = experiment(name)
    inputs, outputs = (2, 1) if e.data == "circles" else (784, 10)
    data = "circles" if e.data == "circles" else "digits"
    hidden = (6,) * (5 if name.startswith("activations") else 3)
    return e.replace(data=data, architecture="mlp", normalisation="none", widths=(inputs, *hidden, outputs), seed=seed,
                     observations=40, pool=40, batch_size=20, batches=None, epochs=4)  # fmt: skip


@pytest.fixture(scope="module")
def runs() -> dict[str, list[Recording]]:
    return {name: [train(tiny(name, seed), progress=False) for seed in (0, 1)] for name in NAMES}


def claim_of(values, rule, remark=lambda _: "because of 3", needs=()) -> Claim:
    return Claim("S1", "what | is said", "1", needs, lambda _: list(values), rule, remark)


def with_probe(r: Recording, statistic: str, rows) -> Recording:
    """The recording with other figures on the probe batch."""
    changed = r.probe_gradient.copy()
    changed[:, :, STATISTICS.index(statistic)] = rows
    return replace(r, probe_gradient=changed)


def full_size(r: Recording) -> Recording:
    """The recording as if it were of the published experiment."""
    return replace(r, origin=replace(r.origin, experiment=experiment(r.name)))


def otherwise(r: Recording) -> Recording:
    """The recording with every figure changed, those of each layer and epoch by another factor."""
    layers = np.arange(2.0, 2 + len(r.layers))
    parameters = r.checkpoint_parameters.copy()
    parameters[0] *= 3
    gradient = r.gradient * layers[:, None]
    gradient[:, :, STATISTICS.index("mean")] *= 5
    return replace(
        r,
        origin=replace(r.origin, final_accuracy=0.123),
        loss=r.loss * 1.7,
        gradient=gradient,
        probe_gradient=r.probe_gradient * layers[:, None] * np.arange(2, 2 + len(r.accuracy))[:, None, None],
        accuracy=np.linspace(0.31, 0.77, len(r.accuracy)),
        weight=r.weight * np.arange(1, 1 + len(r.accuracy))[:, None, None],
        checkpoint_parameters=parameters,
    )


def cells(text: str, source: str = "S") -> list[list[str]]:
    return [
        [cell.strip() for cell in CELL.split(line)[1:-1]] for line in text.split("\n") if line.startswith(f"| {source}")
    ]


# The table.


def test_a_table_is_made_of_runs_and_made_again_without_training(tmp_path, monkeypatch) -> None:
    plan = Plan(seeds=1, only=("S3",), epochs=1)
    text = reproduce(tmp_path / "out", plan).read_text()
    claims = [claim for claim in CLAIMS if claim.source == "S3"]
    rows = cells(text)
    assert len(rows) == len(claims)
    for row, claim in zip(rows, claims, strict=True):
        assert len(row) == 7
        assert row[1].replace("\\|", "|") == claim.sentence
        assert row[2] == claim.published
        assert row[4] == claim.rule.words
    assert "`layers/tanh`, 1 seed:" in text
    monkeypatch.setattr("labkit.training._Run.to_the_end", None)
    assert reproduce(tmp_path / "out", plan).read_text() == text


def test_one_source_more_keeps_the_rows_of_the_others(tmp_path, monkeypatch, runs) -> None:
    """And recordings of other sizes lie beside them, each under a name of its own."""
    trained = []

    def save(e, path, **_) -> None:
        told = runs[e.name][0]
        replace(told, origin=replace(told.origin, experiment=e, seed=e.seed)).save(path)
        trained.append(path)

    monkeypatch.setattr(reproduction, "train", save)
    small = Plan(seeds=1, epochs=4, digits=True)
    for source, there in (("S3", {"S3"}), ("S1", {"S1", "S3"})):
        text = reproduce(tmp_path, replace(small, only=(source,))).read_text()
        assert {row[0] for row in cells(text)} == there
    assert cells(reproduce(tmp_path, replace(small, epochs=5, only=("S1",))).read_text()) != cells(text)
    assert len(set(trained)) == len(trained) == 9 + 2 + 2
    assert reproduce(tmp_path, replace(small, only=("S1",))).read_text() == text
    assert len(trained) == 13


def test_a_row_without_its_runs_is_left_out() -> None:
    assert cells(table({})) == []


def test_some_seeds_of_many_are_counted(runs) -> None:
    text = table({"vanishing/relu": runs["vanishing/relu"]}, {"vanishing/relu": 20})
    assert "`vanishing/relu`, 2 of 20 seeds" in text


def test_a_claim_that_does_not_hold_says_why(monkeypatch) -> None:
    wrong, right = claim_of([1, 2, 3], rules.between(5, 9)), claim_of([1, 2, 3], rules.between(1, 3))
    monkeypatch.setattr(reproduction, "CLAIMS", (wrong, right))
    first, second = cells(table({}))
    assert first == ["S1", "what \\| is said", "1", "2 (1.05 to 2.95)", "between 5 and 9", "**no**", "because of 3"]
    assert second[4:] == ["between 1 and 3", "yes", ""]
    assert "Of 2 claims 1 hold, 1 do not, 0 cannot be judged" in table({})


def test_a_no_says_what_was_run_otherwise_than_published(monkeypatch, runs) -> None:
    wrong = claim_of([1, 2, 3], rules.between(5, 9), needs=("activations/relu",))
    monkeypatch.setattr(reproduction, "CLAIMS", (wrong,))
    (row,) = cells(table(runs))
    assert "activations/relu was run with data digits for mnist, observations 40 for 55000" in row[6]
    monkeypatch.setattr(reproduction, "CLAIMS", (replace(wrong, rule=rules.between(0, 9)),))
    assert cells(table(runs))[0][6] == ""


def test_the_table_names_what_was_made_smaller_than_published_and_by_how_much(runs) -> None:
    whole = {"vanishing/relu": [full_size(r) for r in runs["vanishing/relu"]]}
    assert "Reduced" not in table(whole)
    assert "otherwise than published" not in table(whole)
    text = table(whole | {"exploding/linear": runs["exploding/linear"]})
    assert "**Reduced:** `exploding/linear`. They have fewer images" in text
    (line,) = [line for line in text.splitlines() if line.startswith("- `exploding/linear`")]
    assert "otherwise than published: data digits for mnist, observations 40 for 60000, widths 784-6-6-6-10 for" in line


# The claims.


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim.source} {claim.sentence[:40]}")
def test_every_claim_has_figures_a_rule_and_a_measured_remark(claim: Claim, runs) -> None:
    row = judge(claim, runs)
    assert row.ours
    assert row.verdict in ("yes", "no") or "too few seeds" in row.verdict
    assert claim.rule.words
    others = {name: [otherwise(r) for r in some] for name, some in runs.items()}
    assert claim.remark(runs) != claim.remark(others), "the remark measures nothing: other runs give the same"


@pytest.mark.parametrize(
    "published",
    ["0.2404", "0.973", "0.6927", "0.654", "0.6922", "0.533", "0.665", "0.588", "0.0129", "0.993", "0.0169", "0.994",
     "0.5", "0.652", "0.502", "0.503", "0.995", "30", "6", "0.112", "2.301", "0.90 to 1", "3"],
)  # fmt: skip
def test_every_figure_that_was_published_is_in_a_claim(published: str) -> None:
    assert published in {claim.published for claim in CLAIMS}


def test_the_claims_reach_every_experiment_of_the_tutorials() -> None:
    from labkit.catalogue import EXPERIMENTS

    ours = {"vanishing/exploding", "vanishing/relu_sgd", "vanishing/sigmoid_sgd"} | {
        name for name in EXPERIMENTS if "/gain_" in name or name.startswith(("recurrent/", "trainability/"))
    }
    assert set(NAMES) == set(EXPERIMENTS) - ours


# Rules.


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        (rules.between(1, 1.9), "no"),
        (rules.between(3, 3.5), "yes"),
        (rules.at_least(3), "yes"),
        (rules.at_least(3.1), "no"),
        (rules.at_most(3), "yes"),
        (rules.at_most(2.9), "no"),
        (rules.holds(1.2), "yes"),
        (rules.holds(5.5), "no"),
        (rules.holds(0.5), "no"),
        (rules.not_above(1.2), "yes"),
        (rules.not_above(0), "no"),
        (rules.below([lambda _: [4, 4.2, 4.4]], "others", by=1), "yes"),
        (rules.below([lambda _: [4, 4.2, 4.4]], "others", by=1.5), "no"),
        (rules.above([lambda _: [2.0]], "others", by=0.5), "yes"),
        (rules.above([lambda _: [2.0], lambda _: [3.5]], "others"), "no"),
    ],
    ids=lambda value: getattr(value, "words", value),
)
def test_what_holds_is_told_by_the_rule(rule: rules.Rule, verdict: str) -> None:
    assert judge(claim_of([1, 2, 3, 4, 5], rule), {}).verdict == verdict


@pytest.mark.parametrize("count", range(1, FEWEST))
def test_a_band_of_few_seeds_is_no_ground_for_a_verdict(count: int) -> None:
    row = judge(claim_of([1.0] * count, rules.holds(1)), {})
    assert row.verdict == f"too few seeds to say ({count} of {FEWEST})"
    assert row.remark == ""
    assert judge(claim_of([1.0] * count, rules.between(0, 2)), {}).verdict == "yes"


@pytest.mark.parametrize(
    "rule",
    [rules.between(0, 1), rules.at_least(0), rules.at_most(1), rules.holds(0.5), rules.not_above(1),
     rules.below([lambda _: [9.0]], "x"), rules.above([lambda _: [0.0]], "x"),
     rules.below([lambda _: [float("nan")]], "x")],
    ids=lambda rule: rule.words,
)  # fmt: skip
def test_no_rule_holds_for_what_is_no_number(rule: rules.Rule) -> None:
    assert judge(claim_of([float("nan")] * FEWEST, rule), {}).verdict == "no"


def test_a_run_without_the_figure_is_no_ground_for_a_verdict() -> None:
    row = judge(claim_of([1.0, float("nan")] * (FEWEST - 1), rules.holds(1)), {})
    assert row.verdict == f"too few seeds to say ({FEWEST - 1} of {FEWEST})"


def test_the_ends_of_a_band_have_as_many_digits_as_its_median() -> None:
    assert rules.shown(band([0.99412, 0.99431, 0.99464])) == "0.9943 (0.9941 to 0.9946)"
    assert rules.shown(band([2.30116])) == "2.301 (one run)"
    assert str(band([0.99112, 0.99431, 0.99664])) == "0.994 (0.991 to 0.997)"


# Figures, against arithmetic on planted numbers.


def test_seeds_are_paired_and_none_in_common_is_said(runs) -> None:
    relu, sigmoid = runs["vanishing/relu"], runs["vanishing/sigmoid"]
    some = {"a": relu, "b": sigmoid[::-1]}
    found = figures.difference(figures.last_loss, "a", "b")(some)
    assert found == [figures.last_loss(x) - figures.last_loss(y) for x, y in zip(relu, sigmoid, strict=True)]
    alone = {"a": relu[:1], "b": sigmoid[1:]}
    with pytest.raises(TooLittle, match="no seed"):
        figures.ratio(figures.last_loss, "a", "b")(alone)


@pytest.mark.parametrize(
    ("norms", "growth", "jump"),
    [
        ([1, 1, 20, 20], 20, 3),
        ([1, 20, 20, 20], 1, 2),
        ([1, 1, 1, 1], 1, 0),
        ([1, 1, 1, 30], 1, 4),
        ([5, 4, 8, 6], 2, 0),
    ],
)
def test_a_jump_is_found_in_its_epoch(runs, norms, growth: float, jump: int) -> None:
    r = runs["exploding/linear"][0]
    planted = with_probe(r, "norm", np.array([99, *norms])[:, None] / np.sqrt(len(r.layers)))
    np.testing.assert_allclose(figures.plotted_norms(planted), norms, rtol=1e-6)
    assert figures.growth_of_norm(3)(planted) == pytest.approx(growth)
    assert figures.epoch_of_jump(10)(planted) == jump
    losses = replace(r, probe_loss=np.array([99.0, *norms]))
    assert figures.growth_of_loss(3)(losses) == pytest.approx(growth)
    assert "factor" in remarks.no_jump("x")({"x": [planted]})


def test_a_run_that_ends_before_the_claim_is_no_evidence(runs) -> None:
    r = runs["exploding/sigmoid"][0]
    assert figures.change_after(3)(replace(r, accuracy=np.array([0.9, 0.5, 0.5, 0.1, 0.2]))) == pytest.approx(0.1)
    claim = replace(claim_of([], rules.at_most(0.1)), figure=figures.each(figures.change_after(4), "x"))
    row = judge(claim, {"x": [r]})
    assert (row.ours, row.verdict, row.remark) == ("", "too short to say (4 epochs)", "")
    with pytest.raises(TooLittle, match="4 epochs"):
        figures.growth_of_norm(5)(r)


def test_the_visible_mean_is_the_last_layers(runs) -> None:
    r = with_probe(runs["layers/sigmoid"][0], "mean", [[1e-4, -2e-4, 1e-4, 6e-3]] * 5)
    assert figures.mean_of_last_over_others(r) == pytest.approx(30)
    assert figures.mean_of_last_over_others(with_probe(r, "mean", [[6e-3, 1e-4, 1e-4, 6e-3]] * 5)) == pytest.approx(1)
    wiggling = with_probe(r, "mean", np.array([1, -1, 1, -1, 0])[:, None] * [1e-3, 2e-3, 4e-3, 2e-3])
    assert figures.uneven_wiggling(wiggling) == pytest.approx(4, rel=1e-5)
    assert figures.sd(with_probe(r, "sd", [[1.0, 2.0, 3.0, 4.0]] * 5)) == 2.5


def test_sizes_come_from_every_second_record(runs) -> None:
    r = runs["activations/sigmoid"][0]
    rows = np.ones((5, 6))
    rows[1::2, 0] = 1e9
    rows[:, -1] = [20, 0, 30, 0, 40]
    assert figures.recorded_ratio(with_probe(r, "abs_mean", rows)) == pytest.approx(30)
    assert figures.recorded_ratio(with_probe(r, "abs_mean", np.zeros((5, 6)))) == float("inf")


def test_the_norms_that_were_plotted_were_not_clipped(runs) -> None:
    r = runs["exploding/linear_clipped"][0].origin.experiment.replace(clip_each=1e-3)
    clipped = train(r, progress=False)
    assert figures.largest_used(clipped) <= 1.001e-3
    assert figures.largest_plotted(clipped) > 1e-2
    assert figures.clipped_share(clipped) > 0.5
    assert figures.clipped_share(train(r.replace(clip_each=None), progress=False)) == 0


def test_weights_are_counted_at_both_ends(runs) -> None:
    r = slim(runs["activations/leaky_relu"][0])
    last = r.checkpoint(-1)
    assert figures.negative_weights(3)(r) == np.mean(last[f"{r.layers[3]}.weight"] < 0)
    shares = [
        np.mean(np.abs(np.concatenate([r.checkpoint(k)[f"{name}.weight"].ravel() for name in r.layers])) <= 0.1)
        for k in (0, -1)
    ]
    assert figures.change_of_near_zero(r) == pytest.approx(shares[1] - shares[0])
    assert figures.first_spreads_most(replace(r, weight=_spreads([0.8, -0.4, 0.1]))) == pytest.approx(2)


def _spreads(growth: list[float]) -> np.ndarray:
    return np.array([[[0.0, 1.0] for _ in growth], [[0.0, 1.0 + by] for by in growth]])


def test_slim_runs_have_the_same_table(runs) -> None:
    slimmed = {name: [slim(r) for r in some] for name, some in runs.items()}
    assert table(slimmed) == table(runs)
    assert slimmed["exploding/linear"][0].checkpoint_parameters.shape[0] == 2


# The plan.


def test_deep_networks_are_few_and_small_where_it_has_to_be_quick() -> None:
    quick, whole = Plan(quick=True, digits=True).experiments(), Plan().experiments()
    assert set(quick) == set(whole)
    assert len(whole["vanishing/relu"]) == 20
    assert len(quick["vanishing/relu"]) == FEWEST
    assert whole["exploding/linear"][0].observations == 60_000
    assert quick["exploding/linear"][0].observations == 2000
    assert quick["exploding/linear"][0].epochs == 3
    assert quick["exploding/sigmoid"][0].epochs == 10  # "stuck after 3 epochs" needs more of them
    assert {e.data for some in quick.values() for e in some} == {"digits", "circles"}


@pytest.mark.parametrize(
    ("source", "words"),
    [("S9", "no source 'S9': choose from S1, S3, S4, S5"), ("S2", "S2 asks three questions and publishes no figure")],
)
def test_an_unknown_source_lists_the_choices(source: str, words: str) -> None:
    with pytest.raises(ExperimentError, match=words):
        Plan(only=(source,)).experiments()


def test_the_command_says_that_s2_has_no_figure(tmp_path) -> None:
    done = CliRunner().invoke(main, ["reproduce", "--only", "S2", "--out", str(tmp_path)])
    assert done.exit_code != 0
    assert "S2 asks three questions" in done.output


def test_a_file_belongs_to_one_experiment(tmp_path, runs) -> None:
    e = runs["vanishing/relu"][0].origin.experiment
    others = [e, e.replace(seed=1), e.replace(epochs=5), e.replace(data="mnist"), e.replace(observations=39)]
    assert len({path_of(tmp_path, one) for one in others}) == len(others)
    assert finished(tmp_path, e) is None
    runs["vanishing/relu"][0].save(path_of(tmp_path, e))
    assert finished(tmp_path, e).origin.experiment == e
    runs["vanishing/relu"][1].save(path_of(tmp_path, e))  # a foreign recording under this name
    assert finished(tmp_path, e) is None


@pytest.mark.parametrize(
    ("stopped", "counts"),
    [("interrupted after 3 of 9 iterations", False), ("the loss is not finite since epoch 2", True)],
)
def test_an_interrupted_run_is_trained_again_and_one_that_broke_down_is_not(tmp_path, runs, stopped, counts) -> None:
    r = runs["vanishing/relu"][0]
    e = r.origin.experiment
    replace(r, origin=replace(r.origin, stopped=stopped)).save(path_of(tmp_path, e))
    assert (finished(tmp_path, e) is not None) == counts
    assert "1 stopped at a loss that is not finite" in table(
        {e.name: [replace(r, origin=replace(r.origin, stopped=stopped))]}
    )


def test_one_bar_goes_over_all_runs_to_its_end(tmp_path: Path, monkeypatch) -> None:
    seen = []

    class Bar(reproduction.tqdm):
        def __init__(self, **settings) -> None:
            super().__init__(**{**settings, "disable": False, "file": (tmp_path / "bar").open("w")})

        def update(self, n=1):
            seen.append((self.desc, n, self.total))
            return super().update(n)

    monkeypatch.setattr(reproduction, "tqdm", Bar)
    one, other = tiny("layers/relu").replace(epochs=3), tiny("layers/tanh").replace(epochs=2)
    reproduction._train([one, other], tmp_path)
    assert [n for _, n, _ in seen] == [work(one)] * 3 + [work(other)] * 2
    assert seen[0][0].startswith("layers/relu, seed 0, run 1 of 2")
    assert {total for _, _, total in seen} == {3 * work(one) + 2 * work(other)}


def test_deep_networks_are_more_work() -> None:
    quick = Plan(quick=True, digits=True).experiments()
    order = ("layers/relu", "activations/relu", "exploding/sigmoid", "exploding/linear")
    sizes = [work(quick[name][0]) / quick[name][0].iterations_per_epoch for name in order]
    assert sizes == sorted(sizes)
