"""A student and an instructor at their browsers: what each of them clicks."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import FrameLocator, Locator, Page, expect

from browser.notebook import LONG, Notebook
from browser.served import COURSE_ID, LAB, NOTEBOOK, Server

Shoot = Callable[[Page, str], None]


class JupyterLab:
    """One person's JupyterLab."""

    def __init__(self, page: Page, server: Server, shoot: Shoot) -> None:
        self.page, self.server, self.shoot = page, server, shoot

    def start(self, who: str) -> None:
        self.page.goto(self.server.lab(who))
        self.page.locator(".jp-Launcher").wait_for()

    def menu(self, name: str, item: str) -> None:
        self.page.get_by_role("menuitem", name=name, exact=True).click()
        self.page.locator(".lm-Menu").get_by_text(item, exact=True).click()

    def tab(self, name: str) -> None:
        self.page.locator("#jp-main-dock-panel").get_by_role("tab", name=name).click()

    def dialog(self) -> str:
        """The words of the dialog that is open or about to open; it is closed again."""
        dialog = self.page.locator(".jp-Dialog")
        words = dialog.inner_text(timeout=1000 * LONG)
        dialog.get_by_role("button").last.click()
        dialog.wait_for(state="detached")
        return words


class Student(JupyterLab):
    """Fetches, answers, validates, hands in, reads the feedback."""

    @property
    def list(self) -> Locator:
        """nbgrader's Assignment List, once it has found the course."""
        return self.page.locator("#nbgrader-assignment-list")

    def open_list(self) -> None:
        self.menu("Nbgrader", "Assignment List")
        expect(self.list.locator("#course_list_default")).to_have_text(COURSE_ID)

    def _of(self, state: str) -> Locator:
        return self.list.locator(f"#{state}_assignments_list .list_item")

    def fetch(self) -> None:
        self._of("released").filter(has_text=LAB).get_by_role("button", name="Fetch").click()
        self._of("fetched").first.wait_for()

    def open_notebook(self) -> Notebook:
        """From the list of what was fetched."""
        self._of("fetched").locator("a.assignment-notebooks-link").click()
        self._of("fetched").and_(self.page.locator(".nested_list_item")).locator("a").click()
        return Notebook(self.page, f"{LAB}/{NOTEBOOK}")

    def validate(self) -> str:
        """What nbgrader's button says."""
        self.page.locator(".jp-NotebookPanel:visible .validate-button").click()
        return self._validated()

    def validate_by_keyboard(self) -> str:
        """From the cells back to the toolbar, along it to the button, Enter."""
        for key, name in (("Shift+Tab", r".+"), ("ArrowRight", r"^Validate$")):
            self._press_until(key, name)
        self.page.keyboard.press("Enter")
        return self._validated()

    def _press_until(self, key: str, name: str) -> None:
        for _ in range(30):
            self.page.keyboard.press(key)
            if re.search(name, self.page.evaluate(TOOLBAR_BUTTON)):
                return
        raise AssertionError(f"{key} reaches no button of the toolbar that is called {name}")

    def _validated(self) -> str:
        self.page.locator(".jp-Dialog", has_text="Validat").wait_for(timeout=1000 * LONG)
        return self.dialog()

    def submit(self) -> None:
        self.tab("Assignments")
        self._of("fetched").first.get_by_role("button", name="Submit").click()
        self._of("submitted").first.wait_for()

    def feedback(self) -> FrameLocator:
        """Fetch it, look for it where the list points to, open it; the page."""
        self.tab("Assignments")
        self.list.locator("#refresh_assignments_list").click()
        self._of("submitted").filter(has_text="feedback available to fetch").last.wait_for()
        self._of("submitted").first.get_by_role("button", name="Fetch Feedback").click()
        self.list.get_by_text("(view feedback)").click()
        self.page.locator(".jp-DirListing-item", has_text=f"{LAB}.html").dblclick()
        return self.page.frame_locator(".jp-HTMLViewer iframe")


# the name of the button of a notebook's toolbar that has the focus, if one has it
TOOLBAR_BUTTON = """() => {
  const focused = document.activeElement;
  if (!focused.closest('.jp-NotebookPanel-toolbar')) return '';
  return focused.getAttribute('aria-label') || focused.textContent;
}"""


class Instructor(JupyterLab):
    """Releases, collects, marks and returns, in formgrader's own page.

    Inside JupyterLab formgrader is the same page in a frame.
    """

    def formgrader(self, path: str) -> None:
        self.page.goto(self.server.page(f"formgrader/{path}"))

    def press(self, action: str) -> str:
        """A sign in the row of the assignment; what formgrader says to it."""
        self.formgrader("manage_assignments")
        self.page.locator(f"#main-table td.{action} a").click()
        said = self.page.locator(".modal.in .modal-content")
        words = said.inner_text()
        said.get_by_text("OK", exact=True).click()
        self.page.locator(".modal, .modal-backdrop").first.wait_for(state="detached")
        return words

    def open_submission(self) -> None:
        """From the course to the assignment to its notebook to the one who handed in."""
        self.formgrader("gradebook")
        for where in (rf"/gradebook/{LAB}$", rf"/gradebook/{LAB}/{LAB}$", r"/submissions/"):
            self.page.locator("#main-table td a").first.click()
            self.page.wait_for_url(re.compile(where))
        self.page.locator(".nbgrader_cell").first.wait_for()

    def mark(self, cell: str, points: str, comment: str) -> None:
        """Type both; formgrader keeps each when the cursor leaves its field, and shows that it did."""
        answer = self.page.locator(".nbgrader_cell").filter(has=self.page.locator(f"#{cell}-comment"))
        # before the marks have come from the gradebook nobody listens to the fields; with them nbgrader sets this
        for field in (f"#{cell}_extra_credit", f"#{cell}-comment"):
            answer.locator(f"{field}[placeholder]").wait_for()
        for field, words, kept in ((f"#{cell}", points, "score"), (f"#{cell}-comment", comment, "comment")):
            answer.locator(field).click()
            self.page.keyboard.type(words)
            with self.page.expect_response(lambda answer: answer.request.method == "PUT" and answer.ok):
                self.page.keyboard.press("Tab")
            answer.locator(f".{kept}-saved.glyphicon-ok").wait_for(state="attached")
