"""Figures of a notebook made fit for print: opened, checked, no larger than paper shows, written anew."""

import base64
import binascii
import io
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

MOST_PIXELS = 50_000_000  # an A4 page at 600 dots per inch has 35 million
WIDEST = 1600  # pixels: 8 cm wide at 500 dots per inch, a whole page's width at 250
DPI = 144  # dots per inch of an image that does not say: that of labkit's figures
ACROSS = 9.0  # inches, from which a figure has panels beside each other, whose letters half a page would make too small
LARGEST = 40 * 2**20  # characters of base64
LONGEST_ALT = 2000
CAPTION = 25  # characters that a caption has at least, where the description has as many


class PictureError(ValueError):
    """What is no image that can be printed; a few words that say why."""


@dataclass(frozen=True)
class Picture:
    """An image that was made here from what a notebook held."""

    content: bytes  # PNG
    width: int  # pixels
    height: int
    description: str  # what the image says of itself
    across: bool = False  # was it drawn so wide that it needs the page's whole width?

    @property
    def address(self) -> str:
        """The image itself, as an address."""
        return f"data:image/png;base64,{base64.b64encode(self.content).decode()}"


def opened(content: str) -> Picture:
    """The image in base64; `PictureError` for what is none, or too large."""
    from PIL import Image, UnidentifiedImageError

    if len(content) > LARGEST:
        raise PictureError(f"it has {len(content) / 1.37e6:,.0f} MB")
    try:
        image: Image.Image = Image.open(io.BytesIO(base64.b64decode(content)), formats=("PNG", "JPEG"))
        wide, high = image.size
        if wide * high > MOST_PIXELS or max(wide, high) > 50 * min(wide, high):
            raise PictureError(f"it has {wide:,} by {high:,} pixels")
        said, inches = image.info.get("Description"), wide / _dpi(image.info.get("dpi"))
        # anything may be in a palette or in 16 bits; paper is white behind what is transparent
        layer = image.convert("RGBA")
        flat = Image.new("RGB", layer.size, "white")
        flat.paste(layer, mask=layer.getchannel("A"))
        flat.thumbnail((WIDEST, 2 * WIDEST))
    except PictureError:
        raise
    except (binascii.Error, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise PictureError("it is no PNG or JPEG image") from error
    except Exception as error:  # a decoder has errors of many kinds for a broken file
        raise PictureError("it is damaged") from error
    written = io.BytesIO()
    flat.save(written, "PNG", compress_level=4)
    return Picture(written.getvalue(), *flat.size, said if isinstance(said, str) else "", inches >= ACROSS)


def _dpi(said: Any) -> float:
    """What a file says, where that can be true."""
    dots = float(said[0]) if isinstance(said, tuple) and said else 0.0
    return dots if 20 < dots < 2000 else DPI


def caption(alt: str, others: Collection[str] = ()) -> str:
    """The first sentences of a description: what is drawn, without the figures that a reader who sees it reads off; and
    as much more as tells it from `others`, descriptions that begin in the same way: whose the next sentence is, before
    its colon, or else all that it says.
    """
    for count in range(1, len(_sentences(alt)) + 1):
        for begun in (True, False):
            kept = _beginning(alt, count, begun)
            told_apart = all(_beginning(other, count, begun) != kept for other in others)
            if told_apart and len(kept) >= CAPTION:
                return _shortened(kept)
    return _shortened(_beginning(alt))


def _sentences(alt: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+", " ".join(alt.split()))


def _beginning(alt: str, count: int | None = None, begun: bool = False) -> str:
    """So many sentences of a description, the last of several only as far as its colon if it is `begun`."""
    first, *more = _sentences(alt)[:count]
    if begun and more and ": " in more[-1]:
        more[-1] = f"{more[-1].split(': ')[0]} …"
    return " ".join([first, *more])


def _shortened(text: str) -> str:
    return text if len(text) <= 240 else f"{text[:240].rsplit(' ', 1)[0]} …"
