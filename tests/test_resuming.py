"""Does a training that was cut off go on to the very recording that an uninterrupted one leaves?"""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from autograder.audit import audit, stretches_of
from labkit import resuming
from labkit.experiments import Experiment
from labkit.recording import ARRAYS, Recording, RecordingError
from labkit.training import Interrupted, train, train_many


def same(a: Recording, b: Recording) -> bool:
    """Bit for bit, but for the time that it took."""
    arrays = ((getattr(a, name), getattr(b, name)) for name in ARRAYS)
    origins = (replace(r.origin, wall_time=0.0) for r in (a, b))
    return all(x.dtype == y.dtype and np.array_equal(x, y, equal_nan=True) for x, y in arrays) and (
        str(next(origins)) == str(next(origins))
    )


def press_stop_at(epoch: int) -> Callable[[list[Recording]], None]:
    def watch(recordings: list[Recording]) -> None:
        if recordings[0].epochs == epoch:
            raise KeyboardInterrupt

    return watch


def cut_off(experiments: list[Experiment], folder: Path, epoch: int) -> list[Path]:
    paths = [folder / f"{k}.safetensors" for k in range(len(experiments))]
    with pytest.raises(Interrupted):
        train_many(experiments, paths, device="cpu", watch=press_stop_at(epoch), progress=False)
    return paths


@pytest.mark.parametrize(
    "changes",
    [
        [{}, {"activation": "sigmoid", "name": "other"}],  # side by side
        [{"optimizer": "rmsprop", "epsilon": 1e-3}],
        [{"optimizer": "sgd", "learning_rate": 0.1, "clip_norm": 0.5}],
        [{"activation": "gelu"}],  # by autograd
        [{"normalisation": "layer", "residual": True, "clip_each": 0.05}],
        [{"dtype": "float64", "gain": 3.0}],
    ],
)
def test_it_ends_as_an_uninterrupted_one_and_passes_the_audit(short, tmp_path, changes: list[dict]) -> None:
    experiments = [short.replace(epochs=13, **change) for change in changes]
    whole = train_many(experiments, device="cpu", progress=False)
    paths = cut_off(experiments, tmp_path, 11)  # beyond the ten epochs whose statistics are taken together
    for found, expected, path in zip(
        train_many(experiments, paths, device="cpu", progress=False, resume=True), whole, paths, strict=True
    ):
        assert same(found, expected)
        assert Recording.load(path).digest == found.digest
        e = found.origin.experiment
        assert audit(found, e, stretches_of(found)).findings == ()
        assert found.origin.wall_time > Recording.load(path).origin.wall_time / 2


@pytest.mark.parametrize("where", ["step", "block", "probe"])
def test_what_an_interrupt_leaves_within_an_epoch_is_trained_again(short, tmp_path, monkeypatch, where) -> None:
    from labkit.dense import Stack
    from labkit.tape import Tape

    owner = Stack if where == "step" else Tape
    real, calls = getattr(owner, where), []

    def interrupted(self, *arguments):
        calls.append(where)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return real(self, *arguments)

    e, path = short.replace(epochs=12), tmp_path / "x"
    with monkeypatch.context() as patched:
        patched.setattr(owner, where, interrupted)
        patched.setattr("labkit.memory.BLOCK_ROWS", 2)
        with pytest.raises(Interrupted):
            train(e, path, device="cpu", progress=False)
    left = Recording.load(path)
    assert 0 < left.iterations < e.iterations
    assert same(train(e, path, device="cpu", progress=False, resume=True), train(e, device="cpu", progress=False))


def test_interrupted_twice_and_looked_at_in_between(short, tmp_path) -> None:
    e = short.replace(epochs=14)
    path = tmp_path / "0.safetensors"
    cut_off([e], tmp_path, 2)
    with pytest.raises(Interrupted, match="after 36 of 42"):
        train(e, path, device="cpu", watch=press_stop_at(12), progress=False, resume=True)
    seen: list[int] = []
    found = train(e, path, device="cpu", watch=lambda r: seen.append(r[0].epochs), progress=False, resume=True)
    assert same(found, train(e, device="cpu", progress=False))
    assert seen == [13, 14]


def test_networks_that_were_cut_off_at_different_places(short, tmp_path) -> None:
    """Each goes on from where it is; one that has finished is read, one without a file begins."""
    experiments = [short.replace(seed=seed) for seed in range(3)]
    paths = [tmp_path / str(seed) for seed in range(3)]
    train(experiments[0], paths[0], device="cpu", progress=False)
    finished = paths[0].read_bytes()
    (cut,) = cut_off([experiments[1]], tmp_path, 2)
    cut.replace(paths[1])
    found = train_many(experiments, paths, device="cpu", progress=False, resume=True)
    assert [r.origin.experiment for r in found] == experiments
    assert paths[0].read_bytes() == finished
    for r, e in zip(found, experiments, strict=True):
        assert r.complete
        np.testing.assert_allclose(r.loss, train(e, device="cpu", progress=False).loss, rtol=1e-5)


def test_a_killed_training_goes_on_from_what_was_saved_last(short, tmp_path, monkeypatch) -> None:
    path = tmp_path / "run"
    e = short.replace(epochs=40)

    def killed_at_the_twelfth(recordings: list[Recording]) -> None:
        if recordings[0].epochs == 12:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(resuming, "FIRST", 0.0)
    monkeypatch.setattr(resuming, "SHARE", 1e9)
    child = os.fork()  # torch has run on one thread alone here
    if child == 0:
        try:
            train(e, path, device="cpu", watch=killed_at_the_twelfth, progress=False)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    left = Recording.load(path)
    assert left.origin.stopped == "cut off after 33 of 120 iterations"
    assert same(train(e, path, device="cpu", progress=False, resume=True), train(e, device="cpu", progress=False))


