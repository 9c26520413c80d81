"""The continual-learning experiment: streams, methods, records, what is computed from them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hybrid import cli
from hybrid.experiments import continual as experiment
from hybrid.experiments import continual_figure
from hybrid.experiments import continual_plans as plans
from hybrid.experiments.continual_config import Config
from hybrid.experiments.continual_methods import EWC, GP, HP, JOINT, LP, METHODS, SPARSE_GP, build
from hybrid.experiments.continual_results import Result, measure
from hybrid.experiments.plans import Group
from hybrid.experiments.trials import Trial, load_network
from hybrid.report import scoreboard
from hybrid.runs.store import Json, Store

CPU = torch.device("cpu")
TINY = Config(
    label="tiny",
    dataset="digits",
    validation=4_000,
    tasks=3,
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
    fisher_samples=100,
)


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """A smoke profile that takes seconds."""
    names = tuple(method.name for method in METHODS)
    tiny = (
        Group(configs=(TINY,), methods=names, seeds=2),
        Group(configs=(plans.of_density(TINY, 0.1),), methods=("sparse GP", "HP"), seeds=2),
    )
    monkeypatch.setitem(plans.PLANS, "smoke", tiny)


def test_the_authors_network_and_constants() -> None:
    """784-1024-1024-10, 3 % masks, and every constant of their script."""
    config = Config(label="authors")
    learner = build(config, HP, 1, 10)
    shapes = [list(weight.shape) for weight in learner.network.weights]
    assert shapes == [[1024, 784], [1024, 1024], [10, 1024]]
    assert not any("bias" in name for name, _ in learner.network.named_parameters())
    masks = learner.masks(0)
    assert masks is not None
    for mask in masks:
        assert len(mask.inputs) / np.prod(mask.shape) == pytest.approx(0.03, abs=0.005)
    assert (config.steps, config.tau, config.v_th, config.decay) == (3, 50.0, 0.5, 0.8)
    assert (config.trace_decay, config.tasks, config.epochs) == (0.8, 50, 10)
    assert (config.lr_weight, config.lr_gated, config.lr_meta) == (5e-4, 5e-4, 5e-5)
    gains = [layer.theta.local_gain.item() for layer in learner.network.layers]
    assert all(0.0 <= gain <= 0.1 for gain in gains)


def test_masks_of_fifty_tasks_take_little_memory() -> None:
    learner = build(Config(label="authors"), HP, 1, 10)
    total = 0
    for task in range(50):
        masks = learner.masks(task)
        assert masks is not None
        total += sum(part.nbytes for mask in masks for part in (mask.inputs, mask.starts))
    assert total < 20e6
    again = build(Config(label="authors"), SPARSE_GP, 1, 10).masks(7)
    for ours, same in zip(learner.masks(7) or (), again or (), strict=True):
        assert torch.equal(ours.inputs, same.inputs), "all methods of a seed have the same masks"
    other = build(Config(label="authors"), HP, 2, 10).masks(7)
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
    config = replace(TINY, stream="domain-incremental", tasks=5)
    stream = experiment.stream_of(config, 1, CPU)
    for k, view in enumerate(stream.views):
        assert set(stream.train.labels[view.train].tolist()) == {2 * k, 2 * k + 1}
        assert set(stream.test.labels[view.test].tolist()) == {2 * k, 2 * k + 1}
        assert not {*view.train.tolist()} & {*view.validation.tolist()}
    trial = Trial(experiment.EXPERIMENT, config, SPARSE_GP, 1)
    learner = experiment.EXPERIMENT.build(trial)
    assert learner.network.sizes[-1] == 2, "tasks share two answers"
    result, _ = experiment.EXPERIMENT.run(trial, CPU)
    learned = [result["accuracy"][k + 1][k] for k in range(5)]
    assert np.mean(learned) > 0.7, "of two answers"


def test_runs_are_recorded_and_read_back(plan: None, tmp_path: Path) -> None:
    store = Store(tmp_path)
    result = experiment.run("smoke", store=store)
    assert result.labels() == ("tiny", "tiny-density-0.1")
    assert result.methods("tiny") == tuple(method.name for method in METHODS)
    assert result.seeds("tiny", "HP") == (1, 2)
    assert result.accuracy("tiny", "HP").shape == (2, 4, 3)
    assert result.final("tiny", "sparse GP").min() > 25.0, "better than chance"
    assert result.final("tiny", "joint").mean() > result.final("tiny", "GP").mean()
    assert result.overlap("tiny", "HP").shape == (2, 2, 3, 3)
    assert result.active("tiny", "HP").shape == (2, 2, 3)
    for protocol in ("batch", "frozen", "sample"):
        assert result.under("tiny", "HP", protocol).shape == (2,)
    np.testing.assert_allclose(
        result.under("tiny", "HP", "batch"), result.final("tiny", "HP"), atol=1e-3
    )
    loaded = experiment.load("smoke", folder=tmp_path)
    np.testing.assert_array_equal(loaded.average("tiny", "EWC"), result.average("tiny", "EWC"))
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.json")}
    experiment.run("smoke", store=store)
    assert {path: path.stat().st_mtime_ns for path in times} == times, "nothing is run twice"
    names = measure(result)
    assert names["continual/tiny/HP"].shape == (2,)
    np.testing.assert_allclose(
        names["continual/tiny/HP-EWC"], result.final("tiny", "HP") - result.final("tiny", "EWC")
    )
    trial = Trial(experiment.EXPERIMENT, TINY, EWC, 2)
    kept = load_network(trial, store).state_dict()["accuracy"]
    np.testing.assert_allclose(100 * kept[-1], result.accuracy("tiny", "EWC")[1, -1], atol=1e-3)

    figure = continual_figure.draw(loaded, np.zeros((3, 2, 28, 28)))
    titles = [axes.get_title() for axes in figure.axes]
    assert {"Sparsity", "After the last task", "GP: what is left"} <= {*titles}
    named = [axes for axes in figure.axes if axes.get_title()]
    assert all(axes.get_xlabel() or axes.get_ylabel() for axes in named)


def made_up(table: list[list[float | None]]) -> Result:
    record: Json = {
        "request": {"config": TINY.as_json(), "method": {"name": "GP"}, "seed": 1},
        "result": {"accuracy": table},
    }
    return Result(("tiny",), (record,))


def test_measures_are_those_of_their_sources() -> None:
    result = made_up([[0.1, 0.2, 0.1], [0.9, 0.3, None], [0.5, 0.8, 0.3], [0.6, 0.4, 0.7]])
    average, learned = result.average("tiny", "GP"), result.learned("tiny", "GP")
    np.testing.assert_allclose(average, [[90.0, 65.0, 170.0 / 3]])
    np.testing.assert_allclose(learned, [[90.0, 80.0, 70.0]])
    np.testing.assert_allclose(result.backward_transfer("tiny", "GP"), [(-30.0 - 40.0) / 2])
    np.testing.assert_allclose(result.forgetting("tiny", "GP"), [(30.0 + 40.0) / 2])
    np.testing.assert_allclose(result.forward_transfer("tiny", "GP"), [(10.0 + 20.0) / 2])


def test_overlap_and_activity_are_those_of_the_spikes() -> None:
    trial = Trial(experiment.EXPERIMENT, TINY, GP, 1)
    learner, stream = experiment.EXPERIMENT.build(trial), experiment.stream_of(TINY, 1, CPU)
    found = experiment.representations(learner, stream)
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
    def record(label: str, density: float, accuracy: float) -> Json:
        config = replace(TINY, label=label, density=density, initial_scale=1.0)
        request = {"config": config.as_json(), "method": {"name": "HP"}, "seed": 1}
        return {"request": request, "result": {"accuracy": [[accuracy] * 3] * 4}}

    records = (record("tiny", 0.3, 0.8), record("tiny-density-0.1", 0.1, 0.6))
    result = Result(("tiny", "tiny-density-0.1"), records)
    shares, samples, _ = continual_figure._densities(result, "tiny")["HP"]
    np.testing.assert_allclose(shares, [0.1, 0.3])
    np.testing.assert_allclose(np.concatenate(samples), [60.0, 80.0])


def test_joint_learning_has_no_order_of_tasks() -> None:
    trial = Trial(experiment.EXPERIMENT, TINY, JOINT, 1)
    accuracy = experiment.EXPERIMENT.run(trial, CPU)[0]["accuracy"]
    assert accuracy[2][2] > accuracy[0][2] + 0.1, "the last task is learned before its turn"


@pytest.mark.parametrize("profile", plans.PLANS)
def test_plans_name_each_config_once(profile: str) -> None:
    configs = {c for group in plans.PLANS[profile] for c in group.configs}  # type: ignore[index]
    assert len({config.label for config in configs}) == len(configs)


def test_claims_are_about_configs_and_methods_of_the_plans() -> None:
    claims = [c for c in scoreboard.load_claims() if c.id.startswith("continual/")]
    assert claims
    for claim in claims:
        _, label, what = claim.id.split("/")
        groups = [g for g in plans.PLANS[claim.scale] if label in {c.label for c in g.configs}]
        seeds = {name: group.seeds for group in groups for name in group.methods}
        for name in what.split("-"):
            assert seeds[name] >= claim.minimum, claim.id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "cifar10"}, "Config.dataset = 'cifar10'"),
        ({"stream": "rotated"}, "Config.stream = 'rotated'"),
        ({"density": 1.5}, r"Config.density = 1\.5"),
        ({"tasks": 0}, "Config.tasks = 0"),
        ({"stream": "task-incremental"}, "Config.tasks = 3: it must be 5"),
        ({"strength_si": 0.0}, r"Config.strength_si = 0\.0"),
        ({"initial_scale": 0.0}, r"Config.initial_scale = 0\.0"),
        ({"hidden": (0, 5)}, r"Config.hidden = \(0, 5\)"),
        ({"lr_gated": 0.0}, r"Config.lr_gated = 0\.0"),
        ({"tau": -1.0}, r"Config.tau = -1\.0"),
        ({"meta_tasks": -3}, "Config.meta_tasks = -3"),
    ],
)
def test_impossible_configs_are_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)


def test_too_large_a_validation_split_is_named() -> None:
    config = replace(TINY, validation=4_500)
    with pytest.raises(ValueError, match=r"Config\.validation = 4500: digits has 4500"):
        experiment.stream_of(config, 1, CPU)


def test_command_line(plan: None, tmp_path: Path) -> None:
    runner = CliRunner()
    arguments = ["run", "continual", "--method", "GP", "--jobs", "1", "--store", str(tmp_path)]
    done = runner.invoke(cli.app, arguments)
    assert done.exit_code == 0, done.output
    records = sorted((tmp_path / "continual").glob("*.json"))
    assert len(records) == 2
    assert json.loads(records[0].read_text("utf-8"))["request"]["method"]["name"] == "GP"
    failed = runner.invoke(cli.app, ["run", "continual", "--method", "backprop"])
    assert failed.exit_code == 1
    assert "'backprop' is unknown" in failed.output
