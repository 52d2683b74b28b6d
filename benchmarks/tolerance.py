"""What the tolerances of a replay rest on: how far honest recordings are from it, and how far forged ones.

    python benchmarks/tolerance.py [--seeds 5]

Honest recordings are made with one thread and two, in float32 and float64, with other instruction sets
(ATEN_CPU_CAPABILITY, in a process of its own), by `train`, `train_many` and the loop that students write, and on a GPU
with TF32 off and on where there is one. TF32 is also emulated on the CPU: the factors of every product are rounded to
10 bits. Each quantity's largest deviation over all stretches, in units of its own scale, has to be 10 times below its
tolerance, and the smallest deviation that a forgery leaves in a stretch 10 times above: of one figure 1 % larger at one
iteration (a share: 10 points; a histogram: 10 % of the values elsewhere), of figures invented between checkpoints, of
shuffled iterations, of flipped signs, of another student's run in the place of the own, of a checkpoint that is moved
on by 2 % of its way. Identities are measured in roundings of the recording's kind of numbers. Gradients through time
are those of the recurrent lab's networks, in 22 epochs of each.

The other labs' runs are recorded as they are asked for, with one thread, two, and other instructions. Recurrent
networks in float32, for which no lab asks, are measured and not held to the tolerances: rounding grows in them from
iteration to iteration. Epochs of honest recordings in which rounding decides how it goes on are not compared, as in an
audit, which then looks at all the others; they are counted.
"""

import os

# before numpy is loaded; `autograder` sets it for itself
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import contextlib
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loops import by_hand
from torch import Tensor, nn

import labkit
from autograder import identities
from autograder.questions import activation_study, exploding_gradients, layer_statistics, recurrent_gradients
from labkit import deviations, networks
from labkit.deviations import OF_ITERATIONS, OF_PROBES, QUANTITIES
from labkit.experiments import RECURRENT, Experiment
from labkit.recording import HIDDEN_STATISTICS, STATISTICS, Recording

LABS = (layer_statistics, activation_study, exploding_gradients, recurrent_gradients)
Deviations = dict[str, float]
STORMY, EPOCHS = "epochs left out", "epochs"


