"""What is asked of a GPU, asked of one that is none: is all on one side, does nothing wait, is nothing frozen?"""

import runpy
import sys
import warnings
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import test_many
import torch
from pretended_gpu import CUDA, Gpu, OnCuda, pretended
from test_many import assert_same, count_steps_in_python, several
from torch import nn

from labkit import Recorder, doctor
from labkit.dense import Stack
from labkit.engines import ByAutograd, SideBySide
from labkit.experiments import Experiment, experiment
from labkit.recording import Recording
from labkit.training import Interrupted, train, train_lightly, train_many

BENCHMARK = Path(__file__).parents[1] / "benchmarks/gpu.py"
ENSEMBLES = {
    "adam, all that may differ": {},
    "sgd, clipped together": {"optimizer": "sgd", "clip_norm": 0.5},
    "rmsprop, each clipped": {"optimizer": "rmsprop", "clip_each": 0.1},
    "values clipped": {"clip_value": 0.01},
}
ALONE = {
    **{name: {"activation": name} for name in ("relu", "sigmoid", "tanh", "leaky_relu", "elu", "linear")},
    "two classes": {"data": "circles", "widths": (2, 6, 6, 1)},
}
BY_AUTOGRAD = {
    "gelu": {"activation": "gelu"},
    "silu": {"activation": "silu", "clip_value": 0.001},
    "batch normalisation": {"normalisation": "batch", "data": "circles", "widths": (2, 6, 6, 1)},
    "layer normalisation": {"normalisation": "layer", "clip_each": 0.1},
    "residual": {"normalisation": "layer", "residual": True, "widths": (784, 8, 8, 8, 8, 10)},
}


def of(short: Experiment, name: str) -> Experiment:
    """A run of a few iterations, with a partial last mini-batch."""
    if name in ("rnn", "lstm", "gru"):
        return experiment(f"recurrent/{name}").replace(observations=120, epochs=1, clip_norm=0.5)
    if name == "images":
        few = {"data": "digits", "observations": 120, "pool": 1000, "epochs": 1, "batches": None}
        return experiment("exploding/residual_conv").replace(**few, widths=(1, 4, 4, 4, 8, 8, 8, 8, 10))
    return short.replace(**(ALONE | BY_AUTOGRAD)[name], epochs=2)


def same(ours: Recording, theirs: Recording) -> None:
    """The same numbers from the same kernels, but for statistics, which a GPU takes in other sums."""
    assert ours.origin.device == "cuda (pretended)"
    assert_same(replace(ours, origin=replace(ours.origin, device="cpu")), theirs, rtol=1e-9)


def on_both(e: Experiment) -> tuple[Gpu, Recording, Recording]:
    e = e.replace(dtype="float64")
    with pretended() as gpu, warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = train(e, progress=False)  # a GPU that is there is taken
    return gpu, ours, train(e, device="cpu", progress=False)


@pytest.mark.parametrize("changes", ENSEMBLES.values(), ids=ENSEMBLES)
def test_an_ensemble_on_a_gpu_is_the_one_on_the_processor(short, changes) -> None:
    many = several(short, dtype="float64", **changes)
    with pretended() as gpu, warnings.catch_warnings():
        warnings.simplefilter("error")
        found = train_many(many, device="cuda", progress=False)
    assert len(gpu.graphs) == 1
    for ours, theirs in zip(found, train_many(many, device="cpu", progress=False), strict=True):
        same(ours, theirs)


@pytest.mark.parametrize("name", ALONE)
def test_a_network_on_a_gpu_is_the_one_on_the_processor(short, name) -> None:
    gpu, ours, theirs = on_both(of(short, name))
    assert len(gpu.graphs) == 1
    same(ours, theirs)


@pytest.mark.parametrize("name", [*BY_AUTOGRAD, "rnn", "lstm", "gru", "images"])
def test_a_network_left_to_autograd_is_the_same_on_a_gpu(short, name) -> None:
    gpu, ours, theirs = on_both(of(short, name))
    assert not gpu.graphs
    same(ours, theirs)


def test_a_network_that_breaks_down_leaves_the_graphs_to_the_others(short) -> None:
    rates = enumerate((0.1, 1e200, 0.01))
    many = [short.replace(optimizer="sgd", epochs=4, dtype="float64", learning_rate=r, seed=k) for k, r in rates]
    with pretended() as gpu:
        found = train_many(many, device="cuda", progress=False)
    assert [bool(ours.origin.stopped) for ours in found] == [False, True, False]
    assert len(gpu.graphs) == 1
    for ours, theirs in zip(found, train_many(many, device="cpu", progress=False), strict=True):
        same(ours, theirs)


