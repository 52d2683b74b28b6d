"""What a timeline keeps of the changes, and which files it refuses."""

import gc
import json
import sys
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.desk import workspace
from labkit.kinds import one_line
from labkit.timeline import Change, Step, Timeline, TimelineError


class Raises:
    def __repr__(self):
        raise ValueError("no")


def test_the_timeline_keeps_nothing_alive():
    namespace = {"x": Raises(), "images": np.zeros(3)}
    dies = [weakref.ref(value) for value in namespace.values()]
    timeline = Timeline()
    pane = workspace(namespace)
    timeline.observe(namespace)
    pane.observe()
    namespace.clear()
    gc.collect()
    assert [ref() for ref in dies] == [None, None]
    assert [change.name for change in timeline.observe(namespace).gone] == ["images", "x"]


def told():
    timeline = Timeline()
    losses = []
    namespace = {"losses": losses, "rate": 0.1}
    timeline.observe(namespace, 1, "\n\nlosses = []\nrate = 0.1")
    for _ in range(100):
        losses.append(0.5)
        timeline.observe(namespace, 2, "for batch in batches:")
    del namespace["rate"]
    timeline.observe(namespace | {"name": "b" * 90}, 3, "name = " + "b" * 90)
    return timeline


def test_summary():
    timeline = told()
    assert timeline.changes() == {"losses": 100, "rate": 0, "name": 0}
    assert timeline.grew() == {"losses": (sys.getsizeof([]), 920)}
    assert timeline.largest_growth() == ("losses", 56, 920)
    assert (timeline.steps[0].source, len(timeline.steps[-1].source)) == ("losses = []", 80)
    assert str(timeline.steps[-1]) == "name new, rate gone"
    assert [change.name for change in timeline.steps[1].grew] == ["losses"]
    assert Timeline().largest_growth() is None


def test_a_second_look_in_a_cell_that_finds_nothing_is_no_step():
    timeline = Timeline()
    for cell in (1, 1, 2, None, None):
        timeline.observe({"x": 1}, cell)
    assert [step.cell for step in timeline.steps] == [1, 2, None, None]


names = st.from_regex(r"[a-zé][a-z0-9]{0,98}", fullmatch=True)
sizes = st.lists(st.integers(0, 2**62), min_size=2, max_size=5).map(lambda shape: "x".join(map(str, shape)))
counts = st.integers(0, 2**63 - 1)
changed = st.builds(Change, names, sizes, sizes, counts, counts)
appeared = changed.map(lambda change: change._replace(size_before=""))
gone = changed.map(lambda change: change._replace(size_after=""))
sources = st.text(max_size=200).map(lambda text: one_line(text, 80))
steps = st.builds(
    Step,
    st.none() | counts,
    sources,
    *(st.lists(kind, max_size=3).map(tuple) for kind in (appeared, changed, gone)),
)


@given(st.lists(steps, max_size=5), counts)
def test_save_then_load_is_the_identity(tmp_path_factory, kept, dropped):
    path = tmp_path_factory.getbasetemp() / "workspace.json"
    timeline = Timeline()
    timeline.steps, timeline.dropped = kept, dropped
    timeline.save(path)
    loaded = Timeline.load(path)
    assert (loaded.steps, loaded.dropped) == (kept, dropped)


def test_the_file_is_the_same_each_time(tmp_path):
    for name in ("a.json", "b.json"):
        told().save(tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]


@pytest.mark.parametrize(("variables_", "loops"), [(1, 3000), (400, 90)])
def test_a_full_timeline_still_loads(tmp_path, variables_, loops):
    timeline = Timeline()
    for i in range(loops):
        timeline.observe({f"variable_{n}": i for n in range(variables_)}, source="x" * 80)
    timeline.save(tmp_path / "workspace.json")
    loaded = Timeline.load(tmp_path / "workspace.json")
    assert 0 < loaded.dropped == timeline.dropped == loops - len(loaded.steps)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "workspace.json"
    told().save(path)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        Timeline().save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def written(**changes):
    step = {"cell": 1, "source": "x = 1", "appeared": [["x", "", "1x1", 0, 28]], "changed": [], "gone": []}
    whole = {"format": "labkit workspace", "version": 1, "dropped": 0, "steps": [step]}
    step |= {key: value for key, value in changes.items() if key not in whole}
    return json.dumps(whole | {key: value for key, value in changes.items() if key in whole})


def test_the_example_of_the_bad_files_is_good(tmp_path):
    (tmp_path / "workspace.json").write_text(written())
    assert Timeline.load(tmp_path / "workspace.json").changes() == {"x": 0}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is not there"),
        ("", "cut off"),
        (written()[:60], "cut off"),
        ("[" * 900_000, "cut off"),
        ("1" * 900_000, "cut off"),
        (b"\x93NUMPY\xff", "cut off"),
        (b"\x80\x04\x95", "cut off"),
        (" " * 1_000_001, "more than 1,000,000 bytes"),
        ("[]", "is no timeline"),
        ('{"cells": []}', "is no timeline"),
        (written(format="labkit recording"), "is no timeline"),
        (written(version=2), "format version 2, this labkit reads version 1"),
        (written(version="\u202e" * 100), "format version"),
        (written(version=True), "format version True"),
        (written(dropped=-1), "count of dropped"),
        (written(dropped=1.0), "count of dropped"),
        (written(steps={}), "a list of at most 2,000 steps"),
        (written(steps=[{}] * 2001), "a list of at most 2,000 steps"),
        (written(steps=[1]), "step 1 without exactly cell, source, appeared, changed, gone"),
        (written(more=1), "step 1 without exactly"),
        (written(cell="1"), "step 1 whose cell is no number"),
        (written(cell=True), "step 1 whose cell is no number"),
        (written(source=["a"]), "source is no line of text"),
        (written(source="a\nb"), "source is no line of text"),
        (written(source="a" * 81), "source is no line of text"),
        (written(source="\ud800"), "source is no line of text"),
        (written(gone=None), 'step 1 whose "gone"'),
        (written(gone=[["x", "", "1x1", 0, 28]]), 'step 1 whose "gone"'),
        (written(changed=[["x", "", "1x1", 0, 28]]), 'step 1 whose "changed"'),
        (written(changed=[["<b>", "1x1", "1x1", 0, 28]]), 'step 1 whose "changed"'),
        (written(changed=[["x", "1x1", "1x٣", 0, 28]]), 'step 1 whose "changed"'),
        (written(changed=[["x", "1x1", "1x1", -1, 28]]), 'step 1 whose "changed"'),
        (written(changed=[["x", "1x1", "1x1", True, 28]]), 'step 1 whose "changed"'),
        (written(changed=[["x", "1x1", "1x1", 0, 2**63]]), 'step 1 whose "changed"'),
        (written(changed=[["x", "1x1", "1x1", 0, float("nan")]]), 'step 1 whose "changed"'),
        (written(changed=[["x"]]), 'step 1 whose "changed"'),
        (written(changed=["xxxxx"]), 'step 1 whose "changed"'),
    ],
    ids=lambda given: given if isinstance(given, str) and len(given) < 60 else "file",
)
def test_a_bad_file_is_refused_in_one_sentence(tmp_path, content, words):
    path = tmp_path / "workspace.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TimelineError) as refused:
        Timeline.load(path)
    said = str(refused.value)
    assert words in said
    assert said.startswith("workspace.json ")
    assert "run the notebook again" in said
    assert len(said) < 250
    assert said.isprintable()


def test_a_folder_is_no_timeline(tmp_path):
    with pytest.raises(TimelineError, match="is not a file"):
        Timeline.load(tmp_path)
