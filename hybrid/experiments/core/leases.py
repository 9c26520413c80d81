"""Which trials fit into the minutes that a machine is lent for, measured on the spot."""

from collections.abc import Sequence
from math import ceil
from typing import Any, NamedTuple

import torch

from hybrid.experiments.core.trials import Place, Trial, finished
from hybrid.learning.lease import MeasuredEpoch, measuring
from hybrid.runs.fanout import fan_out


class Fitting(NamedTuple):
    """How long trials that differ by their seed alone train, here."""

    name: str  # label and method
    seeds: int
    seconds: float  # an epoch, validation included
    epochs: int  # of a trial

    def epochs_in(self, minutes: float) -> int:
        """Return how many epochs fit into a lease, with a minute to begin and to test in."""
        return max(0, int(60.0 * (minutes - 1.0) / self.seconds))


class Watched(NamedTuple):
    """A training that is watched for some seconds."""

    trials: Sequence[Trial[Any, Any]]  # one, or all that differ by their seed alone
    seeds: int
    device: torch.device
    seconds: float


def measure(
    trials: Sequence[Trial[Any, Any]],
    device: torch.device,
    minutes: float,
    seconds: float,
    *,
    side_by_side: bool = False,
) -> list[Fitting]:
    """Train one trial of each kind, or all, for some seconds, and say what an epoch takes.

    Args:
        trials: of one experiment; those that differ by their seed alone are one kind.
        device: computes.
        minutes: of a lease.
        seconds: for which each kind is watched; the rest of an epoch that is longer is reckoned
            from its steps.
        side_by_side: whether trials of one kind train together; times are then of all of them.

    Raises:
        ValueError: if a lease has not more than a minute.
    """
    if not minutes > 1.0:
        raise ValueError(f"minutes = {minutes}: one goes with beginning and testing, give more")
    kinds: dict[str, list[Trial[Any, Any]]] = {}
    for trial in trials:
        kinds.setdefault(trial.kind(), []).append(trial)
    pieces = [
        Watched(tuple(alike) if side_by_side else alike[:1], len(alike), device, seconds)
        for alike in kinds.values()
    ]
    found = dict(fan_out(_watch, pieces, jobs=1, title="measuring"))
    return [found[i] for i in sorted(found) if found[i] is not None]  # type: ignore[misc]


def _watch(watched: Watched) -> Fitting | None:
    """Return how long an epoch takes; None for a trial that trains nothing."""
    trial, place = watched.trials[0], Place(watched.device)
    with measuring(watched.seconds):
        try:
            finished([own.experiment.begin(own, place) for own in watched.trials])
        except MeasuredEpoch as found:
            name = f"{trial.settings.label}-{trial.method.name}"
            return Fitting(name, watched.seeds, found.seconds, found.epochs)
    return None


def as_text(found: Sequence[Fitting], minutes: float) -> str:
    """Format what fits, one line for each kind of trials."""
    if not found:
        return "none of these trials trains a network"
    width = max(len(kind.name) for kind in found)
    head = f"{'':{width}s}  s/epoch  epochs  training min  epochs/lease  leases  seeds"
    lines = [head]
    for kind in found:
        fit, whole = kind.epochs_in(minutes), kind.epochs * kind.seconds / 60.0
        leases = str(ceil(kind.epochs / fit)) if fit else "never"
        lines.append(
            f"{kind.name:{width}s}  {kind.seconds:7.1f}  {kind.epochs:6d}  {whole:12.1f}  "
            f"{fit:12d}  {leases:>6s}  {kind.seeds:5d}"
        )
    return "\n".join(lines)
