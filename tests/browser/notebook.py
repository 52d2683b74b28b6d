"""A notebook that is open in JupyterLab: cells by their ids, keys pressed as a person presses them, states waited for.

JupyterLab is asked which cells are there and which still run, since what it shows of that comes too early; whatever is
done is done by mouse and keyboard, and whatever is seen is read from the page.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Locator, Page

USUAL = 120  # seconds that JupyterLab may take for anything, on a busy machine
LONG = 400  # all trainings of a lab

FIND = """path => {
  for (const widget of window.jupyterapp.shell.widgets("main"))
    if (widget.context?.path === path && widget.content?.widgets) return widget;
  return null;
}"""


def js(body: str) -> str:
    """A function of [path, one], in which `panel` is the notebook's, `cells` its cells, and `one` what was given."""
    return f"async ([path, one]) => {{ const panel = ({FIND})(path); const cells = panel?.content.widgets; {body} }}"


CONNECTED = js("""
  if (!panel) return false;
  await panel.context.ready; await panel.sessionContext.ready;
  const kernel = panel.sessionContext.session?.kernel;
  if (!kernel || kernel.connectionStatus !== "connected") return false;
  await kernel.info;
  return true;
""")
# without pictures, which would be carried here again and again
CELLS = js("""
  const plain = output => [output.text ?? output.data?.["text/plain"] ?? ""].flat().join("");
  return cells.map(cell => cell.model).filter(model => !one || model.id === one).map(model => {
    const outputs = model.type === "code" ? model.outputs.toJSON() : [];
    return {
      id: model.id, type: model.type, source: model.sharedModel.getSource(),
      error: outputs.find(output => output.output_type === "error")?.ename ?? "",
      text: outputs.map(plain).join("\\n"),
    };
  });
""")
# A cell's number comes before its outputs; a request is done when the kernel has sent all that came of it. Before cells
# are run, the requests of the time before are noted.
NOTE = js("window.askedBefore = new Map(cells.map(cell => [cell.model.id, cell.outputArea?.future]))")
RAN = js("""
  const code = cells.filter(cell => cell.model.type === "code" && (!one || cell.model.id === one));
  const filled = code.filter(cell => cell.model.sharedModel.getSource().trim());
  const asked = filled.map(cell => [cell, cell.outputArea.future]);
  if (asked.some(([cell, future]) => !future || future === window.askedBefore.get(cell.model.id))) return false;
  const late = new Promise(resolve => setTimeout(resolve, 500, "late"));
  if (await Promise.race([Promise.all(asked.map(([, future]) => future.done)), late]) === "late") return false;
  return asked.every(([cell]) => (cell.model.executionState ?? "idle") === "idle"); // before 4.3 it has none
""")
STARTED = js("""
  const cell = cells.find(cell => cell.model.id === one), future = cell.outputArea.future;
  return future !== window.askedBefore.get(one) && cell.outputArea.model.length > 0;
""")
PICTURE = js("""
  const cell = cells.find(cell => cell.model.id === one);
  const late = new Promise(resolve => setTimeout(resolve, 10, "late"));
  const ended = await Promise.race([cell.outputArea.future.done, late]) !== "late";
  const shown = [...cell.node.querySelectorAll(".jp-OutputArea-output :is(img, canvas)")].at(-1);
  return {ended, picture: shown?.src ?? shown?.toDataURL() ?? ""};
""")
ACTIVE = js("return panel.content.activeCell.model.id")
IS_ACTIVE = js("return panel.content.activeCell.model.id === one")
# a text that was shown rendered takes a moment until it takes keys
IN_TEXT = js("""
  const cell = cells.find(cell => cell.model.id === one);
  const focused = document.activeElement;
  return panel.content.mode === "edit" && cell.node.contains(focused) && !!focused.closest(".cm-content");
""")
MODE = js("return panel.content.mode === one")
CLEAN = js("return !panel.context.model.dirty")


@dataclass(frozen=True)
class Cell:
    """One cell as the notebook holds it now."""

    id: str
    type: str
    source: str
    error: str  # the name of the error that it ended with; empty where it ended well
    text: str  # all that it put out, as plain text

    @property
    def is_check(self) -> bool:
        return self.source.startswith("autograder.check(")


