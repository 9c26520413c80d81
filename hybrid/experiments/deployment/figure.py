"""Fig. 6: which arrays go into which panel."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from hybrid.experiments.core.records import Drawn, Records, levels, samples, select
from hybrid.experiments.deployment import chip
from hybrid.experiments.deployment.claims import (
    histories,
    parts_in,
)
from hybrid.experiments.deployment.supplements import (
    ACCURACY,
    ENERGY,
    MODELS,
    PARTS,
    draw_broken,
    draw_cost,
    draw_others,
    draw_streams,
    richest,
)
from hybrid.experiments.fault_tolerance.settings import FaultSettings
from hybrid.report.estimate import lost_or_gained
from hybrid.report.figures import BLUE, COLOURS, GREY, ORANGE, VERMILION, canvas, spoken
from hybrid.report.panels import SMALL, Bar, Dot, Line, absent, bars, chip_map, dots, forest, lines
from hybrid.runs.store import Json
from hybrid.tianjic.mapping import Mapping, map_network
from hybrid.tianjic.rules import Role
from hybrid.tianjic.shapes import DenseShape

# What cores do, in the words of a legend.
_ROLES: dict[Role, str] = {
    "synapses": "weights",
    "carried": "trace of training",
    "recurrent": "recurrent weights",
    "sums": "sums, somas",
    "copies": "potentials to send",
    "coincidences": "local: coincidences",
    "scores": "local: their sums",
    "products": "local: × potentials",
}
# Forms of the local module.
_FORMS = {"float": "floating point", "rewritten": "rewritten by a host"}


def draw(records: Records[Any, Any], label: str) -> Figure:
    """Draw Fig. 6 for the fault-tolerance networks of some settings."""
    figure, axes = canvas(["abc", "def"], height=125, width_ratios=(1.0, 1.0, 1.3))
    own, methods = select(records.frame, label=label), records.methods(label)
    first = {method: records.results(label, method)[0] for method in methods}
    method, form = richest(first)
    result = first[method]
    name = f"{spoken(label)}, {method}"
    _map(axes["a"], chip.mapping(result, form), name)
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
        _forms(axes["f"], select(own, method=method), result, method, form)
    else:
        absent(axes["f"], "no network with traces in this profile")
    return figure


def _map(axes: Axes, mapping: Mapping, name: str) -> None:
    pairs = zip(mapping.cores, mapping.places, strict=True)
    used = [(place.x, place.y, core.role) for core, place in pairs if place.chip == 0]
    size = mapping.chip.mesh_width, mapping.chip.mesh_height
    title = f"{name}: {len(mapping.cores)} cores"
    title = f"{title}, first chip" if mapping.chips > 1 else title
    chip_map(axes, size, used, title, _ROLES)


def _differences(axes: Axes, own: pd.DataFrame, methods: Sequence[str]) -> None:
    """Draw the chip's accuracy minus that in floating point, traces as in training, by fault."""
    rows: dict[str, list[Dot]] = {}
    for part in parts_in(own):
        for method in methods:
            usual = "own trace" if method == "HP-sample" else "frozen"
            found = select(own, method=method, condition=part)
            for protocol in (usual, "homeostatic"):
                sides = [select(found, protocol=f"{w}, {protocol}") for w in ("chip", "float")]
                if any(side.empty for side in sides):
                    continue
                difference = (samples(sides[0]) - samples(sides[1])).mean(1)
                name = method if protocol == usual else f"{method}, {protocol}"
                rows[f"{name}, {PARTS.get(part, part)}"] = [
                    Dot.of(0.0, difference, COLOURS[method])
                ]
    most = max([0.0, *(-marks[0].value for marks in rows.values())])
    n = own["seed"].nunique()
    forest(
        axes,
        rows,
        zero=True,
        xlabel=f"chip minus floating point (points, n = {n})",
        title=f"Cost: {most:.1f} points at most on average",
    )


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
    title = (
        "In time, all work fits a phase"
        if longest == 1.0
        else f"Phases stretch {longest:.2f} times"
    )
    words: dict[str, Any] = {"title": title, "ylabel": "clocks of the busiest phase"}
    bars(axes, drawn, legend={"loc": "upper right", "ncols": 2}, ticks=ticks, rotation=20, **words)
    axes.axhline(length, color=GREY, linestyle="--", linewidth=0.8)
    axes.annotate("a phase of Tianjic", (0, length), (2, 2), textcoords="offset points", fontsize=5)
    axes.set_ylim(0, max(1.4 * length, 1.2 * axes.get_ylim()[1]))


