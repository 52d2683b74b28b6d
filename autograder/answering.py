"""The student's side of `answers`: turns descriptions into objects, calls, and describes what came of it.

Runs in the student's kernel and in the grader's workers, next to code that nobody has read. torch is loaded only
when a description or an answer needs it.
"""

import contextlib
import io
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from autograder.answers import DEEPEST, KINDS, MOST_ITEMS, AnswerError, Network, Tensor, decode, encode
from autograder.cells import CODE_STUB

ABSENT = object()


class TimeUp(BaseException):
    """The time of a cell or a call is over. No Exception, so that a student's `except Exception` lets it pass."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"stopped after {seconds:g} s")
        self.seconds = seconds


def respond(namespace: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
    """The reply to a request, over the variables of a notebook. What the student's code prints is dropped."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            return _answer(namespace, request)
        except AnswerError as error:
            return {"unfit": str(error)}
        except KeyboardInterrupt:
            raise
        except TimeUp as error:
            return {"stopped": f"{error.seconds:g}"}
        except BaseException as error:  # sys.exit() in a function is a failure of it, not our end
            if _is_blank(request, error):
                return {"missing": "answer"}
            return {"error": _message(error), "line": _line(error)}


def _answer(namespace: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
    if request["do"] == "value":
        found = namespace.get(request["name"], ABSENT)
        return {"missing": "variable"} if found is ABSENT else {"value": encode(plain(found))}
    function = namespace.get(request["function"], ABSENT)
    if function is ABSENT:
        return {"missing": "function"}
    if not callable(function):
        return {"unfit": f"cannot be called: {request['function']} is a {_class(function)}, not a function"}
    result = function(*[objects(decode(one)) for one in request["arguments"]])
    if "inputs" not in request:
        return {"value": encode(plain(result))}
    return _outputs(result, decode(request["inputs"]))


def _outputs(network: Any, inputs: Any) -> dict[str, Any]:
    if not _is_torch(network, "torch.nn", "Module"):
        return {"unfit": f"gives a {_class(network)}, not a network (torch.nn.Module)"}
    import torch

    # the inputs come in the network's own precision
    dtype = next((values.dtype for values in network.parameters()), torch.float32)
    with torch.no_grad():
        outputs = network(torch.from_numpy(inputs).to(dtype))
    return {"value": encode(plain(network) | {"outputs": plain(outputs)})}


def objects(description: Any) -> Any:
    """What the student's function receives for a description: tensors and networks, made anew each time."""
    if isinstance(description, Tensor):
        import torch

        return torch.from_numpy(description.values.copy())
    if isinstance(description, Network):
        import torch

        from labkit.networks import mlp

        d = description
        network = mlp(d.widths, d.activation, d.initialisation, d.gain, d.seed)  # type: ignore[arg-type]
        for parameter in network.parameters() if d.used else ():
            parameter.grad = torch.ones_like(parameter)
        return network
    if isinstance(description, list | tuple):
        return type(description)(map(objects, description))
    return description


def plain(value: Any) -> Any:
    """A student's value as plain data. What has no plain form is only named by its class."""
    return _Plain().plain(value, 0)


class _Plain:
    def __init__(self) -> None:
        self.items = 0

    def plain(self, value: Any, depth: int) -> Any:
        # by type and not by isinstance, which asks the value itself
        self.items += 1
        if depth > DEEPEST or self.items > MOST_ITEMS:
            raise AnswerError("is too deep or has too many parts")
        for kind, convert in _CONVERSIONS:
            if issubclass(type(value), kind):
                return convert(value)
        if issubclass(type(value), list | tuple):
            made = [self.plain(one, depth + 1) for one in value]
            return made if issubclass(type(value), list) else tuple(made)
        if issubclass(type(value), dict):
            return {self._key(key): self.plain(one, depth + 1) for key, one in value.items()}
        return _special(value)

    def _key(self, key: Any) -> Any:
        if isinstance(key, str):
            return str.__str__(key)  # numpy's texts are keys like others
        return key if type(key) in (int, float, bool) else _class(key)


def _numpy(value: Any) -> Any:
    array = np.asarray(value)
    return array if array.dtype.kind in KINDS and array.dtype.itemsize <= 8 else _object(value)


def _whole(value: int) -> Any:
    # Python refuses to write larger ones as text
    return int.__int__(value) if int.bit_length(value) < 10_000 else _object(value)


_CONVERSIONS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (type(None), lambda value: value),
    (bool, lambda value: value),
    (np.bool_, bool),
    (np.integer, int),
    (np.floating, float),
    # through the base class: a subclass may say anything of itself
    (int, _whole),
    (float, float.__float__),
    (str, str.__str__),
    (np.ndarray, _numpy),
)


def _special(value: Any) -> Any:
    if _is_torch(value, "torch", "Tensor"):
        return _tensor(value)
    if _is_torch(value, "torch.nn", "Module"):
        return _network(value)
    recording = sys.modules.get("labkit.recording")
    if recording is not None and issubclass(type(value), recording.Recording):
        return {"kind": "recording", "digest": value.digest}
    return _object(value)


def _is_torch(value: Any, module: str, name: str) -> bool:
    """Is it one of torch's? Loads no torch where nobody did."""
    found = getattr(sys.modules.get(module), name, None)
    return found is not None and issubclass(type(value), found)


def _tensor(tensor: Any) -> Any:
    import torch

    here = tensor.detach().to_dense().cpu() if tensor.is_sparse else tensor.detach().cpu()
    # numpy knows no bfloat16
    here = here.float() if here.dtype == torch.bfloat16 else here
    return _numpy(here.numpy())


def _network(network: Any) -> dict[str, Any]:
    """Layers that hold no further layers, in order, and every parameter."""
    leaves = [
        (name, part)
        for name, part in network.named_modules(remove_duplicate=False)
        if not any(True for _ in part.children())
    ]
    return {
        "kind": "network",
        "layers": [[str(name), _class(part)] for name, part in leaves],
        "parameters": {str(name): _tensor(values) for name, values in network.named_parameters()},
    }


def _object(value: Any) -> dict[str, str]:
    return {"kind": "object", "class": _class(value)}


def _class(value: Any) -> str:
    """The class's name and nothing else: a repr may be hostile, or take for ever."""
    name = type.__dict__["__name__"].__get__(type(value))
    return str(name)[:80]


def _message(error: BaseException) -> str:
    try:
        return f"{_class(error)}: {str(error)[:500]}".removesuffix(": ")
    except BaseException:
        return _class(error)


def _line(error: BaseException) -> str:
    """The innermost line that the student wrote: of a notebook's cell, not of a library."""
    frame = _own_frame(error)
    return (frame.line or "").strip() if frame else ""


def _own_frame(error: BaseException) -> traceback.FrameSummary | None:
    # ipykernel compiles a cell under a file name of its own, IPython alone as <ipython-input-...>
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "ipykernel_" in frame.filename or frame.filename.startswith("<")]
    return own[-1] if own else None


def _is_blank(request: Mapping[str, Any], error: BaseException) -> bool:
    """Does the function itself, and not one that it calls, still hold the line that the student is to replace?"""
    frame = _own_frame(error)
    if frame is None or type(error) is not NotImplementedError:
        return False
    return frame.line in CODE_STUB.splitlines() and frame.name == request.get("function")
