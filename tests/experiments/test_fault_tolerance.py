"""The fault-tolerance experiment end to end, small: records, resume after a kill, results."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hybrid import cli
from hybrid.experiments import fault_tolerance as experiment
from hybrid.experiments.base import GP, HP, LP, choose_device, results_folder
from hybrid.experiments.fault_results import collect, crossing, measure
from hybrid.experiments.image_trials import images_of
from hybrid.experiments.trials import Trial, load_network
from hybrid.learning.evaluation import evaluate
from hybrid.report.scoreboard import judge, load_claims
from hybrid.runs.store import Store, read_record

TINY = replace(
    experiment.PLANS["smoke"].configs[0],
    hidden=16,
    epochs=2,
    faults=(("gaussian", (0.0, 0.06)), ("crop", (0.0, 4.0, 9.0))),
)
CPU = torch.device("cpu")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> experiment.Plan:
    """A smoke profile that takes a second."""
    plan = experiment.Plan(configs=(TINY,), methods=("LP", "GP", "HP", "HP-sample"), seeds=2)
    monkeypatch.setitem(experiment.PLANS, "smoke", plan)
    return plan


def test_run_gives_named_axes(tiny: experiment.Plan) -> None:
    (result,) = experiment.run("smoke", seed=3)
    assert result.methods == tiny.methods
    assert result.seeds("HP") == (4, 5)
    assert result.accuracy("HP", "stream", "crop").shape == (2, 3)
    assert result.rates("GP", "frozen", "gaussian").shape == (2, 2, 2)
    assert result.confusion("LP", "batch", "gaussian").sum() == 2 * 2 * 500
    assert result.learning("GP").shape == (2, 2)
    assert result.protocols("GP") == ("frozen",)
    assert result.protocols("HP-sample") == ("sample",)
    clean = result.accuracy("GP", "frozen", "gaussian")[:, 0]
    np.testing.assert_array_equal(clean, result.accuracy("GP", "frozen", "crop")[:, 0])
    assert clean.min() > 30.0, "ten classes: far above chance"
    assert np.abs(result.accuracy("GP", "frozen", "crop")[:, -1]).max() < clean.min()
    with pytest.raises(KeyError, match="no finished trial of EWC on digits"):
        result.seeds("EWC")


def test_noise_is_shared_by_methods_and_fresh_for_each_seed() -> None:
    images = images_of("digits")
    one, two = (experiment.test_sets(images, TINY, seed) for seed in (1, 2))
    assert torch.equal(one, experiment.test_sets(images, TINY, 1))
    assert torch.equal(one[0], two[0]), "level 0 is the clean test set"
    assert not torch.equal(one[1], two[1])
    assert torch.equal(one[3], two[3]), "crops know no chance"


def test_methods_of_one_seed_start_from_the_same_weights() -> None:
    networks = [experiment.build(TINY, method, 1) for method in experiment.METHODS]
    names = [f"layers.{i}.{kind}" for i in range(2) for kind in ("weight", "bias")]
    for name in names:
        first, *others = [network.get_parameter(name) for network in networks]
        assert all(torch.equal(first, other) for other in others)
        assert not torch.equal(first, experiment.build(TINY, GP, 2).get_parameter(name))


def test_records_are_kept_reused_and_repaired(tiny: experiment.Plan, tmp_path: Path) -> None:
    store = Store(tmp_path)
    (first,) = experiment.run("smoke", methods=["GP"], store=store)
    paths = sorted(tmp_path.glob("*/*.json"))
    assert len(paths) == 2
    stamps = [path.stat().st_mtime_ns for path in paths]
    (second,) = experiment.run("smoke", methods=["GP"], store=store)
    assert second == first
    assert [path.stat().st_mtime_ns for path in paths] == stamps
    paths[0].write_text(paths[0].read_text()[:-20])
    (third,) = experiment.run("smoke", methods=["GP"], store=store)
    assert [r["result"] for r in third.records] == [r["result"] for r in first.records]
    assert read_record(paths[0])["result"] == first.records[0]["result"]
    with pytest.raises(FileNotFoundError, match="no finished LP, GP and HP"):
        experiment.load("smoke", folder=tmp_path)
    experiment.run("smoke", seed=50, store=store)
    experiment.run("smoke", methods=["LP", "HP"], store=store)
    (loaded,) = experiment.load("smoke", folder=tmp_path)
    assert loaded.methods == ("LP", "GP", "HP"), "seeds beyond the plan's do not count"
    assert loaded.seeds("LP") == (1, 2)


def test_trained_networks_are_kept_beside_their_records(
    tiny: experiment.Plan, tmp_path: Path
) -> None:
    """The kept network gives the confusions of its record again."""
    store = Store(tmp_path)
    (result,) = experiment.run("smoke", methods=["HP"], store=store)
    trial = Trial(experiment.EXPERIMENT, TINY, HP, 1)
    network = load_network(trial, store)
    images = images_of("digits")
    labels = torch.from_numpy(images.test_labels)
    sets = experiment.test_sets(images, TINY, 1)[:2]
    outcome = evaluate(network, sets, labels, "frozen", TINY.batch_size)
    expected = result.confusion("HP", "frozen", "gaussian")[0]
    # A potential within rounding of the threshold may flip a sample with more threads.
    assert np.abs(outcome.confusion.numpy() - expected).sum() <= 4
    with pytest.raises(FileNotFoundError, match="run the trial in this store first"):
        load_network(replace(trial, seed=9), store)


CHILD = """
import sys
from dataclasses import replace
from pathlib import Path
from hybrid.experiments import fault_tolerance as experiment
from hybrid.experiments.base import HP
from hybrid.experiments.trials import Task, Trial, run_task
from hybrid.runs.fanout import fan_out
from hybrid.runs.store import Store

