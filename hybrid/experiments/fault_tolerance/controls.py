"""Fig. 3, supplement: HP beside what a plain network can do about a shifted input."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybrid.data.faults import FAULTS
from hybrid.experiments.core.records import Records, gap, levels, samples, select
from hybrid.experiments.fault_tolerance.methods import METHODS
from hybrid.report.figures import COLOURS, GREY, ON_WHITE, canvas
from hybrid.report.panels import Dot, Line, absent, dots, lines

# Ways to test a network, as `gap` calls them, with their names in figures and their colours.
SHOWN = {
    "GP": ("GP", COLOURS["GP"]),
    "HP": ("HP, batch", COLOURS["HP"]),
    "HP + stream": ("HP, stream", COLOURS["stream"]),
    "GP + offset": ("GP, offset", COLOURS["offset"]),
    "GP + pixels": ("GP, running mean image", COLOURS["pixels"]),
    "GP + currents-batch": ("GP, currents, batch", COLOURS["currents-batch"]),
    "GP + currents-stream": ("GP, currents, stream", COLOURS["currents-stream"]),
    "GP + thresholds": ("GP, thresholds", COLOURS["thresholds"]),
}
# What is set against GP as it is, fault by fault.
_AGAINST = {
    "HP": ("HP, batch", COLOURS["HP"]),
    "HP + stream": ("HP, stream", COLOURS["stream"]),
    "GP + currents-stream": ("GP, currents, stream", COLOURS["currents-stream"]),
    "HP + currents-stream": ("HP, currents, stream", COLOURS["currents-batch"]),
}
_FAULTS = {
    "gaussian": "noise {:g}",
    "gaussian_unclipped": "noise {:g}, not clipped",
    "gaussian_centred": "noise {:g}, mean 0",
    "crop": "crop {:g}",
    "salt": "salt {:g}",
    "pepper": "pepper {:g}",
    "salt_pepper": "salt & pepper {:g}",
    "speckle": "speckle {:g}",
}
_ARRIVALS = {
    ("batch of", 1.0): "batches of 1",
    ("batch of", 10.0): "of 10",
    ("batch of", 100.0): "of 100",
    ("batch of", 1000.0): "of 1,000",
    ("sorted", 0.0): "by class, clean",
    ("sorted", 1.0): "by class, noisy",
    ("mixed", 0.0): "a fault each",
    ("changing", 1.0): "clean third",
    ("changing", 2.0): "then noise",
    ("changing", 3.0): "then clean",
}


def draw_controls(records: Records[Any, Any], label: str) -> Figure:
    """Draw what corrections and controls do, for settings that are tested with corrections."""
    own = select(records.frame, label=label)
    arrived = own["condition"].str.startswith("arrival").any()
    rows = ["ab", "ab", "cd", "cd", *(("ee", "ff") if arrived else ())]
    figure, panels = canvas(rows, height=35 * len(rows))
    for letter, fault, title in (
        ("a", "gaussian", "Gaussian noise"),
        ("b", "crop", "Blanked centre"),
    ):
        curves = [
            Line(name, levels(own, condition=fault, usual=True), found, colour)
            for way, (name, colour) in SHOWN.items()
            if len(found := accuracies(own, way, fault))
        ]
        n = select(own, method="GP")["seed"].nunique()
        words: dict[str, Any] = {"xlabel": FAULTS[fault].axis, "title": f"{title} (n = {n})"}
        lines(panels[letter], curves, ylabel="accuracy (%)", **words)
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


def _faults(axes: Axes, own: Any) -> None:
    """Draw differences from GP at one level of each fault, with 95 % intervals."""
    marks, names = [], []
    known = [fault for fault in _FAULTS if not select(own, condition=fault).empty]
    for row, fault in enumerate(known):
        every = levels(own, condition=fault, usual=True).tolist()
        column = every.index(8.0) if fault == "crop" and 8.0 in every else -1
        names.append(_FAULTS[fault].format(every[column]))
        for number, (way, (name, colour)) in enumerate(_AGAINST.items()):
            try:
                found = gap(own, way, "GP", condition=fault)[:, column]
            except KeyError:
                continue
            place = row + 0.2 * (number - 1.5)
            marks.append(Dot.of(place, found, colour, "_" if row else name))
    axes.axvline(0, color=GREY, linewidth=0.7)
    dots(axes, marks, horizontal=True, title="Gain over GP as it is", xlabel="points")
    axes.set_yticks(range(len(known)), names)
    axes.set_ylim(len(known) + 0.8, -0.7)  # the legend lies below the last row
    axes.legend(loc="lower center", ncols=2, **ON_WHITE)


def _variants(axes: Axes, own: Any) -> None:
    """Draw what HP's variants and GP's trainings gain over GP under the strongest noise."""
    present = set(own["method"])
    names = [m.name for m in METHODS if m.name in present and m.name not in ("GP", "LP")]
    gains = [gap(own, name, "GP", condition="gaussian")[:, -1] for name in names]
    marks = [
        Dot.of(row, gain, COLOURS[name])
        for row, (name, gain) in enumerate(zip(names, gains, strict=True))
    ]
    if names == ["HP"]:
        absent(axes, "no records of controls that are trained")
        return
    axes.axvline(0, color=GREY, linewidth=0.7)
    title = "Gain over GP, noise 0.06: trained otherwise"
    dots(axes, marks, horizontal=True, title=title, xlabel="points")
    axes.set_yticks(
        range(len(names)), [f"{m} (n = {len(g)})" for m, g in zip(names, gains, strict=True)]
    )
    axes.invert_yaxis()


def _arrivals(axes: Axes, own: Any, method: str, *protocols: str) -> None:
    """Draw accuracies for images that arrive in other ways."""
    ways = (*protocols, "currents-batch", "currents-stream", "thresholds")
    marks: list[Dot] = []
    for number, protocol in enumerate(ways):
        for place, (arrival, level) in enumerate(_ARRIVALS):
            wanted = {"method": method, "protocol": protocol, "level": level}
            found = select(own, condition=f"arrival {arrival}", **wanted)["accuracy"].to_numpy()
            if len(found):
                offset = place + 0.12 * (number - len(ways) / 2)
                name = "_" if any(mark.name == protocol for mark in marks) else protocol
                marks.append(Dot.of(offset, found, COLOURS[protocol], name))
    if not marks:
        absent(axes, f"no records of {method}")
        return
    title = f"{method}: how images arrive"
    dots(axes, marks, title=title, ylabel="accuracy (%)")
    axes.set_xticks(range(len(_ARRIVALS)), list(_ARRIVALS.values()))
    axes.legend(loc="best", ncols=2)
