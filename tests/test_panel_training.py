"""Does the live view send what the recording holds, in the figures' words, and does a stop keep everything?"""

import json
from dataclasses import replace

import nbformat
import numpy as np
import pytest
import torch
from jupyter_client.manager import start_new_kernel
from jupyter_client.session import json_packer
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from test_plots import recorded, texts
from test_recorder import loop

import labkit
from labkit import live, networks, plots
from labkit.experiments import experiment
from labkit.interrupts import file_of
from labkit.live import LiveTraining
from labkit.panels.training import News, beginning
from labkit.plots.distributions import histograms
from labkit.plots.gains import expected_gains, measured_gains
from labkit.plots.words import chosen
from labkit.recorder import Recorder
from labkit.recording import ARRAYS, Recording
from labkit.training import Interrupted, train, train_many


class Browser:
    """Takes the messages of a widget as JupyterLab does, and keeps them as training.js does."""

    def __init__(self):
        self.state, self.closed, self.read = {}, False, 0

    def create(self, *, data=None, buffers=None, **_):
        self.publish(data, buffers or [])
        self.comm_id, self.kernel = "x", None
        return self

    def send(self, data=None, metadata=None, buffers=None):
        self.publish(data, buffers or [])

    def on_msg(self, _):
        pass

    def close(self, *_, **__):
        self.closed = True

    def publish(self, data, buffers):
        told = json.loads(json_packer(data))
        for path, buffer in zip(told["buffer_paths"], buffers, strict=True):
            *way, last = path
            place = told["state"]
            for step in way:
                place = place[step]
            place[last] = bytes(buffer)
        self.state.update(told["state"])

    @property
    def parts(self):
        return [self.state[f"part_{k}"] for k in range(1, 1 + sum(name.startswith("part_") for name in self.state))]

    def story(self, network):
        """loss, counts and edges of one network, put together from the parts."""
        said = self.state["start"]["networks"][network]
        shape = (-1, len(said["shown"]))
        loss, counts, edges = np.zeros(0, "<f4"), np.zeros((0, *shape[1:], said["bins"])), np.zeros((0, *shape[1:], 2))
        for part in self.parts:
            sent = part["networks"][network]
            loss = np.append(loss[: part["at"]], np.frombuffer(sent["loss"], "<f4"))
            more = np.frombuffer(sent["counts"], "<i4").reshape(*shape, said["bins"])
            counts = np.concatenate([counts[: part["row"]], more])
            more = np.frombuffer(sent["edges"], "<f8").reshape(*shape, 2)
            edges = np.concatenate([edges[: part["row"]], more])
        return loss, counts, edges

    def sizes(self, network, part, name="sizes"):
        return np.frombuffer(self.parts[part]["networks"][network][name], "<f8")


@pytest.fixture
def front(ipython, tmp_path, monkeypatch):
    """A notebook's kernel with a front end; what it was shown, and the browser's state of the widget."""
    monkeypatch.chdir(tmp_path)
    shell = ipython(looked_at=True)
    shell.browsers = []

    def create(**message):
        made = Browser().create(**message)
        if "start" in made.state:  # the others are models of the widget's layout
            shell.browsers.append(made)
        return made

    monkeypatch.setattr("ipywidgets.widgets.widget.comm.create_comm", create)
    monkeypatch.setattr(plots.LabFigure.png, "__defaults__", (48,))
    return shell


@pytest.fixture
def often(monkeypatch):
    """Every epoch is looked at, whatever it costs."""
    monkeypatch.setattr(live, "SHARE", 1e9)


def agrees(browser: Browser, recordings: list[Recording], source: str) -> bool:
    """Is what was sent what the recordings hold, number by number?"""
    for k, recording in enumerate(recordings):
        loss, counts, edges = browser.story(k)
        rows = [histograms(recording, source, layer) for layer in chosen(len(recording.layers), 9)]
        same = np.array_equal(loss, recording.loss, equal_nan=True)
        same = same and np.array_equal(counts, np.stack([c for _, _, c in rows], 1))
        if not (same and np.array_equal(edges, np.stack([e for _, e, _ in rows], 1), equal_nan=True)):
            return False
    return True


