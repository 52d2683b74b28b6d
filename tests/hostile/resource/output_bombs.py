"""Compressed bombs in the notebook's outputs and attachments: 1 GB of zeros in a few bytes, as PNG, zip and base64.

Tries: whoever unpacks what a notebook shows.
Must happen: outputs that were handed in are dropped, those of the run are limited; the honest answers count.
"""

import base64
import io
import struct
import zipfile
import zlib

from hostile.work import ALL, Work

DESERVES = ALL


def turn(work: Work) -> None:
    bombs = {"image/png": _png(), "application/zip": _zip(), "text/html": "<b>" * 300_000}
    output = {"output_type": "display_data", "data": bombs, "metadata": {}}
    for id in ("setup", "experiment", "test_number"):
        work.cell(id)["outputs"] = [output] * 3
    work.cell("words_text")["attachments"] = {"bomb.png": {"image/png": _png()}}
    work.first(f"display({{'image/png': {_png()!r}, 'text/plain': 'x'}}, raw=True)")


def _png() -> str:
    """A picture of 30,000 by 30,000 points, all alike."""
    size = 30_000
    packer, rows = zlib.compressobj(9), bytes(size // 8 + 1)
    body = b"".join(packer.compress(rows * 1000) for _ in range(size // 1000)) + packer.flush()
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", size, size, 1, 0, 0, 0, 0)), (b"IDAT", body), (b"IEND", b""))
    made = b"".join(struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks)
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + made).decode()


def _zip() -> str:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("bomb", bytes(100 * 2**20))
    return base64.b64encode(content.getvalue()).decode()
