"""Panels of Fig. 3: accuracy under faults. Arrays in, artists out."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hybrid.report.figures import Series, band, standard_error

SOFT = "#999999"
# A row of example pictures: its name, images [K, H, W], K labels.
PictureRow = tuple[str, NDArray[np.float32], Sequence[str]]
# Line styles of the test protocols, the same in every panel.
PROTOCOL_STYLE = {
    "batch": {"linestyle": "-", "marker": "o"},
    "stream": {"linestyle": "-", "marker": "s"},
    "frozen": {"linestyle": "--", "marker": "^"},
    "sample": {"linestyle": ":", "marker": "v"},
}
PROTOCOL_COLOUR = {
    "batch": "#D55E00",
    "stream": "#E69F00",
    "frozen": "#56B4E9",
    "sample": "#CC79A7",
}


def pictures(axes: Axes, rows: Sequence[PictureRow]) -> None:
    """Show one test image under faults: per row a name, images [K, H, W] and K level labels."""
    images = [row[1] for row in rows]
    height, width = images[0].shape[1:]
    columns, gap, head = max(len(row) for row in images), 3, 11
    sheet = np.ones(((height + head) * len(rows), (width + gap) * columns - gap), np.float32)
    for r, (name, shown, labels) in enumerate(rows):
        top = r * (height + head) + head
        for c, (image, label) in enumerate(zip(shown, labels, strict=True)):
            left = c * (width + gap)
            sheet[top : top + height, left : left + width] = image
            axes.text(left + width / 2, top - 1, label, ha="center", va="bottom", fontsize=5)
        axes.text(-3, top + height / 2, name, ha="right", va="center", rotation=90)
    axes.imshow(sheet, vmin=0, vmax=1)
    axes.axis("off")


def accuracy(
    axes: Axes,
    levels: Series,
    curves: Mapping[str, tuple[Series, str]],
    *,
    xlabel: str,
    title: str,
) -> None:
    """Accuracy [seeds, levels] against fault level for named, coloured methods."""
    for name, (samples, colour) in curves.items():
        band(axes, levels, samples, colour=colour, label=name)
    axes.set(xlabel=xlabel, ylabel="accuracy (%)", title=title)
    axes.legend(loc="best")


def gap(
    axes: Axes,
    levels: Series,
    samples: Series,
    *,
    colour: str,
    xlabel: str,
    reported: Sequence[tuple[str, Series, Series]] = (),
) -> None:
    """HP minus GP [seeds, levels], with reported points (label, levels, gaps) if there are any."""
    axes.axhline(0, color=SOFT, linewidth=0.7)
    band(axes, levels, samples, colour=colour, label=f"ours (n = {len(samples)})")
    for (label, x, y), marker in zip(reported, ("D", "x"), strict=False):
        axes.plot(x, y, marker, color="#000000", label=label, markersize=3, linestyle="none")
    axes.set(xlabel=xlabel, ylabel="HP minus GP (points)", title="The gain of HP")
    axes.legend(loc="best")


def protocols(
    axes: Axes,
    levels: Series,
    curves: Mapping[str, Series],
    baseline: Series,
    *,
    baseline_colour: str,
    xlabel: str,
    title: str,
) -> None:
    """HP under each test protocol [seeds, levels], with GP for comparison."""
    for name, samples in curves.items():
        style = PROTOCOL_STYLE[name]
        band(axes, levels, samples, colour=PROTOCOL_COLOUR[name], label=f"HP, {name}", **style)
    band(axes, levels, baseline, colour=baseline_colour, label="GP", linestyle="-.", marker=".")
    axes.set(xlabel=xlabel, ylabel="accuracy (%)", title=title)
    axes.set_ylim(bottom=0)
    axes.legend(loc="best", ncols=2, columnspacing=0.8)


def other_noises(
    axes: Axes, bars: Mapping[str, Mapping[str, Series]], colours: Mapping[str, str]
) -> None:
    """Bars of accuracy at each noise's highest level: noise -> method -> samples [seeds]."""
    noises, methods = list(bars), list(next(iter(bars.values())))
    width = 0.8 / len(methods)
    for m, method in enumerate(methods):
        samples = [bars[noise][method] for noise in noises]
        means = [values.mean() for values in samples]
        errors = [standard_error(values) for values in samples]
        places = np.arange(len(noises)) + (m - (len(methods) - 1) / 2) * width
        axes.bar(
            places,
            means,
            width,
            yerr=[0.0 if error is None else float(error) for error in errors],
            color=colours[method],
            label=method,
            error_kw={"linewidth": 0.6},
        )
    axes.set_xticks(np.arange(len(noises)), noises)
    axes.set(ylabel="accuracy (%)", title="Other noises, highest level")
    axes.set_ylim(0, 125)
    axes.set_yticks(range(0, 101, 25))
    axes.legend(ncols=len(methods), loc="upper center")


def rates(
    axes: Axes, levels: Series, curves: Mapping[str, tuple[Series, str]], xlabel: str
) -> None:
    """Hidden firing rates [seeds, levels] in spikes per neuron and step."""
    for name, (samples, colour) in curves.items():
        band(axes, levels, samples, colour=colour, label=name)
    axes.set(xlabel=xlabel, ylabel="spikes per neuron and step", title="Hidden firing rate")
    axes.set_ylim(bottom=0)
    axes.legend(loc="best")


def confusion(
    axes: Axes, counts: NDArray[np.int64], classes: Sequence[str], *, title: str, figure: Figure
) -> None:
    """Confusion matrix [true, predicted], summed over seeds, as per cent of the true class."""
    share = 100.0 * counts / counts.sum(-1, keepdims=True)
    picture = axes.imshow(share, cmap="viridis", vmin=0, vmax=100)
    axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=5)
    axes.set_yticks(range(len(classes)), classes, fontsize=5)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set(xlabel="predicted class", ylabel="true class", title=title)
    bar = figure.colorbar(picture, ax=axes, shrink=0.8, pad=0.02)
    bar.set_label("share of true class (%)", fontsize=5)
    bar.ax.tick_params(labelsize=5)
    bar.outline.set_visible(False)
