"""What five published tutorials say, beside what their experiments give here: REPRODUCTION.md.

Each claim of `labkit.claims` has the figure that was published, ours over several seeds, and the rule that says whether
it holds. Nothing in the table is typed by hand. Recordings are kept, so an interrupted run goes on where it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from tqdm import tqdm

from labkit.claims import CLAIMS, FEWEST, Row, Runs, judge
from labkit.ensembles import seeds_of
from labkit.experiments import Experiment, ExperimentError, experiment
from labkit.files import write_whole
from labkit.recording import Recording, RecordingError
from labkit.training import train

SEEDS = 20
QUICK_SEEDS = 5
DEEP_SEEDS = 3  # of experiments that take minutes each
FEW, FEW_EPOCHS = 2000, 3  # images and epochs of those, where it has to be quick
BAR = "{desc} |{bar}| {percentage:3.0f} % [{elapsed}<{remaining}]"
FIXED = 300_000  # multiplications that take as long as a layer without any: an iteration of circles' five has 0.7 ms


@dataclass(frozen=True)
class Plan:
    """What is to be trained."""

    quick: bool = False  # fewer seeds, and the deep networks on few images
    seeds: int | None = None  # for every experiment; by default fewer for the deep ones
    only: tuple[str, ...] = ()  # sources, such as S3; all of them when empty
    digits: bool = False  # drawn digits instead of MNIST
    epochs: int | None = None  # at most

    def experiments(self) -> dict[str, list[Experiment]]:
        """By name, one for each seed; an unknown source lists those there are."""
        known = sorted({claim.source for claim in CLAIMS})
        if "S2" in self.only:
            raise ExperimentError(
                f"S2 asks three questions and publishes no figure to reproduce: choose from {', '.join(known)}"
            )
        if unknown := sorted(set(self.only) - set(known)):
            raise ExperimentError(f"there is no source {unknown[0]!r}: choose from {', '.join(known)}")
        names = {name for claim in CLAIMS if not self.only or claim.source in self.only for name in claim.needs}
        return {name: self._of(experiment(name)) for name in sorted(names)}

    def _of(self, e: Experiment) -> list[Experiment]:
        deep = e.name.startswith("exploding/")
        if self.digits and e.data == "mnist":
            e = e.replace(data="digits")
        if deep and self.quick:
            e = _made_small(e)
        if self.epochs is not None:
            e = e.replace(epochs=min(e.epochs, self.epochs))
        return seeds_of(e, self.seeds or (DEEP_SEEDS if deep else QUICK_SEEDS if self.quick else SEEDS))


def _made_small(e: Experiment) -> Experiment:
    """A deep network on few images; the sigmoid one, which is fast, keeps its epochs."""
    if e.architecture == "residual_conv":  # the large one takes an hour on a CPU
        e = e.replace(widths=(1, 8, 8, 8, 16, 16, 32, 32, 10))
    return e.replace(observations=FEW, epochs=e.epochs if e.activation == "sigmoid" else FEW_EPOCHS)


def reproduce(folder: Path, plan: Plan) -> Path:
    """Train what is planned and not in `folder` yet, and write REPRODUCTION.md there.

    The table has every claim whose recordings are there, also those that `plan.only` leaves out. A recording's file is
    named after its whole experiment, so plans of different size or data share the folder; the table is of this plan.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [e for some in plan.experiments().values() for e in some]
    _train([e for e in wanted if finished(folder, e) is None], folder)
    runs, planned = {}, replace(plan, only=()).experiments()
    for name, experiments in planned.items():
        if found := [slim(r) for e in experiments if (r := finished(folder, e)) is not None]:
            runs[name] = found
    seeds = {name: len(experiments) for name, experiments in planned.items()}
    return write_whole(folder / "REPRODUCTION.md", table(runs, seeds).encode())


def path_of(folder: Path, e: Experiment) -> Path:
    """Where the recording of this very experiment is kept: no other experiment has that name."""
    return folder / f"{e.name.replace('/', '-')}-seed-{e.seed}-{e.digest[:12]}.safetensors"


def finished(folder: Path, e: Experiment) -> Recording | None:
    """The recording of this experiment in the folder, if it is whole and ran to its end or to a loss of NaN."""
    try:
        found = Recording.load(path_of(folder, e))
    except RecordingError:
        return None
    same = found.origin.experiment == e and (found.complete or "not finite" in found.origin.stopped)
    return found if same else None


def slim(r: Recording) -> Recording:
    """The recording without moments and the checkpoints between the first and the last: deep ones have 200 MB."""
    ends = [0, -1]
    return replace(
        r,
        checkpoint_iteration=r.checkpoint_iteration[ends].copy(),
        checkpoint_parameters=r.checkpoint_parameters[ends].copy(),
        checkpoint_moments=np.zeros((2, 0, r.checkpoint_parameters.shape[1]), r.checkpoint_moments.dtype),
    )


def work(e: Experiment) -> int:
    """About how many multiplications an epoch takes, forward; only ratios of it matter."""
    if e.architecture == "residual_conv":
        # two 3 x 3 convolutions a block on 7 x 7 pixels, where each halving of the side doubles the channels at most
        each = 18 * 49 * sum(fan_in * fan_out for fan_in, fan_out in pairwise(e.widths[1:-1]))
    else:
        each = e.steps * sum(fan_in * fan_out for fan_in, fan_out in pairwise(e.widths))
    return e.iterations_per_epoch * (FIXED * len(e.widths) + e.batch_size * each)