@pytest.mark.parametrize("changes", [{}, {"normalisation": "layer"}])
def test_what_was_cut_off_on_a_gpu_goes_on_there(short, tmp_path, changes) -> None:
    e, seen = short.replace(epochs=5, dtype="float64", **changes), []

    def press_stop(recordings: list[Recording]) -> None:
        seen.append(recordings)
        if len(seen) == 2:
            raise KeyboardInterrupt

    path = tmp_path / "run.safetensors"
    with pretended():
        with pytest.raises(Interrupted):
            train(e, path, watch=press_stop, progress=False)
        ours = train(e, path, resume=True, progress=False)
    same(ours, train(e, device="cpu", progress=False))


def test_what_maps_are_made_of_and_the_doctor_take_a_gpu(short) -> None:
    with pretended() as gpu:
        light = train_lightly(several(short, dtype="float64"))
        assert [(found.fine, found.found) for found in doctor.gpu()] == [(True, "pretended")]
    assert len(gpu.graphs) == 1
    for ours, theirs in zip(light, train_lightly(several(short, dtype="float64"), device="cpu"), strict=True):
        same(ours, theirs)


@pytest.mark.parametrize("changes", ENSEMBLES.values(), ids=ENSEMBLES)
def test_no_launch_of_an_ensemble_waits(short, changes) -> None:
    """Everything that waits does so a number of times that neither networks nor iterations change."""

    def waits(count: int, batches: int) -> dict[tuple[str, str], int]:
        with pretended() as gpu:
            e = short.replace(observations=128 * batches, **changes)
            train_many(several(e) * count, device="cuda", progress=False)
        return dict(gpu.waits)

    assert waits(1, 2) == waits(2, 5)


@pytest.mark.parametrize(
    ("changes", "waited"), [({}, 0), ({"clip_norm": 0.5}, 1), ({"clip_each": 0.1}, 1), ({"clip_value": 0.01}, 2)]
)
def test_an_iteration_by_autograd_waits_for_norms_alone(short, changes, waited) -> None:
    e = short.replace(normalisation="layer", **changes)
    with pretended() as gpu:
        engine = ByAutograd(e, CUDA)
        engine.epoch(0)
        gpu.waits.clear()
        engine.epoch(1)
    asked = {key: count for key, count in gpu.waits.items() if key[1].startswith("optimizers.")}
    assert sum(asked.values()) == waited * e.iterations_per_epoch
    assert max(count for key, count in gpu.waits.items() if key not in asked) < e.iterations_per_epoch


PLANTED = {
    "a tensor of the processor": (lambda stack: stack.losses.add_(torch.ones(len(stack.losses), 1)), "same device"),
    "an array of what is there": (lambda stack: np.asarray(stack.losses), "Tensor.cpu"),
}
WAITING = {
    "a number that is read": lambda stack: float(stack.losses[0, 0]),
    "a list that is read": lambda stack: stack.losses.tolist(),
    "places that are counted": lambda stack: stack.losses.nonzero(),
    "a mask": lambda stack: stack.losses[stack.losses > 0],
    "a number that is sent": lambda stack: stack.losses.add_(torch.tensor(0.0, device=stack.device)),
}


def plant(monkeypatch, mistake) -> None:
    real = Stack.step
    monkeypatch.setattr(Stack, "step", lambda self, row: (real(self, row), mistake(self)))


@pytest.mark.parametrize(("mistake", "words"), PLANTED.values(), ids=PLANTED)
def test_what_a_gpu_refuses_is_refused(short, monkeypatch, mistake, words) -> None:
    plant(monkeypatch, mistake)
    train(short, device="cpu", progress=False)
    with pretended(), pytest.raises((RuntimeError, TypeError), match=words):
        train(short, device="cuda", progress=False)


@pytest.mark.parametrize("mistake", WAITING.values(), ids=WAITING)
def test_what_waits_breaks_a_capture_and_the_training_goes_on_without(short, monkeypatch, mistake) -> None:
    """On the stream that was the current one before, as other trainings after it."""
    plant(monkeypatch, mistake)
    e = short.replace(dtype="float64")
    with pretended() as gpu:
        with pytest.warns(UserWarning, match="this GPU captures no graph.*not permitted when stream is capturing"):
            ours = train(e, device="cuda", progress=False)
        assert gpu.stream == "default"
    assert not gpu.graphs
    assert sum(gpu.waits.values()) > e.iterations
    same(ours, train(e, device="cpu", progress=False))


