"""Reading classification records: arrays with named axes, and what the claims are about."""

import numpy as np

from hybrid.experiments.records import Floats, Records
from hybrid.runs.store import Json


class Result(Records):
    """All finished trials of a profile."""

    def accuracy(
        self, label: str, method: str, *, protocol: str | None = None, selected: bool = False
    ) -> Floats:
        """Return test accuracies in per cent [seeds].

        Args:
            protocol: None for the authors' (traces move in test batches) where there are traces.
            selected: after the epoch with the best validation accuracy, instead of the last.
        """
        confusions = [
            np.array(test["confusion"])
            for test in self._tests(label, method, protocol, selected=selected)
        ]
        return np.array([100.0 * np.trace(counts) / counts.sum() for counts in confusions])

    def gap(self, label: str, first: str, second: str) -> Floats:
        """Return the accuracy of one method minus another's, over the seeds that both have."""
        return self.paired(label, first, second, self.accuracy)

    def unanswered(self, label: str, method: str) -> Floats:
        """Return how many classes no test image was taken for [seeds]."""
        confusions = [np.array(test["confusion"]) for test in self._tests(label, method, None)]
        return np.array([np.sum(counts.sum(0) == 0) for counts in confusions], dtype=float)

    def course(self, label: str, method: str) -> tuple[Floats, Floats, Floats]:
        """Return the steps asked at [K], accuracy [seeds, K] in per cent and spikes [seeds, K]."""
        tests = self._tests(label, method, None)
        total = np.sum(tests[0]["confusion"])
        correct = np.array([100.0 * np.array(test["correct"]) / total for test in tests])
        spikes = np.array([np.sum(test["spikes"], axis=-1) for test in tests])
        return np.array(tests[0]["looks"], dtype=float), correct, spikes

    def latency(self, label: str, method: str) -> Floats:
        """Return the mean number of steps until the answer [seeds]."""
        return np.array([test["latency"] for test in self._tests(label, method, None)])

    def learning(self, label: str, method: str) -> Floats:
        """Return validation accuracies in per cent [seeds, epochs]."""
        epochs = [record["result"]["epochs"] for record in self.of(label, method)]
        return np.array([[100.0 * log["validation"] for log in logs] for logs in epochs])

    def sensitivity(self, label: str, method: str = "HP") -> tuple[Floats, Floats]:
        """Return factors of the learned gain [K] and accuracies in per cent [seeds, K]."""
        records = self.of(label, method)
        total = np.sum(self._tests(label, method, None)[0]["confusion"])
        pairs = np.array([record["result"]["sensitivity"] for record in records], dtype=float)
        return pairs[0, :, 0], 100.0 * pairs[:, :, 1] / total

    def raster(self, label: str, method: str) -> Json:
        """Return who spiked when, in the first trial, for the first test image."""
        raster: Json = self.of(label, method)[0]["result"]["raster"]
        return raster

    def _tests(
        self, label: str, method: str, protocol: str | None, *, selected: bool = False
    ) -> list[Json]:
        results = [record["result"] for record in self.of(label, method)]
        tests = [result["selected"]["tests"] if selected else result["tests"] for result in results]
        return [test[protocol or ("batch" if "batch" in test else "frozen")] for test in tests]


def measure(result: Result) -> dict[str, Floats]:
    """Return one value per seed for each claim of `data/paper.toml` that `result` speaks to."""
    return {
        f"classification/{label}/{method}": result.accuracy(label, method)
        for label in result.labels()
        for method in result.methods(label)
    }
