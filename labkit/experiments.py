"""The frozen description of a run, and the seeds' experiments by name."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

Activation = Literal["relu", "sigmoid", "tanh", "leaky_relu", "linear"]
Initialisation = Literal["glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_normal", "pytorch"]
Optimizer = Literal["adam", "sgd"]
Dtype = Literal["float32", "float64"]

CLASSES = 10


class ExperimentError(ValueError):
    """A description that cannot be run; the message is one sentence that says what to change."""


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a run's figures. Two equal experiments give equal recordings on one machine."""

    name: str = "experiment"
    student: str = ""  # whose run it is; decides nothing by itself, the seed does
    seed: int = 0  # draws the data sample, the initial weights and the order of the mini-batches
    data: Literal["digits"] = "digits"
    observations: int = 5000  # images in the student's sample
    pool: int = 10_000  # images that the sample is drawn from
    widths: tuple[int, ...] = (784, 10, 10, 10, 10)  # units of the input, of each hidden layer, of the output
    activation: Activation = "relu"
    initialisation: Initialisation = "glorot_uniform"
    gain: float = 1.0  # the initial weights are multiplied by it
    optimizer: Optimizer = "adam"
    learning_rate: float = 1e-3
    clip_norm: float | None = None  # gradients are scaled down to this L2 norm over all parameters
    epochs: int = 50
    batch_size: int = 128
    dtype: Dtype = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        _check(self)

    @property
    def iterations_per_epoch(self) -> int:
        """Mini-batches in an epoch, the last and smaller one included."""
        return math.ceil(self.observations / self.batch_size)

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

    def __str__(self) -> str:
        clip = f", gradients clipped to a norm of {self.clip_norm:g}" if self.clip_norm is not None else ""
        return (
            f"{self.name} of {self.student or 'nobody'}: {'-'.join(map(str, self.widths))} with {self.activation}, "
            f"{self.initialisation} weights times {self.gain:g}; {self.observations:,} {self.data}; "
            f"{self.optimizer} with learning rate {self.learning_rate:g}{clip}; {self.epochs} epochs in mini-batches "
            f"of {self.batch_size}, {self.iterations:,} iterations in {self.dtype}; seed {self.seed}"
        )

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
        except TypeError as error:
            raise ExperimentError(f"the experiment has a value of a wrong kind: {error}") from error


def _check(e: Experiment) -> None:
    _check_kinds(e)
    for name, kind in (
        ("activation", Activation),
        ("initialisation", Initialisation),
        ("optimizer", Optimizer),
    ):
        _check_choice(name, getattr(e, name), get_args(kind))
    _check_choice("dtype", e.dtype, get_args(Dtype))
    _check_choice("data", e.data, ("digits",))
    if len(e.widths) < 2 or min(e.widths) < 1:
        raise ExperimentError(f"widths is {e.widths}: give at least an input and an output width, each 1 or more")
    if (e.widths[0], e.widths[-1]) != (784, CLASSES):
        raise ExperimentError(f"widths is {e.widths}: digits need 784 inputs and {CLASSES} outputs")
    for name in ("epochs", "batch_size", "observations", "learning_rate", "gain", "pool"):
        value = getattr(e, name)
        if not (0 < value < math.inf):
            raise ExperimentError(f"{name} is {value}: it must be a number above 0")
    if e.clip_norm is not None and not (0 < e.clip_norm < math.inf):
        raise ExperimentError(f"clip_norm is {e.clip_norm}: give a norm above 0, or None for no clipping")
    if e.observations > e.pool:
        raise ExperimentError(f"observations is {e.observations}, the pool holds {e.pool}: draw fewer images")
    if e.batch_size > e.observations:
        raise ExperimentError(
            f"batch_size {e.batch_size} is larger than the {e.observations} images: choose at most {e.observations}"
        )


def _check_kinds(e: Experiment) -> None:
    for name in ("seed", "epochs", "batch_size", "observations", "pool"):
        value = getattr(e, name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ExperimentError(f"{name} is {value!r}: it must be a whole number")
    for name in ("learning_rate", "gain") + (("clip_norm",) if e.clip_norm is not None else ()):
        value = getattr(e, name)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise ExperimentError(f"{name} is {value!r}: it must be a number")
    for name in ("name", "student"):
        if not isinstance(getattr(e, name), str):
            raise ExperimentError(f"{name} is {getattr(e, name)!r}: it must be a text")
    if not all(isinstance(width, int) and not isinstance(width, bool) for width in e.widths):
        raise ExperimentError(f"widths is {e.widths}: each width must be a whole number")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ExperimentError(f"{name} is {value!r}: choose from {', '.join(choices)}")


def seed_of(student: str, assignment: str) -> int:
    """The seed of a student's run, 48 bits: the same for everyone who knows the id and the assignment."""
    digest = hashlib.sha256(f"{assignment}\0{student.strip().lower()}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


# MATLAB's "Detect Vanishing Gradients" example: 5,000 digits, four fully connected layers of 10 units, Glorot
# weights (the default of its fullyConnectedLayer), Adam with adamupdate's defaults, 50 epochs of 128.
_S1 = Experiment()
EXPERIMENTS = {
    "vanishing/relu": _S1.replace(name="vanishing/relu", activation="relu"),
    "vanishing/sigmoid": _S1.replace(name="vanishing/sigmoid", activation="sigmoid"),
    # What Question 1 turns up: eight hidden layers from He weights, and plain SGD, which hides nothing. A gain of 1
    # holds the gradients; each layer multiplies them by it.
    "vanishing/exploding": _S1.replace(
        name="vanishing/exploding",
        widths=(784, *(32,) * 8, 10),
        initialisation="he_normal",
        optimizer="sgd",
        learning_rate=0.05,
        epochs=3,
    ),
}


def experiment(name: str, student: str = "") -> Experiment:
    """The experiment of that name; with a student's id, the student's own, whose seed follows from the id."""
    if name not in EXPERIMENTS:
        raise ExperimentError(f"there is no experiment {name!r}: choose from {', '.join(EXPERIMENTS)}")
    if not student:
        return EXPERIMENTS[name]
    return EXPERIMENTS[name].replace(student=student, seed=seed_of(student, name.split("/")[0]))