config = replace(experiment.PLANS["smoke"].configs[0], hidden=32, epochs=12)
task = Task(
    Trial(experiment.EXPERIMENT, config, HP, 1),
    Store(Path(sys.argv[1])),
    experiment.choose_device("cpu"),
)
list(fan_out(run_task, [task], jobs=1, title="child"))
"""


def run_child(folder: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stderr=subprocess.DEVNULL)


def test_a_killed_trial_ends_in_the_same_record(tmp_path: Path) -> None:
    """Kill -9 twice, each time after a new epoch; timing fields apart, nothing changes."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run_child(whole).wait() == 0

    def saved() -> list[int]:
        return [path.stat().st_mtime_ns for path in killed.glob("*/*.checkpoint.safetensors")]

    for _ in range(2):
        before, child = saved(), run_child(killed)
        while child.poll() is None and saved() == before:
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert saved() != before
    assert not list(killed.glob("*/*.json")), "it was killed before it finished"
    assert run_child(killed).wait() == 0
    (a,), (b,) = (sorted(folder.glob("*/*.json")) for folder in (whole, killed))
    a, b = json.loads(a.read_text()), json.loads(b.read_text())
    assert a["request"] == b["request"]
    assert a["result"] == b["result"]
    assert not list(killed.glob("*/*.checkpoint.safetensors"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "svhn"}, "Config.dataset = 'svhn': it must be one of digits, mnist"),
        ({"hidden": 0}, "Config.hidden = 0: it must be >= 1"),
        ({"steps": -1}, "Config.steps = -1"),
        ({"faults": (("blur", (1.0,)),)}, "Config.faults = .*blur.* it must be pairs of"),
        ({"faults": (("crop", (-1.0,)),)}, "crop level -1.0"),
        ({"faults": (("crop", (2.5,)),)}, "crop level 2.5"),
        ({"faults": (("salt", (1.5,)),)}, "salt level 1.5"),
        ({"faults": ()}, "it must be at least one fault"),
        ({"tau": 0.0}, "Config.tau = 0.0: it must be > 0"),
        ({"decay": 2.0}, r"Config.decay = 2.0: it must be in \[0, 1\]"),
    ],
)
def test_impossible_configs_are_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"profile": "huge"}, "'huge' is unknown: choose one of smoke, laptop, paper"),
        ({"profile": "smoke", "methods": ["EWC"]}, "'EWC' is unknown: choose among LP, GP, HP"),
        ({"profile": "smoke", "methods": []}, "choose at least one, each once"),
        ({"profile": "smoke", "methods": ["HP", "HP"]}, "choose at least one, each once"),
        ({"profile": "smoke", "configs": []}, "configs is empty"),
        ({"profile": "smoke", "configs": ["mnist"]}, "'mnist' is unknown: choose among digits"),
        ({"profile": "smoke", "device": "warp"}, "device 'warp' cannot be used here"),
    ],
)
def test_unknown_names_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        experiment.run(**arguments)
    assert choose_device("cpu") == CPU


def test_missing_records_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="hybrid run fault_tolerance --profile laptop"):
        experiment.load("laptop", folder=tmp_path)


def test_committed_records_are_whole_and_match_the_plan() -> None:
    results = experiment.load("laptop")
    assert results[0].dataset == "fashion_mnist"
    for result in results:
        assert {"LP", "GP", "HP"} <= set(result.methods)
        for fault, levels in result.config["faults"]:
            assert result.accuracy("HP", "stream", fault).shape[1] == len(levels)
        assert len({record["request"]["data"] for record in result.records}) == 1


