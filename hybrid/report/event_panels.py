"""Panels on event cameras: recordings as images, rates, accuracy under faults. Arrays in."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from hybrid.report.figures import Series, band

SOFT = "#999999"
REAL, MODEL = "#000000", "#D55E00"
POLARITIES = ("darker", "brighter")


def sheet(axes: Axes, rows: Sequence[tuple[str, Series]], labels: Sequence[str]) -> None:
    """Draw brighter minus darker events as images: rows of a name and images [K, H, W].

    Red pixels became brighter, blue ones darker; each image is scaled to itself.
    """
    height, width = rows[0][1].shape[1:]
    gap = 2
    page = np.zeros((len(rows) * (height + gap) - gap, len(labels) * (width + gap) - gap))
    page[:] = np.nan
    for r, (name, images) in enumerate(rows):
        top = r * (height + gap)
        for c, image in enumerate(images):
            left, largest = c * (width + gap), max(np.abs(image).max(), 1.0)
            page[top : top + height, left : left + width] = image / largest
        axes.text(-2, top + height / 2, name, ha="right", va="center", rotation=90, fontsize=5)
    axes.imshow(page, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    for c, label in enumerate(labels):
        place = c * (width + gap) + width / 2
        axes.text(place, -2, label, ha="center", va="bottom", fontsize=5)
    axes.axis("off")


def rates(axes: Axes, times: Series, real: Series, model: Series) -> None:
    """Draw events per ms of a recording [polarity, window], real and simulated."""
    for p, style in enumerate(("--", "-")):
        axes.plot(times, real[p], style, color=REAL, label=f"N-MNIST, {POLARITIES[p]}")
        axes.plot(times, model[p], style, color=MODEL, label=f"simulated, {POLARITIES[p]}")
    axes.set(xlabel="time (ms)", ylabel="events per ms", title="Three saccades")
    axes.legend(loc="upper right", fontsize=4.5)
    axes.set_ylim(0, 1.35 * max(real.max(), model.max()))


def counts(axes: Axes, real: Series, model: Series) -> None:
    """Draw events per recording [saccade, polarity], real and simulated."""
    places = np.arange(real.size)
    for offset, values, colour, name in (
        (-0.2, real, REAL, "N-MNIST"),
        (0.2, model, MODEL, "simulated"),
    ):
        axes.bar(places + offset, values.ravel(), 0.4, color=colour, label=name)
    names = [f"{s + 1}\n{'−+'[p]}" for s in range(len(real)) for p in (0, 1)]
    axes.set_xticks(places, names)
    axes.set(xlabel="saccade and polarity", ylabel="events", title="Events per recording")
    axes.set_ylim(0, 1.3 * max(real.max(), model.max()))
    axes.legend(loc="upper right", ncols=2)


def fault(
    axes: Axes,
    levels: Series,
    curves: Mapping[str, tuple[Series, str, str]],
    *,
    axis: str,
    legend: bool,
) -> None:
    """Draw accuracy [seeds, levels] against the level of one fault: colour and line style each."""
    for name, (samples, colour, style) in curves.items():
        band(axes, levels, samples, colour=colour, label=name, linestyle=style)
    what, _, unit = axis.partition(" (")
    # Room for the legend above the curves: which corner they leave free depends on the fault.
    axes.set(xlabel=unit.rstrip(")") or what, title=what, ylim=(0, 128), yticks=range(0, 101, 25))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    if legend:
        axes.set_ylabel("accuracy (%)")
        axes.legend(loc="upper center", ncols=2, fontsize=4.5, columnspacing=0.8, handlelength=1.5)


def evidence(axes: Axes, curves: Mapping[str, tuple[Series, str]], *, title: str) -> None:
    """Draw spikes of the right class minus the mean of the others [seeds, steps], by method."""
    for name, (samples, colour) in curves.items():
        steps = np.arange(1, samples.shape[1] + 1, dtype=float)
        band(axes, steps, samples, colour=colour, label=name)
    axes.axhline(0.0, color=SOFT, linewidth=0.7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="window", ylabel="spikes, right − others", title=title)
    axes.legend(loc="upper left")