def _train(experiments: Sequence[Experiment], folder: Path) -> None:
    """Train one after another, under one bar that knows how much work each is."""
    total = sum(work(e) * e.epochs for e in experiments)
    with tqdm(total=total, bar_format=BAR, smoothing=0, disable=None if experiments else True) as bar:
        for number, e in enumerate(experiments, 1):
            bar.set_description_str(f"{e.name}, seed {e.seed}, run {number} of {len(experiments)}")
            ticks = _Ticks(bar, e)
            train(e, path_of(folder, e), watch=ticks, progress=False)
            ticks.rest()


class _Ticks:
    """A watch that moves the bar by an epoch's work, and never asks for the recordings."""

    def __init__(self, bar: "tqdm[None]", e: Experiment) -> None:
        self.bar, self.epoch, self.left = bar, work(e), work(e) * e.epochs

    def due(self) -> bool:
        self._move(self.epoch)
        return False

    def __call__(self, _: list[Recording]) -> None:
        """The last epoch, of which `due` is not asked."""

    def rest(self) -> None:
        """The last epoch, and those that a run which broke down left out."""
        self._move(self.left)

    def _move(self, by: int) -> None:
        self.left -= by
        self.bar.update(by)


HEADS = ("", "claim", "published", "ours", "rule", "holds", "where it does not")


def table(runs: Runs, seeds: Mapping[str, int] | None = None) -> str:
    """The claims whose experiments were run, as Markdown; `seeds` is how many of each were planned."""
    rows = [_as_run(judge(claim, runs), runs) for claim in CLAIMS if set(claim.needs) <= set(runs)]
    lines = ["# Reproduction", "", *_legend(), "", *_reduced(runs), _line(HEADS), _line(["---"] * len(HEADS))]
    lines += [_line(_cells(row)) for row in rows]
    lines += ["", f"{_counted(rows)} S2 asks three questions and publishes no figure.", "", "What was run:", ""]
    lines += [_was_run(name, some, (seeds or {}).get(name, len(some))) for name, some in runs.items()]
    return "\n".join(lines) + "\n"


def _legend() -> list[str]:
    return [
        "Written by `labkit reproduce`. Ours is the median over seeds with the 95 % band; a rule speaks of the median, "
        "unless it says band. Losses are the mean of the last epoch's mini-batches, accuracies those on all training "
        f"data. With fewer than {FEWEST} seeds a band says nothing: of n seeds, the lowest and the highest have a new "
        "run between them with a chance of (n - 1)/(n + 1). Figures behind a claim that does not hold are medians of "
        "the same runs."
    ]


def _reduced(runs: Runs) -> list[str]:
    """Which experiments were made smaller than they were published, so that nobody takes a row of theirs for more."""
    small = [name for name, some in runs.items() if (e := some[0].origin.experiment) and _smaller(e)]
    if not small:
        return []
    names = ", ".join(f"`{name}`" for name in small)
    return [
        f"**Reduced:** {names}. They have fewer images, epochs or units than were published, each as `What was run` "
        "says; their rows, whether a claim holds or not, are about these runs and not about the published size.",
        "",
    ]


def _smaller(e: Experiment) -> bool:
    named = experiment(e.name)
    return e.observations < named.observations or e.epochs < named.epochs or sum(e.widths) < sum(named.widths)


def _as_run(row: Row, runs: Runs) -> Row:
    """Behind a no, what was run otherwise than it was published."""
    changes = {name: found for name in row.claim.needs if (found := _changes(runs[name][0].origin.experiment))}
    if row.verdict != "no" or not changes:
        return row
    words = "; ".join(f"{name} was run with {found}" for name, found in changes.items())
    return replace(row, remark=f"{row.remark}; {words}")


def _changes(e: Experiment | None) -> str:
    """What differs from the experiment of that name, in words."""
    if e is None:
        return ""
    named = experiment(e.name)
    names = [name for name in ("data", "observations", "widths", "epochs") if getattr(e, name) != getattr(named, name)]
    return ", ".join(f"{name} {_text(getattr(e, name))} for {_text(getattr(named, name))}" for name in names)


def _text(value: object) -> str:
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _cells(row: Row) -> tuple[str, ...]:
    verdict = "**no**" if row.verdict == "no" else row.verdict
    claim = row.claim
    return (claim.source, claim.sentence, claim.published, row.ours, claim.rule.words, verdict, row.remark)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _counted(rows: Sequence[Row]) -> str:
    said = [sum(row.verdict == verdict for row in rows) for verdict in ("yes", "no")]
    return f"Of {len(rows)} claims {said[0]} hold, {said[1]} do not, {len(rows) - sum(said)} cannot be judged."


def _was_run(name: str, some: Sequence[Recording], planned: int) -> str:
    e = some[0].origin.experiment
    seeds = f"{planned} seed{'s' * (planned != 1)}" if len(some) == planned else f"{len(some)} of {planned} seeds"
    broken = sum(not recording.complete for recording in some)
    stopped = f"; {broken} stopped at a loss that is not finite" if broken else ""
    found = _changes(e)
    changed = f"; otherwise than published: {found}" if found else ""
    return f"- `{name}`, {seeds}: {e.summary if e else 'a loop of its own'}{changed}{stopped}"
