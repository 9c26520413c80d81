"""What a recorded network takes on the chip: its cores, time and energy, without running it."""

import numpy as np

from hybrid.experiments.deployment.record import rates_in, shapes_in
from hybrid.report.estimate import Floats
from hybrid.runs.store import Json
from hybrid.tianjic.chip import Chip, tianjic
from hybrid.tianjic.cost import Cost, as_text, cost, energy_range
from hybrid.tianjic.mapping import Mapping, map_network

MOST_CHIPS = 8
_DRAWS = 200


def mapping(result: Json, form: str, chip: Chip | None = None) -> Mapping:
    """Return the network of a result on cores, in one form: "chip, frozen" for example."""
    shapes = shapes_in(result["shapes"][form])
    return map_network(shapes, chip or tianjic(), most_chips=MOST_CHIPS)


def rates(result: Json, form: str) -> dict[str, Floats]:
    """Return how often each layer's inputs were active."""
    known = result["rates"]
    return rates_in(known.get(form) or known[form.split(",")[0]])


def spent(result: Json, form: str) -> Cost:
    """Return what an inference takes."""
    return cost(mapping(result, form), rates(result, form), result["steps"])


def energies(result: Json, form: str) -> dict[str, tuple[float, float, float]]:
    """Return (5 %, median, 95 %) of each energy in J, over what is uncertain."""
    source = np.random.default_rng(0)
    return energy_range(spent(result, form), tianjic(), draws=_DRAWS, source=source)


def report(result: Json, form: str) -> str:
    """Return in words what a network takes."""
    return as_text(spent(result, form), rates(result, form), energies(result, form))
