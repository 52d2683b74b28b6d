"""LabFigure: a figure that needs no pyplot, shows itself once and carries its own description."""

import base64
import html
import io
import math
import sys
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure, FigureBase, SubFigure
from matplotlib.scale import InvertedLogTransform, LogScale, LogTransform
from matplotlib.ticker import Formatter, LogLocator, MaxNLocator
from PIL import Image
from PIL.PngImagePlugin import PngInfo

DPI = 144  # dots per inch of a PNG: sharp on a screen of double density ...
CSS_PIXELS_PER_INCH = 96  # ... on which it is shown in its size in inches ...
WIDEST = 940  # ... up to this many pixels: a page of feedback and formgrader shrink nothing, and would scroll sideways
GREY = "#555555"
LARGEST_POWER = sys.float_info.max_10_exp  # of ten that a float holds: 308
LETTER = 0.075  # inches that a letter of a caption or a legend takes


class PlotError(ValueError):
    """A figure that cannot be drawn; the message is one sentence that says what to do."""


class LabFigure(Figure):
    """A figure with a description. pyplot does not know it, so no notebook shows it a second time."""

    alt_text: str = ""

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height))
        self.set_layout_engine("none")  # positions are set by hand, whatever rcParams ask for

    def png(self, dpi: int = DPI) -> bytes:
        """The figure as a PNG file, its description in the file's metadata."""
        drawn, packed, words = io.BytesIO(), io.BytesIO(), PngInfo()
        self.savefig(drawn, format="tiff", dpi=dpi)  # bare pixels: a PNG would be packed, and unpacked again here
        words.add_text("Description", self.alt_text)
        with Image.open(drawn) as image:
            # 256 colours look the same and make the file, and so the notebook, four times smaller
            few = image.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        few.save(packed, "png", pnginfo=words, dpi=(dpi, dpi))
        return packed.getvalue()

    def bundle(self, dpi: int = DPI) -> dict[str, str]:
        """What a notebook shows, by MIME type.

        JupyterLab and nbconvert's lab template put no alt text on an image/png, so text/html, which they
        prefer, has an <img> with it; image/png is there for the converters to PDF and Word.
        """
        png = self.png(dpi)
        text, width = base64.b64encode(png).decode(), _shown_width(_width(png) / dpi)
        shown = f'<img src="data:image/png;base64,{text}" alt="{html.escape(self.alt_text)}" width="{width}">'
        return {"text/html": shown, "image/png": text, "text/plain": self.alt_text}

    def metadata(self) -> dict[str, dict[str, str | int]]:
        """What goes with the bundle: nbconvert's classic template, and nbgrader's pages of feedback, read it."""
        return {"image/png": {"alt": self.alt_text, "width": _shown_width(self.get_size_inches()[0])}}

    def _ipython_display_(self) -> None:
        """IPython asks for this before anything that a backend has registered for figures."""
        from IPython.display import display

        shown = self.bundle() if shows_images() else {"text/plain": self.alt_text}
        show: Any = display
        show(shown, metadata=self.metadata(), raw=True)


def shows_images() -> bool:
    """Are we in a notebook? A script and a terminal are not."""
    ipython = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython else None
    return shell is not None and "image/png" in shell.display_formatter.active_types


def _width(png: bytes) -> int:
    """In pixels, from the file's header: the user's rcParams may have cropped the figure."""
    return int.from_bytes(png[16:20], "big")


def _shown_width(inches: float) -> int:
    """In pixels of the page."""
    return min(round(inches * CSS_PIXELS_PER_INCH), WIDEST)


def whole(figure: FigureBase | Axes) -> Figure:
    """The figure at the top of a sub-figure or of axes."""
    base: Any = figure.figure if isinstance(figure, Axes) else figure
    top: Figure = base.canvas.figure
    return top


def describe(figure: FigureBase | Axes, text: str) -> Figure:
    """Add to the description of the whole figure, and give that figure."""
    top: Any = whole(figure)
    before = getattr(top, "alt_text", "")
    top.alt_text = f"{before} {text}".strip().replace(r"\$", "$")
    found: Figure = top
    return found


def tiles(
    figure: Figure | SubFigure | None, rows: int, columns: int, width: float, height: float, **options: Any
) -> tuple[Figure | SubFigure, Any]:
    """A figure and its axes (rows, columns), each of that many inches; titles and captions have their places.

    Positions are set by hand: matplotlib's layout engines draw the figure again for every arrangement.
    """
    if figure is None:
        figure = LabFigure(columns * width, rows * height + 0.9)
    wide, high = _inches(figure)
    left, right, bottom, top = options.pop("margins", (0.8, 0.2, 0.85, 0.85))
    grid = {
        "left": left / wide,
        "right": 1 - right / wide,
        "bottom": bottom / high,
        "top": 1 - top / high,
        "wspace": 0.28,
        "hspace": 0.42,
    } | options.pop("grid", {})
    return figure, figure.subplots(rows, columns, squeeze=False, gridspec_kw=grid, **options)


def _inches(figure: Figure | SubFigure) -> tuple[float, float]:
    box = figure.bbox.transformed(whole(figure).dpi_scale_trans.inverted())
    return box.width, box.height


def title(figure: Figure | SubFigure, text: str, caption: str = "") -> None:
    """The title above the tiles and small letters below it that say what exactly was drawn."""
    wide, high = _inches(figure)
    figure.suptitle(text, y=1 - 0.12 / high, va="top", fontsize=13)
    if caption:
        lines = "\n".join(_lines(caption, wide))
        figure.text(0.5, 1 - 0.42 / high, lines, ha="center", va="top", fontsize=9, color=GREY)


