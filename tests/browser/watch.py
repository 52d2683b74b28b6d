"""What a page complains of while somebody uses it: errors in its console and its scripts, calls to the outside."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Request, Route


@dataclass(frozen=True)
class Known:
    """A complaint that is JupyterLab's or nbgrader's own, and nothing that we could mend."""

    words: str  # a regular expression, found in the complaint
    why: str


@dataclass(frozen=True)
class Complaint:
    """One error that a page told of."""

    who: str  # whose page it is
    words: str

    def is_one_of(self, known: Iterable[Known]) -> Known | None:
        return next((one for one in known if re.search(one.words, self.words)), None)

    def __str__(self) -> str:
        return f"{self.who}: {self.words}"


class Watch:
    """Collects the complaints of every page that is opened in the contexts it watches."""

    def __init__(self, known: Iterable[Known]) -> None:
        self.known = tuple(known)
        self.met: set[Known] = set()
        self._new: list[Complaint] = []

    def over(self, context: BrowserContext, who: str) -> None:
        """Nothing outside this machine is ever asked, with or without a network: it fails, and is noted."""
        context.route(lambda url: not _inside(url), lambda route: self._refuse(route, who))
        context.on("console", lambda message: self._console(message, who))
        context.on("weberror", lambda error: self._note(who, f"script: {error.error}"))

    def new(self) -> list[str]:
        """What was complained of since the last time, but for what is known."""
        found, self._new = self._new, []
        for complaint in found:
            if one := complaint.is_one_of(self.known):
                self.met.add(one)
        return [str(complaint) for complaint in found if not complaint.is_one_of(self.known)]

    def _note(self, who: str, words: str) -> None:
        self._new.append(Complaint(who, words))

    def _console(self, message: ConsoleMessage, who: str) -> None:
        if message.type == "error":
            self._note(who, f"console: {message.text} ({message.location['url']})")

    def _refuse(self, route: Route, who: str) -> None:
        self._note(who, f"outside: {_without_query(route.request)}")
        route.abort()


def _inside(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob", "about") or parts.hostname in ("127.0.0.1", "localhost")


def _without_query(request: Request) -> str:
    return request.url.split("?", 1)[0]
