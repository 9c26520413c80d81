"""Which trials fit into the minutes that a machine is lent for, measured on the spot."""

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any, NamedTuple

import torch

from hybrid.experiments.core.trials import Place, Trial
from hybrid.learning.lease import MeasuredEpoch, measuring


class Fitting(NamedTuple):
    """How long trials of the same constants and method train, here."""

    name: str  # label and method
    seeds: int
    seconds: float  # an epoch, validation included
    epochs: int  # of a trial

    def epochs_in(self, minutes: float) -> int:
        """Return how many epochs fit into a lease, with a minute to begin and to test in."""
        return max(0, int(60.0 * (minutes - 1.0) / self.seconds))


def measure(
    trials: Sequence[Trial[Any, Any]], device: torch.device, seconds: float
) -> Iterator[Fitting]:
    """Train one trial of each kind for some seconds, and yield what an epoch takes.

    Args:
        trials: of one experiment; those that differ by their seed alone are one kind.
        device: computes.
        seconds: for which each kind is watched; the rest of an epoch that is longer is reckoned
            from its steps.
    """
    kinds: dict[str, list[Trial[Any, Any]]] = {}
    for trial in trials:
        kinds.setdefault(f"{trial.settings.label}-{trial.method.name}", []).append(trial)
    for name, alike in kinds.items():
        with measuring(seconds):
            try:
                alike[0].experiment.compute(alike[0], Place(device))
            except MeasuredEpoch as found:
                yield Fitting(name, len(alike), found.seconds, found.epochs)


def as_text(found: Sequence[Fitting], minutes: float) -> str:
    """Format what fits, one line for each kind of trials.

    Raises:
        ValueError: if there is not more than a minute.
    """
    if not minutes > 1.0:
        raise ValueError(f"minutes = {minutes}: one goes with beginning and testing, give more")
    if not found:
        return "none of these trials trains a network"
    width = max(len(kind.name) for kind in found)
    head = f"{'':{width}s}  s/epoch  epochs  min/trial  epochs/lease  leases/trial  seeds"
    lines = [head]
    for kind in found:
        fit, whole = kind.epochs_in(minutes), kind.epochs * kind.seconds / 60.0
        leases = str(ceil(kind.epochs / fit)) if fit else "never"
        lines.append(
            f"{kind.name:{width}s}  {kind.seconds:7.1f}  {kind.epochs:6d}  {whole:9.1f}  "
            f"{fit:12d}  {leases:>12s}  {kind.seeds:5d}"
        )
    return "\n".join(lines)
