"""The scoreboard as a picture: which rows and numbers go into which panel."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from hybrid.experiments.board import label_of, records_of
from hybrid.experiments.registry import EXPERIMENTS
from hybrid.report import board_panels as panels
from hybrid.report.figures import absent, canvas
from hybrid.report.scoreboard import Row
from hybrid.runs.store import Json

_SHORT = {"classification": "class.", "fault_tolerance": "faults", "event_tolerance": "events"}


def draw(rows: Sequence[Row], bench: Json) -> Figure:
    """Draw all claims, run times of laptop records, and speed.

    Args:
        rows: of the scoreboard.
        bench: what `hybrid bench` wrote.
    """
    figure, axes = canvas(["ab", "ab", "cd", "ce"], height=190)
    shares = [row for row in rows if row.line.claim.unit == "%"]
    gaps = [row for row in rows if row.line.claim.unit == "points"]
    panels.claims(axes["a"], shares, title="Accuracy", unit="%")
    panels.claims(axes["b"], gaps, title="Differences of methods", unit="points")
    table = run_times()
    if table:
        panels.minutes(axes["c"], table)
    else:
        absent(axes["c"], "no records of the laptop profile")
    panels.speed(axes["d"], speed_ups(bench))
    panels.verdicts(axes["e"], rows)
    return figure


def run_times() -> dict[str, float]:
    """Return the median minutes of laptop trials by experiment, config and method, HP and GP."""
    found: dict[str, list[float]] = {}
    for experiment in EXPERIMENTS:
        for record in records_of(experiment, "laptop"):
            method = record["request"]["method"]["name"]
            if method in ("GP", "HP"):
                where = _SHORT.get(experiment, experiment)
                key = f"{where}, {label_of(record)}, {method}"
                found.setdefault(key, []).append(record["about"]["seconds"] / 60.0)
    longest = sorted(found, key=lambda key: -float(np.median(found[key])))[:24]
    return {key: float(np.median(found[key])) for key in longest}


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
