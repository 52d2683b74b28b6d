"""Files that appear whole or not at all."""

import contextlib
import os
import secrets
from pathlib import Path


def write_whole(path: Path | str, content: bytes, flush: bool = True, mode: int = 0o666) -> Path:
    """Write `content` to `path` in one step: readers see the old file or the new one, never a part.

    The bytes are written beside the target under another name, flushed to the disk and renamed over it. Any
    `OSError` (a full disk, a folder that is missing or read-only) leaves the old file as it was. Without `flush` a
    power failure within the next seconds may leave an empty file: for what is written anew after it anyway. The file is
    for those whom `mode` names and the umask leaves, from its first byte on.
    """
    path = Path(path)
    beside = path.parent / f".{path.name}.{secrets.token_urlsafe(6)}.part"
    # the kernel takes the umask off: only by setting it could it be read, for all threads
    file = open(beside, "xb", opener=lambda name, flags: os.open(name, flags, mode))  # noqa: SIM115
    try:
        with file:
            file.write(content)
            file.flush()
            if flush:
                os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
        raise
    return path
