"""What a run would do: its trials, which of them are finished, and how long the others may take."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hybrid.experiments.base import PROFILES
from hybrid.experiments.board import label_of, records_of
from hybrid.experiments.trials import Trial, stored_record
from hybrid.runs.store import Store


class Planned(NamedTuple):
    """One trial of a run."""

    title: str
    finished: bool
    minutes: float | None  # a guess for one core; None: nothing like it was ever recorded


def planned(trials: Sequence[Trial], store: Store) -> list[Planned]:
    """Return what a run of these trials would do.

    Time is the median of committed records with the same label and method, on whatever machine
    they were computed, beside whatever else.

    Raises:
        MissingDataError: if data are neither here nor to be had: their hash is part of a record's
            name.
    """
    name = trials[0].experiment.name
    known = [record for profile in PROFILES for record in records_of(name, profile)]
    same: dict[tuple[str, str], list[float]] = {}
    for record in known:
        key = label_of(record), record["request"]["method"]["name"]
        same.setdefault(key, []).append(record["about"]["seconds"] / 60.0)
    return [
        Planned(
            trial.title,
            stored_record(trial, store) is not None,
            _median(same.get((trial.config.label, trial.method.name))),
        )
        for trial in trials
    ]


def _median(minutes: list[float] | None) -> float | None:
    return None if minutes is None else float(np.median(minutes))


def as_text(found: Sequence[Planned], jobs: int) -> str:
    """Format what a run would do, one line for each trial, and a sum."""
    width = max(len(trial.title) for trial in found)
    lines = [
        f"{trial.title:{width}s}  {'finished' if trial.finished else _guess(trial.minutes)}"
        for trial in found
    ]
    left = [trial for trial in found if not trial.finished]
    guessed = [trial.minutes for trial in left if trial.minutes is not None]
    total = f"{len(found)} trials, {len(left)} to run"
    if guessed:
        total += f", about {_guess(sum(guessed) / jobs)} with {jobs} processes"
    if len(guessed) < len(left):
        total += f"; {len(left) - len(guessed)} of unknown length not counted"
    return "\n".join([*lines, total])


def _guess(minutes: float | None) -> str:
    if minutes is None:
        return "? min"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
