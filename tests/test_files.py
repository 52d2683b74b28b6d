"""Do files appear whole or not at all, for those for whom the umask says?"""

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from labkit import files
from labkit.files import write_whole


@pytest.fixture
def umask():
    """Sets the umask until the end of the test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077, 0o002])
def test_a_file_is_for_whom_the_umask_says_as_any_other_is(tmp_path, umask, mask: int) -> None:
    umask(mask)
    (tmp_path / "other").write_bytes(b"")
    made = write_whole(tmp_path / "made", b"content")
    assert made.read_bytes() == b"content"
    assert _mode(made) == 0o666 & ~mask == _mode(tmp_path / "other")


def test_a_private_file_is_private_before_anything_is_in_it(tmp_path, umask, monkeypatch) -> None:
    umask(0o022)
    modes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda _: modes.extend(map(_mode, tmp_path.iterdir())))
    assert _mode(write_whole(tmp_path / "made", b"secret", mode=0o600)) == 0o600
    assert modes == [0o600]


def test_the_umask_is_not_touched_and_nobodys_file_is_open_to_all_meanwhile(tmp_path, umask, monkeypatch) -> None:
    """The umask belongs to all threads."""
    umask(0o027)

    def touched(mask: int) -> int:
        raise AssertionError(f"the umask was set to {mask:o}")

    monkeypatch.setattr(os, "umask", touched)
    modes: list[int] = []

    def by_another_thread(number: int) -> None:
        (tmp_path / f"other-{number}").write_bytes(b"")
        modes.append(_mode(tmp_path / f"other-{number}"))

    real = os.fsync

    def flushed(descriptor: int) -> None:
        thread = threading.Thread(target=by_another_thread, args=(len(modes),))
        thread.start()
        thread.join()
        real(descriptor)

    monkeypatch.setattr(os, "fsync", flushed)
    assert _mode(write_whole(tmp_path / "made", b"content")) == 0o640
    assert modes == [0o640]


def _full(*_) -> None:
    raise OSError(28, "No space left on device")


def _pressed(*_) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("where", "error"), [("fsync", _full), ("fsync", _pressed), ("replace", _full)])
def test_what_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch, where: str, error) -> None:
    path = write_whole(tmp_path / "made", b"old")
    monkeypatch.setattr(os if where == "fsync" else files.Path, where, error)
    with pytest.raises((OSError, KeyboardInterrupt)):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("plant", [Path.touch, lambda there: there.symlink_to(there.parent / "elsewhere")])
def test_what_stands_under_the_other_name_is_nobodys_to_write_or_to_remove(
    tmp_path, monkeypatch, plant: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(files.secrets, "token_urlsafe", lambda _: "known")
    plant(tmp_path / ".made.known.part")
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "made", b"content")
    assert [there.name for there in tmp_path.iterdir()] == [".made.known.part"]


def test_a_folder_that_is_missing_is_an_error_of_the_system(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "missing" / "made", b"")


def test_a_name_as_long_as_names_may_be_leaves_room_for_the_other(tmp_path) -> None:
    assert write_whole(tmp_path / ("n" * 240), b"").exists()
