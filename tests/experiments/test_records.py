"""Committed records are those of the plan: every one, and no other."""

import pytest

from hybrid.experiments import classification, continual, few_shot
from hybrid.experiments.base import results_folder
from hybrid.experiments.plans import Schemes


@pytest.mark.parametrize(
    "schemes",
    [classification.SCHEMES, few_shot.SCHEMES, continual.SCHEMES],
    ids=lambda s: s.experiment.name,
)
def test_laptop_records_are_those_of_the_plan(schemes: Schemes) -> None:
    records = schemes.load("laptop").records
    found = sorted(record["request"]["label"] for record in records)
    assert found == sorted(trial.title for trial in schemes.trials("laptop"))
    committed = list((results_folder("laptop") / schemes.experiment.name).glob("*.json"))
    assert len(committed) == len(records), "there are records of other constants"
