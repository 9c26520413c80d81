"""The scoreboard: rows from committed records, and the README that shows them."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hybrid import paths
from hybrid.experiments.core import dry_run, experiment
from hybrid.experiments.core.experiment import BEST, PROFILES
from hybrid.experiments.registry import EXPERIMENTS
from hybrid.experiments.scoreboard import departures
from hybrid.experiments.scoreboard import figure as picture
from hybrid.experiments.scoreboard import rows as board
from hybrid.paths import project_root, results_folder
from hybrid.report.scoreboard import (
    BEGIN,
    END,
    Computation,
    as_markdown,
    as_summary,
    between_markers,
    judge,
    load_claims,
    load_unavailable,
)
from hybrid.runs.files import DamagedFileError, read_sealed
from hybrid.runs.store import Store, read_record

ROOT = project_root()


@pytest.fixture
def fresh() -> Iterator[None]:
    """Forget what was read from records, before and afterwards."""
    caches = (board.measured, board.committed)
    for function in caches:
        function.cache_clear()
    yield
    for function in caches:
        function.cache_clear()


def test_every_claim_has_a_row_from_an_experiment_that_exists() -> None:
    rows = board.rows()
    assert [row.claim for row in rows] == list(load_claims())
    for row in rows:
        assert row.claim.id.split("/")[0] in EXPERIMENTS
        known = row.estimate is not None
        assert (row.profile is not None, bool(row.seeds), row.minutes is not None) == (known,) * 3
        if row.estimate is not None:
            assert len(row.seeds) == row.estimate.n
            assert row.reason != "no record"
        else:
            assert row.verdict.startswith("not run")
    assert any(row.verdict == "reproduced" for row in rows)
    assert any(row.verdict == "not reproduced" for row in rows)


def test_a_claim_is_judged_by_the_networks_that_it_is_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Records at paper scale are of other constants: they never speak for the laptop's."""
    name = "fault_tolerance/fashion_mnist/clean/GP"
    (before,) = [row for row in board.rows() if row.claim.id == name]
    assert before.estimate is not None
    values = {"laptop": board.measured("fault_tolerance", "laptop")}
    values["paper"] = {name: np.full(10, 99.0)}

    def measured(experiment: str, profile: str) -> dict[str, np.ndarray]:
        return values.get(profile, {}) if experiment == "fault_tolerance" else {}

    monkeypatch.setattr(board, "measured", measured)
    (after,) = [row for row in board.rows() if row.claim.id == name]
    assert (after.profile, after.estimate) == ("laptop", before.estimate)


