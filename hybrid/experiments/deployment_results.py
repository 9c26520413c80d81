"""Reading deployment records: accuracy beside floating point, and what the chip would take."""

import numpy as np

from hybrid.experiments.deployment_record import rates_in, shapes_in
from hybrid.experiments.records import Floats, Records
from hybrid.tianjic.chip import Chip, tianjic
from hybrid.tianjic.cost import Cost, cost, energy_range
from hybrid.tianjic.mapping import Mapping, map_network
from hybrid.tianjic.report import as_text

MOST_CHIPS = 8
_DRAWS = 200
_COUNTS = ("images", "synapses that did not fit")  # beside accuracies of histories


class Result(Records):
    """All finished trials of a profile."""

    def forms(self, label: str, method: str) -> tuple[str, ...]:
        """Return what was tested: in floating point and on the chip."""
        return tuple(self.of(label, method)[0]["result"]["accuracy"])

    def parts(self, label: str, method: str) -> tuple[str, ...]:
        """Return what accuracies are of: faults, sizes of episodes, tasks."""
        first = next(iter(self.of(label, method)[0]["result"]["accuracy"].values()))
        return tuple(first)

    def accuracy(self, label: str, method: str, form: str, part: str) -> Floats:
        """Return accuracies in per cent [seeds, levels], of episodes or tasks [seeds, n]."""
        found = [r["result"]["accuracy"][form][part] for r in self.of(label, method)]
        return 100.0 * np.atleast_2d(np.array(found, dtype=float).reshape(len(found), -1))

    def levels(self, label: str, part: str) -> Floats:
        """Return the levels of a fault."""
        table = dict(self.records_of(label)[0]["result"]["levels"])
        return np.array(table[part])

    def loss(self, label: str, method: str, name: str) -> Floats:
        """Return accuracy on the chip minus that in floating point, in points [seeds].

        Averaged over the levels of each fault and then over faults, or over episodes or tasks.

        Args:
            name: what chip and floating point have in common: "frozen", "own trace", or "".
        """
        where = ("float", "chip") if not name else (f"float, {name}", f"chip, {name}")
        return np.mean(
            [
                self.accuracy(label, method, where[1], part).mean(1)
                - self.accuracy(label, method, where[0], part).mean(1)
                for part in self.parts(label, method)
            ],
            axis=0,
        )

    def bits(self, label: str, method: str) -> tuple[Floats, Floats]:
        """Return bits [n], and accuracies in per cent [seeds, n, 1 or 3].

        As it was trained; after more epochs; after as many with rounded weights.
        """
        tables = np.array([r["result"]["bits"] for r in self.of(label, method)], dtype=float)
        return tables[0, :, 0], 100.0 * tables[:, :, 1:]

    def histories(self, label: str, method: str) -> dict[str, Floats]:
        """Return accuracies in per cent of forms of the local module [seeds]."""
        records = [r["result"].get("histories", {}) for r in self.of(label, method)]
        names = sorted((name for name in records[0] if name not in _COUNTS), key=_rank)
        return {name: np.array([100.0 * record[name] for record in records]) for name in names}

    def narrower(self, label: str, method: str) -> dict[str, Floats]:
        """Return accuracies in per cent with less room for weights or sums [seeds]."""
        records = [r["result"].get("narrower", {}) for r in self.of(label, method)]
        return {n: np.array([100.0 * record[n] for record in records]) for n in records[0]}

    def compared(self, label: str, method: str) -> int:
        """Return the number of images that forms of the local module were compared on."""
        return int(self.of(label, method)[0]["result"]["histories"]["images"])

    def mapping(self, label: str, method: str, form: str, chip: Chip | None = None) -> Mapping:
        """Return a network of the first seed on cores."""
        shapes = shapes_in(self.of(label, method)[0]["result"]["shapes"][form])
        return map_network(shapes, chip or tianjic(), most_chips=MOST_CHIPS)

    def cost(self, label: str, method: str, form: str) -> Cost:
        """Return what an inference of the first seed's network takes."""
        record = self.of(label, method)[0]["result"]
        rates = self.rates(label, method, form)
        return cost(self.mapping(label, method, form), rates, record["steps"])

    def rates(self, label: str, method: str, form: str) -> dict[str, Floats]:
        """Return how often each layer's inputs were active, of the first seed's network."""
        record = self.of(label, method)[0]["result"]["rates"]
        return rates_in(record.get(form) or record[form.split(",")[0]])

    def report(self, label: str, method: str, form: str) -> str:
        """Return in words what the first seed's network takes."""
        return as_text(
            self.mapping(label, method, form),
            self.cost(label, method, form),
            self.rates(label, method, form),
            self.energies(label, method, form),
        )

    def energies(self, label: str, method: str, form: str) -> dict[str, tuple[float, float, float]]:
        """Return (5 %, median, 95 %) of each energy in J, over what is uncertain."""
        source = np.random.default_rng(0)
        return energy_range(self.cost(label, method, form), tianjic(), draws=_DRAWS, source=source)

    def cpu(self, label: str, method: str, form: str) -> tuple[Floats, Floats | None]:
        """Return seconds of an inference on the processor [seeds], and J if it counted them."""
        found = [r["result"]["cpu"][form] for r in self.of(label, method)]
        joules = [entry["joules"] for entry in found]
        seconds = np.array([entry["seconds"] for entry in found])
        return seconds, None if None in joules else np.array(joules, dtype=float)


def _rank(name: str) -> tuple[int, str]:
    """Return the place of a form of the local module: records keep names by the alphabet."""
    first = ("float", "history", "rewritten", "no local current")
    return (first.index(name) if name in first else len(first)), name


def measure(result: Result) -> dict[str, Floats]:
    """Return one value per seed for each claim of `data/paper.toml` that `result` speaks to."""
    found = {}
    for label in result.labels():
        for method in result.methods(label):
            for form in result.forms(label, method):
                where, _, name = form.partition(", ")
                if where == "chip":
                    suffix = f"/{name}" if name else ""
                    key = f"deployment/{label}/{method}{suffix}"
                    found[key] = result.loss(label, method, name)
    return found
