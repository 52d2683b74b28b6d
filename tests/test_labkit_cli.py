"""Does the command line say the same things as the library, in one sentence when something is wrong?"""

from pathlib import Path

import pytest
from click.testing import CliRunner

from labkit import cli
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
        (["show", "nothing.safetensors"], "there is no recording nothing.safetensors"),
        (["plot", "nothing.safetensors"], "there is no recording nothing.safetensors"),
    ],
)
def test_what_is_wrong_is_one_sentence(run, arguments: list[str], words: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exit_code == 1
    assert words in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert "Traceback" not in done.output


def test_debug_shows_the_traceback(run) -> None:
    done = run("--debug", "show", "nothing.safetensors")
    assert done.exit_code != 0
    assert done.exception is not None
    assert type(done.exception).__name__ == "RecordingError"


def test_doctor_fails_only_when_something_needed_is_missing(run, monkeypatch) -> None:
    fine = cli.Finding("a", True, "1.0")
    note = cli.Finding("b", False, "none", "nothing to do", needed=False)
    missing = cli.Finding("c", False, "none", "install it")
    monkeypatch.setattr(cli, "EXAMINATIONS", (lambda: [fine, note],))
    assert run("doctor").exit_code == 0
    monkeypatch.setattr(cli, "EXAMINATIONS", (lambda: [fine, missing],))
    done = run("doctor")
    assert done.exit_code == 1
    assert "MISSING" in done.output
    assert "install it" in done.output


def test_doctor_finds_this_environment_in_order(run) -> None:
    done = run("doctor")
    assert done.exit_code == 0, done.output
    assert "@jupyter/nbgrader" in done.output
