"""Learning curves, as several figures show them. Arrays in, artists out."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from hybrid.report.figures import Series, band


def learning(axes: Axes, curves: Mapping[str, tuple[Series, str]], *, title: str) -> None:
    """Draw validation accuracies [seeds, epochs] of named, coloured methods."""
    for name, (samples, colour) in curves.items():
        epochs = np.arange(1, samples.shape[1] + 1, dtype=float)
        marker = "o" if samples.shape[1] < 12 else ""
        band(axes, epochs, samples, colour=colour, label=name, marker=marker)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="validation accuracy (%)", title=title)
    axes.legend(loc="best")
