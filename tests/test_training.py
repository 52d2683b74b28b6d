"""Does `train` do what the plain loop does, and keep what it recorded whatever happens?"""

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from labkit import data, memory, networks, optimizers
from labkit.experiments import ExperimentError, experiment
from labkit.recorder import Recorder, tensors
from labkit.recording import ARRAYS, Recording
from labkit.replay import replay
from labkit.training import Interrupted, _groups, train, train_many


def by_autograd(e) -> Recording:
    """The same experiment by PyTorch's autograd and PyTorch's optimiser."""
    images, labels, _ = tensors(e)
    network = networks.of_experiment(e)
    own = {"adam": {"eps": e.epsilon}, "rmsprop": {"eps": e.epsilon, "alpha": 0.9}, "sgd": {}}[e.optimizer]
    kind = {"adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop, "sgd": torch.optim.SGD}[e.optimizer]
    optimizer = kind(network.parameters(), e.learning_rate, **own)
    recorder = Recorder(network, optimizer, e)
    for epoch in range(e.epochs):
        for indices in data.batches(e.observations, e.batch_size, e.seed, epoch)[: e.batches]:
            optimizer.zero_grad()
            outputs = network(images[indices])
            if e.widths[-1] == 1:
                loss = binary_cross_entropy_with_logits(outputs[:, 0], labels[indices].to(outputs))
            else:
                loss = cross_entropy(outputs, labels[indices])
            loss.backward()
            factor = optimizers.clip(e, network.parameters())
            optimizer.step()
            recorder.step(loss, factor)
        recorder.end_epoch()
    return recorder.recording()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activation": "sigmoid"},
        {"activation": "tanh", "widths": (784, 7, 10)},
        {"activation": "leaky_relu", "initialisation": "he_normal"},
        {"activation": "linear", "optimizer": "sgd", "learning_rate": 0.05},
        {"optimizer": "sgd", "learning_rate": 0.1, "clip_norm": 0.5},
        {"widths": (784, 10)},
        {"initialisation": "pytorch", "gain": 1.5},
        {"activation": "elu"},
        {"activation": "leaky_relu", "slope": 0.2, "epsilon": 1e-3},
        {"activation": "gelu"},
        {"optimizer": "rmsprop", "epsilon": 1e-3},
        {"clip_each": 0.05},
        {"clip_value": 0.005},
        {"data": "circles", "widths": (2, 5, 5, 1), "activation": "tanh"},
        {"batches": 2},
    ],
)
def test_everything_recorded_is_what_autograd_gives(short, changes: dict) -> None:
    e = short.replace(dtype="float64", **changes)
    ours, theirs = train(e, device="cpu", progress=False), by_autograd(e)
    for name in ARRAYS:
        a, b = getattr(ours, name), getattr(theirs, name)
        assert a.shape == b.shape, name
        if name.endswith("counts"):
            assert np.abs(a - b).sum() <= 4, name  # a value on an edge may fall to either side
        else:
            scale = np.abs(b).max() if b.size else 0.0
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-10 * scale, err_msg=name)
    assert ours.origin.layers == theirs.origin.layers
    assert ours.origin.parameters == theirs.origin.parameters
    assert ours.origin.data_digest == theirs.origin.data_digest


def test_side_by_side_gives_the_runs_that_each_would_have_alone(runs, ada) -> None:
    for name, e in ada.items():
        few = e.replace(epochs=2)
        alone = train(few, device="cpu", progress=False)
        n = alone.iterations
        together = runs[name]
        np.testing.assert_allclose(together.loss[:n], alone.loss, rtol=1e-4)
        spread = alone.statistic("sd")
        off = np.abs(together.statistic("abs_mean")[:n] - alone.statistic("abs_mean"))
        assert (off <= 1e-3 * spread).all()


def test_the_order_of_the_experiments_is_kept(short) -> None:
    names = ["sigmoid", "relu", "tanh", "relu"]
    made = train_many([short.replace(activation=name, name=name) for name in names], device="cpu", progress=False)
    assert [r.name for r in made] == names
    np.testing.assert_array_equal(made[1].loss, made[3].loss)
    assert not np.array_equal(made[0].loss, made[1].loss)


@pytest.mark.parametrize(
    ("seeds", "of_cpu", "of_gpu"),
    [
        ([1, 2, 3, 4], [0, 2, 1, 3], [0, 2, 1, 3]),  # nobody shares a mini-batch: one activation after the other
        ([7, 7, 5, 5], [2, 3, 0, 1], [2, 0, 3, 1]),  # on a CPU those who share go together
        ([7, 7, 1, 7], [0, 1, 3, 2], [2, 0, 1, 3]),
    ],
)
def test_neighbours_share_mini_batches_or_an_activation(short, seeds, of_cpu, of_gpu, monkeypatch) -> None:
    """Relu, sigmoid, relu, sigmoid."""
    monkeypatch.setattr(memory, "free", lambda device: 2**33)
    four = [short.replace(activation=("relu", "sigmoid")[k % 2], seed=seed) for k, seed in enumerate(seeds)]
    for kind, order in (("cpu", of_cpu), ("cuda", of_gpu)):
        assert list(_groups(four, range(4), torch.device(kind), 2**33)) == [order]


