"""Are networks that are trained at once what each would be alone: whatever they differ in, and however many fit?"""

import warnings
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from labkit import data, deviations, graphs, memory, training
from labkit.dense import Stack
from labkit.engines import SideBySide
from labkit.experiments import Experiment, ExperimentError, experiment
from labkit.recording import ARRAYS, Recording
from labkit.shelf import Shelf
from labkit.tape import Tape
from labkit.training import train, train_lightly, train_many

CPU = torch.device("cpu")


def several(short: Experiment, **changes) -> list[Experiment]:
    """Networks that differ in all that they may, and some of them in nothing but one."""
    e = short.replace(**changes)
    return [
        e.replace(seed=1, activation="tanh"),
        e.replace(seed=2, learning_rate=0.02),
        e.replace(seed=1, gain=2.0),
        e.replace(seed=3, initialisation="normal", gain=0.1, learning_rate=1e-4, activation="sigmoid"),
        e.replace(seed=2, initialisation="pytorch", activation="leaky_relu"),
    ]


def assert_same(ours: Recording, theirs: Recording, rtol: float = 1e-7) -> None:
    for name in ARRAYS:
        a, b = getattr(ours, name), getattr(theirs, name)
        assert a.shape == b.shape, name
        if name.endswith("counts"):
            assert np.abs(a - b).sum() <= 4, name  # a value on an edge may fall to either side
        else:
            finite = np.abs(b[np.isfinite(b)])
            np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-10 * finite.max(initial=0), err_msg=name)
    assert replace(ours.origin, wall_time=0) == replace(theirs.origin, wall_time=0)


@pytest.mark.parametrize(
    "changes", [{}, {"optimizer": "sgd", "clip_norm": 0.5}, {"optimizer": "rmsprop", "batches": 2}]
)
def test_each_is_its_single_run_in_float64(short, changes) -> None:
    many = several(short, dtype="float64", **changes)
    groups = list(training._groups(many, range(len(many)), CPU, 2**40))
    assert sorted(groups[0]) == list(range(len(many)))  # all in one
    for ours, e in zip(train_many(many, device="cpu", progress=False), many, strict=True):
        assert ours.origin.experiment == e
        assert_same(ours, train(e, device="cpu", progress=False))


def test_the_audit_finds_each_of_them_honest(short) -> None:
    """In float32, by a replay in numpy, which knows nothing of the others."""
    for recording in train_many(several(short), device="cpu", progress=False):
        for iteration in (1, 2, recording.iterations):
            found = deviations.at_iteration(recording, iteration)
            assert not any(figure.off for figure in found.figures), (recording.origin.experiment, found.figures)


