"""The questions of the lab on trainability, in the notebook's order."""

import math
from typing import Any

import numpy as np

from autograder.checks import Failed, check
from autograder.evidence import Evidence
from autograder.mapping import AskedMap, examine
from autograder.questions.shared import MEASURED, keyed, near, numbers, question
from labkit import maps, theory
from labkit.experiments import Activation
from labkit.maps import ACTIVATIONS, Map

QUADRATURE = 3e-3  # of a mean over the notebook's points or any finer rule; another formula is off by more than 2 %
SETTLED = 1e-2  # of q*, where it is reached geometrically: a hundred layers are within this
CRITICAL = 0.03  # of the critical variance: that of tanh is reached algebraically, and 500 layers are within 1 %
LEARNT = 0.25  # of the training images right
SIZE = "coarse"
TRIES = 4
ROW = 20  # hidden layers of the networks whose gradients at the start are looked at
SMALLEST_ROW = 10  # the same on the grid that is there to try things out


# ---- which maps


def asked_maps(student: str) -> dict[str, AskedMap]:
    """Every map that the assignment asks for."""
    return {
        f"{maps.PREFIX}{activation}": AskedMap(*maps.of_student(activation, student or "-", SIZE))
        for activation in ACTIVATIONS
    }


def map_of(evidence: Evidence, activation: str) -> Map:
    """The map of that activation, once it was found to be an honest one of the student's own."""
    name = f"{maps.PREFIX}{activation}"
    found = evidence.map(name)
    examine(found, asked_maps(evidence.student)[name], evidence.salt)
    return found


# ---- mean field


def _drawn(evidence: Evidence, at: int) -> tuple[Activation, float, float]:
    """An activation, a q and a sigma_w^2."""
    activation = ACTIVATIONS[at % len(ACTIVATIONS)]
    q, s = (float(np.exp(evidence.random.uniform(*np.log(ends)))) for ends in ((0.1, 4), (0.5, 5)))
    return activation, round(q, 3), round(s, 3)  # type: ignore[return-value]


@check(points=2)
def next_variance(evidence: Evidence) -> None:
    """variance_map(activation, q, sigma_w2) gives the variance of the pre-activations one layer on."""
    for at in range(TRIES):
        activation, q, s = _drawn(evidence, at)
        want = s * theory.mean_field.mean_square(activation, q)
        found = evidence.call("variance_map", activation, q, s)
        said = f"variance_map({activation!r}, {q:g}, {s:g})"
        _right(found, want, said, "sigma_w2 times the mean of phi(sqrt(q) z) squared: the square belongs to phi.")


@check(points=2)
def factor_of_gradients(evidence: Evidence) -> None:
    """chi(activation, q, sigma_w2) gives the factor on a mean squared gradient per layer."""
    for at in range(TRIES):
        activation, q, s = _drawn(evidence, at)
        want = s * theory.mean_field.mean_slope(activation, q)
        found = evidence.call("chi", activation, q, s)
        said = f"chi({activation!r}, {q:g}, {s:g})"
        _right(found, want, said, "sigma_w2 times the mean of the squared slope at sqrt(q) z.")


def _right(found: Any, want: float, said: str, help: str, tolerance: float = QUADRATURE) -> None:
    value = numbers(found, said, ())
    if not abs(value - want) <= tolerance * abs(want):
        raise Failed(f"{said} is {value:.6g}, expected is {want:.6g}", help)


@check(points=1)
def settles(evidence: Evidence) -> None:
    """settled(activation, sigma_w2) gives q*, at which the variance stays, from layer to layer."""
    for activation, s in (("tanh", 1.6), ("sigmoid", 30.0), ("tanh", 3.0), ("sigmoid", 3.0)):
        s = round(s * float(evidence.random.uniform(0.9, 1.1)), 3)
        want = theory.settled_variance(activation, s)  # type: ignore[arg-type]
        help = "Put q into variance_map again and again, from q = 1, until it stays."
        _right(evidence.call("settled", activation, s), want, f"settled({activation!r}, {s:g})", help, SETTLED)


@check(points=2)
def critical_points(evidence: Evidence) -> None:
    """critical has for each activation the sigma_w^2 at which chi is 1 at the settled variance."""
    found = keyed(evidence.value("critical"), "critical", ACTIVATIONS)
    for activation in ACTIVATIONS:
        want = theory.critical_variance(activation)
        help = (
            "Halve an interval: chi(activation, settled(activation, s), s) is below 1 at one end, above at the other."
        )
        near(found[activation], want, f"critical[{activation!r}]", help, CRITICAL, "theory")


# ---- the maps


@check(points=2)
def tanh_mapped(evidence: Evidence) -> None:
    """map_tanh.safetensors is the map of your own tanh networks."""
    map_of(evidence, "tanh")


@check(points=2)
def relu_mapped(evidence: Evidence) -> None:
    """map_relu.safetensors is the map of your own ReLU networks."""
    map_of(evidence, "relu")


@check(points=2)
def sigmoid_mapped(evidence: Evidence) -> None:
    """map_sigmoid.safetensors is the map of your own sigmoid networks."""
    map_of(evidence, "sigmoid")