def _bits(axes: Axes, own: pd.DataFrame, methods: Sequence[str]) -> None:
    """Draw accuracy by bits of a weight: as trained, and trained on with rounded weights."""
    found = select(own, condition="bits")
    if found.empty:
        absent(axes, "not tested with fewer bits")
        return
    widths = levels(found)
    curves = []
    for method in methods:
        curves.append(Line(method, widths, samples(found, method=method), COLOURS[method]))
        rounded = samples(found, "rounded", method=method).mean(0)
        curves.append(Line("_", widths, rounded, COLOURS[method], {"linestyle": "--"}))
    curves.append(Line("trained on, rounded", [], np.array([]), GREY, {"linestyle": "--"}))
    lines(
        axes,
        curves,
        legend={"loc": "lower right"},
        xlabel="bits of a weight",
        ylabel=ACCURACY,
        title=f"Bits needed: {_enough(found, methods)}",
        ylim=(0, 100),
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
            marker, name = MODELS[model]
            shown = "_" if place else name
            marks.append(Dot(place + offset, middle, low, high, COLOURS[model], marker, shown))
    apart = [found["busy"][1] / found["naive"][1] for found in networks.values()]
    title = f"Bounds {min(apart):.0f} to {max(apart):.0f} times apart"
    dots(axes, marks, title=title, ylabel=ENERGY)
    for place, name in enumerate(networks):
        if name in counted:
            axes.plot(place, 1e6 * counted[name], "kx", label="_" if place else "processor")
    axes.set_yscale("log")
    axes.set_xticks(range(len(networks)), list(networks), rotation=20, ha="right")
    axes.set_xlim(-0.5, len(networks) - 0.5)
    axes.set_ylim(top=12.0 * axes.get_ylim()[1])  # room for the legend
    axes.legend(loc="upper left")


def _forms(axes: Axes, own: pd.DataFrame, result: Json, method: str, form: str) -> None:
    """Draw accuracies of forms of the local module; names say how many cores they take."""
    whole, frozen = chip.mapping(result, form), len(chip.mapping(result, "chip, frozen").cores)
    rows: dict[str, list[Dot]] = {}
    tried = histories(own)
    for name, found in tried.items():
        words, cores = name.split(), len(whole.cores)
        if name in ("rewritten", "no local current"):
            cores = frozen + whole.count(role="carried") * (name == "no local current")
        elif words[-1].isdigit():
            cores = _with_local(whole, delay=int(words[-1]))
            name = f"newest {'step' if words[-1] == '1' else words[-1] + ' steps'} left out"
        elif words[0].isdigit():
            cores = _with_local(whole, lags=int(words[0]))
            name = f"history of {words[0]} step{'s' * (words[0] != '1')}"
        shown = _FORMS.get(name, name)
        key = shown if name == "float" else f"{shown} ({cores} cores)"
        rows[key] = [Dot.of(0.0, found, VERMILION if name == "no local current" else BLUE)]
    kept, none = (tried[name].mean() for name in ("history", "no local current"))
    title = f"With its own trace {method} {lost_or_gained(none - kept)}"
    forest(axes, rows, xlabel=ACCURACY, xlim=(0, 100), title=title)
    axes.tick_params(axis="y", labelsize=SMALL)


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
    streamed = [n for n in labels if planned[n].streamed and "HP" in records.methods(n)]
    if streamed:
        found["fig6_stream"] = (partial(draw_streams, records, streamed), streamed)
    if others:
        found["fig6_others"] = (partial(draw_others, records, others), others)
    return found
