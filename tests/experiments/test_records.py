"""Committed records are those of the plan: every one, and no other."""

import subprocess

import pytest

from hybrid.experiments.registry import EXPERIMENTS
from hybrid.paths import project_root, results_folder
from hybrid.runs.store import Json, read_record


def committed(experiment: str) -> list[Json]:
    """Return the laptop records under version control: others may lie beside them."""
    root = project_root()
    folder = (results_folder("laptop") / experiment).relative_to(root)
    command = ["git", "ls-files", "--", f"{folder}/*.json"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return [read_record(root / name) for name in listed.stdout.splitlines()]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_laptop_records_are_those_of_the_plan(experiment: str) -> None:
    trials = EXPERIMENTS[experiment].trials("laptop")
    records = committed(experiment)
    found = sorted(record["request"]["label"] for record in records)
    assert found == sorted(trial.name for trial in trials)
    own = EXPERIMENTS[experiment].records(trials, records).records
    assert len(own) == len(records), "there are records of other constants"
