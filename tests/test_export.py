"""Do TensorBoard's own readers find in the event files what the recordings hold?"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labkit.experiments import Experiment
from labkit.export import MOST, ExportError, folders, histograms, scalars, to_tensorboard
from labkit.recording import Recording

TINY = Experiment(observations=120, pool=200, epochs=2, batch_size=60, activation="leaky_relu", slope=0.2)


@pytest.fixture(scope="module")
def recording():
    from labkit.training import train

    return train(TINY, device="cpu", progress=False)


@pytest.fixture(scope="module")
def read(recording, tmp_path_factory):
    """The event file, read back by TensorBoard."""
    return accumulated(to_tensorboard(recording, tmp_path_factory.mktemp("events") / "runs" / "leaky").parent)


def accumulated(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    everything = {"scalars": 0, "histograms": 0, "tensors": 0}
    return EventAccumulator(str(folder), size_guidance=everything).Reload()


def values(read, tag):
    return [event.value for event in read.Scalars(tag)]


def steps(read, tag):
    return [event.step for event in read.Scalars(tag)]


def test_scalars_by_iteration_are_the_recorded_ones(read, recording):
    np.testing.assert_allclose(values(read, "loss"), recording.loss)
    assert steps(read, "loss") == [1, 2, 3, 4]
    for k, layer in enumerate(recording.layers):
        np.testing.assert_allclose(values(read, f"gradient_abs_mean/{layer}"), recording.statistic("abs_mean")[:, k])
        np.testing.assert_allclose(values(read, f"gradient_norm/{layer}"), recording.statistic("norm")[:, k])
        np.testing.assert_allclose(values(read, f"update_norm/{layer}"), recording.update_norm[:, k])
        np.testing.assert_allclose(values(read, f"weight_norm/{layer}"), recording.weight_norm[:, k])
        np.testing.assert_allclose(values(read, f"clip_factor/{layer}"), recording.clip_factor[:, k])


def test_scalars_by_epoch_stand_at_the_iterations_that_ended_them(read, recording):
    np.testing.assert_allclose(values(read, "accuracy"), recording.accuracy)
    assert steps(read, "accuracy") == [0, 2, 4]
    np.testing.assert_allclose(values(read, "probe_loss"), recording.probe_loss)
    size = recording.probe_statistic("abs_mean")[:, 1]
    np.testing.assert_allclose(values(read, "probe_gradient_abs_mean/fc_2"), size)


def test_under_weights_are_the_weights_themselves(read, recording):
    """Not their gradients, as in the tutorial that logs one under the other's name."""
    for layer in recording.layers:
        events = read.Histograms(f"weights/{layer}")
        assert [event.step for event in events] == [0, 2, 4]
        taken = recording.checkpoint_iteration.tolist()
        for event in events:
            weights = recording.checkpoint(taken.index(event.step))[f"{layer}.weight"].ravel().astype(float)
            found = event.histogram_value
            assert found.num == weights.size
            # a value that lies on an edge between two bins may fall into either
            edges = [found.min, *found.bucket_limit]
            np.testing.assert_allclose(found.bucket, np.histogram(weights, edges)[0], atol=1)
            np.testing.assert_allclose(found.sum, weights.sum(), rtol=1e-3, atol=1e-3)
            np.testing.assert_allclose(found.sum_squares, (weights**2).sum(), rtol=1e-4)
            assert found.min <= weights.min() <= weights.max() <= found.max
        gradients = read.Histograms(f"gradients_probe/{layer}")
        assert [g.histogram_value.sum_squares for g in gradients] != [e.histogram_value.sum_squares for e in events]


def test_histograms_of_gradients_have_the_recorded_counts(read, recording):
    for k, layer in enumerate(recording.layers):
        batch = read.Histograms(f"gradients_batch/{layer}")
        assert [event.step for event in batch] == [2, 4]
        for epoch, event in enumerate(batch):
            counts, found = recording.batch_counts[epoch, k], event.histogram_value
            assert found.bucket == [float(n) for n in counts]  # its outermost bins hold the extremes
            np.testing.assert_allclose([found.min, found.max], recording.batch_range[epoch, k], rtol=1e-6)
            norm = recording.statistic("norm")[recording.epoch_end[epoch] - 1, k]
            np.testing.assert_allclose(found.sum_squares, norm**2, rtol=1e-4)
        probe = read.Histograms(f"gradients_probe/{layer}")
        assert [event.step for event in probe] == [0, 2, 4]
        for row, event in enumerate(probe):
            assert sum(event.histogram_value.bucket) == recording.probe_counts[row, k].sum()
            norm = recording.probe_statistic("norm")[row, k]
            np.testing.assert_allclose(event.histogram_value.sum_squares, norm**2, rtol=1e-4)


