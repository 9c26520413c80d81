"""Records of one profile, by config and method: what all results share."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybrid.runs.store import Json

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Records:
    """All finished trials of a profile."""

    planned: tuple[str, ...]  # labels of all configs, finished or not
    records: tuple[Json, ...]  # in the order of the plan

    def labels(self) -> tuple[str, ...]:
        """Return the labels of configs with finished trials, in the order of the plan."""
        present = {r["request"]["config"]["label"] for r in self.records}
        return tuple(label for label in self.planned if label in present)

    def config(self, label: str) -> Json:
        """Return the constants of a config."""
        config: Json = self.of(label)[0]["request"]["config"]
        return config

    def methods(self, label: str) -> tuple[str, ...]:
        """Return the methods that finished at least one trial of a config."""
        names = [record["request"]["method"]["name"] for record in self.records_of(label)]
        return tuple(dict.fromkeys(names))

    def seeds(self, label: str, method: str) -> tuple[int, ...]:
        """Return the seeds of the finished trials."""
        return tuple(record["request"]["seed"] for record in self.of(label, method))

    def minutes(self, label: str, method: str) -> Floats:
        """Return how long the trials ran [seeds]."""
        return np.array([r["about"]["seconds"] / 60 for r in self.of(label, method)])

    def paired(
        self, label: str, first: str, second: str, measure: Callable[[str, str], Floats]
    ) -> Floats:
        """Return a measure [seeds] of one method minus another's, over the seeds of both."""
        one, other = (
            dict(zip(self.seeds(label, name), measure(label, name), strict=True))
            for name in (first, second)
        )
        return np.array([one[seed] - other[seed] for seed in sorted({*one} & {*other})])

    def records_of(self, label: str) -> list[Json]:
        """Return the records of a config, in the order of the plan."""
        return [r for r in self.records if r["request"]["config"]["label"] == label]

    def of(self, label: str, method: str | None = None) -> list[Json]:
        """Return the records of a config, and of a method if one is named, by seed.

        Raises:
            KeyError: if there are none.
        """
        found = [
            record
            for record in self.records_of(label)
            if method in (None, record["request"]["method"]["name"])
        ]
        if not found:
            raise KeyError(f"no finished trial of {method or 'any method'} on {label}")
        return sorted(found, key=lambda record: record["request"]["seed"])
