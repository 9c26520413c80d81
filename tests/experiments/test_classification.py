"""The classification experiment: configs, networks, tests, records, figure."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hybrid import cli
from hybrid.experiments import classification as experiment
from hybrid.experiments import classification_figure
from hybrid.experiments import classification_plans as plans
from hybrid.experiments.classification_config import (
    CIFAR10_NETWORK,
    FASHION_NETWORK,
    MNIST_NETWORK,
    Config,
)
from hybrid.experiments.classification_plans import GP, HP, LP
from hybrid.experiments.classification_results import measure
from hybrid.experiments.image_trials import Trained, images_of
from hybrid.experiments.plans import Group, Plan
from hybrid.experiments.trials import Trial
from hybrid.learning.course import follow
from hybrid.model.coding import Rank
from hybrid.model.convolutional import Convolutional
from hybrid.model.neurons import IF, AdaptiveLIF
from hybrid.model.plasticity import STDP
from hybrid.report.scoreboard import load_claims
from hybrid.runs.store import Store

CPU = torch.device("cpu")
TINY = Config(
    label="tiny", validation=3_000, hidden=(32,), steps=4, epochs=2, batch_size=25, lr_weight=2e-3
)
CHANGES = plans.CODES_AND_NEURONS | plans.RULES_AND_ABLATIONS
SMALL_CONVOLUTIONS = {"convolutions": ((2, True, 0.0), (3, True, 0.2)), "hidden": (8,)}


def tiny_plan() -> Plan:
    few = {name: CHANGES[name] for name in ("rate", "rank", "fixed-theta")}
    return (
        Group(configs=(TINY,), methods=("LP", "GP", "HP"), seeds=2),
        Group(configs=plans.variants(TINY, few), methods=("HP",), seeds=1),
    )


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A smoke profile that takes seconds."""
    monkeypatch.setitem(plans.PLANS, "smoke", tiny_plan())
    return tiny_plan()


def test_the_authors_networks_have_their_sizes() -> None:
    """128C3-AP2-256C3-AP2-256C3-AP2-512-10, and the CIFAR-10 network with 33.6 M weights in fc1."""
    network = experiment.build(MNIST_NETWORK, HP, 1)
    assert isinstance(network, Convolutional)
    shapes = [tuple(layer.weight.shape) for layer in (*network.convolutions, *network.layers)]
    assert shapes == [
        (128, 1, 3, 3),
        (256, 128, 3, 3),
        (256, 256, 3, 3),
        (512, 2304),
        (10, 512),
    ]
    assert [layer.rule is not None for layer in network.layers] == [True, False]
    rule, gain = network.layers[0].rule, network.layers[0].theta.local_gain
    assert (rule.post, rule.sign, rule.trace_clip, rule.trace_decay) == ("identity", -1, 2.0, 0.95)
    assert gain.item() == pytest.approx(0.1)
    assert (network.layers[0].theta.local_rate == 1e-3).all()
    assert network.readout == Rank(fraction=0.8)

    fashion = experiment.build(FASHION_NETWORK, HP, 1)
    assert fashion.neuron.reset == "zero"
    assert fashion.layers[0].nonnegative_rate
    assert fashion.readout == Rank(fraction=0.9, ceiling=1.1)
    schedule = FASHION_NETWORK.schedule()
    assert [schedule.share(epoch) for epoch in (0, 40, 41, 81)] == pytest.approx([1, 1, 0.1, 0.01])
    assert schedule.decay_meta
    assert fashion.layers[-1].weight.abs().max() <= 0.5 * 512**-0.5, "read-out weights halved"

    cifar10 = experiment.build(CIFAR10_NETWORK, HP, 1)
    assert cifar10.layers[0].weight.shape == (1024, 32768)
    assert [layer.rule is not None for layer in cifar10.layers] == [False, True, False]
    assert cifar10.layers[2].neuron.reset == "none"
    assert CIFAR10_NETWORK.schedule().optimiser == "sgd"


def test_variants_change_one_thing_each() -> None:
    networks = {
        config.label.removeprefix("tiny-"): experiment.build(config, HP, 1)
        for config in plans.variants(TINY, CHANGES)
    }
    assert isinstance(networks["STDP"].layers[0].rule, STDP)
    assert isinstance(networks["IF"].neuron, IF)
    assert isinstance(networks["adaptive"].neuron, AdaptiveLIF)
    assert networks["fixed-theta"].meta_parameters() == []
    assert len(networks["unit-gain"].meta_parameters()) == 4
    assert all(layer.theta.local_gain == 1.0 for layer in networks["unit-gain"].layers)
    flags = {
        name: [layer.rule is not None for layer in networks[name].layers]
        for name in ("hidden-only", "readout-only")
    }
    assert flags == {"hidden-only": [True, False], "readout-only": [False, True]}
    spikes = networks["poisson"].encode(torch.full((3, 784), 0.5))
    assert spikes.shape == (4, 3, 784)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    base = experiment.build(TINY, HP, 1)
    for network in networks.values():
        assert torch.equal(network.layers[0].weight, base.layers[0].weight), "paired by seed"


