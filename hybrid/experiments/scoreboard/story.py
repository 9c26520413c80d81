"""The story in one picture: HP beside the simplest thing that could explain it."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybrid.experiments.core.experiment import BEST
from hybrid.experiments.core.records import Records, gap, levels, samples, select, shared_seeds
from hybrid.experiments.few_shot.claims import interval
from hybrid.experiments.registry import EXPERIMENTS
from hybrid.report.estimate import Estimate
from hybrid.report.figures import COLOURS, GREY, canvas
from hybrid.report.panels import Dot, Line, dots, lines

_CONTROL = "GP + currents-stream"  # a network that keeps its currents, see notebook 03
_SIZES = ("5-way 1-shot", "20-way 1-shot")
_MEMORIES = {"GP": "no memory", "HP": "HP", "prototypes": "prototypes", "matching": "matching"}
_GATED = {
    "GP": "GP",
    "sparse GP": "sparse GP (masks alone)",
    "HP": "HP",
    "EWC + gating": "EWC + gating",
}


def draw_story() -> Figure:
    """Draw faults, few looks and many tasks, from committed records."""
    figure, axes = canvas(["abc"], height=74)
    _faults(axes["a"], EXPERIMENTS["fault_tolerance"].load("controls"))
    _looks(axes["b"], EXPERIMENTS["few_shot"].load(BEST))
    _tasks(axes["c"], EXPERIMENTS["continual"].load(BEST))
    return figure


def _faults(axes: Axes, records: Records[Any, Any]) -> None:
    """Draw accuracy under noise: GP, HP, and GP whose hidden neurons control their currents."""
    own = select(records.frame, label="fashion_mnist", condition="gaussian")
    x = levels(own, usual=True)
    hybrid, control = (Estimate.of(gap(own, way, "GP")[:, -1]) for way in ("HP", _CONTROL))
    curves = [
        Line("GP", x, samples(own, method="GP", usual=True), COLOURS["GP"]),
        Line("HP", x, samples(own, method="HP", usual=True), COLOURS["HP"]),
        Line(
            "GP, homeostatic",
            x,
            samples(own, method="GP", protocol="currents-stream"),
            COLOURS["currents-stream"],
            {"linestyle": "--"},
        ),
    ]
    title = f"Noise: HP adds {_interval(hybrid)} points,\nhomeostatic GP {_interval(control)}"
    xlabel = "noise variance\n(on a chip: a stream of images; a host rewrites traces)"
    words: dict[str, Any] = {"xlabel": xlabel, "ylabel": "accuracy (%)", "title": title}
    lines(axes, curves, legend={"loc": "lower left"}, ylim=(0, 100), **words)
    _count(axes, [own])


def _looks(axes: Axes, records: Records[Any, Any]) -> None:
    """Draw accuracy after one look, by memory."""
    own = select(records.frame, label=records.labels[0])
    marks, found = [], {}
    for i, (method, name) in enumerate(_MEMORIES.items()):
        for place, size in enumerate(_SIZES):
            found[method, size] = at = interval(own, method=method, condition=size)
            where = place + 0.15 * (i - 1.5)
            mark = Dot(
                where, at.mean, at.low, at.high, COLOURS[method], name="_" if place else name
            )
            marks.append(mark)
    for place, size in enumerate(_SIZES):
        chance = 100.0 / int(size.split("-")[0])
        axes.plot([place - 0.35, place + 0.35], [chance] * 2, ":", color=GREY, linewidth=0.8)
    pair = shared_seeds(select(own, condition=_SIZES[0]), ("HP", "prototypes"))
    beyond = Estimate.of(gap(pair, "HP", "prototypes")[:, 0])
    title = f"One look: HP minus prototypes\n{_interval(beyond)} points (5-way)"
    xlabel = "(on chips: they see all examples of an episode)"
    dots(axes, marks, xlabel=xlabel, ylabel="accuracy (%)", ylim=(0, 101), title=title)
    axes.set_xticks(range(len(_SIZES)), _SIZES)
    axes.legend(loc="center left")
    _count(axes, [select(own, method=method, condition=_SIZES[0]) for method in _MEMORIES], 0.7)


def _tasks(axes: Axes, records: Records[Any, Any]) -> None:
    """Draw accuracy on all tasks so far, with and without masks."""
    label = records.labels[0]
    own = select(records.frame, label=label, condition="average")
    curves = []
    for method, name in _GATED.items():
        style = {"marker": "", "linestyle": "--" if method == "HP" else "-"}
        x, values = levels(own, method=method), samples(own, method=method)
        curves.append(Line(name, x, values, COLOURS[method], style))
    final = select(records.frame, label=label, condition="final")
    adds = Estimate.of(gap(final, "HP", "sparse GP")[:, 0])
    title = f"{x[-1]:.0f} tasks: HP adds {_interval(adds)} points\nto sparse GP (masks alone)"
    xlabel = "tasks learned\n(on a chip: masks are part of the weights)"
    words: dict[str, Any] = {"xlabel": xlabel, "title": title}
    words["ylabel"] = "accuracy on all of them (%)"
    legend = {"loc": "lower left"}
    lines(axes, curves, legend=legend, whole_x=True, ylim=(0, 100), **words)
    _count(axes, [select(own, method=method) for method in _GATED], 0.7)


def _interval(found: Estimate) -> str:
    """Return a mean with its 95 % interval, without n, which the panel says once."""
    return found.with_interval.partition(" (")[0]


def _count(axes: Axes, parts: Sequence[pd.DataFrame], height: float = 0.98) -> None:
    """Write how many seeds there are, from fewest to most."""
    counts = sorted(part["seed"].nunique() for part in parts)
    text = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    axes.text(0.98, height, f"n = {text}", transform=axes.transAxes, ha="right", va="top")
