"""Supplements of Fig. 6: what energy hangs on, broken chips, streams, and other networks."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from string import ascii_lowercase
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybrid.data.faults import FAULTS
from hybrid.experiments.core.records import Records, levels, samples, select, shared_seeds
from hybrid.experiments.deployment import chip
from hybrid.experiments.deployment.broken import AROUND, AVOIDABLE, PLAIN
from hybrid.experiments.deployment.claims import (
    forms_in,
    lost_on_broken,
    on_chip,
    parts_in,
)
from hybrid.experiments.deployment.settings import Defect
from hybrid.report.estimate import Estimate
from hybrid.report.figures import BLUE, COLOURS, FAINT, GREY, ORANGE, SKY, canvas, spoken
from hybrid.report.panels import SMALL, Bar, Dot, Line, absent, bars, dots, forest, lines
from hybrid.runs.store import Json
from hybrid.tianjic.chip import tianjic
from hybrid.tianjic.cost import Energy, cost, operations, write_back
from hybrid.tianjic.mapping import map_network
from hybrid.tianjic.routing import traffic
from hybrid.tianjic.schedule import leaving
from hybrid.tianjic.shapes import DenseShape

ACCURACY = "accuracy (%)"
ENERGY = "µJ per inference"
# Faults and parts of tests, in words.
PARTS = {"gaussian": "noise", "crop": "blanked"}
# Each kind of defect: its axis, the beginning of its title, and about which level it tells of.
_KINDS: dict[Defect, tuple[str, str, float]] = {
    "dead cores": ("dead cores, of 156", "{:.0f} cores dead", 20.0),
    "stuck bits": ("share of the bits of weights", "{:g} % of bits stuck", 0.01),
    "flipped bits": ("share of the bits of weights", "{:g} % of bits flipped", 0.01),
    "lost packets": ("share of the numbers sent", "{:g} % of numbers lost", 0.1),
}
MODELS = {
    "busy": ("v", "at most: full load, all the time"),
    "gated": ("s", "fitted to one energy"),
    "naive": ("^", "at least: operations alone"),
}
_STILL = ", never rewritten"
# Forms of a stream: name, colour, style.
_STREAMS = {
    "float, stream": ("floating point", BLUE, ":"),
    "chip, stream": ("chip, rewritten after each image", BLUE, "-"),
    "chip, stream by 100": ("after each 100", ORANGE, "--"),
    f"chip, stream{_STILL}": ("never", GREY, "-"),
}


def draw_cost(records: Records[Any, Any], label: str) -> Figure:
    """Draw what decides the cost of the largest of these networks."""
    figure, axes = canvas(["abc"], height=62)
    first = {name: records.results(label, name)[0] for name in records.methods(label)}
    method, form = richest(first)
    _by_density(axes["a"], first[method], form)
    _deciding(axes["b"], first[method], form)
    _work(axes["c"], first[method], form)
    return figure


def draw_broken(records: Records[Any, Any], label: str) -> Figure:
    """Draw accuracy on chips with defects, as mapped (lines) and mapped around them (dashed)."""
    figure, axes = canvas(["ab", "cd"], height=125)
    own = select(records.frame, label=label)
    for place, (kind, words) in zip("abcd", _KINDS.items(), strict=True):
        curves = []
        if select(own, condition=kind).empty:
            absent(axes[place], f"not tested: {kind}")
            continue
        for method in records.methods(label):
            found = select(own, method=method, condition=kind)
            for protocol, look in ((PLAIN, {}), (AROUND, {"linestyle": "--", "marker": ""})):
                tried = select(found, protocol=protocol)
                if not tried.empty:
                    name = method if protocol == PLAIN else "_"
                    values = samples(tried)
                    wide = {"linewidth": 2.5} if method == "GP" else {}  # HP lies on it
                    style = {**look, **wide}
                    curves.append(Line(name, levels(tried), values, COLOURS[method], style))
        if kind in AVOIDABLE:
            curves.append(Line(AROUND, [], np.array([]), GREY, {"linestyle": "--", "marker": ""}))
        lines(
            axes[place],
            curves,
            legend={"loc": "lower left"},
            xlabel=words[0],
            ylabel=ACCURACY,
            ylim=(0, 100),
            title=_beside_gp(own, kind, *words[1:]),
        )
        if kind != "dead cores":
            axes[place].set_xscale("symlog", linthresh=_least(own, kind), linscale=0.5)
            axes[place].set_xlim(left=0.0)
        axes[place].axhline(10, color=FAINT, linewidth=0.8, zorder=0)
    return figure


def draw_streams(records: Records[Any, Any], labels: Sequence[str]) -> Figure:
    """Draw accuracy of HP under faults, its trace kept by a host while images come one by one."""
    frames = {label: select(records.frame, label=label, method="HP") for label in labels}
    places = [(label, fault) for label, own in frames.items() for fault in parts_in(own)]
    letters = ascii_lowercase[: len(places)]
    across = len(places) // len(labels)
    rows = [letters[i : i + across] for i in range(0, len(places), across)]
    figure, axes = canvas(rows, height=62 * len(rows))
    for letter, (label, fault) in zip(letters, places, strict=True):
        tried, curves = select(frames[label], condition=fault), []
        for form, (name, colour, style) in _STREAMS.items():
            if form in set(tried["protocol"]):
                look = {"linestyle": style, "marker": "o" if style == "-" else ""}
                found = select(tried, protocol=form)
                curves.append(Line(name, levels(found), samples(found), colour, look))
        hurt = tried[tried["level"] > 0.0]
        stream, still = (samples(hurt, protocol=f"chip, stream{n}") for n in ("", _STILL))
        gained = Estimate.of((stream - still).mean(1))
        lines(
            axes[letter],
            curves,
            legend={"loc": "lower left"},
            xlabel=FAULTS[fault].axis,
            ylabel=ACCURACY,
            ylim=(0, 100),
            title=f"{spoken(label.removesuffix('-local'))}, {PARTS.get(fault, fault)}: "
            f"rewriting adds {gained.with_interval} points",
        )
    return figure


def draw_others(records: Records[Any, Any], labels: Sequence[str]) -> Figure:
    """Draw accuracy minus floating point of networks that are asked in episodes or tasks."""
    figure, axes = canvas(["abcdefgh"[: len(labels)]], height=70)
    for letter, label in zip("abcdefgh", labels, strict=False):
        own = select(records.frame, label=label)
        rows: dict[str, list[Dot]] = {}
        for method in records.methods(label):
            tested = select(own, method=method)
            floats = [form for form in forms_in(tested) if form.startswith("float")]
            for form, part in product(floats, parts_in(tested)):
                chips, plain = (
                    samples(tested, protocol=kind, condition=part).mean(1)
                    for kind in (on_chip(form), form)
                )
                words = [method, form.partition(", ")[2], "" if part == "tasks" else part]
                name = f"{', '.join(filter(None, words))}: {plain.mean():.1f} %"
                rows[name] = [Dot.of(0.0, chips - plain, COLOURS[method])]
        most = max([0.0, *(-marks[0].value for marks in rows.values())])
        counts = sorted({len(records.seeds(label, method)) for method in records.methods(label)})
        n = " to ".join(map(str, counts))
        forest(
            axes[letter],
            rows,
            zero=True,
            xlabel=f"chip minus floating point (points, n = {n})",
            title=f"{spoken(label)}: at most {most:.1f} points lost on average",
        )
    return figure


def richest(first: dict[str, Json]) -> tuple[str, str]:
    """Return the method and form with most cores, HP's if others have as many."""
    found = [
        (len(chip.mapping(result, form).cores), method == "HP", method, form)
        for method, result in first.items()
        for form in result["shapes"]
    ]
    *_, method, form = max(found)
    return method, form