def test_the_same_seed_gives_the_same_recording_on_one_machine(short) -> None:
    first, again = (train(short, device="cpu", progress=False) for _ in range(2))
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))


def test_torchs_random_state_is_neither_read_nor_moved(short) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = train(short, device="cpu", progress=False)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    np.testing.assert_array_equal(train(short, device="cpu", progress=False).loss, first.loss)


def test_relu_learns_and_sigmoid_stays_behind(runs) -> None:
    """S1's claim, on our digits: over 80 % training accuracy for ReLU, sigmoid clearly behind."""
    relu, sigmoid = (runs[name].origin.final_accuracy for name in ("relu", "sigmoid"))
    assert relu > 0.8
    assert sigmoid < relu - 0.1
    assert runs["relu"].loss[-40:].mean() < runs["sigmoid"].loss[-40:].mean() / 2
    assert runs["relu"].iterations == 2000
    assert np.diff(runs["relu"].epoch_end).tolist() == [40] * 49


def test_gradients_vanish_towards_the_input_of_the_sigmoid_network_only(runs) -> None:
    ratio = {name: r.statistic("abs_mean")[0, -1] / r.statistic("abs_mean")[0, 0] for name, r in runs.items()}
    assert ratio["sigmoid"] > 30 * ratio["relu"]


def test_a_finished_recording_is_read_and_not_trained_again(short, tmp_path) -> None:
    path = tmp_path / "run.safetensors"
    first = train(short, path, device="cpu", progress=False)
    stamp = path.stat().st_mtime_ns
    assert train(short, path, device="cpu", progress=False).digest == first.digest
    assert path.stat().st_mtime_ns == stamp
    other = train(short.replace(seed=5), path, device="cpu", progress=False)
    assert other.digest != first.digest
    assert path.stat().st_mtime_ns != stamp


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_or_unfinished_file_is_trained_again(short, tmp_path, damage) -> None:
    path = tmp_path / "run.safetensors"
    if damage is None:
        from dataclasses import replace

        part = train(short, device="cpu", progress=False)
        replace(part, origin=replace(part.origin, stopped="interrupted after 3 of 9 iterations")).save(path)
    else:
        path.write_bytes(damage)
    made = train(short, path, device="cpu", progress=False)
    assert made.complete
    assert Recording.load(path).digest == made.digest


@pytest.mark.parametrize("given", [True, False])
def test_an_interrupt_keeps_what_was_recorded_in_a_file_that_says_so(short, tmp_path, monkeypatch, given) -> None:
    monkeypatch.chdir(tmp_path)

    def press_stop(recordings: list[Recording]) -> None:
        if recordings[0].epochs == 2:
            raise KeyboardInterrupt

    path = tmp_path / "run.safetensors" if given else None
    with pytest.raises(
        Interrupted, match="interrupted after 6 of 9 iterations: what was recorded so far is in"
    ) as caught:
        train(short, path, device="cpu", watch=press_stop, progress=False)
    kept = Recording.load(path or tmp_path / "vanishing-relu-interrupted.safetensors")
    assert kept.origin.stopped == "interrupted after 6 of 9 iterations"
    assert not kept.complete
    assert (kept.iterations, kept.epochs) == (6, 2)
    whole = train(short, device="cpu", progress=False)
    np.testing.assert_array_equal(kept.loss, whole.loss[:6])
    assert ".safetensors" in str(caught.value)


@pytest.mark.parametrize("where", ["epoch", "probe", "step", "block"])
def test_an_interrupt_at_any_point_leaves_a_whole_recording(short, tmp_path, monkeypatch, where) -> None:
    """Ctrl-C does not wait for an epoch's end."""
    from labkit.dense import Stack
    from labkit.tape import Tape

    owner = Stack if where == "step" else Tape
    real, calls = getattr(owner, where), []

    def interrupted(self, *arguments):
        calls.append(where)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(owner, where, interrupted)
    monkeypatch.setattr("labkit.memory.BLOCK_ROWS", 2)
    path = tmp_path / "x.safetensors"
    with pytest.raises(Interrupted, match="what was recorded so far is in"):
        train(short, path, device="cpu", progress=False)
    kept = Recording.load(path)
    assert not kept.complete
    assert len(kept.probe_loss) == kept.epochs + 1