@pytest.mark.parametrize("source", ["batch", "probe"])
def test_what_was_sent_is_what_the_saved_recordings_hold(front, often, short, tmp_path, source):
    pair = [short.replace(activation=name, name=name, epochs=5) for name in ("relu", "sigmoid")]
    files = [tmp_path / name for name in ("relu", "sigmoid")]
    train_many(pair, files, device="cpu", watch=LiveTraining(source, seconds=0))
    saved = [Recording.load(path) for path in files]
    (browser,) = front.browsers
    assert len(browser.parts) == 6  # one for each epoch, and one at the end, which has nothing new
    assert agrees(browser, saved, source)
    for k, recording in enumerate(saved):
        np.testing.assert_allclose(browser.sizes(k, 0, "first"), measured_gains(recording, 0), rtol=1e-9)
        for part in range(5):
            at = int(np.flatnonzero(recording.checkpoint_iteration == recording.epoch_end[part])[0])
            np.testing.assert_allclose(browser.sizes(k, part), measured_gains(recording, at), rtol=1e-9)
        assert browser.state["start"]["networks"][k]["expected"] == expected_gains(pair[k]).tolist()
    assert browser.closed


def skips_an_epoch(part):
    part["networks"][0]["counts"] = part["networks"][0]["counts"][:-4] + b"\x07\0\0\0"


def swaps(part):
    part["networks"].reverse()


def loses_a_loss(part):
    part["at"] -= 1


def moves_an_edge(part):
    part["networks"][1]["edges"] = part["networks"][1]["edges"][8:] + part["networks"][1]["edges"][:8]


@pytest.mark.parametrize("mistake", [skips_an_epoch, swaps, loses_a_loss, moves_an_edge])
def test_a_planted_mistake_in_what_is_sent_is_caught(front, often, short, mistake):
    pair = [short.replace(activation=name, name=name) for name in ("relu", "sigmoid")]
    made = train_many(pair, device="cpu", watch=LiveTraining(seconds=0))
    (browser,) = front.browsers
    assert agrees(browser, made, "batch")
    mistake(browser.parts[1])
    assert not agrees(browser, made, "batch")


def test_wider_bins_of_the_probe_batch_are_all_sent_again():
    small, wide = recorded(epochs=2), recorded(epochs=3)
    news = News("probe")
    assert news.since([small])["row"] == 0
    assert news.since([wide])["row"] == 3  # before training, and after two epochs
    wider = replace(wide, probe_range=2 * wide.probe_range)
    assert news.since([wider])["row"] == 0


def test_the_words_are_those_of_the_figures(runs):
    pair = [runs["relu"], runs["sigmoid"]]
    said = beginning(pair, "batch")
    falls = [set(texts(plots.gradient_distributions(recording))) for recording in pair]
    for network, words in zip(said["networks"], falls, strict=True):
        assert {network["heading"], *network["tiles"], *said["axes"]} <= words
    (part,) = [News().since(pair)]
    assert all(one["what"] in words for one, words in zip(part["networks"], falls, strict=True))
    assert [one["spread"] for one in part["networks"]] == [plots.gradient_distributions(r).alt_text for r in pair]
    losses = set(texts(plots.losses(pair)))
    assert {said["loss"][name] for name in ("title", "caption", "x", "y")} <= losses
    gains = set(texts(plots.gain_per_layer(pair)))
    assert {said["gains"][name] for name in ("title", "x", "y", "band", "neither")} <= gains
    assert {network["label"] for network in said["networks"]} <= gains & losses
    assert not {network["label"] for network in beginning(pair[:1], "batch")["networks"]} - gains


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 1},
        {"learning_rate": 1e30, "optimizer": "sgd"},
        {"widths": (784, *[10] * 20, 10)},
        {"widths": (784, 10)},
        {"name": "<b>$x_1$</b>/../\x00😀" * 20},
        {"normalisation": "batch"},
        {"data": "circles", "widths": (2, 5, 5, 1), "activation": "tanh"},
        {"batches": 1},
        "recurrent",
    ],
)
def test_every_kind_of_run_is_shown_to_its_end(front, often, short, changes, tmp_path):
    e = _recurrent() if changes == "recurrent" else short.replace(**changes)
    view = LiveTraining(seconds=0)
    made = train(e, device="cpu", watch=view)
    assert view.problem == ""
    (browser,) = front.browsers
    assert agrees(browser, [made], "batch")
    last = front.display_pub.outputs[-1]
    assert last["update"]
    assert last["data"]["text/plain"] == view.figure().alt_text
    assert 'alt="' in last["data"]["text/html"]