@pytest.mark.usefixtures("fresh")
def test_a_run_that_has_just_begun_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One record at paper scale, with which nothing can be compared yet, and a damaged one."""
    one = next((ROOT / "data/results/laptop/fault_tolerance").glob("fashion_mnist-LP-*.json"))
    for module in (experiment, dry_run):
        monkeypatch.setattr(module, "results_folder", lambda profile: tmp_path / profile)
    trials = EXPERIMENTS["fault_tolerance"].trials(
        "paper", methods=["LP"], labels=["fashion_mnist"]
    )
    request, record, store = trials[0].request("hash"), read_record(one), Store(tmp_path / "paper")
    store.save(request, record["result"], record["about"])
    assert len(board.committed("fault_tolerance", "paper").records) == 1
    assert all(row.verdict.startswith("not run") for row in board.rows())
    path = store.path(request)
    path.write_bytes(path.read_bytes() + b"x")
    board.committed.cache_clear()
    planned = dry_run.planned(EXPERIMENTS["fault_tolerance"].trials("smoke"), Store(tmp_path))
    assert not any(trial.finished for trial in planned)


def test_the_pages_show_what_the_records_say() -> None:
    """`hybrid scoreboard --write` puts it there: each verdict once in the counts of README."""
    readme = (ROOT / "README.md").read_text("utf-8")
    counts = as_summary(board.rows())
    assert between_markers(readme, counts) == readme
    every = counts.splitlines()[-1]
    judged = [r for r in board.rows() if r.estimate is not None or r.claim.confidence != "ours"]
    assert sum(map(int, re.findall(r"\d+", every))) == len(judged)
    text = (ROOT / "docs" / "scoreboard.md").read_text("utf-8")
    table = as_markdown(board.rows(), load_unavailable())
    assert between_markers(text, table) == text
    shown = [r for r in board.rows() if r.estimate is not None or r.claim.confidence != "ours"]
    assert table.count("\n| ") == len(shown) + 4  # two heads and their rules
    assert f"{len(load_claims()) - len(shown)} more are planned" in table
    for entry in load_unavailable():
        assert entry.text in text


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("name", ["fault_tolerance", "continual"])
def test_a_record_that_was_edited_by_hand_is_not_believed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ROOT / "data" / "results" / "laptop" / name
    copy = tmp_path / "data" / "results" / "laptop" / name
    shutil.copytree(source, copy)
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)
    path = min(copy.glob("*-HP-*.json"))
    record = json.loads(path.read_text("utf-8"))
    record["result"]["epochs"][0]["validation"] = 0.999
    path.write_text(json.dumps(record))
    with pytest.raises(DamagedFileError, match="its checksum does not match"):
        board.rows()


@pytest.mark.usefixtures("fresh")
def test_without_records_nothing_was_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)
    assert {row.verdict for row in board.rows()} == {"not run", "not run at paper scale"}


def test_text_without_markers_is_refused() -> None:
    assert between_markers(f"a\n{BEGIN}\nold\n{END}\nb", "new") == f"a\n{BEGIN}\nnew\n{END}\nb"
    for text in ("nothing", f"{END} {BEGIN}", f"{BEGIN} {BEGIN} {END}"):
        with pytest.raises(ValueError, match="needs one line"):
            between_markers(text, "new")


def test_the_picture_shows_claims_times_and_speed() -> None:
    bench = read_sealed(ROOT / "data" / "bench.json")
    figure = picture.draw(board.rows(), bench)
    ours = picture.draw_comparisons(board.rows()).axes
    known = [r for r in board.rows() if r.claim.confidence == "ours" and r.estimate is not None]
    assert sum(len(axes.get_yticklabels()) for axes in ours) == len(known)
    assert len(figure.axes) == 5
    assert all(axes.has_data() for axes in figure.axes)
    ratios = picture.speed_ups(bench)
    assert ratios["784-512-10, T=10: HP"] > 10.0
    assert all("materialised" not in name and "plain" not in name for name in ratios)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_trials_in_every_profile_and_a_notebook(name: str) -> None:
    entry = EXPERIMENTS[name]
    assert (ROOT / "notebooks" / f"{entry.notebook}.ipynb").exists()
    for profile in PROFILES:
        trials = entry.trials(profile)
        assert {trial.experiment.name for trial in trials} == {name}
        assert len({trial.name for trial in trials}) == len(trials)
        some = entry.trials(profile, seeds=1)
        assert {trial.seed for trial in some} == {g.first_seed for g in entry.plans[profile]}
        more = entry.trials(profile, seeds=20)
        assert len({trial.seed for trial in more}) == 20, "as many as asked for, planned or not"
    with pytest.raises(ValueError, match="seeds = 0"):
        entry.trials("smoke", seeds=0)


def test_a_dry_run_says_what_is_finished_and_how_long_the_rest_takes(tmp_path: Path) -> None:
    trials = EXPERIMENTS["fault_tolerance"].trials("smoke", seeds=1)
    store = Store(tmp_path)
    found = dry_run.planned(trials, store)
    assert [trial.finished for trial in found] == [False] * 3
    request = trials[0].request()
    store.save(request, {"epochs": []}, {"seconds": 1.0})
    found = dry_run.planned(trials, store)
    assert [trial.finished for trial in found] == [True, False, False]
    known = dry_run.Planned("known", False, 90.0), dry_run.Planned("long", False, 300.0)
    text = dry_run.as_text([found[0], *known], jobs=2)
    assert "finished" in text
    assert "known" in text
    assert "90 min" in text
    assert "5.0 h" in text
    assert text.endswith("3 trials, 2 to run, about 5.0 h with 2 processes")
    assert dry_run.as_text([found[0], *known], jobs=1).endswith("about 6.5 h with 1 processes")
    with pytest.raises(ValueError, match="jobs = 0"):
        dry_run.as_text(found, jobs=0)
    assert "unknown length" in dry_run.as_text(found, jobs=2)


def test_departures_are_what_settings_say() -> None:
    found = departures.departures()
    named = {(d.experiment, d.label, d.name): (d.ours, d.authors) for d in found}
    assert named["few_shot", "omniglot", "label_current"] == (100.0, 10.0)
    assert named["fault_tolerance", "mnist", "neuron.v_th"] == (0.35, 0.4)
    assert named["continual", "mnist", "lr_gated"] == (0.004, 0.0005)
    simple = [d for d in found if (d.experiment, d.profile) == ("fault_tolerance", "laptop")]
    assert [d.name for d in simple if d.label == "fashion_mnist"] == ["faults"], "else as theirs"
    assert all(d.ours != d.authors for d in found)
    table = departures.as_markdown(found)
    assert table.count("\n") == len(found) + 1
    assert "| gaussian 0 to 0.06 (7 levels) |" in table


def test_a_page_shows_its_claims_and_its_comparisons_as_the_whole_scoreboard_does() -> None:
    continual = EXPERIMENTS["continual"]
    every = [row for row in board.rows() if row.claim.id.startswith("continual/")]
    assert board.rows("continual") == every
    for ours in (False, True):
        shown = [row for row in every if (row.claim.confidence == "ours") == ours]
        text = continual.scoreboard(ours=ours)
        assert text.count("\n") == len(shown)
        assert all(row.claim.text in text for row in shown)
        assert all(str(row.estimate or "-") in text for row in shown)


def test_a_card_has_a_row_for_each_claim_with_its_interval() -> None:
    card = EXPERIMENTS["fault_tolerance"].card(
        "fashion_mnist/clean/HP", "fashion_mnist/crop/HP-GP", "fashion_mnist/clean/HP-GP"
    )
    head, _, *lines = card.splitlines()
    assert head == "| claim | paper | ours [95 % interval] (seeds) | verdict |"
    assert re.search(r"\| 88\.3 % \| 88\.3 \[8\d\.\d, 8\d\.\d\] \(5\) % \| \*\*\w+", lines[0])
    assert "| - |" in lines[1], "the paper shows it without a number"
    assert len(lines) == 3
    with pytest.raises(ValueError, match="claim 'clean' is unknown"):
        EXPERIMENTS["fault_tolerance"].card("clean")


def test_the_best_records_are_the_papers_if_they_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of them would be set beside figures of whole plans, so they wait."""
    entry = EXPERIMENTS["few_shot"]
    assert entry.load(BEST).profile == "laptop"
    (group,) = entry.plans["laptop"][:1]
    small = replace(group, seeds=2, methods=("GP", "HP"))
    monkeypatch.setitem(entry.plans, "paper", (small,))  # type: ignore[index]
    copied = tmp_path / "few_shot"
    shutil.copytree(results_folder("laptop") / "few_shot", copied)
    assert entry.load(BEST, folder=tmp_path).profile == "paper"
    next(copied.glob("*HP-seed2-*.json")).unlink()
    assert entry.load(BEST, folder=tmp_path).profile == "laptop"


