"""Fig. 3, supplement: HP beside what a plain network can do about a shifted input."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybrid.experiments.core.records import Records, gap, levels, samples, select
from hybrid.experiments.fault_tolerance.methods import METHODS
from hybrid.report.figures import COLOURS, ON_WHITE, canvas
from hybrid.report.panels import Dot, absent, dots, forest

# Ways to test a network, as `gap` calls them, with their names in figures and their colours.
SHOWN = {
    "GP": ("GP", COLOURS["GP"]),
    "HP": ("HP, batch", COLOURS["HP"]),
    "HP + stream": ("HP, stream", COLOURS["stream"]),
    "GP + offset": ("GP, one offset", COLOURS["offset"]),
    "GP + pixels": ("GP, mean image", COLOURS["pixels"]),
    "GP + thresholds": ("GP, thresholds", COLOURS["thresholds"]),
    "GP + currents-batch": ("GP, homeostatic, batch", COLOURS["currents-batch"]),
    "GP + currents-stream": ("GP, homeostatic", COLOURS["currents-stream"]),
}
# What is set against GP as it is, fault by fault.
_AGAINST = {
    "HP": ("HP, batch", COLOURS["HP"]),
    "HP + stream": ("HP, stream", COLOURS["stream"]),
    "GP + currents-stream": ("GP, homeostatic", COLOURS["currents-stream"]),
    "HP + currents-stream": ("HP, homeostatic", COLOURS["currents-batch"]),
}
_FAULTS = {
    "gaussian": "noise {:g}",
    "gaussian_unclipped": "noise {:g}, not clipped",
    "gaussian_centred": "noise {:g}, mean 0",
    "crop": "blanked {:g}",
    "salt": "salt {:g}",
    "pepper": "pepper {:g}",
    "salt_pepper": "salt & pepper {:g}",
    "speckle": "speckle {:g}",
}
_ARRIVALS = {
    ("batch of", 1.0): "batches\nof 1",
    ("batch of", 10.0): "batches\nof 10",
    ("batch of", 100.0): "batches\nof 100",
    ("batch of", 1000.0): "batches\nof 1,000",
    ("sorted", 0.0): "sorted by\nclass, clean",
    ("sorted", 1.0): "sorted by\nclass, noisy",
    ("mixed", 0.0): "each image\nits own fault",
    ("changing", 1.0): "first third,\nclean",
    ("changing", 2.0): "second third,\nnoisy",
    ("changing", 3.0): "last third,\nclean",
}
_PROTOCOLS = {
    "frozen": "as it is",
    "batch": "batch",
    "stream": "stream",
    "currents-batch": "homeostatic, batch",
    "currents-stream": "homeostatic",
    "thresholds": "thresholds",
}
_CROP = 8.0  # half-width of a blanked square that is hard, and not yet hopeless


def draw_controls(records: Records[Any, Any], label: str) -> Figure:
    """Draw what corrections and controls do, for settings that are tested with corrections."""
    own = select(records.frame, label=label)
    arrived = own["condition"].str.startswith("arrival").any()
    rows = ["ab", "ab", "cd", "cd", *(("ee", "ff") if arrived else ())]
    figure, panels = canvas(rows, height=32 * len(rows))
    _ways(panels["a"], own, "gaussian")
    _ways(panels["b"], own, "crop")
    _faults(panels["c"], own)
    _variants(panels["d"], own)
    if arrived:
        _arrivals(panels["e"], own, "GP", "frozen")
        _arrivals(panels["f"], own, "HP", "batch", "stream")
    return figure


def accuracies(own: Any, way: str, condition: str) -> np.ndarray:
    """Return accuracies [seeds, levels] of a way to test, or an empty array."""
    method, _, protocol = way.partition(" + ")
    how: dict[str, Any] = {"protocol": protocol} if protocol else {"usual": True}
    try:
        return samples(own, method=method, condition=condition, **how)
    except KeyError:
        return np.empty((0, 0))


def _hard(own: Any, fault: str) -> tuple[float, int]:
    """Return the level of a fault that is drawn, and its place among the levels."""
    every = levels(own, condition=fault, usual=True).tolist()
    column = every.index(_CROP) if fault == "crop" and _CROP in every else len(every) - 1
    return every[column], column


def _gain(own: Any, way: str, fault: str) -> np.ndarray:
    """Return what a way to test gains over GP as it is [seeds], or an empty array."""
    try:
        return gap(own, way, "GP", condition=fault)[:, _hard(own, fault)[1]]
    except KeyError:
        return np.empty(0)


def _ways(axes: Axes, own: Any, fault: str) -> None:
    """Draw what each way to test gains over GP as it is, under one fault."""
    found = {name: (_gain(own, way, fault), colour) for way, (name, colour) in SHOWN.items()}
    found = {name: row for name, row in found.items() if name != "GP" and len(row[0])}
    best = max(found, key=lambda name: found[name][0].mean())
    words = _FAULTS[fault].format(_hard(own, fault)[0])
    n = " to ".join(map(str, sorted({len(gains) for gains, _ in found.values()})))
    forest(
        axes,
        {name: [Dot.of(0.0, *row)] for name, row in found.items()},
        zero=True,
        xlabel=f"gain over GP as it is (points, n = {n})",
        title=f"{words.capitalize()}: most gained by {best}",
    )


def _faults(axes: Axes, own: Any) -> None:
    """Draw differences from GP at one level of each fault, with 95 % intervals."""
    rows: dict[str, list[Dot]] = {}
    for fault in (fault for fault in _FAULTS if not select(own, condition=fault).empty):
        name = _FAULTS[fault].format(_hard(own, fault)[0])
        rows[name] = [
            Dot.of(0.2 * (number - 1.5), gains, colour, "_" if len(rows) else way_name)
            for number, (way, (way_name, colour)) in enumerate(_AGAINST.items())
            if len(gains := _gain(own, way, fault))
        ]
    title = "Gain over GP as it is, by fault"
    ends = [(marks[0].low, marks[0].high) for marks in rows.values() if marks]
    if ends and None not in ends[0]:
        gained = sum(low is not None and low > 0.0 for low, _ in ends)
        lost = sum(high is not None and high < 0.0 for _, high in ends)
        title = f"HP gains under {gained} of {len(rows)} faults, loses under {lost}"
    forest(
        axes,
        rows,
        zero=True,
        xlabel="gain over GP as it is (points)",
        title=title,
    )
    axes.set_ylim(len(rows) + 0.8, -0.7)  # the legend lies below the last row
    axes.legend(loc="lower center", ncols=2, **ON_WHITE)


def _variants(axes: Axes, own: Any) -> None:
    """Draw what HP's variants and GP's trainings gain over GP under the strongest noise."""
    present = set(own["method"])
    names = [m.name for m in METHODS if m.name in present and m.name not in ("GP", "LP")]
    if names == ["HP"]:
        absent(axes, "no records of controls that are trained")
        return
    gains = {name: _gain(own, name, "gaussian") for name in names}
    best = max(gains, key=lambda name: gains[name].mean())
    forest(
        axes,
        {f"{name} (n = {len(g)})": [Dot.of(0.0, g, COLOURS[name])] for name, g in gains.items()},
        zero=True,
        xlabel="gain over GP (points)",
        title=f"Trained otherwise, noise {_hard(own, 'gaussian')[0]:g}: most gained by {best}",
    )


def _arrivals(axes: Axes, own: Any, method: str, *protocols: str) -> None:
    """Draw accuracies for images that arrive in other ways."""
    ways = (*protocols, "currents-batch", "currents-stream", "thresholds")
    marks: list[Dot] = []
    means: dict[tuple[str, str, float], float] = {}
    for number, protocol in enumerate(ways):
        for place, (arrival, level) in enumerate(_ARRIVALS):
            wanted = {"method": method, "protocol": protocol, "level": level}
            found = select(own, condition=f"arrival {arrival}", **wanted)["accuracy"].to_numpy()
            if len(found):
                name = f"{method}, {_PROTOCOLS[protocol]}"
                shown = "_" if any(mark.name == name for mark in marks) else name
                offset = place + 0.12 * (number - (len(ways) - 1) / 2)
                marks.append(Dot.of(offset, found, COLOURS[protocol], shown))
                means[protocol, arrival, level] = float(found.mean())
    if not marks:
        absent(axes, f"no records of {method}")
        return
    first = "stream" if "stream" in protocols else "currents-stream"
    title = f"{method}: images arrive in other ways"
    if {(first, "sorted", 1.0), (first, "batch of", 100.0)} <= set(means):
        mixed, by_class = means[first, "batch of", 100.0], means[first, "sorted", 1.0]
        title = (
            f"{method}, {_PROTOCOLS[first]}: {mixed:.0f} % under noise if classes are mixed, "
            f"{by_class:.0f} % if sorted"
        )
    dots(axes, marks, title=title, ylabel="accuracy (%)", ylim=(0, 100))
    axes.set_xticks(range(len(_ARRIVALS)), list(_ARRIVALS.values()))
    axes.set_xlim(-0.5, len(_ARRIVALS) + 1.2)  # the legend lies beside the last column
    axes.legend(loc="center right", **ON_WHITE)
