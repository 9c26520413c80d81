"""Every claim of the paper beside what committed records say: the scoreboard's rows."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from hybrid.experiments.core.experiment import Profile
from hybrid.experiments.core.records import Records, label_of
from hybrid.experiments.registry import EXPERIMENTS
from hybrid.report.estimate import Floats
from hybrid.report.scoreboard import Claim, Computation, Row, load_claims, scoreboard
from hybrid.runs.store import Json


def rows(experiment: str = "") -> list[Row]:
    """Return one row for each claim of `data/paper.toml`, from committed records.

    Args:
        experiment: whose claims alone; none for all.

    Raises:
        DamagedFileError: if a record was changed by hand, or is damaged.
    """
    prefix = f"{experiment}/" if experiment else ""
    claims = [claim for claim in load_claims() if claim.id.startswith(prefix)]
    values: dict[str, Floats] = {}
    for name, profile in {(claim.id.split("/")[0], claim.profile) for claim in claims}:
        found = measured(name, profile)
        own = {c.id for c in claims if c.profile == profile and c.id.startswith(f"{name}/")}
        values |= {key: v for key, v in found.items() if key.removesuffix("/baseline") in own}
    return [_with_runs(row) for row in scoreboard(values, prefix)]


def _with_runs(row: Row) -> Row:
    """Return a row with the records behind it: of the methods that its claim names, if any."""
    if row.estimate is None:
        return row
    claim = row.claim
    experiment, label = claim.id.split("/")[:2]
    records = committed(experiment, claim.profile).records
    behind = [record for record in records if label_of(record) == label]
    known = {record["request"]["method"]["name"] for record in behind}
    # A method under a correction is called "GP + currents-stream".
    asked = {name if name in known else name.split(" + ")[0] for name in claim.methods}
    own = [r for r in behind if r["request"]["method"]["name"] in asked]
    by_method: dict[str, set[int]] = {}
    for record in own or behind:
        method = record["request"]["method"]["name"]
        by_method.setdefault(method, set()).add(record["request"]["seed"])
    seeds = sorted(set.intersection(*by_method.values()))
    minutes = float(np.median([r["about"]["seconds"] for r in own or behind])) / 60.0
    how = _computation(own or behind, claim) if claim.profile == "paper" else None
    return replace(row, profile=claim.profile, seeds=tuple(seeds), minutes=minutes, computation=how)


def _computation(records: Sequence[Json], claim: Claim) -> Computation:
    """Return how records at the paper's scale were computed."""
    machines = {
        leg["machine"]
        for record in records
        for leg in record["about"].get("legs") or [{"machine": _machine(record["about"])}]
    }
    mixed = {record["request"]["settings"]["schedule"]["mixed_precision"] for record in records}
    named = {True: "bfloat16 and float32", False: "float32"}
    return Computation(
        machine=", ".join(sorted(machines)),
        precision=" or ".join(sorted(named[own] for own in mixed)),
        best=_of_best_epochs(records, claim),
    )


def _machine(about: Json) -> str:
    machine: str = about.get("gpu") or about["cpu"]
    return machine


def _of_best_epochs(records: Sequence[Json], claim: Claim) -> float | None:
    """Return the mean accuracy, or difference, of the best test epochs; None if nobody watched."""
    means = []
    for method in claim.methods:
        own = [r for r in records if r["request"]["method"]["name"] == method]
        epochs = [[epoch.get("test") for epoch in record["result"]["epochs"]] for record in own]
        if not own or any(None in tests or not tests for tests in epochs):
            return None
        means.append(100.0 * float(np.mean([max(tests) for tests in epochs])))
    return means[0] if len(means) == 1 else means[0] - means[1]


@cache
def measured(experiment: str, profile: Profile) -> dict[str, Floats]:
    """Return what an experiment's committed records say to the claims."""
    return committed(experiment, profile).claims()


@cache
def committed(experiment: str, profile: Profile) -> Records[Any, Any]:
    """Return an experiment's committed records of a profile, of its present plan and version.

    Raises:
        DamagedFileError: if one was changed by hand, or is damaged.
    """
    known = EXPERIMENTS[experiment]
    try:
        return known.load(profile)
    except FileNotFoundError:  # nothing is finished
        return known.records(known.trials(profile), [], profile)
