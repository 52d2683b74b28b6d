"""The frozen description of a run, and what can be chosen in it. Named ones are in `labkit.catalogue`."""

import hashlib
import json
import math
import sys
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from labkit.counts import counted

Data = Literal["digits", "mnist", "circles", "long_lag"]
Architecture = Literal["mlp", "residual_conv", "rnn", "lstm", "gru"]
Activation = Literal["relu", "sigmoid", "tanh", "leaky_relu", "elu", "gelu", "silu", "linear"]
Normalisation = Literal["none", "batch", "layer"]
Initialisation = Literal[
    "glorot_uniform",
    "glorot_normal",
    "he_uniform",
    "he_normal",
    "lecun_normal",
    "orthogonal",
    "normal",
    "pytorch",
]
Optimizer = Literal["adam", "rmsprop", "sgd"]
Dtype = Literal["float32", "float64"]

RECURRENT = ("rnn", "lstm", "gru")
_CHOICES: dict[str, Any] = {
    "data": Data,
    "architecture": Architecture,
    "activation": Activation,
    "normalisation": Normalisation,
    "initialisation": Initialisation,
    "optimizer": Optimizer,
    "dtype": Dtype,
}
_WHOLE = ("seed", "observations", "pool", "steps", "epochs", "batch_size")
_NUMBERS = ("gain", "slope", "learning_rate", "epsilon")
_CLIPS = ("clip_norm", "clip_each", "clip_value")


class ExperimentError(ValueError):
    """A description that cannot be run; the message is one sentence that says what to change."""


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a run's figures. Two equal experiments give equal recordings on one machine."""

    name: str = "experiment"
    student: str = ""  # whose run it is; decides nothing by itself, the seed does
    seed: int = 0  # draws the data sample, the initial weights and the order of the mini-batches
    data: Data = "digits"
    observations: int = 5000  # in the student's sample: images, points or sequences
    pool: int = 10_000  # images that the sample is drawn from; points and sequences have no pool
    steps: int = 1  # of time, in a sequence
    architecture: Architecture = "mlp"
    # units of the input, of each hidden layer, of the output; for residual_conv channels of the image, of the first
    # convolution, of each block, and classes
    widths: tuple[int, ...] = (784, 10, 10, 10, 10)
    activation: Activation = "relu"  # of an lstm and a gru: tanh, their gates are sigmoid
    slope: float = 0.01  # of leaky_relu, below 0
    normalisation: Normalisation = "none"  # before each activation of an mlp, behind each of a residual_conv
    residual: bool = False  # add a hidden layer's input to its output, where both have one width
    initialisation: Initialisation = "glorot_uniform"
    gain: float = 1.0  # the initial weights are multiplied by it; with `normal` it is their sd
    optimizer: Optimizer = "adam"
    learning_rate: float = 1e-3
    epsilon: float = 1e-8  # added to the root in the denominator, by adam and rmsprop
    clip_norm: float | None = None  # gradients are scaled down to this L2 norm over all parameters
    clip_each: float | None = None  # each parameter's gradient is scaled down to this L2 norm: Keras's clipnorm
    clip_value: float | None = None  # each single value is cut off at this size
    epochs: int = 50
    batches: int | None = None  # mini-batches in an epoch; as many as the data give when it is None
    batch_size: int = 128
    dtype: Dtype = "float32"

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "widths", tuple(self.widths))
        except TypeError as error:
            raise ExperimentError(f"widths is {self.widths!r}: give a list, such as (784, 10, 10)") from error
        _check(self)

    @property
    def iterations_per_epoch(self) -> int:
        """Mini-batches in an epoch; where `batches` does not cut it short, the last and smaller one included."""
        whole = math.ceil(self.observations / self.batch_size)
        return whole if self.batches is None else min(self.batches, whole)

    @property
    def iterations(self) -> int:
        return self.epochs * self.iterations_per_epoch

    @property
    def digest(self) -> str:
        """SHA-256 of the description, 64 hexadecimal digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def replace(self, **changes: Any) -> "Experiment":
        """The same experiment with some fields changed; an unknown field raises with the list of those there are."""
        known = {field.name for field in fields(self)}
        if unknown := sorted(set(changes) - known):
            raise ExperimentError(f"an experiment has no {unknown[0]!r}: choose from {', '.join(sorted(known))}")
        return replace(self, **changes)

    @property
    def plain(self) -> bool:
        """Are there fully connected layers with activations between them, and nothing else?"""
        return (self.architecture, self.normalisation, self.residual) == ("mlp", "none", False)

    @property
    def classes(self) -> int:
        """Classes that are told apart; one output unit tells two."""
        return max(2, self.widths[-1])

    def __str__(self) -> str:
        return f"{self.name} of {self.student or 'nobody'}: {self.summary}; in {self.dtype}, seed {self.seed}"

    @property
    def summary(self) -> str:
        """What is trained, how and on what, in one line."""
        return (
            f"{self.architecture} {'-'.join(map(str, self.widths))} with {self.activation}{self._extras()}, "
            f"{self.initialisation} weights times {self.gain:.4g}; {self.observations:,} {self.data}; "
            f"{self.optimizer} with learning rate {self.learning_rate:g}{self._clipped()}; "
            f"{counted(self.epochs, 'epoch')} in mini-batches of {self.batch_size}, "
            f"{counted(self.iterations, 'iteration')}"
        )

    def _extras(self) -> str:
        slope = f" (slope {self.slope:g})" if self.activation == "leaky_relu" else ""
        norm = f", {self.normalisation} normalisation" if self.normalisation != "none" else ""
        return f"{slope}{norm}{', residual' if self.residual else ''}"

    def _clipped(self) -> str:
        if self.clip_norm is not None:
            return f", gradients clipped to a norm of {self.clip_norm:g}"
        if self.clip_each is not None:
            return f", each parameter's gradient clipped to a norm of {self.clip_each:g}"
        return f", gradients clipped to values of {self.clip_value:g}" if self.clip_value is not None else ""

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Experiment":
        """Read `to_json`'s text; anything else raises `ExperimentError`."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ExperimentError("the experiment is not readable JSON: train it again") from error
        if not isinstance(values, dict):
            raise ExperimentError("the experiment is not a JSON object: train it again")
        try:
            return cls().replace(**values)
        except (TypeError, RecursionError) as error:  # lists within lists can be read and yet be too deep to be shown
            raise ExperimentError(f"the experiment has a value of a wrong kind: {error}") from error


