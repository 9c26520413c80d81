"""What fault-tolerance records say, and what the paper's claims are about."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from hybrid.experiments.core.records import (
    Row,
    by_label,
    gap,
    learning_rows,
    levels,
    samples,
    shared_seeds,
    tested_rows,
    usual,
)
from hybrid.report.estimate import Floats
from hybrid.report.scoreboard import load_claims
from hybrid.runs.store import Json

MAIN = ("LP", "GP", "HP")


def rows(record: Json) -> Iterator[Row]:
    """Yield a record's rows: under each fault, as images arrive, while learning, and θ."""
    result, faults = record["result"], dict(record["request"]["settings"]["faults"])
    yield from tested_rows(result["tests"], faults)
    for entry in result.get("arrivals", ()):
        yield {
            "protocol": entry["protocol"],
            "usual": entry["protocol"] == usual(result["tests"]),
            "condition": f"arrival {entry['condition']}",
            "level": float(entry["level"]),
            "accuracy": 100.0 * entry["right"] / entry["of"],
        }
    yield from learning_rows(result)
    overlap = {"overlap": result["overlap"]} if "overlap" in result else {}
    yield {"condition": "theta", **result.get("meta", {}), **overlap}


def claims(frame: pd.DataFrame) -> dict[str, Floats]:
    """Return one value per seed for each claim of `data/paper.toml`, of seeds all methods share."""
    found: dict[str, Floats] = {}
    for label, methods, own in by_label(frame):
        if not set(MAIN) <= set(methods) or (own := shared_seeds(own, MAIN)).empty:
            continue
        variances = levels(own, condition="gaussian", usual=True)
        half_widths = levels(own, condition="crop", usual=True)
        noisy = {m: samples(own, method=m, condition="gaussian", usual=True) for m in MAIN}
        gain = noisy["HP"] - noisy["GP"]
        worst = f"gaussian-{variances[-1]:g}"
        middle = (half_widths >= 4) & (half_widths <= 9)
        values = {
            **{f"clean/{m}": noisy[m][:, 0] for m in MAIN},
            "clean/HP-GP": gain[:, 0],
            **{f"{worst}/{m}": noisy[m][:, -1] for m in MAIN},
            f"{worst}/HP-GP": gain[:, -1],
            f"{worst}/HP-LP": (noisy["HP"] - noisy["LP"])[:, -1],
            f"{worst}/LP-GP": (noisy["LP"] - noisy["GP"])[:, -1],
            "gaussian/gap-growth": np.polyfit(100.0 * variances, gain.T, 1)[0],
            "gaussian/LP-crosses-GP": np.array(
                [crossing(variances, row) for row in noisy["LP"] - noisy["GP"]]
            ),
            "crop/HP-GP": gap(own, "HP", "GP", condition="crop")[:, middle].mean(-1),
        }
        found |= {f"{label}/{name}": value for name, value in values.items()}
    return found


def crossing(levels: Floats, difference: Floats) -> float:
    """Return the level at which `difference` first rises through zero, interpolated linearly.

    The lowest level if it starts above zero, NaN if it never rises through zero.
    """
    if difference[0] > 0.0:
        return float(levels[0])
    above = np.flatnonzero(difference > 0.0)
    if len(above) == 0:
        return float("nan")
    i = above[0]
    share = -difference[i - 1] / (difference[i] - difference[i - 1])
    return float(levels[i - 1] + share * (levels[i] - levels[i - 1]))


def reported_gaps(label: str) -> dict[str, tuple[Floats, Floats]]:
    """Return what others found for HP minus GP under noise: who -> (variances, points)."""
    known = {claim.id: claim for claim in load_claims()}
    clean = known.get(f"fault_tolerance/{label}/clean/HP-GP")
    noisy = known.get(f"fault_tolerance/{label}/gaussian-0.06/HP-GP")
    if clean is None or noisy is None:
        return {}
    pairs = {"authors": (clean.reported, noisy.reported), "rerun": (clean.rerun, noisy.rerun)}
    variances = np.array([0.0, 0.06])
    return {who: (variances, np.array(pair, dtype=float)) for who, pair in pairs.items()}
