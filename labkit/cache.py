"""Where arrays are kept between calls; a file holds the seal of all that follows it, then two arrays of np.save."""

import contextlib
import hashlib
import io
import os
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from labkit.files import write_whole


def cache_folder() -> Path:
    """Where drawn digits and MNIST are kept; the environment variable LABKIT_CACHE names another folder."""
    return Path(os.environ.get("LABKIT_CACHE") or platformdirs.user_cache_dir("gradient-lab"))


def _path(key: str) -> Path:
    return cache_folder() / f"{key}.bin"


def _seal(key: str, body: bytes) -> bytes:
    """32 bytes; the key is sealed too, so that a file under another file's name is found out."""
    seal = hashlib.sha256(key.encode())
    seal.update(body)
    return seal.digest()


def load(key: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """Pixels and labels as they were kept, or None when there is no file, or not the one that was written."""
    try:
        content = _path(key).read_bytes()
    except OSError:
        return None
    body = content[32:]
    if content[:32] != _seal(key, body):
        return None
    file = io.BytesIO(body)
    return np.load(file, allow_pickle=False), np.load(file, allow_pickle=False)


def keep(key: str, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """Keep them for the next call; where nothing can be written the digits are drawn each time."""
    file = io.BytesIO()
    np.save(file, pixels, allow_pickle=False)
    np.save(file, labels, allow_pickle=False)
    body = file.getvalue()
    path = _path(key)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, _seal(key, body) + body)
