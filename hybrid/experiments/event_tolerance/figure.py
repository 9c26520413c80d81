"""The event half of Fig. 3: which arrays go into which panel."""

from collections import Counter
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hybrid.data.events.faults import SENSOR_FAULTS, corrupt_events
from hybrid.data.events.recordings import Recordings
from hybrid.data.events.sets import load_events
from hybrid.data.events.statistics import statistics
from hybrid.experiments.core.records import (
    Drawn,
    Records,
    finest,
    gap,
    levels,
    samples,
    select,
)
from hybrid.experiments.event_tolerance.camera import load as load_camera_record
from hybrid.experiments.event_tolerance.camera import statistics_in
from hybrid.experiments.event_tolerance.claims import faults_in
from hybrid.report.estimate import Floats
from hybrid.report.figures import BLACK, COLOURS, GREY, ON_WHITE, ORANGE, VERMILION, canvas, spoken
from hybrid.report.panels import SMALL, Bar, Dot, Line, absent, bars, forest, images, lines
from hybrid.runs.store import Json

_PER_ROW = 5  # faults beside each other
_POLARITIES = ("darker", "brighter")
_SHADES = (VERMILION, ORANGE, BLACK, GREY)  # of data sets
_SETS = {"mnist": "simulated", "mnist-to-nmnist": "simulated to real"}
_NAMES = {"currents-stream": "homeostatic"}  # as notebooks call it


def draw(records: Records[Any, Any], sound: Recordings, camera: Json) -> Figure:
    """Draw the event half of Fig. 3: the camera, its faults, and what HP gains under each.

    Args:
        records: finished trials.
        sound: a recording of an intact camera, to show faults on.
        camera: the record of the comparison with a real camera.
    """
    faults = faults_in(records.frame)
    figure, axes = canvas(["aaaabbbccc", 10 * "d", 10 * "e"], height=150)
    _camera(axes, camera)
    worst_of = {name: levels(records.frame, condition=name)[-1] for name in faults}
    made = [sound] + [corrupt_events(sound, n, float(v), 0) for n, v in worst_of.items()]
    shown = [first_saccade(one) for one in made]
    event_images(axes["d"], [shown], row_names=["one digit"], labels=[["intact", *faults]])
    axes["d"].set_title("An intact camera, and each fault at its strongest\n")
    lead_of: dict[str, list[Dot]] = {name: [] for name in faults}
    most = (-np.inf, "", "")
    both = [name for name in records.labels if {"GP", "HP"} <= set(records.methods(name))]
    pairs = [n for n in both if {*records.seeds(n, "GP")} & {*records.seeds(n, "HP")}]
    for number, label in enumerate(pairs):
        own = select(records.frame, label=label)
        for fault in faults_in(own):
            found = gap(own[own["level"] > 0.0], "HP", "GP", condition=fault).mean(1)
            name = f"{_set(label)} (n = {len(found)})" if fault == faults_in(own)[0] else "_"
            mark = Dot.of(0.22 * (number - (len(pairs) - 1) / 2), found, _SHADES[number % 4], name)
            lead_of[fault].append(mark._replace(marker="os^D"[number % 4]))
            most = max(most, (float(found.mean()), _fault_name(fault), _set(label)))
    if not any(lead_of.values()):
        absent(axes["e"], "no data set with records of GP and HP")
        return figure
    points, fault, label = most
    forest(
        axes["e"],
        {_fault_name(name): marks for name, marks in lead_of.items()},
        zero=True,
        legend={"loc": "lower right"},
        title=f"HP's largest lead: {points:+.1f} points, {fault}, {label}",
        xlabel="HP minus GP (points), mean over levels of a fault",
    )
    return figure


def _set(label: str) -> str:
    """Return the name of a set of recordings: those of MNIST and of N-MNIST's digits differ."""
    return _SETS.get(label, spoken(label))


def _fault_name(fault: str) -> str:
    """Return the axis of a sensor's fault without its unit."""
    return SENSOR_FAULTS[fault].axis.partition(" (")[0]


