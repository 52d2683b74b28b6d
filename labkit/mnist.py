"""MNIST's training images, by torchvision's reader.

LeCun, Cortes & Burges published four IDX files: a big-endian header of a magic number and the sizes, then bytes.
"""

import gzip
import hashlib
import math
import os
import socket
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labkit import cache
from labkit.streams import DataError, stream, whole

# The dimensions in an IDX file, and the SHA-256 of its bytes once they are uncompressed: whoever compressed them, and
# whether they are compressed, makes no difference.
FILES = {
    "train-images-idx3-ubyte": (3, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    "train-labels-idx1-ubyte": (1, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "t10k-images-idx3-ubyte": (3, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    "t10k-labels-idx1-ubyte": (1, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}
LARGEST = 2**26  # bytes of a file, uncompressed: MNIST's largest has 47 million
PATIENCE = 20.0  # seconds without an answer after which a server is given up
_MEND = "it was left as it is; put a sound copy in its place, or delete it to have it downloaded"

Pixels = NDArray[np.uint8]  # (N, 1, 28, 28) ink 0..255
Labels = NDArray[np.uint8]  # (N,) digits 0..9


def mnist_folder() -> Path:
    """Where MNIST's files are looked for; the environment variable LABKIT_MNIST names another folder."""
    return Path(os.environ.get("LABKIT_MNIST") or cache.cache_folder() / "mnist")


def mnist(n: int = 60_000, seed: int = 0, pool: int = 60_000) -> tuple[Pixels, Labels]:
    """`n` of the first `pool` training images: all of them in the file's order, or fewer by chance, none twice.

    They are downloaded when they are not there. Raises DataError when they cannot be had, when a file is not MNIST's,
    and when fewer images are there than are asked for.
    """
    n, pool = whole(n, "n", least=1), whole(pool, "pool", least=1)
    if n > pool:
        raise DataError(f"{n} images were asked of a pool of {pool}: ask for fewer, no image is given twice")
    pixels, labels = _training_set(mnist_folder())
    if pool > len(labels):
        raise DataError(f"a pool of {pool} was asked of MNIST's {len(labels)} training images: ask for a smaller pool")
    if n == pool:
        return pixels[:n], labels[:n]
    chosen = chosen_of(n, seed, pool)
    return pixels[chosen], labels[chosen]


def chosen_of(n: int, seed: int, pool: int) -> NDArray[np.int64]:
    """(n,) which images of the pool the seed's are."""
    if n == pool:
        return np.arange(n)
    return stream(seed, "mnist").permutation(pool)[:n].astype(np.int64)


@lru_cache(maxsize=1)
def _training_set(folder: Path) -> tuple[Pixels, Labels]:
    """All pixels and labels, read once; nobody may write to them.

    What was read is kept in the cache, too, where a grader finds it without loading torchvision, and torch's compiler
    with it. They are bytes, for floats would take four times the memory.
    """
    key = "-".join(["mnist", *(digest[:12] for _, digest in FILES.values())])
    kept = cache.load(key)
    if kept is None:
        kept = _read(folder)
        cache.keep(key, *kept)
    for array in kept:
        array.flags.writeable = False
    return kept


def _read(folder: Path) -> tuple[Pixels, Labels]:
    if _missing(folder):
        _download(folder)
    return _load({name: _sound(_place(folder, name), name) for name in FILES})


def _place(folder: Path, name: str) -> Path:
    plain = folder / name
    return plain if plain.exists() else folder / f"{name}.gz"


def _missing(folder: Path) -> list[str]:
    return [name for name in FILES if not _place(folder, name).exists()]


def _load(contents: dict[str, bytes]) -> tuple[Pixels, Labels]:
    """What torchvision's loader reads; it looks for the files in folders of its own naming."""
    from torchvision.datasets import MNIST  # loads torch

    try:
        with tempfile.TemporaryDirectory(prefix="mnist-") as root:
            raw = Path(root) / "MNIST" / "raw"
            raw.mkdir(parents=True)
            for name, content in contents.items():
                (raw / name).write_bytes(content)
            loaded = MNIST(root, train=True)
    except OSError as error:
        raise DataError(f"MNIST cannot be unpacked in {tempfile.gettempdir()}: {error.strerror}") from error
    return loaded.data.numpy()[:, None], loaded.targets.numpy().astype(np.uint8)


def _sound(path: Path, name: str) -> bytes:
    """The file's bytes, uncompressed. Raises DataError when they are not those that were published."""
    content = _content(path)
    dimensions, digest = FILES[name]
    start = 4 + 4 * dimensions
    if content[:4] != bytes((0, 0, 8, dimensions))[: len(content)]:
        raise DataError(f"{path} is no IDX file of {dimensions} dimensions: {_MEND}")
    sizes = [int.from_bytes(content[first : first + 4], "big") for first in range(4, start, 4)]
    if len(content) < start or len(content) < start + math.prod(sizes):
        raise DataError(f"{path} is cut off after {len(content):,} bytes: {_MEND}")
    if hashlib.sha256(content).hexdigest() != digest:
        raise DataError(f"{path} is not the file that MNIST published, its SHA-256 is another: {_MEND}")
    return content


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") if path.suffix != ".gz" else gzip.open(path) as file:
            return file.read(LARGEST)
    except EOFError as error:
        raise DataError(f"{path} is cut off: {_MEND}") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is no sound gzip file: {_MEND}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _download(folder: Path) -> None:
    """Fetch what is missing; all four files arrive whole, in a folder aside, before the first is put in its place."""
    from torchvision.datasets import MNIST

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as aside, _patience():
            raw = Path(MNIST(aside, train=True, download=True).raw_folder)
            for name in _missing(folder):
                os.replace(raw / name, folder / name)  # noqa: PTH105
    # torchvision gives up with a RuntimeError, and lets some errors of the network through
    except (OSError, RuntimeError, EOFError, HTTPException) as error:
        missing = _missing(folder)
        what = "MNIST" if len(missing) == len(FILES) else f"A part of MNIST ({', '.join(missing)})"
        raise DataError(
            f"{what} is not in {folder} and could not be downloaded ({_reason(error)}): place "
            f"{', '.join(missing)} there, each as it is or with .gz, or name a folder that has them in LABKIT_MNIST, "
            "or use --data digits"
        ) from error


def _reason(error: Exception) -> str:
    """The last line, for torchvision lists every address that it tried."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()


@contextmanager
def _patience() -> Iterator[None]:
    """torchvision waits for ever for a server behind a wall that drops what is sent to it."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
