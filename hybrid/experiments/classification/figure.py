"""Fig. 2: which arrays go into which panel."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybrid.experiments.core.records import (
    Drawn,
    Records,
    gap,
    levels,
    samples,
    select,
    table,
)
from hybrid.report.estimate import Floats, lost_or_gained
from hybrid.report.figures import BLACK, COLOURS, GREY, canvas, spoken
from hybrid.report.panels import Dot, Line, absent, forest, learning, lines, raster
from hybrid.report.scoreboard import load_claims

_CODES = ("", "rate", "rank", "poisson")  # variants that differ in their code; "" is the base
_READOUTS = {"LastMembrane": "membrane", "Rate": "rate", "Rank": "first spike"}
# Suffix of a variant's label -> its name in panel f.
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
_BESIDE = {"IF": "rate", "adaptive": "rate"}  # variants of a variant
_ORDER = ("LP", "GP", "HP")
_REACH = 4.0  # points; a change beyond them is written as a number
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
    _accuracy_rows(axes["a"], main, title=_leads(records))
    own = select(frame, label=first)
    learned = {m: samples(own, method=m, condition="learning") for m in records.methods(first)}
    learning(axes["b"], learned, f"Learning {_name(first)}: {_ends(learned)}")
    _codes(axes["c"], axes["d"], records, base)
    _sensitivity(axes["e"], own, f"{_name(first)}: {_without_traces(own)}")
    _changes(axes["f"], records, base)
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
    lines(
        by_step,
        curves,
        xlabel="steps",
        ylabel=accuracy,
        title=f"{_name(base)}, HP: {_early(curves)}",
    )
    lines(
        by_spikes,
        costs,
        xlabel="spikes per image",
        ylabel=accuracy,
        title=f"{_name(base)}, HP: {_dearest(costs)}",
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


def _accuracy_rows(axes: Axes, rows: _Rows, *, title: str) -> None:
    """Draw accuracies with 95 % intervals, a row for each network; reported ones as diamonds.

    Args:
        axes: where.
        rows: name -> accuracies [seeds] by method, and a reported one or None.
        title: of the panel.
    """
    shown: dict[str, list[Dot]] = {}
    named: set[str] = set()
    for name, (found, reported) in rows.items():
        drawn = [m for m in _ORDER if m in found]
        marks = [
            Dot.of(_off(i, drawn), found[m], COLOURS[m], "_" if m in named else m)
            for i, m in enumerate(drawn)
        ]
        if reported is not None:
            known = "_" if "reported" in named else "reported (HP)"
            marks.append(Dot(0.0, reported, colour=BLACK, marker="D", name=known))
            named.add("reported")
        named |= set(drawn)
        counts = ", ".join(map(str, sorted({len(found[m]) for m in drawn})))
        shown[f"{name}\n(n = {counts})"] = marks
    forest(axes, shown, xlabel="test accuracy (%)", title=title, legend={"loc": "upper left"})


def _changes(axes: Axes, records: Records[Any, Any], base: str) -> None:
    """Draw what each change of a network does to its accuracy, seed by seed."""
    rows: dict[str, list[Dot]] = {}
    counts: set[int] = set()
    for suffix, name in _VARIANTS.items():
        label = f"{base}-{suffix}"
        if label not in records.labels:
            continue
        found = {m: _change(records, base, label, m) for m in ("GP", "HP")}
        drawn = [m for m, change in found.items() if len(change)]
        rows[name] = [Dot.of(_off(i, drawn), found[m], COLOURS[m], m) for i, m in enumerate(drawn)]
        counts |= {len(found[m]) for m in drawn}
    if not any(rows.values()):
        absent(axes, "no variants with a seed of the base")
        return
    values = [mark.value for marks in rows.values() for mark in marks]
    near = [abs(value) for value in values if abs(value) <= _REACH]
    far, most = len(values) - len(near), max(near, default=0.0)
    n = " to ".join(map(str, sorted(counts)))
    forest(
        axes,
        {name: _named_once(rows, name) for name in rows},
        zero=True,
        within=_REACH,
        legend={"loc": "lower right"},
        xlim=(-_REACH - 0.3, _REACH + 0.3),
        xlabel=f"change of accuracy (points), {spoken(base)} (n = {n})",
        title=f"All but {far} changes: {most:.1f} points at most on average",
    )


def _named_once(rows: dict[str, list[Dot]], name: str) -> list[Dot]:
    """Return the marks of a row, in the legend only if no earlier row has a mark of that name."""
    before = list(rows)[: list(rows).index(name)]
    known = {mark.name for earlier in before for mark in rows[earlier]}
    return [mark._replace(name="_") if mark.name in known else mark for mark in rows[name]]


def _change(records: Records[Any, Any], base: str, label: str, method: str) -> Floats:
    """Return a variant's accuracy minus that of what it is a variant of [seeds of both]."""
    where: dict[str, Any] = {"method": method, "condition": "last", "usual": True}
    suffix = label.removeprefix(f"{base}-")
    beside = f"{base}-{_BESIDE[suffix]}" if suffix in _BESIDE else base
    try:
        one, other = (table(records.frame, label=own, **where)[0.0] for own in (label, beside))
    except KeyError:  # one of them has not run
        return np.empty(0)
    return np.asarray((one - other).dropna(), dtype=float)


