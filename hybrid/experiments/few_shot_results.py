"""Reading few-shot records: accuracies with confidence intervals, and what the claims are about."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from hybrid.experiments.records import Floats, Records
from hybrid.runs.store import Json


class Interval(NamedTuple):
    """Accuracy in per cent, and its 95 % confidence interval."""

    percent: float
    low: float
    high: float


class Result(Records):
    """All finished trials of a profile."""

    def sizes(self, label: str, method: str) -> tuple[str, ...]:
        """Return the sizes of episode that a method was tested on, "5-way 1-shot" for example."""
        tested = self.of(label, method)[0]["result"]["tests"]
        planned = (f"{ways}-way {shots}-shot" for ways, shots in self.config(label)["tests"])
        return tuple(size for size in planned if size in tested)

    def accuracy(self, label: str, method: str, size: str) -> Floats:
        """Return test accuracies in per cent [seeds]."""
        tests = [record["result"]["tests"][size] for record in self.of(label, method)]
        return np.array([100.0 * test["right"] / test["episodes"] for test in tests])

    def interval(self, label: str, method: str, size: str) -> Interval:
        """Return the mean accuracy and its interval.

        With several seeds it is Student's interval over these, which differ in the classes that
        are tested as well as in training. With one seed it can only be that of the episodes
        (Wilson): it holds for these very classes.
        """
        samples = self.accuracy(label, method, size)
        if len(samples) == 1:
            test = self.of(label, method)[0]["result"]["tests"][size]
            return interval_of(test["right"], test["episodes"])
        error = stats.sem(samples)
        half = float(stats.t.ppf(0.975, len(samples) - 1) * error)
        mean = float(samples.mean())
        return Interval(mean, max(mean - half, 0.0), min(mean + half, 100.0))

    def learning(self, label: str, method: str) -> tuple[Floats, Floats]:
        """Return training episodes seen [epochs] and validation accuracy in % [seeds, epochs]."""
        records, config = self.of(label, method), self.config(label)
        curves = [[100.0 * log["validation"] for log in r["result"]["epochs"]] for r in records]
        accuracy = np.array(curves)
        each = config["steps"] * config["episodes"]
        if config["meta"] != "joint":
            each *= config["steps_per_check"]
        return each * np.arange(1.0, accuracy.shape[1] + 1), accuracy

    def positions(self, label: str, method: str) -> Floats:
        """Return accuracy in per cent by place of the look that mattered [seeds, looks]."""
        found = [r["result"]["examined"]["positions"] for r in self.of(label, method)]
        counts = np.array(found, dtype=float)
        return 100.0 * counts[..., 0] / counts[..., 1]

    def noise(self, label: str, method: str) -> tuple[Floats, Floats]:
        """Return shares of wrong labels [K] and accuracies in per cent [seeds, K]."""
        found = [r["result"]["examined"] for r in self.of(label, method)]
        pairs = np.array([entry["noise"] for entry in found], dtype=float)
        return pairs[0, :, 0], 100.0 * pairs[..., 1] / found[0]["noise_episodes"]

    def theta(self, label: str, method: str = "HP") -> list[Json]:
        """Return what the meta-local parameters became, for each seed."""
        return [record["result"]["examined"]["theta"] for record in self.of(label, method)]

    def example(self, label: str, method: str = "HP") -> Json:
        """Return one episode of the first trial, look by look; see `few_shot_tests`."""
        example: Json = self.of(label, method)[0]["result"]["examined"]["example"]
        return example


def interval_of(right: int, asked: int) -> Interval:
    """Return a share in per cent with Wilson's 95 % interval, which also holds near 100 %."""
    low, high = stats.binomtest(right, asked).proportion_ci(0.95, method="wilson")
    return Interval(100.0 * right / asked, 100.0 * low, 100.0 * high)


def measure(result: Result) -> dict[str, Floats]:
    """Return one value per seed for each claim of `data/paper.toml` that `result` speaks to."""
    return {
        f"few_shot/{label}/{size}/{method}": result.accuracy(label, method, size)
        for label in result.labels()
        for method in result.methods(label)
        for size in result.sizes(label, method)
    }
