"""Does the timeline's figure show each change in its place, in shape and in words?"""

import random

import pytest

from labkit import plots
from labkit.plots.figure import PlotError
from labkit.timeline import Timeline


def told():
    timeline = Timeline()
    losses = [0.5]
    timeline.observe({"losses": losses}, 1)
    losses.append(0.25)
    timeline.observe({"losses": losses, "rate": 0.1}, 2)
    timeline.observe({"losses": [1.0], "rate": 0.2}, 3)
    timeline.observe({"rate": 0.2}, 4)
    return timeline


def points(figure):
    (axes,) = figure.axes
    rows = [text.get_text() for text in axes.get_yticklabels()]
    lines = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    return {
        word: [(rows[int(y)], int(x)) for x, y in zip(*line.get_data(), strict=True)] for word, line in lines.items()
    }


def test_each_change_is_a_mark_in_its_row_and_column():
    assert points(plots.timeline(told())) == {
        "new": [("losses", 0), ("rate", 1)],
        "changed": [("rate", 2)],
        "grew": [("losses", 1)],
        "shrank": [("losses", 2)],
        "gone": [("losses", 3)],
    }


def test_every_word_has_a_shape_of_its_own():
    (axes,) = plots.timeline(told()).axes
    markers = [line.get_marker() for line in axes.lines if not line.get_label().startswith("_")]
    assert len(set(markers)) == len(markers) == 5


def test_the_description_says_it_in_words():
    words = plots.timeline(told()).alt_text
    assert words.startswith(
        "Timeline of 2 variables over 4 steps. losses new in cell 1, grew in cell 2, shrank in cell 3"
    )
    assert "rate new in cell 2, changed in cell 3." in words


def test_the_file_gives_the_same_figure(tmp_path):
    told().save(tmp_path / "workspace.json")
    assert points(plots.timeline(tmp_path / "workspace.json")) == points(plots.timeline(told()))


def test_sixty_cells_and_forty_variables_stay_readable():
    draw = random.Random(0)
    timeline, namespace = Timeline(), {}
    for cell in range(1, 61):
        namespace |= {f"variable_{draw.randrange(40)}": draw.random() for _ in range(5)}
        timeline.observe(namespace, cell)
    figure = plots.timeline(timeline)
    figure.png()
    (axes,) = figure.axes
    for labels, side in ((axes.get_yticklabels(), "y"), (axes.get_xticklabels(), "x")):
        boxes = sorted(label.get_window_extent().get_points().tolist() for label in labels)
        spans = sorted((box[0][side == "y"], box[1][side == "y"]) for box in boxes)
        assert all(spans[k][1] <= spans[k + 1][0] for k in range(len(spans) - 1)), side


def test_a_long_timeline_says_what_it_leaves_out():
    timeline = Timeline()
    for cell in range(200):
        timeline.observe({f"v{k}": cell for k in range(100)}, cell)
    figure = plots.timeline(timeline)
    caption = " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
    assert "The last 120 of 200 steps." in caption
    assert "Left out: 40 variables that changed less often." in caption


@pytest.mark.parametrize(
    ("source", "words"),
    [(Timeline(), "no variable is in this timeline"), (3, "int is no timeline"), ("none.json", "is not there")],
)
def test_what_cannot_be_drawn_is_one_sentence(source, words):
    with pytest.raises(PlotError, match=words):
        plots.timeline(source)
