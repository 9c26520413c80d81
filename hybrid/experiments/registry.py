"""All experiments by name, with what the command line and the scoreboard ask of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from hybrid.experiments import (
    classification,
    classification_results,
    continual,
    continual_results,
    deployment,
    deployment_results,
    event_results,
    event_tolerance,
    fault_results,
    fault_tolerance,
    few_shot,
    few_shot_results,
)
from hybrid.experiments.records import Floats
from hybrid.experiments.trials import Trial


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One experiment.

    Args:
        run: runs a profile; see `hybrid.experiments.plans.Schemes.run`.
        trials: what a profile consists of; see `hybrid.experiments.plans.Schemes.trials`.
        measured: one value per seed for each claim that committed records of a profile speak to.
        notebook: that shows it.
    """

    run: Callable[..., object]
    trials: Callable[..., list[Trial]]
    measured: Callable[[str], Mapping[str, Floats]]
    notebook: str


def _entry(
    experiment: ModuleType, measure: Callable[[Any], Mapping[str, Floats]], notebook: str
) -> Entry:
    """Return the entry of an experiment whose profile has one result."""
    return Entry(
        run=experiment.run,
        trials=experiment.SCHEMES.trials,
        measured=lambda profile: measure(experiment.load(profile)),
        notebook=notebook,
    )


def _measured_faults(profile: str) -> Mapping[str, Floats]:
    found: dict[str, Floats] = {}
    for result in fault_tolerance.load(profile):
        found |= fault_results.measure(result)
    return found


EXPERIMENTS: dict[str, Entry] = {
    "classification": _entry(classification, classification_results.measure, "02_classification"),
    "fault_tolerance": Entry(
        run=fault_tolerance.run,
        trials=fault_tolerance.trials,
        measured=_measured_faults,
        notebook="03_fault_tolerance",
    ),
    "event_tolerance": _entry(event_tolerance, event_results.measure, "03_fault_tolerance"),
    "few_shot": _entry(few_shot, few_shot_results.measure, "04_few_shot"),
    "continual": _entry(continual, continual_results.measure, "05_continual"),
    "deployment": _entry(deployment, deployment_results.measure, "06_tianjic"),
}
