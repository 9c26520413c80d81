"""Fig. 6 assembled from a deployment result: which arrays go into which panel."""

from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybrid.data.faults import FAULTS
from hybrid.experiments.base import GP, HP, HP_SAMPLE, LP
from hybrid.experiments.deployment_results import MOST_CHIPS, Result
from hybrid.experiments.records import Floats
from hybrid.report import chip_panels as panels
from hybrid.report.figures import absent, canvas
from hybrid.tianjic.cost import Energy, cost, write_back
from hybrid.tianjic.mapping import Mapping, map_network
from hybrid.tianjic.shapes import DenseShape, Shape

_COLOUR = {method.name: method.colour for method in (LP, GP, HP, HP_SAMPLE)}


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
    for place, part in zip("bc", result.parts(label, shown[0]), strict=False):
        panels.beside(
            axes[place],
            result.levels(label, part),
            _curves(result, label, part),
            what=FAULTS[part].axis.replace(" (", "\n("),
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
    counted = {}
    for name in methods if measured else ():
        for form in result.forms(label, name):
            if form.startswith("chip"):
                joules = result.cpu(label, name, form)[1]
                if joules is not None:
                    counted[f"{name}, {form.partition(', ')[2]}"] = float(joules.mean())
    panels.energies(axes["e"], networks, counted)
    panels.density(axes["f"], *_by_density(result, label, *shown))
    panels.work(axes["g"], _work(result, label, *shown))
    if result.histories(label, shown[0]):
        count = result.compared(label, shown[0])
        panels.forms(axes["h"], _forms(result, label, *shown), title=f"{shown[0]}, {count} images")
    else:
        absent(axes["h"], "no network with traces in this profile")
    return figure


def _forms(result: Result, label: str, method: str, form: str) -> dict[str, Floats]:
    """Return accuracies of forms of the local module; names say how many cores they take."""
    whole = result.mapping(label, method, form)
    frozen = len(result.mapping(label, method, "chip, frozen").cores)
    found = {}
    for name, samples in result.histories(label, method).items():
        words = name.split()
        cores = len(whole.cores)
        if name in ("float", "rewritten", "no local current"):
            cores = frozen + whole.count(role="carried") * (name == "no local current")
        elif words[-1].isdigit():
            cores = _with_local(whole, delay=int(words[-1]))
        elif words[0].isdigit():
            cores = _with_local(whole, lags=int(words[0]))
        found[name if name == "float" else f"{name} ({cores} cores)"] = samples
    return found


def _with_local(mapping: Mapping, *, lags: int | None = None, delay: int = 0) -> int:
    """Return the cores of a network whose local modules have fewer lags."""
    shapes: list[Shape] = []
    for shape in mapping.shapes:
        local = shape.local if isinstance(shape, DenseShape) else None
        if isinstance(shape, DenseShape) and local is not None:
            count = min(lags or local.lags, local.lags - delay)
            kept = replace(local, lags=count, delay=delay) if count > 0 else None
            shapes.append(replace(shape, local=kept))
        else:
            shapes.append(shape)
    return len(map_network(shapes, mapping.chip, most_chips=MOST_CHIPS).cores)


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
    size = mapping.chip.mesh_width, mapping.chip.mesh_height
    title = f"{method}, {form.partition(', ')[2]}: {len(mapping.cores)} cores"
    panels.chip(axes, size, used, f"{title}, first chip" if mapping.chips > 1 else title)


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
        model: (table[:, i], panels.MODEL_COLOURS[model]) for i, model in enumerate(Energy._fields)
    }


def _work(result: Result, label: str, method: str, form: str) -> dict[str, tuple[float, float]]:
    """Return operations and packets of an inference: without a local module, and with two forms.

    All from a trace that starts at zero, at the same activity.
    """
    steps = result.of(label, method)[0]["result"]["steps"]
    mapping, rates = result.mapping(label, method, form), result.rates(label, method, form)
    dense = [shape for shape in mapping.shapes if isinstance(shape, DenseShape)]

    def spent(shapes: list[DenseShape]) -> tuple[float, float]:
        mapped = map_network(shapes, mapping.chip, most_chips=MOST_CHIPS)
        found = cost(mapped, rates, steps)
        return found.operations.macs + found.operations.acs, steps * found.traffic.packets

    plain = spent([replace(shape, carried=False, local=None) for shape in dense])
    added = [
        write_back(shape, float(rates[shape.name].mean()), mapping.chip, steps) for shape in dense
    ]
    return {
        "none": plain,
        "history": spent([replace(shape, carried=False) for shape in dense]),
        "rewritten by a host": (
            plain[0] + sum(row["operations"] for row in added),
            plain[1] + sum(row["packets"] for row in added),
        ),
    }
