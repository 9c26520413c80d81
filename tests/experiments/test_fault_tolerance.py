"""The fault-tolerance experiment end to end, small: records, resume after a kill, claims."""

import json
import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hybrid import cli
from hybrid.experiments.core.experiment import Group
from hybrid.experiments.core.methods import GP, HP, LP
from hybrid.experiments.core.records import Records, gap, levels, samples, select
from hybrid.experiments.core.samples import images_of
from hybrid.experiments.core.trials import Trial, choose_device, load_network, run_all
from hybrid.experiments.fault_tolerance import EXPERIMENT, METHODS, PLANS
from hybrid.experiments.fault_tolerance.claims import crossing
from hybrid.experiments.fault_tolerance.figure import draw, draw_details
from hybrid.experiments.fault_tolerance.plans import SMOKE
from hybrid.experiments.fault_tolerance.run import faulty_images
from hybrid.experiments.fault_tolerance.settings import FaultSettings
from hybrid.learning.evaluation import evaluate
from hybrid.model.coding import Poisson
from hybrid.model.convolutional import Convolution, Dense
from hybrid.model.neurons import LIF
from hybrid.paths import results_folder
from hybrid.report.scoreboard import judge, load_claims
from hybrid.runs.store import Json, Store, read_record
from tests.experiments.digits import TEST, few_digits


def dense(hidden: int) -> tuple[Dense, ...]:
    return Dense(size=hidden, plastic=True), Dense(size=10, plastic=True)


TINY = replace(
    SMOKE,
    dense=dense(16),
    schedule=replace(SMOKE.schedule, epochs=3, lr_weight=2e-3),
    faults=(("gaussian", (0.0, 0.06)), ("crop", (0.0, 4.0, 9.0))),
    corrections=(),
)
CPU = torch.device("cpu")


def plan_of(seeds: int) -> tuple[Group[FaultSettings], ...]:
    return (Group(settings=(TINY,), methods=("LP", "GP", "HP", "HP-sample"), seeds=seeds),)


