"""The deployment experiment: what is trained, what is asked of it on the chip, what is recorded."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from hybrid.data.characters import render_glyphs
from hybrid.experiments import (
    continual_plans,
    deployment_figure,
    deployment_record,
    fault_tolerance,
    few_shot_lessons,
    few_shot_plans,
)
from hybrid.experiments import deployment as experiment
from hybrid.experiments import deployment_plans as plans
from hybrid.experiments.base import GP, HP
from hybrid.experiments.continual_config import Config as Continual
from hybrid.experiments.deployment_config import Config
from hybrid.experiments.deployment_fault import fine_tuned, rounded_weights
from hybrid.experiments.deployment_results import measure
from hybrid.experiments.few_shot_config import Config as FewShot
from hybrid.experiments.plans import Group
from hybrid.experiments.trials import Trial
from hybrid.runs.store import Store
from hybrid.tianjic.shapes import ConvolutionShape, DenseShape, LocalShape

FAULTS = (("gaussian", (0.0, 0.06)), ("crop", (4.0,)))
FAULT = Config(
    label="faults",
    base="fault_tolerance",
    profile="smoke",
    trained_label="digits",
    tested=60,
    faults=FAULTS,
    bits=(8, 2),
    lags=(1,),
    delays=(1,),
    rewritten=20,
)
FEW = Config(
    label="episodes", base="few_shot", profile="smoke", trained_label="glyphs", bits=(8,), tested=40
)
TASKS = Config(label="tasks", base="continual", profile="smoke", trained_label="digits", tested=50)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Networks that are trained in a moment, and a plan of all three kinds."""
    trained = fault_tolerance.Config(
        validation=4_000, hidden=24, steps=4, epochs=1, batch_size=50, faults=FAULTS
    )
    monkeypatch.setitem(
        fault_tolerance.PLANS, "smoke", fault_tolerance.Plan(configs=(trained,), seeds=1)
    )
    characters = FewShot(
        label="glyphs",
        dataset="few_glyphs",
        validation=10,
        unseen=12,
        ink="unit",
        flipped=0.0,
        channels=(8, 8),
        activation="relu",
        normalised=True,
        length=10.0,
        label_current=100.0,
        largest_rate=1.0,
        ways=3,
        queries=2,
        shared=(6, 4),
        episodes=4,
        meta="joint",
        loss="cross-entropy",
        epochs=3,
        steps=4,
        lr_weight=3e-3,
        lr_meta=1e-3,
        tests=((3, 1), (5, 2)),
        test_episodes=60,
        validation_episodes=40,
    )
    methods = ("GP", "HP")
    monkeypatch.setitem(
        few_shot_plans.PLANS,
        "smoke",
        (Group(configs=(characters,), methods=methods, seeds=1),),
    )
    stream = Continual(
        label="digits",
        dataset="digits",
        validation=4_000,
        tasks=2,
        authors_permutations=False,
        hidden=(24, 16),
        density=0.3,
        initial_scale=2.0,
        epochs=1,
        batch_size=50,
        lr_weight=5e-3,
        lr_gated=1e-2,
        lr_meta=1e-3,
        fresh=True,
    )
    monkeypatch.setitem(
        continual_plans.PLANS, "smoke", (Group(configs=(stream,), methods=methods, seeds=1),)
    )
    monkeypatch.setitem(
        plans.PLANS,
        "smoke",
        (
            Group(configs=(FAULT,), methods=("LP", "GP", "HP", "HP-sample"), seeds=2),
            Group(configs=(FEW, TASKS), methods=methods, seeds=1),
        ),
    )
    few_shot_lessons.characters_of.cache_clear()
    glyphs = render_glyphs(list(range(ord("0"), ord("9") + 1)) + list(range(0x410, 0x442)))
    monkeypatch.setattr(few_shot_lessons, "load_characters", lambda name: glyphs)
    monkeypatch.setattr(deployment_record, "_LEAST", 0.01)
    yield
    few_shot_lessons.characters_of.cache_clear()