@pytest.mark.parametrize("mistake", [WAITING["a number that is read"], lambda stack: None])
def test_with_or_without_graphs_a_training_leaves_the_gpu_to_the_next(short, monkeypatch, mistake) -> None:
    """At once: how many networks go together was planned before."""
    plant(monkeypatch, mistake)
    real, made = SideBySide.__init__, []

    def noted(self, *arguments) -> None:
        made.append(weakref.ref(self))
        real(self, *arguments)

    monkeypatch.setattr(SideBySide, "__init__", noted)
    with pretended(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(short, device="cuda", progress=False)
        assert [engine() for engine in made] == [None]


def test_a_number_that_is_frozen_in_a_graph_shows(short, monkeypatch) -> None:
    plain = train(short, device="cpu", progress=False)
    count_steps_in_python(monkeypatch)
    with pretended():
        found = train(short, device="cuda", progress=False)
    assert np.abs(found.loss - plain.loss).max() > 1e-4


def test_all_captures_of_a_gpu_share_a_stream(short) -> None:
    """cuBLAS keeps a workspace of up to 32 MiB for every stream that it has seen."""
    with pretended() as gpu:
        for seed in range(3):
            train(short.replace(seed=seed), device="cuda", progress=False)
    assert (len(gpu.graphs), len(gpu.streams)) == (3, 1)


class Words(nn.Module):
    """What a student may write: torch's own recurrent layer, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 7, num_layers=2, dropout=0.5, batch_first=True)
        self.tanh, self.out = nn.Tanh(), nn.Linear(7, 3)

    def forward(self, sequences: torch.Tensor) -> torch.Tensor:
        return self.out(self.tanh(self.lstm(sequences)[0][:, -1]))


def test_cudnns_recurrent_layers_can_be_recorded() -> None:
    """It differentiates them in training mode alone, and the probe batch wants a network without dropout."""
    torch.manual_seed(0)
    sequences, labels, weights = torch.randn(20, 4, 5), torch.arange(20) % 3, Words().state_dict()

    def recorded(device: str) -> Recording:
        network = Words()
        network.load_state_dict(weights)
        network.to(device)
        if device == "cpu":
            network.eval()  # what the probe batch shows is the same in both modes
        recorder = Recorder(network, probe=(sequences.to(device), labels.to(device)))
        assert (network.lstm.training, network.lstm.dropout) == (device != "cpu", 0.5)
        return recorder.recording()

    there = recorded("cpu")
    with pretended():
        ours = recorded("cuda")
    np.testing.assert_array_equal(ours.probe_loss, there.probe_loss)
    network = Words()
    network.load_state_dict(weights)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(network.eval()(sequences), labels)
    np.testing.assert_allclose(ours.probe_loss, [float(loss)], rtol=1e-6)


MARKED = [
    (test_many.test_a_gpus_recordings_are_honest_to_a_replay_on_the_processor, ()),
    (test_many.test_a_gpus_graphs_train_as_its_launches_do, (pytest.MonkeyPatch, {"clip_norm": 0.5})),
    (test_many.test_no_iteration_on_a_gpu_waits, ()),
]


@pytest.mark.parametrize(("test", "rest"), MARKED)
def test_what_is_tested_on_a_gpu_runs(short, test, rest) -> None:
    with pretended(), pytest.MonkeyPatch.context() as patch:
        test(short, *(patch if one is pytest.MonkeyPatch else one for one in rest))


def test_graphs_that_are_not_captured_fail_their_test_on_a_gpu(short, monkeypatch) -> None:
    plant(monkeypatch, WAITING["a number that is read"])
    with pretended(), pytest.raises(UserWarning, match="captures no graph"):
        test_many.test_a_gpus_graphs_train_as_its_launches_do(short, monkeypatch, {})


def test_what_is_measured_on_a_gpu_runs(short, monkeypatch, capsys) -> None:
    monkeypatch.setattr("labkit.experiment", lambda _: short)
    asks_the_driver = "_accelerator_graph_capture_health_check"
    monkeypatch.setattr(torch.optim.Optimizer, asks_the_driver, lambda self: None)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--networks", "3", "--epochs", "2", "--rounds", "1"])
    with pretended() as gpu:
        runpy.run_path(str(BENCHMARK), run_name="__main__")
    said = capsys.readouterr().out
    assert "train, everything recorded, graphs" in said
    assert "3 networks, each with its own seed" in said
    assert gpu.graphs


def test_a_tensor_of_the_pretended_gpu_says_where_it_is() -> None:
    with pretended():
        tensor = torch.zeros(2, device="cuda")
        assert isinstance(tensor[0], OnCuda)
        assert (tensor.is_cuda, str(tensor.device), str(tensor.cpu().device)) == (True, "cuda:0", "cpu")