def _off(number: int, drawn: Sequence[str]) -> float:
    """Return how far a mark lies from the middle of its row."""
    return 0.22 * (number - (len(drawn) - 1) / 2)


def _leads(records: Records[Any, Any]) -> str:
    """Return in words where HP lies beside GP, over seeds of both, in networks that are drawn."""
    gains = []
    for label in records.labels:
        if {"GP", "HP"} <= set(records.methods(label)) and not _is_variant(label, records.labels):
            own = select(records.frame, label=label, condition="last")
            found = gap(own, "HP", "GP")[:, 0]
            gains += [found.mean()] if len(found) else []
    if not gains:
        return "Accuracy"
    return f"HP minus GP: {min(gains):+z.1f} to {max(gains):+z.1f} points"


def _ends(learned: dict[str, Floats]) -> str:
    return ", ".join(f"{name} {values[:, -1].mean():.1f}" for name, values in learned.items())


def _early(curves: Sequence[Line]) -> str:
    """Return in words what an answer after the first step lacks, from least to most."""
    if not curves:
        return "answers by a step"
    lacks = [curve.samples[:, -1].mean() - curve.samples[:, 0].mean() for curve in curves]
    return f"waiting gains {min(lacks):.1f} to {max(lacks):.1f} points"


def _dearest(costs: Sequence[Line]) -> str:
    """Return in words which code is best in the end, and what it costs."""
    if not costs:
        return "spikes"
    best = max(costs, key=lambda curve: curve.samples[-1])
    return f"{best.name} is best, for {best.x[-1]:.0f} spikes"


def _without_traces(own: pd.DataFrame) -> str:
    gains = select(own, condition="gain", method="HP")
    if gains.empty:
        return "scaled gains"
    lost = samples(gains, level=1.0).mean() - samples(gains, level=0.0).mean()
    return f"without traces HP {lost_or_gained(lost)}"


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
    """Return a label as readers write it: "mnist-rows" as MNIST, rows."""
    return spoken(label).replace("MNIST-", "MNIST, ")


def _accuracies(records: Records[Any, Any], label: str) -> dict[str, Floats]:
    """Return accuracies [seeds] by method."""
    where: dict[str, Any] = {"label": label, "condition": "last", "usual": True}
    return {
        method: samples(records.frame, method=method, **where)[:, 0]
        for method in records.methods(label)
    }


def draw_all(records: Records[Any, Any], seed: int) -> Drawn:
    """Draw Fig. 2 and its supplement."""
    labels = records.labels
    first = max(labels, key=lambda label: len(records.methods(label)))
    found: Drawn = {"fig2": (partial(draw, records), labels)}
    if "HP" in records.methods(first):
        found["fig2_details"] = (partial(draw_details, records), [first])
    return found
