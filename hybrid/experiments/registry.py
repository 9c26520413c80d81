"""All experiments by name, with what the command line and the scoreboard ask of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

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


def _fault_tolerance(profile: str) -> Mapping[str, Floats]:
    found: dict[str, Floats] = {}
    for result in fault_tolerance.load(profile):
        found |= fault_results.measure(result)
    return found


EXPERIMENTS: dict[str, Entry] = {
    "classification": Entry(
        run=classification.run,
        trials=classification.SCHEMES.trials,
        measured=lambda profile: classification_results.measure(classification.load(profile)),
        notebook="02_classification",
    ),
    "fault_tolerance": Entry(
        run=fault_tolerance.run,
        trials=fault_tolerance.trials,
        measured=_fault_tolerance,
        notebook="03_fault_tolerance",
    ),
    "event_tolerance": Entry(
        run=event_tolerance.run,
        trials=event_tolerance.SCHEMES.trials,
        measured=lambda profile: event_results.measure(event_tolerance.load(profile)),
        notebook="03_fault_tolerance",
    ),
    "few_shot": Entry(
        run=few_shot.run,
        trials=few_shot.SCHEMES.trials,
        measured=lambda profile: few_shot_results.measure(few_shot.load(profile)),
        notebook="04_few_shot",
    ),
    "continual": Entry(
        run=continual.run,
        trials=continual.SCHEMES.trials,
        measured=lambda profile: continual_results.measure(continual.load(profile)),
        notebook="05_continual",
    ),
    "deployment": Entry(
        run=deployment.run,
        trials=deployment.SCHEMES.trials,
        measured=lambda profile: deployment_results.measure(deployment.load(profile)),
        notebook="06_tianjic",
    ),
}
