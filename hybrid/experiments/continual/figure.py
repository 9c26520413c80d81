"""Fig. 5: which arrays go into which panel."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybrid.data.images import load_images
from hybrid.data.tasks import permuted
from hybrid.experiments.continual.claims import accuracy_table
from hybrid.experiments.continual.methods import METHODS
from hybrid.experiments.continual.settings import ContinualSettings
from hybrid.experiments.core.records import Drawn, Records, gap, levels, samples, select
from hybrid.report.estimate import Estimate, Floats, lost_or_gained
from hybrid.report.figures import COLOURS, canvas
from hybrid.report.panels import (
    SMALL,
    Dot,
    Line,
    absent,
    dots,
    forest,
    images,
    lines,
    logarithmic,
    matrix,
)
from hybrid.runs.seeds import numpy_stream

_GATED = {method.name: method.gated for method in METHODS}  # told the task
_SWEPT = ("sparse GP", "HP")
_FEW = ("GP", "LP", "sparse GP", "HP", "EWC", "joint")  # that one panel can tell apart
_NEAR = 12.0  # points, from the best, of methods in a zoomed panel
_FINAL = "final accuracy (%)"


def draw(records: Records[Any, Any], shown: Floats, label: str | None = None) -> Figure:
    """Draw Fig. 5 from the finished trials of some settings, by default the plan's first.

    Args:
        records: finished trials.
        shown: images as the first tasks show them [tasks, images, height, width].
        label: of the settings.
    """
    label = label or records.labels[0]
    methods, own = records.methods(label), select(records.frame, label=label)
    figure, axes = canvas(["aaabb", "cccdd", "eeeff"], height=165)
    captions = [[f"task {number + 1}" for number in range(len(shown))]]
    rows = [list(row) for row in shown.swapaxes(0, 1)]
    title = "The same images, task by task\n"
    images(axes["a"], rows, gap=4, labels=captions, title=title, cmap="gray_r", vmin=0, vmax=1)
    _densities(axes["b"], records, label)
    final = {m: samples(own, method=m, condition="final")[:, 0] for m in methods}
    ends = ", ".join(f"{m} {final[m].mean():.0f} %" for m in ("GP", "HP") if m in methods)
    _streams(axes["c"], own, [m for m in methods if m in _FEW], f"After the last task: {ends}")
    _finals(axes["d"], final, _added(own))
    for letter, method, scale in (("e", "GP", None), ("f", "HP", "accuracy (%)")):
        if method in methods:
            tables = [accuracy_table(result)[1:] for result in records.results(label, method)]
            words: dict[str, Any] = {"xlabel": "tested task", "ylabel": "tasks learned"}
            left = np.mean(tables, axis=0)
            left[np.triu_indices_from(left, 1)] = np.nan  # not yet learned
            lost = left.diagonal()[:-1].mean() - left[-1, :-1].mean()
            words["title"] = f"{method} {lost_or_gained(lost)} of what it knew"
            matrix(axes[letter], left, scale=scale, **words)
        else:
            absent(axes[letter], f"no {method} in this profile")
    return figure


def draw_details(records: Records[Any, Any], label: str | None = None) -> Figure:
    """Draw the supplement of Fig. 5: all methods along the stream, and how tasks overlap."""
    label = label or records.labels[0]
    figure, axes = canvas(["aabc"], height=80)
    own, title = select(records.frame, label=label), "Solid: told the task; dashed: not told"
    _streams(axes["a"], own, records.methods(label), title)
    _representations(axes["b"], axes["c"], records, label)
    return figure


def _streams(axes: Axes, own: pd.DataFrame, methods: Sequence[str], title: str) -> None:
    """Draw accuracy on all tasks so far against their number."""
    average = select(own, condition="average")
    curves = []
    for method in methods:
        style = {"marker": "", "linestyle": "-" if _GATED[method] else "--"}
        x, found = levels(average, method=method), samples(average, method=method)
        curves.append(Line(method, x, found, COLOURS[method], style))
    words: dict[str, Any] = {"xlabel": "tasks learned", "ylabel": "accuracy on all of them (%)"}
    legend = {"loc": "lower left", "ncols": 3}
    lines(axes, curves, legend=legend, whole_x=True, title=title, ylim=(0, 100), **words)


def _finals(axes: Axes, final: dict[str, Floats], title: str) -> None:
    """Draw final accuracies of the methods within a few points of the best."""
    best = max(values.mean() for values in final.values())
    near = [m for m, values in final.items() if values.mean() > best - _NEAR]
    rows = {
        m if _GATED[m] else f"{m} (not told)": [Dot.of(0.0, final[m], COLOURS[m])] for m in near
    }
    forest(axes, rows, xlabel=f"{_FINAL}, zoomed in", title=title)


def _added(own: pd.DataFrame) -> str:
    """Return in words what traces add to masks, with the 95 % interval over seeds of both."""
    with suppress(KeyError):
        adds = gap(select(own, condition="final"), "HP", "sparse GP")[:, 0]
        if len(adds):
            return f"HP minus sparse GP: {Estimate.of(adds).with_interval}"
    return "The best methods"


def _representations(overlaps: Axes, shares: Axes, records: Records[Any, Any], label: str) -> None:
    """Draw how much two tasks share of the hidden activity, and how many neurons a task uses."""
    methods = records.methods(label)
    for axes, key, top, xlabel, title in (
        (
            overlaps,
            "overlap",
            1.0,
            "overlap of two tasks (cosine)",
            "Layer 2, mean: {:.2f} with\nmasks, {:.2f} without",
        ),
        (
            shares,
            "active",
            100.0,
            "neurons that spike for a task (%)",
            "Layer 2, mean: {:.0f} % with\nmasks, {:.0f} % without",
        ),
    ):
        rows: dict[str, list[Dot]] = {}
        for method in methods:
            tables = np.array(
                [result["representations"][key] for result in records.results(label, method)]
            )
            found = mean_overlap(tables) if key == "overlap" else 100.0 * tables.mean(-1)
            depth = found.shape[1]
            rows[method] = [
                Dot.of(
                    0.22 * (layer - (depth - 1) / 2),
                    found[:, layer],
                    COLOURS[method],
                    "_" if rows else f"layer {layer + 1}",
                )._replace(marker="os^D"[layer % 4])
                for layer in range(depth)
            ]
        forest(axes, rows, xlabel=xlabel, title=_with_masks(rows, title))
        axes.set_xlim(0, 1.03 * top)
    overlaps.legend(loc="lower right")


def _with_masks(rows: dict[str, list[Dot]], title: str) -> str:
    """Return a title with the means of the last layer: methods with masks, and without."""
    sides = [
        [marks[-1].value for method, marks in rows.items() if _GATED[method] is gated]
        for gated in (True, False)
    ]
    return title.format(*map(np.mean, sides)) if all(sides) else "Hidden layers, by method"


def mean_overlap(tables: Floats) -> Floats:
    """Return the mean over pairs of different tasks [seeds, layers]."""
    pairs = ~np.eye(tables.shape[-1], dtype=bool)
    return np.asarray(tables[..., pairs].mean(-1))


def densities(records: Records[Any, Any], main: str) -> dict[str, tuple[list[float], list[Floats]]]:
    """Return final accuracies by density, of all settings that are the main ones but for that.

    Method -> (shares of the synapses that a task owns, accuracies [seeds] of each).
    """
    planned, base = records.planned, records.planned[main]

    def alike(own: ContinualSettings) -> bool:
        return base == replace(
            own, label=main, density=base.density, initial_scale=base.initial_scale
        )

    same = [label for label in records.labels if alike(planned[label])]
    same.sort(key=lambda label: float(planned[label].density))
    found = {}
    for method in _SWEPT:
        labels = [label for label in same if method in records.methods(label)]
        if labels:
            where = {"method": method, "condition": "final"}
            accuracies = [samples(records.frame, label=own, **where)[:, 0] for own in labels]
            found[method] = ([planned[own].density for own in labels], accuracies)
    return found


def _densities(axes: Axes, records: Records[Any, Any], label: str) -> None:
    """Draw final accuracies against the share of synapses that a task owns, by method."""
    found = densities(records, label)
    for method, (shares, accuracies) in found.items():
        percent, colour = [100 * share for share in shares], COLOURS[method]
        pairs = zip(percent, accuracies, strict=True)
        marks = [Dot.of(place, values, colour) for place, values in pairs]
        axes.plot(percent, [mark.value for mark in marks], color=colour, label=method)
        dots(axes, marks)
    shown = sorted({100 * share for shares, _ in found.values() for share in shares})
    logarithmic(axes, "x", shown)
    axes.set(
        xlabel="share of synapses that a task owns (%)",
        ylabel=_FINAL,
        title="By the density of masks",
    )
    if found:
        axes.legend(loc="best", fontsize=SMALL)


def draw_all(records: Records[Any, Any], seed: int) -> Drawn:
    """Draw Fig. 5 and its supplement."""
    labels = records.labels
    return {
        "fig5": (lambda: draw(records, first_tasks(seed)), labels),
        "fig5_details": (partial(draw_details, records), labels[:1]),
    }


def first_tasks(seed: int) -> Floats:
    """Return digits as the first permuted tasks show them [tasks, images, height, width]."""
    digits = load_images("digits").test[:3]
    flat = digits.reshape(len(digits), -1)
    tasks = permuted(5, flat.shape[1], 10, numpy_stream(seed, "permutations"))
    seen = [flat if task.pixels is None else flat[:, task.pixels] for task in tasks]
    return np.reshape(seen, (len(tasks), *digits.shape))
