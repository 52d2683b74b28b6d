"""The panels of labkit in JupyterLab: what a student sees of them, moves in them, and reaches by the keyboard."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import nbformat
import pytest
from playwright.sync_api import Locator, Page, expect

from browser.keyboard import tour
from browser.notebook import Notebook
from browser.people import Shoot
from browser.served import Server
from labkit.recording import Recording

Open = Callable[..., Page]

WORKSPACE = {
    "open": "import numpy as np\nimport labkit\ndesk = labkit.workspace()",
    "appear": 'x = np.arange(2000.0).reshape(500, 4)\nname = "ada"\n' + "a_" * 40 + "z = 1",
    "change": "x[0, 0] = 4321.0",
    "gone": "del name",
    "many": "for k in range(3000):\n    globals()[f'v{k}'] = k",
    "few": "for k in range(3000):\n    del globals()[f'v{k}']",
    "broken": "class Bad:\n    def __repr__(self):\n        raise ValueError('no')\n\nbad = Bad()",
}
TRAINING = {
    "open": "import labkit\nexperiment = labkit.experiment('vanishing/relu', 'ada').replace(epochs=500)",
    "train": "run = labkit.train(experiment, save='live.safetensors', watch=labkit.LiveTraining())",
}
EXPLORER = {"open": "import labkit", "explore": "labkit.explore()", "paste": "# the code of a state"}


@pytest.fixture(scope="module")
def bench(pages: Open, served: Server) -> Callable[[str, dict[str, str]], Notebook]:
    """A new notebook of these cells, opened by somebody."""

    def opened(name: str, cells: dict[str, str]) -> Notebook:
        page = pages(name)
        notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
        notebook.cells = [nbformat.v4.new_code_cell(text, id=id) for id, text in cells.items()]
        nbformat.write(notebook, served.place.course / f"{name}.ipynb")
        page.goto(served.lab(name, f"{name}.ipynb"))
        return Notebook(page, f"{name}.ipynb")

    return opened


def ran(notebook: Notebook, *ids: str) -> None:
    for id in ids:
        notebook.select(id)
        assert notebook.run("Control+Enter").error == "", id


@contextmanager
def dark(page: Page) -> Iterator[None]:
    """JupyterLab keeps the theme for everybody: the light one comes back."""
    _theme(page, "Dark")
    yield
    _theme(page, "Light")


def _theme(page: Page, name: str) -> None:
    page.evaluate(f"window.jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {name}'}})")
    page.locator(f"body[data-jp-theme-light={'true' if name == 'Light' else 'false'}]").wait_for(state="attached")


# the workspace panel


@pytest.fixture(scope="module")
def workspace(bench: Callable[[str, dict[str, str]], Notebook]) -> Notebook:
    notebook = bench("workspace", WORKSPACE)
    ran(notebook, "open")
    notebook.page.locator(".labkit-workspace").wait_for()
    return notebook


def line(notebook: Notebook, name: str) -> Locator:
    panel = notebook.page.locator(".labkit-workspace")
    return panel.locator("tbody tr").filter(has=notebook.page.locator(f'[data-name="{name}"]'))


def test_the_workspace_follows_the_cells(workspace: Notebook, shoot: Shoot) -> None:
    """Beside the notebook: what appears, changes and goes is marked; what cannot be shown is no error."""
    panel = workspace.page.locator(".labkit-workspace")
    ran(workspace, "appear")
    expect(line(workspace, "x")).to_contain_text("new")
    ran(workspace, "change")
    expect(line(workspace, "x")).to_contain_text("changed")
    expect(line(workspace, "x")).to_contain_text("4321")
    shoot(workspace.page, "50-workspace")
    ran(workspace, "gone")
    expect(line(workspace, "name")).to_have_count(0)
    expect(panel).to_contain_text("gone: name")
    ran(workspace, "broken")
    expect(line(workspace, "bad")).to_be_visible()
    cells = workspace.page.locator(".jp-NotebookPanel").bounding_box()
    beside = panel.bounding_box()
    assert cells is not None
    assert beside is not None
    assert beside["x"] >= cells["x"] + cells["width"] - 2


def test_the_workspace_is_filtered_sorted_and_opened(workspace: Notebook, shoot: Shoot) -> None:
    panel = workspace.page.locator(".labkit-workspace")
    ran(workspace, "appear")
    panel.get_by_role("searchbox").fill("ndarray")
    expect(panel.locator("tbody tr")).to_have_count(1)
    panel.get_by_role("searchbox").fill("")
    # the column of names stays while the others are scrolled: a long one must not take all the room
    [name, room] = panel.evaluate("e => ['tbody th', '.scroller'].map(q => e.querySelector(q).clientWidth)")
    assert name < 0.6 * room
    head = panel.locator("th").filter(has=workspace.page.get_by_role("button", name="Bytes"))
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    line(workspace, "x").click()
    expect(panel.locator(".page table")).to_be_visible()
    shoot(workspace.page, "51-workspace-array")
    panel.locator("button.back").click()
    expect(line(workspace, "x")).to_be_visible()


def test_thousands_of_variables_are_drawn_bit_by_bit(workspace: Notebook) -> None:
    """All of them drawn for each message kept the browser busy for minutes."""
    panel = workspace.page.locator(".labkit-workspace")
    ran(workspace, "many")
    expect(panel.locator(".count")).to_contain_text(re.compile(r"3,\d\d\d variables"))
    expect(panel.locator(".status")).not_to_contain_text("to come")
    expect(panel.locator(".variables tbody tr")).to_have_count(500)
    panel.get_by_role("button", name="Show 500 more").click()
    expect(panel.locator(".variables tbody tr")).to_have_count(1000)
    panel.get_by_role("searchbox").fill("v2999")
    expect(line(workspace, "v2999")).to_contain_text("2999")
    panel.get_by_role("searchbox").fill("")
    ran(workspace, "few")
    expect(panel.get_by_role("button", name="Show 500 more")).to_be_hidden()


def test_every_control_of_the_workspace_is_reached_by_tab(workspace: Notebook, shoot: Shoot) -> None:
    """The list, and the page of an array, opened and left by Enter."""
    panel = workspace.page.locator(".labkit-workspace")
    ran(workspace, "appear")
    with dark(workspace.page):
        listed = tour(panel)
        assert (listed.missed, listed.unseen) == ([], [])
        panel.locator('[data-name="x"]').focus()
        workspace.page.keyboard.press("Enter")
        panel.locator(".page table").wait_for()
        opened = tour(panel)
        assert (opened.missed, opened.unseen) == ([], [])
        shoot(workspace.page, "52-workspace-dark")
    panel.locator("button.back").focus()
    workspace.page.keyboard.press("Enter")
    expect(line(workspace, "x")).to_be_visible()


# the live view of a training


def test_a_training_is_seen_while_it_runs_and_stopped_by_its_button(
    bench: Callable[[str, dict[str, str]], Notebook], served: Server, shoot: Shoot
) -> None:
    """Progress and pictures while the cell runs; the button by keyboard; what was recorded is kept."""
    notebook = bench("training", TRAINING)
    ran(notebook, "open")
    notebook.select("train")
    notebook.start()
    panel = notebook.page.locator(".labkit-training")
    panel.wait_for()
    expect(panel).to_contain_text(re.compile(r"Epoch [1-9]"))
    first = panel.locator("canvas").first.evaluate("canvas => canvas.toDataURL()")
    expect(panel.locator("canvas")).not_to_have_count(0)
    shoot(notebook.page, "60-training")
    notebook.page.wait_for_function(
        "first => document.querySelector('.labkit-training canvas')?.toDataURL() !== first", arg=first
    )
    walk = tour(panel)
    assert (walk.missed, walk.unseen) == ([], [])
    panel.get_by_role("button", name="Stop").focus()
    notebook.page.keyboard.press("Space")
    notebook.wait_until_ran("train")
    kept = Recording.load(served.place.course / "live.safetensors")
    assert 0 < len(kept.loss) < 500 * 40
    notebook.on_page("train").locator(".jp-Cell-outputArea img").wait_for()
    shoot(notebook.page, "61-training-stopped")


# the gradient explorer


@pytest.fixture(scope="module")
def explorer(bench: Callable[[str, dict[str, str]], Notebook]) -> Notebook:
    notebook = bench("explorer", EXPLORER)
    ran(notebook, "open", "explore")
    notebook.page.locator(".labkit-explorer svg").first.wait_for()
    return notebook


def code(panel: Locator) -> str:
    return panel.get_by_label("The code that makes this state").input_value()


def test_the_explorer_answers_its_sliders(explorer: Notebook, shoot: Shoot) -> None:
    """By keyboard and by mouse: the drawing, the number and the code follow."""
    panel = explorer.page.locator(".labkit-explorer")
    shown = panel.get_by_label("The code that makes this state")
    drawing = panel.locator(".plots svg").first
    before, words = drawing.inner_html(), code(panel)
    panel.locator("input[name=depth]").focus()
    for _ in range(3):
        explorer.page.keyboard.press("ArrowRight")
    expect(shown).not_to_have_value(words)
    expect(panel.locator("input[name=depth-number]")).to_have_value(re.compile(r"^\d+$"))
    assert drawing.inner_html() != before
    slider = panel.locator("input[name=gain]")
    box = slider.bounding_box()
    assert box is not None
    explorer.page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + box["height"] / 2)
    expect(shown).to_have_value(re.compile("gain="))
    shoot(explorer.page, "70-explorer")


def test_the_explorer_trains_and_gives_the_code_of_its_state(explorer: Notebook, shoot: Shoot) -> None:
    """Does the button train, and does the copied code run in a cell?"""
    panel = explorer.page.locator(".labkit-explorer")
    panel.get_by_role("button", name="Train it").click()
    expect(panel.locator(".legend")).to_contain_text("after")
    shoot(explorer.page, "71-explorer-trained")
    panel.get_by_role("button", name="Copy the code").click()
    expect(panel).to_contain_text("Copied.")
    held = explorer.page.evaluate("() => navigator.clipboard.readText()")
    assert held == code(panel)
    explorer.paste("paste", held)
    explorer.command_mode()
    assert explorer.run("Control+Enter").error == ""


def test_a_training_of_the_explorer_is_stopped_and_kept(explorer: Notebook, shoot: Shoot) -> None:
    """The button trains between two cells: does its Stop arrive, and does one sentence say what is kept?"""
    panel = explorer.page.locator(".labkit-explorer")
    epochs = panel.locator("input[name=epochs-number]")
    epochs.fill("50")
    epochs.press("Enter")
    train = panel.get_by_role("button", name="Train it for 2000 steps")
    train.click()
    stop = explorer.page.locator(".labkit-training").get_by_role("button", name="Stop")
    stop.click()
    told = re.compile(r"interrupted after \d+ of 2000 iterations; what was recorded until then is kept")
    expect(panel.locator(".notes").last).to_contain_text(told)
    expect(train).to_be_enabled()
    shoot(explorer.page, "73-explorer-stopped")


def test_a_notebook_that_is_opened_again_shows_pictures_and_no_error(
    explorer: Notebook, pages: Open, served: Server, shoot: Shoot
) -> None:
    """Saved with its panels, opened where their kernel is not: what stands there, and is it told of as an error?"""
    explorer.save()
    course = served.place.course
    shutil.copy(course / "explorer.ipynb", course / "again.ipynb")
    page = pages("again")
    page.goto(served.lab("again", "again.ipynb"))
    again = Notebook(page, "again.ipynb")
    pictures = again.on_page("explore").locator(".jp-OutputArea-output img")
    expect(pictures.first).to_be_visible()
    assert all(pictures.evaluate_all("all => all.map(one => one.alt)"))
    expect(page.locator(".labkit-explorer")).to_have_count(0)
    assert "rror" not in again.outputs("explore").inner_text()
    shoot(page, "74-opened-again")


def test_every_control_of_the_explorer_is_reached_by_tab(explorer: Notebook, shoot: Shoot) -> None:
    panel = explorer.page.locator(".labkit-explorer")
    with dark(explorer.page):
        walk = tour(panel)
        assert (walk.missed, walk.unseen) == ([], [])
        assert all(walk.controls), "a control without a name"
        shoot(explorer.page, "72-explorer-dark")
