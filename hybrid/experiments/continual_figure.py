"""Fig. 5 assembled from a continual-learning result: which arrays go into which panel."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hybrid.experiments.continual_methods import METHODS
from hybrid.experiments.continual_results import Result
from hybrid.experiments.records import Floats
from hybrid.report import continual_panels as panels
from hybrid.report.figures import absent, canvas

_METHOD = {method.name: method for method in METHODS}
_SWEPT = ("sparse GP", "HP")


def draw(result: Result, shown: NDArray[np.float64], label: str | None = None) -> Figure:
    """Draw Fig. 5 from the finished trials of one config, by default the plan's first.

    Args:
        shown: images as the first tasks show them [tasks, images, height, width].
    """
    label = label or result.labels()[0]
    methods = result.methods(label)
    figure, axes = canvas(["aaab", "ccdd", "efgg"], height=175)
    panels.stream(axes["a"], shown)
    panels.densities(axes["b"], _densities(result, label))
    lines = {name: (result.average(label, name), *_look(name)) for name in methods}
    panels.course(axes["c"], lines)
    panels.bars(axes["d"], {name: (result.final(label, name), *_look(name)) for name in methods})
    for place, name in (("e", "GP"), ("f", "HP")):
        if name in methods:
            table = result.accuracy(label, name)[:, 1:].mean(0)
            panels.matrix(axes[place], table, f"{name}: what is left", scale=place == "f")
        else:
            absent(axes[place], f"no {name} in this profile")
    panels.overlaps(
        axes["g"],
        {name: (_mean_overlap(result.overlap(label, name)), _look(name)[0]) for name in methods},
        {name: result.active(label, name).mean(-1) for name in methods},
    )
    return figure


def _look(name: str) -> tuple[str, bool]:
    """Return a method's colour, and whether it is told the task."""
    return _METHOD[name].colour, _METHOD[name].gated


def _mean_overlap(tables: Floats) -> Floats:
    """Return the mean over pairs of different tasks [seeds, layers]."""
    tasks = tables.shape[-1]
    pairs = ~np.eye(tasks, dtype=bool)
    return np.asarray(tables[..., pairs].mean(-1))


def _densities(result: Result, main: str) -> dict[str, tuple[Floats, list[Floats], str]]:
    """Return final accuracies by density, of all configs that are the main one but for that."""
    config = result.config(main)
    varied = {"label", "density", "initial_scale"}
    alike = [
        label
        for label in result.labels()
        if all(result.config(label)[key] == config[key] for key in config if key not in varied)
    ]
    alike.sort(key=lambda label: float(result.config(label)["density"]))
    found = {}
    for name in _SWEPT:
        labels = [label for label in alike if name in result.methods(label)]
        if labels:
            shares = np.array([float(result.config(label)["density"]) for label in labels])
            samples = [result.final(label, name) for label in labels]
            found[name] = (shares, samples, _METHOD[name].colour)
    return found
