"""The campaign of faults in small; `make faults` runs all of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hybrid.paths import project_root
from hybrid.runs.files import read_sealed
from tests.faults import campaign, trees
from tests.faults.tally import Tally


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """Sweeps in this process set the number of threads: the next test has its own."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", campaign.QUICK)
def test_attacks_are_survived(name: str, tmp_path: Path) -> None:
    tally = campaign.run(name, tmp_path, quick=True)
    assert tally.bad == []
    assert tally.tried > 0 or name == "power cut, ext4", "which needs the right to mount"


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGKILL", "SIGHUP"])
def test_nobody_outlives_the_parent_of_a_run(signal: str, tmp_path: Path) -> None:
    tally = Tally()
    trees.of_runs(tmp_path, signal, tally)
    assert tally.bad == []


def test_an_attack_that_is_not_survived_is_counted() -> None:
    tally = Tally()
    tally.ask("sound", lambda: "it", lambda found: found == "it")
    tally.ask("none to be trusted", lambda: None, lambda found: False)
    tally.ask("named", lambda: int("x"), lambda found: False)
    tally.ask("other", lambda: "that", lambda found: found == "it")
    tally.ask("raw", lambda: {}["x"], lambda found: False)
    tally.add("lost", lost=["a record"], orphans=2)
    assert tally.figures() == {
        "survived": 3,
        "tried": 6,
        "wrong": 1,
        "lost": 1,
        "orphans": 2,
        "raw": 1,
    }
    assert len(tally.bad) == 3


def test_the_page_on_faults_says_what_the_campaign_found() -> None:
    record = read_sealed(project_root() / "data" / "results" / "faults.json")
    assert set(record["kinds"]) == set(campaign.KINDS), "run `make faults`"
    page = (project_root() / "docs" / "faults.md").read_text("utf-8")
    assert campaign.as_table(record) in page, "run `make faults`"
    found = record["kinds"]
    for figures in found.values():
        assert figures["survived"] == figures["tried"] > 0
        assert not any(figures[name] for name in ("wrong", "lost", "orphans", "raw"))
    inner = sum(found[name]["tried"] for name in campaign.INNER)
    assert inner >= 10_000
    assert sum(figures["tried"] for figures in found.values()) - inner >= 400
