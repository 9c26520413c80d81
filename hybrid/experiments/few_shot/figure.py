"""Fig. 4: which arrays go into which panel."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybrid.experiments.core.records import Drawn, Records, levels, samples, select
from hybrid.experiments.few_shot.claims import interval, sizes_in
from hybrid.experiments.few_shot.methods import METHODS
from hybrid.report.figures import COLOURS, GREY, canvas
from hybrid.report.panels import Bar, Line, bars, images, lines, matrix
from hybrid.runs.store import Json

_ACCURACY = "test accuracy (%)"


def draw(records: Records[Any, Any], label: str | None = None) -> Figure:
    """Draw Fig. 4 from the finished trials of some settings, by default the plan's first."""
    label = label or records.labels[0]
    methods, own = records.methods(label), select(records.frame, label=label)
    settings = records.of(label)[0]["request"]["settings"]
    results = records.results(label, "HP")
    figure, axes = canvas(["aaab", "ccdd", "eefg"], height=165)
    example = results[0]["examined"]["example"]
    _episode(axes["a"], example, white_is_high=settings["ink"] == "authors")
    _traces(axes["b"], np.array(example["traces"]))
    learned = select(own, condition="learning")
    curves = [
        Line(m, levels(learned, method=m) / 1_000, samples(learned, method=m), COLOURS[m])
        for m in methods
        if m in learned["method"].unique()
    ]
    lines(
        axes["c"],
        curves,
        legend={"loc": "center right", "fontsize": 5},
        xlabel="training episodes (1,000)",
        ylabel="validation accuracy (%)",
        title=f"Learning to learn, {sizes_in(own)[0]}",
    )
    axes["c"].axhline(100.0 / settings["tests"][0][0], color=GREY, linewidth=0.7, linestyle=":")
    axes["c"].set_xlim(left=0)
    _sizes(axes["d"], records, label)
    _mixing(axes["e"], [r["examined"]["theta"] for r in results], settings["initial"]["mixing"])
    able = [m for m in methods if m not in ("LP", "GP")]
    for letter, condition, factor, xlabel, title in (
        ("f", "position", 1.0, "place of the example", "Order of the support"),
        ("g", "wrong labels", 100.0, "wrong labels (%)", "Wrong labels, 5 shots"),
    ):
        found = select(own, condition=condition)
        x = factor * levels(found)
        curves = [Line(m, x, samples(found, method=m), COLOURS[m]) for m in able]
        words = {"xlabel": xlabel, "ylabel": _ACCURACY, "title": title}
        lines(axes[letter], curves, legend=None, whole_x=condition == "position", **words)
    return figure


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
    width = 0.8 / len(present)
    drawn: list[Bar] = []
    for i, method in enumerate(present):
        for place, found in enumerate(kinds.values()):
            if method not in found:
                continue
            label, size = found[method]
            estimate = interval(frame, label=label, method=method, condition=size)
            at = place + 0.8 * ((i + 0.5) / len(present) - 0.5)
            ends = (estimate.low, estimate.high)
            name = "_" if any(bar.name == method for bar in drawn) else method
            drawn.append(Bar(at, estimate.mean, COLOURS[method], width, name, ends))
    bars(
        axes,
        drawn,
        legend={"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "ncols": 4, "fontsize": 5},
        ticks={kind.replace(" ", "\n"): float(place) for place, kind in enumerate(kinds)},
        ylabel=_ACCURACY,
        ylim=(0, 100),
        title="Unseen classes",
    )


def _mixing(axes: Axes, thetas: list[Json], initial: list[float]) -> None:
    """Draw the learned shares of the global weight, a histogram for each seed."""
    for theta in thetas:
        counts, edges = (np.array(theta["mixing"][name]) for name in ("counts", "edges"))
        density = counts / counts.sum() / np.diff(edges)
        axes.stairs(density, edges, color=COLOURS["HP"], linewidth=0.8)
    axes.axvspan(*initial, color=GREY, alpha=0.25, linewidth=0, label="initial range")
    rates = ", ".join(f"{theta['local_rate']:.3f}" for theta in thetas)
    title = f"What θ learned (local rate {rates})"
    axes.set(xlabel="mixing α", ylabel="density", title=title)
    axes.legend(loc="lower center")


def draw_all(records: Records[Any, Any], seed: int) -> Drawn:
    """Draw Fig. 4."""
    return {"fig4": (draw(records), records.labels)}
