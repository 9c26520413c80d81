"""The panels that every figure is made of: lines, dots, forest, bars, images, matrix, raster, map.

Each takes arrays and words, and draws into given axes. Samples are [seeds, x]: lines show their
mean with a band, dots and bars with an error bar: the 95 % interval. One seed has neither.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, ScalarFormatter
from numpy.typing import NDArray

from hybrid.report.estimate import Estimate, Floats, half_interval
from hybrid.report.figures import COLOURS, FAINT, GREY

SMALL = 5  # pt, of text in panels


class Line(NamedTuple):
    """One line of a panel; a name that begins with "_" stays out of the legend."""

    name: str
    x: Floats | Sequence[float]
    samples: Floats  # [seeds, x], or the values themselves [x]
    colour: str
    style: Mapping[str, Any] = {}


class Dot(NamedTuple):
    """One mark with an interval; without a low end there is none."""

    place: float  # along x; in a forest, from the middle of its row
    value: float
    low: float | None = None
    high: float | None = None
    colour: str = GREY
    marker: str = "o"
    name: str = "_"

    @classmethod
    def of(cls, place: float, samples: Floats, colour: str, name: str = "_") -> "Dot":
        """Return the mean of samples [seeds], or [seeds, items], with its 95 % interval."""
        found = Estimate.of(samples)
        low, high = (found.low, found.high) if found.n > 1 else (None, None)
        return cls(place, found.mean, low, high, colour, name=name)


class Bar(NamedTuple):
    """One bar: a value, or the mean of samples [seeds]."""

    place: float
    samples: Floats | float
    colour: str
    width: float = 0.8
    name: str = "_"
    ends: tuple[float, float] | None = None  # of its interval; None: 95 %
    text: str = ""
    look: Mapping[str, Any] = {}


def lines(
    axes: Axes,
    curves: Sequence[Line],
    *,
    legend: Mapping[str, Any] | None = {"loc": "best"},
    whole_x: bool = False,
    **labels: Any,
) -> None:
    """Draw lines with bands.

    Args:
        axes: where.
        curves: what, in the order of the legend.
        legend: where the legend lies, as matplotlib has it; None for none.
        whole_x: whether ticks of x are whole numbers.
        labels: axis labels, title, limits, ticks: as `Axes.set` takes them.
    """
    for name, x, samples, colour, style in curves:
        mean = samples.mean(0) if samples.ndim == 2 else samples
        reach = half_interval(samples) if samples.ndim == 2 else None
        look = {"marker": "o" if samples.ndim == 2 else "", **style}
        axes.plot(x, mean, color=colour, label=name, **look)
        if reach is not None:
            axes.fill_between(x, mean - reach, mean + reach, color=colour, alpha=0.25, linewidth=0)
    axes.set(**labels)
    if whole_x:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if legend is not None and axes.get_legend_handles_labels()[0]:
        axes.legend(**legend)


def dots(axes: Axes, marks: Sequence[Dot], **labels: Any) -> None:
    """Draw marks with intervals along x."""
    for mark in marks:
        _mark(axes, mark, mark.place, lying=False)
    axes.set(**labels)


def forest(
    axes: Axes,
    rows: Mapping[str, Sequence[Dot]],
    *,
    zero: bool = False,
    within: float | None = None,
    legend: Mapping[str, Any] | None = None,
    **labels: Any,
) -> None:
    """Draw rows of marks with intervals, values along x, the first row at the top.

    Args:
        axes: where.
        rows: marks of each row, by its name.
        zero: whether a line marks 0: values are differences.
        within: what lies farther from 0 becomes an arrow with numbers; None draws everything.
        legend: see `lines`; None for none.
        labels: see `lines`.
    """
    if zero:
        axes.axvline(0.0, color=GREY, linewidth=0.7, zorder=0)
    for row, marks in enumerate(rows.values()):
        for mark in marks:
            at = row + mark.place
            if within is None or abs(mark.value) <= within:
                _mark(axes, mark, at, lying=True)
                continue
            side, symbol = (1, ">") if mark.value > 0.0 else (-1, "<")
            look: dict[str, Any] = {"color": mark.colour, "markersize": 3, "label": mark.name}
            axes.plot(side * within, at, symbol, **look)
            ends = "" if mark.low is None else f" [{mark.low:.0f}, {mark.high:.0f}]"
            axes.annotate(
                f"{mark.value:+.0f}{ends}",
                (side * within, at),
                (-4 * side, 0),
                textcoords="offset points",
                ha="right" if side > 0 else "left",
                va="center",
                fontsize=SMALL,
            )
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set(**labels)
    if legend is not None and axes.get_legend_handles_labels()[0]:
        axes.legend(**legend)


def _mark(axes: Axes, mark: Dot, at: float, *, lying: bool) -> None:
    """Draw a mark at a place of its own, with its interval standing or `lying`."""
    reach: Any = None
    if mark.low is not None and mark.high is not None:
        reach = [[mark.value - mark.low], [mark.high - mark.value]]
    axes.errorbar(
        *((mark.value, at) if lying else (at, mark.value)),
        **{"xerr" if lying else "yerr": reach},
        marker=mark.marker,
        color=mark.colour,
        linestyle="",
        markersize=3,
        elinewidth=0.8,
        label=mark.name,
    )


def bars(
    axes: Axes,
    drawn: Sequence[Bar],
    *,
    horizontal: bool = False,
    legend: Mapping[str, Any] | None = None,
    ticks: Mapping[str, float] | None = None,
    rotation: float = 0.0,
    **labels: Any,
) -> None:
    """Draw bars with error bars; texts stand above or behind them.

    Args:
        axes: where.
        drawn: what.
        horizontal: whether bars lie; the first one is then at the top.
        legend: see `lines`; None for none.
        ticks: names along the bars, with their places.
        rotation: of these names, in degrees.
        labels: see `lines`.
    """
    for place, samples, colour, width, name, ends, text, look in drawn:
        values = np.atleast_1d(np.asarray(samples, dtype=float))
        value, half = float(values.mean()), half_interval(values)
        reach: Any = None if half is None else float(half)
        if ends is not None:
            reach = [[value - ends[0]], [ends[1] - value]]
        draw = axes.barh if horizontal else axes.bar
        draw(
            place,
            value,
            width,
            **{"xerr" if horizontal else "yerr": reach},
            **{"color": colour, "label": name, "error_kw": {"elinewidth": 0.6}, **look},
        )
        if text and horizontal:
            axes.annotate(text, (value, place), (2, 0), textcoords="offset points", va="center")
        elif text:
            upright = 90 if len(text) > 2 else 0
            axes.annotate(
                text,
                (place, value),
                (0, 4),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=SMALL,
                rotation=upright,
            )
    if ticks is not None:
        axis = axes.yaxis if horizontal else axes.xaxis
        slanted: dict[str, Any] = {"ha": "right"} if 0 < rotation < 90 else {}
        axis.set_ticks(list(ticks.values()), list(ticks), rotation=rotation, **slanted)
    if horizontal:
        axes.invert_yaxis()
    axes.set(**labels)
    if legend is not None and axes.get_legend_handles_labels()[0]:
        axes.legend(**legend)


def images(
    axes: Axes,
    rows: Sequence[Sequence[NDArray[Any]]],
    *,
    gap: int = 3,
    row_names: Sequence[str] = (),
    labels: Sequence[Sequence[str]] = (),
    below: bool = False,
    title: str = "",
    **look: Any,
) -> None:
    """Show pictures of one size in rows.

    Args:
        axes: where.
        rows: pictures [height, width] of each row.
        gap: pixels between them.
        row_names: beside the rows.
        labels: of each picture of a row, above it, or `below` it; rows may have none.
        title: of the panel.
        look: of `imshow`.
    """
    height, width = rows[0][0].shape
    head = gap + (8 if len(labels) > 1 else 0)  # room for labels between rows
    columns = max(len(row) for row in rows)
    page = np.full(((height + head) * len(rows) - head, (width + gap) * columns - gap), np.nan)
    for r, row in enumerate(rows):
        top = r * (height + head)
        for c, picture in enumerate(row):
            left = c * (width + gap)
            page[top : top + height, left : left + width] = picture
        if r < len(row_names):
            place = (-3, top + height / 2)
            axes.text(*place, row_names[r], ha="right", va="center", rotation=90, fontsize=SMALL)
        for c, text in enumerate(labels[r] if r < len(labels) else ()):
            middle, edge = c * (width + gap) + width / 2, top + height + 1 if below else top - 2
            axes.text(
                middle, edge, text, ha="center", va="top" if below else "bottom", fontsize=SMALL
            )
    axes.imshow(page, **{"interpolation": "nearest", **look})
    axes.axis("off")
    axes.set(title=title)


def matrix(
    axes: Axes,
    table: Floats,
    *,
    names: tuple[Sequence[str], Sequence[str]] | None = None,
    scale: str | None = None,
    limits: tuple[float, float] = (0.0, 100.0),
    cmap: str = "viridis",
    **labels: Any,
) -> None:
    """Draw a table [rows, columns] in colours, NaN left white.

    Args:
        axes: where.
        table: numbers.
        names: of rows and of columns; None numbers some of them from 1.
        scale: label of a colour scale beside it; None for no scale, "" for one without a label.
        limits: ends of the colours.
        cmap: matplotlib's name of the colours.
        labels: see `lines`.
    """
    low, high = limits
    picture = axes.imshow(
        table, cmap=cmap, vmin=low, vmax=high, aspect="auto", interpolation="nearest"
    )
    if names is None:
        for axis, count in ((axes.xaxis, table.shape[1]), (axes.yaxis, table.shape[0])):
            shown = np.unique(np.linspace(0, count - 1, min(count, 5)).round().astype(int))
            axis.set_ticks(shown, [str(number + 1) for number in shown])
    else:
        axes.set_yticks(range(len(names[0])), names[0], fontsize=SMALL)
        axes.set_xticks(range(len(names[1])), names[1], rotation=90, fontsize=SMALL)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set(**labels)
    if scale is not None:
        bar = axes.figure.colorbar(picture, ax=axes, fraction=0.05, pad=0.02)
        bar.set_label(scale, fontsize=SMALL)
        bar.ax.tick_params(labelsize=SMALL)
        bar.outline.set_visible(False)


def raster(
    axes: Axes,
    groups: Mapping[str, tuple[Sequence[tuple[int, int]], int]],
    *,
    colour: str,
    **labels: Any,
) -> None:
    """Draw spikes as (step, neuron) pairs of each group of so many neurons, stacked."""
    base, ticks = 0, []
    for name, (pairs, size) in groups.items():
        points = np.array(pairs, dtype=float).reshape(-1, 2)
        axes.plot(points[:, 0] + 1, points[:, 1] + base, "|", color=colour, markersize=2)
        ticks.append((base + size / 2, name))
        base += size + 8
    axes.set_yticks([place for place, _ in ticks], [name for _, name in ticks], rotation=90)
    axes.tick_params(axis="y", length=0)
    axes.set(**labels)


def chip_map(
    axes: Axes,
    size: tuple[int, int],
    used: Sequence[tuple[int, int, str]],
    title: str,
    names: Mapping[Any, str],
) -> None:
    """Draw the cores of one chip [width, height]: places (x, y) in use, by role, and its name."""
    width, height = size
    page = np.full((height, width, 3), to_rgb(FAINT))
    for x, y, role in used:
        page[y, x] = to_rgb(COLOURS[role])
    axes.imshow(page, extent=(0, width, height, 0), interpolation="nearest")
    axes.hlines(range(height + 1), 0, width, color="white", linewidth=0.6)
    axes.vlines(range(width + 1), 0, height, color="white", linewidth=0.6)
    axes.set(xticks=[], yticks=[], title=title)
    axes.spines[:].set_visible(False)
    roles = [role for _, _, role in used]
    handles = [
        Patch(color=COLOURS[role], label=f"{names[role]} ({roles.count(role)})")
        for role in dict.fromkeys(roles)
    ]
    small: dict[str, Any] = {"fontsize": SMALL, "handlelength": 0.8, "columnspacing": 0.8}
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2, **small)


def learning(axes: Axes, curves: Mapping[str, Floats], title: str) -> None:
    """Draw validation accuracies [seeds, epochs] by method, as several figures show them."""
    drawn = [
        Line(
            name,
            np.arange(1.0, samples.shape[1] + 1),
            samples,
            COLOURS[name],
            {"marker": "o" if samples.shape[1] < 12 else ""},
        )
        for name, samples in curves.items()
    ]
    ylabel = "validation accuracy (%)"
    lines(axes, drawn, whole_x=True, xlabel="epoch", ylabel=ylabel, title=title)


def absent(axes: Axes, why: str) -> None:
    """Say why there is nothing to draw."""
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", color=GREY)
    axes.set_axis_off()


def logarithmic(axes: Axes, which: str, ticks: Sequence[float]) -> None:
    """Make an axis, "x" or "y", logarithmic, with plain numbers at some ticks."""
    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_locator(NullLocator())
