"""The campaign of faults in small; `make faults` runs all of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.faults import inputs, sweeps


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    sweeps.sweep(folder)
    return folder


@pytest.fixture
def expected(undisturbed: Path) -> dict[str, Any]:
    return sweeps.outcome(undisturbed)


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """Sweeps in this process set the number of threads: the next test has its own."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_killed_sweeps_end_as_undisturbed_ones_do(tmp_path: Path, expected: dict[str, Any]) -> None:
    found = sweeps.kills(tmp_path, expected, 8)
    assert found["kills"] == 8
    assert found["records lost"] == 0


def test_a_full_disk_is_named_and_loses_nothing(tmp_path: Path, expected: dict[str, Any]) -> None:
    assert sweeps.full_disk(tmp_path, expected)["records lost"] == 0


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    assert sweeps.read_only(tmp_path) == {"clear errors": 1}


def test_no_damaged_record_is_believed(tmp_path: Path, undisturbed: Path) -> None:
    found = sweeps.damaged_records(tmp_path, next(undisturbed.rglob("*.json")), step=4)
    assert found["records tried"] > 1_000
    assert found["wrong records believed"] == 0


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    found = sweeps.writers(tmp_path, count=20)
    assert found == {"processes": 8, "records": 20, "records lost": 0}


def test_clocks_may_go_backwards(tmp_path: Path, expected: dict[str, Any]) -> None:
    assert sweeps.backward_clock(tmp_path, expected) == {"records": 6, "records lost": 0}


def test_nan_is_named_and_never_kept(tmp_path: Path) -> None:
    assert sweeps.nan_injection(tmp_path) == {"trials": 3, "named errors": 3, "records kept": 0}


def test_damaged_inputs_are_refused_or_read_as_they_were(tmp_path: Path) -> None:
    found = inputs.fuzz(tmp_path, 1_400, seed=7)
    assert found["refused"] > 1_000
    assert found["wrong data believed"] == found["other errors"] == 0
