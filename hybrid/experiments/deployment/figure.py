"""Fig. 6: which arrays go into which panel."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from string import ascii_lowercase
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from hybrid.experiments.core.records import Drawn, Records, levels, samples, select
from hybrid.experiments.deployment import chip
from hybrid.experiments.deployment.broken import AROUND, AVOIDABLE, PLAIN
from hybrid.experiments.deployment.claims import (
    forms_in,
    histories,
    lost_on_broken,
    on_chip,
    parts_in,
)
from hybrid.experiments.deployment.settings import Defect
from hybrid.experiments.fault_tolerance.settings import FaultSettings
from hybrid.report.estimate import Estimate
from hybrid.report.figures import BLUE, COLOURS, FAINT, GREY, ORANGE, SKY, canvas
from hybrid.report.panels import SMALL, Bar, Dot, Line, absent, bars, chip_map, dots, lines
from hybrid.runs.store import Json
from hybrid.tianjic.chip import tianjic
from hybrid.tianjic.cost import Energy, cost, operations, write_back
from hybrid.tianjic.mapping import Mapping, map_network
from hybrid.tianjic.routing import traffic
from hybrid.tianjic.schedule import leaving
from hybrid.tianjic.shapes import DenseShape

_ACCURACY = "accuracy (%)"
_ENERGY = "µJ per inference"
# Each kind of defect: its axis, the beginning of its title, and about which level it tells of.
_KINDS: dict[Defect, tuple[str, str, float]] = {
    "dead cores": ("dead cores, of 156", "{:.0f} cores dead", 20.0),
    "stuck bits": ("share of the bits of weights", "{:.1%} of bits stuck", 0.01),
    "flipped bits": ("share of the bits of weights", "{:.1%} of bits flipped", 0.01),
    "lost packets": ("share of the numbers sent", "{:.0%} of numbers lost", 0.1),
}
_MODELS = {
    "busy": ("v", "at most: full load, all the time"),
    "gated": ("s", "fitted to one energy"),
    "naive": ("^", "at least: operations alone"),
}


def draw(records: Records[Any, Any], label: str) -> Figure:
    """Draw Fig. 6 for the fault-tolerance networks of some settings."""
    figure, axes = canvas(["aabbcc", "ddeeff"], height=120)
    own, methods = select(records.frame, label=label), records.methods(label)
    first = {method: records.results(label, method)[0] for method in methods}
    method, form = _richest(first)
    result = first[method]
    _map(axes["a"], chip.mapping(result, form), f"{method}, {form.partition(', ')[2]}")
    _differences(axes["b"], own, methods)
    networks = {
        f"{name}, {kind.partition(', ')[2]}": (found, kind)
        for name, found in first.items()
        for kind in found["shapes"]
    }
    _phases(axes["c"], networks)
    # What a processor counts is another number in each run: one run alone is not drawn.
    counted = _counted(own, methods) if own["seed"].nunique() > 1 else {}
    _energies(axes["d"], {name: chip.energies(*asked) for name, asked in networks.items()}, counted)
    _bits(axes["e"], own, methods)
    if result.get("histories"):
        title = _kept(select(own, method=method), method)
        _forms(axes["f"], select(own, method=method), result, form, title)
    else:
        absent(axes["f"], "no network with traces in this profile")
    return figure


def draw_cost(records: Records[Any, Any], label: str) -> Figure:
    """Draw what decides the cost of the largest of these networks."""
    figure, axes = canvas(["abc"], height=62)
    first = {name: records.results(label, name)[0] for name in records.methods(label)}
    method, form = _richest(first)
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
        for method in records.methods(label):
            found = select(own, method=method, condition=kind)
            for protocol, look in ((PLAIN, {}), (AROUND, {"linestyle": "--", "marker": ""})):
                tried = select(found, protocol=protocol)
                if not tried.empty:
                    name = method if protocol == PLAIN else "_"
                    values = samples(tried)
                    curves.append(Line(name, levels(tried), values, COLOURS[method], look))
        if kind in AVOIDABLE:
            curves.append(Line(AROUND, [], np.array([]), GREY, {"linestyle": "--", "marker": ""}))
        lines(
            axes[place],
            curves,
            legend={"loc": "lower left"},
            xlabel=words[0],
            ylabel=_ACCURACY,
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
            xlabel=f"{fault}, level",
            ylabel=_ACCURACY,
            ylim=(0, 100),
            title=f"{label.removesuffix('-local')}, {fault}: rewriting gains {gained:+.1f}",
        )
    return figure


_STILL = ", never rewritten"
# Forms of a stream: name, colour, style.
_STREAMS = {
    "float, stream": ("floating point", BLUE, ":"),
    "chip, stream": ("chip, rewritten after each image", BLUE, "-"),
    "chip, stream by 100": ("after each 100", ORANGE, "--"),
    f"chip, stream{_STILL}": ("never", GREY, "-"),
}


def _beside_gp(own: pd.DataFrame, kind: str, words: str, wanted: float) -> str:
    """Return in words what HP loses beside GP at the level of a defect next to one wanted."""
    level = min(levels(own, condition=kind), key=lambda known: abs(known - wanted))
    said = words.format(level)
    if not {"HP", "GP"} <= set(own["method"]):
        return said
    hp, gp = (lost_on_broken(own, method, kind, level) for method in ("HP", "GP"))
    return f"{said}: HP minus GP {Estimate.of(gp - hp):+.1f}"


def _least(own: pd.DataFrame, kind: str) -> float:
    """Return the smallest level of a defect above 0."""
    found = select(own, condition=kind)["level"]
    return float(found[found > 0.0].min())


def draw_others(records: Records[Any, Any], labels: Sequence[str]) -> Figure:
    """Draw accuracy beside floating point of networks that are asked in episodes or tasks."""
    figure, axes = canvas(["abcdefgh"[: len(labels)]], height=62)
    for letter, label in zip("abcdefgh", labels, strict=False):
        own = select(records.frame, label=label)
        drawn: list[Bar] = []
        ticks: dict[str, float] = {}
        for method in records.methods(label):
            tested, colour = select(own, method=method), COLOURS[method]
            look = {"facecolor": "none", "edgecolor": colour}
            floats = [form for form in forms_in(tested) if form.startswith("float")]
            for form, part in product(floats, parts_in(tested)):
                place, protocol = float(len(ticks)), form.partition(", ")[2]
                name = [method, protocol, "" if part == "tasks" else part]
                ticks[" ".join(filter(None, name))] = place
                for offset, kind, style in ((-0.2, form, look), (0.2, on_chip(form), {})):
                    found = samples(tested, protocol=kind, condition=part).mean(1)
                    drawn.append(Bar(place + offset, found, colour, 0.38, look=style))
        title = f"{label}: float (open), chip (full)"
        words: dict[str, Any] = {"ylim": (0, 100), "title": title, "ylabel": _ACCURACY}
        bars(axes[letter], drawn, ticks=ticks, rotation=30, **words)
    return figure


def _richest(first: dict[str, Json]) -> tuple[str, str]:
    """Return the method and form with most cores, HP's if others have as many."""
    found = [
        (len(chip.mapping(result, form).cores), method == "HP", method, form)
        for method, result in first.items()
        for form in result["shapes"]
    ]
    *_, method, form = max(found)
    return method, form


