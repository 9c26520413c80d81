"""Fig. 4: which arrays go into which panel."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybrid.experiments.core.records import Drawn, Records, levels, samples, select, shared_seeds
from hybrid.experiments.few_shot.claims import interval, sizes_in
from hybrid.experiments.few_shot.methods import METHODS
from hybrid.report.estimate import lost_or_gained
from hybrid.report.figures import COLOURS, GREY, canvas
from hybrid.report.panels import SMALL, Dot, Line, dots, images, lines, matrix
from hybrid.runs.store import Json

_ACCURACY = "test accuracy (%)"
_WIDEST = 60.0  # points, of an interval that is drawn


def draw(records: Records[Any, Any], label: str | None = None) -> Figure:
    """Draw Fig. 4 from the finished trials of some settings, by default the plan's first."""
    label = label or records.labels[0]
    methods, own = records.methods(label), select(records.frame, label=label)
    settings = records.of(label)[0]["request"]["settings"]
    results = records.results(label, "HP")
    figure, axes = canvas(["aaab", "ccdd", "eeff"], height=165)
    example = results[0]["examined"]["example"]
    _episode(axes["a"], example, white_is_high=settings["ink"] == "authors")
    _traces(axes["b"], np.array(example["traces"]))
    learned = select(own, condition="learning")
    n = " to ".join(map(str, sorted({len(records.seeds(label, m)) for m in methods})))
    curves = [
        Line(m, levels(learned, method=m) / 1_000, samples(learned, method=m), COLOURS[m])
        for m in methods
        if m in learned["method"].unique()
    ]
    size = sizes_in(own)[0]
    lines(
        axes["c"],
        curves,
        legend={"loc": "center right", "fontsize": 5},
        xlabel=f"training episodes (1,000), n = {n}",
        ylabel="validation accuracy (%)",
        title=f"Learning to learn, {size}: {_scores(own, size, ('HP', 'GP'))}",
        ylim=(0, 100),
    )
    axes["c"].axhline(100.0 / settings["tests"][0][0], color=GREY, linewidth=0.7, linestyle=":")
    axes["c"].set_xlim(left=0)
    _sizes(axes["d"], records, label)
    _mixing(axes["e"], [r["examined"]["theta"] for r in results], settings["initial"]["mixing"])
    _by(axes["f"], own, "wrong labels", 100.0, "wrong labels (%), of 5 shots", "to wrong labels")
    return figure


def draw_details(records: Records[Any, Any], label: str | None = None) -> Figure:
    """Draw the supplement of Fig. 4: does it matter when the class asked for was shown?"""
    label = label or records.labels[0]
    figure, axes = canvas(["a"], width="single", height=60)
    _by(
        axes["a"],
        select(records.frame, label=label),
        "position",
        1.0,
        "place of the example",
        "from first to last place",
    )
    return figure


def _by(
    axes: Axes, own: pd.DataFrame, condition: str, factor: float, xlabel: str, why: str
) -> None:
    """Draw accuracies of the methods that can remember; the title says what HP loses."""
    found = select(own, condition=condition)
    able = [m for m in found["method"].unique() if m not in ("LP", "GP")]
    x = factor * levels(found)
    curves = [Line(m, x, samples(found, method=m), COLOURS[m]) for m in able]
    means = samples(found, method="HP").mean(0)
    title = f"HP {lost_or_gained(means[0] - means[-1])} {why}"
    words = {"xlabel": xlabel, "ylabel": _ACCURACY, "title": title}
    legend = {"loc": "lower left", "ncols": 2}
    limits = None if condition == "position" else (0, 101)  # where all are alike: zoomed in
    lines(axes, curves, legend=legend, whole_x=condition == "position", ylim=limits, **words)


def _episode(axes: Axes, example: Json, *, white_is_high: bool) -> None:
    """Draw the labelled support in order, and the query; the highest potential answers."""
    ink = np.array(example["drawings"], dtype=float) / 255.0
    ink = 1.0 - ink if white_is_high else ink
    answer = int(np.argmax(example["potentials"])) + 1
    captions = [f"{i + 1}.\nclass {label + 1}" for i, label in enumerate(example["labels"])]
    captions.append(f"query: class {example['target'] + 1}\nanswer {answer}")
    title = "One episode of unseen classes"
    images(axes, [list(ink)], labels=[captions], below=True, title=title, cmap="gray_r")


