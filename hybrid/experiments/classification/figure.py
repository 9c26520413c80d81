"""Fig. 2: which arrays go into which panel."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybrid.experiments.core.records import Drawn, Records, levels, samples, select
from hybrid.report.estimate import Floats, lost_or_gained
from hybrid.report.figures import BLACK, COLOURS, GREY, canvas
from hybrid.report.panels import SMALL, Dot, Line, absent, dots, learning, lines, raster
from hybrid.report.scoreboard import load_claims

_CODES = ("", "rate", "rank", "poisson")  # variants that differ in their code; "" is the base
_READOUTS = {"LastMembrane": "membrane", "Rate": "rate", "Rank": "first spike"}
# Suffix of a variant's label -> its name in panel g.
_VARIANTS = {
    "rate": "rate code",
    "rank": "first-spike code",
    "poisson": "Poisson input",
    "IF": "IF neurons",
    "adaptive": "adaptive neurons",
    "STDP": "STDP",
    "fixed-theta": "θ not learned",
    "unit-gain": "gain fixed at 1",
    "hidden-only": "trace in hidden layer",
    "readout-only": "trace in read-out",
}
_ORDER = ("LP", "GP", "HP")
_Rows = dict[str, tuple[dict[str, Floats], float | None]]


def draw(records: Records[Any, Any]) -> Figure:
    """Draw Fig. 2 from the finished trials of a profile."""
    frame, labels, base = records.frame, records.labels, base_of(records.labels)
    first = max(labels, key=lambda label: len(records.methods(label)))  # the first of equals
    figure, axes = canvas(["aaabbb", "cccddd", "eeefff"], height=185)
    reported = {claim.id: claim.reported for claim in load_claims()}
    main: _Rows = {
        _name(label): (_accuracies(records, label), reported.get(f"classification/{label}/HP"))
        for label in labels
        if {"GP", "HP"} <= set(records.methods(label)) and not _is_variant(label, labels)
    }
    main = main or {_name(first): (_accuracies(records, first), None)}  # of a part of a profile
    _table(axes["a"], main, title=_leads(main))
    own = select(frame, label=first)
    learned = {m: samples(own, method=m, condition="learning") for m in records.methods(first)}
    learning(axes["b"], learned, f"Learning, {_name(first)}: {_ends(learned)}")
    _codes(axes["c"], axes["d"], records, base)
    _sensitivity(axes["e"], own, f"{_without_traces(own)}, {_name(first)}")
    rows: _Rows = {
        f"base: {_code(records, base)}": (_accuracies(records, base, ("GP", "HP")), None)
    }
    rows |= {
        name: (_accuracies(records, f"{base}-{suffix}", ("GP", "HP")), None)
        for suffix, name in _VARIANTS.items()
        if f"{base}-{suffix}" in labels
    }
    if len(rows) > 1:
        _table(axes["f"], rows, title=f"Parts taken away ({_name(base)})")
    else:
        absent(axes["f"], "no variants in this profile")
    return figure


def draw_details(records: Records[Any, Any]) -> Figure:
    """Draw the supplement of Fig. 2: who spikes when, for one image."""
    first = max(records.labels, key=lambda label: len(records.methods(label)))
    spikes = records.results(first, "HP")[0]["raster"]
    active = len({neuron for _, neuron in spikes["hidden"]})
    figure, axes = canvas(["a"], width="single", height=70)
    raster(
        axes["a"],
        {"hidden": (spikes["hidden"], 100), "read-out": (spikes["read-out"], 10)},
        colour=COLOURS["HP"],
        xlim=(0.5, spikes["steps"] + 0.5),
        xlabel="step",
        title=f"{active} of 100 hidden neurons spike (HP, one image)",
    )
    return figure


def base_of(labels: Sequence[str]) -> str:
    """Return the label of the settings that variants are made of, or else the first one."""
    bases = (base for base in labels if any(_is_variant(label, (base,)) for label in labels))
    return next(bases, labels[0])


def _codes(by_step: Axes, by_spikes: Axes, records: Records[Any, Any], base: str) -> None:
    """Draw accuracy had HP to answer by a step, against steps and against spikes so far."""
    curves, costs = [], []
    for suffix in _CODES:
        label = f"{base}-{suffix}" if suffix else base
        if label not in records.labels or "HP" not in records.methods(label):
            continue
        where: dict[str, Any] = {
            "label": label,
            "method": "HP",
            "condition": "answered by",
            "usual": True,
        }
        right, spikes = (samples(records.frame, value, **where) for value in ("accuracy", "spikes"))
        name = _code(records, label)
        curves.append(Line(name, levels(records.frame, **where), right, COLOURS[name]))
        costs.append(Line(name, spikes.mean(0), right.mean(0), COLOURS[name], {"marker": "o"}))
    accuracy = "test accuracy (%)"
    lines(by_step, curves, xlabel="steps", ylabel=accuracy, title=_early(curves))
    lines(
        by_spikes,
        costs,
        xlabel="spikes per image",
        ylabel=accuracy,
        title="Accuracy against spikes",
    )
    by_spikes.set_xlim(left=0)


def _sensitivity(axes: Axes, own: pd.DataFrame, title: str) -> None:
    """Draw the accuracy of trained networks whose local gain is scaled."""
    scales = levels(own, condition="gain")
    places = np.arange(len(scales), dtype=float)
    curves = [
        Line(m, places, samples(own, method=m, condition="gain"), COLOURS[m])
        for m in ("LP", "HP")
        if m in own["method"].unique()
    ]
    if not curves:
        absent(axes, "no network with traces in these records")
        return
    lines(axes, curves, xlabel="local gain, × learned", ylabel="test accuracy (%)", title=title)
    axes.axvline(list(scales).index(1.0), color=GREY, linewidth=0.7)
    axes.set_xticks(places, [f"{scale:g}" for scale in scales])


def _table(axes: Axes, rows: _Rows, *, title: str) -> None:
    """Draw accuracies as numbers and as dots with 95 % intervals; reported ones as diamonds.

    Args:
        axes: where.
        rows: name -> accuracies [seeds] by method, and a reported one or None.
        title: of the panel.
    """
    marks = []
    for y, (found, reported) in enumerate(rows.values()):
        drawn = [m for m in _ORDER if m in found]
        for i, method in enumerate(drawn):
            place = y + 0.22 * (i - (len(drawn) - 1) / 2)
            marks.append(Dot.of(place, found[method], COLOURS[method]))
        if reported is not None:
            marks.append(Dot(y, reported, colour=BLACK, marker="D"))
        text = "  ".join(f"{m} {found[m].mean():.1f}" for m in drawn)
        counts = ", ".join(map(str, sorted({len(found[m]) for m in drawn})))
        axes.text(
            0.01,
            y,
            f"{text}  (n = {counts})",
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=SMALL,
        )
    dots(axes, marks, horizontal=True, xlabel="test accuracy (%)")
    for method in (m for m in _ORDER if any(m in found for found, _ in rows.values())):
        axes.plot([], [], "o", color=COLOURS[method], markersize=3, label=method)
    if any(reported is not None for _, reported in rows.values()):
        axes.plot([], [], "D", color=BLACK, markersize=3, label="reported (HP)")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if max(low, 0.0) <= tick <= min(high, 100.0)]
    axes.set_xlim(low - 0.6 * (high - low), high)  # room for the numbers
    axes.set_xticks(ticks)
    axes.set_title(title, loc="left")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, columnspacing=0.8)


def _leads(rows: _Rows) -> str:
    """Return in words where HP lies beside GP."""
    found = [values for values, _ in rows.values() if {"GP", "HP"} <= set(values)]
    gains = [values["HP"].mean() - values["GP"].mean() for values in found]
    return f"HP minus GP: {min(gains):+.1f} to {max(gains):+.1f}" if gains else "Accuracy"


def _ends(learned: dict[str, Floats]) -> str:
    return ", ".join(f"{name} {values[:, -1].mean():.1f}" for name, values in learned.items())


def _early(curves: Sequence[Line]) -> str:
    """Return in words what an answer after the first step lacks, from least to most."""
    if not curves:
        return "Answers by a step"
    lacks = [curve.samples[:, -1].mean() - curve.samples[:, 0].mean() for curve in curves]
    return f"From the first step to the last: {min(lacks):+.1f} to {max(lacks):+.1f} points"


def _without_traces(own: pd.DataFrame) -> str:
    gains = select(own, condition="gain", method="HP")
    if gains.empty:
        return "Scaled gains"
    lost = samples(gains, level=1.0).mean() - samples(gains, level=0.0).mean()
    return f"Without traces HP {lost_or_gained(lost)}"


def _code(records: Records[Any, Any], label: str) -> str:
    """Return how a network's answer is read, or its input if that is spikes."""
    settings = records.of(label)[0]["request"]["settings"]
    if (settings["encode"] or {}).get("kind") == "Poisson":
        return "Poisson"
    readout = settings["readout"]
    together = " (batch)" if readout.get("fraction") is not None else ""
    return _READOUTS[readout["kind"]] + together


def _is_variant(label: str, labels: Sequence[str]) -> bool:
    return any(label == f"{base}-{suffix}" for base in labels for suffix in _VARIANTS)


def _name(label: str) -> str:
    return label.replace("_", "-").replace("-", " ")


def _accuracies(
    records: Records[Any, Any], label: str, methods: Sequence[str] = _ORDER
) -> dict[str, Floats]:
    """Return accuracies [seeds] by method."""
    where: dict[str, Any] = {"label": label, "condition": "last", "usual": True}
    return {
        method: samples(records.frame, method=method, **where)[:, 0]
        for method in records.methods(label)
        if method in methods
    }


def draw_all(records: Records[Any, Any], seed: int) -> Drawn:
    """Draw Fig. 2 and its supplement."""
    labels = records.labels
    first = max(labels, key=lambda label: len(records.methods(label)))
    found: Drawn = {"fig2": (partial(draw, records), labels)}
    if "HP" in records.methods(first):
        found["fig2_details"] = (partial(draw_details, records), [first])
    return found