def _map(axes: Axes, mapping: Mapping, name: str) -> None:
    pairs = zip(mapping.cores, mapping.places, strict=True)
    used = [(place.x, place.y, core.role) for core, place in pairs if place.chip == 0]
    size = mapping.chip.mesh_width, mapping.chip.mesh_height
    title = f"{name}: {len(mapping.cores)} cores"
    chip_map(axes, size, used, f"{title}, first chip" if mapping.chips > 1 else title)


def _differences(axes: Axes, own: pd.DataFrame, methods: Sequence[str]) -> None:
    """Draw the chip's accuracy minus that in floating point, traces as in training, by fault."""
    marks: list[Dot] = []
    ticks: dict[str, float] = {}
    for part in parts_in(own):
        for method in methods:
            usual = "own trace" if method == "HP-sample" else "frozen"
            found = select(own, method=method, condition=part)
            for protocol in (usual, "homeostatic"):
                sides = [select(found, protocol=f"{w}, {protocol}") for w in ("chip", "float")]
                if any(side.empty for side in sides):
                    continue
                plain, chips = samples(sides[1]), samples(sides[0])
                name = method if protocol == usual else f"{method}, {protocol}"
                place = float(len(ticks))
                ticks[f"{name}\n{part}"] = place
                difference = (chips - plain).mean(1)
                marks.append(Dot.of(place, difference, COLOURS[method]))
    most = max([0.0, *(-mark.value for mark in marks)])
    dots(
        axes,
        marks,
        horizontal=True,
        xlabel="chip minus floating point (points), mean over levels",
        title=f"Whole numbers cost {most:.1f} points at most",
    )
    axes.axvline(0.0, color=FAINT, linewidth=0.8, zorder=0)
    axes.set_yticks(list(ticks.values()), list(ticks))
    axes.tick_params(axis="y", labelsize=SMALL)
    axes.invert_yaxis()


