"""Seeds of one kind trained in one call, as a run does it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from hybrid.cli import app
from hybrid.experiments.classification.plans import dense
from hybrid.experiments.core.leases import measure
from hybrid.experiments.core.trials import Trial, run_all
from hybrid.experiments.registry import experiment
from hybrid.learning import fitting
from hybrid.learning.lease import LeaseOverError
from hybrid.runs.store import Json, Store

CPU = torch.device("cpu")


def trials(name: str, seeds: int = 3) -> list[Trial[Any, Any]]:
    """Return small trials that differ by their seed alone."""
    own = experiment(name)
    settings: Any = own.plans["smoke"][0].settings[0]
    changes: dict[str, Any] = {"schedule": replace(settings.schedule, epochs=2)}
    if name == "fault_tolerance":
        changes |= {"dense": dense(16), "faults": settings.faults[:1], "corrections": ()}
    if name == "continual":
        schedule = replace(settings.schedule, epochs=2 * settings.epochs)
        changes = {"tasks": 2, "schedule": schedule}
    return [
        Trial(own, replace(settings, **changes), own.method("HP"), seed + 1)
        for seed in range(seeds)
    ]


def run(own: list[Trial[Any, Any]], store: Store | None, **how: Any) -> list[Json]:
    return run_all(own, store=store, jobs=1, device=CPU, title="", **how)


@pytest.mark.parametrize("name", ["fault_tolerance", "continual", "few_shot"])
def test_records_are_those_of_one_at_a_time(name: str, tmp_path: Path) -> None:
    """Each has its own record and weights, under the same request; losses are
    alike (with float32, spikes turn rounding into differences: see test_side_by_side of learning).
    """
    own, together = trials(name, 2), Store(tmp_path / "together")
    alone = run(own, None)
    found = run(own, together, side_by_side=True)
    for record, other, trial in zip(found, alone, own, strict=True):
        assert record["request"] == other["request"] == trial.request()
        assert record["result"].keys() == other["result"].keys()
        assert record["about"]["side by side"] == len(own)
        assert "side by side" not in other["about"]
        for mine, theirs in zip(record["result"]["epochs"], other["result"]["epochs"], strict=True):
            assert mine["loss"] == pytest.approx(theirs["loss"], rel=0.05)
            assert mine["validation"] == pytest.approx(theirs["validation"], abs=0.2)
        assert together.weights_path(trial.request()).exists()
    losses = {record["result"]["epochs"][-1]["loss"] for record in found}
    assert len(losses) == len(own), "seeds must differ"
    assert run(own, together, side_by_side=True) == found, "finished trials are not run again"
    assert not list(tmp_path.rglob("*.checkpoint.safetensors"))


@pytest.mark.parametrize("name", ["fault_tolerance", "continual"])
def test_a_lease_that_ends_is_gone_on_from(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = trials(name, 2)
    whole = run(own, None, side_by_side=True)
    asked = iter(range(100))
    monkeypatch.setattr(fitting, "over", lambda _: next(asked) == 1)
    store = Store(tmp_path)
    with pytest.raises(LeaseOverError, match="stopped after epoch 1 of") as stopped:
        run(own, store, side_by_side=True, minutes=1.0)
    assert all(trial.name in str(stopped.value) for trial in own)
    monkeypatch.setattr(fitting, "over", lambda _: False)
    again = run(own, store, side_by_side=True)
    assert [record["result"] for record in again] == [record["result"] for record in whole]
    assert not list(tmp_path.rglob("*.checkpoint.safetensors"))


def test_by_command(tmp_path: Path) -> None:
    """Methods are kinds of their own; weights that are held must be alone."""
    asked = ["run", "continual", "--seeds", "2", "--method", "GP", "--method", "HP"]
    where = ["--store", str(tmp_path), "--jobs", "1", "--side-by-side"]
    done = CliRunner().invoke(app, [*asked, *where])
    assert done.exit_code == 0, done.output
    assert len(list(tmp_path.rglob("*.json"))) == 6
    asked = ["run", "continual", "--seeds", "2", "--method", "EWC"]
    done = CliRunner().invoke(app, [*asked, *where])
    assert done.exit_code == 1
    expected = "EWC-seed1 cannot be trained side by side: its weights are held"
    assert expected in " ".join(done.output.split())


def test_what_fits_a_lease_can_be_measured_together() -> None:
    (found,) = measure(trials("fault_tolerance"), CPU, 9.0, 0.01, side_by_side=True)
    assert found.seeds == 3
    assert found.seconds > 0.0


@pytest.mark.parametrize("together", [False, True])
def test_a_watched_test_set_has_no_influence(together: bool) -> None:
    """All is as without watching, but for the test accuracy of each epoch."""
    own = trials("fault_tolerance", 2)
    watched = [replace(t, settings=replace(t.settings, test_each_epoch=True)) for t in own]
    plain, seen = (run(these, None, side_by_side=together) for these in (own, watched))
    for record, other in zip(plain, seen, strict=True):
        shown = [epoch.pop("test") for epoch in other["result"]["epochs"]]
        assert len(shown) == 2
        assert all(0.0 < share <= 1.0 for share in shown)
        assert other["result"] == record["result"]
        assert "test_each_epoch" not in record["request"]["settings"]
        assert other["request"]["settings"]["test_each_epoch"] is True
