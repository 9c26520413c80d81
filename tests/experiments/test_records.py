"""Committed records are those of the plan: every one, and no other."""

import pytest

from hybrid.experiments import classification, continual, deployment, event_tolerance, few_shot
from hybrid.experiments.base import results_folder
from hybrid.experiments.plans import Schemes


@pytest.mark.parametrize(
    "schemes",
    [classification.SCHEMES, few_shot.SCHEMES, continual.SCHEMES, deployment.SCHEMES],
    ids=lambda s: s.experiment.name,
)
def test_laptop_records_are_those_of_the_plan(schemes: Schemes) -> None:
    records = schemes.load("laptop").records
    found = sorted(record["request"]["label"] for record in records)
    assert found == sorted(trial.title for trial in schemes.trials("laptop"))
    committed = list((results_folder("laptop") / schemes.experiment.name).glob("*.json"))
    assert len(committed) == len(records), "there are records of other constants"


@pytest.mark.parametrize("schemes", [event_tolerance.SCHEMES], ids=lambda s: s.experiment.name)
def test_laptop_records_of_unfinished_profiles_are_of_the_plan(schemes: Schemes) -> None:
    """Some trials are missing; those that are there have the plan's constants and seeds."""
    records = schemes.load("laptop").records
    found = [record["request"]["label"] for record in records]
    assert set(found) < {trial.title for trial in schemes.trials("laptop")}, "complete: move it up"
    committed = list((results_folder("laptop") / schemes.experiment.name).glob("*.json"))
    assert len(committed) == len(records), "there are records of other constants"
