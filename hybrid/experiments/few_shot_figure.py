"""Fig. 4 assembled from a few-shot result: which arrays go into which panel."""

import numpy as np
from matplotlib.figure import Figure

from hybrid.experiments.few_shot_methods import METHODS
from hybrid.experiments.few_shot_results import Interval, Result
from hybrid.report import few_shot_panels as panels
from hybrid.report.figures import canvas

_COLOUR = {method.name: method.colour for method in METHODS}


def draw(result: Result, label: str | None = None) -> Figure:
    """Draw Fig. 4 from the finished trials of one config, by default the plan's first."""
    label = label or result.labels()[0]
    methods, config = result.methods(label), result.config(label)
    figure, axes = canvas(["aaab", "ccdd", "eefg"], height=165)
    example = result.example(label)
    ink = np.array(example["drawings"], dtype=float) / 255.0
    if config["ink"] == "authors":  # white is the highest value there
        ink = 1.0 - ink
    panels.episode(
        axes["a"], ink, example["labels"], example["target"], np.array(example["potentials"])
    )
    panels.traces(axes["b"], np.array(example["traces"]))
    learned = {
        name: (episodes, accuracy, _COLOUR[name])
        for name in methods
        for episodes, accuracy in [result.learning(label, name)]
        if accuracy.size
    }
    first = result.sizes(label, "HP")[0]
    chance = 100.0 / config["tests"][0][0]
    panels.curves(axes["c"], learned, chance=chance, title=f"Learning to learn, {first}")
    panels.grid(axes["d"], _intervals(result, label), _COLOUR)
    thetas = result.theta(label)
    panels.mixing(
        axes["e"],
        [(np.array(t["mixing"]["counts"]), np.array(t["mixing"]["edges"])) for t in thetas],
        tuple(config["initial_mixing"]),
        colour=_COLOUR["HP"],
        rates=[t["local_rate"] for t in thetas],
    )
    able = [name for name in methods if name not in ("LP", "GP")]
    panels.positions(
        axes["f"], {name: (result.positions(label, name), _COLOUR[name]) for name in able}
    )
    panels.noise(axes["g"], {name: (*result.noise(label, name), _COLOUR[name]) for name in able})
    return figure


def _intervals(result: Result, main: str) -> dict[str, dict[str, Interval]]:
    """Return the accuracies of one config, and the first of each other one.

    Those on the same characters go beside its own, for episodes of the same size.
    """
    found: dict[str, dict[str, Interval]] = {}
    for label in (main, *(other for other in result.labels() if other != main)):
        own = label == main
        known = result.config(label)["dataset"] == result.config(main)["dataset"]
        for name in result.methods(label):
            sizes = result.sizes(label, name)
            for size in sizes if own else sizes[:1]:
                kind = size if known else f"{result.config(label)['dataset']} {size}"
                found.setdefault(kind, {}).setdefault(name, result.interval(label, name, size))
    return found
