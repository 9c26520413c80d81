"""Panels of Fig. 6: a network on the chip. Arrays in, artists out."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator

from hybrid.report.figures import Series, band, standard_error

IDLE = "#EEEEEE"
# Wong, Nat. Methods 8 (2011).
ROLE_COLOURS = {
    "synapses": "#0072B2",
    "carried": "#56B4E9",
    "sums": "#999999",
    "copies": "#CC79A7",
    "coincidences": "#E69F00",
    "scores": "#F0E442",
    "products": "#009E73",
}
MODEL_COLOURS = {"busy": "#0072B2", "activity": "#D55E00", "naive": "#999999"}
Interval = tuple[float, float, float]


def chip(
    axes: Axes, size: tuple[int, int], used: Sequence[tuple[int, int, str]], title: str
) -> None:
    """Draw the cores of one chip: places (x, y) in use, by role."""
    width, height = size
    roles = list(dict.fromkeys(role for _, _, role in used))
    page = np.zeros((height, width, 3))
    page[:] = _rgb(IDLE)
    for x, y, role in used:
        page[y, x] = _rgb(ROLE_COLOURS[role])
    axes.imshow(page, extent=(0, width, height, 0), interpolation="nearest")
    axes.hlines(range(height + 1), 0, width, color="white", linewidth=0.6)
    axes.vlines(range(width + 1), 0, height, color="white", linewidth=0.6)
    axes.set(xticks=[], yticks=[], title=title)
    for spine in axes.spines.values():
        spine.set_visible(False)
    counts = {role: sum(other == role for _, _, other in used) for role in roles}
    handles = [Patch(color=ROLE_COLOURS[role], label=f"{role} ({counts[role]})") for role in roles]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2)


def beside(
    axes: Axes,
    levels: Series,
    curves: Mapping[str, tuple[Series, Series, str]],
    *,
    what: str,
    title: str,
) -> None:
    """Draw accuracies [seeds, levels] in floating point (lines) and on the chip (dots)."""
    for name, (floating, chip_, colour) in curves.items():
        band(axes, levels, floating, colour=colour, label=name, marker="")
        band(axes, levels, chip_, colour=colour, label="_", linestyle="", marker="o")
    axes.set(xlabel=what, title=title, ylim=(0, 100))
    axes.set_ylabel("accuracy (%)")
    axes.legend(loc="lower left")


def pairs(axes: Axes, groups: Mapping[str, tuple[Series, Series, str]], *, title: str) -> None:
    """Draw accuracies [seeds] in floating point (open bars) beside the chip's (full bars)."""
    for place, (floating, chip_, colour) in enumerate(groups.values()):
        for offset, samples, face in ((-0.2, floating, "none"), (0.2, chip_, colour)):
            axes.bar(
                place + offset,
                samples.mean(),
                0.38,
                yerr=standard_error(samples),
                color=face,
                edgecolor=colour,
                error_kw={"elinewidth": 0.6},
            )
    axes.set_xticks(range(len(groups)), list(groups), rotation=30, ha="right")
    axes.set(ylim=(0, 100), title=title)
    axes.set_ylabel("accuracy (%)")


def bits(axes: Axes, widths: Series, curves: Mapping[str, tuple[Series, str]]) -> None:
    """Draw accuracy against bits of weights [seeds, bits, 1 or 3].

    As it was trained, trained on, and trained on with rounded weights.
    """
    for name, (samples, colour) in curves.items():
        band(axes, widths, samples[..., 0], colour=colour, label=name)
        if samples.shape[-1] > 1:
            band(axes, widths, samples[..., 1], colour=colour, label="_", linestyle=":")
            band(axes, widths, samples[..., 2], colour=colour, label="_", linestyle="--")
    axes.xaxis.set_major_locator(FixedLocator(list(widths)))
    axes.xaxis.set_minor_locator(NullLocator())
    for style, name in ((":", "one epoch more"), ("--", "one epoch more, rounded")):
        axes.plot([], [], style, color="#999999", label=name)
    # Room for the legend above all curves.
    axes.set(xlabel="bits of a weight", title="Fewer bits", ylim=(0, 150), yticks=range(0, 101, 20))
    axes.set_ylabel("accuracy (%)")
    axes.legend(loc="upper left", ncols=2, fontsize=4.5, columnspacing=0.8, handlelength=1.5)


def energies(
    axes: Axes, rows: Mapping[str, Mapping[str, Interval]], counted: Mapping[str, float]
) -> None:
    """Draw energies per inference in J by three models, each (5 %, median, 95 %), by network.

    Args:
        rows: by network and model.
        counted: J that a processor counted for the same network in floating point.
    """
    markers = {"busy": "s", "activity": "o", "naive": "^"}
    names = {"busy": "busy cores, full load", "activity": "static + activity", "naive": "naive"}
    for place, row in enumerate(rows.values()):
        for offset, (model, (low, middle, high)) in zip((-0.2, 0.0, 0.2), row.items(), strict=True):
            axes.errorbar(
                place + offset,
                1e6 * middle,
                yerr=[[1e6 * (middle - low)], [1e6 * (high - middle)]],
                marker=markers[model],
                color=MODEL_COLOURS[model],
                linestyle="",
                elinewidth=0.8,
                label=names[model] if place == 0 else "_",
            )
    for place, name in enumerate(rows):
        if name in counted:
            axes.plot(place, 1e6 * counted[name], "kx", label="processor" if place == 0 else "_")
    axes.set_yscale("log")
    axes.set_xticks(range(len(rows)), list(rows), rotation=20, ha="right")
    axes.set_xlim(-0.5, len(rows) - 0.5)
    axes.set(title="Energy: a model's prediction")
    axes.set_ylim(top=12.0 * axes.get_ylim()[1])  # room for the legend
    axes.set_ylabel("µJ per inference")
    axes.legend(loc="upper left")


def density(axes: Axes, shares: Series, curves: Mapping[str, tuple[Series, str]]) -> None:
    """Draw energy per inference in J against the share of active inputs, by model."""
    for name, (values, colour) in curves.items():
        axes.plot(shares, 1e6 * values, color=colour, label=name)
    axes.set(xlabel="share of inputs active in a step", title="Energy and activity", yscale="log")
    axes.set_ylabel("µJ per inference")
    axes.legend(loc="lower right")


def work(axes: Axes, rows: Mapping[str, tuple[float, float]]) -> None:
    """Draw operations and packets per inference (logarithmic) of ways to have a local module."""
    places = np.arange(len(rows), dtype=float)
    for offset, column, colour, label in (
        (-0.2, 0, "#0072B2", "operations"),
        (0.2, 1, "#E69F00", "packets"),
    ):
        heights = [row[column] for row in rows.values()]
        axes.bar(places + offset, heights, 0.38, color=colour, label=label)
    axes.set_yscale("log")
    axes.set_xticks(places, list(rows), rotation=20, ha="right")
    axes.set(title="What the local module takes")
    axes.set_ylabel("per inference")
    axes.legend(loc="upper left")


def forms(axes: Axes, found: Mapping[str, Series], *, title: str) -> None:
    """Draw accuracies [seeds] of forms of the local module."""
    for place, samples in enumerate(found.values()):
        axes.barh(place, samples.mean(), xerr=standard_error(samples), color="#56B4E9")
    axes.set_yticks(range(len(found)), list(found), fontsize=5)
    axes.invert_yaxis()
    axes.set(xlabel="accuracy (%)", title=f"Forms of the local module: {title}")


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