def _beside_gp(own: pd.DataFrame, kind: str, words: str, wanted: float) -> str:
    """Return in words what HP loses beside GP at the level of a defect next to one wanted."""
    level = min(levels(own, condition=kind), key=lambda known: abs(known - wanted))
    said = words.format(level if kind == "dead cores" else 100.0 * level)
    both = shared_seeds(select(own, condition=kind), ("HP", "GP"))
    if both.empty:
        return said
    hp, gp = (lost_on_broken(both, method, kind, level) for method in ("HP", "GP"))
    return f"{said}: HP's loss minus GP's {Estimate.of(hp - gp).with_interval}"


def _least(own: pd.DataFrame, kind: str) -> float:
    """Return the smallest level of a defect above 0."""
    found = select(own, condition=kind)["level"]
    return float(found[found > 0.0].min())


def _by_density(axes: Axes, result: Json, form: str) -> None:
    """Draw energies if every input were active in a given share of steps."""
    mapping, rates = chip.mapping(result, form), chip.rates(result, form)
    shares, planned = np.linspace(0.02, 1.0, 25), chip.spent(result, form).schedule
    even = [{name: np.full(len(r), share) for name, r in rates.items()} for share in shares]
    table = np.array([cost(mapping, own, result["steps"], planned=planned).energy for own in even])
    fitted = table[:, Energy._fields.index("gated")]
    moved = float(fitted[-1] / fitted[0])
    curves = [
        Line(MODELS[model][1].partition(":")[0], shares, 1e6 * table[:, i], COLOURS[model])
        for i, model in enumerate(Energy._fields)
    ]
    lines(
        axes,
        curves,
        legend={"loc": "lower right"},
        xlabel="share of inputs active in a step",
        ylabel=ENERGY,
        title=f"Every input active: fitted energy {100 * (moved - 1.0):+.0f} %",
        yscale="log",
    )