def test_rows_at_the_papers_scale_say_how_they_were_computed() -> None:
    """Who trained, in which precision, and what choosing an epoch by test data would gain."""
    (claim,) = [c for c in load_claims() if c.id == "classification/mnist-convolutional/HP"]
    settings = {"schedule": {"mixed_precision": True}}
    legs = [{"machine": "NVIDIA H200", "seconds": 500.0}]
    records = [
        {
            "request": {"method": {"name": "HP"}, "settings": settings, "seed": seed},
            "result": {"epochs": [{"test": 0.99}, {"test": 0.992 + seed / 1000}, {"test": 0.991}]},
            "about": {"cpu": "a processor", "seconds": 600.0, "legs": legs if seed else []},
        }
        for seed in range(2)
    ]
    how = board._computation(records, claim)
    assert how == Computation(
        "NVIDIA H200, a processor", "bfloat16 and float32", pytest.approx(99.25)
    )
    judged = judge(claim, np.array([99.1, 99.1]))
    row = replace(judged, profile="paper", seeds=(1, 2), minutes=10.0)
    text = as_markdown([replace(row, computation=how)], [])
    assert "| NVIDIA H200, a processor | bfloat16 and float32 | 10 | 99.1" in text
    assert "| 99.25 % |" in text
    assert "at the paper's scale" not in as_markdown([row], [])
    del records[0]["result"]["epochs"][0]["test"]
    assert board._computation(records, claim).best is None
    difference = replace(claim, id="continual/mnist-authors/HP-sparse GP")
    both = [
        {**record, "request": {**record["request"], "method": {"name": name}}}
        for record, name in zip(records[1:] * 2, ("HP", "sparse GP"), strict=True)
    ]
    assert board._computation(both, difference).best == 0.0
