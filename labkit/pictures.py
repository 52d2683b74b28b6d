"""Arrays as pictures: which of an array's dimensions are an image's, and the PNG of one image."""

from __future__ import annotations

import base64
import io
import math
from typing import Any, NamedTuple

import numpy as np

from labkit.kinds import dtype_of
from labkit.ranges import as_numpy

LARGEST = 512  # pixels of a side that are sent; of a larger image every second, third ... pixel
SMALLEST = 4  # of a side: less is a table
COLOURS = (3, 4)
BAD = (230, 97, 170)  # of pixels that are not finite
# of signed values: blue below 0, white at 0, orange above; colour-blind readers tell them apart
BELOW, ABOVE = (0, 90, 160), (190, 80, 0)


class Layout(NamedTuple):
    """Which dimensions are height, width and colours; the others count the images. `side` is of a flattened square."""

    height: int
    width: int
    colours: int | None = None
    side: int = 0


def may_be_an_image(array: Any) -> bool:
    return layout_of(array) is not None


def looks_like_an_image(array: Any) -> bool:
    """Is a picture what most people want to see of it first? A matrix of weights is a table first."""
    found, shape = layout_of(array), tuple(array.shape)
    if found is None or found.side or min(shape[found.height], shape[found.width]) < 8:
        return False
    one = len(shape) > 2 and 1 in (shape[0], shape[found.height - 1])
    several = len(shape) > 2 and shape[found.height] == shape[found.width] >= 8
    return found.colours is not None or dtype_of(array) == "uint8" or one or several


def layout_of(array: Any) -> Layout | None:
    """HxW, HxWx3, 3xHxW, batches of these, and rows of H² values, as flattened images are; None for anything else."""
    shape, last = tuple(map(int, array.shape)), len(array.shape) - 1
    if not math.prod(shape) or dtype_of(array).startswith(
        ("complex", "object", "str", "<U", "|S", "[", "{", "datetime")
    ):
        return None
    if last >= 2 and shape[last] in COLOURS and min(shape[last - 2 : last]) >= SMALLEST:
        return Layout(last - 2, last - 1, last)
    if last >= 1 and min(shape[-2:]) >= SMALLEST and not _is_flat(shape):
        return Layout(last - 1, last, last - 2 if last >= 2 and shape[last - 2] in COLOURS else None)
    if last >= 0 and _is_flat(shape):
        return Layout(last, last, None, math.isqrt(shape[last]))
    return None


def _is_flat(shape: tuple[int, ...]) -> bool:
    """At most two dimensions, the last of 64, 81, ... 784 ... values."""
    return len(shape) <= 2 and shape[-1] >= 64 and math.isqrt(shape[-1]) ** 2 == shape[-1] and shape[0] != shape[-1]


def places_in(shape: tuple[int, ...], asked: tuple[int, ...]) -> list[int]:
    """A place in each dimension: as asked, or the nearest that there is."""
    return [max(0, min(place, size - 1)) for place, size in zip((*asked, *(0,) * len(shape)), shape, strict=False)]


def image_page(array: Any, asked: tuple[int, ...]) -> dict[str, Any]:
    """One image as PNG, with what its colours stand for; `asked` says which, by its place in each dimension."""
    layout, shape = layout_of(array), tuple(map(int, array.shape))
    assert layout is not None  # who calls has looked
    image = {layout.height, layout.width, layout.colours}
    at = places_in(shape, asked)
    pick: list[Any] = [slice(None) if axis in image else place for axis, place in enumerate(at)]
    steps = [] if layout.side else [layout.height, layout.width]
    for axis in steps:
        pick[axis] = slice(None, None, -(-shape[axis] // LARGEST))
    pixels = as_numpy(array[tuple(pick)])
    if layout.side:
        pixels = pixels.reshape(layout.side, layout.side)
    if layout.colours is not None and layout.colours < layout.height:
        pixels = pixels.transpose(1, 2, 0)
    colours, legend = _colours(pixels)
    sizes = [layout.side] * 2 if layout.side else [shape[layout.height], shape[layout.width]]
    if max(sizes) > LARGEST:
        legend += f" Drawn are {colours.shape[0]} of {sizes[0]} rows and {colours.shape[1]} of {sizes[1]} columns."
    free = [axis for axis in range(len(shape)) if axis not in image]
    return {
        "kind": "image",
        "png": base64.b64encode(_png(colours)).decode(),
        "size": [colours.shape[1], colours.shape[0]],
        "alt": f"Image of {sizes[0]} by {sizes[1]} pixels. {legend}",
        "legend": legend,
        "shape": shape,
        "at": at,
        "free": free,
    }


def _colours(pixels: np.ndarray) -> tuple[np.ndarray, str]:
    """(H, W, 3) bytes, and what they mean."""
    values = pixels.astype(np.float64)
    finite: np.ndarray = np.isfinite(values)
    low, high = (float(values[finite].min()), float(values[finite].max())) if finite.any() else (0.0, 0.0)
    if values.ndim == 3:
        drawn, legend = _of_colours(values[..., :3], pixels.dtype, low, high)
        finite = np.all(finite, axis=2)
    elif low < 0 < high:
        drawn, legend = _of_signs(values, max(-low, high))
    else:
        drawn, legend = _of_greys(values, low, high)
    if not finite.all():
        drawn[~finite] = BAD
        legend += f" Pink: {int((~finite).sum()):,} pixels that are not finite."
    return drawn, legend


def _of_colours(values: np.ndarray, dtype: Any, low: float, high: float) -> tuple[np.ndarray, str]:
    if dtype == np.uint8:
        return _bytes(values / 255), "Colours as they are, 0 to 255."
    if low >= 0 and high <= 1:
        return _bytes(values), "Colours as they are, 0 to 1."
    return _bytes(_scaled(values, low, high)), f"Colours stretched from {low:.4g} to {high:.4g}."


def _of_signs(values: np.ndarray, most: float) -> tuple[np.ndarray, str]:
    share = np.clip(values / most, -1, 1)[..., None]
    end = np.where(share < 0, np.array(BELOW), np.array(ABOVE)) / 255
    legend = f"Blue is {-most:.4g}, white 0, orange {most:.4g}."
    return _bytes(1 - np.abs(share) * (1 - end)), legend


def _of_greys(values: np.ndarray, low: float, high: float) -> tuple[np.ndarray, str]:
    grey = np.repeat(_scaled(values, low, high)[..., None], 3, axis=2)
    return _bytes(grey), f"Black is {low:.4g}, white {high:.4g}."


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def _bytes(share: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nan_to_num(np.clip(share, 0, 1)) * 255).round().astype(np.uint8)


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()
