"""Files that appear whole or not at all."""

import contextlib
import os
import tempfile
from pathlib import Path


def write_whole(path: Path | str, content: bytes, flush: bool = True) -> Path:
    """Write `content` to `path` in one step: readers see the old file or the new one, never a part.

    The bytes are written beside the target under another name, flushed to the disk and renamed over it. Any
    `OSError` (a full disk, a folder that is missing or read-only) leaves the old file as it was. Without `flush` a
    power failure within the next seconds may leave an empty file: for what is written anew after it anyway.
    """
    path = Path(path)
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if flush:
                os.fsync(file.fileno())
        os.chmod(beside, 0o666 & ~_umask())  # noqa: PTH101  mkstemp makes private files; these are to be handed in
        os.replace(beside, path)  # noqa: PTH105
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)  # noqa: PTH108
        raise
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
