"""What continual-learning records say, and what the paper's claims are about."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from hybrid.experiments.core.records import Row, by_label, gap, samples, usual
from hybrid.report.estimate import Floats
from hybrid.runs.store import Json


def rows(record: Json) -> Iterator[Row]:
    """Yield a record's rows.

    The mean accuracy over all tasks so far ("average", by tasks learned), that on all tasks after
    the last one ("final", with the measures of `measures`), and the same under each protocol
    ("final by protocol").
    """
    result = record["result"]
    table = accuracy_table(result)
    for k in range(1, len(table)):
        yield {"condition": "average", "level": float(k), "accuracy": table[k, :k].mean()}
    yield {"condition": "final", "accuracy": table[-1, :].mean(), **measures(table)}
    for protocol, found in result.get("final", {}).items():
        accuracy = 100.0 * np.mean(found)
        known = {"protocol": protocol, "usual": protocol == usual(result["final"])}
        yield {"condition": "final by protocol", **known, "accuracy": accuracy}


def accuracy_table(result: Json) -> Floats:
    """Return test accuracies in per cent [tasks + 1, tasks], under "batch" where there are traces.

    Row 0 is of the untrained network, row k of the network after k tasks; column j is task j.
    NaN: not tested.
    """
    return 100.0 * np.array(result["accuracy"], dtype=float)


def measures(table: Floats) -> dict[str, float]:
    """Return what later tasks did to earlier ones and earlier to later ones, in points.

    Backward transfer: the mean of what later tasks added to earlier ones; forward transfer: what
    earlier tasks added to the next one before it was learned, against the untrained network
    (Lopez-Paz and Ranzato, NeurIPS 2017). Forgetting: the mean fall from a task's best to its last
    accuracy (Chaudhry et al., ECCV 2018).
    """
    learned = np.array([table[k + 1, k] for k in range(table.shape[1])])
    ahead = np.array([table[k, k] for k in range(1, table.shape[1])])
    best = np.nanmax(table[1:-1, :-1], axis=0)  # before the last task
    return {
        "backward transfer": float((table[-1, :-1] - learned[:-1]).mean()),
        "forgetting": float((best - table[-1, :-1]).mean()),
        "forward transfer": float((ahead - table[0, 1:]).mean()),
    }


def claims(frame: pd.DataFrame) -> dict[str, Floats]:
    """Return one value per seed for each claim of `data/paper.toml`."""
    found: dict[str, Floats] = {}
    for label, methods, own in by_label(frame):
        for method in methods:
            found[f"{label}/{method}"] = samples(own, method=method, condition="final")[:, 0]
        for first, second in (("HP", "sparse GP"), ("HP", "EWC"), ("HP", "SI")):
            if {first, second} <= set(methods):
                difference = gap(own, first, second, condition="final")[:, 0]
                found[f"{label}/{first}-{second}"] = difference
    return found