def _recurrent():
    from labkit.catalogue import EXPERIMENTS

    name = next(name for name, e in EXPERIMENTS.items() if e.architecture == "lstm")
    return experiment(name, "ada").replace(epochs=2, observations=300, batches=2)


@pytest.mark.parametrize("architecture", ["mlp", "by autograd"])
def test_watching_changes_nothing_bit_for_bit(front, often, short, architecture):
    e = short if architecture == "mlp" else short.replace(normalisation="layer")
    watched = train(e, device="cpu", watch=LiveTraining(seconds=0))
    alone = train(e, device="cpu", progress=False)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(watched, name), getattr(alone, name), err_msg=name)


def test_watching_a_loop_of_ones_own_changes_nothing_bit_for_bit(front, often, short):
    made = []
    for watch in (LiveTraining(seconds=0), None):
        network = networks.of_experiment(short)
        optimizer = torch.optim.Adam(network.parameters(), short.learning_rate)
        recorder = Recorder(network, optimizer, short, watch=watch)
        loop(network, optimizer, short, recorder)
        made.append((recorder.recording(), [p.detach().clone() for p in network.parameters()]))
    (watched, weights), (alone, others) = made
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(watched, name), getattr(alone, name), err_msg=name)
    assert all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))
    (browser,) = front.browsers
    assert agrees(browser, [watched], "batch")
    assert browser.closed
    front.events.trigger("post_run_cell", None)


def test_a_loop_without_an_experiment_ends_with_its_cell(front, often, short):
    network = networks.of_experiment(short)
    optimizer = torch.optim.Adam(network.parameters(), short.learning_rate)
    recorder = Recorder(network, optimizer, watch=LiveTraining(seconds=0))
    loop(network, optimizer, short, recorder)
    (browser,) = front.browsers
    assert (browser.closed, browser.state["start"]["iterations"]) == (False, None)
    front.events.trigger("post_run_cell", None)
    assert browser.closed
    assert "image/png" in front.display_pub.outputs[-1]["data"]
    assert not [f for f in front.events.callbacks["post_run_cell"] if "_Loop" in repr(f)]


def test_what_goes_wrong_in_the_view_does_not_end_the_training(front, often, short, monkeypatch):
    monkeypatch.setattr(News, "since", lambda *_: 1 / 0)
    view = LiveTraining(seconds=0)
    made = train(short, device="cpu", watch=view)
    assert made.complete
    assert "ZeroDivisionError" in view.problem
    told = [output["data"]["text/plain"] for output in front.display_pub.outputs]
    assert told[1] == view.problem
    assert "Gradient distributions" in told[-1]


def test_a_training_that_dies_leaves_its_figure_and_its_error(front, often, short, monkeypatch):
    from labkit.dense import Stack

    real, calls = Stack.step, []

    def breaks(self, *arguments):
        calls.append(1)
        if len(calls) == 8:
            raise MemoryError("no room")
        return real(self, *arguments)

    monkeypatch.setattr(Stack, "step", breaks)
    with pytest.raises(MemoryError, match="no room"):
        train(short, device="cpu", watch=LiveTraining(seconds=0))
    assert "after epoch 2" in front.display_pub.outputs[-1]["data"]["text/plain"]
    assert front.browsers[0].closed


def test_an_interrupt_before_the_first_epoch_says_that_there_is_nothing_to_draw(front, short, monkeypatch):
    from labkit.dense import Stack

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Stack, "step", interrupted)
    with pytest.raises(Interrupted, match=r"read it with labkit\.Recording\.load\("):
        train(short, device="cpu", watch=LiveTraining())
    assert "no epoch ended" in front.display_pub.outputs[-1]["data"]["text/plain"]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("vanishing/relu", "vanishing-relu-interrupted.safetensors"),
        ("../../etc/x", "etc-x-interrupted.safetensors"),
        ("a\x00b\n$", "a-b-interrupted.safetensors"),
        ("///", "recording-interrupted.safetensors"),
        ("x" * 500, "x" * 80 + "-interrupted.safetensors"),
    ],
)
def test_an_interrupted_run_has_a_harmless_file_name(short, name, kept):
    recording = recorded()
    assert file_of(replace(recording, origin=replace(recording.origin, experiment=short.replace(name=name)))) == kept


