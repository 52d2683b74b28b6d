"""Are the digits the same everywhere, balanced, kept safely and dealt out fairly?"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit import data
from labkit import digits as drawing

# Seen alike with numpy 1.26 and 2.4, and with every SIMD extension switched off. When a change of the drawing
# is meant, recordings made before it can no longer be replayed: say so in the changelog.
DIGITS_5000_SEED_0 = "73e96e4dad6fc43577b7eca02739b84e048607930656a917ee9821f78499060f"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, not there yet."""
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def pool() -> data.Dataset:
    """103 digits: three classes have one image more than the others."""
    pixels, labels = drawing.draw(103, seed=4)
    images = pixels.astype(np.float32) / np.float32(255)
    return data.Dataset(images, labels.astype(np.int64), data.DIGITS, "pool")


def counts(dataset: data.Dataset) -> np.ndarray:
    return np.bincount(dataset.labels, minlength=len(dataset.classes))


# The bytes


def test_digits_are_the_bytes_that_every_machine_draws():
    assert data.digits(5000, seed=0).digest == DIGITS_5000_SEED_0


def test_no_threads_and_no_simd_draw_the_same_bytes():
    found = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    bare = {"OMP_NUM_THREADS": "1", "NPY_DISABLE_CPU_FEATURES": " ".join(found)}
    code = """
import numpy as np
from labkit import data
print(data.digits(300, seed=8).digest, np.show_config(mode="dicts")["SIMD Extensions"].get("found", []))
"""
    environment = {**os.environ, **bare, "LABKIT_CACHE": os.devnull}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == f"{data.digits(300, seed=8).digest} []"


