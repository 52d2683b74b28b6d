"""Does the table say what was published, what came out, and whether it holds?"""

from dataclasses import replace

import pytest

from labkit import reproduction
from labkit.ensembles import band
from labkit.experiments import ExperimentError
from labkit.reproduction import CLAIMS, Plan, covers, reproduce, table, within


def test_a_table_is_made_of_runs_and_made_again_without_training(tmp_path, monkeypatch) -> None:
    plan = Plan(seeds=2, only=("S3",), epochs=1)
    path = reproduce(tmp_path / "out", plan)
    text = path.read_text()
    claims = [claim for claim in CLAIMS if claim.source == "S3"]
    rows = [line for line in text.splitlines() if line.startswith("| S3 ")]
    assert len(rows) == len(claims)
    for row, claim in zip(rows, claims, strict=True):
        assert claim.sentence in row
        assert claim.published in row
        assert row.count("|") == 7
    assert "`layers/tanh`, 2 seeds" in text
    monkeypatch.setattr("labkit.training._Run.to_the_end", None)
    assert reproduce(tmp_path / "out", plan).read_text() == text


def test_a_row_without_its_runs_is_left_out() -> None:
    assert "| S" not in table({})


def test_a_claim_that_does_not_hold_says_why(monkeypatch) -> None:
    wrong = replace(CLAIMS[0], needs=(), figure=lambda _: band([1.0, 2.0, 3.0]), holds=within(5, 9), remark="because")
    right = replace(wrong, holds=within(1, 3))
    monkeypatch.setattr(reproduction, "CLAIMS", (wrong, right))
    first, second = (line for line in table({}).splitlines() if line.startswith("| S1"))
    assert first.endswith("| **no** | because |")
    assert second.endswith("| yes |  |")
    assert "2 (" in first


@pytest.mark.parametrize(
    ("holds", "inside"),
    [(within(1, 1.9), False), (within(2, 2.5), True), (covers(1.1), True), (covers(3.5), False), (covers(0.5), False)],
)
def test_what_holds_is_told_from_the_band(holds, inside: bool) -> None:
    assert holds(band([1.0, 2.0, 3.0])) == inside


def test_no_figure_holds_that_is_no_number() -> None:
    nothing = band([float("nan"), float("inf") - float("inf")])
    assert not within(0, 1)(nothing)
    assert not covers(0.5)(nothing)


def test_deep_networks_are_few_and_small_where_it_has_to_be_quick() -> None:
    quick, whole = Plan(quick=True, digits=True).experiments(), Plan().experiments()
    assert set(quick) == set(whole)
    assert len(whole["vanishing/relu"]) == 20
    assert len(quick["vanishing/relu"]) == 5
    assert whole["exploding/linear"][0].observations == 60_000
    assert quick["exploding/linear"][0].observations == 2000
    assert {e.data for some in quick.values() for e in some} == {"digits", "circles"}


def test_an_unknown_source_lists_the_choices() -> None:
    with pytest.raises(ExperimentError, match="choose from S1, S3, S4, S5"):
        Plan(only=("S2",)).experiments()
