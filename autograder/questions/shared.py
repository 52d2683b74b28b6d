"""What the questions of all assignments share: students' numbers held against expected ones, and their recordings."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autograder.authenticity import Asked, examine
from autograder.checks import Check, Failed, Question
from autograder.evidence import Evidence
from labkit.recording import Recording

Floats = NDArray[np.float64]

FLOAT32 = 1e-4  # of the largest value: float32 sums over 784 inputs are within 1e-5; a mistake is off by more than 0.1
MEASURED = 1e-2  # of a value taken from the student's own recording: room for rounding to three digits


def numbers(value: Any, what: str, shape: tuple[int, ...] | None = None) -> Floats:
    """A student's numbers as an array of `shape`, or a sentence."""
    if value is None:  # numpy makes NaN of it
        raise Failed(f"{what} is {kind_of(value)}", "A function needs a return, and a value has to be assigned.")
    try:
        found = np.asarray(value)
        if found.dtype.kind in "SUc" or (found.dtype.kind == "O" and any(isinstance(one, str) for one in found.flat)):
            raise TypeError  # numpy would read numbers out of texts, and leave out what is imaginary
        found = found.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise Failed(f"{what} holds no numbers: it is {kind_of(value)}") from None
    if shape is not None and found.shape != shape:
        raise Failed(f"{what} has the shape {found.shape}, expected is {shape or 'one number'}")
    return found


def close(found: Any, expected: Any, what: str, tolerance: float, help: str = "", least: float = 0.0) -> None:
    """Raise unless the numbers agree within a share of the largest expected value, taken for `least` where it is less:
    what is left of larger values is rounded as coarsely as they are."""
    want = np.asarray(expected, dtype=np.float64)
    got = numbers(found, what, want.shape)
    # what is expected to be infinite is no scale: anything would be within a share of it
    room = tolerance * max(float(np.abs(want[np.isfinite(want)]).max(initial=0)), least, np.finfo(np.float64).tiny)
    with np.errstate(invalid="ignore"):
        off = np.where(got == want, 0.0, np.abs(got - want))
    if not (off <= room).all():
        worst = np.unravel_index(int(np.argmax(np.nan_to_num(off, nan=np.inf))), off.shape)
        where = f" at {tuple(int(i) for i in worst)}" if want.ndim else ""
        raise Failed(f"{what} is {got[worst]:.6g}{where}, expected is {want[worst]:.6g}", help)


def near(
    found: Any, expected: float, what: str, help: str = "", tolerance: float = MEASURED, source: str = "your recording"
) -> None:
    """Raise unless one number agrees within a share of the expected one, which `source` gives. The sentence does not
    give the answer away."""
    value = numbers(found, what, ())
    if not (value == expected or abs(value - expected) <= tolerance * abs(expected) < np.inf):
        raise Failed(f"{what} is {value:.6g}, which is not what {source} gives", help)


def alike(found: Any, expected: Any, what: str, help: str, tolerance: float = MEASURED) -> None:
    """Raise unless each number agrees within a share of its own size. The sentence does not give the answer away."""
    want = np.asarray(expected, dtype=np.float64)
    got = numbers(found, what, want.shape)
    with np.errstate(invalid="ignore"):
        right = (got == want) | ((np.abs(got - want) <= tolerance * np.abs(want)) & np.isfinite(want))
    if not right.all():
        first = np.unravel_index(int(np.argmin(right)), right.shape)
        where = f" at {tuple(int(i) for i in first)}" if want.ndim else ""
        raise Failed(f"{what} is {got[first]:.4g}{where}, which is not what your runs give", help)


def all_above_zero(found: Floats, kind: str, words: str) -> None:
    """Raise unless every number is finite and above 0."""
    right = np.isfinite(found) & (found > 0)
    if not right.all():
        raise Failed(f"a {kind} is {found[~right][0]:g}, {words}")


def all_near(found: Floats, expected: Floats, name: str, tolerance: float, help: str) -> None:
    """Raise unless each number agrees within a share of the expected one; {} in `name` is that of the worst, from 1."""
    off = np.abs(found / expected - 1)
    if not (off <= tolerance).all():
        at = int(np.argmax(off))
        raise Failed(f"{name.format(at + 1)} is {found[at]:.4g}, expected is {expected[at]:.4g}", help)


def keyed(value: Any, what: str, keys: tuple[str, ...]) -> dict[str, Any]:
    """A dictionary with exactly these keys, or a sentence."""
    if not isinstance(value, dict) or set(value) != set(keys):
        *before, last = map(repr, keys)
        listed = f"{', '.join(before)} and {last}" if before else last
        raise Failed(f"{what} is {kind_of(value)}, expected is a dictionary with the keys {listed}")
    return value


def two(value: Any, what: str) -> tuple[Any, Any]:
    """A pair of things, or a sentence."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise Failed(f"{what} gives {kind_of(value)}, expected are two things: return a, b")
    return value[0], value[1]


def kind_of(value: Any) -> str:
    """What a student's value is, in words that hold none of it."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if value == {"kind": "object", "class": "ellipsis"}:  # as the comments that show an answer's form have them
        return "still the three dots (...)"
    if isinstance(value, dict) and "kind" in value:
        return f"a {_word(value.get('class', value['kind']))}"
    if isinstance(value, dict):
        keys = sorted(str(key)[:60] for key in value)[:6]
        return f"a dictionary with the keys {', '.join(map(repr, keys)) or '(none)'}"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "a number"
    return "nothing (None)" if value is None else f"a {type(value).__name__}"


def _word(name: Any) -> str:
    """The name of a class, as far as one is: it is the student's to choose."""
    return "".join(c for c in str(name)[:60] if c.isidentifier() or c.isdigit() or c == ".") or "thing of another kind"


def word_of(value: Any) -> str:
    """A student's text, quoted; of anything else what it is."""
    return repr(value[:60]) if isinstance(value, str) else kind_of(value)


def honest_run(evidence: Evidence, name: str, asked: Mapping[str, Asked]) -> Recording:
    """The recording of that name, once it was found to be an honest run of the student's own experiment."""
    recording = evidence.recording(name)
    examine(recording, asked[name].experiment, asked[name].open_fields, evidence.salt)
    return recording


def hidden_of(recording: Recording, statistic: str, layers: int) -> NDArray[Any]:
    """(E+1, layers) one statistic of the hidden activations; a recording of other activations raises."""
    found = recording.hidden_statistic(statistic)
    if found.shape[1] != layers:
        raise Failed(
            f"it has figures of {found.shape[1]} hidden activations, the network has {layers}",
            "Train it as the assignment has it: each activation is a module of its own.",
        )
    return found


def all_finite(recording: Recording, help: str = "") -> None:
    """Raise unless its loss and its gradients are numbers to the end.

    Behind the first that is none, nothing is held against a replay: there a recording may show what its author likes,
    a falling loss for one.
    """
    if not np.isfinite(recording.loss).all():
        raise Failed("its loss is no longer a number", help)
    if not np.isfinite(recording.gradient).all():
        raise Failed("its gradients are no longer numbers", help)


def question(name: str, title: str, *checks: Check) -> tuple[str, Question]:
    return name, Question(name, title, checks)