@pytest.mark.slow
def test_a_notebook_without_a_front_end_is_left_clean():
    code = """
import labkit
pair = [labkit.experiment(f"vanishing/{name}", student="ada").replace(epochs=3) for name in ("relu", "sigmoid")]
recordings = labkit.train_many(pair, watch=labkit.LiveTraining())
"""
    notebook = new_notebook(cells=[new_code_cell(code)])
    NotebookClient(notebook, kernel_name="python3", timeout=120).execute()
    saved = nbformat.reads(nbformat.writes(notebook), 4)
    assert "widgets" not in saved.metadata
    bar, figure = saved.cells[0].outputs
    assert bar.data["text/plain"].startswith("relu + sigmoid |██████████| 120/120")
    assert "Gradient distributions of the ReLU network" in figure.data["text/plain"]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """A kernel, and a client that says it has a front end."""
    folder = tmp_path_factory.mktemp("kernel")
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(folder))
    yield folder, manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def stopped_in_the_middle(kernel, code):
    """Run code, interrupt it after three looks; its error, the last display and whether the widget was closed."""
    _, manager, client = kernel
    asked, looks, error, shown, closed = client.execute(code, allow_stdin=True), 0, None, {}, False
    while True:
        message = client.get_iopub_msg(timeout=120)
        if message["parent_header"].get("msg_id") != asked:
            continue
        kind, content = message["msg_type"], message["content"]
        looks += kind == "comm_msg"
        if looks == 3 and kind == "comm_msg":
            manager.interrupt_kernel()
            manager.interrupt_kernel()  # who is impatient presses twice
        if kind == "error":
            error = content
        if kind == "update_display_data":
            shown = content["data"]
        closed = closed or kind == "comm_close"
        if content.get("execution_state") == "idle":
            return error, shown, closed


START = """
import torch, labkit
from labkit import live
torch.set_num_threads(1)
live.SHARE = 1e9
e = labkit.experiment("vanishing/relu", "ada").replace(epochs=5000)
"""
OWN = """
from torch.nn.functional import cross_entropy
from labkit import data, networks
from labkit.recorder import tensors
own = e.replace(name="own")
images, labels, _ = tensors(own)
network = networks.of_experiment(own)
optimizer = labkit.Adam(network.parameters(), own.learning_rate)
recorder = labkit.Recorder(network, optimizer, own, watch=labkit.LiveTraining(seconds=0.1))
for epoch in range(own.epochs):
    for indices in data.epoch_batches(own, epoch):
        chosen = torch.from_numpy(indices)
        optimizer.zero_grad()
        loss = cross_entropy(network(images[chosen]), labels[chosen])
        loss.backward()
        optimizer.step()
        recorder.step(loss)
    recorder.end_epoch()
"""


@pytest.mark.parametrize(
    ("code", "file"),
    [
        ("labkit.train(e, watch=labkit.LiveTraining(seconds=0.1))", "vanishing-relu-interrupted.safetensors"),
        (OWN, "own-interrupted.safetensors"),
    ],
    ids=["train", "own"],
)
def test_a_real_stop_in_the_middle_keeps_what_the_whole_run_has(kernel, code, file):
    error, shown, closed = stopped_in_the_middle(kernel, START + code)
    assert error["ename"] == "Interrupted"
    (told,) = error["traceback"]
    assert told.startswith("Interrupted after ")
    assert f"labkit.Recording.load('{file}')" in told
    assert "image/png" in shown
    assert closed
    kept = Recording.load(kernel[0] / file)
    assert kept.epochs >= 3
    assert "interrupted after" in kept.origin.stopped
    assert not list(kernel[0].glob("*.tmp*"))
    rows, epochs = int(kept.epoch_end[-1]), kept.epochs
    e = kept.origin.experiment.replace(epochs=epochs)
    assert file != "own-interrupted.safetensors" or kept.name == "own"
    whole = train(e, device="cpu", progress=False) if file != "own-interrupted.safetensors" else _by_hand(e)
    for name in ("loss", "gradient", "update_norm", "weight_norm"):
        np.testing.assert_array_equal(getattr(kept, name)[:rows], getattr(whole, name), err_msg=name)
    for name in ("batch_counts", "batch_range", "accuracy", "probe_loss"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(whole, name), err_msg=name)


def _by_hand(e):
    """OWN without a view, here."""
    space = {"e": e.replace(name="own"), "torch": torch, "labkit": labkit}
    exec(OWN.replace("watch=labkit.LiveTraining(seconds=0.1)", ""), space)
    return space["recorder"].recording()
