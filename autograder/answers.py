"""What crosses between the grader and a student's process: numbers, text, arrays and descriptions. Never an object.

    from the grader     {"do": "call", "function": "model_loss", "arguments": [...]}
    from the student    {"value": ...} or {"error": "ValueError: ...", "line": "..."} and the like

The grader's side of it: what to ask, and what to make of the reply. numpy and json only.
"""

import base64
import binascii
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autograder.checks import Failed, Missing

Array = NDArray[Any]
LARGEST_ARRAY = 64 * 2**20  # bytes of one array
DEEPEST = 20  # lists within lists
MOST_ITEMS = 1_000_000  # numbers, texts and lists in one value, arrays counted as one
LARGEST_KEY = 2**53
KINDS = "biuf"  # numpy's letters for bool, whole numbers and floating point
# How `encode` writes kinds of numbers, by which they are read: numpy parses any other text as a program of its own, of
# which 4 MB take it 2 GB and 14 s.
DTYPES = {np.dtype(text).newbyteorder("<").str for text in ("?", *"bBhHiIlLqQefd")}


class AnswerError(ValueError):
    """Something that cannot cross: too large, too deep, or not plain."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """An array that the student's function receives as a torch tensor."""

    values: Array


@dataclass(frozen=True)
class Network:
    """A network that the student's function receives as labkit.networks.mlp makes it."""

    widths: tuple[int, ...]
    activation: str = "relu"
    initialisation: str = "glorot_uniform"
    gain: float = 1.0
    seed: int = 0
    used: bool = False  # each parameter has a gradient already, left over from an earlier backward()


# Values as JSON. An object always has one key, which says what it is; lists, texts and numbers are themselves.


def encode(value: Any) -> Any:
    """A plain value as JSON's own types; what is not plain raises `AnswerError`."""
    return _Encoder().encode(value, 0)


def decode(content: Any) -> Any:
    """The plain value behind `encode`'s JSON, whoever wrote it; anything else raises `AnswerError`."""
    return _Decoder().decode(content, 0)


class _Budget:
    """Counts what was seen, so that a small text cannot stand for a large value."""

    def __init__(self) -> None:
        self.items = 0

    def spend(self, depth: int) -> None:
        self.items += 1
        if depth > DEEPEST:
            raise AnswerError(f"has lists within lists, more than {DEEPEST} deep")
        if self.items > MOST_ITEMS:
            raise AnswerError(f"has more than {MOST_ITEMS:,} parts")


class _Encoder(_Budget):
    def encode(self, value: Any, depth: int) -> Any:
        self.spend(depth)
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, np.ndarray | np.generic):
            return {"array": _array_text(np.asarray(value))}
        if isinstance(value, Tensor):
            return {"tensor": _array_text(value.values)}
        if isinstance(value, Network):
            # what is not used is asked as ever, so that stored answers are found again
            body = {name: one for name, one in asdict(value).items() if name != "used" or one}
            return {"network": {**body, "widths": list(value.widths)}}
        return self._container(value, depth)

    def _container(self, value: Any, depth: int) -> Any:
        if isinstance(value, list):
            return [self.encode(one, depth + 1) for one in value]
        if isinstance(value, tuple):
            return {"tuple": [self.encode(one, depth + 1) for one in value]}
        if isinstance(value, dict):
            return {"dict": [[self.encode(one, depth + 1) for one in pair] for pair in value.items()]}
        raise AnswerError(f"is a {type(value).__name__}, which is no plain value")


class _Decoder(_Budget):
    def decode(self, content: Any, depth: int) -> Any:
        self.spend(depth)
        if content is None or isinstance(content, bool | int | float | str):
            return content
        if isinstance(content, list):
            return [self.decode(one, depth + 1) for one in content]
        if not isinstance(content, dict) or len(content) != 1:
            raise AnswerError("is not written as a plain value")
        ((kind, body),) = content.items()
        return self._tagged(kind, body, depth)

    def _tagged(self, kind: str, body: Any, depth: int) -> Any:
        if kind == "array":
            return _array(body)
        if kind == "tensor":
            return Tensor(_array(body))
        if kind == "network":
            return _network(body)
        if kind == "tuple" and isinstance(body, list):
            return tuple(self.decode(one, depth + 1) for one in body)
        if kind == "dict" and isinstance(body, list):
            return self._dict(body, depth)
        raise AnswerError("is not written as a plain value")

    def _dict(self, body: list[Any], depth: int) -> dict[Any, Any]:
        try:
            return {self._key(self.decode(key, depth + 1)): self.decode(one, depth + 1) for key, one in body}
        except (TypeError, ValueError) as error:
            raise AnswerError("has keys that are not plain") from error

    def _key(self, key: Any) -> Any:
        """Such a key shares its hash with few others; of tuples and of larger numbers there is no end of equal ones."""
        if isinstance(key, str | float) or (isinstance(key, int) and abs(key) <= LARGEST_KEY):
            return key
        raise TypeError


def _array_text(array: Array) -> dict[str, Any]:
    if array.dtype.kind not in KINDS or array.dtype.itemsize > 8:
        raise AnswerError(f"is an array of {array.dtype}, not of numbers")
    if array.nbytes > LARGEST_ARRAY:
        raise AnswerError(f"is an array of {array.nbytes / 1e6:,.0f} MB, more than {LARGEST_ARRAY / 1e6:,.0f}")
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    text = base64.b64encode(little.tobytes()).decode("ascii")
    return {"dtype": little.dtype.str, "shape": list(array.shape), "base64": text}