@pytest.mark.parametrize("changes", [{}, {"normalisation": "batch"}])
def test_an_interrupt_before_the_first_iteration_keeps_the_start(short, tmp_path, monkeypatch, changes) -> None:
    def press_stop(*_) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("labkit.dense.Stack.gradient", press_stop)
    monkeypatch.setattr("labkit.engines.mean_cross_entropy", press_stop)
    path = tmp_path / "x.safetensors"
    with pytest.raises(Interrupted, match="interrupted after 0 of 9 iterations"):
        train(short.replace(**changes), path, device="cpu", progress=False)
    kept = Recording.load(path)
    assert kept.checkpoint_iteration.tolist() == [0]
    assert (kept.iterations, kept.epochs, len(kept.probe_loss)) == (0, 0, 1)


@pytest.mark.parametrize(("answers", "seen"), [([False, False], [3]), ([True, False], [1, 3]), (None, [1, 2, 3])])
def test_a_watch_sees_the_epochs_that_it_asks_for_and_always_the_last(short, answers, seen) -> None:
    epochs = []

    class Watch:
        def __call__(self, recordings) -> None:
            epochs.append(recordings[0].epochs)

    watch = Watch()
    if answers is not None:
        watch.due = iter(answers).__next__
    train(short, device="cpu", progress=False, watch=watch)
    assert epochs == seen


def test_a_loss_that_is_not_finite_stops_the_run_and_the_recording_keeps_it(tmp_path, capsys) -> None:
    e = experiment("vanishing/exploding", "ada").replace(gain=3.0, observations=600, pool=1000)
    path = tmp_path / "x.safetensors"
    recording = train(e, path, device="cpu", progress=False)
    assert not np.isfinite(recording.loss).all()
    assert recording.origin.stopped == "the loss is not finite since epoch 1"
    assert recording.statistic("nonfinite").sum() > 0
    assert "training stopped, the loss is not finite" in capsys.readouterr().out
    assert Recording.load(path).digest == recording.digest
    # run again it is found, not trained again: the same description comes to the same end
    stamp = path.stat().st_mtime_ns
    train(e, path, device="cpu", progress=False)
    assert path.stat().st_mtime_ns == stamp


def test_clipping_holds_the_norm_and_the_factor_is_recorded() -> None:
    e = experiment("vanishing/exploding", "ada").replace(gain=2.0, clip_norm=1.0, observations=600, pool=1000)
    recording = train(e, device="cpu", progress=False)
    norm = np.sqrt((recording.statistic("norm").astype(np.float64) ** 2).sum(axis=1))
    assert (norm <= 1 + 1e-5).all()
    assert recording.clip_factor.min() < 0.01
    unclipped = train(e.replace(clip_norm=None, epochs=1), device="cpu", progress=False)
    before = recording.statistic("norm")[0] / recording.clip_factor[0]
    np.testing.assert_allclose(before, unclipped.statistic("norm")[0], rtol=1e-5)


@pytest.mark.parametrize("way", [{"clip_norm": 1.0}, {"clip_each": 1.0}, {"clip_value": 1.0}])
def test_a_gradient_of_which_float32_holds_no_square_is_clipped_the_same_by_all(short, way: dict) -> None:
    """22 linear layers, each of which multiplies by 12: the run by hand, autograd's, and the replay in both kinds of
    numbers, of which float64 holds the squares."""
    e = short.replace(widths=(784, *(16,) * 21, 10), activation="linear", gain=12.0, epochs=1, **way)
    ours, theirs = train(e, device="cpu", progress=False), by_autograd(e)
    with np.errstate(over="ignore"):
        first, exact = (replay(ours, [0], 1, e, dtype) for dtype in ("float32", "float64"))
    assert exact.loss[0, 0] > 1e19
    for found in (ours.clip_factor[0], theirs.clip_factor[0], first.clip_factor[0, 0]):
        np.testing.assert_allclose(found, exact.clip_factor[0, 0], rtol=1e-5)
    for found in (ours.gradient[0], theirs.gradient[0], first.gradient[0, 0]):
        np.testing.assert_allclose(found[:, 3], exact.gradient[0, 0, :, 3], rtol=1e-5)
    assert ours.statistic("norm").min() > 0.01


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda e: train_many([e, e], ["one"]), "2 experiments, 1 files"),
        (lambda e: train(e, device="tpu9"), "choose cpu or cuda"),
    ],
)
def test_bad_calls_have_their_sentence(short, call, words: str) -> None:
    with pytest.raises(ExperimentError, match=words):
        call(short)


def test_what_is_no_experiment_and_a_gpu_that_is_not_there_are_named(short) -> None:
    with pytest.raises(ExperimentError, match="'vanishing/relu' is no experiment"):
        train("vanishing/relu")  # type: ignore[arg-type]
    if not torch.cuda.is_available():
        with pytest.raises(ExperimentError, match="torch finds no GPU here"):
            train(short, device="cuda", progress=False)
    with pytest.raises(ExperimentError, match="nothing is trained on 'mps': choose cpu or cuda"):
        train(short, device="mps", progress=False)


def test_a_gpu_beyond_the_last_one_is_named(short, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ExperimentError, match="there is no GPU 'cuda:2', torch finds 2 here"):
        train(short, device="cuda:2", progress=False)