def _deciding(axes: Axes, result: Json, form: str) -> None:
    """Draw which uncertain constants make the spread of the energy."""
    found = chip.deciding(result, form)
    ticks = {name.replace("_", " "): float(place) for place, name in enumerate(found)}
    drawn = [Bar(float(place), share, SKY) for place, share in enumerate(found.values())]
    first = max(found, key=lambda name: found[name])
    known = tianjic().constants[first].confidence
    words: dict[str, Any] = {
        "title": f"The {first.replace('_', ' ')} decides most (confidence: {known})",
        "xlabel": "share of its spread (total Sobol index)",
    }
    bars(axes, drawn, horizontal=True, ticks=ticks, xlim=(0, 1), **words)
    axes.tick_params(axis="y", labelsize=SMALL)


def _work(axes: Axes, result: Json, form: str) -> None:
    """Draw operations and packets of an inference: no local module, and two forms of it.

    All from a trace that starts at zero, at the same activity.
    """
    mapping, rates, steps = chip.mapping(result, form), chip.rates(result, form), result["steps"]
    dense = [s for s in mapping.shapes if isinstance(s, DenseShape)]

    def spent(*, local: bool) -> tuple[float, float]:
        shapes = [replace(s, carried=False, local=s.local if local else None) for s in dense]
        mapped = map_network(shapes, mapping.chip, most_chips=chip.MOST_CHIPS)
        done, moved = (
            operations(mapped, rates, steps),
            traffic(mapped, leaving(mapped, rates), steps),
        )
        return done.macs + done.acs, steps * moved.packets

    plain, packets = spent(local=False)
    found = {"none": (plain, packets), "history": spent(local=True)}
    added = [write_back(s, float(rates[s.name].mean()), mapping.chip, steps) for s in dense]
    plain += sum(row["operations"] for row in added)
    found["rewritten by a host"] = plain, packets + sum(row["packets"] for row in added)
    marks = []
    for column, colour, name in ((0, BLUE, "operations"), (1, ORANGE, "packets")):
        for place, values in enumerate(found.values()):
            shown = "_" if place else name
            marks.append(Dot(float(place), values[column], colour=colour, name=shown))
    more = found["rewritten by a host"][1] / found["history"][1]
    title = f"A host sends {more:.0f} x the packets"
    dots(axes, marks, title=title, ylabel="per inference", yscale="log")
    axes.set_xticks(range(len(found)), list(found), rotation=20, ha="right")
    axes.set_xlim(-0.5, len(found) - 0.5)
    axes.legend(loc="upper left")
