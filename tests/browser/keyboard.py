"""The controls in a part of a page: which of them the Tab key reaches, and whether each shows that it is there."""

from __future__ import annotations

from dataclasses import dataclass

from playwright.sync_api import Locator

# What a person could press or fill in there now. Of radio buttons Tab reaches the chosen one, of a group that has one
# tab stop (tabs, the rows of a table) that stop: the arrow keys do the rest, and these have tabIndex -1.
CONTROLS = """root => {
  const found = [...root.querySelectorAll("button, input, select, textarea, a[href], summary, [tabindex]")]
    .filter(one => !one.disabled && one.tabIndex >= 0 && one.checkVisibility({visibilityProperty: true}))
    .filter(one => one.type !== "radio" || one.checked);
  found.forEach((one, number) => one.dataset.tabStop = number);
  const text = one => one.labels?.[0]?.textContent || one.textContent || one.title;
  return found.map(one => one.getAttribute("aria-label") || text(one) || "");
}"""
FOCUSED = """root => {
  const one = document.activeElement, style = getComputedStyle(one);
  if (!root.contains(one)) return null;
  return {number: Number(one.dataset.tabStop ?? -1),
          seen: (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none"};
}"""


@dataclass(frozen=True)
class Tour:
    """One way through a part of a page by the Tab key."""

    controls: list[str]  # the words by which each is known to a person who does not see it
    reached: set[int]  # which of them, as numbers of that list
    unseen: list[str]  # those that do not show that they have the focus

    @property
    def missed(self) -> list[str]:
        return [name for number, name in enumerate(self.controls) if number not in self.reached]


def tour(root: Locator) -> Tour:
    """Tab from the first control until the focus leaves."""
    controls: list[str] = root.evaluate(CONTROLS)
    root.locator('[data-tab-stop="0"]').focus()
    # once by keyboard, so that the browser shows the focus
    root.page.keyboard.press("Shift+Tab")
    root.page.keyboard.press("Tab")
    reached: set[int] = set()
    unseen: list[str] = []
    for _ in range(2 * len(controls) + 2):
        if (at := root.evaluate(FOCUSED)) is None:
            break
        if at["number"] >= 0 and at["number"] not in reached:
            reached.add(at["number"])
            unseen += [] if at["seen"] else [controls[at["number"]]]
        root.page.keyboard.press("Tab")
    return Tour(controls, reached, unseen)