@pytest.mark.parametrize("chunk", [1, 7, 64, 5000])
def test_the_chunk_size_changes_no_byte(chunk):
    for one, other in zip(drawing.draw(90, 3), drawing.draw(90, 3, chunk), strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("n", [1, 9, 30, 77])
def test_fewer_digits_are_the_first_of_more(n):
    assert data.digits(n, seed=2).digest == data.digits(120, seed=2).subset(range(n)).digest


def test_seeds_draw_different_digits():
    digests = {data.digits(20, seed).digest for seed in (-1, 0, 1, 2**70)}
    assert len(digests) == 4


@pytest.mark.parametrize("n", [1, 10, 1003, 2000])
def test_classes_are_balanced_and_in_no_order(n):
    digits = data.digits(n, seed=1)
    assert len(digits) == n
    assert counts(digits).max() - counts(digits).min() <= 1
    if n > 10:
        assert not np.array_equal(digits.labels[:10], digits.labels[10:20])


def test_images_are_single_precision_in_steps_of_a_255th():
    digits = data.digits(200, seed=1)
    assert digits.images.shape == (200, 1, 28, 28)
    assert digits.images.dtype == np.float32
    assert digits.labels.dtype == np.int64
    assert digits.images.min() == 0.0
    assert digits.images.max() == 1.0
    steps = np.arange(256, dtype=np.uint8)
    assert np.isin(digits.images, steps.astype(np.float32) / np.float32(255)).all()
    assert np.array_equal(drawing.as_bytes(steps.astype(np.float32) / np.float32(255)), steps)


def test_every_image_shows_ink_and_no_image_twice():
    digits = data.digits(2000, seed=0)
    bright = (digits.images > 0.4).reshape(2000, -1).sum(axis=1)
    # a thin upright 1 covers about 14 pixels, a fat 8 about 250
    assert bright.min() > 10
    assert bright.max() < 784 / 2
    assert len(np.unique(digits.images.reshape(2000, -1), axis=0)) == 2000


def test_every_way_of_writing_fits_the_draws():
    for ways in drawing.STROKES:
        for text in ways:
            way = drawing._way(text)
            assert len(way.points) <= drawing.MOST_POINTS
            np.testing.assert_allclose(way.shares.sum(axis=1), 1.0)


def test_a_corner_is_passed_and_a_curve_is_smooth():
    way = drawing._way("0,0 100,0 100,0 100,100")
    places = way.shares @ way.points + 50
    assert any(np.array_equal(place, [100, 0]) for place in places)
    # a quadratic Bezier curve of three points is half-way at (start + 2 steer + end) / 4
    curve = drawing._curve([np.array([0.0, 0.0]), np.array([1.0, 2.0]), np.array([2.0, 0.0])])
    t = np.linspace(0, 1, drawing.PIECE + 1)
    np.testing.assert_allclose(curve, np.stack([2 * t, 4 * t * (1 - t)], axis=1))


def test_the_distance_is_that_to_the_nearest_point_of_the_line():
    right, down = np.array([[5.0], [20.0]], np.float32), np.array([[8.0], [17.5]], np.float32)
    found = drawing._distance(right, down, np.array([0]))[0]
    walk = np.linspace(0, 1, 4001)
    rows, columns = np.mgrid[:28, :28]
    steps = np.hypot(columns[..., None] - (5 + 15 * walk), rows[..., None] - (8 + 9.5 * walk))
    np.testing.assert_allclose(found, steps.min(axis=-1), atol=0.01)  # a step is 18 / 4000 pixels long


# The cache


def files(cache: Path) -> list[Path]:
    return sorted(cache.iterdir())


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The (n, seed) of every drawing from here on."""
    calls: list[tuple[int, int]] = []
    draw = drawing.draw

    def watched(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        calls.append((n, seed))
        return draw(n, seed)

    monkeypatch.setattr(drawing, "draw", watched)
    return calls


def test_a_second_call_reads_the_file(cache, drawn):
    first, second = data.digits(30, seed=5), data.digits(30, seed=5)
    assert drawn == [(30, 5)]
    assert first.digest == second.digest
    assert np.array_equal(first.labels, second.labels)
    assert len(files(cache)) == 1


def cut(content: bytes) -> bytes:
    return content[:-1000]


def emptied(content: bytes) -> bytes:
    return b""


def one_bit_flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def pickled(content: bytes) -> bytes:
    return content[:32] + b"\x80\x04." + content[35:]


@pytest.mark.parametrize("damage", [cut, emptied, one_bit_flipped, pickled])
def test_a_damaged_file_is_drawn_again_and_mended(cache, drawn, damage):
    sound = data.digits(30, seed=5)
    (file,) = files(cache)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert data.digits(30, seed=5).digest == sound.digest
    assert drawn == [(30, 5)] * 2
    assert file.read_bytes() == whole


def test_a_file_under_another_name_is_not_believed(cache):
    other, wanted = data.digits(30, seed=5), data.digits(30, seed=6)
    of_5, of_6 = files(cache)
    of_6.write_bytes(of_5.read_bytes())
    assert data.digits(30, seed=6).digest == wanted.digest != other.digest


def test_changed_strokes_do_not_meet_the_old_files(cache, monkeypatch):
    data.digits(30, seed=5)
    monkeypatch.setattr(drawing, "WOBBLE", 1.0)
    changed = data.digits(30, seed=5)
    assert len(files(cache)) == 2
    assert changed.digest == data.digits(30, seed=5).digest


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    usual = data.digits(30, seed=5)
    (tmp_path / "file").write_text("a file where the folder should be")
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "file"))
    assert data.digits(30, seed=5).digest == usual.digest


def test_a_full_disk_leaves_no_part_behind(cache, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert len(data.digits(30, seed=5)) == 30
    assert files(cache) == []


def test_many_writers_at_once_leave_one_whole_file(cache):
    code = "from labkit import data; print(data.digits(400, seed=9).digest)"
    writers = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {writer.communicate()[0].strip() for writer in writers}
    assert said == {data.digits(400, seed=9).digest}
    assert len(files(cache)) == 1


# Datasets and samples


def test_a_subset_has_its_own_images_and_digest(pool):
    part = pool.subset([5, 3])
    assert np.array_equal(part.images, pool.images[[5, 3]])
    assert np.array_equal(part.labels, pool.labels[[5, 3]])
    assert part.digest != pool.subset([3, 5]).digest
    assert pool.subset(range(len(pool))).digest == pool.digest
    part.images[:] = 0
    assert pool.images[5].max() > 0


def test_the_digest_covers_the_labels(pool):
    wrong = data.Dataset(pool.images, (pool.labels + 1) % 10, pool.classes, pool.name)
    assert wrong.digest != pool.digest


def test_the_text_of_a_dataset_is_short(pool):
    assert repr(pool) == f"<Dataset pool: 103 images, 10 classes, {pool.digest[:12]}>"


@given(n=st.integers(1, 103), seed=st.integers())
def test_a_sample_is_balanced_without_doubles_and_repeatable(pool, n, seed):
    drawn = data.sample(pool, n, seed)
    assert len(drawn) == n
    assert len(np.unique(drawn.images.reshape(n, -1), axis=0)) == n
    assert counts(drawn).max() - counts(drawn).min() <= 1
    assert drawn.digest == data.sample(pool, n, seed).digest


def test_samples_differ_by_seed_and_are_shuffled(pool):
    one, other = data.sample(pool, 100, 1), data.sample(pool, 100, 2)
    assert one.digest != other.digest
    # not dealt class by class, nor in rounds of ten classes
    assert any(len(set(one.labels[first : first + 10])) < 10 for first in range(0, 100, 10))
    assert len(set(one.labels[:10])) > 2


def test_a_lopsided_pool_gives_what_it_has(pool):
    zeros, ones = (np.flatnonzero(pool.labels == label) for label in (0, 1))
    lopsided = pool.subset([*zeros[:2], *ones[:8]])
    assert counts(data.sample(lopsided, 7, 0))[:2].tolist() == [2, 5]


def test_a_student_gets_a_sample_of_the_common_pool():
    mine = data.student_digits(50, seed=7, pool=200)
    assert mine.digest == data.sample(data.digits(200, seed=0), 50, 7).digest
    assert mine.digest != data.student_digits(50, seed=8, pool=200).digest


def test_a_student_may_get_the_whole_pool():
    mine, pool = data.student_digits(60, seed=7, pool=60), data.digits(60, seed=0)
    assert np.array_equal(np.sort(mine.images.reshape(60, -1), axis=0), np.sort(pool.images.reshape(60, -1), axis=0))
    assert mine.digest != pool.digest


def test_what_a_student_writes_into_images_changes_nobody_elses():
    mine = data.student_digits(50, seed=7, pool=200)
    mine.images[:] = 0.0
    assert data.student_digits(50, seed=7, pool=200).digest == mine.digest


def test_are_the_data_that_recordings_share_those_of_the_experiment_and_read_only(short):
    shared = data.shared(data.which(short))
    assert shared.digest == data.of_experiment(short).digest
    assert data.shared(data.which(short.replace(activation="tanh", epochs=9))) is shared
    assert data.shared(data.which(short.replace(seed=short.seed + 1))).digest != shared.digest
    with pytest.raises(ValueError, match="read-only"):
        shared.inputs[0] = 0
    data.of_experiment(short).inputs[0] = 0


def test_the_inputs_of_digits_are_their_images(pool):
    assert pool.images is pool.inputs
    assert pool.kind == "images"


def test_the_contact_sheet_has_a_row_per_class(pool):
    sheet = data.contact_sheet(pool, per_class=12)
    assert sheet.shape == (300, 360)
    assert sheet.dtype == np.uint8
    third_seven = pool.images[np.flatnonzero(pool.labels == 7)[2], 0]
    assert np.array_equal(sheet[7 * 30 + 1 : 7 * 30 + 29, 61:89], np.rint(third_seven * 255))
    assert (sheet[7 * 30 + 1 : 7 * 30 + 29, 331:359] == 96).all()  # there is no twelfth 7


# Mini-batches and streams


def test_matlab_batches_are_39_of_128_and_one_of_8():
    assert [len(batch) for batch in data.batches(5000, 128, seed=0, epoch=0)] == [128] * 39 + [8]


@given(n=st.integers(1, 200), share=st.floats(0, 1), seed=st.integers(), epoch=st.integers(0, 1000))
def test_the_batches_of_an_epoch_cover_every_image_once(n, share, seed, epoch):
    batch_size = 1 + int(share * (n - 1))
    found = data.batches(n, batch_size, seed, epoch)
    assert all(len(batch) == batch_size for batch in found[:-1])
    assert 1 <= len(found[-1]) <= batch_size
    assert np.array_equal(np.sort(np.concatenate(found)), np.arange(n))


def test_an_epoch_can_be_rebuilt_alone():
    epochs = [np.concatenate(data.batches(300, 32, seed=1, epoch=epoch)) for epoch in range(4)]
    assert np.array_equal(epochs[3], np.concatenate(data.batches(300, 32, seed=1, epoch=3)))
    # another batch size deals the same order
    assert np.array_equal(epochs[3], np.concatenate(data.batches(300, 7, seed=1, epoch=3)))
    assert len({epoch.tobytes() for epoch in epochs}) == 4


def test_a_stream_is_the_same_everywhere():
    first = data.stream(1, "a", 2).random_sample()
    assert first == 0.02947930350145689  # numpy 1.26 and 2.4
    assert data.stream(np.int64(1), "a", np.int32(2)).random_sample() == first


@pytest.mark.parametrize("names", [("a", "2"), ("a2",), ("a", 2, 3), ("a", 22), ("a",), (), ("b", 2), ('a",2',)])
def test_other_names_are_other_streams(names):
    assert data.stream(1, *names).random_sample() != data.stream(1, "a", 2).random_sample()


# At the door


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda pool: data.digits(0), "n is 0: give a whole number of at least 1"),
        (lambda pool: data.digits(2.5), "n is 2.5: give a whole number"),
        (lambda pool: data.digits(10, seed="x"), "seed is 'x': give a whole number"),
        (lambda pool: data.sample(pool, 0, 1), "n is 0: give a whole number of at least 1"),
        (lambda pool: data.sample(pool, 104, 1), "104 images were asked of a pool of 103: ask for fewer"),
        (lambda pool: data.student_digits(30, seed=1, pool=20), "30 images were asked of a pool of 20"),
        (lambda pool: data.student_digits(30, seed=1, pool=-5), "pool is -5: give a whole number"),
        (lambda pool: data.student_digits(30, seed=None), "seed is None: give a whole number"),
        (
            lambda pool: data.batches(100, 256, 0, 0),
            "batch_size 256 is larger than the 100 images: choose at most 100",
        ),
        (lambda pool: data.batches(100, 0, 0, 0), "batch_size is 0: give a whole number of at least 1"),
        (lambda pool: data.batches(0, 1, 0, 0), "n is 0: give a whole number of at least 1"),
        (lambda pool: data.batches(100, 10, 0, -1), "epoch is -1: give a whole number of at least 0"),
        (lambda pool: data.stream(0, 1.5), "a stream's name is 1.5"),
        (lambda pool: pool.subset([]), "choose no images: give a list of at least one whole number"),
        (lambda pool: pool.subset(pool.labels == 3), "numpy.flatnonzero turns a mask into one"),
        (lambda pool: pool.subset([[1], [2]]), "indices of shape (2, 1)"),
        (lambda pool: pool.subset([0, 103]), "there is none of number 103: pool holds images 0 to 102"),
        (lambda pool: pool.subset([-1]), "there is none of number -1"),
        (lambda pool: data.contact_sheet(pool, 0), "per_class is 0: give a whole number of at least 1"),
    ],
)
def test_a_wrong_request_is_told_in_one_sentence(pool, call, words):
    with pytest.raises(data.DataError) as error:
        call(pool)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, ValueError)


def test_importing_loads_no_torch_and_opens_nothing(cache):
    code = "import sys, labkit.data; print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False False"
    assert not cache.exists()
