"""What is kept is believed only by those who ask for it, with the code that made it."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch

from hybrid.experiments.core.methods import GP
from hybrid.experiments.core.trials import (
    Place,
    Task,
    Trial,
    compute,
    hash_of_code,
    load_network,
    run_all,
    source_sha256,
)
from hybrid.experiments.deployment.run import trained_network
from hybrid.experiments.fault_tolerance import EXPERIMENT
from hybrid.experiments.fault_tolerance.plans import SMOKE
from hybrid.learning.lease import LeaseOverError
from hybrid.model.convolutional import Dense
from hybrid.paths import package_sources
from hybrid.runs.files import DamagedFileError
from hybrid.runs.store import Store, read_record

CPU = torch.device("cpu")
SMALL = replace(
    SMOKE,
    dense=(Dense(size=16, plastic=True), Dense(size=10, plastic=True)),
    validation=1_500,
    schedule=replace(SMOKE.schedule, epochs=3),
)
TRIAL, OTHER = (Trial(EXPERIMENT, SMALL, GP, seed) for seed in (1, 2))


def run(trial: Trial, store: Store) -> dict:
    (record,) = run_all([trial], store=store, jobs=1, device=CPU, title="")
    return record


def half_trained(trial: Trial, store: Store, source: str) -> Path:
    """Leave the checkpoint of an unfinished trial, as code of some hash makes it."""
    request = trial.request()
    path = store.checkpoint_path(request)
    task = Task((trial,), (Place(CPU, path, store, None, True),), source, request["data"])
    with mock.patch("hybrid.experiments.core.trials.source_sha256", return_value=source):
        assert compute(task) == "is trained and waits for its tests"
    return path


def test_a_record_under_anothers_name_is_computed_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    own = run(TRIAL, store)
    shutil.copy(store.path(TRIAL.request()), store.path(OTHER.request()))
    with caplog.at_level(logging.WARNING):
        other = run(OTHER, store)
    assert "is the record of something else" in caplog.text
    assert other["request"]["seed"] == 2
    assert other["result"] != own["result"]
    assert read_record(store.path(OTHER.request()))["request"]["seed"] == 2


def test_weights_under_anothers_name_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run(TRIAL, store)
    shutil.copy(store.weights_path(TRIAL.request()), store.weights_path(OTHER.request()))
    with pytest.raises(DamagedFileError, match="holds digits-GP-seed1, not digits-GP-seed2"):
        load_network(OTHER, store)
    longer = replace(SMALL, schedule=replace(SMALL.schedule, epochs=4))
    later = Trial(EXPERIMENT, longer, GP, 1)  # of the same name
    shutil.copy(store.weights_path(TRIAL.request()), store.weights_path(later.request()))
    with pytest.raises(DamagedFileError, match="holds other settings or data"):
        load_network(later, store)


@pytest.mark.parametrize("whose", ["another seed's", "other code's"])
def test_a_checkpoint_of_another_is_not_gone_on_from(
    whose: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = run(OTHER, Store(tmp_path / "whole"))["result"]
    store = Store(tmp_path / "own")
    if whose == "another seed's":
        made = half_trained(TRIAL, store, source_sha256())
        shutil.move(made, store.checkpoint_path(OTHER.request()))
    else:
        half_trained(OTHER, store, "0" * 64)
    with caplog.at_level(logging.WARNING):
        found = run(OTHER, store)
    assert "is of another trial, or of other code; training starts anew" in caplog.text
    assert found["result"] == expected
    assert "legs" not in found["about"]


def test_the_same_code_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = run(TRIAL, Store(tmp_path / "whole"))["result"]
    store = Store(tmp_path / "own")
    half_trained(TRIAL, store, source_sha256())
    with caplog.at_level(logging.WARNING):
        found = run(TRIAL, store)
    assert not caplog.text
    assert found["result"] == expected
    assert len(found["about"]["legs"]) == 1, "trained before, tested here"


def test_the_code_is_that_which_was_read() -> None:
    """A file that is edited meanwhile does not change what a record says."""
    name = "hybrid.experiments.core.trials.package_sources"
    with mock.patch(name, return_value={"edited": ""}):
        assert hash_of_code() != source_sha256()
    assert hash_of_code() == source_sha256()


def test_a_worker_that_read_other_code_computes_nothing() -> None:
    """One that was started anew after an edit, for example."""
    task = Task((TRIAL,), (Place(CPU),), "0" * 64, TRIAL.request()["data"])
    with pytest.raises(ValueError, match="with other code: install this state of it"):
        compute(task)


def test_networks_of_other_code_are_trained_again_for_the_chip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(CPU, store=Store(tmp_path))
    trained_network(TRIAL, place)
    (path,) = tmp_path.rglob("*.safetensors")
    before = path.stat().st_mtime_ns
    trained_network(TRIAL, place)
    assert path.stat().st_mtime_ns == before
    monkeypatch.setattr("hybrid.experiments.core.trials.source_sha256", lambda: "1" * 64)
    trained_network(TRIAL, place)
    assert path.stat().st_mtime_ns > before


def test_constants_of_the_chip_are_part_of_the_code() -> None:
    names = package_sources()
    assert "tianjic/chip.toml" in names
    assert "experiments/core/trials.py" in names


def test_a_lease_goes_on_to_the_same_result(tmp_path: Path) -> None:
    """Several legs, one end: the identity does not hinder them."""
    expected = run(TRIAL, Store(tmp_path / "whole"))["result"]
    store = Store(tmp_path / "own")
    with pytest.raises(LeaseOverError):
        run_all([TRIAL], store=store, jobs=1, device=CPU, title="", minutes=1e-4)
    assert run(TRIAL, store)["result"] == expected
