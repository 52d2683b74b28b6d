"""Does the command line say the same things as the library, in one sentence when something is wrong?"""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from labkit import cli
from labkit.catalogue import EXPERIMENTS
from labkit.experiments import experiment
from labkit.recording import Recording
from labkit.training import train


@pytest.fixture
def run():
    runner = CliRunner()
    return lambda *arguments: runner.invoke(cli.main, [str(a) for a in arguments])


def test_run_trains_both_networks_and_saves_them(run, tmp_path: Path) -> None:
    done = run(
        "run", "vanishing/relu", "vanishing/sigmoid", "--student", "ada", "--epochs", 1, "--out", tmp_path / "new"
    )
    assert done.exit_code == 0, done.output
    for name in ("relu", "sigmoid"):
        recording = Recording.load(tmp_path / "new" / f"vanishing-{name}.safetensors")
        assert recording.origin.experiment == experiment(f"vanishing/{name}", "ada").replace(epochs=1)
        assert f"vanishing-{name}.safetensors: 40 iterations, ran to its end" in done.output


def test_list_has_every_experiment_below_where_it_was_published(run) -> None:
    lines = run("list").output.splitlines()
    families = [line.partition(":")[0] for line in lines if not line.startswith(" ")]
    assert families == list(dict.fromkeys(name.partition("/")[0] for name in EXPERIMENTS))
    assert [line.split()[0] for line in lines if line.startswith(" ")] == list(EXPERIMENTS)
    # the defaults that it names are those of the experiments
    for family, epsilon in (("vanishing", 1e-8), ("layers", 1e-7), ("activations", 1e-8)):
        said = next(line for line in lines if line.startswith(family))
        assert f"{epsilon:.0e}".replace("e-0", "e-") in said
        assert {e.epsilon for name, e in EXPERIMENTS.items() if name.startswith(family)} == {epsilon}


def test_every_change_of_an_experiment_has_its_option(run, tmp_path: Path) -> None:
    wishes = {"widths": (784, 6, 10), "optimizer": "sgd", "learning_rate": 0.1, "batch_size": 100, "clip_each": 0.5}
    said = [("--widths", "784,6,10"), ("--optimizer", "sgd"), ("--learning-rate", 0.1), ("--batch-size", 100)]
    done = run("run", "vanishing/relu", "--epochs", 1, *(word for pair in said for word in pair), "--clip-each", 0.5,
               "--out", tmp_path)  # fmt: skip
    assert done.exit_code == 0, done.output
    found = Recording.load(tmp_path / "vanishing-relu.safetensors")
    assert found.origin.experiment == experiment("vanishing/relu").replace(epochs=1, **wishes)
    wrong = run("run", "vanishing/relu", "--widths", "784x10")
    assert wrong.exit_code == 2
    assert "commas between them" in wrong.output


QUICK = ("run", "layers/relu", "--epochs", 1, "--observations", 64)


def test_run_never_overwrites_a_finished_recording_of_another_run(run, tmp_path: Path) -> None:
    file = tmp_path / "layers-relu.safetensors"
    assert run(*QUICK, "--student", "ada", "--out", tmp_path).exit_code == 0
    before = file.read_bytes()
    refused = run(*QUICK, "--student", "bob", "--out", tmp_path)
    assert refused.exit_code == 1
    assert "holds a finished run of another kind" in refused.output
    assert run(*QUICK, "--student", "ada", "--out", tmp_path).exit_code == 0
    assert file.read_bytes() == before
    again = run(*QUICK, "--student", "bob", "--out", tmp_path, "--again")
    assert again.exit_code == 0, again.output
    assert Recording.load(file).origin.experiment == experiment("layers/relu", "bob").replace(epochs=1, observations=64)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_run_overwrites_what_is_no_finished_recording(run, tmp_path: Path) -> None:
    (tmp_path / "layers-relu.safetensors").write_bytes(b"cut off")
    assert run(*QUICK, "--out", tmp_path).exit_code == 0
    assert Recording.load(tmp_path / "layers-relu.safetensors").complete


def test_run_goes_on_with_what_was_cut_off(run, tmp_path: Path, monkeypatch) -> None:
    from labkit import engines

    def stop_at_the_second(recordings: list[Recording]) -> None:
        if recordings[0].epochs == 2:
            raise KeyboardInterrupt

    file, epochs = tmp_path / "layers-relu.safetensors", []
    real = engines.SideBySide.epoch
    with monkeypatch.context() as patched:
        patched.setattr("labkit.training.Watching.look", lambda self, _, made: stop_at_the_second(made(True)))
        stopped = run(*QUICK, "--epochs", 3, "--out", tmp_path)
    assert stopped.exit_code == 1
    assert "interrupted after 4 of 6 iterations" in stopped.output
    assert "the same line with --resume goes on" in stopped.output
    monkeypatch.setattr(engines.SideBySide, "epoch", lambda self, n: (epochs.append(n), real(self, n))[1])
    done = run(*QUICK, "--epochs", 3, "--out", tmp_path, "--resume")
    assert done.exit_code == 0, done.output
    assert epochs == [2]
    assert Recording.load(file).complete
    assert run("run", "layers/relu", "--again", "--resume").exit_code == 2
    file.write_bytes(b"cut off")
    refused = run(*QUICK, "--out", tmp_path, "--resume")
    assert refused.exit_code == 1
    assert "leave resume out" in refused.output