def test_lp_learns_in_its_read_out_alone() -> None:
    network = experiment.build(TINY, LP, 1)
    trained = [name for name, p in network.named_parameters() if p.requires_grad]
    assert trained
    assert all(name.startswith("layers.1.") for name in trained)
    network = experiment.build(replace(TINY, **SMALL_CONVOLUTIONS), LP, 1)
    trained = [name for name, p in network.named_parameters() if p.requires_grad]
    assert trained
    assert all(name.startswith("layers.1.") for name in trained)


def test_rows_and_pixels_are_shown_in_order() -> None:
    rows = plans.by_rows(TINY, "rows")
    network = experiment.build(rows, HP, 1)
    pictures = torch.arange(2 * 784.0).view(2, 784)
    parts = network.encode(pictures)
    assert len(parts) == 28
    assert torch.equal(torch.cat(parts, dim=1), pictures)
    pixels = replace(rows, view="pixels", steps=784)
    assert experiment.build(pixels, GP, 1).layers[0].weight.shape == (32, 1)


@pytest.mark.parametrize("answer", ["membrane", "rate", "rank", "rank-batch"])
@pytest.mark.parametrize("convolutional", [True, False])
def test_courses_end_in_the_answer(answer: str, convolutional: bool) -> None:
    """What `follow` sums up, against the same counted sample by sample."""
    changes = SMALL_CONVOLUTIONS if convolutional else {}
    config = replace(TINY, answer=answer, steps=6, stop_fraction=0.5, **changes)
    network = experiment.build(config, HP, 1).eval()
    with torch.no_grad():  # some samples answer early, some late
        for layer in (*network.layers, *getattr(network, "convolutions", ())):
            layer.weight.mul_(3.0 if convolutional else 2.0)
            layer.bias.zero_()
    images = images_of("digits")
    inputs = torch.from_numpy(images.test).flatten(1)[:100]
    inputs = inputs * torch.linspace(0.1, 1.5, 100).unsqueeze(1)  # faint batches first
    labels = torch.from_numpy(images.test_labels)[:100]
    course = follow(network, inputs, labels, 25)

    right, stops, spikes = 0, [], torch.zeros(6, len(course.spikes[0]))
    for x, y in zip(inputs.split(25), labels.split(25), strict=True):
        with torch.no_grad():
            activity = network(x)
        right += int((activity.output.argmax(-1) == y).sum())
        last = len(activity.windows[0].states) - 1
        ends = torch.full((25,), last)
        if answer.startswith("rank"):
            states = activity.windows[-1].states
            ends = network.readout.stop_steps(states, network.neuron.v_th)
        stops += ends.tolist()
        for n, end in enumerate(ends.tolist()):
            for t in range(6):
                spikes[t] += activity.spikes()[:, : min(t, end) + 1, n].sum(1)
    assert course.confusion.trace() == course.correct[-1] == right
    assert course.confusion.sum(1).tolist() == labels.bincount(minlength=10).tolist()
    assert course.looks.tolist() == [1, 2, 3, 4, 5, 6]
    torch.testing.assert_close(course.spikes, spikes / 100)
    assert course.latency == pytest.approx(np.mean(stops) + 1)
    assert len(set(stops)) > 1 or not answer.startswith("rank")
    assert course.spikes[0].sum() > 0


def test_long_windows_are_looked_at_in_few_places() -> None:
    config = replace(plans.by_rows(TINY, "pixels"), view="pixels", steps=784)
    network = experiment.build(config, GP, 1)
    course = follow(network, torch.rand(2, 784), torch.tensor([1, 2]), 2)
    assert len(course.looks) == 28
    assert (course.looks[0], course.looks[-1]) == (1, 784)


