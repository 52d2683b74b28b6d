"""Who watches a training, and when it is asked: the same for `train` and for a loop of one's own."""

from collections.abc import Callable
from typing import Any

from labkit.recording import Recording

Watch = Callable[[list[Recording]], None]


class Watching:
    """Calls a watch with the recordings so far at the end of an epoch.

    What a watch may have besides: `due()`, and it is called only when that says so and at the last epoch;
    `latest_only = True`, and the recordings that it gets hold the first and the latest checkpoint alone, which is many
    times cheaper;
    `end(recordings)`, which is called once with the whole recordings when the run is over, however it ended, and in
    place of the call at the last epoch.
    """

    def __init__(self, watch: Watch | None) -> None:
        self.watch: Any = watch
        self._due = getattr(watch, "due", None)
        self._end = getattr(watch, "end", None)
        self.latest_only = bool(getattr(watch, "latest_only", False))

    @property
    def live(self) -> bool:
        """Does it show the progress itself, so that nobody needs a bar?"""
        return bool(getattr(self.watch, "live", False))

    def look(self, last: bool, recordings: Callable[[bool], list[Recording]]) -> None:
        """The end of an epoch; `recordings(latest_only)` are made only when the watch wants to see them."""
        if self.watch is None:
            return
        if (last and self._end is None) or self._due is None or self._due():
            self.watch(recordings(self.latest_only))

    def end(self, recordings: list[Recording]) -> None:
        if self._end is not None:
            self._end(recordings)
