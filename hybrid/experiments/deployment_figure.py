"""Fig. 6 assembled from a deployment result: which arrays go into which panel."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybrid.experiments.base import GP, HP, HP_SAMPLE, LP
from hybrid.experiments.deployment_results import Result
from hybrid.experiments.records import Floats
from hybrid.report import chip_panels as panels
from hybrid.report.figures import absent, canvas
from hybrid.tianjic.cost import Cost, Energy, cost, write_back
from hybrid.tianjic.shapes import DenseShape

_COLOUR = {method.name: method.colour for method in (LP, GP, HP, HP_SAMPLE)}
_MODEL_COLOUR = {"busy": "#0072B2", "activity": "#D55E00", "naive": "#999999"}


def draw(result: Result, label: str, *, measured: bool = True) -> Figure:
    """Draw Fig. 6 for the fault-tolerance networks of one config.

    Args:
        result: finished trials.
        label: of the config.
        measured: whether the energy that a processor has counted is drawn: it is another one
            whenever it is measured anew.
    """
    figure, axes = canvas(["aabbcc", "ddeeff", "ggghhh"], height=165)
    shown = _richest(result, label)
    _map(axes["a"], result, label, *shown)
    first, second = result.parts(label, shown[0])[:2]
    for place, part, what in (("b", first, "noise variance"), ("c", second, "half-width (pixels)")):
        panels.beside(
            axes[place],
            result.levels(label, part),
            _curves(result, label, part),
            what=what,
            title=f"{part}: float (lines), chip (dots)",
        )
    methods = result.methods(label)
    widths = result.bits(label, methods[0])[0]
    table = {name: (result.bits(label, name)[1], _COLOUR[name]) for name in methods}
    panels.bits(axes["d"], widths, table)
    networks = {
        f"{name}, {form.partition(', ')[2]}": result.energies(label, name, form)
        for name in methods
        for form in result.forms(label, name)
        if form.startswith("chip")
    }
    joules = result.cpu(label, methods[0])[1] if measured else None
    panels.energies(axes["e"], networks, None if joules is None else float(joules.mean()))
    panels.density(axes["f"], *_by_density(result, label, *shown))
    panels.work(axes["g"], _work(result, label, *shown))
    histories = result.histories(label, shown[0])
    if histories:
        panels.forms(axes["h"], histories)
    else:
        absent(axes["h"], "no network with traces in this profile")
    return figure


def draw_others(result: Result, labels: tuple[str, ...]) -> Figure:
    """Draw accuracy beside floating point of networks that are asked in episodes or tasks."""
    figure, axes = canvas(["abcdefgh"[: len(labels)]], height=62)
    for letter, label in zip("abcdefgh", labels, strict=False):
        groups = {}
        for name in result.methods(label):
            for form in result.forms(label, name):
                where, _, protocol = form.partition(", ")
                if where == "float":
                    on_chip = f"chip, {protocol}" if protocol else "chip"
                    for part in result.parts(label, name):
                        key = " ".join([name, protocol, "" if part == "tasks" else part]).strip()
                        groups[key] = (
                            result.accuracy(label, name, form, part).mean(1),
                            result.accuracy(label, name, on_chip, part).mean(1),
                            _COLOUR[name],
                        )
        panels.pairs(axes[letter], groups, title=f"{label}: float (open), chip (full)")
    return figure


def _richest(result: Result, label: str) -> tuple[str, str]:
    """Return the method and form with most cores, HP's if others have as many."""
    found = [
        (len(result.mapping(label, name, form).cores), name == HP.name, name, form)
        for name in result.methods(label)
        for form in result.forms(label, name)
        if form.startswith("chip")
    ]
    *_, name, form = max(found)
    return name, form


def _map(axes: Axes, result: Result, label: str, method: str, form: str) -> None:
    mapping = result.mapping(label, method, form)
    used = [
        (place.x, place.y, core.role)
        for core, place in zip(mapping.cores, mapping.places, strict=True)
        if place.chip == 0
    ]
    panels.chip(axes, (mapping.chip.mesh_width, mapping.chip.mesh_height), used)


def _curves(result: Result, label: str, part: str) -> dict[str, tuple[Floats, Floats, str]]:
    """Return accuracies in floating point and on the chip, each method's traces as trained."""
    curves = {}
    for name in result.methods(label):
        protocol = "own trace" if name == HP_SAMPLE.name else "frozen"
        curves[f"{name}, {protocol}"] = (
            result.accuracy(label, name, f"float, {protocol}", part),
            result.accuracy(label, name, f"chip, {protocol}", part),
            _COLOUR[name],
        )
    return curves


def _by_density(
    result: Result, label: str, method: str, form: str
) -> tuple[Floats, dict[str, tuple[Floats, str]]]:
    """Return energies if every input were active in a given share of steps."""
    mapping = result.mapping(label, method, form)
    steps = result.of(label, method)[0]["result"]["steps"]
    names = result.rates(label, method, form)
    shares = np.linspace(0.02, 1.0, 25)
    rows = [
        cost(mapping, {n: np.full(len(r), share) for n, r in names.items()}, steps).energy
        for share in shares
    ]
    table = np.array(rows)
    return shares, {
        model: (table[:, i], _MODEL_COLOUR[model]) for i, model in enumerate(Energy._fields)
    }


def _work(result: Result, label: str, method: str, form: str) -> dict[str, tuple[float, float]]:
    """Return operations and packets of an inference: without a local module, and with each form."""
    steps = result.of(label, method)[0]["result"]["steps"]
    frozen = result.cost(label, method, "chip, frozen")
    own = result.cost(label, method, form)
    mapping = result.mapping(label, method, form)
    written = [
        write_back(shape, mapping.chip, steps)
        for shape in mapping.shapes
        if isinstance(shape, DenseShape)
    ]

    def on_chip(found: Cost) -> tuple[float, float]:
        return found.operations.macs + found.operations.acs, steps * found.traffic.packets

    operations, packets = on_chip(frozen)
    return {
        "none": (operations, packets),
        "history": on_chip(own),
        "rewritten by a host": (
            operations + sum(row["operations"] for row in written),
            packets + sum(row["packets"] for row in written),
        ),
    }
