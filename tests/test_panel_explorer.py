"""Does the panel answer what the browser asks, newest first, and keep a picture for the saved notebook?"""

import json
import re
from dataclasses import asdict

import numpy as np
import pytest

from labkit.experiments import Experiment, ExperimentError
from labkit.explained import view
from labkit.explorer import Explorer, Settings
from labkit.panels import explorer as panels
from labkit.panels.explorer import ExplorerPanel, controls
from labkit.panels.panel import STATIC

SMALL = Experiment(observations=60, pool=200, widths=(784, 9, 9, 10), batch_size=20, epochs=1)


@pytest.fixture
def panel():
    return ExplorerPanel(Explorer(SMALL, seeds=2))


def ask(panel, kind="ask", **settings):
    panel._heard(None, {"kind": kind, "id": "me:1", "settings": settings}, [])
    return panel.answer


def test_a_change_is_answered_with_what_is_drawn(panel):
    answer = ask(panel, width=12, activation="tanh")
    assert (answer["id"], answer["problem"]) == ("me:1", "")
    assert panel.explorer.experiment.widths == (784, 12, 12, 10)
    assert answer["settings"] == asdict(panel.explorer.settings)
    assert {k: v for k, v in answer.items() if k not in ("id", "problem")} == view(panel.explorer)
    drawn = np.array(answer["sizes"]["deltas"]["median"])
    np.testing.assert_allclose(drawn, np.median(panel.explorer.measured.deltas, axis=0), rtol=1e-3)


def test_an_answer_is_plain_json(panel):
    assert json.loads(json.dumps(ask(panel, activation="sigmoid", depth=30, gain=0.0001), allow_nan=False))


def test_more_seeds_follow_until_there_are_all(panel, monkeypatch):
    monkeypatch.setattr(panels, "SECONDS", 0)
    answer = ask(panel, width=100, depth=30)
    assert answer["seeds"] < answer["of"] == 2
    assert ask(panel, "more")["seeds"] == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gain": 0}, "above 0"),
        ({"batch_size": 600}, "larger than the 60 observations"),
        ({"normalisation": "batch", "batch_size": 59}, "batch normalisation needs 2 or more"),
        ({"clip": "clip_norm", "clip_size": -1}, "above 0"),
        ({"activation": "<b>"}, "choose from"),
        ({"nothing": 1}, "has no 'nothing'"),
        ({"width": None}, "whole number"),
    ],
)
def test_the_impossible_is_one_sentence_and_changes_nothing(panel, settings, words):
    before = panel.explorer.settings
    answer = ask(panel, **settings)
    assert words in answer["problem"]
    assert "\n" not in answer["problem"]
    assert "layers" not in answer
    assert panel.explorer.settings == before
    assert ask(panel, width=8)["problem"] == ""


def test_training_from_the_panel_leaves_a_recording_and_draws_it(panel):
    answer = ask(panel, "train", width=8)
    assert panel.explorer.recording.origin.experiment == panel.explorer.experiment
    assert panel.explorer.recording.complete
    assert answer["trained"]
    assert len(answer["sizes"]["deltas"]["after"]) == 3
    assert not panel.training
    assert not ask(panel, gain=2.0)["trained"]


def test_an_interrupted_training_keeps_its_recording(panel, monkeypatch):
    import labkit.live

    class Impatient:
        def __call__(self, recordings):
            raise KeyboardInterrupt

    monkeypatch.setattr(labkit.live, "LiveDistributions", Impatient)
    answer = ask(panel, "train", epochs=3)
    assert "interrupted after 3 of 9" in panel.explorer.recording.origin.stopped
    assert answer["trained"]
    assert not panel.training


def test_the_gain_at_which_it_holds_is_theorys(panel):
    answer = ask(panel, "hold", activation="relu", initialisation="glorot_uniform")
    assert answer["settings"]["gain"] == pytest.approx(2**0.5, rel=1e-3)
    assert "no scale of the weights" in ask(panel, "hold", activation="gelu")["problem"]
    assert "plain layers" in ask(panel, "hold", activation="relu", normalisation="layer")["problem"]


def test_every_setting_has_a_control_that_reaches_its_value():
    wide = Explorer(SMALL.replace(widths=(784, *(300,) * 40, 10), epochs=200), seeds=1)
    specs = {spec["name"]: spec for spec in controls(wide)}
    assert set(specs) == set(asdict(wide.settings))
    for name, value in asdict(wide.settings).items():
        spec = specs[name]
        if spec["kind"] == "range":
            assert spec["low"] <= value <= spec["high"]
        elif spec["kind"] == "choice":
            assert value in [choice for choice, _ in spec["options"]]
    assert all(spec["label"] for spec in specs.values())


def test_every_choice_of_the_controls_is_possible():
    explorer = Explorer(SMALL, seeds=1)
    for spec in controls(explorer):
        for value, _ in spec.get("options", []):
            assert isinstance(explorer.settings, Settings)
            Explorer(SMALL.replace(observations=100), seeds=1).change(**{spec["name"]: value})
    with pytest.raises(ExperimentError):
        explorer.change(activation="softmax")


def test_the_picture_below_is_an_ordinary_figure_with_its_words(panel):
    bundle = panel._still()
    assert {"image/png", "text/html", "text/plain"} <= set(bundle)
    assert f'<div class="{panel.still}">' in bundle["text/html"]
    assert 'alt="Gradients at the start' in bundle["text/html"]
    assert bundle["text/plain"] == str(panel.explorer)


def test_the_script_knows_all_that_is_sent_and_trusts_no_text(panel):
    script = (STATIC / "explorer.js").read_text()
    assert "innerHTML" not in script
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", script)
    for name in set(view(panel.explorer)) - {"describes"}:
        assert re.search(rf"\b{name}\b", script), f"{name} is sent and not used"


def test_outside_a_notebook_it_is_the_table(ipython):
    publisher = ipython().display_pub
    explorer = Explorer(SMALL, seeds=1)
    explorer._ipython_display_()
    assert [output["data"] for output in publisher.outputs] == [{"text/plain": str(explorer)}]