def test_runs_are_recorded_and_read_back(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path)
    result = experiment.run("smoke", store=store)
    assert result.labels() == ("tiny", "tiny-rate", "tiny-rank", "tiny-fixed-theta")
    assert result.methods("tiny") == ("LP", "GP", "HP")
    assert result.seeds("tiny", "HP") == (1, 2)
    for method in result.methods("tiny"):
        last = result.accuracy("tiny", method)
        assert last.shape == (2,)
        assert (last > 15.0).all(), "better than chance"
        learning = result.learning("tiny", method)
        assert learning.shape == (2, 2)
        selected = result.accuracy("tiny", method, selected=True)
        stays = learning[:, 1] > learning[:, 0]  # the last epoch is the best
        np.testing.assert_array_equal(selected[stays], last[stays])
    looks, right, spikes = result.course("tiny", "HP")
    assert looks.tolist() == [1, 2, 3, 4]
    assert right.shape == spikes.shape == (2, 4)
    scales, accuracies = result.sensitivity("tiny")
    assert scales.tolist() == list(experiment.SCALES)
    one = accuracies[:, scales.tolist().index(1.0)]
    np.testing.assert_allclose(one, result.accuracy("tiny", "HP"))
    loaded = experiment.load("smoke", folder=tmp_path)
    np.testing.assert_array_equal(
        loaded.accuracy("tiny", "LP", protocol="frozen"),
        result.accuracy("tiny", "LP", protocol="frozen"),
    )
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.json")}
    experiment.run("smoke", store=store)
    assert {path: path.stat().st_mtime_ns for path in times} == times, "nothing is run twice"
    names = measure(result)
    assert names["classification/tiny/HP"].shape == (2,)

    figure = classification_figure.draw(loaded)
    titles = [axes.get_title() or axes.get_title(loc="left") for axes in figure.axes]
    assert "Learning, tiny" in titles
    assert "Variants, tiny" in titles
    assert all(axes.get_xlabel() for axes in figure.axes)


def test_the_network_of_the_best_validation_epoch_is_tested_too() -> None:
    """Learning too fast at last: the best epoch is an earlier one, and a run as long ends in it."""
    config = replace(TINY, epochs=4, lr_weight=2e-2)
    trial = Trial(experiment.EXPERIMENT, config, GP, 1)
    result, network = experiment.EXPERIMENT.run(trial, CPU)
    validations = [epoch["validation"] for epoch in result["epochs"]]
    best = 1 + int(np.argmax(validations))
    assert best < 4, "otherwise nothing is tested here"
    assert result["selected"]["epoch"] == best
    shorter = replace(trial, config=replace(config, epochs=best))
    assert (
        experiment.EXPERIMENT.run(shorter, CPU)[0]["tests"]
        == result["selected"]["tests"]
        != result["tests"]
    )
    again = experiment.test_answers(Trained(trial, network, images_of("digits"), CPU))
    assert again["tests"] == result["tests"], "the last epoch's network is handed on"


def test_spike_codes_draw_alike_in_every_test() -> None:
    config = replace(TINY, code="poisson", label="p")
    trial = Trial(experiment.EXPERIMENT, config, HP, 1)
    tested = Trained(trial, trial.build(), images_of("digits"), CPU)
    assert experiment.test_answers(tested) == experiment.test_answers(tested)


def test_a_convolutional_trial_runs_from_end_to_end() -> None:
    config = replace(MNIST_NETWORK, dataset="digits", validation=4_200, epochs=1, steps=4)
    config = replace(config, label="small", **SMALL_CONVOLUTIONS)
    result, _ = experiment.EXPERIMENT.run(Trial(experiment.EXPERIMENT, config, HP, 1), CPU)
    assert np.isfinite(result["epochs"][0]["loss"])
    assert 1.0 <= result["tests"]["batch"]["latency"] <= 4.0
    assert len(result["tests"]["batch"]["spikes"][0]) == 4, "two convolutions, two dense layers"


def test_cifar10_inputs_are_normalised_and_shifted_in_pixels_are_black() -> None:
    pixels = np.zeros((4, 3, 32, 32), np.float32)
    inputs = experiment.inputs_of(CIFAR10_NETWORK, pixels)
    black = inputs[0].unflatten(0, (3, 32, 32))[:, 0, 0]
    torch.testing.assert_close(black, torch.tensor([-2.4291, -2.4183, -2.2214]), atol=1e-4, rtol=0)
    augment = experiment.augmentation(CIFAR10_NETWORK)
    torch.testing.assert_close(augment(inputs, torch.Generator()), inputs)
    assert experiment.augmentation(MNIST_NETWORK) is None


def test_methods_are_compared_over_the_seeds_they_share(plan: Plan) -> None:
    result = experiment.run("smoke", configs=["tiny"], methods=["GP", "HP"], device="cpu")
    hp, gp = result.accuracy("tiny", "HP"), result.accuracy("tiny", "GP")
    np.testing.assert_allclose(result.gap("tiny", "HP", "GP"), hp - gp)
    without = tuple(r for r in result.records if r["request"]["label"] != "tiny-GP-seed1")
    fewer = replace(result, records=without)
    np.testing.assert_allclose(fewer.gap("tiny", "HP", "GP"), hp[1:] - gp[1:])


def test_classes_that_are_never_answered_are_counted(plan: Plan) -> None:
    result = experiment.run("smoke", configs=["tiny"], methods=["GP"], device="cpu")
    for record in result.records:
        record["result"]["tests"]["frozen"]["confusion"] = [[1, 0, 2], [3, 0, 0], [1, 0, 0]]
    assert result.unanswered("tiny", "GP").tolist() == [1.0, 1.0]


