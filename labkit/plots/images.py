"""The data as pictures."""

from matplotlib.figure import Figure

from labkit import data
from labkit.plots.figure import LabFigure, describe


def contact_sheet(dataset: data.Dataset, per_class: int = 16) -> Figure:
    """The first images of each class, one class a row."""
    sheet = data.contact_sheet(dataset, per_class)
    high, wide = sheet.shape
    figure = LabFigure(8.0, 8.0 * high / wide + 0.4)
    axes = figure.add_axes((0.05, 0.02, 0.93, 0.9))
    axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
    step = high / len(dataset.classes)
    axes.set_yticks([(row + 0.5) * step for row in range(len(dataset.classes))], dataset.classes)
    axes.set_xticks([])
    axes.set_ylabel("class")
    axes.set_title(f"the first {per_class} images of each class, of {len(dataset):,}", fontsize=10)
    counts = ", ".join(f"{(dataset.labels == k).sum()} of {name}" for k, name in enumerate(dataset.classes))
    return describe(figure, f"Contact sheet of the first {per_class} images of each class of digits; {counts}.")
