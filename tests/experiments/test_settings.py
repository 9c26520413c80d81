"""Settings as JSON and back, sweeps over their constants, and what is asked for twice."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hybrid.experiments.core.settings import Settings, as_json, from_json, vary
from hybrid.experiments.core.trials import Trial, run_all
from hybrid.experiments.deployment.inspect import KINDS
from hybrid.experiments.fault_tolerance import EXPERIMENT
from hybrid.experiments.fault_tolerance.plans import SMOKE
from hybrid.experiments.registry import EXPERIMENTS
from hybrid.runs.store import Store

DEPLOYED = ("fault_tolerance", "few_shot", "continual")
CPU = torch.device("cpu")


@pytest.mark.parametrize("name", DEPLOYED)
def test_settings_of_every_plan_come_back_from_their_records(name: str) -> None:
    plans = EXPERIMENTS[name].plans.values()
    every: list[Settings] = [s for plan in plans for group in plan for s in group.settings]
    assert every
    for settings in every:
        assert from_json(as_json(settings), KINDS) == settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "Neuron of tomorrow"}, "kind 'Neuron of tomorrow' are unknown: other code"),
        ({"charge": 1.0}, "LIF has other fields in this state of the code"),
    ],
)
def test_settings_of_other_code_are_named(change: dict[str, Any], message: str) -> None:
    made = as_json(SMOKE)
    made["neuron"] |= change
    with pytest.raises(ValueError, match=message):
        from_json(made, KINDS)


def test_a_sweep_changes_one_constant_wherever_it_lies() -> None:
    first, second = vary(SMOKE, "rule.trace_decay", 0.5, 0.6)
    assert first.label == "digits-rule.trace_decay=0.5"
    assert second.label == "digits-rule.trace_decay=0.6"
    assert replace(first, label="digits", rule=SMOKE.rule) == SMOKE
    assert first.rule.trace_decay == 0.5
    with pytest.raises(ValueError, match="Hebbian has no constant 'decay': choose one of"):
        vary(SMOKE, "rule.decay", 0.5)
    with pytest.raises(ValueError, match="steps"):
        vary(SMOKE, "steps", 0)


def test_points_of_a_sweep_with_one_label_are_told_apart_and_the_same_point_twice_is_refused(
    tmp_path: Path,
) -> None:
    quick = replace(SMOKE, schedule=replace(SMOKE.schedule, epochs=1), faults=(("crop", (0.0,)),))
    points = [replace(quick, steps=steps) for steps in (1, 2)]
    method = EXPERIMENT.method("GP")
    trials = [Trial(EXPERIMENT, point, method, 1) for point in points]
    assert trials[0].name == trials[1].name
    store = Store(tmp_path)
    for _ in range(2):  # computed, then read back
        records = run_all(trials, store=store, jobs=1, device=CPU, title="sweep")
        assert [record["request"]["settings"]["steps"] for record in records] == [1, 2]
    with pytest.raises(ValueError, match="digits-GP-seed1: asked for twice"):
        run_all([trials[0], *trials], store=store, jobs=1, device=CPU, title="sweep")
