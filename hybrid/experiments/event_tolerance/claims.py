"""What event-tolerance records say, and what the claims are about."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from hybrid.experiments.core.records import (
    Row,
    by_label,
    finest,
    gap,
    learning_rows,
    samples,
    tested_rows,
)
from hybrid.report.estimate import Floats
from hybrid.runs.store import Json

# What is set against what, as `gap` calls them, in the mean over all faults.
_HOMEOSTATIC = "GP + currents-stream"
_PAIRS = (("HP", "GP"), ("HP", "LP"), (_HOMEOSTATIC, "GP"), (_HOMEOSTATIC, "HP"))


def rows(record: Json) -> Iterator[Row]:
    """Yield a record's rows: accuracy and firing rates under each fault, and while learning.

    Level 0 of every fault is the sound camera, which was tested with the first fault.
    """
    result, faults = record["result"], dict(record["request"]["settings"]["faults"])
    sound: dict[str, Row] = {}  # by protocol
    for row in tested_rows(result["tests"], faults):
        first = sound.setdefault(row["protocol"], row)
        if row["level"] == faults[row["condition"]][0] != 0.0:
            yield {**first, "condition": row["condition"]}
        yield row
    yield from learning_rows(result)


def faults_in(frame: pd.DataFrame) -> list[str]:
    """Return the names of the faults that a frame speaks of, in the order of the plan."""
    return [str(name) for name in frame["condition"].unique() if name != "learning"]


def claims(frame: pd.DataFrame) -> dict[str, Floats]:
    """Return one value per seed for each claim of `data/paper.toml`, and how alive a baseline is.

    Of two methods: the difference of their accuracies, each under its usual protocol (HP's and
    LP's traces learn from test batches), averaged over the levels of each fault and then over
    faults; the sound camera is left out. Where records know of each recording, of each recording.
    """
    found: dict[str, Floats] = {}
    for label, _, own in by_label(frame):
        faults = faults_in(own)
        for first, second in _PAIRS:
            try:
                each = [
                    gap(own, first, second, finest(own), condition=f)[:, 1:].mean(1) for f in faults
                ]
            except KeyError:
                continue  # not run, or not tested so
            name = f"{label}/{first} - {second}"
            found[name] = np.mean(each, axis=0)
            if "rate 0" in own:  # of its first dense layer, behind the sound camera
                how = {"method": second, "condition": faults[0], "usual": True}
                found[f"{name}/baseline"] = samples(own, "rate 0", **how)[:, 0]
    return found
