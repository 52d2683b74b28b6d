"""What a student's day brings: a second notebook, a kernel that is restarted, a small window."""

from __future__ import annotations

from collections.abc import Callable

import nbformat
import pytest
from playwright.sync_api import Locator, Page, expect

from browser.keyboard import tour
from browser.notebook import Notebook
from browser.people import Shoot
from browser.served import Server

pytestmark = pytest.mark.slow
Open = Callable[..., Page]
CELLS = {"open": "import labkit\ndesk = labkit.workspace()", "own": "of_{name} = 1", "explore": "labkit.explore()"}


@pytest.fixture(scope="module")
def written(served: Server) -> Callable[[str], str]:
    """A new notebook in the course; its path."""

    def write(name: str) -> str:
        notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
        notebook.cells = [nbformat.v4.new_code_cell(text.format(name=name), id=id) for id, text in CELLS.items()]
        nbformat.write(notebook, served.place.course / f"{name}.ipynb")
        return f"{name}.ipynb"

    return write


@pytest.fixture(scope="module")
def opened(pages: Open, served: Server, written: Callable[[str], str]) -> Callable[..., Notebook]:
    """Such a notebook in a window of its own."""

    def open_notebook(name: str, *size: int) -> Notebook:
        page, path = pages(name, *size), written(name)
        page.goto(served.lab(name, path))
        return Notebook(page, path)

    return open_notebook


def ran(notebook: Notebook, *ids: str) -> None:
    for id in ids:
        notebook.select(id)
        assert notebook.run("Control+Enter").error == "", id


def panel_of(notebook: Notebook) -> Locator:
    """The workspace of this notebook, by the title of its tab."""
    page, name = notebook.page, notebook.path.removesuffix(".ipynb")
    tab = page.locator(".lm-TabBar-tab").filter(has_text=f"Workspace of {name}")
    tab.wait_for()
    return page.locator(f'[id="{tab.get_attribute("data-id")}"] .labkit-workspace')


def test_two_notebooks_have_a_workspace_each(
    opened: Callable[..., Notebook], written: Callable[[str], str], shoot: Shoot
) -> None:
    first = opened("first")
    ran(first, "open", "own")
    path = written("second")
    first.page.evaluate("path => window.jupyterapp.commands.execute('docmanager:open', {path})", path)
    second = Notebook(first.page, path)
    ran(second, "open", "own")
    for notebook, own, other in ((first, "of_first", "of_second"), (second, "of_second", "of_first")):
        expect(panel_of(notebook)).to_contain_text(own)
        expect(panel_of(notebook)).not_to_contain_text(other)
    shoot(first.page, "80-two-notebooks")


def test_a_restarted_kernel_leaves_one_panel_that_says_so(opened: Callable[..., Notebook], shoot: Shoot) -> None:
    notebook = opened("restarted")
    ran(notebook, "open", "own", "explore")
    page, panel = notebook.page, panel_of(notebook)
    expect(panel).to_contain_text("of_restarted")
    page.evaluate("() => { window.jupyterapp.commands.execute('kernelmenu:restart'); }")  # it waits for the answer
    page.get_by_role("button", name="Confirm Kernel Restart").click()
    expect(panel.locator(".status")).to_contain_text("The kernel was restarted: these were its variables.")
    expect(page.locator(".labkit-explorer")).to_have_count(0)
    shoot(page, "81-kernel-restarted")
    again = Notebook(page, notebook.path)
    ran(again, "open")
    expect(panel_of(again).locator(".status")).to_contain_text("Cell 1")
    expect(page.locator(".labkit-workspace")).to_have_count(1)
    expect(panel_of(again)).not_to_contain_text("of_restarted")
    ran(again, "own")
    expect(panel_of(again)).to_contain_text("of_restarted")


def test_every_control_is_reached_in_a_small_window(opened: Callable[..., Notebook], shoot: Shoot) -> None:
    notebook = opened("small", 760, 700)
    ran(notebook, "open", "own", "explore")
    explorer = notebook.page.locator(".labkit-explorer")
    explorer.locator("svg").first.wait_for()
    for panel in (panel_of(notebook), explorer):
        walk = tour(panel)
        assert (walk.missed, walk.unseen) == ([], [])
        assert panel.evaluate("panel => panel.scrollWidth <= panel.clientWidth + 1"), "wider than its place"
    shoot(notebook.page, "82-small-window")