@pytest.fixture(scope="module", autouse=True)
def _tiny() -> Iterator[None]:
    """A smoke profile that takes seconds."""
    with few_digits(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(PLANS, "smoke", plan_of(seeds=2))
        yield


@pytest.fixture(scope="module")
def kept(_tiny: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Records[Any, Any]]:
    """The store of a whole run, to be read alone, and what the run returned."""
    folder = tmp_path_factory.mktemp("store")
    return folder, EXPERIMENT.run("smoke", store=Store(folder))


@pytest.fixture
def own_store(kept: tuple[Path, Records[Any, Any]], tmp_path: Path) -> Path:
    """A copy of that store."""
    return shutil.copytree(kept[0], tmp_path / "store", copy_function=shutil.copy2)


def test_run_gives_named_axes(kept: tuple[Path, Records[Any, Any]]) -> None:
    records = kept[1]
    frame = records.frame
    assert records.labels == ("digits",)
    assert records.methods("digits") == ("LP", "GP", "HP", "HP-sample")
    assert records.seeds("digits", "HP") == (1, 2)
    assert {t.seed for t in EXPERIMENT.trials("smoke", seed=3)} == {4, 5}
    stream = {"method": "HP", "protocol": "stream", "condition": "crop"}
    assert samples(frame, **stream).shape == (2, 3)
    assert levels(frame, **stream).tolist() == [0.0, 4.0, 9.0]
    plain = {"method": "GP", "protocol": "frozen"}
    for layer in ("rate 0", "rate 1"):
        rates = samples(frame, layer, condition="gaussian", **plain)
        assert rates.shape == (2, 2)
        assert rates.min() > 0.0
    for result in records.results("digits", "LP"):
        assert np.sum(result["tests"]["batch"]["gaussian"]["confusion"]) == 2 * TEST
    assert samples(frame, method="GP", condition="learning").shape == (2, 3)
    tested = {
        method: set(select(frame, method=method, condition="crop")["protocol"])
        for method in ("GP", "HP", "HP-sample")
    }
    assert tested == {
        "GP": {"frozen"},
        "HP": {"batch", "frozen", "sample", "stream"},
        "HP-sample": {"sample"},
    }
    clean = samples(frame, condition="gaussian", **plain)[:, 0]
    np.testing.assert_array_equal(clean, samples(frame, condition="crop", **plain)[:, 0])
    assert clean.min() > 30.0, "ten classes: far above chance"
    assert samples(frame, condition="crop", **plain)[:, -1].max() < clean.min()
    with pytest.raises(KeyError, match="no finished trial of EWC on digits"):
        records.seeds("digits", "EWC")


def test_noise_is_shared_by_methods_and_fresh_for_each_seed() -> None:
    images = images_of("digits")
    one, two = (faulty_images(images, TINY.faults, seed) for seed in (1, 2))
    assert torch.equal(one, faulty_images(images, TINY.faults, 1))
    assert torch.equal(one[0], two[0]), "level 0 is the clean test set"
    assert not torch.equal(one[1], two[1])
    assert torch.equal(one[3], two[3]), "crops know no chance"


def test_methods_of_one_seed_start_from_the_same_weights() -> None:
    networks = [Trial(EXPERIMENT, TINY, method, 1).build() for method in METHODS]
    another = Trial(EXPERIMENT, TINY, GP, 2).build()
    names = [f"layers.{i}.{kind}" for i in range(2) for kind in ("weight", "bias")]
    for name in names:
        first, *others = [network.get_parameter(name) for network in networks]
        assert all(torch.equal(first, other) for other in others)
        assert not torch.equal(first, another.get_parameter(name))


def test_records_are_kept_reused_and_repaired(
    kept: tuple[Path, Records[Any, Any]], own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(own_store)
    first = [record for record in kept[1].records if record["request"]["method"]["name"] == "GP"]
    assert len(list(own_store.glob("*/*.json"))) == 8
    paths = sorted(own_store.glob("*/digits-GP-*.json"))
    assert len(paths) == 2
    stamps = [path.stat().st_mtime_ns for path in paths]
    second = EXPERIMENT.run("smoke", methods=["GP"], store=store)
    assert list(second.records) == first
    assert [path.stat().st_mtime_ns for path in paths] == stamps
    paths[0].write_text(paths[0].read_text()[:-20])
    third = EXPERIMENT.run("smoke", methods=["GP"], store=store)
    assert [r["result"] for r in third.records] == [r["result"] for r in first]
    assert read_record(paths[0])["result"] == first[0]["result"]
    loaded = EXPERIMENT.load("smoke", folder=own_store)
    assert loaded.methods("digits") == ("LP", "GP", "HP", "HP-sample")
    assert loaded.seeds("digits", "LP") == (1, 2)
    monkeypatch.setitem(PLANS, "smoke", plan_of(seeds=1))
    loaded = EXPERIMENT.load("smoke", folder=own_store)
    assert loaded.seeds("digits", "LP") == (1,), "seeds beyond the plan's do not count"


def test_without_lp_gp_and_hp_nothing_is_drawn_or_claimed(own_store: Path) -> None:
    assert set(EXPERIMENT.draw(EXPERIMENT.load("smoke", folder=own_store), 0)) == {
        "fig3",
        "fig3_details",
    }
    for path in own_store.glob("*/digits-HP-seed*.json"):
        path.unlink()
    fewer = EXPERIMENT.load("smoke", folder=own_store)
    assert fewer.methods("digits") == ("LP", "GP", "HP-sample")
    assert fewer.claims() == {}
    assert EXPERIMENT.draw(fewer, 0) == {}


def test_trained_networks_are_kept_beside_their_records(
    kept: tuple[Path, Records[Any, Any]],
) -> None:
    """The kept network gives the confusions of its record again."""
    folder, records = kept
    trial = Trial(EXPERIMENT, TINY, HP, 1)
    network = load_network(trial, Store(folder))
    images = images_of("digits")
    labels = torch.from_numpy(images.test_labels)
    sets = faulty_images(images, TINY.faults, 1)[:2]
    outcome = evaluate(network, sets, labels, "frozen", TINY.schedule.batch_size)
    expected = records.results("digits", "HP")[0]["tests"]["frozen"]["gaussian"]["confusion"]
    # A potential within rounding of the threshold may flip a sample with more threads.
    assert np.abs(outcome.confusion.numpy() - expected).sum() <= 4
    with pytest.raises(FileNotFoundError, match="run the trial in this store first"):
        load_network(replace(trial, seed=9), Store(folder))


LONG = Trial(
    EXPERIMENT,
    replace(
        SMOKE,
        dense=dense(32),
        validation=1_000,
        schedule=replace(SMOKE.schedule, epochs=10),
        faults=(("gaussian", (0.0, 0.06)),),
    ),
    HP,
    1,
)


def train_long(folder: Path) -> None:
    """Train a network that takes some epochs, here or in a process of its own."""
    with few_digits():
        run_all([LONG], store=Store(folder), jobs=1, device=CPU, title="child")


def test_a_killed_trial_ends_in_the_same_record(tmp_path: Path) -> None:
    """Kill -9 twice, each time after a new epoch; timing fields apart, nothing changes."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_long(whole)

    def saved() -> list[int]:
        return [path.stat().st_mtime_ns for path in killed.glob("*/*.checkpoint.safetensors")]

    for _ in range(2):
        child = multiprocessing.get_context("spawn").Process(target=train_long, args=(killed,))
        before = saved()
        child.start()
        while child.is_alive() and saved() == before:
            time.sleep(0.005)
        child.kill()
        child.join()
        assert saved() != before
    assert not list(killed.glob("*/*.json")), "it was killed before it finished"
    train_long(killed)
    (a,), (b,) = (sorted(folder.glob("*/*.json")) for folder in (whole, killed))
    a, b = json.loads(a.read_text()), json.loads(b.read_text())
    assert a["request"] == b["request"]
    assert a["result"] == b["result"]
    assert not list(killed.glob("*/*.checkpoint.safetensors"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: {"dataset": "svhn"}, "FaultSettings.dataset = 'svhn': it must be one of digits"),
        (lambda: {"dense": dense(hidden=0)}, "Dense.size = 0: it must be >= 1"),
        (lambda: {"steps": -1}, "FaultSettings.steps = -1: it must be a whole number >= 1"),
        (lambda: {"faults": (("blur", (1.0,)),)}, "Settings.faults = .*blur.* it must be pairs of"),
        (lambda: {"faults": (("crop", (-1.0,)),)}, "crop level -1.0"),
        (lambda: {"faults": (("crop", (2.5,)),)}, "crop level 2.5"),
        (lambda: {"faults": (("salt", (1.5,)),)}, "salt level 1.5"),
        (lambda: {"faults": ()}, "it must be at least one fault"),
        (lambda: {"tau": 0.0}, "FaultSettings.tau = 0.0: it must be > 0"),
        (lambda: {"neuron": LIF(decay=2.0, v_th=0.35)}, r"LIF.decay = 2.0: it must be in \[0, 1\]"),
        (lambda: {"convolutions": (Convolution(channels=2),)}, "fully connected here"),
        (lambda: {"encode": Poisson()}, "images are shown as they are"),
    ],
)
def test_impossible_settings_are_named(change: Callable[[], dict], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"profile": "huge"}, "'huge' is unknown: choose one of smoke, laptop, paper"),
        ({"profile": "smoke", "methods": ["EWC"]}, "'EWC' is unknown: choose one of LP, GP, HP"),
        ({"profile": "smoke", "methods": []}, "choose at least one, each once"),
        ({"profile": "smoke", "methods": ["HP", "HP"]}, "choose at least one, each once"),
        ({"profile": "smoke", "labels": []}, r"labels = \[\]: choose at least one"),
        ({"profile": "smoke", "labels": ["mnist"]}, "'mnist' is unknown: choose one of digits"),
        ({"profile": "smoke", "device": "warp"}, "device 'warp' cannot be used here"),
    ],
)
def test_unknown_names_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EXPERIMENT.run(**arguments)
    assert choose_device("cpu") == CPU


def test_missing_records_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="hybrid run fault_tolerance --profile laptop"):
        EXPERIMENT.load("laptop", folder=tmp_path)


@pytest.fixture(scope="module")
def committed() -> Records[Any, Any]:
    return EXPERIMENT.load("laptop")


def test_committed_records_are_whole_and_match_the_plan(committed: Records[Any, Any]) -> None:
    assert committed.labels[0] == "fashion_mnist"
    for label in committed.labels:
        assert {"LP", "GP", "HP"} <= set(committed.methods(label))
        own = select(committed.frame, label=label, method="HP", protocol="stream")
        for fault, strengths in committed.planned[label].faults:
            assert samples(own, condition=fault).shape[1] == len(strengths)
        assert len({record["request"]["data"] for record in committed.of(label)}) == 1


def test_the_figure_draws_what_the_records_say(committed: Records[Any, Any]) -> None:
    figure = draw(committed, "fashion_mnist")
    by_title = {axes.get_title(): axes for axes in figure.axes}

    def names(title: str) -> list[str]:
        return [text.get_text() for text in by_title[title].get_legend().get_texts()]

    assert names("Fashion-MNIST, noise: HP minus GP +5.6") == ["LP", "GP", "HP"]
    assert names("HP's lead: 0.6 at 0, 8.5 at 0.06") == ["ours (n = 5)", "authors", "rerun"]
    protocols = ["HP, batch", "HP, frozen", "HP, sample", "HP, stream", "GP"]
    assert sorted(names("Noise: frozen HP minus GP +0.6")) == sorted(protocols)
    assert all(len(axes.get_title()) < 45 for axes in figure.axes), "or it runs into others"
    figure = draw_details(committed, "fashion_mnist")
    by_title |= {axes.get_title(): axes for axes in figure.axes}
    own = select(committed.frame, label="fashion_mnist", condition="salt", usual=True)
    heights = [bar.get_height() for bar in by_title["HP minus GP: -1.6 to +2.6"].patches]
    worst = [samples(own, method=method)[:, -1].mean() for method in ("LP", "GP", "HP")]
    np.testing.assert_allclose(heights[::4], worst)
    (confusions,) = [axes for title, axes in by_title.items() if " known to " in title]
    shares = confusions.images[0].get_array()
    np.testing.assert_allclose(shares.sum(1), 100.0)
    noisy = select(committed.frame, label="fashion_mnist", condition="gaussian", usual=True)
    assert np.trace(shares) / 10 == pytest.approx(samples(noisy, method="HP")[:, -1].mean())


def made_up(accuracies: dict[str, list[float]]) -> list[Json]:
    """Records of one seed whose accuracy per cent at each level is given per method."""

    def test_of(percents: list[float]) -> Json:
        counts = [[[round(p), 100 - round(p)], [0, 0]] for p in percents]
        return {"confusion": counts, "rates": [[0.1, 0.1]] * len(percents)}

    records = []
    for method in (LP, GP, HP):
        gaussian = test_of(accuracies[method.name])
        crop = test_of([50 + 10 * (method is HP)] * 3)
        result = {
            "tests": {method.protocols[0]: {"gaussian": gaussian, "crop": crop}},
            "epochs": [],
        }
        request = Trial(EXPERIMENT, FASHION, method, 1).request("d")
        records.append({"request": request, "result": result})
    return records


FASHION = replace(TINY, label="fashion_mnist", dataset="fashion_mnist")
ACCURACIES = {"LP": [70.0, 68.0], "GP": [88.0, 60.0], "HP": [88.0, 72.0]}


def collect(found: list[Json]) -> Records[Any, Any]:
    """What `found` says of the first two seeds."""
    trials = [Trial(EXPERIMENT, FASHION, m, seed) for m in (LP, GP, HP) for seed in (1, 2)]
    return EXPERIMENT.records(trials, found)


def test_measures_follow_from_the_records() -> None:
    records = made_up(ACCURACIES)
    values = {
        name.removeprefix("fault_tolerance/fashion_mnist/"): v[0]
        for name, v in collect(records).claims().items()
    }
    assert values["clean/GP"] == 88
    assert values["clean/HP-GP"] == 0
    assert values["gaussian-0.06/HP-GP"] == 12
    assert values["gaussian-0.06/LP-GP"] == 8
    assert values["gaussian/gap-growth"] == pytest.approx(2.0)  # points per 0.01
    assert values["gaussian/LP-crosses-GP"] == pytest.approx(0.06 * 18 / 26)
    assert values["crop/HP-GP"] == 10
    assert collect(records[:1]).claims() == {}


def test_records_that_contradict_each_other_are_refused() -> None:
    records = made_up(ACCURACIES)
    with pytest.raises(ValueError, match="several records of fashion_mnist-HP-seed1: remove"):
        collect([*records, records[-1]])
    other = {**records[2], "request": {**records[2]["request"], "data": "other"}}
    with pytest.raises(ValueError, match="records of different data for fashion_mnist"):
        collect([*records[:2], other])
    another = {**records[2], "request": {**records[2]["request"], "seed": 2}}
    mixed = collect([*records, another])
    assert mixed.seeds("fashion_mnist", "HP") == (1, 2)
    both = gap(mixed.frame, "HP", "GP", condition="gaussian")
    assert both.shape == (1, 2), "only seeds that both methods finished"
    old = {**records[0], "request": {**records[0]["request"], "version": "0.0.1"}}
    with pytest.raises(KeyError, match="no finished trial of LP"):
        collect([old, *records[1:]]).seeds("fashion_mnist", "LP")


def test_every_claim_can_be_measured() -> None:
    measured = collect(made_up(ACCURACIES)).claims()
    names = {name.removeprefix("fault_tolerance/fashion_mnist/") for name in measured}
    ids = [claim.id.split("/", 2) for claim in load_claims()]
    claimed = {name for experiment, _, name in ids if experiment == "fault_tolerance"}
    assert {name for name in claimed if " - " not in name} <= names


def test_crossing() -> None:
    strengths = np.array([0.0, 1.0, 2.0])
    assert crossing(strengths, np.array([-1.0, 1.0, 2.0])) == 0.5
    assert crossing(strengths, np.array([1.0, 1.0, 2.0])) == 0.0
    never = crossing(strengths, np.array([-3.0, -2.0, -1.0]))
    assert np.isnan(never)
    (claim,) = [c for c in load_claims() if c.id.endswith("LP-crosses-GP")]
    assert judge(claim, np.array([0.03, 0.03, 0.04, 0.04, never])).verdict == "not reproduced"


def test_command_line(own_store: Path) -> None:
    (missing, *_) = own_store.glob("*/digits-GP-*.json")
    missing.unlink()
    runner = CliRunner()
    arguments = ["run", "fault_tolerance", "--method", "GP", "--jobs", "1"]
    done = runner.invoke(cli.app, [*arguments, "--store", str(own_store)])
    assert done.exit_code == 0, done.output
    assert f"records are in {own_store}" in done.output
    assert missing.exists()
    assert len(list(own_store.glob("*/digits-GP-*.json"))) == 2
    for wrong, message in (
        (["run", "levitation"], "is unknown"),
        (["run", "fault_tolerance", "--profile", "huge"], "'huge' is unknown"),
        (["figures", "--profile", "huge"], "is unknown"),
    ):
        failed = runner.invoke(cli.app, wrong)
        assert failed.exit_code != 0
        assert message in failed.output.replace("\n", " ")
    assert results_folder("laptop").parts[-3:] == ("data", "results", "laptop")
