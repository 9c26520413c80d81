"""Panels of the scoreboard's figure: claims, run times, speed. Rows in, artists out."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from hybrid.report.scoreboard import Row, Verdict

# Wong, Nat. Methods 8 (2011).
COLOURS: dict[Verdict, str] = {
    "reproduced": "#009E73",
    "not reproduced": "#D55E00",
    "undecided": "#E69F00",
    "too few seeds": "#999999",
    "not run": "#CCCCCC",
    "not run at paper scale": "#CCCCCC",
}


def verdicts(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw how many claims got which verdict."""
    counts = {name: sum(row.line.verdict == name for row in rows) for name in COLOURS}
    shown = {name: count for name, count in counts.items() if count}
    axes.barh(list(shown), list(shown.values()), color=[COLOURS[name] for name in shown])
    for place, count in enumerate(shown.values()):
        axes.text(count + 0.2, place, str(count), va="center")
    axes.invert_yaxis()
    axes.set(title="Verdicts", xlabel="claims")


def claims(axes: Axes, rows: Sequence[Row], *, title: str, unit: str) -> None:
    """Draw ours (mean, 95 % interval) beside what counts as reproduced and what was reported.

    Claims that were not run are left out.
    """
    shown = [row for row in rows if row.line.estimate is not None]
    for place, row in enumerate(shown):
        claim, found = row.line.claim, row.line.estimate
        assert found is not None
        low, high = claim.low, claim.high
        if not np.isfinite(high):
            axes.plot([low], [place], marker=">", color="#BBBBBB", linestyle="")
        else:
            axes.plot([low, high], [place, place], color="#CCCCCC", linewidth=5)
        reach = [[found.mean - found.low], [found.high - found.mean]]
        axes.errorbar(
            found.mean,
            place,
            xerr=reach if np.isfinite(reach).all() else None,
            marker="o",
            color=COLOURS[row.line.verdict],
            elinewidth=0.8,
        )
        if claim.reported is not None:
            axes.plot(claim.reported, place, "kx", markersize=4)
    axes.set_yticks(range(len(shown)), [fill(row.line.claim.text, 46) for row in shown], fontsize=5)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set(title=title, xlabel=unit)


def minutes(axes: Axes, table: Mapping[str, float]) -> None:
    """Draw minutes of a trial by what was run, logarithmic."""
    places = np.arange(len(table))
    axes.barh(places, list(table.values()), color="#56B4E9")
    axes.set_yticks(places, list(table), fontsize=5)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([1, 3, 10, 30, 100]))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(title="A trial on one core", xlabel="minutes (median)")


def speed(axes: Axes, ratios: Mapping[str, float]) -> None:
    """Draw how many times faster than the usual way to code it, logarithmic."""
    places = np.arange(len(ratios))
    axes.barh(places, list(ratios.values()), color="#0072B2")
    for place, value in enumerate(ratios.values()):
        axes.text(
            value * 1.05, place, f"{value:.0f}x" if value >= 10 else f"{value:.1f}x", va="center"
        )
    axes.set_yticks(places, [fill(name, 40) for name in ratios], fontsize=5)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(right=4.0 * max(ratios.values()))
    axes.set(title="Speed", xlabel="times as fast as the usual form")