def test_a_profile_runs_is_kept_and_read_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    result = experiment.run("smoke", store=store)
    assert result.labels() == ("faults", "episodes", "tasks")
    assert result.forms("faults", "GP") == ("float, frozen", "chip, frozen")
    assert set(result.forms("faults", "HP")) == {
        f"{where}, {what}" for where in ("float", "chip") for what in ("frozen", "own trace")
    }
    assert result.accuracy("faults", "HP", "chip, own trace", "gaussian").shape == (2, 2)
    assert result.accuracy("faults", "LP", "float, frozen", "crop").shape == (2, 1)
    assert result.levels("faults", "gaussian").tolist() == [0.0, 0.06]
    assert result.parts("episodes", "HP") == ("3-way 1-shot", "5-way 2-shot")
    assert result.accuracy("tasks", "HP", "chip, frozen", "tasks").shape == (1, 2)
    widths, found = result.bits("faults", "HP")
    assert widths.tolist() == [8, 2]
    assert found.shape == (2, 2, 3)
    assert set(result.histories("faults", "HP")) == {
        "float",
        "history",
        "rewritten",
        "no local current",
        "1 lags",
        "without newest 1",
    }
    assert result.histories("faults", "GP") == {}
    narrower = result.narrower("faults", "HP-sample")
    assert [len(samples) for samples in narrower.values()] == [2] * 5
    assert next(iter(narrower)) == "32 weights to choose from"
    for label, method, form in (
        ("faults", "HP-sample", "chip, own trace"),
        ("episodes", "GP", "chip, folded"),
        ("tasks", "HP", "chip, own trace"),
    ):
        spent = result.cost(label, method, form)
        low, middle, high = result.energies(label, method, form)["activity"]
        assert 0.0 < low < middle < high
        assert spent.cores == len(result.mapping(label, method, form).cores)
        assert spent.timing.latency > 0.0
        report = result.report(label, method, form)
        assert f"cores: {spent.cores} occupied of 156" in report
        assert f"{spent.timing.phases} phases" in report
        assert "naive" in report
    frozen, own = (result.cost("faults", "HP", f"chip, {n}") for n in ("frozen", "own trace"))
    assert frozen.cores < own.cores
    for form in ("chip, frozen", "chip, own trace"):
        seconds, _ = result.cpu("faults", "HP", form)
        assert (seconds > 0.0).all()
    assert result.compared("faults", "HP") == 20
    bounds = result.of("faults", "HP")[0]["result"]["largest_trace"]
    assert [clip for _, clip in bounds] == [4.0, 4.0]

    again = experiment.run("smoke", store=store)
    assert again.records == result.records, "nothing is computed twice"
    read = experiment.load("smoke", folder=tmp_path)
    assert [r["result"] for r in read.records] == [r["result"] for r in result.records]
    measured = measure(result)
    assert measured["deployment/faults/HP/own trace"].shape == (2,)
    expected = np.mean(
        [
            (
                result.accuracy("faults", "HP", "chip, frozen", part)
                - result.accuracy("faults", "HP", "float, frozen", part)
            ).mean(1)
            for part in ("gaussian", "crop")
        ],
        axis=0,
    )
    np.testing.assert_allclose(measured["deployment/faults/HP/frozen"], expected)
    for figure in (
        deployment_figure.draw(result, "faults"),
        deployment_figure.draw_others(result, ("episodes", "tasks")),
    ):
        assert all(axes.has_data() for axes in figure.axes)
        plt.close(figure)


def test_a_network_of_the_store_is_taken_and_not_trained_again(tmp_path: Path) -> None:
    """Without its weights it is trained, and these are kept; its record is left alone."""
    store = Store(tmp_path)
    deployed = Trial(experiment.EXPERIMENT, FAULT, GP, 1)
    trained = experiment.trained_by(deployed)
    first = experiment.trained_network(trained, store, torch.device("cpu"))
    kept = list(tmp_path.rglob("*.safetensors"))
    assert len(kept) == 1
    assert not list(tmp_path.rglob("*.json"))
    before = kept[0].stat().st_mtime_ns
    second = experiment.trained_network(trained, store, torch.device("cpu"))
    assert kept[0].stat().st_mtime_ns == before
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_fine_tuning_learns_with_rounded_weights_and_leaves_the_network_alone() -> None:
    """With two bits, weights are -1, 0 or 1 times a scale while it learns; it learns something."""
    trained = experiment.trained_by(Trial(experiment.EXPERIMENT, FAULT, HP, 1))
    network: Any = trained.experiment.run(trained, torch.device("cpu"))[1]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with rounded_weights(network, 2):
        layer = network.layers[0]
        folded = (layer.weight + layer.theta.local_gain * layer.trace.T).detach()
        scale = folded.abs().max()
        assert (folded / scale - (folded / scale).round()).abs().max() < 1e-4
        assert len((folded / scale).round().unique()) == 3
        network(torch.rand(5, 784)).output.sum().backward()
        gradient = network.layers[0].parametrizations.weight.original.grad
        assert gradient is not None
        assert gradient.abs().sum() > 0.0
    assert all(torch.equal(before[n], value) for n, value in network.state_dict().items())
    tuned = fine_tuned(network, trained, 2, 1)
    assert all(torch.equal(before[n], value) for n, value in network.state_dict().items())
    assert not torch.equal(tuned.layers[0].weight, network.layers[0].weight)
    assert set(tuned.state_dict()) == set(before)


def test_shapes_survive_their_record() -> None:
    shapes = (
        ConvolutionShape(name="a", image=(1, 9, 9), channels=4, stride=2, fold="folded"),
        DenseShape(name="b", inputs=100, outputs=10, graded=True, local=LocalShape(lags=3)),
        DenseShape(name="c", inputs=10, outputs=10, carried=True),
    )
    assert deployment_record.shapes_in(deployment_record.shapes_as_json(shapes)) == shapes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base": "events"}, "base"),
        ({"trained_label": "fashion"}, "trained_label.*digits"),
        ({"bits": (9,)}, "bits"),
        ({"faults": (("gaussian", (0.1,)),)}, "level 0 first"),
        ({"tested": 0}, "tested"),
        ({"lags": (0,)}, "lags"),
    ],
)
def test_impossible_configs_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(FAULT, **change)