def _check(e: Experiment) -> None:
    _check_kinds(e)
    for name, kind in _CHOICES.items():
        _check_choice(name, getattr(e, name), get_args(kind))
    if (e.data == "long_lag") != (e.architecture in RECURRENT):
        raise ExperimentError(f"{e.data} does not fit {e.architecture}: long_lag goes with {', '.join(RECURRENT)}")
    _check_widths(e)
    for name in (*_NUMBERS, "epochs", "batch_size", "observations", "pool", "steps"):
        value = getattr(e, name)
        if not (0 < value <= sys.float_info.max):  # whole numbers have no bound of their own
            raise ExperimentError(f"{name} is {value}: it must be a number above 0")
    for name in _CLIPS:
        if (value := getattr(e, name)) is not None and not (0 < value <= sys.float_info.max):
            raise ExperimentError(f"{name} is {value}: give a size above 0, or None for no clipping")
    if sum(getattr(e, name) is not None for name in _CLIPS) > 1:
        raise ExperimentError(f"gradients are clipped in two ways: choose one of {', '.join(_CLIPS)}")
    if e.data in ("digits", "mnist") and e.observations > e.pool:
        raise ExperimentError(f"observations is {e.observations}, the pool holds {e.pool}: draw fewer images")
    if e.batch_size > e.observations:
        raise ExperimentError(
            f"batch_size {e.batch_size} is larger than the {e.observations} observations: "
            f"choose at most {e.observations}"
        )
    if e.batches is not None and e.batches < 1:
        raise ExperimentError(f"batches is {e.batches}: give 1 or more, or None for as many as the data give")
    if e.architecture == "mlp" and e.normalisation == "batch" and 1 in _batch_sizes(e):
        raise ExperimentError(
            f"batch_size {e.batch_size} leaves a mini-batch of 1 of the {e.observations} observations: batch "
            "normalisation needs 2 or more"
        )
    if e.architecture in ("lstm", "gru") and e.activation != "tanh":
        raise ExperimentError(f"activation is {e.activation!r}: an {e.architecture} has tanh")
    if e.architecture != "mlp" and e.residual:
        raise ExperimentError(f"residual is for an mlp; a {e.architecture} has what it has")
    if e.architecture in RECURRENT and e.normalisation == "batch":
        raise ExperimentError(f"a {e.architecture} takes no batch normalisation: choose none or layer")


