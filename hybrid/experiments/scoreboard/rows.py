"""Every claim of the paper beside what committed records say: the scoreboard's rows."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from hybrid.experiments.core.experiment import Profile
from hybrid.experiments.core.records import Records, label_of
from hybrid.experiments.registry import EXPERIMENTS
from hybrid.report.estimate import Floats
from hybrid.report.scoreboard import Claim, Row, judge, load_claims

# Records of the larger scale speak first, once there are enough; smoke never speaks to a claim.
_SCALES: tuple[Profile, ...] = ("paper", "laptop")


def rows() -> list[Row]:
    """Return one row for each claim of `data/paper.toml`, from committed records.

    Raises:
        DamagedFileError: if a record was changed by hand, or is damaged.
    """
    return [row_of(claim) for claim in load_claims()]


def row_of(claim: Claim) -> Row:
    """Return the row of one claim."""
    experiment, label, *_, asked = claim.id.split("/")
    scales = [s for s in _SCALES if s == "paper" or claim.scale != "paper"]
    found = {scale: measured(experiment, scale).get(claim.id, np.array([])) for scale in scales}
    spoken = [scale for scale in scales if len(found[scale])]
    if not spoken:
        return judge(claim, None)
    enough = [scale for scale in spoken if len(found[scale]) >= claim.minimum]
    profile = (enough or spoken)[0]
    # The records of the methods that the claim names, if it names some.
    behind = [r for r in committed(experiment, profile).records if label_of(r) == label]
    own = [r for r in behind if r["request"]["method"]["name"] in asked.split("-")]
    seeds = sorted({record["request"]["seed"] for record in own or behind})
    minutes = float(np.median([r["about"]["seconds"] for r in own or behind])) / 60.0
    row = judge(claim, found[profile])
    return replace(row, profile=profile, seeds=tuple(seeds), minutes=minutes)


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
        return known.records(known.trials(profile), [])