def _phases(axes: Axes, networks: dict[str, tuple[Json, str]]) -> None:
    """Draw how long the busiest phase takes: to compute, and until the last packet arrives."""
    drawn, length, longest = [], 0, 1.0
    for place, (result, form) in enumerate(networks.values()):
        plan = chip.spent(result, form).schedule
        length, longest = plan.chip.phase_clocks, max(longest, plan.stretch)
        shown = "_" if place else ""
        clocks = (plan.computing, BLUE, "busiest core"), (plan.worst, ORANGE, "last packet")
        for column, (value, colour, name) in enumerate(clocks):
            at = place + 0.4 * column - 0.2
            drawn.append(Bar(at, float(value), colour, 0.38, shown or name))
    ticks = {name: float(place) for place, name in enumerate(networks)}
    title = "All work fits a phase" if longest == 1.0 else f"Phases stretch {longest:.2f} times"
    words: dict[str, Any] = {"title": title, "ylabel": "clocks of the busiest phase"}
    bars(axes, drawn, legend={"loc": "upper right", "ncols": 2}, ticks=ticks, rotation=20, **words)
    axes.axhline(length, color=GREY, linestyle="--", linewidth=0.8)
    axes.annotate("a phase of Tianjic", (0, length), (2, 2), textcoords="offset points", fontsize=5)
    axes.set_ylim(0, max(1.4 * length, 1.2 * axes.get_ylim()[1]))


def _deciding(axes: Axes, result: Json, form: str) -> None:
    """Draw which uncertain constants make the spread of the energy."""
    found = chip.deciding(result, form)
    ticks = {name.replace("_", " "): float(place) for place, name in enumerate(found)}
    drawn = [Bar(float(place), share, SKY) for place, share in enumerate(found.values())]
    first = max(found, key=lambda name: found[name])
    known = tianjic().constants[first].confidence
    words: dict[str, Any] = {
        "title": f"Energy hangs on the {first.replace('_', ' ')} (confidence {known})",
        "xlabel": "share of its spread (total Sobol index)",
    }
    bars(axes, drawn, horizontal=True, ticks=ticks, xlim=(0, 1), **words)
    axes.tick_params(axis="y", labelsize=SMALL)


def _bits(axes: Axes, own: pd.DataFrame, methods: Sequence[str]) -> None:
    """Draw accuracy by bits of a weight: as trained, trained on, and that with rounded weights."""
    found = select(own, condition="bits")
    if found.empty:
        absent(axes, "not tested with fewer bits")
        return
    widths = levels(found)
    curves = []
    for method in methods:
        for value, style in (("accuracy", "-"), ("longer", ":"), ("rounded", "--")):
            name = method if value == "accuracy" else "_"
            values = samples(found, value, method=method)
            curves.append(Line(name, widths, values, COLOURS[method], {"linestyle": style}))
    for style, name in ((":", "one epoch more"), ("--", "one epoch more, rounded")):
        curves.append(Line(name, [], np.array([]), GREY, {"linestyle": style}))
    legend = {"loc": "upper left", "ncols": 2, "fontsize": 4.5, "columnspacing": 0.8}
    lines(
        axes,
        curves,
        legend={**legend, "handlelength": 1.5},
        xlabel="bits of a weight",
        ylabel=_ACCURACY,
        title=f"Bits that are enough: {_enough(found, methods)}",
        ylim=(0, 150),  # room for the legend above all curves
        yticks=range(0, 101, 20),
    )
    axes.xaxis.set_major_locator(FixedLocator(list(widths)))
    axes.xaxis.set_minor_locator(NullLocator())


def _enough(found: pd.DataFrame, methods: Sequence[str]) -> str:
    """Return in words with how few bits each method, as trained, loses less than a point."""
    widths, words = levels(found), []
    for method in methods:
        means = samples(found, method=method).mean(0)
        lost = means[widths.argmax()] - means
        enough = min(w for w in widths if (lost[widths >= w] < 1.0).all())
        words.append(f"{method} {enough:.0f}")
    return ", ".join(words)


def _counted(own: pd.DataFrame, methods: Sequence[str]) -> dict[str, float]:
    """Return J that a processor counted for an inference in floating point, where it counts."""
    found = {}
    for method in methods:
        measured = select(own, method=method, condition="cpu")
        for form in measured["protocol"].unique():
            joules = select(measured, protocol=form)["joules"]
            if joules.notna().all():
                found[f"{method}, {form.partition(', ')[2]}"] = float(joules.mean())
    return found


