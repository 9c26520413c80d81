"""Every claim of the paper beside what committed records say: the scoreboard's rows."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from hybrid.experiments.base import Profile, results_folder
from hybrid.experiments.records import Floats
from hybrid.experiments.registry import EXPERIMENTS
from hybrid.experiments.trials import own_records
from hybrid.report.scoreboard import Claim, Row, judge, load_claims
from hybrid.runs.store import Json, read_record

# Records of the larger scale speak first; smoke never speaks to a claim.
_SCALES: tuple[Profile, ...] = ("paper", "laptop")


def rows() -> list[Row]:
    """Return one row for each claim of `data/paper.toml`, from committed records.

    Raises:
        DamagedFileError: if a record was changed by hand, or is damaged.
    """
    return [_row(claim) for claim in load_claims()]


def _row(claim: Claim) -> Row:
    experiment, label, *_, asked = claim.id.split("/")
    for profile in _SCALES:
        if claim.scale == "paper" and profile != "paper":
            continue
        samples = _measured(experiment, profile).get(claim.id)
        if samples is not None and len(samples):
            records = _behind(experiment, profile, label, asked.split("-"))
            seeds = sorted({record["request"]["seed"] for record in records})
            minutes = float(np.median([r["about"]["seconds"] for r in records])) / 60.0
            return Row(judge(claim, samples), profile, tuple(seeds), minutes)
    return Row(judge(claim, None), None, (), None)


def _behind(experiment: str, profile: Profile, label: str, names: list[str]) -> list[Json]:
    """Return the records of a config, of the methods in `names` if there are some."""
    records = [r for r in records_of(experiment, profile) if label_of(r) == label]
    own = [r for r in records if r["request"]["method"]["name"] in names]
    return own or records


def label_of(record: Json) -> str:
    """Return the label of a record's config."""
    request = record["request"]
    tail = f"-{request['method']['name']}-seed{request['seed']}"
    return str(request["label"]).removesuffix(tail)


@cache
def _measured(experiment: str, profile: Profile) -> Mapping[str, Floats]:
    if not _paths(experiment, profile):
        return {}
    return EXPERIMENTS[experiment].measured(profile)


@cache
def records_of(experiment: str, profile: Profile) -> list[Json]:
    """Return the committed records of an experiment's profile that are of its present plan.

    Raises:
        DamagedFileError: if one was changed by hand, or is damaged.
    """
    trials = EXPERIMENTS[experiment].trials(profile)
    return list(own_records(trials, [read_record(p) for p in _paths(experiment, profile)]))


def _paths(experiment: str, profile: Profile) -> list[Path]:
    return sorted((results_folder(profile) / experiment).glob("*.json"))