def test_saving_in_between_changes_nothing_and_spares_what_is_finished(short, tmp_path, monkeypatch) -> None:
    e, path = short.replace(epochs=12), tmp_path / "run"
    whole = train(e, device="cpu", progress=False)
    monkeypatch.setattr(resuming, "FIRST", 0.0)
    monkeypatch.setattr(resuming, "SHARE", 1e9)
    stamps: list[int] = []
    other = train(short.replace(seed=7), path, device="cpu", progress=False)
    found = train(e, path, device="cpu", watch=lambda _: stamps.append(path.stat().st_mtime_ns), progress=False)
    assert same(found, whole)
    assert len(set(stamps)) == 1  # the other run's recording stays until this one is whole
    assert Recording.load(path).digest == found.digest != other.digest


def test_an_interrupt_spares_the_recording_that_another_process_finished(short, tmp_path) -> None:
    """A job may run twice at once."""
    path = tmp_path / "run"

    def the_other_is_done_first(recordings: list[Recording]) -> None:
        train(short, path, device="cpu", progress=False)
        raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        train(short, path, device="cpu", watch=the_other_is_done_first, progress=False)
    assert Recording.load(path).complete


def edited(path: Path, **changes: object) -> None:
    """A file whose digests fit again."""
    replace(Recording.load(path), **changes).save(path)


def another_student(path: Path, e: Experiment) -> None:
    r = Recording.load(path)
    edited(path, origin=replace(r.origin, experiment=e.replace(student="bob", seed=5)))


def no_experiment(path: Path, e: Experiment) -> None:
    edited(path, origin=replace(Recording.load(path).origin, experiment=None))


def one_byte(path: Path, e: Experiment) -> None:
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(bytes(content))


def half(path: Path, e: Experiment) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def one_checkpoint_fewer(path: Path, e: Experiment) -> None:
    r = Recording.load(path)
    kept = np.arange(len(r.checkpoint_iteration)) != 2
    edited(path, **{name: getattr(r, name)[kept] for name in ARRAYS if name.startswith("checkpoint")})


def shifted_epochs(path: Path, e: Experiment) -> None:
    edited(path, epoch_end=Recording.load(path).epoch_end - 1)


def other_names(path: Path, e: Experiment) -> None:
    origin = Recording.load(path).origin
    edited(path, origin=replace(origin, parameters=tuple((f"x{n}", shape) for n, shape in origin.parameters)))


def other_data(path: Path, e: Experiment) -> None:
    edited(path, origin=replace(Recording.load(path).origin, data_digest="0" * 64))


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (another_student, r"student 'bob' instead of 'short', seed 5 instead of"),
        (no_experiment, "a loop that follows no experiment"),
        (one_byte, "altered .*; nothing can go on from it"),
        (half, "cut off .*; nothing can go on from it"),
        (one_checkpoint_fewer, "has not the checkpoints of its experiment"),
        (shifted_epochs, "has not the checkpoints of its experiment"),
        (other_names, "other parameters or data"),
        (other_data, "other parameters or data"),
    ],
)
def test_what_nothing_can_go_on_from_is_one_sentence_and_stays(short, tmp_path, mistake, words: str) -> None:
    (path,) = cut_off([short], tmp_path, 2)
    mistake(path, short)
    before = path.read_bytes()
    with pytest.raises(RecordingError, match=words) as refused:
        train(short, path, device="cpu", progress=False, resume=True)
    assert "leave resume out" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert path.read_bytes() == before


def test_a_forged_start_goes_on_and_is_found_by_the_audit(short, tmp_path) -> None:
    """Whoever writes digests that fit can have anything go on; then the recording does not follow from its start."""
    (path,) = cut_off([short.replace(epochs=6)], tmp_path, 3)
    r = Recording.load(path)
    moved = r.checkpoint_parameters.copy()
    moved[-1] += 0.01
    edited(path, checkpoint_parameters=moved)
    e = short.replace(epochs=6)
    found = train(e, path, device="cpu", progress=False, resume=True)
    assert audit(found, e, stretches_of(found)).findings


@pytest.mark.parametrize("epochs", [0, 1])
def test_nothing_to_go_on_from_is_a_beginning(short, tmp_path, epochs: int, monkeypatch) -> None:
    path = tmp_path / "run"
    if epochs:  # interrupted within the first epoch
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
        try:
            with monkeypatch.context() as patched:
                patched.setattr("labkit.dense.Stack.step", lambda *_: signal.raise_signal(signal.SIGINT))
                with pytest.raises(Interrupted):
                    train(short, path, device="cpu", progress=False)
        finally:
            signal.signal(signal.SIGINT, before)
        assert Recording.load(path).epochs == 0
    assert same(
        train(short, path, device="cpu", progress=False, resume=True), train(short, device="cpu", progress=False)
    )


def test_torchs_random_state_is_not_moved(short, tmp_path) -> None:
    (path,) = cut_off([short], tmp_path, 2)
    before = torch.get_rng_state()
    train(short, path, device="cpu", progress=False, resume=True)
    assert torch.equal(torch.get_rng_state(), before)