def _energies(
    axes: Axes,
    networks: dict[str, dict[str, tuple[float, float, float]]],
    counted: dict[str, float],
) -> None:
    """Draw energies of an inference, bounds and between, each (5 %, median, 95 %), by network."""
    marks = []
    for place, found in enumerate(networks.values()):
        for offset, (model, interval) in zip((-0.2, 0.0, 0.2), found.items(), strict=True):
            low, middle, high = (1e6 * joules for joules in interval)
            marker, name = _MODELS[model]
            shown = "_" if place else name
            marks.append(Dot(place + offset, middle, low, high, COLOURS[model], marker, shown))
    apart = [found["busy"][1] / found["naive"][1] for found in networks.values()]
    title = f"Bounds of energy: {min(apart):.0f} to {max(apart):.0f} x apart"
    dots(axes, marks, title=title, ylabel=_ENERGY)
    for place, name in enumerate(networks):
        if name in counted:
            axes.plot(place, 1e6 * counted[name], "kx", label="_" if place else "processor")
    axes.set_yscale("log")
    axes.set_xticks(range(len(networks)), list(networks), rotation=20, ha="right")
    axes.set_xlim(-0.5, len(networks) - 0.5)
    axes.set_ylim(top=12.0 * axes.get_ylim()[1])  # room for the legend
    axes.legend(loc="upper left")


def _by_density(axes: Axes, result: Json, form: str) -> None:
    """Draw energies if every input were active in a given share of steps."""
    mapping, rates = chip.mapping(result, form), chip.rates(result, form)
    shares, planned = np.linspace(0.02, 1.0, 25), chip.spent(result, form).schedule
    even = [{name: np.full(len(r), share) for name, r in rates.items()} for share in shares]
    table = np.array([cost(mapping, own, result["steps"], planned=planned).energy for own in even])
    fitted = table[:, Energy._fields.index("gated")]
    moved = float(fitted[-1] / fitted[0])
    curves = [
        Line(_MODELS[model][1].partition(":")[0], shares, 1e6 * table[:, i], COLOURS[model])
        for i, model in enumerate(Energy._fields)
    ]
    lines(
        axes,
        curves,
        legend={"loc": "lower right"},
        xlabel="share of inputs active in a step",
        ylabel=_ENERGY,
        title=f"Full activity: {100 * (moved - 1.0):.0f} % more of the fitted energy",
        yscale="log",
    )


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


def _forms(axes: Axes, own: pd.DataFrame, result: Json, form: str, title: str) -> None:
    """Draw accuracies of forms of the local module; names say how many cores they take."""
    whole, frozen = chip.mapping(result, form), len(chip.mapping(result, "chip, frozen").cores)
    ticks: dict[str, float] = {}
    drawn: list[Bar] = []
    for place, (name, found) in enumerate(histories(own).items()):
        words, cores = name.split(), len(whole.cores)
        if name in ("rewritten", "no local current"):
            cores = frozen + whole.count(role="carried") * (name == "no local current")
        elif words[-1].isdigit():
            cores = _with_local(whole, delay=int(words[-1]))
        elif words[0].isdigit():
            cores = _with_local(whole, lags=int(words[0]))
        ticks[name if name == "float" else f"{name} ({cores} cores)"] = float(place)
        drawn.append(Bar(place, found, SKY))
    bars(axes, drawn, horizontal=True, ticks=ticks, xlabel=_ACCURACY, title=title)
    axes.tick_params(axis="y", labelsize=SMALL)


def _kept(own: pd.DataFrame, method: str) -> str:
    """Return in words how a history does beside the trace in floating point."""
    found = histories(own)
    difference = Estimate.of(found["history"] - found["float"])
    return f"{method}, history minus trace: {difference:+.1f}"


def _with_local(mapping: Mapping, *, lags: int | None = None, delay: int = 0) -> int:
    """Return the cores of a network whose local modules have fewer lags."""
    shapes = list(mapping.shapes)
    for i, shape in enumerate(shapes):
        if isinstance(shape, DenseShape) and (local := shape.local) is not None:
            count = min(lags or local.lags, local.lags - delay)
            kept = replace(local, lags=count, delay=delay) if count > 0 else None
            shapes[i] = replace(shape, local=kept)
    return len(map_network(shapes, mapping.chip, most_chips=chip.MOST_CHIPS).cores)


def draw_all(records: Records[Any, Any], seed: int) -> Drawn:
    """Draw Fig. 6: networks of fault tolerance, their cost, broken chips, and all others."""
    found: Drawn = {}
    planned, labels = records.planned, records.labels
    others = [name for name in labels if not isinstance(planned[name].trained, FaultSettings)]
    for label in labels:
        if label in others:
            continue
        if not found:
            found["fig6"] = (partial(draw, records, label), [label])
            found["fig6_cost"] = (partial(draw_cost, records, label), [label])
        if planned[label].defects:
            found["fig6_broken"] = (partial(draw_broken, records, label), [label])
    streamed = [label for label in labels if planned[label].streamed]
    if streamed:
        found["fig6_stream"] = (partial(draw_streams, records, streamed), streamed)
    if others:
        found["fig6_others"] = (partial(draw_others, records, others), others)
    return found
