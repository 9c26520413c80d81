"""Committed records are those of the plan: every one, and no other."""

import re
import subprocess

import pandas as pd
import pytest
import torch

from hybrid.experiments.core.records import compared, gap
from hybrid.experiments.core.verification import verify
from hybrid.experiments.registry import EXPERIMENTS
from hybrid.paths import project_root, results_folder
from hybrid.runs.instructions import processor
from hybrid.runs.store import Json, read_record
from tests.golden import FOLDER


def committed(experiment: str) -> list[Json]:
    """Return the laptop records under version control: others may lie beside them."""
    root = project_root()
    folder = (results_folder("laptop") / experiment).relative_to(root)
    command = ["git", "ls-files", "--", f"{folder}/*.json"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return [read_record(root / name) for name in listed.stdout.splitlines()]


def test_methods_without_a_seed_in_common_have_no_gap() -> None:
    """An empty result, not an error of numpy's."""
    shared = {"label": "a", "protocol": "frozen", "usual": True, "condition": "noise"}
    rows = [
        {**shared, "method": method, "seed": seed, "level": level, "accuracy": 50.0}
        for method, seed in (("GP", 1), ("HP", 2))
        for level in (0.0, 0.06)
    ]
    frame = pd.DataFrame(rows)
    assert gap(frame, "HP", "GP", condition="noise").shape == (0, 2)
    assert compared(frame, ["a/noise/HP - GP"])["a/noise/HP - GP"].shape == (0,)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_laptop_records_are_those_of_the_plan(experiment: str) -> None:
    trials = EXPERIMENTS[experiment].trials("laptop")
    records = committed(experiment)
    found = sorted(record["request"]["label"] for record in records)
    assert found == sorted(trial.name for trial in trials)
    own = EXPERIMENTS[experiment].records(trials, records).records
    assert len(own) == len(records), "there are records of other constants"


def test_a_smoke_record_is_computed_again_to_the_last_bit() -> None:
    """Kept from another day: other code, libraries or instructions that alter a bit are noticed."""
    path = FOLDER / "digits-HP-seed1.json"
    assert read_record(path)["about"]["instructions"] == "AVX2, fixed"
    ((_, found),) = verify([path], EXPERIMENTS)
    # Processors of another maker round otherwise, with the same instructions.
    other = processor(torch.device("cpu"))["cpu"] != read_record(path)["about"]["cpu"]
    if found is not None and other:
        place, *numbers = re.findall(r"result\S*|[\d.]+(?:e-?\d+)?", found)
        assert place == "result.epochs[0].loss", found
        assert float(numbers[0]) == pytest.approx(float(numbers[1]), rel=1e-4), found
    else:
        assert found is None, found
