"""Evidence: what a check may look at. Plain data only: arrays, JSON values, recordings, a timeline."""

import contextlib
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from autograder import answers
from autograder.checks import Missing
from labkit.maps import Map
from labkit.recording import Recording, RecordingError
from labkit.timeline import Timeline, TimelineError

Array = NDArray[Any]
TIMELINE = "workspace.json"


class Evidence(Protocol):
    """Where a check finds what it looks at: in the student's own kernel, or in a submission.

    Each method raises `Missing` or `Failed` with the student's sentence when there is nothing to look at.
    """

    student: str
    random: np.random.RandomState  # draws the inputs; in the grader from a seed that no student knows
    salt: bytes  # decides which stretches of a recording are audited; no student knows the grader's

    def recording(self, name: str) -> Recording:
        """The recording `name`.safetensors that was handed in."""

    def map(self, name: str) -> Map:
        """The map of trainability `name`.safetensors that was handed in."""

    def timelines(self) -> list[Timeline]:
        """The workspace timeline that was handed in, and the one that running the notebook anew made, where it was."""

    def value(self, name: str) -> Any:
        """The variable `name` after all cells ran, as plain data: number, text, list, dict or array."""

    def call(self, function: str, *arguments: Any) -> Any:
        """What the student's `function` gives for plain arguments, as plain data.

        Arguments are numbers, texts, lists, arrays, and what `autograder.answers` describes: Tensor, Network.
        """

    def network(self, function: str, *arguments: Any, inputs: Array) -> dict[str, Any]:
        """The network that `function` returns: its "layers" ([name, class] each), its "parameters" by name, and
        its "outputs" for `inputs`."""


class FileEvidence:
    """The files of a submission, for every kind of evidence: recordings and the timeline.

    A file is looked for in each of `folders`, in order: what was handed in comes before what a later run made.
    """

    def __init__(self, folders: Sequence[Path], student: str, seed: int) -> None:
        self.folders, self.student = tuple(folders), student
        self.salt = secrets.token_bytes(16)  # the grader puts its own in the place: a regrade audits the same
        self.random = np.random.RandomState(seed % 2**32)
        self._recordings: dict[str, Recording | RecordingError] = {}
        self._maps: dict[str, Map | RecordingError] = {}

    def recording(self, name: str) -> Recording:
        if name not in self._recordings:
            try:
                self._recordings[name] = self._loaded(f"{name}.safetensors")
            except RecordingError as error:
                self._recordings[name] = error
        found = self._recordings[name]
        if isinstance(found, RecordingError):
            raise Missing(self._without_folders(found))
        return found

    def map(self, name: str) -> Map:
        if name not in self._maps:
            try:
                self._maps[name] = self._loaded_map(f"{name}.safetensors")
            except RecordingError as error:
                self._maps[name] = error
        found = self._maps[name]
        if isinstance(found, RecordingError):
            raise Missing(self._without_folders(found))
        return found

    def _loaded_map(self, file: str) -> Map:
        return Map.load(self._file(file))

    def _loaded(self, file: str) -> Recording:
        return Recording.load(self._file(file))

    def timelines(self) -> list[Timeline]:
        try:
            found = [Timeline.load(self._file(TIMELINE))]
        except TimelineError as error:
            raise Missing(self._without_folders(error)) from error
        for folder in self.folders:
            with contextlib.suppress(TimelineError):  # the first one is there; the others may be missing or cut off
                found.append(Timeline.load(folder / TIMELINE))
        return found

    def _file(self, name: str) -> Path:
        return next((folder / name for folder in self.folders if (folder / name).is_file()), self.folders[0] / name)

    def _without_folders(self, error: Exception) -> str:
        text = str(error)
        for folder in self.folders:
            text = text.replace(f"{folder}/", "")
        return text


class AnsweredEvidence(FileEvidence):
    """Files, and a notebook's variables and functions behind `ask`: request in, reply out, both plain JSON."""

    def __init__(self, folders: Sequence[Path], student: str, seed: int, ask: Callable[[dict[str, Any]], Any]) -> None:
        super().__init__(folders, student, seed)
        self.ask = ask

    def value(self, name: str) -> Any:
        return self._answer(answers.value_request(name))

    def call(self, function: str, *arguments: Any) -> Any:
        return self._answer(answers.call_request(function, arguments))

    def network(self, function: str, *arguments: Any, inputs: Array) -> dict[str, Any]:
        network = self._answer(answers.call_request(function, arguments, inputs))
        return answers.checked_network(function, network)

    def _answer(self, request: dict[str, Any]) -> Any:
        return answers.value_of(request, self.ask(request))
