"""Is MNIST read by the real loader, from files that are MNIST's, and is everything else told in one sentence?"""

import functools
import gc
import gzip
import hashlib
import http.server
import struct
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

from labkit import data, mnist
from labkit.catalogue import EXPERIMENTS

IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = mnist.FILES
TORCHVISIONS = "torchvision.datasets.MNIST"


def idx(array: np.ndarray) -> bytes:
    """The IDX format: two zeros, 8 for bytes, the dimensions; sizes, big-endian; the bytes."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(scope="module")
def small() -> dict[str, np.ndarray]:
    """A data set of MNIST's form: 50 images to train on, 20 to test with."""
    draw = np.random.RandomState(1)
    return {
        IMAGES: draw.randint(0, 256, (50, 28, 28)).astype(np.uint8),
        LABELS: draw.randint(0, 10, 50).astype(np.uint8),
        TEST_IMAGES: draw.randint(0, 256, (20, 28, 28)).astype(np.uint8),
        TEST_LABELS: draw.randint(0, 10, 20).astype(np.uint8),
    }


@pytest.fixture(autouse=True)
def folder(small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for MNIST's files, in a world where the small set is what was published and nobody answers."""
    published = {name: (array.ndim, hashlib.sha256(idx(array)).hexdigest()) for name, array in small.items()}
    monkeypatch.setattr(mnist, "FILES", published)
    monkeypatch.setenv("LABKIT_MNIST", str(tmp_path / "mnist"))
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(f"{TORCHVISIONS}.mirrors", ["http://127.0.0.1:9/"])
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    mnist._training_set.cache_clear()
    return tmp_path / "mnist"


def plain(folder: Path, small: dict[str, np.ndarray]) -> None:
    folder.mkdir()
    for name, array in small.items():
        (folder / name).write_bytes(idx(array))


def compressed(folder: Path, small: dict[str, np.ndarray], level: int = 9) -> None:
    folder.mkdir()
    for name, array in small.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array), level))


def mixed(folder: Path, small: dict[str, np.ndarray]) -> None:
    compressed(folder, small, level=1)
    (folder / f"{IMAGES}.gz").unlink()
    (folder / IMAGES).write_bytes(idx(small[IMAGES]))