class Notebook:
    """The notebook at `path`, as the server names it, that is open in front of the page."""

    def __init__(self, page: Page, path: str) -> None:
        self.page, self.path = page, path
        page.locator(".jp-NotebookPanel:visible .jp-Cell").first.wait_for()
        # the sign of an idle kernel comes before the kernel answers; cells that are run then are lost
        self._wait(CONNECTED)
        self._order = [cell.id for cell in self.cells()]

    def _ask(self, expression: str, one: object = None) -> Any:
        return self.page.evaluate(expression, [self.path, one])

    def _wait(self, expression: str, one: object = None, patience: float = USUAL) -> None:
        """Ask until the answer is yes; the page's own waiting would take a promise for one."""
        until = time.monotonic() + patience
        while not self._ask(expression, one):
            assert time.monotonic() < until, f"waited {patience} s for {one or self.path}: {expression}"
            self.page.wait_for_timeout(50)

    # what is there

    def cells(self) -> list[Cell]:
        return [Cell(**told) for told in self._ask(CELLS)]

    def now(self, id: str) -> Cell:
        [told] = self._ask(CELLS, id)
        return Cell(**told)

    def on_page(self, id: str) -> Locator:
        """The cell where a person sees it."""
        place = f'[data-windowed-list-index="{self._order.index(id)}"]'
        return self.page.locator(f".jp-NotebookPanel:visible .jp-Cell{place}")

    def outputs(self, id: str) -> Locator:
        return self.on_page(id).locator(".jp-Cell-outputArea")

    def pictures_while_running(self, id: str) -> Iterator[str]:
        """The last picture below a cell as an address that holds it, again and again, from its start to its end."""
        while not self._ask(STARTED, id):
            self.page.wait_for_timeout(50)
        while not (told := self._ask(PICTURE, id))["ended"]:
            if told["picture"]:
                yield told["picture"]
            self.page.wait_for_timeout(100)

    @property
    def active(self) -> str:
        return str(self._ask(ACTIVE))

    # what a person does

    def select(self, id: str) -> None:
        """Make a cell the active one, not its text."""
        cell = self.on_page(id)
        cell.scroll_into_view_if_needed()
        cell.locator(".jp-InputPrompt").click()
        self._wait(IS_ACTIVE, id)

    def edit(self, id: str) -> Locator:
        """Put the cursor into a cell's text, as Enter does; the text."""
        self.select(id)
        self.page.keyboard.press("Enter")
        self._wait(IN_TEXT, id)
        return self.on_page(id).locator(".cm-content")

    def command_mode(self) -> None:
        self.page.keyboard.press("Escape")
        self._wait(MODE, "command")

    def run(self, key: str = "Shift+Enter", patience: float = LONG) -> Cell:
        """Run the active cell by the keyboard, and wait for its end; the cell as it is then."""
        cell = self.now(self.active)
        self._ask(NOTE)
        self.page.keyboard.press(key)
        if cell.type == "code":
            self._wait(RAN, cell.id, patience)
        if key == "Shift+Enter" and cell.id != self._order[-1]:
            self._wait(IS_ACTIVE, self._order[self._order.index(cell.id) + 1])
        return self.now(cell.id)

    def start(self) -> None:
        """Run the active cell by the keyboard, and do not wait."""
        self._ask(NOTE)
        self.page.keyboard.press("Control+Enter")

    def wait_until_ran(self, id: str) -> None:
        self._wait(RAN, id, LONG)

    def type(self, lines: str) -> None:
        """Type text where the cursor is. The editor indents a new line by itself: what is typed takes that's place."""
        for number, line in enumerate(lines.split("\n")):
            if number:
                self.page.keyboard.press("Enter")
                self.page.keyboard.press("Shift+Home")
            if line:
                self.page.keyboard.type(line)
            elif number:
                self.page.keyboard.press("Delete")

    def answer(self, id: str, lines: str) -> None:
        """Replace the two lines that stand for an answer by typed ones."""
        text = self.edit(id)
        text.locator(".cm-line", has_text="# YOUR CODE HERE").click()
        # from the end of the second line back to the start of the first: Home stops where the indentation ends
        for key in ("ArrowDown", "End", "Shift+ArrowUp", "Shift+Home", "Shift+Home"):
            self.page.keyboard.press(key)
        self.type(lines)

    def write(self, id: str, words: str) -> None:
        """Replace the whole of a cell by typed words."""
        self.edit(id)
        self.page.keyboard.press("Control+a")
        self.type(words)

    def paste(self, id: str, text: str) -> None:
        """Replace the whole of a cell by what the clipboard holds."""
        self.page.evaluate("text => navigator.clipboard.writeText(text)", text)
        self.edit(id)
        self.page.keyboard.press("Control+a")
        self.page.keyboard.press("Control+v")

    def menu(self, name: str, item: str) -> None:
        self.page.get_by_role("menuitem", name=name, exact=True).click()
        self.page.locator(".lm-Menu").get_by_text(item, exact=True).click()

    def restart_and_run_all(self) -> None:
        self._ask(NOTE)
        self.menu("Run", "Restart Kernel and Run All Cells…")
        self.page.locator(".jp-Dialog").get_by_role("button", name="Confirm Kernel Restart").click()

    def wait_until_all_ran(self) -> None:
        self._wait(RAN, patience=LONG)

    def save(self) -> None:
        self.page.keyboard.press("Control+s")
        self._wait(CLEAN)
