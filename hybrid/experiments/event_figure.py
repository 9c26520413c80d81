"""The event half of Fig. 3 assembled: which arrays go into which panel."""

import numpy as np
from matplotlib.figure import Figure

from hybrid.data.event_statistics import Statistics, statistics
from hybrid.data.recordings import Recordings
from hybrid.data.sensor_faults import SENSOR_FAULTS, corrupt_events
from hybrid.experiments import camera_check
from hybrid.experiments.base import GP, HP, LP
from hybrid.experiments.event_results import Result
from hybrid.report import event_panels as panels
from hybrid.report.figures import Series, canvas
from hybrid.runs.store import Json

_COLOUR = {method.name: method.colour for method in (LP, GP, HP)}
_ROW = 5  # faults beside each other


def draw(result: Result, label: str, sound: Recordings, camera: Json) -> Figure:
    """Draw the event half of Fig. 3 for one config.

    Args:
        result: finished trials.
        label: of the config.
        sound: a recording of a sound camera, to show faults on.
        camera: the record of `camera_check`.
    """
    faults = result.faults(label)
    letters = iter("efghijklmnop")
    panel_of, names = {name: next(letters) for name in faults}, list(faults)
    last = [next(letters) for _ in range(2)]
    rows = ["aaaabbbccc", 10 * "d"]
    for first in range(0, len(names), _ROW):
        row = [panel_of[name] for name in names[first : first + _ROW]]
        rows.append("".join(2 * letter for letter in row).ljust(10, "."))
    rows.append(5 * last[0] + 5 * last[1])
    figure, axes = canvas(rows, height=38.0 * len(rows))
    _camera(axes, camera)
    panels.sheet(axes["d"], [("one digit", _gallery(sound, faults))], ["sound", *names])
    for name, letter in panel_of.items():
        first_of_row = names.index(name) % _ROW == 0
        axis, curves = SENSOR_FAULTS[name].axis, _curves(result, label, name)
        panels.fault(axes[letter], faults[name], curves, axis=axis, legend=first_of_row)
    worst = "noise" if "noise" in faults else names[-1]
    for letter, name, place, title in (
        (last[0], names[0], 0, "Evidence, sound camera"),
        (last[1], worst, -1, f"Evidence, {worst} at {faults[worst][-1]:g}"),
    ):
        gathered = {
            method: (result.evidence(label, method, name)[:, place], _COLOUR[method])
            for method in result.methods(label)
        }
        panels.evidence(axes[letter], gathered, title=title)
    return figure


def _curves(result: Result, label: str, fault: str) -> dict[str, tuple[Series, str, str]]:
    """Return accuracy, colour and line style of each method under its usual protocol.

    HP also with its trace at rest, as GP has none that could adapt to what is tested.
    """
    curves = {}
    for method in result.methods(label):
        usual = result.protocols(label, method)[0]
        for protocol in dict.fromkeys((usual, "frozen") if method == HP.name else (usual,)):
            samples = result.accuracy(label, method, fault, protocol)
            style = "-" if protocol == usual else "--"
            curves[f"{method}, {protocol}"] = (samples, _COLOUR[method], style)
    return curves


def _camera(axes: dict, camera: Json) -> None:  # type: ignore[type-arg]
    real, model = (camera_check.statistics_in(camera, which) for which in ("real", "model"))
    shown = [np.array(images, dtype=float) for images in camera["shown"]]
    panels.sheet(
        axes["a"],
        [("N-MNIST", shown[0]), ("simulated", shown[1])],
        [f"saccade {i + 1}" for i in range(3)],
    )
    panels.rates(axes["b"], real.times, real.rates, model.rates)
    panels.counts(axes["c"], real.counts.mean(0), model.counts.mean(0))


def _gallery(sound: Recordings, faults: dict[str, Series]) -> Series:
    """Return a recording as images, sound and at the highest level of each fault [K, H, W]."""
    made = [sound] + [
        corrupt_events(sound, n, float(levels[-1]), 0) for n, levels in faults.items()
    ]
    return np.stack([_image(statistics(one)) for one in made])


def _image(found: Statistics) -> Series:
    """Return brighter minus darker events of the first saccade [H, W]."""
    return np.asarray(found.images[0, 1] - found.images[0, 0])