def test_no_other_tag_is_written(read, recording):
    tags = read.Tags()
    per_layer = ("gradient_abs_mean", "gradient_norm", "update_norm", "weight_norm", "clip_factor",
                 "probe_gradient_abs_mean")  # fmt: skip
    assert set(tags["scalars"]) == {
        "loss", "accuracy", "probe_loss", *(f"{name}/{layer}" for name in per_layer for layer in recording.layers)
    }  # fmt: skip
    kinds = ("weights", "gradients_batch", "gradients_probe")
    assert set(tags["histograms"]) == {f"{name}/{layer}" for name in kinds for layer in recording.layers}
    about = read.Tensors("recording/text_summary")[0].tensor_proto.string_val[0].decode()
    assert recording.digest in about


def test_of_a_long_run_every_kth_iteration_is_written_and_the_last(recording):
    n = 2 * MOST + 1
    rows = {
        name: np.resize(getattr(recording, name), (n, *getattr(recording, name).shape[1:]))
        for name in ("gradient", "update_norm", "weight_norm", "clip_factor")
    }
    long = replace(recording, loss=np.arange(n, dtype=np.float32), **rows)
    _, at, loss = next(iter(scalars(long)))
    assert len(at) <= MOST + 1
    assert (at[0], at[-1]) == (1, n)
    np.testing.assert_array_equal(loss, at - 1)


def test_a_run_that_broke_down_is_exported_with_what_it_has(recording, tmp_path):
    bad = replace(recording, gradient=np.full_like(recording.gradient, np.nan))
    bad = replace(bad, batch_counts=np.zeros_like(bad.batch_counts))
    folder = to_tensorboard(bad, tmp_path).parent
    read = accumulated(folder)
    assert np.isnan(values(read, "gradient_norm/fc_1")).all()
    assert not any(tag.startswith("gradients_batch") for tag in read.Tags()["histograms"])


def test_a_run_without_a_probe_has_no_figures_of_one(recording):
    nothing = {
        name: np.full_like(getattr(recording, name), np.nan) for name in ("probe_loss", "accuracy", "probe_gradient")
    }
    bare = replace(recording, probe_counts=np.zeros_like(recording.probe_counts), **nothing)
    assert not any("probe" in tag or tag == "accuracy" for tag, _, _ in scalars(bare))
    assert not any("probe" in tag for tag, *_ in histograms(bare))


def test_a_saved_recording_is_exported_as_the_one_in_memory(recording, tmp_path):
    loaded = Recording.load(recording.save(tmp_path / "run.safetensors"))
    read = accumulated(to_tensorboard(loaded, tmp_path / "events").parent)
    np.testing.assert_allclose(values(read, "loss"), recording.loss)


def test_an_existing_free_folder_is_used_and_nothing_else_is_left_in_it(recording, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    file = to_tensorboard(recording, str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([file.name, "notes.txt"])


def occupied(folder):
    folder.mkdir()
    (folder / "events.out.tfevents.1.host.1.0").write_bytes(b"")
    return folder


def file(folder):
    folder.write_text("a file stands here")
    return folder


BAD = [
    (occupied, "holds another run's events (events.out.tfevents.1.host.1.0): choose another folder"),
    (file, "cannot be written (File exists): choose another folder"),
    (lambda folder: file(folder) / "inside", "cannot be written (Not a directory): choose another folder"),
    (lambda folder: "/proc/nowhere/events", "/proc/nowhere/events cannot be written"),
]


@pytest.mark.parametrize(("prepare", "words"), BAD)
def test_bad_folders_are_one_sentence(recording, tmp_path, prepare, words):
    folder = prepare(tmp_path / "out")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ExportError) as error:
        to_tensorboard(recording, folder)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_disk_that_fills_up_leaves_nothing_behind(recording, tmp_path, monkeypatch):
    def full(recording, folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("labkit.export._write", full)
    with pytest.raises(ExportError, match="No space left on device"):
        to_tensorboard(recording, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_without_tensorboard_one_sentence_says_how_to_get_it(recording, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ExportError, match="pip install tensorboard"):
        to_tensorboard(recording, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def of_student(recording, student):
    e = recording.origin.experiment.replace(student=student)
    return replace(recording, origin=replace(recording.origin, experiment=e))


def test_files_of_one_name_have_folders_of_their_own(recording, tmp_path):
    files = [Path("a/x.safetensors"), Path("b/x.safetensors"), Path("b/y.safetensors")]
    ann, bob = of_student(recording, "ann"), of_student(recording, "bob / 2")
    assert folders(files, [ann, bob, ann], tmp_path) == [tmp_path / name for name in ("x-ann", "x-bob-2", "y")]
    digest = recording.digest[:8]
    twice = folders(files, [recording, recording, recording], tmp_path)
    assert twice == [tmp_path / name for name in (f"x-{digest}", f"x-{digest}-2", "y")]
    assert len(set(folders(files[:2], [ann, ann], tmp_path))) == 2
