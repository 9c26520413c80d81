"""Fig. 3 assembled from a fault-tolerance result: which arrays go into which panel."""

from matplotlib.figure import Figure

from hybrid.data.faults import FAULTS
from hybrid.data.images import CLASSES
from hybrid.experiments.fault_results import Result, usual_protocol
from hybrid.experiments.fault_tolerance import METHODS
from hybrid.report import fault_panels
from hybrid.report.figures import Series, canvas
from hybrid.report.learning_panel import learning
from hybrid.report.scoreboard import reported_gaps

_COLOUR = {method.name: method.colour for method in METHODS}
_MAIN = ("LP", "GP", "HP")
_NOISE, _CROP = FAULTS["gaussian"].axis, FAULTS["crop"].axis


def draw(result: Result, gallery: list[fault_panels.PictureRow]) -> Figure:
    """Draw Fig. 3 for one data set.

    Args:
        result: finished trials of at least LP, GP and HP; seeds that all methods share are drawn.
        gallery: example pictures for panel a, see `fault_panels.pictures`.
    """
    result = result.paired(result.methods)
    n = len(result.seeds("HP"))
    figure, panels = canvas(["aabbcc", "ddeeff", "gghhii"], height=165)
    noise, crop = result.levels("gaussian"), result.levels("crop")
    fault_panels.pictures(panels["a"], gallery)
    for letter, fault, levels, axis, title in (
        ("b", "gaussian", noise, _NOISE, f"Gaussian noise (n = {n})"),
        ("d", "crop", crop, _CROP, f"Blanked centre (n = {n})"),
    ):
        curves = _curves(result, fault, result.methods)
        fault_panels.accuracy(panels[letter], levels, curves, xlabel=axis, title=title)
    fault_panels.gap(
        panels["c"],
        noise,
        result.gap("gaussian"),
        colour=_COLOUR["HP"],
        xlabel=_NOISE,
        reported=reported_gaps(result.dataset),
    )
    for letter, fault, levels, axis, title in (
        ("e", "gaussian", noise, _NOISE, "HP by test protocol, noise"),
        ("f", "crop", crop, _CROP, "HP by test protocol, crop"),
    ):
        fault_panels.protocols(
            panels[letter],
            levels,
            {name: result.accuracy("HP", name, fault) for name in result.protocols("HP")},
            result.accuracy("GP", "frozen", fault),
            baseline_colour=_COLOUR["GP"],
            xlabel=axis,
            title=title,
        )
    bars = _highest_levels(result)
    if bars:
        fault_panels.other_noises(panels["g"], bars, _COLOUR)
    else:
        curves = {name: (result.learning(name), _COLOUR[name]) for name in _MAIN}
        learning(panels["g"], curves, title="Learning, clean images")
    rates = {
        name: (result.rates(name, usual_protocol(result, name), "gaussian")[..., 0], _COLOUR[name])
        for name in _MAIN
    }
    fault_panels.rates(panels["h"], noise, rates, xlabel=_NOISE)
    fault_panels.confusion(
        panels["i"],
        result.confusion("HP", "batch", "gaussian")[:, -1].sum(0),
        CLASSES[result.dataset],
        title=f"HP at variance {noise[-1]:g}",
        figure=figure,
    )
    return figure


def _curves(result: Result, fault: str, names: tuple[str, ...]) -> dict[str, tuple[Series, str]]:
    """Return accuracy and colour of methods, each under its usual protocol."""
    return {
        name: (result.accuracy(name, usual_protocol(result, name), fault), _COLOUR[name])
        for name in names
    }


def _highest_levels(result: Result) -> dict[str, dict[str, Series]]:
    """Return noise -> method -> accuracies [seeds] at the highest level of the other noises."""
    others = [name for name, _ in result.config["faults"] if name not in ("gaussian", "crop")]
    return {
        name.replace("_", " &\n"): {
            method: samples[:, -1] for method, (samples, _) in _curves(result, name, _MAIN).items()
        }
        for name in others
    }
