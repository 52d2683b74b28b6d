"""What these tests look with: does it see an error, a call to the outside, a control that the keyboard cannot reach?"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext

from browser.keyboard import tour
from browser.watch import Known, Watch

FAULTY = """
<script>
  console.warn("a warning");
  console.error("a fault");
  console.error("a fault of theirs");
  setTimeout(() => { throw new Error("a broken script") });
</script>
<img src="https://example.org/picture.png?who=ada">
"""
CONTROLS = """
<div id="panel">
  <button>First</button>
  <label>Second <input type="range"></label>
  <input aria-label="Hidden" style="display: none">
  <button disabled>Off</button>
  <input type="radio" name="kind" aria-label="Chosen" checked><input type="radio" name="kind" aria-label="Other">
  <div tabindex="0" aria-label="Trap" %s>Last</div>
  <button style="%s">End</button>
</div>
"""


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    context = chromium.new_context()
    yield context
    context.close()


def test_a_page_is_heard(context: BrowserContext) -> None:
    """Are errors heard, those that are known set apart, and is the outside not asked?"""
    theirs, silent = Known("fault of theirs", "it is theirs"), Known("never said", "it was mended")
    watch = Watch([theirs, silent])
    watch.over(context, "ada")
    page = context.new_page()
    page.set_content(FAULTY)
    heard: list[str] = []
    for _ in range(200):
        heard += watch.new()
        if len(heard) >= 4:
            break
        page.wait_for_timeout(20)
    words = "\n".join(sorted(heard))
    assert len(heard) == 4, words
    for expected in (
        "ada: console: a fault ",
        "script: ",
        "a broken script",
        "outside: https://example.org/picture.png",
    ):
        assert expected in words
    assert "who=ada" not in words.split("outside: ")[1].split("\n")[0]
    assert watch.met == {theirs}


TRAP = "onkeydown=\"if (event.key === 'Tab') event.preventDefault()\""


@pytest.mark.parametrize(
    ("trap", "style", "missed", "unseen"),
    [("", "", [], []), (TRAP, "", ["End"], []), ("", "outline: none", [], ["End"])],
)
def test_a_control_that_is_not_reached_or_not_seen_is_found(
    context: BrowserContext, trap: str, style: str, missed: list[str], unseen: list[str]
) -> None:
    page = context.new_page()
    page.set_content(CONTROLS % (trap, style))
    found = tour(page.locator("#panel"))
    assert [name.strip() for name in found.controls] == ["First", "Second", "Chosen", "Trap", "End"]
    assert (found.missed, found.unseen) == (missed, unseen)
