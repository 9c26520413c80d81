"""What few-shot records say, and what the paper's claims are about."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from hybrid.experiments.core.records import Row, by_label, samples, select
from hybrid.experiments.few_shot.settings import size_name
from hybrid.report.estimate import Estimate, Floats
from hybrid.runs.store import Json

# Conditions that are no sizes of episodes.
_OTHERS = ("learning", "position", "wrong labels")


def rows(record: Json) -> Iterator[Row]:
    """Yield a record's rows.

    Accuracy in test episodes of each size ("5-way 1-shot"); on held-out classes after so many
    training episodes ("learning"); by the place of the example that mattered ("position"); and
    with a share of "wrong labels".
    """
    settings, result = record["request"]["settings"], record["result"]
    for ways, shots in settings["tests"]:  # in the order of the plan, not of the alphabet
        test = result["tests"].get(size_name(ways, shots))
        if test is not None:
            accuracy = 100.0 * test["right"] / test["episodes"]
            yield {"condition": size_name(ways, shots), "accuracy": accuracy, **test}
    each = settings["steps"] * settings["schedule"]["batch_size"]
    if settings["objective"]["bilevel"] is not None:
        each *= settings["steps_per_check"]
    for number, log in enumerate(result["epochs"], start=1):
        accuracy = 100.0 * log["validation"]
        yield {"condition": "learning", "level": float(each * number), "accuracy": accuracy}
    examined = result["examined"]
    for place, (right, asked) in enumerate(examined["positions"], start=1):
        accuracy = 100.0 * right / asked
        yield {"condition": "position", "level": float(place), "accuracy": accuracy}
    for share, right in examined["noise"]:
        accuracy = 100.0 * right / examined["noise_episodes"]
        yield {"condition": "wrong labels", "level": share, "accuracy": accuracy}


def sizes_in(frame: pd.DataFrame) -> list[str]:
    """Return the sizes of episodes that a frame speaks of, in the order of the plan."""
    return [str(name) for name in frame["condition"].unique() if name not in _OTHERS]


def interval(frame: pd.DataFrame, **wanted: str) -> Estimate:
    """Return the accuracy in test episodes and its interval, of one label, method and size.

    With several seeds it is Student's interval over these, which differ in the classes that are
    tested as well as in training. With one seed it can only be that of the episodes (Wilson): it
    holds for these very classes.
    """
    found = select(frame, **wanted)
    if len(found) == 1:
        return Estimate.of_share(int(found["right"].iloc[0]), int(found["episodes"].iloc[0]))
    estimate = Estimate.of(found["accuracy"].to_numpy(dtype=float))
    low, high = np.clip([estimate.low, estimate.high], 0.0, 100.0)
    return Estimate(estimate.n, estimate.mean, estimate.sem, float(low), float(high))


def claims(frame: pd.DataFrame) -> dict[str, Floats]:
    """Return one value per seed for each claim of `data/paper.toml`."""
    return {
        f"{label}/{size}/{method}": samples(own, method=method, condition=size)[:, 0]
        for label, methods, own in by_label(frame)
        for method in methods
        for size in sizes_in(select(own, method=method))
    }