def test_run_takes_a_name_once_and_switches(run, tmp_path: Path) -> None:
    switches = (
        "--normalisation",
        "layer",
        "--residual",
        "--clip-norm",
        1,
        "--initialisation",
        "he_normal",
        "--gain",
        2,
    )
    done = run(*QUICK, "layers/relu", "--seeds", 2, *switches, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert "2 seeds" in done.output
    assert "hardly more than their range" in done.output
    e = Recording.load(tmp_path / "layers-relu-seed-1.safetensors").origin.experiment
    assert e is not None
    assert (e.normalisation, e.residual, e.clip_norm, e.initialisation, e.gain) == ("layer", True, 1, "he_normal", 2)


def test_show_tells_what_is_in_it(run, short, tmp_path: Path) -> None:
    recording = train(short, tmp_path / "x.safetensors", device="cpu", progress=False)
    done = run("show", tmp_path / "x.safetensors")
    assert done.exit_code == 0
    assert "fc_4" in done.output
    assert f"{recording.statistic('abs_mean')[0, 0]:.3g}" in done.output


def test_show_reads_no_markup_out_of_a_file(run, short, tmp_path: Path) -> None:
    train(
        short.replace(student="[red]x[/red] [link=file:///]"), tmp_path / "x.safetensors", device="cpu", progress=False
    )
    assert "[red]x[/red]" in run("show", tmp_path / "x.safetensors").output


def test_plot_writes_the_figures(run, runs, tmp_path: Path) -> None:
    files = [runs[name].save(tmp_path / f"{name}.safetensors") for name in ("relu", "sigmoid")]
    done = run("plot", *files, "--out", tmp_path / "figures")
    assert done.exit_code == 0, done.output
    made = sorted((tmp_path / "figures").glob("*.png"))
    assert len(made) >= 8
    assert all(str(path) in done.output for path in made)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "vanishing/rellu"], "choose from vanishing/relu, vanishing/sigmoid"),
        (["run", "vanishing/relu", "--epochs", "0"], "epochs is 0: it must be a number above 0"),
        (["run", "vanishing/relu", "--device", "gpu"], "choose cpu or cuda"),
        (["run", "vanishing/relu", "--normalisation", "group"], "choose from none, batch, layer"),
        (["run", "vanishing/relu", "--out", "/dev/null/x"], "/dev/null/x cannot be made a folder (Not a directory)"),
        (["run", "layers/one_relu", "--data", "digits"], "give widths such as (784, 5, 10)"),
        (["show", "nothing.safetensors"], "there is no recording nothing.safetensors"),
        (["plot", "nothing.safetensors"], "there is no recording nothing.safetensors"),
        (["run", "vanishing/relu", "--out", "taken"], "taken cannot be made a folder (File exists): choose another"),
        (["reproduce", "--data", "digits", "--out", "taken"], "taken cannot be made a folder (File exists)"),
    ],
)
def test_what_is_wrong_is_one_sentence(run, arguments: list[str], words: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file where the folder should be")
    done = run(*arguments)
    assert done.exit_code == 1
    assert words in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert "Traceback" not in done.output


@pytest.mark.parametrize("arguments", [
    ["--debug", "show", "nothing.safetensors"], ["show", "nothing.safetensors", "--debug"],
    ["export", "--debug", "tensorboard", "nothing.safetensors"],
    ["export", "tensorboard", "nothing.safetensors", "--debug"],
])  # fmt: skip
def test_debug_shows_the_traceback(run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.exit_code != 0
    assert done.exception is not None
    assert type(done.exception).__name__ == "RecordingError"


def test_replay_shows_recorded_and_replayed_figures_side_by_side(run, runs, tmp_path: Path) -> None:
    file = runs["relu"].save(tmp_path / "relu.safetensors")
    done = run("replay", file, "--at", 431)
    assert done.exit_code == 0, done.output
    assert "OFF" not in done.output
    recorded = f"{runs['relu'].statistic('norm')[430, 0]:.7g}"
    assert any("the norm of the gradient" in line and recorded in line for line in done.output.splitlines())


def test_replay_says_which_figures_are_off_and_fails(run, runs, tmp_path: Path) -> None:
    loss = runs["relu"].loss.copy()
    loss[430] *= 1.01
    file = replace(runs["relu"], loss=loss).save(tmp_path / "forged")
    done = run("replay", file, "--at", 431)
    assert done.exit_code == 1
    assert ["the loss" in line for line in done.output.splitlines() if "OFF" in line] == [True]
    assert run("replay", file, "--at", 430).exit_code == 0


def test_replay_says_where_rounding_decides(run, tmp_path: Path) -> None:
    e = experiment("vanishing/exploding", "ada").replace(gain=3.0, clip_norm=1.0)
    file = train(e, device="cpu", progress=False).save(tmp_path / "exploding")
    done = run("replay", file, "--at", 119)
    assert "rounding decides" in done.output
    assert done.exit_code == 0


@pytest.mark.parametrize(
    ("at", "words"),
    [(0, "there is no iteration 0: the recording has 1 to 2,000"), (2001, "there is no iteration 2001")],
)
def test_replay_needs_an_iteration_that_there_is(run, runs, tmp_path: Path, at: int, words: str) -> None:
    done = run("replay", runs["relu"].save(tmp_path / "x"), "--at", at)
    assert done.exit_code == 1
    assert words in done.output
    assert "Traceback" not in done.output


def test_replay_needs_a_recording_with_an_experiment(run, short, tmp_path: Path) -> None:
    from labkit import networks
    from labkit.recorder import Recorder

    alone = Recorder(networks.of_experiment(short)).save(tmp_path / "alone")
    assert "follows no experiment" in run("replay", alone, "--at", 1).output
    (tmp_path / "text").write_text("no recording")
    assert "is not a recording of labkit" in run("replay", tmp_path / "text", "--at", 1).output
