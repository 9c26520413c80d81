"""Many designs of a chip for one network: accuracy, energy and time of each, and a picture."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from hybrid.experiments.deployment.chip import spent
from hybrid.experiments.deployment.inspect import inspect
from hybrid.report.figures import GREY, canvas
from hybrid.runs.store import Json
from hybrid.tianjic.chip import Chip, in_use, tianjic
from hybrid.tianjic.rules import Memory, RuleError

BITS = (8, 6, 4, 3, 2)
MESHES = ((12, 13), (8, 8), (5, 5))  # cores across and down
_MARKS = {"wide": "o", "narrow": "s"}


def explored(
    network: Path, tested: int, *, chip: Chip | None = None, steps: int | None = None
) -> list[Json]:
    """Return what each design comes to: bits of weights, memory, cores, form of the network.

    Accuracy is of test images or episodes where a run's data are known, else how often answers are
    those of floating point. It does not depend on cores and memory; energy is the fitted one.

    Args:
        network, tested, steps: see `inspect`.
        chip: whose constants all designs share but for these.

    Raises:
        ValueError: if no design holds the network; and see `inspect`.
    """
    base, points, refused = chip or tianjic(), [], ""
    for bits in BITS:
        try:
            found = inspect(network, tested, chip=base.changed(weight_bits=bits), steps=steps)
        except (RuleError, ValueError) as error:
            refused = str(error)
            continue
        for (width, height), memory, form in product(MESHES, get_args(Memory), found["shapes"]):
            design = base.changed(
                weight_bits=bits, cores=width * height, mesh_width=width, mesh_height=height
            )
            try:
                with in_use(design):
                    cost = spent(found, form, memory)
            except RuleError as error:
                refused = str(error)
                continue
            points.append(
                {"bits": bits, "memory": memory, "cores of a chip": width * height, "form": form}
                | {"accuracy": _accuracy(found, form), "cores": cost.cores}
                | {"chips": cost.mapping.chips, "latency": cost.timing.latency}
                | {"energy": cost.energy.gated}
            )
    if not points:
        raise ValueError(f"no design holds {network}: {refused}")
    return points


def _accuracy(found: Json, form: str) -> float:
    """Return the share of right answers of a form, folded or not, on what is sound."""
    if form in found.get("agreement", {}):
        return float(found["agreement"][form])
    parts = found["accuracy"].get(form) or found["accuracy"][form.split(",")[0]]
    first = next(iter(parts.values()))
    return float(first[0] if isinstance(first, list) else first)


def front(points: Sequence[Json]) -> list[Json]:
    """Return the designs than which none is as accurate for less energy, the least first."""
    best: list[Json] = []
    for point in sorted(points, key=lambda p: (p["energy"], -p["accuracy"])):
        if not best or point["accuracy"] > best[-1]["accuracy"]:
            best.append(point)
    return best


def as_table(points: Sequence[Json]) -> str:
    """Return designs as lines of text, those that none betters marked."""
    table = pd.DataFrame(points)
    best = front(points)
    table["energy"] = [f"{1e6 * value:.1f} µJ" for value in table["energy"]]
    table["latency"] = [f"{1e6 * value:.0f} µs" for value in table["latency"]]
    table["accuracy"] = [f"{100 * value:.1f} %" for value in table["accuracy"]]
    table[""] = ["best" if point in best else "" for point in points]
    return table.to_string(index=False)


def draw_space(points: Sequence[Json], path: Path) -> None:
    """Draw accuracy over energy of all designs, their time as colour, and the best as a line.

    Raises:
        OSError: if the picture cannot be written.
    """
    figure, axes = canvas(["a"], height=80)
    own, best = axes["a"], front(points)
    times = 1e6 * np.array([point["latency"] for point in points])
    for memory, mark in _MARKS.items():
        chosen = [i for i, point in enumerate(points) if point["memory"] == memory]
        shown = own.scatter(
            [1e6 * points[i]["energy"] for i in chosen],
            [100 * points[i]["accuracy"] for i in chosen],
            c=times[chosen],
            s=[4 + 3 * points[i]["bits"] for i in chosen],
            marker=mark,
            vmin=times.min(),
            vmax=times.max(),
            cmap="viridis",
            label=f"{memory} memory",
        )
    own.plot(
        [1e6 * point["energy"] for point in best],
        [100 * point["accuracy"] for point in best],
        color=GREY,
        label="none is better",
        zorder=0,
    )
    own.set(
        xscale="log",
        xlabel="µJ per inference, fitted model",
        ylabel="answers (% right, or as in floating point)",
        title="Designs of the chip: size of a mark is bits of a weight",
    )
    own.legend(loc="lower right")
    figure.colorbar(shown, ax=own, label="latency (µs)")
    figure.savefig(path)
