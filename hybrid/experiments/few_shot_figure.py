"""Fig. 4 assembled from a few-shot result: which arrays go into which panel."""

import numpy as np
from matplotlib.figure import Figure

from hybrid.experiments.few_shot_methods import METHODS
from hybrid.experiments.few_shot_results import Result
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
    shares = {
        size: {name: result.share(label, name, size) for name in methods}
        for size in result.sizes(label, "HP")
    }
    panels.grid(axes["d"], shares, _COLOUR)
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