def tile_title(axes: Axes, text: str, size: float = 11, **options: Any) -> None:
    """The title of a tile, in its place: to see whether anything is in its way, matplotlib would lay out every tick
    label twice.
    """
    axes.set_title(text, y=1.0, fontsize=size, **options)


def caption_room(figure: Figure | SubFigure | None, caption: str, wide: float) -> float:
    """Inches that `title` needs for a caption of more than two lines, in a new figure of that width or in this one."""
    wide = wide if figure is None else _inches(figure)[0]
    return 0.16 * max(0, len(_lines(caption, wide)) - 2)


def _lines(caption: str, wide: float) -> list[str]:
    return [line for part in caption.splitlines() for line in wrap(part, int(wide / LETTER))]


def legend_room(figure: Figure | SubFigure | None, handles: list[Any], columns: int = 4, wide: float = 10.0) -> float:
    """Inches below the tiles that tick labels, an axis label and `legend_below` take together."""
    wide = wide if figure is None else _inches(figure)[0]
    return 0.65 + 0.2 * _legend_rows(wide, [handle.get_label() for handle in handles], columns)


def _legend_rows(wide: float, labels: list[str], columns: int) -> int:
    fitting = int(wide / (LETTER * max(map(len, labels)) + 0.6))
    return -(-len(labels) // max(1, min(columns, fitting)))


def legend_below(figure: Figure | SubFigure, handles: list[Any], columns: int = 4) -> None:
    """One legend for all tiles, below them, in as many columns as its words allow."""
    labels = [handle.get_label() for handle in handles]
    rows = _legend_rows(_inches(figure)[0], labels, columns)
    columns = -(-len(handles) // rows)
    figure.legend(handles, labels, loc="lower center", ncols=columns, frameon=False, fontsize=9)


def broken_from(axes: Axes, first: int | None, last: int, words: str, place: int = 0) -> None:
    """Shade what comes from `first` on, up to `last`, on the x axis, and say so; nothing when `first` is None.

    The shade also keeps the whole run on the axis, of which matplotlib shows what is finite alone. `place` is the
    line on which the words stand, counted from the top.
    """
    if first is None:
        return
    axes.axvspan(first - 0.5, last + 0.5, color=GREY, alpha=0.12, linewidth=0)
    late = last - first + 1 < 0.4 * last  # too narrow a shade for the words
    at, side = (first - 0.6, "right") if late else (first - 0.4, "left")
    where = axes.get_xaxis_transform()
    axes.text(at, 0.96 - 0.17 * place, words, transform=where, ha=side, va="top", fontsize=8, color=GREY)


class BetweenDecades(Formatter):
    """Labels between the powers of ten, where fewer than two of those are in sight, and no more of them than there is
    room for: matplotlib's own crowd where curves lie close together.
    """

    def __call__(self, x: float, pos: int | None = None) -> str:  # noqa: ARG002
        low, high = sorted(self.axis.get_view_interval())  # type: ignore[union-attr]
        if x <= 0 or low <= 0 or math.floor(math.log10(high)) > math.ceil(math.log10(low)):
            return ""
        power = math.floor(math.log10(x) + 1e-9)
        digit = round(x / 10.0**power)
        labelled = (2, 5) if high > 5 * low else (2, 3, 4, 6) if high > 2.5 * low else range(2, 10)
        return rf"$\mathdefault{{{digit} \times 10^{{{power}}}}}$" if digit in labelled else ""


class _Powers(LogLocator):
    """Powers of ten, without those past the axis that no float holds."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        with np.errstate(over="ignore"):
            found = np.asarray(super().tick_values(vmin, vmax))
        return found[np.isfinite(found)]


class _Back(InvertedLogTransform):
    def transform_non_affine(self, values: Any) -> Any:
        return super().transform_non_affine(np.minimum(values, LARGEST_POWER))


class _Forth(LogTransform):
    def inverted(self) -> InvertedLogTransform:
        return _Back(self.base)


class WholeRange(LogScale):
    """A log scale as far as float64 goes. matplotlib's own ends in an error where the margin above an exploding loss,
    or the tick after it, is more.
    """

    def get_transform(self) -> LogTransform:
        return _Forth(self.base)

    def set_default_locators_and_formatters(self, axis: Axis) -> None:
        super().set_default_locators_and_formatters(axis)
        axis.set_major_locator(_Powers(self.base))
        axis.set_minor_locator(_Powers(self.base, "auto"))


def log_axis(axes: Axes) -> None:
    """A log scale upwards, with few labels between the powers of ten."""
    axes.set_yscale(WholeRange(axes.yaxis))
    axes.yaxis.set_minor_formatter(BetweenDecades())


def at_least_a_decade(axes: Axes) -> None:
    """A log axis on which sizes lie close together: room around them, so that its numbers stay short."""
    low, high = axes.get_ylim()
    if high < 2 * low:
        middle = (low * high) ** 0.5
        axes.set_ylim(middle / 4, middle * 4)


def count_from(axis: Any, ticks: int = 6) -> None:
    """Ticks at whole, round numbers of epochs or iterations."""
    axis.set_major_locator(MaxNLocator(ticks, integer=True, steps=[1, 2, 5, 10]))


def frame(axes: Axes) -> None:
    """Thin grid, no box."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#E5E5E5", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)