def made_up(accuracies: dict[str, list[float]]) -> list[dict]:
    """Records of one seed whose accuracy per cent at each level is given per method."""

    def confusion(percent: float) -> list[list[int]]:
        return [[round(percent), 100 - round(percent)], [0, 0]]

    config = TINY.as_json() | {"dataset": "fashion_mnist"}
    records = []
    for method in (LP, GP, HP):
        gaussian = {"confusion": [confusion(a) for a in accuracies[method.name]], "rates": []}
        crop = {"confusion": [confusion(50 + 10 * (method is HP)) for _ in range(3)], "rates": []}
        tests = {method.protocols[0]: {"gaussian": gaussian, "crop": crop}}
        request = {"config": config, "method": method.request(), "seed": 1, "data": "d"}
        records.append({"request": request, "result": {"tests": tests}})
    return records


def test_measures_follow_from_the_records() -> None:
    records = made_up({"LP": [70, 68], "GP": [88, 60], "HP": [88, 72]})
    result = collect(records[0]["request"]["config"], records, (LP, GP, HP))
    values = {
        name.removeprefix("fault_tolerance/fashion_mnist/"): v[0]
        for name, v in measure(result).items()
    }
    assert values["clean/GP"] == 88
    assert values["clean/HP-GP"] == 0
    assert values["gaussian-0.06/HP-GP"] == 12
    assert values["gaussian-0.06/LP-GP"] == 8
    assert values["gaussian/gap-growth"] == 1.0
    assert values["gaussian/LP-crosses-GP"] == pytest.approx(0.06 * 18 / 26)
    assert values["crop/HP-GP"] == 10
    assert measure(collect(result.config, records[:1], (LP,))) == {}


def test_records_that_contradict_each_other_are_refused() -> None:
    records = made_up({"LP": [70, 68], "GP": [88, 60], "HP": [88, 72]})
    config = records[0]["request"]["config"]
    with pytest.raises(ValueError, match=r"several records of \[\('HP', 1\)\] for fashion_mnist"):
        collect(config, [*records, records[-1]], (LP, GP, HP))
    other = {**records[2], "request": {**records[2]["request"], "data": "other"}}
    with pytest.raises(ValueError, match="records of different data"):
        collect(config, [*records[:2], other], (LP, GP, HP))
    another = {**records[2], "request": {**records[2]["request"], "seed": 2}}
    mixed = collect(config, [*records, another], (LP, GP, HP))
    assert mixed.seeds("HP") == (1, 2)
    assert mixed.gap("gaussian").shape == (1, 2), "only seeds that both methods finished"


def test_every_claim_can_be_measured() -> None:
    records = made_up({"LP": [70, 68], "GP": [88, 60], "HP": [88, 72]})
    result = collect(records[0]["request"]["config"], records, (LP, GP, HP))
    names = {name.removeprefix("fault_tolerance/fashion_mnist/") for name in measure(result)}
    ids = [claim.id.split("/", 2) for claim in load_claims()]
    assert {name for experiment, _, name in ids if experiment == "fault_tolerance"} <= names


def test_crossing() -> None:
    levels = np.array([0.0, 1.0, 2.0])
    assert crossing(levels, np.array([-1.0, 1.0, 2.0])) == 0.5
    assert crossing(levels, np.array([1.0, 1.0, 2.0])) == 0.0
    never = crossing(levels, np.array([-3.0, -2.0, -1.0]))
    assert np.isnan(never)
    (claim,) = [c for c in load_claims() if c.id.endswith("LP-crosses-GP")]
    assert judge(claim, np.array([0.03, 0.03, 0.04, 0.04, never])).verdict == "not reproduced"


def test_command_line(tiny: experiment.Plan, tmp_path: Path) -> None:
    runner = CliRunner()
    arguments = ["run", "fault_tolerance", "--method", "GP", "--jobs", "1"]
    done = runner.invoke(cli.app, [*arguments, "--store", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert f"records are in {tmp_path}" in done.output
    assert len(list(tmp_path.glob("*/*.json"))) == 2
    for wrong, message in (
        (["run", "levitation"], "is unknown"),
        (["run", "fault_tolerance", "--profile", "huge"], "'huge' is unknown"),
        (["notebooks", "--profile", "huge"], "is unknown"),
    ):
        failed = runner.invoke(cli.app, wrong)
        assert failed.exit_code != 0
        assert message in failed.output.replace("\n", " ")
    assert results_folder("laptop").parts[-3:] == ("data", "results", "laptop")