def test_one_product_for_all_seeds_is_one_for_each(short, monkeypatch) -> None:
    """As on a GPU, where launches cost more."""
    many = [short.replace(dtype="float64", seed=k // 2, gain=1 + k) for k in range(6)]
    apart = train_many(many, device="cpu", progress=False)
    monkeypatch.setattr(Stack, "_batched", lambda self, groups: self._even and groups > 1)
    for ours, theirs in zip(train_many(many, device="cpu", progress=False), apart, strict=True):
        assert_same(ours, theirs, rtol=1e-9)


@pytest.mark.parametrize("wrong", ["order", "rate"])
def test_it_would_be_seen_if_they_were_mixed_up(short, monkeypatch, wrong) -> None:
    """One network on another's mini-batches, or with another's learning rate, is no honest run."""
    if wrong == "order":
        real = data.epoch_batches
        monkeypatch.setattr(data, "epoch_batches", lambda e, epoch: real(e.replace(seed=1), epoch))
    else:
        monkeypatch.setattr(Stack, "_rates_of", lambda self, rates: None)
    recordings = train_many(several(short), device="cpu", progress=False)
    monkeypatch.undo()
    off = [any(f.off for f in deviations.at_iteration(r, 3).figures) for r in recordings]
    assert off == ([False, True, False, True, True] if wrong == "order" else [False, True, False, True, False])


def test_data_of_many_seeds_are_each_ones_own(short) -> None:
    """Whether they are drawn from a pool that is there once, or laid one behind another."""
    for e in (short, short.replace(pool=300), short.replace(observations=200)):
        seeds = [5, 6, 5, 7, 8]
        found = data.samples(e, seeds)
        for places, digest, seed in zip(found.places, found.digests, seeds, strict=True):
            alone = data.of_experiment(e.replace(seed=seed))
            np.testing.assert_array_equal(found.inputs[places], alone.inputs)
            np.testing.assert_array_equal(found.labels[places], alone.labels)
            assert digest == alone.digest


def test_who_breaks_down_ends_alone(short, tmp_path, capsys) -> None:
    """Its recording is that of its single run, and so are its neighbours', who go on."""
    many = [
        short.replace(gain=gain, clip_norm=None, dtype="float64", name=f"gain {gain:g}") for gain in (1.0, 1e120, 2.0)
    ]
    files = [tmp_path / f"{k}.safetensors" for k in range(3)]
    made = train_many(many, files, device="cpu", progress=False)
    assert "gain 1e+120: training stopped, the loss is not finite since epoch 1" in capsys.readouterr().out
    assert [r.complete for r in made] == [True, False, True]
    for ours, e, file in zip(made, many, files, strict=True):
        assert Recording.load(file).digest == ours.digest
        assert_same(ours, train(e, device="cpu", progress=False), rtol=1e-6)


def test_the_plan_counts_what_is_there(short) -> None:
    for e in several(short):
        for changes in ({}, {"dtype": "float64"}, {"optimizer": "sgd"}, {"epochs": 1}):
            r = train(e.replace(**changes), device="cpu", progress=False)
            assert sum(getattr(r, name).nbytes for name in ARRAYS) == memory.of_recording(r.origin.experiment)


class Allocated(TorchDispatchMode):
    """Bytes of the tensors that are there, and of the most that were there at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for one in torch.utils._pytree.tree_leaves(result):
            if isinstance(one, torch.Tensor):
                self.add(one.untyped_storage())
        return result

    def add(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self.known:
            self.known.add(storage._cdata)
            self.change(storage.nbytes())
            weakref.finalize(storage, self.drop, storage._cdata, storage.nbytes())

    def drop(self, storage: int, size: int) -> None:
        self.known.discard(storage)
        self.change(-size)

    def change(self, size: int) -> None:
        self.now += size
        self.most = max(self.most, self.now)


def test_a_small_budget_is_kept_and_changes_nothing(short, tmp_path, monkeypatch) -> None:
    """Networks of many seeds in parts, their recordings in files: no more memory than planned, and the same figures."""
    e = short.replace(epochs=1, widths=(784, 60, 10))
    many = [e.replace(seed=seed) for seed in range(6)]
    recording = memory.of_recording(e)
    tensors = memory.of_data(e, 6, 2, CPU, 2**40) + 2 * memory.of_network(e, True)
    budget = tensors + 3 * recording  # of two on the tape, and the one that is being written
    assert memory.parts(many, 64, CPU, budget, budget) == [slice(0, 2), slice(2, 4), slice(4, 6)]
    whole = train_many(many, device="cpu", progress=False)
    monkeypatch.setattr(memory, "free", lambda device: budget)
    monkeypatch.setattr(training, "KEPT", 10**6)
    files = [tmp_path / f"{k}.safetensors" for k in range(6)]
    with Allocated() as allocated:
        shelf = train_many(many, files, device="cpu", progress=False)
    assert tensors / 4 < allocated.most <= tensors  # a plan of several times what is needed would be none
    assert isinstance(shelf, Shelf)
    assert "6 of them in their files" in repr(shelf)
    for ours, theirs in zip(shelf, whole, strict=True):
        np.testing.assert_allclose(ours.loss, theirs.loss, rtol=1e-4)
    assert [r.origin.seed for r in shelf[3:5]] == [3, 4]
    monkeypatch.setattr(memory, "free", lambda device: recording * 6)
    with pytest.raises(ExperimentError, match=r"6 recordings take 0\.0 GB.*give each its file by save="):
        train_many(many, device="cpu", progress=False)


def test_lightly_trained_is_the_same_but_for_its_checkpoints(short, monkeypatch) -> None:
    many = several(short)
    light = train_lightly(many, device="cpu")
    for ours, whole in zip(light, train_many(many, device="cpu", progress=False), strict=True):
        assert ours.checkpoint_iteration.tolist() == [0, whole.iterations]
        assert len(whole.checkpoint_iteration) > 2
        for name in ARRAYS:
            mine, theirs = getattr(ours, name), getattr(whole, name)
            some = [0, -1] if name.startswith("checkpoint_") else slice(None)
            np.testing.assert_array_equal(mine, theirs[some], err_msg=name)
        assert ours.origin.final_accuracy == whole.origin.final_accuracy
        e = ours.origin.experiment
        assert sum(getattr(ours, name).nbytes for name in ARRAYS) == memory.of_recording(e, lightly=True)
    light_one = memory.of_recording(short, lightly=True)
    assert light_one < memory.of_recording(short) / 2
    monkeypatch.setattr(memory, "free", lambda device: light_one * 6)
    with pytest.raises(ExperimentError, match="recordings take"):
        train_lightly(many, device="cpu")


def test_lightly_trained_leaves_no_files_when_it_is_interrupted(short, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    def press_stop(recordings: list[Recording]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(training.Interrupted, match="nothing of them was kept"):
        train_lightly(several(short), device="cpu", watch=press_stop)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", ["_take_probes", "_take_checkpoints"])
@pytest.mark.parametrize("look", [1, 2])
def test_an_interrupt_of_a_look_leaves_only_the_checkpoints_of_the_run(short, monkeypatch, where, look) -> None:
    """Trained lightly, each look takes a checkpoint of its own."""
    real, seen, calls = getattr(Tape, where), [], []

    class Watch:
        def __call__(self, recordings: list[Recording]) -> None:
            seen.append(recordings)

        end = __call__

    def press_stop(tape: Tape) -> None:
        calls.append(where)
        if len(calls) == look:
            raise KeyboardInterrupt
        real(tape)

    monkeypatch.setattr(Tape, where, press_stop)
    with pytest.raises(training.Interrupted, match=f"interrupted after {3 * look} of 9 iterations"):
        train_lightly([short], device="cpu", watch=Watch())
    assert [found.checkpoint_iteration.tolist() for (found,) in seen] == [[0, 3 * at] for at in [*range(1, look), look]]


@pytest.mark.parametrize("lightly", [False, True])
def test_looking_at_no_network_leaves_the_tape_as_it_was(short, lightly) -> None:
    engine, untouched = (SideBySide(several(short), CPU, lightly=lightly) for _ in range(2))
    for one in (engine, untouched):
        one.batches.of_epoch(0)
        with torch.no_grad():
            one._one_by_one()
        if lightly:
            assert one.tape.last_checkpoint != one.done
    for finished in (False, True):
        assert list(engine.recordings([], finished=finished)) == []
    for ours, theirs in zip(engine.recordings([0, 1]), untouched.recordings([0, 1]), strict=True):
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)


def test_only_plain_networks_are_trained_lightly(short) -> None:
    with pytest.raises(ExperimentError, match="only plain multilayer perceptrons"):
        train_lightly([short.replace(normalisation="batch")], device="cpu")
    with pytest.raises(ExperimentError, match="is no experiment"):
        train_lightly(["vanishing/relu"], device="cpu")


@pytest.mark.parametrize(("gigabytes", "parts"), [(1, 1), (2.7, 1), (10, 1)])
def test_a_small_gpu_trains_small_networks_together(gigabytes, parts) -> None:
    """The rows that wait take what these networks fill, and at most a part of what is free."""
    many = [experiment("vanishing/relu").replace(gain=0.5 + k / 20) for k in range(20)]
    cuda, budget = torch.device("cuda"), int(gigabytes * 1e9)
    assert len(memory.parts(many, 4096, cuda, budget, 10**12)) == parts
    thousands = [many[0].replace(gain=1 + k / 10**5) for k in range(4096)]
    found = memory.parts(thousands, 4096, cuda, budget, 10**12)
    most = max(part.stop - part.start for part in found)
    ring = min(memory.RING_BYTES["cuda"], budget // 4, memory.BLOCK_ROWS * memory._row(many[0]) * 4096)
    assert most * memory.of_network(many[0], False) + ring <= budget


def test_recordings_that_wait_on_the_host_leave_room_for_the_one_that_is_written(short) -> None:
    many, one = [short] * 6, memory.of_recording(short)
    assert memory.parts(many, 64, torch.device("cuda"), 10**12, 4 * one) == [slice(0, 3), slice(3, 6)]


def test_what_does_not_fit_at_all_is_one_sentence(short) -> None:
    with pytest.raises(ExperimentError, match=r"takes about [\d,]+ MB to train, and 0 MB are free"):
        memory.parts([short], 64, CPU, 1000, 1000)


@pytest.mark.parametrize(("recordings", "at_once"), [(2, 1), (3, 2), (4, 3)])
def test_beside_a_gpu_the_recording_that_is_being_written_has_its_room(short, recordings: int, at_once: int) -> None:
    many = [short.replace(seed=seed) for seed in range(6)]
    found = memory.parts(many, 64, torch.device("cuda"), 2**40, recordings * memory.of_recording(short))
    assert {part.stop - part.start for part in found} == {at_once}


@pytest.mark.parametrize(("limit", "left"), [("max", None), ("5000", 5000 - 3000 + 1000)])
def test_a_jobs_limit_counts(tmp_path, limit, left) -> None:
    """Of the control group; files that the kernel keeps in memory are no use of it."""
    for name, text in {
        "memory.max": limit,
        "memory.current": "3000",
        "memory.stat": "anon 2\ninactive_file 1000",
    }.items():
        (tmp_path / name).write_text(text)
    assert min(memory._of_job(tmp_path)) == (2**62 if left is None else left)


def test_an_interrupt_names_some_of_many_files_and_loses_none(short, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    def press_stop(recordings: list[Recording]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(training.Interrupted, match=r"interrupted-3\.safetensors and 2 more; read it"):
        train_many(several(short), device="cpu", watch=press_stop, progress=False)
    kept = [Recording.load(path) for path in Path().glob("*.safetensors")]
    assert {r.origin.experiment for r in kept} == set(several(short))


class Synchronisations(TorchDispatchMode):
    """Notes what would make a processor wait for a GPU: results that are read, shapes that depend on values, copies."""

    READ = ("_local_scalar_dense", "nonzero", "is_nonzero", "item", "equal", "masked_select", "unique", "bincount")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name.startswith(self.READ) or self.from_host(name, args, kwargs or {}):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))

    @staticmethod
    def from_host(name: str, args, kwargs) -> bool:
        """A tensor made of Python's numbers, or a copy to another kind of memory: on a GPU both cross over."""
        return name in ("lift_fresh", "scalar_tensor") or (name == "_to_copy" and "device" in kwargs)


@pytest.mark.parametrize(
    "changes",
    [{"clip_norm": 0.5}, {"optimizer": "rmsprop", "clip_each": 0.1}, {"optimizer": "sgd", "clip_value": 0.01}, {}],
)
def test_no_iteration_waits_for_the_device(short, changes) -> None:
    engine = SideBySide(several(short, **changes), CPU)
    engine.batches.of_epoch(0)
    with torch.no_grad(), Synchronisations() as seen:
        engine._iterations(range(2))
    assert seen.seen == []


@pytest.mark.parametrize(
    "planted",
    [
        lambda stack: stack.losses[0].sum().item(),
        lambda stack: bool(stack.losses.isfinite().all()),
        lambda stack: stack.losses.nonzero(),
        lambda stack: stack.losses.add_(torch.tensor(1.0)),
        lambda stack: stack.losses.to("cpu", copy=True),
    ],
)
def test_what_waits_is_counted(short, monkeypatch, planted) -> None:
    real = Stack.step
    monkeypatch.setattr(Stack, "step", lambda self, row: (real(self, row), planted(self)))
    engine = SideBySide(several(short), CPU)
    engine.batches.of_epoch(0)
    with torch.no_grad(), Synchronisations() as seen:
        engine._iterations(range(2))
    assert len(seen.seen) >= 2


class Captured(TorchDispatchMode):
    """A CUDA graph's stand-in: the operations of one run, to be repeated with its tensors and its numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        made: dict[int, torch.Tensor] = {}

        def now(value):
            return torch.utils._pytree.tree_map(lambda one: made.get(id(one), one), value)

        for func, args, kwargs, before in self.calls:
            after = func(*now(args), **now(kwargs))
            pairs = zip(torch.utils._pytree.tree_leaves(before), torch.utils._pytree.tree_leaves(after), strict=True)
            made.update({id(old): new for old, new in pairs if isinstance(old, torch.Tensor) and id(old) not in made})


class OnTheProcessor(graphs.Replays):
    """Captures as a GPU does: what runs meanwhile leaves no trace."""

    def __init__(self, engine: SideBySide) -> None:
        super().__init__(CPU)
        self.engine = engine

    def capture(self, launches):
        stack = self.engine.stack
        state = (stack.parameters, stack.gradients, stack.losses, stack.clips, stack.steps, *stack.moments)
        before = [one.clone() for one in state]
        with Captured() as graph:
            launches()
        for one, old in zip(state, before, strict=True):
            one.copy_(old)
        return graph.replay


def by_graphs(monkeypatch, rows: int = 40) -> list:
    """Have trainings on the processor replay what was captured once, as they do on a GPU."""
    made: list[OnTheProcessor] = []
    real = SideBySide.__init__

    def with_graphs(self, experiments, device, lightly=False):
        real(self, experiments, device, lightly)
        self.replays = OnTheProcessor(self)
        made.append(self.replays)

    monkeypatch.setattr(SideBySide, "__init__", with_graphs)
    monkeypatch.setattr(memory, "BLOCK_ROWS", rows)
    return made


@pytest.mark.parametrize(("rows", "graphs_of_an_epoch"), [(40, 1), (2, 2)])
@pytest.mark.parametrize("changes", [{"epochs": 4}, {"optimizer": "sgd", "clip_norm": 0.5}])
def test_replayed_launches_train_the_same(short, monkeypatch, changes, rows, graphs_of_an_epoch) -> None:
    """With the partial last mini-batch, the step's number and each epoch's order: nothing of them is frozen."""
    many = several(short, dtype="float64", **changes)
    plain = train_many(many, device="cpu", progress=False)
    made = by_graphs(monkeypatch, rows)
    for ours, theirs in zip(train_many(many, device="cpu", progress=False), plain, strict=True):
        assert_same(ours, theirs, rtol=1e-9)
    assert [len(one.captured) for one in made] == [graphs_of_an_epoch]


def test_the_first_epoch_of_a_run_that_goes_on_is_not_captured(short) -> None:
    """A kernel that is loaded while a graph is captured breaks it."""
    engine = SideBySide(several(short), CPU)
    engine.replays = OnTheProcessor(engine)
    engine.epoch(1)
    assert not engine.replays.captured
    engine.epoch(2)
    assert engine.replays.captured


def count_steps_in_python(monkeypatch) -> None:
    """A mistake: the step's number as Python's own number is that of the capture for ever."""
    real = Stack.step

    def with_own_number(self, row: int) -> None:
        self.number = getattr(self, "number", 0) + 1
        self.steps.fill_(self.number - 1)
        real(self, row)

    monkeypatch.setattr(Stack, "step", with_own_number)


def test_a_number_that_is_frozen_in_a_graph_is_seen(short, monkeypatch) -> None:
    plain = train(short, device="cpu", progress=False)
    count_steps_in_python(monkeypatch)
    np.testing.assert_array_equal(train(short, device="cpu", progress=False).loss, plain.loss)
    by_graphs(monkeypatch)
    assert np.abs(train(short, device="cpu", progress=False).loss - plain.loss).max() > 1e-4


def test_products_are_not_rounded_unless_somebody_asks(short) -> None:
    """Whatever was chosen outside holds again afterwards."""
    setting, seen = torch.backends.cuda.matmul, []
    before = setting.fp32_precision

    def look(_: list[Recording]) -> None:
        seen.append((setting.fp32_precision, torch.backends.cudnn.conv.fp32_precision))

    try:
        for chosen in ("tf32", "ieee"):
            setting.fp32_precision = chosen
            for tf32 in (False, True):
                train(short.replace(epochs=1), device="cpu", watch=look, progress=False, tf32=tf32)
            assert setting.fp32_precision == chosen
    finally:
        setting.fp32_precision = before
    assert seen == [("ieee", "ieee"), ("tf32", "tf32")] * 2


gpu = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")


@gpu
@needs_gpu
def test_a_gpus_recordings_are_honest_to_a_replay_on_the_processor(short) -> None:
    for recording in train_many(several(short), device="cuda", progress=False):
        assert recording.origin.device.startswith("cuda")
        for iteration in (1, 3, 4, recording.iterations):
            assert not any(figure.off for figure in deviations.at_iteration(recording, iteration).figures)


@gpu
@needs_gpu
@pytest.mark.parametrize("changes", [{}, {"optimizer": "sgd", "clip_norm": 0.5}])
def test_a_gpus_graphs_train_as_its_launches_do(short, monkeypatch, changes) -> None:
    many = several(short, dtype="float64", **changes)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "this GPU captures no graph")  # both would be the launches
        replayed = train_many(many, device="cuda", progress=False)
    monkeypatch.setattr(SideBySide, "_replayed", lambda self, replays: self._one_by_one())
    for ours, theirs in zip(replayed, train_many(many, device="cuda", progress=False), strict=True):
        assert_same(ours, theirs, rtol=1e-9)


@gpu
@needs_gpu
def test_no_iteration_on_a_gpu_waits(short) -> None:
    engine = SideBySide(several(short), torch.device("cuda"))
    engine.epoch(0)
    engine.batches.of_epoch(1)
    engine._flush()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.no_grad():
            engine._iterations(range(2))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_command_trains_its_seeds_at_once(tmp_path, monkeypatch) -> None:
    from click.testing import CliRunner

    from labkit.cli import main

    together, real = [], training._engine

    def seen(experiments, device):
        together.append([e.seed for e in experiments])
        return real(experiments, device)

    monkeypatch.setattr(training, "_engine", seen)
    words = "run vanishing/relu --seeds 3 --epochs 1 --observations 64 --batch-size 32 --device cpu --out"
    done = CliRunner().invoke(main, [*words.split(), str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert together == [[0, 1, 2]]
    assert "3 seeds" in done.output
