"""The deployment experiment: what is trained, what is asked of it on the chip, what is recorded."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hybrid.data.characters import render_glyphs
from hybrid.described import as_json
from hybrid.experiments.continual import plans as continual
from hybrid.experiments.core.experiment import Group
from hybrid.experiments.core.methods import GP, HP, Method
from hybrid.experiments.core.records import Records, levels, samples, select
from hybrid.experiments.core.trials import Place, Trial
from hybrid.experiments.deployment import EXPERIMENT, chip, plans
from hybrid.experiments.deployment.claims import forms_in, histories, parts_in
from hybrid.experiments.deployment.figure import draw, draw_broken, draw_cost, draw_others
from hybrid.experiments.deployment.images import fine_tuned, rounded_weights
from hybrid.experiments.deployment.run import trained_by, trained_network
from hybrid.experiments.deployment.settings import DeploymentSettings
from hybrid.experiments.event_tolerance import plans as event_tolerance
from hybrid.experiments.fault_tolerance import plans as fault_tolerance
from hybrid.experiments.fault_tolerance.run import TRAINING
from hybrid.experiments.few_shot import episodes
from hybrid.experiments.few_shot import plans as few_shot
from hybrid.learning.correction import Rates
from hybrid.learning.episodic import Objective
from hybrid.learning.schedule import Schedule
from hybrid.model.convolutional import Dense
from hybrid.runs.store import Store
from hybrid.tianjic.shapes import ConvolutionShape, DenseShape, LocalShape
from tests.experiments.digits import few_digits

CPU = torch.device("cpu")
FAULTS = (("gaussian", (0.0, 0.06)), ("crop", (4.0,)))
# Networks that are trained in a moment.
FAULT = DeploymentSettings(
    label="faults",
    trained=replace(
        fault_tolerance.SMOKE,
        validation=1_500,
        steps=4,
        dense=(Dense(size=24, plastic=True), Dense(size=10, plastic=True)),
        schedule=replace(fault_tolerance.SMOKE.schedule, epochs=1),
        faults=FAULTS,
    ),
    tested=60,
    faults=FAULTS,
    bits=(8, 2),
    lags=(1,),
    delays=(1,),
    rewritten=20,
    defects=(
        ("dead cores", (0.0, 5.0, 154.0)),
        ("stuck bits", (0.0, 0.2)),
        ("flipped bits", (0.0, 0.2)),
        ("lost packets", (0.0, 0.5)),
    ),
    on_defects=30,
)
FEW = DeploymentSettings(
    label="episodes",
    trained=replace(
        few_shot.SMOKE,
        validation=10,
        unseen=12,
        channels=(8, 8),
        activation="relu",
        ways=3,
        shared=(6, 4),
        objective=Objective("cross-entropy"),
        steps=4,
        schedule=Schedule(
            epochs=3, batch_size=4, lr_weight=3e-3, lr_meta=1e-3, decay="halves", decay_meta=True
        ),
        tests=((3, 1), (5, 2)),
        test_episodes=60,
        validation_episodes=40,
    ),
    bits=(8,),
    tested=40,
)
TASKS = DeploymentSettings(
    label="tasks",
    trained=replace(
        continual.SMOKE,
        validation=1_500,
        tasks=2,
        hidden=(24, 16),
        density=0.3,
        initial_scale=2.0,
        schedule=Schedule(epochs=2, batch_size=50, lr_weight=5e-3, lr_meta=1e-3),
        lr_gated=1e-2,
    ),
    tested=50,
)


@pytest.fixture(scope="module", autouse=True)
def _tiny() -> Iterator[None]:
    """A plan of all three kinds, sixty classes of characters, and short measurements."""
    tiny = (
        Group(settings=(FAULT,), methods=("LP", "GP", "HP", "HP-sample"), seeds=2),
        Group(settings=(FEW, TASKS), methods=("GP", "HP"), seeds=1),
    )
    glyphs = render_glyphs(list(range(ord("0"), ord("9") + 1)) + list(range(0x410, 0x442)))
    episodes.characters_of.cache_clear()
    with few_digits(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(plans.PLANS, "smoke", tiny)
        patch.setattr(episodes, "load_characters", lambda name: glyphs)
        patch.setattr(chip, "_LEAST", 0.01)
        yield
    episodes.characters_of.cache_clear()


@pytest.mark.parametrize("method", [GP, HP])
def test_neurons_that_keep_their_currents_do_so_on_the_chip(method: Method) -> None:
    trained = replace(FAULT.trained, rates=Rates(currents=0.05))
    settings = replace(FAULT, trained=trained, homeostatic=True, tested=200, bits=())
    result, _ = EXPERIMENT.compute(Trial(EXPERIMENT, settings, method, 1), Place(CPU))
    tested = result["accuracy"]
    for fault in ("gaussian", "crop"):
        one, other = (tested[f"{where}, homeostatic"][fault] for where in ("float", "chip"))
        assert np.abs(np.subtract(one, other)).max() <= 0.05
    assert tested["chip, homeostatic"] != tested["chip, frozen"]
    kept = result["homeostatic"]
    assert kept["bytes"] == 24 * (3 * 28 / 8 + kept["axons"])
    assert "chip, homeostatic" in result["overflows"]
    assert "homeostatic" not in as_json(FAULT), "records without it keep their names"
    sample = EXPERIMENT.method("HP-sample")
    result, _ = EXPERIMENT.compute(Trial(EXPERIMENT, settings, sample, 1), Place(CPU))
    assert not any("homeostatic" in form for form in result["accuracy"])


def test_a_profile_runs_is_kept_and_read_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    records = EXPERIMENT.run("smoke", store=store)
    frame = records.frame

    def of(label: str, method: str) -> Any:
        return select(frame, label=label, method=method)

    assert records.labels == ("faults", "episodes", "tasks")
    assert forms_in(of("faults", "GP")) == ["float, frozen", "chip, frozen"]
    assert set(forms_in(of("faults", "HP"))) == {
        f"{where}, {what}" for where in ("float", "chip") for what in ("frozen", "own trace")
    }
    noisy = {"protocol": "chip, own trace", "condition": "gaussian"}
    assert samples(of("faults", "HP"), **noisy).shape == (2, 2)
    assert levels(of("faults", "HP"), **noisy).tolist() == [0.0, 0.06]
    cropped = {"protocol": "float, frozen", "condition": "crop"}
    assert samples(of("faults", "LP"), **cropped).shape == (2, 1)
    assert parts_in(of("episodes", "HP")) == ["3-way 1-shot", "5-way 2-shot"]
    last = {"protocol": "chip, frozen", "condition": "tasks"}
    assert samples(of("tasks", "HP"), **last).shape == (1, 2)
    assert levels(of("faults", "HP"), condition="bits").tolist() == [8, 2]
    for value in ("accuracy", "longer", "rounded"):
        found = samples(of("faults", "HP"), value, condition="bits")
        assert found.shape == (2, 2)
        assert np.isfinite(found).all()
    assert set(histories(of("faults", "HP"))) == {
        "float",
        "history",
        "rewritten",
        "no local current",
        "1 lags",
        "without newest 1",
    }
    assert histories(of("faults", "GP")) == {}
    narrower = select(of("faults", "HP-sample"), condition="narrower")
    assert narrower["protocol"].value_counts(sort=False).tolist() == [2] * 5
    assert narrower["protocol"].iloc[0] == "32 weights to choose from"
    costs = the_chip_is_spent_as_reported(records)
    assert costs["chip, frozen"] < costs["chip, own trace"]
    for form in ("chip, frozen", "chip, own trace"):
        seconds = samples(of("faults", "HP"), "seconds", condition="cpu", protocol=form)
        assert (seconds > 0.0).all()
    result = records.results("faults", "HP")[0]
    assert result["histories"]["images"] == 20
    assert [clip for _, clip in result["largest_trace"]] == [4.0, 4.0]

    again = EXPERIMENT.run("smoke", store=store)
    assert again.records == records.records, "nothing is computed twice"
    read = EXPERIMENT.load("smoke", folder=tmp_path)
    assert [r["result"] for r in read.records] == [r["result"] for r in records.records]
    claimed = records.claims()
    assert claimed["deployment/faults/HP/own trace"].shape == (2,)
    expected = np.mean(
        [
            (
                samples(of("faults", "HP"), protocol="chip, frozen", condition=part)
                - samples(of("faults", "HP"), protocol="float, frozen", condition=part)
            ).mean(1)
            for part in ("gaussian", "crop")
        ],
        axis=0,
    )
    np.testing.assert_allclose(claimed["deployment/faults/HP/frozen"], expected)
    drawn = (draw(records, "faults"), draw_cost(records, "faults"), draw_broken(records, "faults"))
    for figure in (*drawn, draw_others(records, ("episodes", "tasks"))):
        assert all(axes.has_data() for axes in figure.axes)


def the_chip_is_spent_as_reported(records: Records[Any, Any]) -> dict[str, int]:
    """Check costs of some networks; return the cores of forms of HP's."""
    for label, method, form in (
        ("faults", "HP-sample", "chip, own trace"),
        ("episodes", "GP", "chip, folded"),
        ("tasks", "HP", "chip, own trace"),
    ):
        result = records.results(label, method)[0]
        spent = chip.spent(result, form)
        low, middle, high = chip.energies(result, form)["gated"]
        assert 0.0 < low < middle < high
        assert spent.cores == len(chip.mapping(result, form).cores)
        assert spent.timing.latency > 0.0
        report = chip.report(result, form)
        assert f"cores: {spent.cores} occupied of 156" in report
        assert f"{spent.timing.phases} phases" in report
        assert "at least" in report
    hybrid = records.results("faults", "HP")[0]
    return {form: chip.spent(hybrid, form).cores for form in hybrid["shapes"]}