def _traces(axes: Axes, after: np.ndarray) -> None:
    """Draw the trace after each example [support, ways, features], one below the other."""
    shown, ways, features = after.shape
    page = np.full((shown * (ways + 1) - 1, features), np.nan)
    for number, trace in enumerate(after):
        page[number * (ways + 1) : number * (ways + 1) + ways] = trace
    limit = np.abs(after).max()
    matrix(
        axes,
        page,
        scale="",
        limits=(-limit, limit),
        cmap="PuOr_r",
        xlabel=f"feature (first {features})",
        title="Trace, a row per class",
    )
    middles = [number * (ways + 1) + (ways - 1) / 2 for number in range(shown)]
    axes.set_yticks(middles, [f"after {number + 1}" for number in range(shown)])


def _sizes(axes: Axes, records: Records[Any, Any], main: str) -> None:
    """Draw accuracies in test episodes of one label, and the first size of each other one.

    Those on the same characters go beside its own, for episodes of the same size.
    """
    frame, planned = records.frame, records.planned
    kinds: dict[str, dict[str, tuple[str, str]]] = {}  # kind -> method -> (label, size)
    for label in (main, *(other for other in records.labels if other != main)):
        dataset = planned[label].dataset
        for method in records.methods(label):
            sizes = sizes_in(select(frame, label=label, method=method))
            for size in sizes if label == main else sizes[:1]:
                kind = size if dataset == planned[main].dataset else f"{dataset} {size}"
                kinds.setdefault(kind, {}).setdefault(method, (label, size))
    present = [m.name for m in METHODS if any(m.name in found for found in kinds.values())]
    marks, named = [], set()
    for i, method in enumerate(present):
        for place, found in enumerate(kinds.values()):
            if method not in found:
                continue
            label, size = found[method]
            where = {"label": label, "method": method, "condition": size}
            estimate = interval(frame, **where)
            at = place + 0.8 * ((i + 0.5) / len(present) - 0.5)
            name = "_" if method in named else method
            named.add(method)
            ends = (estimate.low, estimate.high)
            if ends[1] - ends[0] < _WIDEST:
                marks.append(Dot(at, estimate.mean, *ends, COLOURS[method], name=name))
            else:  # seeds that have little in common are shown one by one
                every = select(frame, **where)["accuracy"]
                marks += [Dot(at, value, colour=COLOURS[method], name="_") for value in every]
                marks[-1] = marks[-1]._replace(name=name)
    first = sizes_in(select(frame, label=main))[0]
    told = _scores(select(frame, label=main), first, ("HP", "prototypes"))
    dots(axes, marks, ylabel=_ACCURACY, ylim=(0, 101), title=f"Unseen classes, {first}: {told}")
    ticks = [kind.replace(" ", "\n") for kind in kinds]
    axes.set_xticks(range(len(kinds)), ticks)
    for place, kind in enumerate(kinds):
        chance = 100.0 / int(kind.split()[-2].split("-")[0])
        axes.plot([place - 0.4, place + 0.4], [chance] * 2, ":", color=GREY, linewidth=0.8)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=4, fontsize=SMALL)


def _mixing(axes: Axes, thetas: list[Json], initial: list[float]) -> None:
    """Draw the learned shares of the global weight, a histogram for each seed."""
    for theta in thetas:
        counts, edges = (np.array(theta["mixing"][name]) for name in ("counts", "edges"))
        density = counts / counts.sum() / np.diff(edges)
        axes.stairs(density, edges, color=COLOURS["HP"], linewidth=0.8)
    axes.axvspan(*initial, color=GREY, alpha=0.25, linewidth=0, label="initial range")
    mean = np.mean([_mean_of(theta["mixing"]) for theta in thetas])
    title = f"The weight's share in what HP reads: {100 * mean:.0f} % on average"
    axes.set(
        xlabel="share α of the global weight", ylabel="density, a line for each seed", title=title
    )
    axes.legend(loc="lower center")


def _scores(own: pd.DataFrame, size: str, methods: Sequence[str]) -> str:
    """Return accuracies in words."""
    tested = select(own, condition=size)
    tested = shared_seeds(tested, [m for m in methods if m in tested["method"].unique()])
    found = {m: select(tested, method=m)["accuracy"] for m in methods}
    return ", ".join(f"{m} {a.mean():.1f} %" for m, a in found.items() if len(a))


def _mean_of(histogram: Json) -> float:
    counts, edges = (np.array(histogram[name]) for name in ("counts", "edges"))
    return float((counts * (edges[:-1] + edges[1:]) / 2).sum() / counts.sum())


def draw_all(records: Records[Any, Any], seed: int) -> Drawn:
    """Draw Fig. 4 and its supplement."""
    labels = [label for label in records.labels if "HP" in records.methods(label)]
    if not labels:
        return {}
    return {
        "fig4": (partial(draw, records, labels[0]), records.labels),
        "fig4_details": (partial(draw_details, records, labels[0]), labels[:1]),
    }