def test_committed_records_are_whole() -> None:
    for record in experiment.load("laptop").records:
        config, outcome = record["request"]["config"], record["result"]
        assert len(outcome["epochs"]) == config["epochs"]
        for test in (*outcome["tests"].values(), *outcome["selected"]["tests"].values()):
            assert np.sum(test["confusion"]) == 10_000


@pytest.mark.parametrize("profile", plans.PLANS)
def test_plans_name_each_config_once(profile: str) -> None:
    configs = [config for group in plans.PLANS[profile] for config in group.configs]
    assert len({config.label for config in configs}) == len(configs)
    for config in configs:
        assert json.loads(json.dumps(config.as_json())) == config.as_json(), "what records hold"


def test_claims_are_about_configs_of_the_paper_profile() -> None:
    labels = {config.label for group in plans.PLANS["paper"] for config in group.configs}
    claimed = {c.id.split("/")[1] for c in load_claims() if c.id.startswith("classification/")}
    assert claimed
    assert claimed <= labels


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "svhn"}, "Config.dataset = 'svhn': it must be one of digits, mnist"),
        ({"view": "columns"}, "Config.view = 'columns'"),
        ({"code": "morse"}, "Config.code = 'morse'"),
        ({"answer": "loudest"}, "Config.answer = 'loudest'"),
        ({"neuron": "HH"}, "Config.neuron = 'HH'"),
        ({"rule": "BCM"}, "Config.rule = 'BCM'"),
        ({"theta": "free"}, "Config.theta = 'free'"),
        ({"steps": 0}, "Config.steps = 0: it must be >= 1"),
        ({"tau": 0.0}, "Config.tau = 0.0: it must be > 0, or None"),
        ({"decay": 1.2}, "Config.decay = 1.2"),
        ({"hidden": (5, 0)}, "Config.hidden"),
        ({"plastic": (True,)}, "it must be 2 flags, read-out last"),
        ({"initial_gain": (1.0, 0.0)}, "Config.initial_gain"),
        ({"view": "rows"}, "Config.steps = 4: it must be 28 for view 'rows'"),
        ({"dataset": "cifar10", "view": "rows", "steps": 28}, "'image' for colour images"),
        ({"code": "poisson", **SMALL_CONVOLUTIONS}, "unless images are shown"),
        ({"view": "rows", "steps": 28, "code": "poisson"}, "'direct' for sequences"),
        ({"dataset": "cifar10"}, "convolved, if in colour"),
        ({"readout_reset": "sometimes"}, "one of subtract, zero, none"),
        ({"readout_reset": "none"}, "readout_reset = 'none': it must be left alone without conv"),
        ({"dense_dropout": 0.5}, "left alone without convolutions"),
        ({"dense_dropout": 2.0}, r"in \[0, 1\)"),
        ({"stop_fraction": 1.5}, "Config.stop_fraction"),
        ({"sign": 0}, "Config.sign = 0: it must be one of 1, -1"),
        ({"rule": "stdp", "post": "identity"}, "'tanh' with STDP"),
        ({"augment": True}, "Config.augment = True: it must be False for grey images"),
        ({"weight_decay": 0.1}, "0 for adam"),
        ({"lr_decay": "steps"}, "milestones"),
    ],
)
def test_impossible_configs_are_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)


def test_too_large_a_validation_split_is_named() -> None:
    trial = Trial(experiment.EXPERIMENT, replace(TINY, validation=4_500), GP, 1)
    with pytest.raises(ValueError, match="validation = 4500: digits has 4500 training samples"):
        experiment.EXPERIMENT.run(trial, CPU)


def test_unknown_names_and_missing_records_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="config 'nothing' is unknown: choose among digits"):
        experiment.run("smoke", configs=["nothing"])
    with pytest.raises(ValueError, match="method 'XP' is unknown"):
        experiment.run("smoke", methods=["XP"])
    with pytest.raises(ValueError, match="nothing to run"):
        experiment.run("smoke", configs=["digits-rows"], methods=["LP"])
    with pytest.raises(FileNotFoundError, match="hybrid run classification --profile laptop"):
        experiment.load("laptop", folder=tmp_path)
    with pytest.raises(KeyError, match="no finished trial of HP on digits"):
        experiment.Result((), ()).accuracy("digits", "HP")


def test_command_line(plan: Plan, tmp_path: Path) -> None:
    arguments = ["run", "classification", "--method", "GP", "--jobs", "1"]
    done = CliRunner().invoke(cli.app, [*arguments, "--store", str(tmp_path), "--config", "tiny"])
    assert done.exit_code == 0, done.output
    assert len(list(tmp_path.glob("classification/*.json"))) == 2
