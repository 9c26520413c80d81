"""Fig. 6: which arrays go into which panel."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from hybrid.data.faults import FAULTS
from hybrid.experiments.core.records import Drawn, Records, levels, samples, select
from hybrid.experiments.deployment import chip
from hybrid.experiments.deployment.claims import forms_in, histories, on_chip, parts_in
from hybrid.experiments.fault_tolerance.settings import FaultSettings
from hybrid.report.figures import BLUE, COLOURS, GREY, ORANGE, SKY, canvas
from hybrid.report.panels import SMALL, Bar, Dot, Line, absent, bars, chip_map, dots, lines
from hybrid.runs.store import Json
from hybrid.tianjic.cost import Energy, cost, operations, write_back
from hybrid.tianjic.mapping import Mapping, map_network
from hybrid.tianjic.routing import traffic
from hybrid.tianjic.schedule import leaving
from hybrid.tianjic.shapes import DenseShape

_ACCURACY = "accuracy (%)"
_ENERGY = "µJ per inference"
_MODELS = {
    "busy": ("v", "at most: cores at full load"),
    "gated": ("s", "fitted to one energy"),
    "activity": ("^", "at least: operations alone"),
    "naive": ("x", "naive, no static power"),
}


def draw(records: Records[Any, Any], label: str) -> Figure:
    """Draw Fig. 6 for the fault-tolerance networks of some settings."""
    figure, axes = canvas(["aabbcc", "ddeeff", "ggghhh"], height=165)
    own, methods = select(records.frame, label=label), records.methods(label)
    first = {method: records.results(label, method)[0] for method in methods}
    method, form = _richest(first)
    result = first[method]
    _map(axes["a"], chip.mapping(result, form), f"{method}, {form.partition(', ')[2]}")
    for place, part in zip("bc", parts_in(select(own, method=method)), strict=False):
        _beside(axes[place], own, part, methods)
    _bits(axes["d"], own, methods)
    energies = {
        f"{name}, {kind.partition(', ')[2]}": chip.energies(found, kind)
        for name, found in first.items()
        for kind in found["shapes"]
    }
    # What a processor counts is another number in each run: one run alone is not drawn.
    counted = _counted(own, methods) if own["seed"].nunique() > 1 else {}
    _energies(axes["e"], energies, counted)
    _by_density(axes["f"], result, form)
    _work(axes["g"], result, form)
    if result.get("histories"):
        title = f"Forms of the local module: {method}, {result['histories']['images']} images"
        _forms(axes["h"], select(own, method=method), result, form, title)
    else:
        absent(axes["h"], "no network with traces in this profile")
    return figure


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


def _beside(axes: Axes, own: pd.DataFrame, part: str, methods: Sequence[str]) -> None:
    """Draw accuracies in floating point (lines) and on the chip (dots), traces as in training."""
    curves = []
    for method in methods:
        usual = "own trace" if method == "HP-sample" else "frozen"
        found = select(own, method=method, condition=part)
        for protocol, dash, full in ((usual, "-", "full"), ("homeostatic", "--", "none")):
            for form, name, style in (
                ("float", f"{method}, {protocol}", {"marker": "", "linestyle": dash}),
                ("chip", "_", {"linestyle": "", "marker": "o", "fillstyle": full}),
            ):
                tested = select(found, protocol=f"{form}, {protocol}")
                if not tested.empty:
                    values = samples(tested)
                    curves.append(Line(name, levels(tested), values, COLOURS[method], style))
    lines(
        axes,
        curves,
        legend={"loc": "lower left"},
        xlabel=FAULTS[part].axis.replace(" (", "\n("),
        ylabel=_ACCURACY,
        ylim=(0, 100),
        title=f"{part}: float (lines), chip (dots)",
    )


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
        title="Fewer bits",
        ylim=(0, 150),  # room for the legend above all curves
        yticks=range(0, 101, 20),
    )
    axes.xaxis.set_major_locator(FixedLocator(list(widths)))
    axes.xaxis.set_minor_locator(NullLocator())


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
        for offset, (model, interval) in zip((-0.3, -0.1, 0.1, 0.3), found.items(), strict=True):
            low, middle, high = (1e6 * joules for joules in interval)
            marker, name = _MODELS[model]
            shown = "_" if place else name
            marks.append(Dot(place + offset, middle, low, high, COLOURS[model], marker, shown))
    dots(axes, marks, title="Energy: a model's prediction", ylabel=_ENERGY)
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
    curves = [
        Line(model, shares, 1e6 * table[:, i], COLOURS[model])
        for i, model in enumerate(Energy._fields)
    ]
    lines(
        axes,
        curves,
        legend={"loc": "lower right"},
        xlabel="share of inputs active in a step",
        ylabel=_ENERGY,
        title="Energy and activity",
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
        done, moved = operations(mapped, rates, steps), traffic(mapped, leaving(mapped, rates))
        return done.macs + done.acs, steps * moved.packets

    plain, packets = spent(local=False)
    found = {"none": (plain, packets), "history": spent(local=True)}
    added = [write_back(s, float(rates[s.name].mean()), mapping.chip, steps) for s in dense]
    plain += sum(row["operations"] for row in added)
    found["rewritten by a host"] = plain, packets + sum(row["packets"] for row in added)
    drawn = []
    for column, colour, name in ((0, BLUE, "operations"), (1, ORANGE, "packets")):
        for place, values in enumerate(found.values()):
            at, shown = place + 0.4 * column - 0.2, "_" if place else name
            drawn.append(Bar(at, values[column], colour, 0.38, shown))
    bars(
        axes,
        drawn,
        legend={"loc": "upper left"},
        ticks={name: float(place) for place, name in enumerate(found)},
        rotation=20,
        title="What the local module takes",
        ylabel="per inference",
        yscale="log",
    )


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
    """Draw Fig. 6: a figure for each fault-tolerance network, and one for all others."""
    found: Drawn = {}
    planned, labels = records.planned, records.labels
    others = [name for name in labels if not isinstance(planned[name].trained, FaultSettings)]
    for label in labels:
        if label not in others:
            found[f"fig6_{label}" if found else "fig6"] = (draw(records, label), [label])
    if others:
        found["fig6_others"] = (draw_others(records, others), others)
    return found