def state(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What is read


@pytest.mark.parametrize("write", [plain, compressed, mixed])
def test_the_images_are_those_of_the_files_whether_compressed_or_not(folder, small, write):
    write(folder, small)
    before = state(folder)
    found = data.mnist(50, pool=50)
    assert found.images.shape == (50, 1, 28, 28)
    assert found.images.dtype == np.float32
    assert found.labels.dtype == np.int64
    assert np.array_equal(np.rint(found.images[:, 0] * 255), small[IMAGES])
    assert np.array_equal(found.images[:, 0], small[IMAGES].astype(np.float32) / np.float32(255))
    assert np.array_equal(found.labels, small[LABELS])
    assert found.classes == tuple("0123456789")
    assert state(folder) == before


def test_the_reader_is_torchvisions(folder, small, monkeypatch):
    plain(folder, small)
    read, paths = __import__("torchvision").datasets.mnist.read_image_file, []
    monkeypatch.setattr("torchvision.datasets.mnist.read_image_file", lambda path: paths.append(path) or read(path))
    data.mnist(10, pool=50)
    assert [Path(path).name for path in paths] == [IMAGES]
    assert not Path(paths[0]).exists()  # the copy that it read is gone


def test_what_somebody_writes_into_images_changes_nobody_elses(folder, small):
    plain(folder, small)
    mine = data.mnist(50, pool=50)
    mine.images[:] = 0.0
    mine.labels[:] = 0
    assert data.mnist(50, pool=50).digest == mine.digest


def test_fewer_are_drawn_by_the_seed_and_none_twice(folder, small):
    plain(folder, small)
    one, again, other = (data.mnist(30, seed, pool=40) for seed in (1, 1, 2))
    assert one.digest == again.digest != other.digest
    first = small[IMAGES][:40].reshape(40, -1)
    places = [np.flatnonzero((first == np.rint(image * 255)).all(axis=1)) for image in one.images.reshape(30, -1)]
    assert all(len(place) == 1 for place in places)
    assert len(np.unique(places)) == 30
    assert np.array_equal(one.labels, small[LABELS][np.concatenate(places)])


def test_the_same_image_is_drawn_as_often_as_any_other(folder, small):
    plain(folder, small)
    draws = [data.mnist(10, seed, pool=50).images.reshape(10, -1) for seed in range(400)]
    pixels = np.rint(np.concatenate(draws) * 255).astype(np.uint8)
    counts = [(pixels == image.ravel()).all(axis=1).sum() for image in small[IMAGES]]
    # 80 times each, with an sd of sqrt(400 x 0.2 x 0.8) = 8; five of them
    assert sum(counts) == 4000
    assert max(abs(count - 80) for count in counts) < 40


def test_an_experiment_reads_its_own_sample(folder, small):
    plain(folder, small)
    e = EXPERIMENTS["activations/relu"].replace(observations=30, pool=50, seed=9)
    assert data.of_experiment(e).digest == data.mnist(30, 9, 50).digest
    assert data.of_experiment(e.replace(data="digits")).digest == data.student_digits(30, seed=9, pool=50).digest


def test_the_files_are_read_once(folder, small, monkeypatch):
    plain(folder, small)
    data.mnist(10, pool=50)
    monkeypatch.setattr(mnist, "_read", None)
    monkeypatch.setattr(mnist.cache, "load", None)
    data.mnist(20, pool=50)


def test_a_later_process_loads_no_torchvision(folder, small, monkeypatch):
    plain(folder, small)
    first = data.mnist(50, pool=50)
    mnist._training_set.cache_clear()  # as in a later process
    monkeypatch.setattr(mnist, "_load", None)
    assert data.mnist(50, pool=50).digest == first.digest


def test_a_damaged_cache_is_read_anew_from_the_files(folder, small, tmp_path):
    plain(folder, small)
    first = data.mnist(50, pool=50)
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(of_one_other_bit(kept.read_bytes()))
    mnist._training_set.cache_clear()
    assert data.mnist(50, pool=50).digest == first.digest


def test_another_published_set_does_not_meet_the_kept_one(folder, small, monkeypatch):
    plain(folder, small)
    data.mnist(50, pool=50)
    mnist._training_set.cache_clear()
    monkeypatch.setitem(mnist.FILES, LABELS, (1, "0" * 64))
    with pytest.raises(data.DataError, match="not the file that MNIST published"):
        data.mnist(50, pool=50)


def test_the_folder_is_in_the_cache_unless_another_is_named(monkeypatch, tmp_path):
    assert mnist.mnist_folder() == tmp_path / "mnist"
    monkeypatch.delenv("LABKIT_MNIST")
    assert mnist.mnist_folder() == tmp_path / "cache" / "mnist"


def test_the_published_digests_fit_torchvisions_list_of_files():
    torchvisions = __import__("torchvision").datasets.MNIST.resources
    assert [f"{name}.gz" for name in mnist.FILES] == [name for name, _ in torchvisions]


# What is not MNIST's


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def cut_in_the_header(content: bytes) -> bytes:
    return content[:3]


def emptied(content: bytes) -> bytes:
    return b""


def of_another_magic(content: bytes) -> bytes:
    return b"\0\0\x0d" + content[3:]


def of_one_other_bit(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def with_more_behind(content: bytes) -> bytes:
    return content + b"\0"


def no_gzip(content: bytes) -> bytes:
    return b"<html>404</html>"


def of_a_wrong_checksum(content: bytes) -> bytes:
    return content[:-8] + bytes(4) + content[-4:]


def of_no_kind_of_block(content: bytes) -> bytes:
    return content[:10] + b"\xff" + content[11:]


@pytest.mark.parametrize("name", [IMAGES, LABELS, TEST_LABELS])
@pytest.mark.parametrize(
    ("write", "damage", "words"),
    [
        (plain, cut, "is cut off after"),
        (plain, cut_in_the_header, "is cut off after 3 bytes"),
        (plain, emptied, "is cut off after 0 bytes"),
        (plain, of_another_magic, "is no IDX file of"),
        (plain, no_gzip, "is no IDX file of"),
        (plain, of_one_other_bit, "is not the file that MNIST published"),
        (plain, with_more_behind, "is not the file that MNIST published"),
        (compressed, cut, "is cut off"),
        (compressed, emptied, "is cut off"),
        (compressed, no_gzip, "is no sound gzip file"),
        (compressed, of_a_wrong_checksum, "is no sound gzip file"),
        (compressed, of_no_kind_of_block, "is no sound gzip file"),
        (compressed, lambda content: gzip.compress(cut(gzip.decompress(content))), "is cut off after"),
        (compressed, lambda content: gzip.compress(of_one_other_bit(gzip.decompress(content))), "is not the file that"),
    ],
)
def test_a_damaged_file_is_named_and_left_as_it_is(folder, small, write, damage, words, name):
    write(folder, small)
    (path,) = folder.glob(f"{name}*")
    path.write_bytes(damage(path.read_bytes()))
    before = state(folder)
    with pytest.raises(data.DataError) as error:
        data.mnist(10, pool=50)
    assert str(error.value).startswith(str(path))
    assert words in str(error.value)
    assert "put a sound copy in its place" in str(error.value)
    assert "\n" not in str(error.value)
    assert state(folder) == before


def test_a_mended_file_is_read_at_the_next_call(folder, small):
    plain(folder, small)
    (folder / LABELS).write_bytes(cut(idx(small[LABELS])))
    with pytest.raises(data.DataError, match="cut off"):
        data.mnist(10, pool=50)
    (folder / LABELS).write_bytes(idx(small[LABELS]))
    assert len(data.mnist(10, pool=50)) == 10


def test_a_folder_under_a_files_name_is_told(folder, small):
    plain(folder, small)
    (folder / IMAGES).unlink()
    (folder / IMAGES).mkdir()
    with pytest.raises(data.DataError, match="cannot be read: Is a directory"):
        data.mnist(10, pool=50)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: data.mnist(0), "n is 0: give a whole number of at least 1"),
        (lambda: data.mnist(5, pool=4), "5 images were asked of a pool of 4: ask for fewer"),
        (lambda: data.mnist(5, pool=51), "a pool of 51 was asked of MNIST's 50 training images"),
        (lambda: data.mnist(5, pool="all"), "pool is 'all': give a whole number"),
        (lambda: data.mnist(5, seed=1.5, pool=50), "seed is 1.5: give a whole number"),
    ],
)
def test_a_wrong_request_is_told_in_one_sentence(folder, small, call, words):
    plain(folder, small)
    with pytest.raises(data.DataError) as error:
        call()
    assert words in str(error.value)