class Tf32(torch.autograd.Function):
    """x @ w.T + b as TF32 multiplies: with the factors rounded to 10 bits, forwards and backwards."""

    @staticmethod
    def forward(context: Any, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        context.save_for_backward(rounded(x), rounded(w))
        return rounded(x) @ rounded(w).T + b

    @staticmethod
    def backward(context: Any, d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, w = context.saved_tensors
        return rounded(d) @ w, rounded(d).T @ x, d.sum(0)


def rounded(x: Tensor) -> Tensor:
    """float32 with 10 bits behind the leading one; the other 13 are rounded away."""
    return ((x.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def loop(e: Experiment, tf32: bool = False, device: str = "cpu") -> Recording:
    """The loop that everybody writes."""
    network = networks.of_experiment(e).to(device)
    if tf32:
        for layer in network:
            if isinstance(layer, nn.Linear):
                layer.forward = lambda x, own=layer: Tf32.apply(x, own.weight, own.bias)
    return by_hand(e, network, device)


def train(e: Experiment, threads: int = 1, device: str = "cpu") -> Recording:
    torch.set_num_threads(threads)
    try:
        return labkit.train(e, device=device, progress=False)
    finally:
        torch.set_num_threads(1)


def other_instructions(e: Experiment, capability: str) -> Recording:
    """Trained in a process of its own: the instruction set is chosen when torch is loaded."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording"
        code = (
            "import sys, labkit; from labkit.experiments import Experiment; "
            "labkit.train(Experiment.from_json(sys.argv[1]), sys.argv[2], device='cpu', progress=False)"
        )
        environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability}
        subprocess.run([sys.executable, "-c", code, e.to_json(), str(path)], env=environment, check=True)
        return Recording.load(path)


def on_gpu(e: Experiment, tf32: bool) -> Recording:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        return loop(e, device="cuda")
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def honest(e: Experiment) -> Iterator[tuple[str, Experiment, Recording]]:
    """Kinds of honest recordings. Those whose name begins with TF32 are not held to the tolerances."""
    yield "train, 1 thread", e, train(e)
    yield "train, 2 threads", e, train(e, threads=2)
    wide = e.replace(dtype="float64", epochs=20)
    yield "train, float64", wide, train(wide)
    for capability in ("default", "avx2"):
        yield f"train, {capability}", e, other_instructions(e, capability)
    yield "loop, 1 thread", e, loop(e)
    torch.set_num_threads(2)
    yield "loop, 2 threads", e, loop(e)
    torch.set_num_threads(1)
    pair = labkit.train_many([e.replace(activation="tanh"), e], device="cpu", progress=False)
    yield "train_many", e, pair[1]
    yield "TF32, emulated", e, loop(e, tf32=True)
    if torch.cuda.is_available():
        yield "train, GPU", e, train(e, device="cuda")
        yield "loop, GPU", e, on_gpu(e, tf32=False)
        yield "TF32, GPU", e, on_gpu(e, tf32=True)


def simply(name: str, e: Experiment) -> Iterator[tuple[str, Experiment, Recording]]:
    """What costs little, of networks that are not S1's."""
    yield f"{name}, 1 thread", e, train(e)
    yield f"{name}, 2 threads", e, train(e, threads=2)
    yield f"{name}, default", e, other_instructions(e, "default")


def runs(seed: int) -> Iterator[tuple[str, Experiment, Recording]]:
    """Every honest recording that is looked at, with its kind."""
    for activation in ("relu", "sigmoid"):
        yield from honest(labkit.experiment(f"vanishing/{activation}").replace(seed=seed))
    for lab in LABS:
        for asked in lab.recordings(f"student {seed}").values():
            yield from simply(lab.__name__.rpartition(".")[2], asked.experiment)
    for kind in RECURRENT:
        yield from simply("recurrent in float32", timed(kind, seed).replace(dtype="float32"))


def timed(kind: Any, seed: int) -> Experiment:
    """The recurrent lab's network of that kind, long enough for the forgeries."""
    return recurrent_gradients.of_kind(f"student {seed}", kind).replace(epochs=EPOCH + 2)


def off(recording: Recording, e: Experiment, epochs: range | None = None, calm: bool = False) -> Deviations:
    """The largest deviation of each quantity in these epochs, by default in all, and of each identity; with `calm`
    without what an audit leaves out, because rounding decides how an epoch goes on, and how many such epochs there are.
    """
    epochs = epochs or range(e.epochs)
    taken = recording.checkpoint_iteration.tolist()
    largest: Deviations = {STORMY: 0, EPOCHS: len(epochs)}

    def note(found: dict[str, Any]) -> None:
        for name, values in found.items():
            largest[name] = max(largest.get(name, 0.0), float(np.nan_to_num(values, nan=np.inf).max(initial=0)))

    for first in range(epochs.start, epochs.stop, 10):
        some = range(first, min(first + 10, epochs.stop))
        starts = [taken.index(epoch * e.iterations_per_epoch) for epoch in some]
        ends = [taken.index((epoch + 1) * e.iterations_per_epoch) for epoch in some]
        again = deviations.follow(recording, starts, e.iterations_per_epoch, e, e.dtype, deviations.SUSPICIOUS)
        off = deviations.compare(recording, again)
        iterations, at_ends = off.iterations, off.ends
        for k, suspicion in enumerate(off.suspicion() if calm else ()):
            if suspicion.max() > 1:  # an audit asks, too, where a figure is beyond its tolerance
                left = ~deviations.calm(recording, starts[k], e.iterations_per_epoch, e)
                largest[STORMY] += left.any()
                for values in iterations.values():
                    values[k, left] = 0
                for values in at_ends.values() if left.any() else ():
                    values[k] = 0
        note(iterations)
        note(at_ends)
        note(deviations.of_probes(recording, deviations.follow_probes(recording, ends, e), ends))
    rounding = float(np.finfo(e.dtype).eps)
    with np.errstate(over="ignore", invalid="ignore"):
        for name in identities.of(e):
            note({name: identities.IDENTITIES[name].of(recording, e, recording.iterations) / rounding})
    return largest


Forge = Callable[[Recording, Recording], Recording]
EPOCH, LENGTH = 20, 40
ROWS = slice(EPOCH * LENGTH, (EPOCH + 1) * LENGTH)
AT = EPOCH * LENGTH + 17  # the one iteration
BY_ITERATION = tuple(name for name in OF_ITERATIONS if name not in STATISTICS)


def _with(r: Recording, name: str, change: Callable[[Any], None]) -> Recording:
    values = getattr(r, name).copy()
    change(values)
    return replace(r, **{name: values})


def one_larger(name: str) -> Forge:
    """One figure of one iteration, epoch or probe row, 1 % larger; of counts, 10 % of the values elsewhere."""

    def forge(r: Recording, _: Recording) -> Recording:
        probe, plain = name.startswith("probe_"), name.removeprefix("probe_")
        if plain in STATISTICS:
            where = (EPOCH + 1 if probe else AT, slice(None), STATISTICS.index(plain))
            source = "probe_gradient" if probe else "gradient"
        elif name.startswith("hidden_"):
            source, where = "hidden", (EPOCH + 1, slice(None), HIDDEN_STATISTICS.index(name[7:]))
        else:
            source = {"parameters": "checkpoint_parameters", "moments": "checkpoint_moments"}.get(name, name)
            where = (
                AT if name in BY_ITERATION else EPOCH + 2 if "checkpoint" in source else EPOCH + (name in OF_PROBES),
            )
        if name.endswith("counts"):
            return _with(r, source, lambda counts: move(counts[where]))
        if name in COUNTED:
            return _with(r, source, lambda values: values.__setitem__(where, np.minimum(values[where] + 0.1, 1)))
        return _with(r, source, lambda values: values.__setitem__(where, values[where] * 1.01))

    return forge


COUNTED = ("zero_share", "probe_zero_share", "accuracy", "hidden_saturated", "hidden_dead")


def move(counts: Any) -> None:
    """A tenth of the values of each histogram into its first bin."""
    for row in counts:
        row[0] += (row // 10).sum()
        row -= row // 10


def shuffled(r: Recording, _: Recording) -> Recording:
    order = np.arange(r.iterations)
    order[ROWS] = np.random.RandomState(0).permutation(order[ROWS])
    return replace(r, **{name: getattr(r, name)[order] for name in (*BY_ITERATION, "gradient")})


def invented(r: Recording, _: Recording) -> Recording:
    """Sizes between the checkpoints, five percent up and down, in such a way that each layer's belong together."""
    factor = np.exp(0.05 * np.random.RandomState(0).standard_normal((LENGTH - 1, len(r.layers), 1)))
    inner = slice(ROWS.start + 1, ROWS.stop)
    return _with(r, "gradient", lambda g: g.__setitem__((inner, slice(None), slice(5)), g[inner, :, :5] * factor))


def flipped(r: Recording, _: Recording) -> Recording:
    return _with(r, "gradient", lambda g: g.__setitem__((ROWS, slice(None), 0), -g[ROWS, :, 0]))


def spliced(r: Recording, other: Recording) -> Recording:
    """The epoch of another student's run, its checkpoint and its probe row included."""
    forged = taken_over(r, other, (*BY_ITERATION, "gradient"), ROWS)
    forged = taken_over(forged, other, ("batch_counts", "batch_range"), EPOCH)
    probes = ("probe_gradient", "probe_loss", "accuracy", "output_error", "hidden", "weight", "through_time")
    forged = taken_over(forged, other, probes, EPOCH + 1)
    # behind the checkpoints of the start and of the first iteration
    return taken_over(forged, other, ("checkpoint_parameters", "checkpoint_moments"), EPOCH + 2)


def taken_over(r: Recording, other: Recording, names: tuple[str, ...], rows: Any) -> Recording:
    arrays = {name: getattr(r, name).copy() for name in names}
    for name, values in arrays.items():
        values[rows] = getattr(other, name)[rows]
    return replace(r, **arrays)


def moved_checkpoint(r: Recording, _: Recording) -> Recording:
    row = EPOCH + 2
    way = r.checkpoint_parameters[row] - r.checkpoint_parameters[row - 1]
    return _with(r, "checkpoint_parameters", lambda rows: rows.__setitem__(row, rows[row] + 0.02 * way))


_SIZES = ("abs_mean", "sd", "norm", "abs_max")
# what "another's" leaves alone, or makes fit; a unit that is dead in neither run, and zeros that neither has
_UNTOUCHED = (
    "clip_factor", "nonfinite", "probe_nonfinite", "probe_counts", "weight_counts", "weight", "hidden_dead",
    "probe_zero_share",
)  # fmt: skip
# what each forgery changes; one figure that is 1 % larger is made of every quantity
FORGERIES: dict[str, tuple[Forge, tuple[str, ...]]] = {
    "shuffled": (shuffled, (*_SIZES, "mean", "update_norm", "weight_dot_gradient", "bias_dot_gradient", "loss")),
    "invented": (invented, _SIZES),
    "flipped": (flipped, ("mean",)),
    "another's": (spliced, tuple(name for name in QUANTITIES if name not in _UNTOUCHED)),
    "moved": (moved_checkpoint, ("parameters",)),
}


def smallest(e: Experiment, recording: Recording, other: Recording) -> dict[str, tuple[float, str]]:
    """For each quantity the smallest deviation that a forgery of it leaves in its stretch, and which that is.

    Gradients through time are looked at where there is time, and nothing else is there.
    """
    left: dict[str, tuple[float, str]] = {}
    timed = e.architecture in RECURRENT
    forged = {name: (forge, touched) for name, (forge, touched) in FORGERIES.items()}
    forged |= {f"one figure of {name}": (one_larger(name), (name,)) for name in QUANTITIES if "nonfinite" not in name}
    for name, (forge, touched) in forged.items():
        touched = tuple(quantity for quantity in touched if (quantity == "through_time") == timed)
        if not touched:
            continue
        found = off(forge(recording, other), e, range(EPOCH, EPOCH + 1))
        for quantity in touched:
            left[quantity] = min(
                left.get(quantity, (np.inf, "")), (found[quantity], name.removesuffix(f" of {quantity}"))
            )
    return left


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seeds", type=int, default=5)
    seeds = arguments.parse_args().seeds
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, numpy {np.__version__}, {seeds} seeds, S1's and the other labs' networks\n")
    by_kind: dict[str, Deviations] = {}
    left: dict[str, tuple[float, str]] = {}
    for seed in range(seeds):
        for kind, expected, recording in runs(seed):
            if not recording.complete:
                continue  # where a run ends before its end, an audit asks something else of it
            worst = by_kind.setdefault(kind, {})
            for name, value in off(recording, expected, calm=True).items():
                seen = worst.get(name, 0.0)
                worst[name] = seen + value if name in (STORMY, EPOCHS) else max(seen, value)
        forged = [labkit.experiment(f"vanishing/{activation}").replace(seed=seed) for activation in ("relu", "sigmoid")]
        for e in (*forged, *(timed(kind, seed) for kind in RECURRENT)):
            with contextlib.redirect_stdout(io.StringIO()):
                found = smallest(e, train(e), train(e.replace(seed=e.seed + 1000)))
            left |= {name: min(left.get(name, (np.inf, "")), value) for name, value in found.items()}
    show(by_kind, left)


def show(by_kind: dict[str, Deviations], left: dict[str, tuple[float, str]]) -> None:
    print(f"{'honest recordings':36}{'closest to its tolerance':26}{'share of it':>12}  rounding decides")
    for kind, worst in by_kind.items():
        shares = {name: worst[name] / quantity.tolerance for name, quantity in QUANTITIES.items()}
        name = max(shares, key=shares.__getitem__)
        stormy = f"{worst[STORMY]:.0f} of {worst[EPOCHS]:.0f} epochs" if worst[STORMY] else ""
        print(f"{kind:36}{name:26}{shares[name]:12.2g}  {stormy}")
    exact = [worst for kind, worst in by_kind.items() if not kind.startswith(("TF32", "recurrent in float32"))]
    tf32 = [worst for kind, worst in by_kind.items() if kind.startswith("TF32")]
    heads = f"{'honest':>9}{'tolerance':>11}{'forged':>9}{'above':>8}{'below':>8}{'TF32':>10}"
    print(f"\n{'quantity':22}{heads}  smallest forgery")
    for name, quantity in QUANTITIES.items():
        noise = max(worst[name] for worst in exact)
        forged, which = left.get(name, (np.inf, "-"))
        above = quantity.tolerance / noise if noise else np.inf
        print(
            f"{name:22}{noise:9.1e}{quantity.tolerance:11.0e}{forged:9.1e}{above:{'8.0f' if above < 1e6 else '8.0e'}}"
            f"{forged / quantity.tolerance:8.0f}{max(worst[name] for worst in tf32):10.1e}  {which}"
        )
    print(f"\n{'identity, in roundings':40}{'honest':>9}{'room':>9}{'above':>8}{'TF32':>10}")
    for name, identity in identities.IDENTITIES.items():
        noise = max((worst.get(name, 0.0) for worst in exact), default=0.0)
        loud = max(worst.get(name, 0.0) for worst in tf32)
        print(f"{name:40}{noise:9.2g}{identity.room:9.0f}{identity.room / noise if noise else np.inf:8.0f}{loud:10.2g}")


if __name__ == "__main__":
    main()
