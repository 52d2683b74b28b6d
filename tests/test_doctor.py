"""Does `labkit doctor` see what is absent, say what to do, and fail only for what breaks the labs?"""

import json
import os
import stat
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from click.testing import CliRunner

from labkit import cli, doctor
from labkit.doctor import Finding


def told() -> tuple[int, str]:
    done = CliRunner().invoke(cli.main, ["doctor"])
    return done.exit_code, " ".join(done.output.split())


def by_name(found: list[Finding]) -> dict[str, Finding]:
    for finding in found:
        assert finding.fine or finding.advice, finding
    return {finding.what: finding for finding in found}


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """A PATH of its own, on which a test puts programs."""
    place = tmp_path / "programs"
    place.mkdir()
    monkeypatch.setenv("PATH", str(place))

    def put(name: str, lines: str) -> None:
        path = place / name
        path.write_text(f"#!/bin/sh\n{lines}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return put


def test_it_fails_only_when_something_needed_is_missing(monkeypatch) -> None:
    fine = Finding("a", True, "1.0")
    missing = Finding("c", False, "none", "install it")
    monkeypatch.setattr(doctor, "EXAMINATIONS", (lambda: [fine, doctor.note("b", False, "none", "nothing to do")],))
    assert told()[0] == 0
    monkeypatch.setattr(doctor, "EXAMINATIONS", (lambda: [fine, missing],))
    code, said = told()
    assert code == 1
    assert "MISSING c none install it" in said


def test_what_it_shows_is_never_read_as_markup(monkeypatch) -> None:
    monkeypatch.setattr(
        doctor, "EXAMINATIONS", (lambda: [Finding("[bold]x[/]", False, "[red]", "pip install x[dev]")],)
    )
    assert "MISSING [bold]x[/] [red] pip install x[dev]" in told()[1]


@pytest.mark.slow
def test_this_environment_is_in_order() -> None:
    code, said = told()
    assert code == 0, said
    assert "ok @jupyter/nbgrader enabled" in said


def test_a_package_that_is_missing_breaks_the_labs(monkeypatch) -> None:
    def version(name: str) -> str:
        if name == "ipywidgets":
            raise PackageNotFoundError
        return "1.0"

    monkeypatch.setattr("importlib.metadata.version", version)
    found = by_name(doctor.versions())
    assert found["ipywidgets"].breaks
    assert "make setup" in found["ipywidgets"].advice
    assert found["torch"].fine


# GPU


@pytest.mark.parametrize(
    ("driver", "built_for", "visible", "words"),
    [
        (False, "13.0", None, "the labs need none"),
        (True, None, None, "CPU build"),
        (True, "13.0", "", "CUDA_VISIBLE_DEVICES is empty"),
        (True, "13.0", None, "does not serve CUDA 13.0"),
    ],
)
def test_no_gpu_is_a_note_with_its_reason(programs, monkeypatch, driver, built_for, visible, words: str) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.version.cuda", built_for)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if driver:
        programs("nvidia-smi", "")
    elif Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a GPU")
    (found,) = doctor.gpu()
    assert not found.breaks
    assert words in found.advice


def test_a_gpu_that_does_not_compute_breaks_the_labs(monkeypatch) -> None:
    def ones(*_: object, device: str) -> None:
        raise RuntimeError("CUDA error: no kernel image is available\nmore")

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.ones", ones)
    (found,) = doctor.gpu()
    assert found.breaks
    assert found.found == "CUDA error: no kernel image is available"
    assert "CUDA_VISIBLE_DEVICES=" in found.advice


# Jupyter

LISTED = "\n".join(f"   {name} v1.0 enabled OK (python, x)" for name, _, _ in doctor.LAB_EXTENSIONS)


def with_jupyter(programs, monkeypatch, listed: str) -> None:
    programs("jupyter", f"/bin/cat <<'END'\n{listed}\nEND")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")


@pytest.mark.parametrize(
    ("before", "after", "found", "advice"),
    [
        ("", "", "enabled", ""),
        ("anywidget v1.0 enabled OK", "anywidget v1.0 disabled OK", "disabled", "labextension enable anywidget"),
        ("anywidget v1.0 enabled OK (python, x)", "", "not there", "install anywidget again"),
        ("anywidget v1.0 enabled OK", "anywidget v1.0 enabled X", "anywidget v1.0 enabled X (python, x)", "again"),
    ],
)
def test_lab_extensions(programs, monkeypatch, before: str, after: str, found: str, advice: str) -> None:
    with_jupyter(programs, monkeypatch, LISTED.replace(before, after) if before else LISTED)
    one = by_name(doctor.jupyter())["anywidget"]
    assert (one.found, one.fine, one.breaks) == (found, found == "enabled", found != "enabled")
    assert advice in one.advice
    assert by_name(doctor.jupyter())["@jupyter/nbgrader"].fine


def test_jupyter_that_is_missing_or_says_nothing(programs, monkeypatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    (found,) = doctor.jupyter()
    assert found.breaks
    assert "PATH" in found.advice
    programs("jupyter", "exit 1")
    assert by_name(doctor.jupyter())["@jupyter/nbgrader"].found == "not there"
    assert not by_name(doctor.jupyter())["alembic on PATH"].fine


def test_server_extensions_by_their_settings(programs, monkeypatch, tmp_path) -> None:
    """What stands first in Jupyter's search holds; a damaged file holds nothing."""
    with_jupyter(programs, monkeypatch, LISTED)
    near, far = tmp_path / "near", tmp_path / "far"
    (far / "jupyter_server_config.d").mkdir(parents=True)
    near.mkdir()
    monkeypatch.setattr("jupyter_core.paths.jupyter_config_path", lambda: [str(near), str(far)])
    assert by_name(doctor.jupyter())["nbgrader's formgrader"].found == "not there"
    both = {f"nbgrader.server_extensions.{name}": True for name in ("formgrader", "assignment_list")}
    extensions = {"ServerApp": {"jpserver_extensions": both}}
    (far / "jupyter_server_config.d" / "nbgrader.json").write_text(json.dumps(extensions))
    (far / "jupyter_server_config.json").write_text("[]")
    assert by_name(doctor.jupyter())["nbgrader's formgrader"].fine
    off = {"ServerApp": {"jpserver_extensions": {"nbgrader.server_extensions.formgrader": False}}}
    (near / "jupyter_server_config.json").write_text(json.dumps(off))
    found = by_name(doctor.jupyter())
    assert (found["nbgrader's formgrader"].found, found["nbgrader's assignment_list"].found) == ("disabled", "enabled")
    assert not found["nbgrader's formgrader"].breaks


# walls


def test_walls_that_are_missing_are_notes_for_graders(programs, monkeypatch) -> None:
    monkeypatch.setattr(doctor.ctypes, "CDLL", lambda *_, **__: type("C", (), {"syscall": lambda *_: -1})())
    found = by_name(doctor.walls())
    assert {name: one.found for name, one in found.items()} == {
        "bubblewrap": "not installed", "namespaces": "are refused here", "Landlock": "not in this kernel",
    }  # fmt: skip
    assert not any(one.breaks for one in found.values())
    programs("bwrap", "exit 1")
    assert by_name(doctor.walls())["bubblewrap"].found == "is refused here"
    for name in ("bwrap", "unshare"):
        programs(name, "exit 0")
    monkeypatch.setattr(doctor.ctypes, "CDLL", lambda *_, **__: type("C", (), {"syscall": lambda *_: 4})())
    assert all(one.fine for one in doctor.walls())
    monkeypatch.setattr(sys, "platform", "darwin")
    (elsewhere,) = doctor.walls()
    assert "grade on Linux" in elsewhere.advice


def test_the_kernels_answer_is_the_graders() -> None:
    from autograder import kernel

    version = kernel.landlock_version() if sys.platform == "linux" else 0
    assert doctor._landlock().fine == (version > 0)


# Slurm


@pytest.mark.parametrize(
    ("sinfo", "sacct", "found"),
    [
        (None, None, {"sbatch": "not found"}),
        ("exit 1", None, {"sbatch": "no partition"}),
        ("echo 'teaching* gpu'", None, {"sbatch": "partitions teaching* gpu", "sacct": "not found"}),
        ("echo gpu", "exit 1", {"sbatch": "partitions gpu", "sacct": "keeps no account here"}),
        ("echo gpu", "exit 0", {"sbatch": "partitions gpu", "sacct": "answers"}),
        # a job around this process: its wishes are not handed on
        ('test -z "$SLURM_JOB_ID" && echo gpu', None, {"sbatch": "partitions gpu", "sacct": "not found"}),
    ],
)
def test_slurm(programs, monkeypatch, sinfo: str | None, sacct: str | None, found: dict[str, str]) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    if sinfo is not None:
        programs("sbatch", "exit 0")
        programs("sinfo", sinfo)
    if sacct is not None:
        programs("sacct", sacct)
    seen = by_name(doctor.slurm())
    assert {name: one.found for name, one in seen.items()} == found
    assert not any(one.breaks for one in seen.values())


def test_a_controller_that_does_not_answer_is_not_waited_for(programs, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "SECONDS", 0.2)
    programs("sbatch", "exit 0")
    programs("sinfo", "exec /bin/sleep 60")
    assert doctor.slurm()[0].found == "no partition"


# folders


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "open" / "course"
    found.mkdir(parents=True)
    real = doctor._mode
    # folders above the tests' own are closed: take that away, or nothing here would be open
    monkeypatch.setattr(doctor, "_mode", lambda path: real(path) if tmp_path in path.parents else 0o755)
    monkeypatch.setenv("LAB_COURSE", str(found))
    return found


def test_no_course_here_is_nothing_to_say(course: Path) -> None:
    assert doctor._course(course) == []


def test_a_course_that_others_can_read_is_a_note(course: Path) -> None:
    (course / "nbgrader_config.py").touch()
    course.chmod(0o755)
    (found,) = doctor._course(course)
    assert not found.fine
    assert "chmod 700" in found.advice
    course.chmod(0o700)
    assert doctor._course(course)[0].fine
    course.chmod(0o755)
    course.parent.chmod(0o750)  # nobody comes through
    assert doctor._course(course)[0].fine


def test_a_gradebook_that_cannot_be_written_breaks_grading(course: Path, monkeypatch) -> None:
    (course / "nbgrader_config.py").touch()
    (course / "gradebook.db").touch()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, how: Path(path).name != "gradebook.db" and real(path, how))
    found = by_name(doctor._course(course))
    assert found["gradebook"].breaks
    assert "gradebook.db cannot be written" in found["gradebook"].found


@pytest.mark.parametrize(("mode", "fine"), [(0o700, True), (0o755, False), (0o710, False), (0o701, False)])
def test_a_home_that_others_can_read_is_a_note(tmp_path: Path, mode: int, fine: bool) -> None:
    tmp_path.chmod(mode)
    found = doctor._home(tmp_path)
    assert (found.fine, found.breaks) == (fine, False)
    assert f"chmod 700 {tmp_path}" in found.advice
    tmp_path.chmod(0o700)


def test_a_home_that_is_not_there_is_told_beside_all_else(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "gone"))
    found = by_name(doctor.folders())
    assert found["home"].breaks
    assert "gone: No such file or directory" in found["home"].found
    assert f"mkdir -p {tmp_path / 'gone'}, or set HOME" in found["home"].advice
    assert "exchange" in found


@pytest.mark.parametrize(("mode", "fine"), [(0o777, True), (0o755, False), (None, False)])
def test_an_exchange_that_students_cannot_use_is_a_note(tmp_path, monkeypatch, mode: int | None, fine: bool) -> None:
    path = tmp_path / "exchange"
    monkeypatch.setenv("NBGRADER_EXCHANGE_ROOT", str(path))
    if mode is not None:
        path.mkdir()
        path.chmod(mode)
    found = doctor._exchange()
    assert (found.fine, found.breaks) == (fine, False)
    assert "chmod 777" in found.advice


def test_a_cache_that_cannot_be_written_is_a_note(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    assert doctor.cache()[0].fine
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert not doctor.cache()[0].fine
    assert not doctor.cache()[0].breaks
