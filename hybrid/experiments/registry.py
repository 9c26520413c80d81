"""All experiments by name."""

from typing import Any

from hybrid.checks import choose
from hybrid.experiments import (
    classification,
    continual,
    deployment,
    event_tolerance,
    fault_tolerance,
    few_shot,
)
from hybrid.experiments.core.experiment import Experiment

EXPERIMENTS: dict[str, Experiment[Any, Any]] = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (
        classification,
        fault_tolerance,
        event_tolerance,
        few_shot,
        continual,
        deployment,
    )
}


def experiment(name: str) -> Experiment[Any, Any]:
    """Return an experiment by name; ValueError names those there are."""
    return EXPERIMENTS[choose("experiment", name, EXPERIMENTS)]
