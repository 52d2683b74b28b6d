"""One JupyterLab and one browser for all tests of this folder; a page of its own for each person.

For the package and not for the session: Playwright keeps an event loop, which other tests would find running.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from browser.known import KNOWN
from browser.served import CLONE, Server, make_course, serving
from browser.watch import Watch

HERE = Path(__file__).parent
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# a folder of its own, kept: somebody should look at them
SCREENSHOTS = Path(os.environ.get("LAB_SCREENSHOTS") or CLONE / "build/screenshots")
MILLISECONDS = 120_000  # that anything may take which a person waits for, on a busy machine


def executable() -> str | None:
    """The browser: what LAB_BROWSER names, else the first that is on PATH."""
    return next(filter(None, map(shutil.which, [os.environ.get("LAB_BROWSER", ""), *NAMES])), None)


def missing() -> str:
    """Why these tests cannot run here; empty where they can."""
    return "" if executable() else f"no browser: none of {', '.join(NAMES)} is on PATH, and LAB_BROWSER names none"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    why = missing()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if why:
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """JupyterLab in a new course with the lab built."""
    with serving(make_course(tmp_path_factory.mktemp("lab"))) as server:
        yield server
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    shutil.copy(server.log, SCREENSHOTS)


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    expect.set_options(timeout=MILLISECONDS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable())
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def watch() -> Watch:
    """Who hears what any page complains of."""
    return Watch(KNOWN)


@pytest.fixture(scope="package")
def pages(chromium: Browser, watch: Watch) -> Iterator[Callable[..., Page]]:
    """A new page for somebody, with cookies and clipboard of its own."""
    opened: dict[str, Page] = {}

    def open_page(who: str, width: int = 1400, height: int = 950, **options: Any) -> Page:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        context.set_default_timeout(MILLISECONDS)
        watch.over(context, who)
        opened[who] = context.new_page()
        return opened[who]

    open_page.opened = opened  # type: ignore[attr-defined]
    yield open_page
    for page in opened.values():
        page.context.close()


@pytest.fixture(scope="package")
def shoot() -> Callable[..., None]:
    """Keep what a page shows now as NAME.png."""

    def keep(page: Page, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}.png")

    return keep


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """What everybody sees when a test fails is kept, too."""
    report = yield
    pages = item.funcargs.get("pages") if hasattr(item, "funcargs") else None
    if report.failed and pages is not None:
        for who, page in pages.opened.items():
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=SCREENSHOTS / f"failed-{item.name}-{who}.png")
    return report


@pytest.fixture(autouse=True)
def no_complaints(request: pytest.FixtureRequest, watch: Watch) -> Iterator[None]:
    """No page told of an error while the test ran, nor while what it stands on was made."""
    yield
    assert watch.new() == []
