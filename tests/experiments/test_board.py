"""The scoreboard: rows from committed records, and the README that shows them."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hybrid.experiments import base, board, board_figure, estimate, fault_tolerance, trials
from hybrid.experiments.base import PROFILES, project_root
from hybrid.experiments.registry import EXPERIMENTS
from hybrid.report.scoreboard import (
    BEGIN,
    END,
    as_markdown,
    between_markers,
    load_claims,
    load_unavailable,
)
from hybrid.runs.files import DamagedFileError
from hybrid.runs.store import Store

ROOT = project_root()


@pytest.fixture
def fresh() -> Iterator[None]:
    """Forget what was read from records, before and afterwards."""
    caches = (board._measured, board.records_of)
    for function in caches:
        function.cache_clear()
    yield
    for function in caches:
        function.cache_clear()


def test_every_claim_has_a_row_from_an_experiment_that_exists() -> None:
    rows = board.rows()
    assert [row.line.claim for row in rows] == list(load_claims())
    for row in rows:
        assert row.line.claim.id.split("/")[0] in EXPERIMENTS
        known = row.line.estimate is not None
        assert (row.profile is not None, bool(row.seeds), row.minutes is not None) == (known,) * 3
        if row.line.estimate is not None:
            assert len(row.seeds) == row.line.estimate.n
            assert row.line.reason != "no record"
        else:
            assert row.line.verdict.startswith("not run")
    assert any(row.line.verdict == "reproduced" for row in rows)
    assert any(row.line.verdict == "not reproduced" for row in rows)


def test_the_paper_profile_speaks_once_it_has_enough_seeds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claim = next(c for c in load_claims() if c.id == "fault_tolerance/fashion_mnist/clean/GP")
    laptop = board._row(claim)
    records = board.records_of("fault_tolerance", "laptop")
    found = {"laptop": np.full(5, 88.0), "paper": np.full(claim.minimum - 1, 99.0)}
    monkeypatch.setattr(board, "_measured", lambda _, profile: {claim.id: found[profile]})
    monkeypatch.setattr(board, "records_of", lambda *_: records)
    few = board._row(claim)
    assert (few.profile, few.line.verdict, few.seeds) == ("laptop", "reproduced", laptop.seeds)
    found["paper"] = np.full(claim.minimum, 99.0)
    enough = board._row(claim)
    assert (enough.profile, enough.line.verdict) == ("paper", "not reproduced")


@pytest.mark.usefixtures("fresh")
def test_a_run_that_has_just_begun_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One record at paper scale, with which nothing can be compared yet, and a damaged one."""
    one = next((ROOT / "data/results/laptop/fault_tolerance").glob("fashion_mnist-LP-*.json"))
    for module in (base, board):
        monkeypatch.setattr(module, "results_folder", lambda profile: tmp_path / profile)
    for experiment in (fault_tolerance, trials):
        monkeypatch.setattr(experiment, "results_folder", lambda profile: tmp_path / profile)
    folder = tmp_path / "paper" / "fault_tolerance"
    folder.mkdir(parents=True)
    shutil.copy(one, folder)
    assert all(row.line.verdict.startswith("not run") for row in board.rows())
    (folder / one.name).write_bytes(one.read_bytes() + b"x")
    board.records_of.cache_clear()
    planned = estimate.planned(EXPERIMENTS["fault_tolerance"].trials("smoke"), Store(tmp_path))
    assert not any(trial.finished for trial in planned)


def test_the_readme_shows_what_the_records_say() -> None:
    """`hybrid scoreboard --write` puts it there."""
    text = (ROOT / "README.md").read_text("utf-8")
    table = as_markdown(board.rows(), load_unavailable())
    assert between_markers(text, table) == text
    assert table.count("\n| ") == len(load_claims()) + 2
    for entry in load_unavailable():
        assert entry.text in text


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("experiment", ["fault_tolerance", "continual"])
def test_a_record_that_was_edited_by_hand_is_not_believed(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ROOT / "data" / "results" / "laptop" / experiment
    copy = tmp_path / "data" / "results" / "laptop" / experiment
    shutil.copytree(source, copy)
    monkeypatch.setattr(base, "project_root", lambda: tmp_path)
    path = min(copy.glob("*-HP-*.json"))
    record = json.loads(path.read_text("utf-8"))
    record["result"]["epochs"][0]["validation"] = 0.999
    path.write_text(json.dumps(record))
    with pytest.raises(DamagedFileError, match="its checksum does not match"):
        board.rows()


@pytest.mark.usefixtures("fresh")
def test_without_records_nothing_was_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "project_root", lambda: tmp_path)
    assert {row.line.verdict for row in board.rows()} == {"not run", "not run at paper scale"}


def test_text_without_markers_is_refused() -> None:
    assert between_markers(f"a\n{BEGIN}\nold\n{END}\nb", "new") == f"a\n{BEGIN}\nnew\n{END}\nb"
    for text in ("nothing", f"{END} {BEGIN}", f"{BEGIN} {BEGIN} {END}"):
        with pytest.raises(ValueError, match="needs one line"):
            between_markers(text, "new")


def test_the_picture_shows_claims_times_and_speed() -> None:
    bench = json.loads((ROOT / "data" / "bench.json").read_text("utf-8"))
    figure = board_figure.draw(board.rows(), bench)
    assert len(figure.axes) == 5
    assert all(axes.has_data() for axes in figure.axes)
    ratios = board_figure.speed_ups(bench)
    assert ratios["784-512-10, T=10: HP"] > 10.0
    assert all("materialised" not in name and "plain" not in name for name in ratios)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_trials_in_every_profile_and_a_notebook(name: str) -> None:
    entry = EXPERIMENTS[name]
    assert (ROOT / "notebooks" / f"{entry.notebook}.ipynb").exists()
    for profile in PROFILES:
        trials = entry.trials(profile)
        assert {trial.experiment.name for trial in trials} == {name}
        assert len({trial.title for trial in trials}) == len(trials)
        some = entry.trials(profile, seeds=1)
        assert {trial.seed for trial in some} == {1}
    with pytest.raises(ValueError, match="seeds = 0"):
        entry.trials("smoke", seeds=0)


def test_a_dry_run_says_what_is_finished_and_how_long_the_rest_takes(tmp_path: Path) -> None:
    trials = EXPERIMENTS["fault_tolerance"].trials("smoke", seeds=1)
    store = Store(tmp_path)
    found = estimate.planned(trials, store)
    assert [trial.finished for trial in found] == [False] * 3
    request = trials[0].request(trials[0].experiment.data_sha256("digits"))
    store.save(request, {"epochs": []}, {"seconds": 1.0})
    found = estimate.planned(trials, store)
    assert [trial.finished for trial in found] == [True, False, False]
    known = estimate.Planned("known", False, 90.0), estimate.Planned("long", False, 300.0)
    text = estimate.as_text([found[0], *known], jobs=2)
    assert "finished" in text
    assert "known" in text
    assert "90 min" in text
    assert "5.0 h" in text
    assert text.endswith("3 trials, 2 to run, about 5.0 h with 2 processes")
    assert estimate.as_text([found[0], *known], jobs=1).endswith("about 6.5 h with 1 processes")
    with pytest.raises(ValueError, match="jobs = 0"):
        estimate.as_text(found, jobs=0)
    assert "unknown length" in estimate.as_text(found, jobs=2)
