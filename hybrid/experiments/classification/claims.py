"""What classification records say, and what the paper's claims are about."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from hybrid.experiments.core.records import (
    Row,
    by_label,
    learning_rows,
    samples,
    usual,
)
from hybrid.report.estimate import Floats
from hybrid.runs.store import Json


def rows(record: Json) -> Iterator[Row]:
    """Yield a record's rows.

    Accuracy of the last epoch and of the one "selected" on validation images (with steps until the
    answer, and classes that are never answered); had each image to be answered at a step
    ("answered by"); with gains scaled ("gain"); and while learning.
    """
    result = record["result"]
    for condition, tests in (("last", result["tests"]), ("selected", result["selected"]["tests"])):
        for protocol, test in tests.items():
            own = {"protocol": protocol, "usual": protocol == usual(tests)}
            counts = np.array(test["confusion"])
            asked = asked_in(test)
            yield {
                **own,
                "condition": condition,
                "accuracy": 100.0 * np.trace(counts) / asked,
                "latency": test["latency"],
                "unanswered": float(np.sum(counts.sum(0) == 0)),
            }
            if condition == "last":
                for step, right, spikes in zip(
                    test["looks"], test["correct"], test["spikes"], strict=True
                ):
                    accuracy = 100.0 * right / asked
                    yield {
                        **own,
                        "condition": "answered by",
                        "level": float(step),
                        "accuracy": accuracy,
                        "spikes": np.sum(spikes),
                    }
    for scale, right in result.get("sensitivity", ()):
        accuracy = 100.0 * right / asked_in(next(iter(result["tests"].values())))
        yield {"condition": "gain", "level": scale, "accuracy": accuracy}
    yield from learning_rows(result)


def asked_in(test: Json) -> int:
    """Return how many samples a test asked about, those that nobody answered among them."""
    return int(np.sum(test["confusion"])) + int(test.get("silent", 0))


def claims(frame: pd.DataFrame) -> dict[str, Floats]:
    """Return one value per seed for each claim of `data/paper.toml`."""
    return {
        f"{label}/{method}": samples(own, method=method, condition="last", usual=True)[:, 0]
        for label, methods, own in by_label(frame)
        for method in methods
    }
