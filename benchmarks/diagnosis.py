"""How often `labkit.diagnosis` and published rules find vanishing gradients, and how often they cry for nothing.

    python benchmarks/diagnosis.py [--quick] [--seeds 6] [--optimizer sgd]

The grid: 4 activations x 3 initialisations x 3 depths x 2 widths x seeds, 432 short trainings on our digits (200
mini-batches of 50), side by side where they share their data. Half of the seeds are 0, 1, 2 ...: these, and the named
experiments with seeds 0 to 29 and 100 to 109 (and the first step of 500 to 579), were looked at when the thresholds
of `labkit.diagnosis` were set. The other half are 100, 101, ..., and the named experiments here have seeds from 200 on:
these are for the report alone, and no threshold may be set after looking at them.

Two truths, both apart from recorded gradients:

learning   Put the initial weights and biases of the first half of the hidden layers back into the trained network. If
           that changes the loss over all its data by less than 1 % of ln 10, nothing that counts was learned there:
           gradients vanished. (After Zhang, Bengio & Singer 2022, "Are all layers created equal?".) It says more than
           "vanished": a network can fail to learn for other reasons, so it is asked only of runs with finite losses in
           which no layer is dead.
signal     dloss/dz of every single image, in float64, by back-propagation written out here: its root mean square over
           500 images and all units of the first hidden layer is less than 1/10 of the last hidden layer's, as the
           geometric mean over the start, the middle and the end of the training. That is what is meant by the words.
           Where the experiment is known, `diagnose` carries the gradients of the first 250 of these images back itself,
           to the first layer from the outputs, over all epochs, and asks its own thresholds: that it agrees with this
           truth says that two programs do, and little more. So it is also asked about the same recordings as ones of a
           loop of one's own, whose experiment nobody knows and whose gains it has to estimate.

The rules, each read in its source, and applied to what they look at as far as a recording has it (weights, not biases):

SageMaker Debugger  VanishingGradient: mean |g| of any tensor below 1e-7 (documentation of its first-party rules)
DeepDiagnosis       mean |g| below 1e-7 on a fixed batch at the end of an epoch (Wardat et al. 2022;
                    DeepDiagnosis/ICSE2022, callbacks.py, threshold_VG)
AUTOTRAINER         norm of the first over that of the last kernel below 1e-3, and the first below 1e-4, every 3rd epoch
                    on a fixed batch, while accuracy never reached 0.7 (Zhang et al. 2021; shiningrain/AUTOTRAINER,
                    monitor.py, beta_1, beta_2 and Theta in utils.py)
torchdiag           largest |g| of a parameter below 1e-7 (AddyM/torchdiag, diagnostics.py, check_gradients)
DLCheck             0 < norm of a parameter's gradient < 1e-7 (QEDan/DLCheck, dlcheck_callback.py)

and one that is not absolute: torchmortem, mean norm of the last layer over that of the first above 100 in the second
half of the training (sebseager/torchmortem, detectors/gradient_flow.py).
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from labkit import activations, data
from labkit.diagnosis import diagnose
from labkit.experiments import Experiment, experiment
from labkit.recording import Recording
from labkit.training import train, train_many

Floats = NDArray[np.float64]
Rule = Callable[[Recording], bool]

ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky_relu")
INITIALISATIONS = ("glorot_uniform", "he_normal", "pytorch")
HIDDEN_LAYERS = (3, 6, 10)
WIDTHS = (10, 40)
LEARNED = 0.01 * math.log(10)  # nats
SIGNAL = 1 / 10
IMAGES = 500
HELD_OUT = 100  # seeds from here on were never looked at


def any_of(hits: NDArray[np.bool_]) -> bool:
    return bool(np.any(hits))


def sagemaker(r: Recording) -> bool:
    return any_of(r.statistic("abs_mean") < 1e-7)


def deep_diagnosis(r: Recording) -> bool:
    return any_of(r.probe_statistic("abs_mean")[1:] < 1e-7)


def autotrainer(r: Recording) -> bool:
    norms, seen = r.probe_statistic("norm")[1::3], r.accuracy[1::3]
    unlearned = np.maximum.accumulate(seen) < 0.7
    with np.errstate(divide="ignore", invalid="ignore"):
        return any_of((norms[:, 0] / norms[:, -1] < 1e-3) & (norms[:, 0] < 1e-4) & unlearned)


def torchdiag(r: Recording) -> bool:
    return any_of(r.statistic("abs_max") < 1e-7)


def dlcheck(r: Recording) -> bool:
    norms = r.statistic("norm")
    return any_of((norms > 0) & (norms < 1e-7))


def torchmortem(r: Recording) -> bool:
    late = r.statistic("norm")[r.iterations // 2 :].mean(axis=0)
    return bool(late[-1] >= 1e-30 and late[-1] >= 100 * late[0])


def ours(r: Recording) -> bool:
    return diagnose(r).verdict == "vanishing"


def ours_of_a_loop(r: Recording) -> bool:
    """The same about a recording that does not say of which experiment it is."""
    return ours(replace(r, origin=replace(r.origin, experiment=None)))


RULES: dict[str, Rule] = {
    "SageMaker Debugger, mean < 1e-7": sagemaker,
    "DeepDiagnosis, mean < 1e-7": deep_diagnosis,
    "AUTOTRAINER, ratio < 1e-3, norm < 1e-4": autotrainer,
    "torchdiag, max < 1e-7": torchdiag,
    "DLCheck, norm < 1e-7": dlcheck,
    "torchmortem, last/first > 100": torchmortem,
    "labkit diagnose": ours,
    "labkit diagnose, experiment unknown": ours_of_a_loop,
}


@dataclass(frozen=True)
class Run:
    """What one training's truths are, and which rules fire."""

    experiment: Experiment
    counted: bool  # finite throughout, no layer dead: there is a truth
    learned: float  # nats that the trained first half is worth
    signal: float  # size of dloss/dz, first hidden layer over last
    fires: dict[str, bool]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seeds", type=int, default=6)
    arguments.add_argument("--optimizer", choices=("sgd", "adam"), default="sgd")
    arguments.add_argument("--quick", action="store_true", help="2 seeds, 2 depths, 1 width, and no named experiments")
    chosen = arguments.parse_args()
    started = time.perf_counter()
    runs = grid(2 if chosen.quick else chosen.seeds, chosen.optimizer, chosen.quick)
    print(f"{len(runs)} runs by {chosen.optimizer} in {time.perf_counter() - started:.0f} s; "
          f"{sum(not run.counted for run in runs)} not counted: not finite, or a layer is dead")  # fmt: skip
    for held_out, words in enumerate(("seeds that were looked at", "seeds held out")):
        half = [run for run in runs if (run.experiment.seed >= HELD_OUT) == held_out and run.counted]
        table(f"learning, {words}", half, [run.learned < LEARNED for run in half])
        table(f"signal, {words}", half, [run.signal < SIGNAL for run in half])
    by_activation([run for run in runs if run.counted])
    if not chosen.quick:
        named()