def _batch_sizes(e: Experiment) -> set[int]:
    """Of the mini-batches of an epoch."""
    cut = e.batches is not None and e.batches * e.batch_size <= e.observations
    return {e.batch_size} if cut else {e.batch_size, e.observations % e.batch_size or e.batch_size}


def _check_widths(e: Experiment) -> None:
    found, inputs, outputs = f"widths is {e.widths}", e.widths[0] if e.widths else 0, e.widths[-1] if e.widths else 0
    if len(e.widths) < 2 or min(e.widths) < 1:
        raise ExperimentError(
            f"{found}: a network has at least one layer; give an input and an output width, each 1 or more"
        )
    if e.architecture in RECURRENT and len(e.widths) != 3:
        raise ExperimentError(f"{found}: a {e.architecture} has inputs, units and classes, three widths")
    if e.architecture == "residual_conv" and len(e.widths) < 4:
        raise ExperimentError(f"{found}: give channels of the image, of the first convolution, of each block, classes")
    if e.data == "circles" and (e.architecture, inputs, outputs) != ("mlp", 2, 1):
        raise ExperimentError(f"{found}: circles need an mlp with 2 inputs and 1 output, such as widths (2, 5, 1)")
    if e.data == "circles" and e.observations < 2:
        raise ExperimentError(f"observations is {e.observations}: there are two circles, give 2 points or more")
    if e.data == "long_lag" and (inputs != outputs + 1 or outputs < 2):
        raise ExperimentError(f"{found}: long_lag needs 2 classes or more, and an input for each and one for the noise")
    if e.data in ("digits", "mnist"):
        needed = 1 if e.architecture == "residual_conv" else 784
        if (inputs, outputs) != (needed, 10):
            what = "channel" if needed == 1 else "inputs"
            such = (needed, *e.widths[1:-1], 10)
            raise ExperimentError(
                f"{found}: a network for {e.data} has {needed} {what} and 10 outputs; give widths such as {such}"
            )


def _check_kinds(e: Experiment) -> None:
    for name in (*_WHOLE, *(("batches",) if e.batches is not None else ())):
        value = getattr(e, name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ExperimentError(f"{name} is {value!r}: it must be a whole number")
    for name in (*_NUMBERS, *(clip for clip in _CLIPS if getattr(e, clip) is not None)):
        value = getattr(e, name)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise ExperimentError(f"{name} is {value!r}: it must be a number")
    for name in ("name", "student"):
        if not isinstance(getattr(e, name), str):
            raise ExperimentError(f"{name} is {getattr(e, name)!r}: it must be a text")
    if not isinstance(e.residual, bool):
        raise ExperimentError(f"residual is {e.residual!r}: it must be True or False")
    if not all(isinstance(width, int) and not isinstance(width, bool) for width in e.widths):
        raise ExperimentError(f"widths is {e.widths}: each width must be a whole number")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ExperimentError(f"{name} is {value!r}: choose from {', '.join(choices)}")


def seed_of(student: str, assignment: str) -> int:
    """The seed of a student's run, 48 bits: the same for everyone who knows the id and the assignment."""
    digest = hashlib.sha256(f"{assignment}\0{student.strip().lower()}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


def experiment(name: str, student: str = "") -> Experiment:
    """The experiment of that name; with a student's id, the student's own, whose seed follows from the id.

    `labkit.catalogue` has them all; an unknown name lists them.
    """
    from labkit.catalogue import EXPERIMENTS  # it is made of what is above

    if not isinstance(student, str):
        raise ExperimentError(f"student is {student!r}: give the id as a text")
    if name not in EXPERIMENTS:
        raise ExperimentError(f"there is no experiment {name!r}: choose from {', '.join(EXPERIMENTS)}")
    if not student:
        return EXPERIMENTS[name]
    return EXPERIMENTS[name].replace(student=student, seed=seed_of(student, name.split("/")[0]))