# The network


def refused(folder: Path) -> str:
    with pytest.raises(data.DataError) as error:
        data.mnist(10, pool=50)
    said = str(error.value)
    assert "\n" not in said
    assert "MNIST" in said
    assert f" is not in {folder} and could not be downloaded" in said
    assert [name for name in mnist.FILES if name in said] == [name for name in mnist.FILES if name not in state(folder)]
    assert "with .gz" in said
    assert "LABKIT_MNIST" in said
    assert "--data digits" in said
    return said


def test_without_a_network_the_message_says_what_to_place_where(folder):
    assert "Connection refused" in refused(folder)
    assert state(folder) == {}


def test_without_a_network_what_is_there_stays(folder, small):
    plain(folder, small)
    (folder / TEST_LABELS).unlink()
    before = state(folder)
    assert f"A part of MNIST ({TEST_LABELS}) is not in" in refused(folder)
    assert state(folder) == before


def test_a_folder_that_cannot_be_made_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("a file where the folder should be")
    monkeypatch.setenv("LABKIT_MNIST", str(tmp_path / "file"))
    refused(tmp_path / "file")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror(small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A server on this machine that has the small set, and torchvision believing that it is MNIST."""
    served = tmp_path / "served"
    compressed(served, small)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(served)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    md5 = [(path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in sorted(served.iterdir())]
    monkeypatch.setattr(f"{TORCHVISIONS}.resources", md5)
    monkeypatch.setattr(f"{TORCHVISIONS}.mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    yield served
    server.shutdown()
    server.server_close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()  # torchvision keeps refused answers, open, in a cycle: their warning would reach another test


def test_the_real_loader_downloads_what_is_missing(folder, small, mirror):
    assert np.array_equal(data.mnist(50, pool=50).labels, small[LABELS])
    assert state(folder) == {name: idx(array) for name, array in small.items()}
    assert not list(folder.glob(".*"))


def test_a_download_replaces_nothing_that_is_there(folder, small, mirror):
    mixed(folder, small)
    (folder / f"{LABELS}.gz").unlink()
    before = state(folder)
    assert len(data.mnist(50, pool=50)) == 50
    assert state(folder) == {**before, LABELS: idx(small[LABELS])}


@pytest.mark.parametrize("damage", [cut, emptied, of_one_other_bit])
def test_a_download_that_arrives_damaged_leaves_nothing(folder, mirror, damage):
    last = mirror / f"{TEST_LABELS}.gz"
    last.write_bytes(damage(last.read_bytes()))
    first = mirror / f"{IMAGES}.gz"
    first.write_bytes(damage(first.read_bytes()))
    assert "corrupted" in refused(folder)
    assert not list(folder.iterdir())


def test_a_download_that_ends_early_leaves_nothing(folder, mirror, monkeypatch):
    (mirror / f"{TEST_LABELS}.gz").unlink()
    assert "404" in refused(folder)
    assert not list(folder.iterdir())


def test_the_default_patience_of_sockets_is_set_back(folder):
    import socket

    refused(folder)
    assert socket.getdefaulttimeout() is None