def draw_details(records: Records[Any, Any], label: str) -> Figure:
    """Draw a supplement for one data set: accuracy under each fault, and gathered evidence."""
    own = select(records.frame, label=label)
    faults = faults_in(own)
    letters = iter("abcdefghijklmnop")
    panel_of = {name: next(letters) for name in faults}
    last = [next(letters) for _ in range(2)]
    rows = []
    for first in range(0, len(faults), _PER_ROW):
        row = [panel_of[name] for name in faults[first : first + _PER_ROW]]
        rows.append("".join(2 * letter for letter in row).ljust(10, "."))
    rows.append(5 * last[0] + 5 * last[1])
    figure, axes = canvas(rows, height=45.0 * len(rows))
    worst_of = {name: levels(own, condition=name)[-1] for name in faults}
    for name, letter in panel_of.items():
        _fault(axes[letter], own, name, first=faults.index(name) % _PER_ROW == 0)
    named = axes[panel_of[faults[0]]].get_legend_handles_labels()
    figure.legend(*named, loc="outside lower center", ncols=len(named[1]), handlelength=2.5)
    worst = "noise" if "noise" in faults else faults[-1]
    for letter, name, place, title in (
        (last[0], faults[0], 0, f"{_set(label)}: evidence, intact camera"),
        (last[1], worst, -1, f"{_set(label)}: evidence, {worst} at {worst_of[worst]:g}"),
    ):
        curves = []
        for method in records.methods(label):
            gathered = [r["evidence"][name][place] for r in records.results(label, method)]
            windows = np.arange(1.0, len(gathered[0]) + 1)
            curves.append(Line(method, windows, np.array(gathered), COLOURS[method]))
        words = {"xlabel": "window", "ylabel": "spikes, right − others", "title": title}
        lines(axes[letter], curves, legend={"loc": "upper left"}, whole_x=True, **words)
        axes[letter].axhline(0.0, color=GREY, linewidth=0.7)
    return figure


# What is set against GP as it is, as `gap` calls it, with its name and its colour.
_AGAINST = {
    "HP": ("HP, batch", COLOURS["HP"]),
    "HP + stream": ("HP, stream", COLOURS["stream"]),
    "GP + currents-stream": ("GP, homeostatic", COLOURS["currents-stream"]),
}


def draw_gains(records: Records[Any, Any], label: str) -> Figure:
    """Draw what is gained over GP under each fault, where records know of each recording.

    Intervals of 95 % over seeds and recordings.
    """
    own = select(records.frame, label=label)
    faults = faults_in(own)
    figure, axes = canvas(["a"], height=90)
    rows: dict[str, list[Dot]] = {}
    better: Counter[str] = Counter()
    seeds: set[int] = set()
    for fault in faults:
        marks: list[Dot] = []
        for number, (way, (name, colour)) in enumerate(_AGAINST.items()):
            with suppress(KeyError):
                found = gap(own, way, "GP", finest(own), condition=fault)[:, 1:].mean(1)
                shown = "_" if rows else name
                if not len(found):
                    continue  # no seed in common
                seeds.add(len(found))
                mark = Dot.of(0.22 * (number - 1), found, colour, shown)
                marks.append(mark)
                better[name] += mark.low is not None and mark.low > 0.0
        rows[SENSOR_FAULTS[fault].axis] = marks
    n = " to ".join(map(str, sorted(seeds)))
    recordings = len(own["each"].dropna().iloc[0])
    title = "Gain over GP by fault"
    if min(seeds, default=1) > 1:  # intervals are known
        counts = "; ".join(f"{name} {count}" for name, count in better.items())
        title = f"Sure gains, of {len(rows)} faults: {counts}"
    xlabel = f"gain over GP (points), mean over levels (n = {n}; {recordings:,} recordings)"
    forest(axes["a"], rows, zero=True, title=title, xlabel=xlabel)
    axes["a"].set_ylim(len(faults) + 0.2, -0.7)  # the legend lies below the last row
    axes["a"].legend(loc="lower center", ncols=3, **ON_WHITE)
    return figure


def event_images(
    axes: Axes,
    rows: list[list[Floats]],
    *,
    row_names: list[str],
    labels: list[list[str]],
) -> None:
    """Draw brighter minus darker events, each image [height, width] scaled to itself.

    Red pixels became brighter, blue ones darker.
    """
    scaled = [[image / max(np.abs(image).max(), 1.0) for image in row] for row in rows]
    look: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -1, "vmax": 1}
    images(axes, scaled, gap=2, row_names=row_names, labels=labels, **look)


