"""The scoreboard as a picture: which rows and numbers go into which panel."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybrid.experiments.core.records import label_of
from hybrid.experiments.registry import EXPERIMENTS
from hybrid.experiments.scoreboard.rows import committed
from hybrid.report.figures import BLUE, COLOURS, HIGHEST, ON_WHITE, PALE, canvas, spoken
from hybrid.report.panels import SMALL, Bar, Dot, absent, bars, forest, logarithmic
from hybrid.report.scoreboard import Row
from hybrid.runs.store import Json

_SHORT = {"classification": "class.", "fault_tolerance": "faults", "event_tolerance": "events"}
_SHOWN = 24  # run times, the longest
_FARTHEST = 20.0  # points; what is farther from 0 is written as a number


def draw(rows: Sequence[Row], bench: Json) -> Figure:
    """Draw the paper's claims, run times of laptop records, and speed.

    Args:
        rows: of the scoreboard.
        bench: what `make bench` wrote.
    """
    rows = [row for row in rows if row.claim.confidence != "ours"]
    figure, axes = canvas(["ab", "ab", "cd", "ce"], height=190)
    for letter, unit, name in (("a", "%", "accuracies"), ("b", "points", "differences")):
        own = [r for r in rows if r.claim.unit == unit and r.estimate is not None]
        right = sum(row.verdict == "reproduced" for row in own)
        title = f"{right} of {len(own)} {name} reproduced"
        within = _FARTHEST if unit == "points" else None
        _claims(axes[letter], {row.claim.text: row for row in own}, title, unit, within)
    _key(axes["a"], [row for row in rows if row.estimate is not None], "center left")
    times = run_times()
    if times:
        marks = {name: [Dot(0.0, value, colour=BLUE)] for name, value in times.items()}
        title = f"A trial on one core: up to {max(times.values()):.0f} minutes"
        forest(axes["c"], marks, title=title, xlabel="minutes (median)")
        logarithmic(axes["c"], "x", [1, 3, 10, 30, 100])
    else:
        absent(axes["c"], "no records of the laptop profile")
    ratios = speed_ups(bench)
    marks = {
        fill(f"{name}: {value:.{0 if value >= 10 else 1}f}", 40): [Dot(0.0, value, colour=BLUE)]
        for name, value in ratios.items()
    }
    title = f"Speed: {min(ratios.values()):.1f} to {max(ratios.values()):.0f} times the usual form"
    forest(axes["d"], marks, title=title, xlabel="times as fast as the usual form")
    logarithmic(axes["d"], "x", [1, 3, 10, 30, 100])
    for letter in "cd":
        axes[letter].tick_params(axis="y", labelsize=SMALL)
    _verdicts(axes["e"], rows)
    return figure


def draw_comparisons(rows: Sequence[Row]) -> Figure:
    """Draw the comparisons of ours that have been run, which the paper does not make, by data."""
    groups: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row.claim.confidence == "ours" and row.estimate is not None:
            data = min(row.claim.text.split(sep)[0] for sep in (", ", ": "))
            groups.setdefault(data, {})[row.claim.text.removeprefix(data)[2:]] = row
    if not groups:
        figure, axes = canvas(["a"], height=40)
        absent(axes["a"], "no comparison of ours has been run")
        return figure
    largest = max(groups, key=lambda data: len(groups[data]))
    others = [data for data in groups if data != largest]
    heights = [len(groups[data]) + 2 for data in others]  # with room for a title
    mosaic = [["a", letter] for letter in "bcdefgh"[: len(others)]] or [["a"]]
    height = min(25.0 + 8.0 * max(sum(heights), len(groups[largest])), HIGHEST)
    figure, axes = canvas(mosaic, height=height, height_ratios=heights or None)
    for letter, data in zip("abcdefgh", [largest, *others], strict=False):
        held = sum(row.verdict == "holds" for row in groups[data].values())
        title = f"{data}: {held} of {len(groups[data])} hold"
        _claims(
            axes[letter], groups[data], title, "points" if data in (largest, others[-1]) else ""
        )
    _key(axes["a"], [row for group in groups.values() for row in group.values()], "upper left")
    return figure


def run_times() -> dict[str, float]:
    """Return the median minutes of laptop trials by experiment, label and method, HP and GP."""
    found: dict[str, list[float]] = {}
    for experiment in EXPERIMENTS:
        for record in committed(experiment, "laptop").records:
            method = record["request"]["method"]["name"]
            if method in ("GP", "HP"):
                key = f"{_SHORT.get(experiment, experiment)}, {spoken(label_of(record))}, {method}"
                found.setdefault(key, []).append(record["about"]["seconds"] / 60.0)
    medians = {key: float(np.median(minutes)) for key, minutes in found.items()}
    longest = sorted(medians, key=lambda key: -medians[key])[:_SHOWN]
    return {key: medians[key] for key in longest}


def speed_ups(bench: Json) -> dict[str, float]:
    """Return how many times as fast as the usual form each of our forms is.

    HP against the form that materialises [N, in, out], GP against a plain loop, episodes against
    image by image (the benchmark's only network, which needs no name), frames against tonic; with
    two threads where there are two.
    """
    most = max(row["threads"] for row in bench["rows"])
    found = {}
    for row in bench["rows"]:
        work, both = row["work"], row["threads"] == most
        if work.endswith("GP, plain loop") and both:
            found[work.replace("GP, plain loop", "GP")] = row["of GP, ours"]
        elif work.endswith("HP, ours") and both and "speed-up" in row:
            found[work.removesuffix(", ours")] = row["speed-up"]
        elif ("few-shot" in work or "frames" in work) and row["speed-up"] != 1.0:
            found[work.replace(", 4 x 128 channels, 5-way 1-shot", "")] = row["speed-up"]
    return found


def _claims(
    axes: Axes, rows: Mapping[str, Row], title: str, unit: str, within: float | None = None
) -> None:
    """Draw ours (mean, 95 % interval) beside what counts as reproduced and what was reported."""
    for place, row in enumerate(rows.values()):
        low, high = row.claim.low, row.claim.high
        if np.isfinite(high):
            axes.plot([low, high], [place, place], color=PALE, linewidth=5)
        else:
            axes.plot([low], [place], marker=">", color=PALE, linestyle="")
    marks = {}
    for name, row in rows.items():
        found = row.estimate
        assert found is not None, "claims that were not run are left out"
        mark = Dot(0.0, found.mean, colour=COLOURS[row.verdict])
        sure = np.isfinite(found.low)
        marks[fill(name, 44)] = [mark._replace(low=found.low, high=found.high) if sure else mark]
    forest(axes, marks, within=within, title=title, xlabel=unit)
    for place, row in enumerate(rows.values()):
        if row.claim.reported is not None:
            axes.plot(row.claim.reported, place, "kx", markersize=4)
    axes.tick_params(axis="y", labelsize=SMALL)


def _key(axes: Axes, rows: Sequence[Row], loc: str) -> None:
    """Say what marks and colours mean."""
    for verdict in (name for name in COLOURS if any(row.verdict == name for row in rows)):
        axes.plot([], [], "o-", color=COLOURS[verdict], linewidth=0.8, label=verdict)
    axes.plot([], [], color=PALE, linewidth=5, label="in here: yes")
    axes.plot([], [], ">", color=PALE, label="above: yes")
    if any(row.claim.reported is not None for row in rows):
        axes.plot([], [], "kx", markersize=4, label="reported")
    look: dict[str, Any] = {"loc": loc, "fontsize": SMALL, **ON_WHITE}
    axes.legend(**look)


def _verdicts(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw how many claims got which verdict."""
    known = [name for name in COLOURS if any(row.verdict == name for row in rows)]
    counts = {name: sum(row.verdict == name for row in rows) for name in known}
    drawn = [
        Bar(place, count, COLOURS[name], text=str(count))
        for place, (name, count) in enumerate(counts.items())
    ]
    ticks = {name: float(place) for place, name in enumerate(counts)}
    title = f"{counts.get('reproduced', 0)} of {len(rows)} claims reproduced"
    bars(axes, drawn, horizontal=True, ticks=ticks, title=title, xlabel="claims")