def _array(body: Any) -> Array:
    try:
        kind, shape = body["dtype"], tuple(body["shape"])
        content = base64.b64decode(body["base64"], validate=True)
    except (TypeError, KeyError, ValueError, binascii.Error) as error:
        raise AnswerError("is an array that cannot be read") from error
    if not isinstance(kind, str) or kind not in DTYPES or len(shape) > 32:
        raise AnswerError("is an array of something other than numbers")
    dtype = np.dtype(kind)
    if not all(type(size) is int and 0 <= size <= LARGEST_ARRAY for size in shape):
        raise AnswerError("is an array with an impossible shape")
    # of sizes that numpy can hold, even where one of them is 0
    if math.prod(size for size in shape if size) > LARGEST_ARRAY:
        raise AnswerError("is an array with an impossible shape")
    if math.prod(shape) * dtype.itemsize != len(content) or len(content) > LARGEST_ARRAY:
        raise AnswerError("is an array whose shape does not fit its bytes")
    # a copy: what frombuffer gives cannot be written to
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _network(body: Any) -> Network:
    try:
        return Network(**{**body, "widths": tuple(map(int, body["widths"]))})
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise AnswerError("is a network that cannot be read") from error


def to_bytes(message: Any) -> bytes:
    """A message as it goes over the pipe. NaN and infinities keep Python's spelling, which `from_bytes` reads."""
    return json.dumps(message, separators=(",", ":")).encode()


def from_bytes(content: bytes) -> Any:
    """The message in `content`; what is not JSON raises `AnswerError`."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise AnswerError("is not JSON") from error


# What to ask, and what to make of the reply


def value_request(name: str) -> dict[str, Any]:
    return {"do": "value", "name": name}


def call_request(function: str, arguments: Sequence[Any], inputs: Array | None = None) -> dict[str, Any]:
    """Call `function`; with `inputs`, ask also what the network that it returns makes of them."""
    request = {"do": "call", "function": function, "arguments": [encode(one) for one in arguments]}
    return request if inputs is None else {**request, "inputs": encode(inputs)}


def value_of(request: dict[str, Any], reply: Any) -> Any:
    """The plain value that answers a request; a reply that is none raises `Missing` or `Failed`."""
    asked = _asked(request)
    if not isinstance(reply, dict):
        raise Failed(f"{asked} gave no readable answer")
    if "value" in reply:
        return _value(asked, reply["value"])
    if reply.get("missing") == "answer":
        raise Missing(f"{request.get('function', asked)} is not answered yet")
    missing = {"function": request.get("function"), "variable": request.get("name")}
    if isinstance(what := reply.get("missing"), str) and missing.get(what) is not None:
        raise Missing(f"there is no {what} {missing[what]}: not answered yet, or its cell did not run to its end")
    raise _failure(asked, reply)


def checked_network(function: str, answer: Any) -> dict[str, Any]:
    """An answer to `call_request` with inputs, as far as its form goes; else `Failed`."""
    parts = answer if isinstance(answer, dict) else {}
    layers, parameters = parts.get("layers"), parts.get("parameters")
    pairs = isinstance(layers, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(word, str) for word in pair) for pair in layers
    )
    arrays = isinstance(parameters, dict) and all(isinstance(one, np.ndarray) for one in parameters.values())
    if not (pairs and arrays and isinstance(parts.get("outputs"), np.ndarray)):
        raise Failed(f"{function} gives no network whose parameters and outputs are arrays of numbers")
    return parts


def _value(asked: str, content: Any) -> Any:
    try:
        return decode(content)
    except AnswerError as error:
        raise Failed(f"what {asked} gives {error}") from error


def _failure(asked: str, reply: dict[str, Any]) -> Failed:
    if "stopped" in reply:
        seconds = _text(reply["stopped"], 20)
        return Failed(f"{asked} was stopped after {seconds} seconds", help="Is there a loop that never ends?")
    if "error" in reply:
        line = _text(reply.get("line"), 200)
        where = f"It happened in the line: {line}" if line else ""
        return Failed(f"{asked} raised {_text(reply['error'], 500)}", where)
    return Failed(f"{asked} {_text(reply.get('unfit'), 300) or 'gave no readable answer'}")


def _asked(request: dict[str, Any]) -> str:
    if request["do"] == "value":
        return f"the variable {request['name']}"
    arguments = ", ".join(_shown(decode(one)) for one in request["arguments"])
    return f"{request['function']}({arguments})"


def _shown(argument: Any) -> str:
    """An argument as a student would say it: arrays by their shape, not by their numbers."""
    if isinstance(argument, Tensor | np.ndarray):
        values, word = (argument.values, "tensor") if isinstance(argument, Tensor) else (argument, "array")
        size = "x".join(map(str, values.shape)) or "one-number"
        return f"<{size} {word} of {values.dtype}>"
    if isinstance(argument, Network):
        return f"<{argument.activation} network of {len(argument.widths) - 1} layers>"
    if isinstance(argument, list) and any(isinstance(one, Tensor | np.ndarray) for one in argument):
        return f"<list of {len(argument)} {'tensors' if isinstance(argument[0], Tensor) else 'arrays'}>"
    return _text(repr(argument), 60)


def _text(value: Any, most: int) -> str:
    """One printable line of what a student's process says."""
    text = "".join(c if c.isprintable() else " " for c in str("" if value is None else value)[: most + 1])
    return text if len(text) <= most else text[: most - 1] + "…"