# ---- what the maps show


def looked_at(found: Map) -> int:
    """The row whose gradients at the start are asked for."""
    return found.depths.index(ROW if ROW in found.depths else SMALLEST_ROW)


@check(points=2)
def measured_factors(evidence: Evidence) -> None:
    """measured_chi has the factor per layer that the tanh networks' gradients show at the start, by sigma_w^2."""
    found = map_of(evidence, "tanh")
    row = looked_at(found)
    depth = found.depths[row]
    want = (found.start[row, :, 0] / found.start[row, :, depth - 1]) ** (2 / (depth - 1))
    help = "Mean squares, so the ratio squared; from hidden layer 20 to hidden layer 1 there are 19 steps."
    _each(evidence.value("measured_chi"), want, "measured_chi", found, help)


@check(points=1)
def expected_factors(evidence: Evidence) -> None:
    """expected_chi has chi at the settled variance for the same networks."""
    found = map_of(evidence, "tanh")
    want = np.array([theory.depth_scales("tanh", s).chi_1 for s in found.variances])
    help = "chi('tanh', settled('tanh', s), s)"
    _each(evidence.value("expected_chi"), want, "expected_chi", found, help, CRITICAL, "theory")


def _each(
    value: Any, want: Any, what: str, found: Map, help: str, tolerance: float = MEASURED, source: str = "your map"
) -> None:
    got = numbers(value, what, want.shape)
    for k, (one, right) in enumerate(zip(got, want, strict=True)):
        near(one, float(right), f"{what} at sigma_w^2 = {found.variances[k]:g}", help, tolerance, source)


@check(points=3)
def deepest_that_learnt(evidence: Evidence) -> None:
    """trained_depth has for each activation the depth of the deepest network that learnt, by sigma_w^2."""
    value = keyed(evidence.value("trained_depth"), "trained_depth", ACTIVATIONS)
    for activation in ACTIVATIONS:
        found = map_of(evidence, activation)
        want = deepest(found)
        got = numbers(value[activation], f"trained_depth[{activation!r}]", want.shape)
        if not (got == want).all():
            at = int(np.argmin(got == want))
            raise Failed(
                f"trained_depth[{activation!r}] is {got[at]:g} at sigma_w^2 = {found.variances[at]:g}, which is not "
                "what your map gives",
                "The largest of map.depths whose accuracy in that column is 0.25 or more; 0 where there is none.",
            )


def learnt(found: Map) -> Any:
    """(D, V) which networks did; NaN is no accuracy."""
    return np.nan_to_num(found.accuracy) >= LEARNT


def deepest(found: Map) -> Any:
    """(V,) depths; 0 where no network learnt."""
    return (learnt(found) * np.array(found.depths)[:, None]).max(axis=0)


def reach(found: Map) -> Any:
    """(V, 2) 6 xi_c and 6 xi_gradient."""
    scales = [theory.depth_scales(found.base.activation, s) for s in found.variances]
    return theory.REACH * np.array([(one.xi_c, one.xi_gradient) for one in scales])


@check(points=2)
def six_scales(evidence: Evidence) -> None:
    """reach(chi) gives six depth scales: the layers over which a factor of chi per layer makes e^6."""
    for value in (0.5, 0.9, 1.1, 2.0):
        value = round(value * float(evidence.random.uniform(0.98, 1.02)), 4)
        _right(evidence.call("reach", value), 6 / abs(math.log(value)), f"reach({value:g})", "6 / |ln chi|", 1e-6)
    if not (found := numbers(evidence.call("reach", 1.0), "reach(1.0)", ())) > 1e12:
        raise Failed(f"reach(1.0) is {found:g}", "At the critical point there is no bound: return np.inf.")


@check(points=2)
def share_foretold(evidence: Evidence) -> None:
    """agreement has for each activation the share of its networks of which theory foretells whether they learnt."""
    value = keyed(evidence.value("agreement"), "agreement", ACTIVATIONS)
    for activation in ACTIVATIONS:
        found = map_of(evidence, activation)
        want = float((foretold(found) == learnt(found)).mean())
        help = "Foretold is depth <= the smaller of the two reaches; agreement is the mean of foretold == learnt."
        near(value[activation], want, f"agreement[{activation!r}]", help, MEASURED, "your map")


def foretold(found: Map) -> Any:
    """(D, V) which networks theory says can be trained."""
    return np.array(found.depths)[:, None] <= reach(found).min(axis=1)


QUESTIONS = dict(
    [
        question("mean_field", "The mean field", next_variance, factor_of_gradients),
        question("order_and_chaos", "Order and chaos", settles, critical_points),
        question("maps", "Three maps", tanh_mapped, relu_mapped, sigmoid_mapped),
        question("start_of_maps", "Gradients at the start", measured_factors, expected_factors),
        question("trained_depth", "How deep did networks learn?", deepest_that_learnt),
        question("reach", "How deep should they?", six_scales),
        question("agreement", "Theory and experiment", share_foretold),
    ]
)
