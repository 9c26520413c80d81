"""Reading event-tolerance records: accuracy by fault, level, method and protocol."""

import numpy as np

from hybrid.experiments.records import Floats, Records
from hybrid.learning.evaluation import Protocol


class Result(Records):
    """All finished trials of a profile."""

    def faults(self, label: str) -> dict[str, Floats]:
        """Return the levels of all faults; each begins with 0, the sound camera."""
        table = {name: np.array(levels) for name, levels in self.config(label)["faults"]}
        return {
            name: levels if levels[0] == 0.0 else np.append(0.0, levels)
            for name, levels in table.items()
        }

    def accuracy(
        self, label: str, method: str, fault: str, protocol: Protocol | None = None
    ) -> Floats:
        """Return accuracies in per cent [seeds, levels], the sound camera's first.

        Args:
            protocol: of the test; None for the usual one, "batch" where there are traces.
        """
        counts = self._confusion(label, method, fault, protocol)
        found = 100.0 * np.trace(counts, axis1=-2, axis2=-1) / counts.sum(axis=(-2, -1))
        levels = self.faults(label)[fault]
        if found.shape[1] == len(levels):
            return np.asarray(found)
        return np.hstack([self.sound(label, method, protocol)[:, None], found])

    def sound(self, label: str, method: str, protocol: Protocol | None = None) -> Floats:
        """Return accuracies with the sound camera in per cent [seeds]."""
        first, levels = self.config(label)["faults"][0]
        if levels[0] != 0.0:
            raise ValueError(f"{label} was not tested with the sound camera")
        return self.accuracy(label, method, first, protocol)[:, 0]

    def gap(self, label: str, fault: str, first: str, second: str) -> Floats:
        """Return one method's accuracy minus another's in points [seeds of both, levels]."""
        return self.paired(
            label, first, second, lambda label, name: self.accuracy(label, name, fault)
        )

    def protocols(self, label: str, method: str) -> tuple[Protocol, ...]:
        """Return the protocols that a method was tested under, the usual one first."""
        found: list[Protocol] = list(self.of(label, method)[0]["result"]["tests"])
        return tuple(sorted(found, key=lambda name: name != "batch"))

    def rates(self, label: str, method: str, fault: str) -> Floats:
        """Return spikes per neuron and step [seeds, levels tested, layers]."""
        return np.array([test[fault]["rates"] for test in self._tests(label, method, None)])

    def evidence(self, label: str, method: str, fault: str) -> Floats:
        """Return spikes of the right class minus the mean of the others after each window.

        [seeds, levels tested, T], under the usual protocol.
        """
        return np.array([r["result"]["evidence"][fault] for r in self.of(label, method)])

    def learning(self, label: str, method: str) -> Floats:
        """Return validation accuracies in per cent [seeds, epochs]."""
        epochs = [record["result"]["epochs"] for record in self.of(label, method)]
        return np.array([[100.0 * log["validation"] for log in logs] for logs in epochs])

    def _confusion(self, label: str, method: str, fault: str, protocol: Protocol | None) -> Floats:
        tests = self._tests(label, method, protocol)
        return np.array([test[fault]["confusion"] for test in tests], dtype=float)

    def _tests(self, label: str, method: str, protocol: Protocol | None) -> list:  # type: ignore[type-arg]
        name = protocol or self.protocols(label, method)[0]
        return [record["result"]["tests"][name] for record in self.of(label, method)]


def measure(result: Result) -> dict[str, Floats]:
    """Return one value per seed for each claim of `data/paper.toml` that `result` speaks to.

    Of two methods: the difference of their accuracies, each under its usual protocol (HP's and
    LP's traces learn from test batches), averaged over the levels of each fault and then over
    faults; the sound camera is left out.
    """
    return {
        f"event_tolerance/{label}/{first}-{second}": np.mean(
            [
                result.gap(label, fault, first, second)[:, 1:].mean(1)
                for fault in result.faults(label)
            ],
            axis=0,
        )
        for label in result.labels()
        for first, second in (("HP", "GP"), ("HP", "LP"))
        if {first, second} <= set(result.methods(label))
    }
