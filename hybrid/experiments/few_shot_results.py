"""Reading few-shot records: accuracies with confidence intervals, and what the claims are about."""

from typing import NamedTuple

import numpy as np

from hybrid.experiments.records import Floats, Records
from hybrid.runs.store import Json


class Share(NamedTuple):
    """Right answers in per cent, and half the width of the 95 % confidence interval."""

    percent: float
    half_width: float


class Result(Records):
    """All finished trials of a profile."""

    def sizes(self, label: str, method: str) -> tuple[str, ...]:
        """Return the sizes of episode that a method was tested on, "5-way 1-shot" for example."""
        return tuple(self.of(label, method)[0]["result"]["tests"])

    def accuracy(self, label: str, method: str, size: str) -> Floats:
        """Return test accuracies in per cent [seeds]."""
        tests = [record["result"]["tests"][size] for record in self.of(label, method)]
        return np.array([100.0 * test["right"] / test["episodes"] for test in tests])

    def share(self, label: str, method: str, size: str) -> Share:
        """Return the accuracy over all episodes of all seeds, with its interval.

        The interval is that of the episodes (Wilson); it says nothing about other seeds.
        """
        tests = [record["result"]["tests"][size] for record in self.of(label, method)]
        return share_of(sum(t["right"] for t in tests), sum(t["episodes"] for t in tests))

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


def share_of(right: int, asked: int) -> Share:
    """Return a share in per cent with its 95 % interval (Wilson's, which also holds near 100 %)."""
    p, z = right / asked, 1.959964
    half = z / (1.0 + z**2 / asked) * np.sqrt(p * (1.0 - p) / asked + (z / (2.0 * asked)) ** 2)
    return Share(100.0 * p, 100.0 * float(half))


def measure(result: Result) -> dict[str, Floats]:
    """Return one value per seed for each claim of `data/paper.toml` that `result` speaks to."""
    return {
        f"few_shot/{label}/{size}/{method}": result.accuracy(label, method, size)
        for label in result.labels()
        for method in result.methods(label)
        for size in result.sizes(label, method)
    }
