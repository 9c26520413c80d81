"""What a run would do: its trials, which of them are finished, and how long the others may take."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from hybrid.experiments.core.experiment import Profile
from hybrid.experiments.core.trials import Trial
from hybrid.paths import results_folder
from hybrid.runs.files import DamagedFileError, canonical_json
from hybrid.runs.store import Json, Store, read_record


class Planned(NamedTuple):
    """One trial of a run."""

    name: str
    finished: bool
    minutes: float | None  # a guess for one core; None: nothing like it was ever recorded


def planned(trials: Sequence[Trial[Any, Any]], store: Store) -> list[Planned]:
    """Return what a run of these trials would do; nothing is fetched or computed.

    Time is the median of committed records with the same constants and method, on whatever machine
    they were computed, beside whatever else. A record counts as finished whatever the hash of its
    data: the run itself looks at that, too.
    """
    experiment = trials[0].experiment
    known: dict[str, list[float]] = {}
    for profile in get_args(Profile):
        for record in _readable(results_folder(profile) / experiment.name):
            minutes = record["about"]["seconds"] / 60.0
            known.setdefault(_kind(record["request"]), []).append(minutes)
    stored = [] if store.recompute else _readable(store.folder / experiment.name)
    finished = {
        canonical_json([record["request"]["seed"], _kind(record["request"])])
        for record in experiment.records(trials, stored).records
    }
    found = []
    for trial in trials:
        kind = _kind(trial.identity())
        minutes = known.get(kind)
        guess = None if minutes is None else float(np.median(minutes))
        found.append(Planned(trial.name, canonical_json([trial.seed, kind]) in finished, guess))
    return found


def _readable(folder: Path) -> list[Json]:
    """Return the records of a folder that can be read: a guess is all they are needed for."""
    found = []
    for path in sorted(folder.glob("*.json")):
        with suppress(DamagedFileError):
            found.append(read_record(path))
    return found


def _kind(request: Json) -> str:
    """Return what trials that take as long have in common: constants and method."""
    return canonical_json([request.get("settings"), request.get("method")])


def as_text(found: Sequence[Planned], jobs: int) -> str:
    """Format what a run would do, one line for each trial, and a sum.

    Raises:
        ValueError: if `jobs` < 1.
    """
    if jobs < 1:
        raise ValueError(f"jobs = {jobs}: give at least one process")
    width = max(len(trial.name) for trial in found)
    lines = [
        f"{trial.name:{width}s}  {'finished' if trial.finished else _guess(trial.minutes)}"
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
