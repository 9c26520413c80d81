"""What the panels of a figure show, as numbers: to compare two states of the code."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle, StepPatch
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def drawn(figure: Figure) -> dict[str, Floats]:
    """Return "panel/kind" -> the different numbers that are shown, sorted.

    Panels go by their letters, if they have any. A point that is drawn twice (a dot upon a line)
    counts once, and images lose their -1, 0 and 1, which are what rows of images are padded with.
    """
    found: dict[str, Floats] = {}
    for axes in figure.axes:
        letters = [text.get_text() for text in axes.texts if text.get_fontweight() == "bold"]
        for kind, values in _of(axes):
            key = "/".join([*letters[:1], kind])
            numbers = np.asarray(values, dtype=float).ravel()
            numbers = numbers[np.isfinite(numbers)]
            if kind == "image":
                numbers = numbers[~np.isin(numbers, (-1, 0, 1))]
            if len(numbers):
                found[key] = np.unique(np.concatenate([found.get(key, numbers), numbers]))
    return found


def _of(axes: Axes) -> list[tuple[str, ArrayLike]]:
    parts: list[tuple[str, ArrayLike]] = []
    for line in axes.get_lines():
        parts += [("x", line.get_xdata(orig=False)), ("y", line.get_ydata(orig=False))]
    for patch in axes.patches:
        if isinstance(patch, StepPatch):
            parts += [("steps", patch.get_data().values), ("edges", patch.get_data().edges)]
        elif isinstance(patch, Rectangle):
            parts += [("bars", [patch.get_height(), patch.get_width()])]
    for image in axes.images:
        shown = np.ma.asarray(image.get_array(), dtype=float)
        parts += [("image", np.ma.filled(shown, np.nan))]
    for group in axes.collections:
        if isinstance(group, PolyCollection):
            parts += [("bands", path.vertices) for path in group.get_paths()]
        elif isinstance(group, LineCollection):
            parts += [("errors", segment) for segment in group.get_segments()]
    return parts
