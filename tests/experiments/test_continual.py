"""The continual-learning experiment: streams, methods, records, what is computed from them."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hybrid import cli
from hybrid.described import as_json, from_json
from hybrid.experiments.continual import EXPERIMENT, plans
from hybrid.experiments.continual.claims import accuracy_table
from hybrid.experiments.continual.figure import densities, draw, mean_overlap
from hybrid.experiments.continual.methods import (
    EWC,
    GP,
    HP,
    JOINT,
    LP,
    METHODS,
    SPARSE_GP,
    build,
)
from hybrid.experiments.continual.run import representations, stream_of
from hybrid.experiments.continual.settings import ContinualSettings, Penalty
from hybrid.experiments.core.experiment import Group
from hybrid.experiments.core.records import Records, samples
from hybrid.experiments.core.trials import Place, Trial, load_network
from hybrid.experiments.deployment.inspect import KINDS
from hybrid.learning.schedule import Schedule
from hybrid.report import scoreboard
from hybrid.runs.store import Json, Store
from tests.experiments.digits import few_digits

CPU = torch.device("cpu")
TINY = replace(
    plans.AUTHORS,
    label="tiny",
    dataset="digits",
    validation=1_500,
    tasks=3,
    authors_permutations=False,
    hidden=(24, 16),
    density=0.3,
    initial_scale=2.0,
    epochs=1,
    schedule=Schedule(epochs=3, batch_size=50, lr_weight=5e-3, lr_meta=1e-3),
    lr_gated=1e-2,
    fresh=True,
    penalty=Penalty(fisher_samples=100),
)


COMPARED = ("GP", "joint", "sparse GP", "HP", "EWC")
OTHERS = tuple(method.name for method in METHODS if method.name not in COMPARED)


@pytest.fixture(scope="module", autouse=True)
def _tiny() -> Iterator[None]:
    """A smoke profile that takes seconds."""
    tiny = (
        Group(settings=(TINY,), methods=COMPARED, seeds=2),
        Group(settings=(TINY,), methods=OTHERS, seeds=1),
        Group(settings=(plans.of_density(TINY, 0.1),), methods=("sparse GP", "HP"), seeds=2),
    )
    with few_digits(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(plans.PLANS, "smoke", tiny)
        yield


@pytest.fixture(scope="module")
def kept(_tiny: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Records[Any, Any]]:
    """The store of a whole run, to be read alone, and what the run returned."""
    folder = tmp_path_factory.mktemp("store")
    return folder, EXPERIMENT.run("smoke", store=Store(folder))


def test_the_authors_network_and_constants() -> None:
    """784-1024-1024-10, 3 % masks, and every constant of their script."""
    settings = plans.AUTHORS
    learner = build(settings, HP, 1, 10)
    shapes = [list(weight.shape) for weight in learner.network.weights]
    assert shapes == [[1024, 784], [1024, 1024], [10, 1024]]
    assert not any("bias" in name for name, _ in learner.network.named_parameters())
    masks = learner.masks(0)
    assert masks is not None
    for mask in masks:
        assert len(mask.inputs) / np.prod(mask.shape) == pytest.approx(0.03, abs=0.005)
    assert (settings.steps, settings.tau, settings.tasks, settings.epochs) == (3, 50.0, 50, 10)
    assert (settings.neuron.v_th, settings.neuron.decay) == (0.5, 0.8)
    assert settings.rule.trace_decay == 0.8
    rates = settings.schedule.lr_weight, settings.lr_gated, settings.schedule.lr_meta
    assert rates == (5e-4, 5e-4, 5e-5)
    gains = [layer.theta.local_gain.item() for layer in learner.network.layers]
    assert all(0.0 <= gain <= 0.1 for gain in gains)


def test_masks_of_fifty_tasks_take_little_memory() -> None:
    learner = build(plans.AUTHORS, HP, 1, 10)
    total = 0
    for task in range(50):
        masks = learner.masks(task)
        assert masks is not None
        total += sum(part.nbytes for mask in masks for part in (mask.inputs, mask.starts))
    assert total < 20e6
    again = build(plans.AUTHORS, SPARSE_GP, 1, 10).masks(7)
    for ours, same in zip(learner.masks(7) or (), again or (), strict=True):
        assert torch.equal(ours.inputs, same.inputs), "all methods of a seed have the same masks"
    other = build(plans.AUTHORS, HP, 2, 10).masks(7)
    assert not torch.equal((other or ())[0].inputs, (again or ())[0].inputs)


def test_methods_differ_in_what_they_say() -> None:
    seen = {str(method.request() | {"name": ""}) for method in METHODS}
    assert len(seen) == len(METHODS)
    dense, gated = build(TINY, GP, 1, 10), build(TINY, SPARSE_GP, 1, 10)
    assert dense.masks(0) is None
    for ours, scaled in zip(dense.network.weights, gated.network.weights, strict=True):
        torch.testing.assert_close(2.0 * ours, scaled)
    frozen = build(TINY, LP, 1, 10).network
    assert frozen.weight_parameters() == [frozen.readout_weight]


def test_split_streams_hold_their_own_classes() -> None:
    schedule = replace(TINY.schedule, epochs=5)
    settings = replace(TINY, stream="domain-incremental", tasks=5, schedule=schedule)
    stream = stream_of(settings, 1, CPU)
    for k, view in enumerate(stream.views):
        assert set(stream.train.labels[view.train].tolist()) == {2 * k, 2 * k + 1}
        assert set(stream.test.labels[view.test].tolist()) == {2 * k, 2 * k + 1}
        assert not {*view.train.tolist()} & {*view.validation.tolist()}
    trial = Trial(EXPERIMENT, settings, SPARSE_GP, 1)
    assert trial.build().network.sizes[-1] == 2, "tasks share two answers"
    result, _ = EXPERIMENT.compute(trial, Place(CPU))
    learned = [result["accuracy"][k + 1][k] for k in range(5)]
    assert np.mean(learned) > 0.7, "of two answers"


def test_runs_are_recorded_and_read_back(kept: tuple[Path, Records[Any, Any]]) -> None:
    folder, records = kept
    assert records.labels == ("tiny", "tiny-density-0.1")
    assert records.methods("tiny") == COMPARED + OTHERS
    assert records.seeds("tiny", "HP") == (1, 2)

    def final(method: str) -> np.ndarray:
        return samples(records.frame, label="tiny", method=method, condition="final")[:, 0]

    hybrid = records.results("tiny", "HP")
    assert np.shape([accuracy_table(result) for result in hybrid]) == (2, 4, 3)
    assert final("sparse GP").min() > 25.0, "better than chance"
    assert final("joint").mean() > final("GP").mean()
    overlap = np.array([result["representations"]["overlap"] for result in hybrid])
    assert overlap.shape == (2, 2, 3, 3)
    others = overlap[..., [0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]].mean(-1)
    np.testing.assert_allclose(mean_overlap(overlap), others)
    assert np.shape([result["representations"]["active"] for result in hybrid]) == (2, 2, 3)
    where = {"label": "tiny", "method": "HP", "condition": "final by protocol"}
    under = {
        protocol: samples(records.frame, protocol=protocol, **where)[:, 0]
        for protocol in ("batch", "frozen", "sample")
    }
    assert all(found.shape == (2,) for found in under.values())
    np.testing.assert_allclose(under["batch"], final("HP"), atol=1e-3)
    loaded = EXPERIMENT.load("smoke", folder=folder)
    average = {"label": "tiny", "method": "EWC", "condition": "average"}
    np.testing.assert_array_equal(
        samples(loaded.frame, **average), samples(records.frame, **average)
    )
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*/*.json")}
    EXPERIMENT.run("smoke", store=Store(folder))
    assert {path: path.stat().st_mtime_ns for path in times} == times, "nothing is run twice"
    claimed = records.claims()
    assert claimed["continual/tiny/HP"].shape == (2,)
    np.testing.assert_allclose(claimed["continual/tiny/HP-EWC"], final("HP") - final("EWC"))
    trial = Trial(EXPERIMENT, TINY, EWC, 2)
    last = load_network(trial, Store(folder)).state_dict()["accuracy"][-1]
    table = accuracy_table(records.results("tiny", "EWC")[1])
    np.testing.assert_allclose(100 * last, table[-1], atol=1e-3)

    figure = draw(loaded, np.zeros((3, 2, 28, 28)))
    titles = [axes.get_title() for axes in figure.axes]
    assert any(re.match(r"After the last task: GP \d+ %, HP \d+ %", title) for title in titles)
    assert any(re.match(r"HP minus sparse GP: -?\d", title) for title in titles)
    grids = [
        axes.images[0].get_array() for axes in figure.axes if "of what it knew" in axes.get_title()
    ]
    assert [grid.mask.sum() for grid in grids] == [3, 3], "tasks that were not learned yet"
    named = [axes for axes in figure.axes if axes.get_title() and axes.axison]
    assert len(named) == 5, "and the images"
    assert all(axes.get_xlabel() or axes.get_ylabel() for axes in named)


def test_more_seeds_than_planned_are_run_kept_and_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    asked = {"methods": ["GP"], "labels": ["tiny"]}
    records = EXPERIMENT.run("smoke", seeds=3, store=store, **asked)
    assert records.seeds("tiny", "GP") == (1, 2, 3)
    assert EXPERIMENT.load("smoke", folder=tmp_path, seeds=3).seeds("tiny", "GP") == (1, 2, 3)
    assert EXPERIMENT.load("smoke", folder=tmp_path).seeds("tiny", "GP") == (1, 2), "as planned"


def test_longer_methods_take_at_least_as_many_steps_as_hp(monkeypatch: pytest.MonkeyPatch) -> None:
    """HP takes an epoch of θ after each task but the first, whose log is of the weights alone."""
    taken: list[str] = []
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self, *_: taken.append("step"))
    counts = {}
    for name in ("longer sparse GP", "sparse GP", "HP"):
        taken.clear()
        result, _ = EXPERIMENT.compute(
            Trial(EXPERIMENT, TINY, EXPERIMENT.method(name), 1), Place(CPU)
        )
        counts[name] = len(taken), len(result["epochs"])
    epoch = counts["sparse GP"][0] // 3
    assert counts == {
        "longer sparse GP": (6 * epoch, 6),
        "sparse GP": (3 * epoch, 3),
        "HP": (5 * epoch, 3),
    }
    plain = {"extra_epochs", "judged_on"}
    assert not plain & (set(SPARSE_GP.request()) | set(as_json(TINY))), "records keep their names"


def test_constants_are_chosen_on_images_that_were_held_out() -> None:
    settings = replace(TINY, judged_on="validation")
    stream = stream_of(settings, 1, CPU)
    for view in stream.views:
        assert sorted(view.test.tolist()) == sorted(view.validation.tolist())
        assert not {*view.test.tolist()} & {*view.train.tolist()}
    assert stream.test is stream.train
    result, _ = EXPERIMENT.compute(Trial(EXPERIMENT, settings, SPARSE_GP, 1), Place(CPU))
    last = result["epochs"][-1]["validation"]
    assert result["final"]["frozen"][-1] == pytest.approx(last, abs=1e-5)
    for trial in EXPERIMENT.trials("search"):
        assert trial.seed == 101, "a seed that no report has"
        assert trial.settings.judged_on == "validation"


def test_measures_are_those_of_their_sources() -> None:
    table = [[0.1, 0.2, 0.1], [0.9, 0.3, None], [0.5, 0.8, 0.3], [0.6, 0.4, 0.7]]
    request = {"settings": as_json(TINY), "method": {"name": "GP"}, "seed": 1}
    record: Json = {"request": request, "result": {"accuracy": table}}
    frame = Records(EXPERIMENT, {"tiny": TINY}, (record,)).frame
    np.testing.assert_allclose(samples(frame, condition="average"), [[90.0, 65.0, 170.0 / 3]])
    np.testing.assert_allclose(samples(frame, condition="final"), [[170.0 / 3]])
    found = accuracy_table(record["result"])
    np.testing.assert_allclose([found[k + 1, k] for k in range(3)], [90.0, 80.0, 70.0])
    assert np.isnan(found[1, 2])
    for name, expected in (
        ("backward transfer", (-30.0 - 40.0) / 2),
        ("forgetting", (30.0 + 40.0) / 2),
        ("forward transfer", (10.0 + 20.0) / 2),
    ):
        np.testing.assert_allclose(samples(frame, name, condition="final"), [[expected]])


def test_overlap_and_activity_are_those_of_the_spikes() -> None:
    learner, stream = Trial(EXPERIMENT, TINY, GP, 1).build(), stream_of(TINY, 1, CPU)
    found = representations(learner, stream)
    first, second = (view.inputs(stream.test.inputs[view.test]) for view in stream.views[:2])
    with torch.no_grad():
        means = [learner.network(x).spike_counts()[0].mean(0) for x in (first, second)]
    cosine = torch.nn.functional.cosine_similarity(*means, dim=0).item()
    assert 0.0 < cosine < 0.999
    assert found["overlap"][0][0][1] == pytest.approx(cosine, abs=1e-3)
    assert found["overlap"][1][2][2] == pytest.approx(1.0, abs=1e-3)
    share = (means[1] > 0.0).float().mean().item()
    assert found["active"][0][1] == pytest.approx(share, abs=1e-3)


def test_densities_are_drawn_in_their_order() -> None:
    sparse = plans.of_density(TINY, 0.1)
    joined = replace(TINY, label="other", density=0.2, steps=2)

    def record(settings: ContinualSettings, accuracy: float) -> Json:
        request = {"settings": as_json(settings), "method": {"name": "HP"}, "seed": 1}
        return {"request": request, "result": {"accuracy": [[accuracy] * 3] * 4}}

    planned = {settings.label: settings for settings in (TINY, sparse, joined)}
    made = (record(TINY, 0.8), record(sparse, 0.6), record(joined, 0.7))
    shares, found = densities(Records(EXPERIMENT, planned, made), "tiny")["HP"]
    np.testing.assert_allclose(shares, [0.1, 0.3], err_msg="not 0.2: more than that differs there")
    np.testing.assert_allclose(np.concatenate(found), [60.0, 80.0])


def test_joint_learning_has_no_order_of_tasks(kept: tuple[Path, Records[Any, Any]]) -> None:
    assert JOINT.joint
    accuracy = kept[1].results("tiny", "joint")[0]["accuracy"]
    assert accuracy[2][2] > accuracy[0][2] + 0.1, "the last task is learned before its turn"


@pytest.mark.parametrize("profile", plans.PLANS)
def test_plans_name_all_settings_once(profile: str) -> None:
    planned = {settings for group in plans.PLANS[profile] for settings in group.settings}
    assert len({settings.label for settings in planned}) == len(planned)
    for settings in planned:
        stored = json.loads(json.dumps(as_json(settings)))
        assert from_json(stored, KINDS) == settings, "what records hold"


def test_claims_are_about_settings_and_methods_of_the_plans() -> None:
    claims = [c for c in scoreboard.load_claims() if c.id.startswith("continual/")]
    assert claims
    for claim in claims:
        label = claim.id.split("/")[1]
        groups = [g for g in plans.PLANS[claim.profile] if label in {s.label for s in g.settings}]
        seeds = {name: group.seeds for group in groups for name in group.methods}
        for name in claim.methods:
            assert seeds[name] >= claim.minimum, claim.id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: {"dataset": "cifar10"}, "ContinualSettings.dataset = 'cifar10'"),
        (lambda: {"stream": "rotated"}, "ContinualSettings.stream = 'rotated'"),
        (lambda: {"density": 1.5}, r"ContinualSettings.density = 1\.5"),
        (lambda: {"tasks": 0}, "ContinualSettings.tasks = 0"),
        (lambda: {"stream": "task-incremental"}, "ContinualSettings.tasks = 3: it must be 5"),
        (lambda: {"penalty": Penalty(si=0.0)}, r"Penalty.si = 0\.0: it must be > 0"),
        (lambda: {"initial_scale": 0.0}, r"ContinualSettings.initial_scale = 0\.0"),
        (lambda: {"hidden": (0, 5)}, r"ContinualSettings.hidden = \(0, 5\)"),
        (lambda: {"lr_gated": 0.0}, r"ContinualSettings.lr_gated = 0\.0"),
        (lambda: {"tau": -1.0}, r"ContinualSettings.tau = -1\.0"),
        (lambda: {"meta_tasks": -3}, "ContinualSettings.meta_tasks = -3"),
        (lambda: {"epochs": 2}, "it must be of 2 epochs for each of 3 tasks"),
    ],
)
def test_impossible_settings_are_named(change: Callable[[], dict], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change())


def test_too_large_a_validation_split_is_named() -> None:
    settings = replace(TINY, validation=2_000)
    with pytest.raises(ValueError, match=r"Settings\.validation = 2000: it must be less than"):
        stream_of(settings, 1, CPU)


def test_command_line(kept: tuple[Path, Records[Any, Any]], tmp_path: Path) -> None:
    store = tmp_path / "store"
    (found,) = kept[0].glob("continual/tiny-GP-seed2-*.json")
    (store / "continual").mkdir(parents=True)
    shutil.copy(found, store / "continual")
    runner = CliRunner()
    arguments = ["run", "continual", "--method", "GP", "--jobs", "1", "--store", str(store)]
    done = runner.invoke(cli.app, arguments)
    assert done.exit_code == 0, done.output
    records = sorted((store / "continual").glob("*.json"))
    assert len(records) == 2
    assert json.loads(records[0].read_text("utf-8"))["request"]["method"]["name"] == "GP"
    failed = runner.invoke(cli.app, ["run", "continual", "--method", "backprop"])
    assert failed.exit_code == 1
    assert "'backprop' is unknown" in failed.output
