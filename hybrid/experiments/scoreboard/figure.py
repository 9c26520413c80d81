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
from hybrid.report.figures import BLUE, COLOURS, HIGHEST, PALE, SKY, canvas
from hybrid.report.panels import SMALL, Bar, Dot, absent, bars, dots, logarithmic
from hybrid.report.scoreboard import Row
from hybrid.runs.store import Json

_SHORT = {"classification": "class.", "fault_tolerance": "faults", "event_tolerance": "events"}
_SHOWN = 24  # run times, the longest


def draw(rows: Sequence[Row], bench: Json) -> Figure:
    """Draw the paper's claims, run times of laptop records, and speed.

    Args:
        rows: of the scoreboard.
        bench: what `make bench` wrote.
    """
    rows = [row for row in rows if row.claim.confidence != "ours"]
    figure, axes = canvas(["ab", "ab", "cd", "ce"], height=190)
    for letter, unit, title in (("a", "%", "Accuracy"), ("b", "points", "Differences of methods")):
        _claims(axes[letter], [row for row in rows if row.claim.unit == unit], title, unit)
    times = run_times()
    if times:
        _horizontal(axes["c"], times, SKY, title="A trial on one core", xlabel="minutes (median)")
        logarithmic(axes["c"], "x", [1, 3, 10, 30, 100])
    else:
        absent(axes["c"], "no records of the laptop profile")
    ratios = speed_ups(bench)
    texts = [f"{value:.0f}x" if value >= 10 else f"{value:.1f}x" for value in ratios.values()]
    words: dict[str, Any] = {
        "title": "Speed",
        "xlabel": "times as fast as the usual form",
        "xscale": "log",
    }
    _horizontal(axes["d"], ratios, BLUE, texts, **words)
    axes["d"].set_xlim(right=4.0 * max(ratios.values()))
    _verdicts(axes["e"], rows)
    return figure


def draw_comparisons(rows: Sequence[Row]) -> Figure:
    """Draw the comparisons of ours that have been run, which the paper does not make."""
    own = [r for r in rows if r.claim.confidence == "ours" and r.estimate is not None]
    figure, axes = canvas([["comparisons"]], height=min(25.0 + 4.0 * len(own), HIGHEST))
    _claims(axes["comparisons"], own, "Comparisons of ours", "points", width=90)
    return figure


def run_times() -> dict[str, float]:
    """Return the median minutes of laptop trials by experiment, label and method, HP and GP."""
    found: dict[str, list[float]] = {}
    for experiment in EXPERIMENTS:
        for record in committed(experiment, "laptop").records:
            method = record["request"]["method"]["name"]
            if method in ("GP", "HP"):
                key = f"{_SHORT.get(experiment, experiment)}, {label_of(record)}, {method}"
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


def _claims(axes: Axes, rows: Sequence[Row], title: str, unit: str, width: int = 46) -> None:
    """Draw ours (mean, 95 % interval) beside what counts as reproduced and what was reported.

    Claims that were not run are left out.
    """
    shown = [(row, row.estimate) for row in rows if row.estimate is not None]
    marks = []
    for place, (row, found) in enumerate(shown):
        low, high = row.claim.low, row.claim.high
        if np.isfinite(high):
            axes.plot([low, high], [place, place], color=PALE, linewidth=5)
        else:
            axes.plot([low], [place], marker=">", color=PALE, linestyle="")
        ends = (found.low, found.high) if np.isfinite(found.low) else (None, None)
        marks.append(Dot(place, found.mean, ends[0], ends[1], COLOURS[row.verdict]))
    dots(axes, marks, horizontal=True, title=title, xlabel=unit)
    for place, (row, _) in enumerate(shown):
        if row.claim.reported is not None:
            axes.plot(row.claim.reported, place, "kx", markersize=4)
    names = [fill(row.claim.text, width) for row, _ in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=SMALL)
    axes.set_ylim(len(shown) - 0.5, -0.5)


def _horizontal(
    axes: Axes,
    values: Mapping[str, float],
    colour: str,
    texts: Sequence[str] = (),
    **words: Any,
) -> None:
    """Draw values as bars that lie, each with its name and perhaps a text."""
    drawn = [
        Bar(place, value, colour, text=texts[place] if texts else "")
        for place, value in enumerate(values.values())
    ]
    ticks = {fill(name, 40): float(place) for place, name in enumerate(values)}
    bars(axes, drawn, horizontal=True, ticks=ticks, **words)
    axes.tick_params(axis="y", labelsize=SMALL)


def _verdicts(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw how many claims got which verdict."""
    known = [name for name in COLOURS if any(row.verdict == name for row in rows)]
    counts = {name: sum(row.verdict == name for row in rows) for name in known}
    drawn = [
        Bar(place, count, COLOURS[name], text=str(count))
        for place, (name, count) in enumerate(counts.items())
    ]
    ticks = {name: float(place) for place, name in enumerate(counts)}
    bars(axes, drawn, horizontal=True, ticks=ticks, title="Verdicts", xlabel="claims")
