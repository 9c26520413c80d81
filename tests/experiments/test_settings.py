"""Settings as JSON and back, sweeps over their constants, and what is asked for twice."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hybrid.described import as_json, from_json
from hybrid.experiments.continual import plans as continual
from hybrid.experiments.core.experiment import Group
from hybrid.experiments.core.settings import Settings, vary
from hybrid.experiments.core.trials import Trial, run_all
from hybrid.experiments.deployment import plans as deployment
from hybrid.experiments.deployment.inspect import KINDS
from hybrid.experiments.fault_tolerance import EXPERIMENT
from hybrid.experiments.fault_tolerance.plans import SMOKE
from hybrid.experiments.few_shot import plans as few_shot
from hybrid.experiments.registry import EXPERIMENTS
from hybrid.model.neurons import AdaptiveLIF, ArcTan, FastSigmoid
from hybrid.model.plasticity import STDP, Hebbian
from hybrid.runs.store import Store

DEPLOYED = ("fault_tolerance", "few_shot", "continual")
CPU = torch.device("cpu")
NAN = float("nan")
(ON_CHIP,) = deployment.PLANS["smoke"][0].settings


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


def floats_in(owner: Any) -> Iterator[tuple[Any, str, Any]]:
    """Yield owner, field, and the value with NaN in the place of each of its numbers."""
    for field in fields(owner):
        value = getattr(owner, field.name)
        if is_dataclass(value):
            yield from floats_in(value)
        elif field.init and isinstance(value, float):
            yield owner, field.name, NAN
        elif field.init and isinstance(value, tuple):
            yield from ((owner, field.name, broken) for broken in _with_nan(value))
            for entry in value:
                if is_dataclass(entry):
                    yield from floats_in(entry)


def _with_nan(value: tuple[Any, ...]) -> Iterator[Any]:
    for place, entry in enumerate(value):
        broken = [NAN] if isinstance(entry, float) else []
        broken += list(_with_nan(entry)) if isinstance(entry, tuple) else []
        for new in broken:
            changed = [*value[:place], new, *value[place + 1 :]]
            yield type(value)(*changed) if hasattr(value, "_fields") else tuple(changed)


def test_no_constant_may_be_nan() -> None:
    """NaN passes most comparisons that are written the wrong way round."""
    every = {
        settings
        for experiment in EXPERIMENTS.values()
        for plan in experiment.plans.values()
        for group in plan
        for settings in group.settings
    }
    rules = (STDP(trace_decay=0.9), Hebbian(trace_decay=0.9, trace_clip=1.0), ArcTan())
    tried = {}
    for owner in (*every, *rules, FastSigmoid(), AdaptiveLIF(decay=0.5, v_th=1.0)):
        for part, name, broken in floats_in(owner):
            tried[type(part).__name__, name, str(broken)] = (part, name, broken)
    assert len(tried) > 100
    for part, name, broken in tried.values():
        with pytest.raises(ValueError, match=f"{name} = |level nan: "):
            replace(part, **{name: broken})


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
    store = Store(str(tmp_path))
    for _ in range(2):  # computed, then read back
        records = run_all(trials, store=store, jobs=1, device=CPU, title="sweep")
        assert [record["request"]["settings"]["steps"] for record in records] == [1, 2]
    with pytest.raises(ValueError, match="digits-GP-seed1: asked for twice"):
        run_all([trials[0], *trials], store=store, jobs=1, device=CPU, title="sweep")


def test_one_label_for_two_settings_is_refused() -> None:
    """Tables and figures know settings by their label: they would pool the two."""
    other = replace(SMOKE, steps=SMOKE.steps + 1)
    groups = tuple(Group(settings=(own,), methods=("GP",), seeds=1) for own in (SMOKE, other))
    mixed = replace(EXPERIMENT, plans={"smoke": groups})
    with pytest.raises(ValueError, match="label 'digits' is given to two different settings"):
        mixed.trials("smoke")


@pytest.mark.parametrize(
    ("owner", "change", "message"),
    [
        (SMOKE, {"faults": (("gaussian", (0.0,)), ("gaussian", (0.1,)))}, "of different names"),
        (SMOKE, {"faults": (("gaussian", ()),)}, "with levels of gaussian, each once"),
        (SMOKE, {"faults": (("gaussian", (0.1, 0.1)),)}, "with levels of gaussian, each once"),
        (SMOKE, {"faults": (("fog", (0.1,)),)}, r"pairs of \(gaussian, salt"),
        (SMOKE, {"steps": 2.5}, "steps = 2.5: it must be a whole number"),
        (continual.SMOKE, {"steps": 2.5}, "steps = 2.5: it must be a whole number"),
        (continual.SMOKE, {"hidden": (8,)}, "two sizes"),
        (few_shot.SMOKE, {"noises": (0.0, 2.0)}, r"shares in \[0, 1\]"),
        (ON_CHIP, {"faults": (("fog", (0.0,)),)}, r"pairs of \(gaussian, salt"),
        (ON_CHIP, {"faults": (("gaussian", (0.0, -5.0)),)}, "gaussian"),
    ],
)
def test_constants_that_would_fail_or_lie_after_training_are_refused(
    owner: Settings, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(owner, **change)
