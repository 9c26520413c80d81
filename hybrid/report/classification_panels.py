"""Panels of Fig. 2: classification. Arrays in, artists out."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from hybrid.report.figures import Series, band, standard_error

SOFT = "#999999"
# Codes and rules, apart from the colours of the methods.
CODE_COLOUR = {
    "membrane": "#D55E00",
    "rate": "#E69F00",
    "first spike": "#56B4E9",
    "first spike (batch)": "#009E73",
    "Poisson": "#000000",
}


class Row(NamedTuple):
    """One line of a table of accuracies."""

    name: str
    samples: Mapping[str, Series]  # method -> accuracies [seeds]
    reported: float | None = None


def table(axes: Axes, rows: Sequence[Row], colours: Mapping[str, str], *, title: str) -> None:
    """Accuracies as numbers and as dots with one standard error; reported ones as diamonds."""
    methods = [m for m in colours if any(m in row.samples for row in rows)]
    for y, row in enumerate(rows):
        drawn = [m for m in methods if m in row.samples]
        for i, method in enumerate(drawn):
            samples, place = row.samples[method], y + 0.22 * (i - (len(drawn) - 1) / 2)
            error = standard_error(samples)
            axes.errorbar(
                samples.mean(),
                place,
                xerr=None if error is None else float(error),
                fmt="o",
                color=colours[method],
                markersize=3,
                elinewidth=0.8,
            )
        if row.reported is not None:
            axes.plot(row.reported, y, "D", color="#000000", markersize=3, fillstyle="none")
        text = "  ".join(f"{m} {row.samples[m].mean():.1f}" for m in drawn)
        counts = sorted({len(row.samples[m]) for m in drawn})
        text += f"  (n = {', '.join(map(str, counts))})"
        axes.text(0.01, y, text, transform=axes.get_yaxis_transform(), va="center", fontsize=5)
    for method in methods:
        axes.plot([], [], "o", color=colours[method], markersize=3, label=method)
    if any(row.reported is not None for row in rows):
        axes.plot(
            [], [], "D", color="#000000", markersize=3, fillstyle="none", label="reported (HP)"
        )
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if max(low, 0.0) <= tick <= min(high, 100.0)]
    axes.set_xlim(low - 0.6 * (high - low), high)  # room for the numbers
    axes.set_xticks(ticks)
    axes.set(xlabel="test accuracy (%)")
    axes.set_title(title, loc="left")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, columnspacing=0.8)


def codes_by_step(axes: Axes, curves: Mapping[str, tuple[Series, Series]]) -> None:
    """Accuracy [seeds, K] had the network to answer at a step [K], for each code."""
    for name, (steps, samples) in curves.items():
        band(axes, steps, samples, colour=CODE_COLOUR[name], label=name)
    axes.set(xlabel="steps", ylabel="test accuracy (%)", title="Answering early")
    axes.legend(loc="best")


def codes_by_spikes(axes: Axes, curves: Mapping[str, tuple[Series, Series]]) -> None:
    """Accuracy [seeds, K] against spikes until the answer [seeds, K], means over seeds."""
    for name, (spikes, samples) in curves.items():
        axes.plot(
            spikes.mean(0), samples.mean(0), "o-", color=CODE_COLOUR[name], label=name, markersize=2
        )
    axes.set(xlabel="spikes per image", ylabel="test accuracy (%)", title="What answers cost")
    axes.set_xlim(left=0)
    axes.legend(loc="best")


def raster(
    axes: Axes, groups: Mapping[str, Sequence[tuple[int, int]]], steps: int, *, colour: str
) -> None:
    """Spikes as (step, neuron) pairs of each group of neurons, stacked with a gap."""
    base, ticks = 0, []
    for name, pairs in groups.items():
        points = np.array(pairs, dtype=float).reshape(-1, 2)
        height = 100 if name == "hidden" else 10
        axes.plot(points[:, 0] + 1, points[:, 1] + base, "|", color=colour, markersize=2)
        ticks.append((base + height / 2, name))
        base += height + 8
    axes.set_yticks([place for place, _ in ticks], [name for _, name in ticks], rotation=90)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0.5, steps + 0.5)
    axes.set(xlabel="step", title="Spikes, one image (HP)")


def sensitivity(
    axes: Axes, scales: Series, curves: Mapping[str, tuple[Series, str]], *, title: str
) -> None:
    """Accuracy [seeds, K] of trained networks whose local gain is scaled by a factor [K]."""
    for name, (samples, colour) in curves.items():
        band(axes, np.arange(len(scales), dtype=float), samples, colour=colour, label=name)
    axes.axvline(list(scales).index(1.0), color=SOFT, linewidth=0.7)
    axes.set_xticks(range(len(scales)), [f"{scale:g}" for scale in scales])
    axes.set(xlabel="local gain, × learned", ylabel="test accuracy (%)", title=title)
    axes.legend(loc="best")
