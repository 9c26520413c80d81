"""What a run would do: its trials, which of them are finished, and how long the others may take."""

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from hybrid import __version__
from hybrid.experiments.base import PROFILES, Profile
from hybrid.experiments.board import records_of
from hybrid.experiments.trials import Trial, own_records
from hybrid.runs.files import DamagedFileError, canonical_json
from hybrid.runs.store import Json, Store, read_record


class Planned(NamedTuple):
    """One trial of a run."""

    title: str
    finished: bool
    minutes: float | None  # a guess for one core; None: nothing like it was ever recorded


def planned(trials: Sequence[Trial], store: Store) -> list[Planned]:
    """Return what a run of these trials would do; nothing is fetched or computed.

    Time is the median of committed records with the same constants and method, on whatever machine
    they were computed, beside whatever else. A record counts as finished whatever the hash of its
    data: the run itself looks at that, too.
    """
    name = trials[0].experiment.name
    same: dict[str, list[float]] = {}
    for profile in PROFILES:
        for record in _committed(name, profile):
            same.setdefault(_kind(record["request"]), []).append(record["about"]["seconds"] / 60.0)
    finished = {record["request"]["label"] for record in own_records(trials, _stored(name, store))}
    return [
        Planned(trial.title, trial.title in finished, _median(same.get(_kind(trial.request("")))))
        for trial in trials
    ]


def _committed(experiment: str, profile: Profile) -> list[Json]:
    """Return committed records, none if one is damaged: a guess is all they are needed for."""
    with suppress(DamagedFileError):
        return records_of(experiment, profile)
    return []


def _stored(experiment: str, store: Store) -> list[Json]:
    """Return the records of a store that can be read, none if they are to be replaced."""
    found = []
    for path in () if store.recompute else sorted((store.folder / experiment).glob("*.json")):
        with suppress(DamagedFileError):
            record = read_record(path)
            if record["request"]["version"] == __version__:
                found.append(record)
    return found


def _kind(request: Json) -> str:
    return canonical_json([request["config"], request["method"]])


def _median(minutes: list[float] | None) -> float | None:
    return None if minutes is None else float(np.median(minutes))


def as_text(found: Sequence[Planned], jobs: int) -> str:
    """Format what a run would do, one line for each trial, and a sum.

    Raises:
        ValueError: if `jobs` < 1.
    """
    if jobs < 1:
        raise ValueError(f"jobs = {jobs}: give at least one process")
    width = max(len(trial.title) for trial in found)
    lines = [
        f"{trial.title:{width}s}  {'finished' if trial.finished else _guess(trial.minutes)}"
        for trial in found
    ]
    left = [trial for trial in found if not trial.finished]
    guessed = [trial.minutes for trial in left if trial.minutes is not None]
    total = f"{len(found)} trials, {len(left)} to run"
    if guessed:
        longest = max(max(guessed), sum(guessed) / jobs)
        total += f", about {_guess(longest)} with {jobs} processes"
    if len(guessed) < len(left):
        total += f"; {len(left) - len(guessed)} of unknown length not counted"
    return "\n".join([*lines, total])


def _guess(minutes: float | None) -> str:
    if minutes is None:
        return "? min"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