def test_a_network_of_the_store_is_taken_and_not_trained_again(tmp_path: Path) -> None:
    """Without its weights it is trained, and these are kept; its record is left alone."""
    place = Place(CPU, store=Store(tmp_path))
    trained = trained_by(Trial(EXPERIMENT, FAULT, GP, 1))
    first = trained_network(trained, place)
    kept = list(tmp_path.rglob("*.safetensors"))
    assert len(kept) == 1
    assert not list(tmp_path.rglob("*.json"))
    before = kept[0].stat().st_mtime_ns
    second = trained_network(trained, place)
    assert kept[0].stat().st_mtime_ns == before
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
    without = trained_network(trained, Place(CPU))
    for one, other in zip(first.parameters(), without.parameters(), strict=True):
        assert torch.equal(one, other), "the same where nothing is kept, as on a cluster"


def test_fine_tuning_learns_with_rounded_weights_and_leaves_the_network_alone() -> None:
    """With two bits, weights are -1, 0 or 1 times a scale while it learns; it learns something."""
    trained = trained_by(Trial(EXPERIMENT, FAULT, HP, 1))
    network: Any = TRAINING.train(trained, Place(CPU))[0]
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
    assert chip.shapes_in(chip.shapes_as_json(shapes)) == shapes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: {"trained": event_tolerance.SMOKE}, "of fault tolerance, few-shot or continual"),
        (lambda: {"bits": (9,)}, r"DeploymentSettings.bits = \(9,\): it must be of 2 to 8"),
        (lambda: {"faults": (("gaussian", (0.1,)),)}, "level 0 first"),
        (lambda: {"tested": 0}, "DeploymentSettings.tested = 0"),
        (lambda: {"lags": (0,)}, r"DeploymentSettings.lags = \(0,\)"),
    ],
)
def test_impossible_settings_are_refused(change: Callable[[], dict], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(FAULT, **change())


def test_a_network_is_named_by_its_settings_not_by_a_label() -> None:
    """What is trained cannot be missing from a plan: it is given whole."""
    with pytest.raises(ValueError, match="trained = 'fashion'"):
        replace(FAULT, trained="fashion")
    assert FAULT.schedule == FAULT.trained.schedule
    assert trained_by(Trial(EXPERIMENT, FAULT, HP, 1)).settings == FAULT.trained
