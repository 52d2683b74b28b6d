"""What an audit costs, how often it refuses an honest recording, and how often it finds a forged one.

    python benchmarks/audit.py [--rounds 5] [--honest 500] [--draws 2000] [--students 0] [--from 0] [--labs NAME ...]

Times are CPU times of one thread, with the digits in the cache and torch loaded. Honest recordings go over seeds, both
networks, float32 and float64, one and two threads, the loop that students write, `train` and `train_many`, clipped runs
and runs that explode. With --students, they are also every run that the labs ask of so many students, numbered from
--from on, each with a gain, a clipping and a remedy drawn where the lab leaves it to them; every epoch is audited. A
forged recording has a share f of its iterations changed by 1 %, in one piece or scattered; it is found when one of the
secret stretches holds a changed iteration that the audit finds. What is asked 0 times is left out.
"""

import os

# before numpy is loaded; `autograder` sets it for itself
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import contextlib
import io
import math
import secrets
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import torch
from loops import by_hand

import labkit
from autograder import audit
from autograder.authenticity import Asked, examine
from autograder.checks import Failed
from autograder.questions import (
    activation_study,
    exploding_gradients,
    layer_statistics,
    recurrent_gradients,
    vanishing_gradients,
)
from labkit.experiments import RECURRENT, Experiment
from labkit.recording import Recording

LABS: dict[str, Any] = {
    lab.__name__.rpartition(".")[2]: lab
    for lab in (vanishing_gradients, layer_statistics, activation_study, exploding_gradients, recurrent_gradients)
}
OPEN = ("gain", "clip_norm")
# what students may choose, where the lab leaves it to them
GAINS = (1.2, 4.0)
FACTORS = (1.05, 1.4)  # of the recurrent lab's weights
CLIPS = (0.05, 20.0)
REMEDIES: tuple[dict[str, Any], ...] = ({}, {"normalisation": "layer"}, {"normalisation": "batch"}, {"residual": True})


def train(*experiments: Experiment) -> list[Recording]:
    with contextlib.redirect_stdout(io.StringIO()):  # a run that explodes says so
        return labkit.train_many(experiments, device="cpu", progress=False)