def first_saccade(recordings: Recordings) -> Floats:
    """Return brighter minus darker events of the first saccade [height, width]."""
    found = statistics(recordings).images
    return np.asarray(found[0, 1] - found[0, 0])


def _fault(axes: Axes, own: pd.DataFrame, fault: str, *, first: bool) -> None:
    """Draw the accuracy of each method under its usual protocol against the level of a fault.

    HP also with its trace at rest, as GP has none that could adapt to what is tested; and GP with
    currents kept as in training, where that was tested.
    """
    others = {"HP": "frozen", "GP": "currents-stream"}
    curves = []
    for method in own["method"].unique():
        found = select(own, method=method, condition=fault)
        usual = found[found["usual"]]["protocol"].iloc[0]
        for protocol in dict.fromkeys((usual, others.get(method, usual))):
            tested = select(found, protocol=protocol)
            if not tested.empty:
                style = {"linestyle": "-" if protocol == usual else "--"}
                name = f"{method}, {_NAMES.get(protocol, protocol)}"
                curves.append(Line(name, levels(found), samples(tested), COLOURS[method], style))
    what, _, unit = SENSOR_FAULTS[fault].axis.partition(" (")
    counts = sorted({len(curve.samples) for curve in curves})
    n = f"{counts[0]}{f' to {counts[-1]}' if len(counts) > 1 else ''}"
    lines(
        axes,
        curves,
        legend=None,
        xlabel=unit.rstrip(")") or what,
        ylabel=f"accuracy (%), n = {n}" if first else "",
        title=what,
        ylim=(0, 100),
    )
    axes.xaxis.set_major_locator(MaxNLocator(4))


def _camera(axes: dict[str, Axes], camera: Json) -> None:
    """Draw recordings of the real and of the simulated camera, their rates and their counts."""
    real, model = (statistics_in(camera, which) for which in ("real", "model"))
    shown = [[np.array(image, dtype=float) for image in pictures] for pictures in camera["shown"]]
    saccades = [f"saccade {i + 1}" for i in range(3)]
    event_images(axes["a"], shown, row_names=["N-MNIST", "simulated"], labels=[saccades])
    curves = [
        Line(f"{name}, {_POLARITIES[p]}", found.times, found.rates[p], colour, {"linestyle": style})
        for p, style in enumerate(("--", "-"))
        for name, found, colour in (("N-MNIST", real, BLACK), ("simulated", model, VERMILION))
    ]
    lines(
        axes["b"],
        curves,
        legend={"loc": "upper right", "fontsize": SMALL},
        xlabel="time (ms)",
        ylabel="events per ms",
        title="Three saccades",
        ylim=(0, 1.35 * max(real.rates.max(), model.rates.max())),
    )
    counts = {name: found.counts.mean(0) for name, found in (("real", real), ("model", model))}
    drawn = [
        Bar(place + offset, value, colour, 0.4, name="_" if place else name)
        for offset, values, colour, name in (
            (-0.2, counts["real"], BLACK, "N-MNIST"),
            (0.2, counts["model"], VERMILION, "simulated"),
        )
        for place, value in enumerate(values.ravel())
    ]
    names = [f"{s + 1}\n{'−+'[p]}" for s in range(len(counts["real"])) for p in (0, 1)]
    bars(
        axes["c"],
        drawn,
        legend={"loc": "upper right", "ncols": 2},
        ticks={name: float(place) for place, name in enumerate(names)},
        xlabel="saccade and polarity",
        ylabel="events",
        title="Events per recording",
        ylim=(0, 1.3 * max(found.max() for found in counts.values())),
    )


def draw_all(records: Records[Any, Any], seed: int) -> Drawn:
    """Draw the event half of Fig. 3, and supplements for each set of recordings."""
    sound, camera = load_events("event_digits").test.read([3]), load_camera_record()
    labels = records.labels
    drawn: Drawn = {"fig3_events": (partial(draw, records, sound, camera), labels)}
    for label in labels:
        drawn[f"fig3_events_{label}"] = partial(draw_details, records, label), [label]
        if finest(select(records.frame, label=label)) == "each":
            drawn[f"fig3_events_{label}_gains"] = partial(draw_gains, records, label), [label]
    return drawn if labels else {}
