"""Every claim of the paper beside what committed records say: the scoreboard's rows."""

from collections.abc import Mapping
from functools import cache

import numpy as np

from hybrid import __version__
from hybrid.experiments.base import Profile, results_folder
from hybrid.experiments.records import Floats
from hybrid.experiments.registry import EXPERIMENTS
from hybrid.experiments.trials import own_records
from hybrid.report.scoreboard import Claim, Row, judge, load_claims
from hybrid.runs.store import Json, read_record

# Records of the larger scale speak first, once there are enough; smoke never speaks to a claim.
_SCALES: tuple[Profile, ...] = ("paper", "laptop")


def rows() -> list[Row]:
    """Return one row for each claim of `data/paper.toml`, from committed records.

    Raises:
        DamagedFileError: if a record was changed by hand, or is damaged.
    """
    return [_row(claim) for claim in load_claims()]


def _row(claim: Claim) -> Row:
    experiment, label, *_, asked = claim.id.split("/")
    scales = [s for s in _SCALES if s == "paper" or claim.scale != "paper"]
    found = {scale: _measured(experiment, scale).get(claim.id, np.array([])) for scale in scales}
    spoken = [scale for scale in scales if len(found[scale])]
    if not spoken:
        return Row(judge(claim, None), None, (), None)
    enough = [scale for scale in spoken if len(found[scale]) >= claim.minimum]
    profile = (enough or spoken)[0]
    records = _behind(experiment, profile, label, asked.split("-"))
    seeds = sorted({record["request"]["seed"] for record in records})
    minutes = float(np.median([r["about"]["seconds"] for r in records])) / 60.0
    return Row(judge(claim, found[profile]), profile, tuple(seeds), minutes)


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
    try:
        return EXPERIMENTS[experiment].measured(profile)
    except FileNotFoundError:  # nothing is finished, or nothing that could be compared
        return {}


@cache
def records_of(experiment: str, profile: Profile) -> list[Json]:
    """Return an experiment's committed records of a profile, of its present plan and version.

    Raises:
        DamagedFileError: if one was changed by hand, or is damaged.
    """
    trials = EXPERIMENTS[experiment].trials(profile)
    paths = sorted((results_folder(profile) / experiment).glob("*.json"))
    records = [r for r in map(read_record, paths) if r["request"]["version"] == __version__]
    return list(own_records(trials, records))
