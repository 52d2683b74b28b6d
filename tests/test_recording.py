"""Does a recording come back as it was saved, and does every damage have its sentence?"""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load as parse
from safetensors.numpy import save as serialise

from labkit import files
from labkit.recording import ARRAYS, MOST_EPOCHS, Recording, RecordingError
from labkit.training import train


@pytest.fixture(scope="module")
def recording(short) -> Recording:
    return train(short, device="cpu", progress=False)


@pytest.fixture
def saved(recording: Recording, tmp_path: Path) -> Path:
    return recording.save(tmp_path / "run.safetensors")


def test_saving_and_loading_is_the_identity(recording: Recording, saved: Path) -> None:
    again = Recording.load(saved)
    assert again.origin == recording.origin
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(again, name), getattr(recording, name))
        assert getattr(again, name).dtype == getattr(recording, name).dtype
    assert again.digest == recording.digest


def test_the_same_recording_gives_the_same_bytes(recording: Recording, tmp_path: Path) -> None:
    assert recording.save(tmp_path / "a").read_bytes() == recording.save(tmp_path / "b").read_bytes()


@pytest.mark.parametrize("where", np.linspace(0, 1, 60, endpoint=False))
def test_a_changed_byte_is_found_wherever_it_is(saved: Path, where: float) -> None:
    content = bytearray(saved.read_bytes())
    content[int(where * len(content))] ^= 0x01
    with pytest.raises(RecordingError) as caught:
        Recording.from_bytes(bytes(content), "run.safetensors")
    assert "run.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0, 0.0001, 0.01, 0.3, 0.7, 0.999])
def test_a_cut_off_file_is_found(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    with pytest.raises(RecordingError, match="cut off"):
        Recording.from_bytes(content[: int(share * len(content))])


def _headed(header: object, **arrays: np.ndarray) -> bytes:
    return serialise({"x": np.zeros(3), **arrays}, metadata={"labkit": json.dumps(header)})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04" + b"\0" * 4 + b"zip" * 99, "not a recording of labkit"),
        (b"\x20\0\0\0\0\0\0\0" + b"not json at all, but long enough", "not a recording of labkit"),
        (serialise({"x": np.zeros(3)}), "not a recording of labkit"),
        (_headed([1, 2]), "not a recording of labkit"),
        (_headed({"format": 99}), "has format 99, this version reads 2"),
        (_headed({"format": 1}), "has format 1, this version reads 2"),
        (_headed({"format": 2}), "lacks accuracy"),
    ],
)
def test_foreign_files_are_named(content: bytes, words: str) -> None:
    with pytest.raises(RecordingError) as caught:
        Recording.from_bytes(content, "x.safetensors")
    assert words in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"there is no recording .*nothing\.safetensors"):
        Recording.load(tmp_path / "nothing.safetensors")
    with pytest.raises(RecordingError, match="there is no recording"):
        Recording.load(tmp_path)


def test_a_file_that_was_saved_without_its_ending_is_named(recording: Recording, tmp_path: Path) -> None:
    recording.save(tmp_path / "loud")
    with pytest.raises(RecordingError, match=r"but a file loud: .* with save='loud\.safetensors'"):
        Recording.load(tmp_path / "loud.safetensors")


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("wrong", [lambda a: a[..., None], lambda a: a[:-1], lambda a: a.astype(str).view(np.uint8)])
def test_a_wrong_shape_is_refused(saved: Path, name: str, wrong) -> None:
    content = saved.read_bytes()
    arrays = parse(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    arrays[name] = np.ascontiguousarray(wrong(arrays[name]))
    with pytest.raises(RecordingError, match="altered"):
        Recording.from_bytes(serialise(arrays, metadata=header), "run.safetensors")


def test_an_altered_epoch_is_named(recording: Recording, tmp_path: Path) -> None:
    loss = recording.loss.copy()
    loss[4] += 1  # iteration 5 lies in epoch 2 of 3 iterations each
    header_of_the_honest = recording.save(tmp_path / "honest").read_bytes()
    forged = replace(recording, loss=loss).save(tmp_path / "forged").read_bytes()
    head = int.from_bytes(header_of_the_honest[:8], "little") + 8
    assert head == int.from_bytes(forged[:8], "little") + 8
    with pytest.raises(RecordingError, match="altered in epoch 2"):
        Recording.from_bytes(header_of_the_honest[:head] + forged[head:])


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_loses_nothing(recording: Recording, saved: Path, failing: str, monkeypatch) -> None:
    before = saved.read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, failing, full)
    with pytest.raises(RecordingError, match=r"No space left.*still in memory.*make room for"):
        replace(recording, origin=replace(recording.origin, student="somebody")).save(saved)
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, which Linux has")  # noqa: PTH110
def test_a_folder_that_cannot_be_written_has_its_sentence(recording: Recording, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="could not be written"):
        recording.save(tmp_path / "no such folder" / "run.safetensors")


def test_unknown_statistics_list_the_choices(recording: Recording) -> None:
    with pytest.raises(RecordingError, match="choose from mean, abs_mean, sd, norm, abs_max, zero_share, nonfinite"):
        recording.statistic("median")


def test_reading_needs_no_torch(saved: Path) -> None:
    code = (
        "import sys, labkit.recording, autograder.checks, autograder.authenticity\n"
        "import autograder.questions.vanishing_gradients\n"
        f"labkit.recording.Recording.load({str(saved)!r})\n"
        "assert 'torch' not in sys.modules and 'nbgrader' not in sys.modules, sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def with_epochs(recording: Recording, count: int) -> Recording:
    """The same arrays in as many epochs, with next to nothing in them."""
    by_epoch = {name: np.zeros((count, *getattr(recording, name).shape[1:]), np.float16)
                for name in ("batch_counts", "batch_range")}  # fmt: skip
    by_probe = {
        name: np.zeros((count + 1, *getattr(recording, name).shape[1:]), np.float16)
        for name in ("probe_gradient", "probe_counts", "probe_loss", "accuracy", "output_error", "hidden",
                     "through_time", "weight", "weight_counts")
    }  # fmt: skip
    by_iteration = {
        name: np.zeros((count, *getattr(recording, name).shape[1:]), np.float16)
        for name in ("loss", "gradient", "update_norm", "weight_norm", "weight_dot_gradient", "bias_dot_gradient",
                     "clip_factor")
    }  # fmt: skip
    return replace(recording, epoch_end=np.arange(1, count + 1), **by_epoch, **by_probe, **by_iteration)


def test_more_epochs_than_can_be_looked_through_are_refused(recording: Recording, tmp_path: Path, monkeypatch) -> None:
    """A small file of a million epochs would keep a grader busy for hours."""
    many = with_epochs(recording, MOST_EPOCHS + 1)
    with pytest.raises(RecordingError, match="call end_epoch less often"):
        many.save(tmp_path / "many")
    with monkeypatch.context() as forger:
        forger.setattr("labkit.recording.MOST_EPOCHS", 10**9)
        forger.setattr(Recording, "chain", lambda _: [])
        many.save(tmp_path / "many")
    with pytest.raises(RecordingError, match="more than 10,000 epochs"):
        Recording.load(tmp_path / "many")