def grid(seeds: int, optimizer: str, quick: bool) -> list[Run]:
    runs: list[Run] = []
    chosen = [*range(seeds // 2), *range(HELD_OUT, HELD_OUT + seeds - seeds // 2)]
    shapes = product(HIDDEN_LAYERS[: 2 if quick else None], WIDTHS[: 1 if quick else None], chosen)
    for layers, width, seed in shapes:
        base = Experiment(
            widths=(784, *(width,) * layers, 10), seed=seed, observations=1000, pool=10_000, batch_size=50, epochs=10,
            optimizer="adam" if optimizer == "adam" else "sgd", learning_rate=1e-3 if optimizer == "adam" else 0.1,
        )  # fmt: skip
        together = [
            base.replace(name=f"{a} {i}", activation=a, initialisation=i)
            for a, i in product(ACTIVATIONS, INITIALISATIONS)
        ]
        # one that is not finite would end the training of all, so each that turns out so is trained by itself
        recordings = train_many(together, device="cpu", progress=False)
        if recordings[0].origin.stopped:
            recordings = [train(e, device="cpu", progress=False) for e in together]
        runs += [judged(e, recording) for e, recording in zip(together, recordings, strict=True)]
    return runs


def judged(e: Experiment, recording: Recording) -> Run:
    drawn = data.of_experiment(e)
    inputs, labels = drawn.inputs.reshape(len(drawn.inputs), -1).astype(np.float64), drawn.labels
    fires = {name: rule(recording) for name, rule in RULES.items()}
    counted = recording.complete and diagnose(recording).verdict not in ("dead", "not finite")
    if not counted:
        return Run(e, False, math.nan, math.nan, fires)
    start, end = recording.checkpoint(0), recording.checkpoint(-1)
    first = {f"fc_{k}.{kind}" for k in range(1, (len(e.widths) - 2) // 2 + 1) for kind in ("weight", "bias")}
    back = {name: start[name] if name in first else value for name, value in end.items()}
    learned = loss(e, back, inputs, labels) - loss(e, end, inputs, labels)
    last = len(recording.checkpoint_iteration) - 1
    ratios = [signal(e, recording.checkpoint(at), inputs[:IMAGES], labels[:IMAGES]) for at in (0, last // 2, last)]
    return Run(e, True, learned, float(np.exp(np.mean(np.log(ratios)))), fires)


def forward(e: Experiment, parameters: dict[str, Floats], inputs: Floats) -> list[Floats]:
    """z of every layer, (images, units) each."""
    zs, h = [], inputs
    for k in range(1, len(e.widths)):
        zs.append(h @ parameters[f"fc_{k}.weight"].astype(np.float64).T + parameters[f"fc_{k}.bias"])
        h = activations.value(e.activation, zs[-1], e.slope)
    return zs


def log_softmax(z: Floats) -> Floats:
    shifted = z - z.max(axis=1, keepdims=True)
    found: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found


def loss(e: Experiment, parameters: dict[str, Floats], inputs: Floats, labels: NDArray[np.int64]) -> float:
    """Mean cross-entropy over these images, nats."""
    log_p = log_softmax(forward(e, parameters, inputs)[-1])
    return float(-log_p[np.arange(len(labels)), labels].mean())


def signal(e: Experiment, parameters: dict[str, Floats], inputs: Floats, labels: NDArray[np.int64]) -> float:
    """Root mean square of single images' dloss/dz, first hidden layer over last."""
    zs = forward(e, parameters, inputs)
    d = np.exp(log_softmax(zs[-1]))
    d[np.arange(len(labels)), labels] -= 1
    sizes = []
    for k in range(len(zs) - 1, 0, -1):
        d = (d @ parameters[f"fc_{k + 1}.weight"].astype(np.float64)) * activations.slope(
            e.activation, zs[k - 1], e.slope
        )
        sizes.append(math.sqrt(float((d**2).mean())))
    return max(sizes[-1], 1e-300) / max(sizes[0], 1e-300)


def table(title: str, runs: Sequence[Run], truth: Sequence[bool]) -> None:
    """One line for each rule: how its alarms and silences fall on runs that vanish and that do not."""
    vanish, hold = sum(truth), len(truth) - sum(truth)
    print(f"\nTruth: {title}. {vanish} of {len(truth)} vanish.\n")
    print(f"{'rule':42}{'found':>7}{'missed':>8}{'false':>7}{'quiet':>7}{'of those found':>16}{'of alarms right':>17}")
    for name in RULES:
        found = sum(t and run.fires[name] for run, t in zip(runs, truth, strict=True))
        false = sum(not t and run.fires[name] for run, t in zip(runs, truth, strict=True))
        right = f"{found / (found + false):.0%}" if found + false else "no alarm"
        share = f"{found / vanish:.0%}" if vanish else "none"
        print(f"{name:42}{found:7}{vanish - found:8}{false:7}{hold - false:7}{share:>16}{right:>17}")


def by_activation(runs: Sequence[Run]) -> None:
    """Where ours and the truths differ."""
    print(f"\n{'labkit diagnose, all seeds':42}{'runs':>6}{'fires':>7}{'learning':>10}{'signal':>8}{'unlike both':>13}")
    for activation, initialisation in product(ACTIVATIONS, INITIALISATIONS):
        some = [
            r for r in runs
            if (r.experiment.activation, r.experiment.initialisation) == (activation, initialisation)
        ]  # fmt: skip
        fires = [r.fires["labkit diagnose"] for r in some]
        truths = [(r.learned < LEARNED, r.signal < SIGNAL) for r in some]
        unlike = sum(f not in both for f, both in zip(fires, truths, strict=True))
        counts = f"{sum(fires):7}{sum(a for a, _ in truths):10}{sum(b for _, b in truths):8}{unlike:13}"
        print(f"{activation + ', ' + initialisation:42}{len(some):6}{counts}")


def named() -> None:
    """The five seeds' networks, with seeds that no threshold was set on."""
    some = {"data": "digits", "observations": 5000, "pool": 10_000}
    wanted: list[tuple[str, int, dict[str, object]]] = [
        ("vanishing/sigmoid", 10, {}), ("vanishing/relu", 10, {}),
        ("layers/sigmoid", 5, {}), ("layers/three_sigmoid", 5, {}), ("layers/tanh", 5, {}), ("layers/relu", 5, {}),
        ("activations/sigmoid", 5, some), ("activations/relu", 5, some), ("activations/leaky_relu", 5, some),
        ("exploding/sigmoid", 1, {**some, "observations": 2000, "epochs": 1}),
        ("exploding/gain_half", 1, {}), ("exploding/gain_one", 1, {}), ("exploding/gain_two", 1, {}),
        ("vanishing/exploding", 5, {"gain": 3.0}),
    ]  # fmt: skip
    print(f"\n{'named experiment':26}{'seeds':>6}  verdicts of labkit diagnose; published rules that fire")
    for name, seeds, changes in wanted:
        runs = [experiment(name).replace(seed=2 * HELD_OUT + s, **changes) for s in range(seeds)]
        recordings = train_many(runs, device="cpu", progress=False)
        verdicts = [diagnose(r).verdict for r in recordings]
        counted = ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts))
        others = {rule: sum(f(r) for r in recordings) for rule, f in RULES.items() if f not in (ours, ours_of_a_loop)}
        loud = ", ".join(f"{rule.partition(',')[0]} {n}" for rule, n in others.items() if n) or "none"
        print(f"{name:26}{seeds:6}  {counted}; {loud}", flush=True)


if __name__ == "__main__":
    main()