def cpu(run: Callable[[], Any]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def drawn(recording: Recording) -> tuple[int, ...]:
    return audit.draw(secrets.token_bytes(16), recording.digest, audit.stretches_of(recording))


def costs(rounds: int) -> None:
    for activation in ("relu", "sigmoid"):
        e = labkit.experiment(f"vanishing/{activation}", "ada")
        (recording,) = train(e)
        audit.audit(recording, e, (0,))  # the sample is drawn once for all recordings of a student
        runs: dict[str, Callable[[], Any]] = {
            "audit of 8 stretches (aim 0.5 s)": lambda e=e, r=recording: audit.audit(r, e, drawn(r)),
            "everything that is asked of a recording": lambda e=e, r=recording: examine(r, e),
            "training: the loop with the Recorder": lambda e=e: by_hand(e),
            "training: labkit.train": lambda e=e: train(e),
        }
        times = [[cpu(run) for run in runs.values()] for _ in range(rounds)]
        first = statistics.median(row[0] for row in times)
        for column, name in enumerate(runs):
            seconds = statistics.median(row[column] for row in times)
            print(f"{activation:9}{name:42}{seconds:8.2f} s{seconds / first:8.1f} audits")
    print("aim: a training of 30 audits; 8 of 50 epochs, run again as fast as `train` runs them, would make 6\n")


def of_students(first: int, count: int, labs: Sequence[str]) -> Iterator[tuple[str, Recording, Asked, int]]:
    """What each lab asks of so many students, and how many of its stretches are audited: all."""
    for number in range(first, first + count):
        for lab in (LABS[name] for name in labs):
            for name, asked in lab.recordings(f"student{number}").items():
                with contextlib.redirect_stdout(io.StringIO()):
                    recording = labkit.train(chosen(asked, name, number), device="cpu", progress=False)
                yield f"{lab.__name__.rpartition('.')[2]}, {name}", recording, asked, recording.iterations


def chosen(asked: Asked, name: str, number: int) -> Experiment:
    """The run with what this student chooses; the one that is to explode is not clipped."""
    e, draw = asked.experiment, Random(f"{name} {number}")
    if "gain" in asked.open_fields:
        e = e.replace(gain=round(draw.uniform(*(FACTORS if e.architecture in RECURRENT else GAINS)), 2))
    if "clip_norm" in asked.open_fields and name not in ("loud", "exploding"):
        e = e.replace(clip_norm=round(math.exp(draw.uniform(*map(math.log, CLIPS))), 3))
    return e.replace(**draw.choice(REMEDIES)) if "normalisation" in asked.open_fields else e


def honest(count: int) -> Iterator[tuple[str, Recording, Asked, int]]:
    """Recordings and what the grader expects, under the name of their kind."""
    for kind, recording, expected in of_kinds(count):
        yield kind, recording, Asked(expected, OPEN if kind.startswith("exploding") else ()), audit.STRETCHES


def of_kinds(count: int) -> Iterator[tuple[str, Recording, Experiment]]:
    number = 0
    while number < count:
        student = f"honest{number}"
        relu, sigmoid = (labkit.experiment(f"vanishing/{name}", student) for name in ("relu", "sigmoid"))
        loud = labkit.experiment("vanishing/exploding", student)
        threads = 1 + number // 10 % 2
        torch.set_num_threads(threads)
        pair = train(relu, sigmoid)
        yield f"train_many, {threads} threads", pair[0], relu
        yield f"train_many, {threads} threads", pair[1], sigmoid
        yield "train", train(relu.replace(epochs=20))[0], relu.replace(epochs=20)
        for dtype in ("float32", "float64"):
            e = relu.replace(epochs=5, dtype=dtype)
            yield f"train, {dtype}, 5 epochs", train(e)[0], e
        e = (relu, sigmoid)[number // 10 % 2].replace(epochs=10)
        yield f"loop with the Recorder, {threads} threads", by_hand(e), e
        e = relu.replace(optimizer="sgd", learning_rate=0.1, clip_norm=0.3, epochs=10)
        yield "clipped, SGD", train(e)[0], e
        for gain, clip in ((1.5, None), (3.0, None), (3.0, 1.0)):
            yield f"exploding, gain {gain:g}, clip {clip}", train(loud.replace(gain=gain, clip_norm=clip))[0], loud
        number += 10
    torch.set_num_threads(1)


def refusals(recordings: Iterator[tuple[str, Recording, Asked, int]]) -> None:
    refused: dict[str, list[str]] = {}
    total: dict[str, int] = {}
    for kind, recording, asked, stretches in recordings:
        total[kind] = total.get(kind, 0) + 1
        try:
            examine(recording, asked.experiment, asked.open_fields, stretches=stretches)
        except Failed as failure:
            e = recording.origin.experiment
            drawn = "" if e is None else f" gain {e.gain:g}, clip_norm {e.clip_norm}"
            said = f"{kind}, {asked.experiment.student},{drawn}: {failure.found}"
            refused.setdefault(kind, []).append(said)
    print(f"{'honest recordings':40}{'looked at':>12}{'refused (aim 0)':>18}")
    for kind, looked in total.items():
        print(f"{kind:40}{looked:12}{len(refused.get(kind, [])):18}")
    print(f"{'together':40}{sum(total.values()):12}{sum(map(len, refused.values())):18}")
    for sentences in refused.values():
        print("\n".join(sentences))
    print()


def forged(recording: Recording, share: float, scattered: bool, random: np.random.RandomState) -> Recording:
    """A share of the iterations with gradients 1 % larger, in such a way that their statistics agree."""
    count = round(share * recording.iterations)
    first = random.randint(recording.iterations - count + 1)
    rows = random.permutation(recording.iterations)[:count] if scattered else np.arange(first, first + count)
    gradient = recording.gradient.copy()
    gradient[rows, :, :5] *= 1.01
    return replace(recording, gradient=gradient)


def detections(draws: int, patterns: int = 10) -> None:
    e = labkit.experiment("vanishing/relu", "ada")
    (recording,) = train(e)
    random = np.random.RandomState(0)
    m = audit.STRETCHES
    print(f"{'forged iterations':34}{'found':>10}{'1 - (1 - f)^8':>16}{'share of epochs touched':>26}")
    for scattered in (False, True):
        for share in (0.05, 0.25, 1.0):
            hits, touched = [], []
            for _ in range(patterns):
                fake = forged(recording, share, scattered, random)
                found = audit.audit(fake, e, tuple(audit.stretches_of(fake))).findings
                wrong = {(finding.iteration - 1) // e.iterations_per_epoch for finding in found}
                touched.append(len(wrong) / e.epochs)
                digest, stretches = fake.digest, audit.stretches_of(fake)
                salts = (secrets.token_bytes(16) for _ in range(draws // patterns))
                hits += [not wrong.isdisjoint(audit.draw(salt, digest, stretches)) for salt in salts]
            name = f"{share:.0%} {'scattered' if scattered else 'in one piece'}"
            print(f"{name:34}{np.mean(hits):10.3f}{1 - (1 - share) ** m:16.3f}{np.mean(touched):26.2f}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--honest", type=int, default=500)
    arguments.add_argument("--draws", type=int, default=2000)
    arguments.add_argument("--students", type=int, default=0)
    arguments.add_argument("--from", type=int, default=0, dest="first")
    arguments.add_argument("--labs", nargs="+", choices=LABS, default=list(LABS), metavar="NAME")
    wanted = arguments.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, numpy {np.__version__}\n")
    if wanted.rounds:
        costs(wanted.rounds)
    if wanted.honest:
        refusals(honest(wanted.honest))
    if wanted.students:
        refusals(of_students(wanted.first, wanted.students, wanted.labs))
    if wanted.draws:
        detections(wanted.draws)


if __name__ == "__main__":
    main()
