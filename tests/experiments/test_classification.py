"""The classification experiment: settings, networks, tests, records, figure."""

import json
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hybrid import cli
from hybrid.described import as_json, from_json
from hybrid.experiments.classification import EXPERIMENT, plans, run
from hybrid.experiments.classification.claims import rows
from hybrid.experiments.classification.figure import draw
from hybrid.experiments.classification.plans import (
    CIFAR10_NETWORK,
    FASHION_NETWORK,
    GP,
    HP,
    LP,
    MNIST_NETWORK,
)
from hybrid.experiments.classification.run import SCALES, augmentation, inputs_of
from hybrid.experiments.classification.settings import ClassificationSettings
from hybrid.experiments.core.experiment import Group
from hybrid.experiments.core.methods import Method
from hybrid.experiments.core.network import Trained
from hybrid.experiments.core.records import Records, gap, levels, samples
from hybrid.experiments.core.samples import images_of
from hybrid.experiments.core.trials import Place, Trial
from hybrid.experiments.deployment.inspect import KINDS
from hybrid.learning.evaluation import SILENT, answer_curve, classes_of
from hybrid.learning.schedule import Schedule
from hybrid.model.coding import InParts, LastMembrane, Poisson, Rank, Rate, ReadOut
from hybrid.model.convolutional import Convolution, Convolutional, Dense
from hybrid.model.layers import InitialMeta
from hybrid.model.networks import HybridNetwork
from hybrid.model.neurons import IF, LIF, AdaptiveLIF
from hybrid.model.plasticity import STDP, Hebbian
from hybrid.report.scoreboard import load_claims
from hybrid.runs.store import Store
from tests.experiments.digits import few_digits

CPU = torch.device("cpu")
TINY = replace(
    plans.SMOKE,
    label="tiny",
    validation=500,
    dense=plans.dense(32),
    steps=4,
    rule=Hebbian(trace_decay=0.95, trace_clip=4.0, nominal_batch=25),
    schedule=Schedule(epochs=2, batch_size=25, lr_weight=2e-3, lr_meta=5e-4),
)
CHANGES = plans.CODES_AND_NEURONS | plans.RULES_AND_ABLATIONS
SMALL_CONVOLUTIONS = {
    "convolutions": (
        Convolution(channels=2, pooled=True),
        Convolution(channels=3, pooled=True, dropout=0.2),
    ),
    "dense": plans.dense(8),
}


def build(settings: ClassificationSettings, method: Method) -> HybridNetwork:
    """Return the untrained network of seed 1."""
    return Trial(EXPERIMENT, settings, method, 1).build()


@pytest.fixture(scope="module", autouse=True)
def _tiny() -> Iterator[None]:
    """A smoke profile that takes seconds."""
    few = {name: CHANGES[name] for name in ("rate", "rank", "fixed-theta")}
    tiny = (
        Group(settings=(TINY,), methods=("LP", "GP", "HP"), seeds=2),
        Group(settings=plans.variants(TINY, few), methods=("HP",), seeds=1),
    )
    with few_digits(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(plans.PLANS, "smoke", tiny)
        yield


@pytest.fixture(scope="module")
def kept(_tiny: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Records[Any, Any]]:
    """The store of a whole run, to be read alone, and what the run returned."""
    folder = tmp_path_factory.mktemp("store")
    return folder, EXPERIMENT.run("smoke", store=Store(folder), device="cpu")


def test_the_authors_networks_have_their_sizes() -> None:
    """128C3-AP2-256C3-AP2-256C3-AP2-512-10, and the CIFAR-10 network with 33.6 M weights in fc1."""
    network = build(MNIST_NETWORK, HP)
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

    fashion = build(FASHION_NETWORK, HP)
    assert fashion.neuron.reset == "zero"
    assert fashion.layers[0].nonnegative_rate
    assert fashion.readout == Rank(fraction=0.9, ceiling=1.1)
    schedule = FASHION_NETWORK.schedule
    assert [schedule.share(epoch) for epoch in (0, 40, 41, 81)] == pytest.approx([1, 1, 0.1, 0.01])
    assert schedule.decay_meta
    assert fashion.layers[-1].weight.abs().max() <= 0.5 * 512**-0.5, "read-out weights halved"

    cifar10 = build(CIFAR10_NETWORK, HP)
    assert cifar10.layers[0].weight.shape == (1024, 32768)
    assert [layer.rule is not None for layer in cifar10.layers] == [False, True, False]
    assert cifar10.layers[2].neuron.reset == "none"
    assert CIFAR10_NETWORK.schedule.optimiser == "sgd"


def test_variants_change_one_thing_each() -> None:
    networks = {
        settings.label.removeprefix("tiny-"): build(settings, HP)
        for settings in plans.variants(TINY, CHANGES)
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
    spikes = networks["poisson"].encode(torch.full((3, 784), 0.5), TINY.steps)
    assert spikes.shape == (4, 3, 784)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    base = build(TINY, HP)
    for network in networks.values():
        assert torch.equal(network.layers[0].weight, base.layers[0].weight), "paired by seed"


def test_lp_learns_in_its_read_out_alone() -> None:
    network = build(TINY, LP)
    trained = [name for name, p in network.named_parameters() if p.requires_grad]
    assert trained
    assert all(name.startswith("layers.1.") for name in trained)
    network = build(replace(TINY, **SMALL_CONVOLUTIONS), LP)
    trained = [name for name, p in network.named_parameters() if p.requires_grad]
    assert trained
    assert all(name.startswith("layers.1.") for name in trained)


def test_rows_and_pixels_are_shown_in_order() -> None:
    rows = plans.by_parts(TINY, "rows")
    assert rows.steps == 28
    network = build(rows, HP)
    pictures = torch.arange(2 * 784.0).view(2, 784)
    parts = network.encode(pictures, network.steps)
    assert len(parts) == 28
    assert torch.equal(torch.cat(parts, dim=1), pictures)
    pixels = plans.by_parts(TINY, "pixels", steps=784)
    assert build(pixels, GP).layers[0].weight.shape == (32, 1)


@pytest.mark.parametrize(
    "readout",
    [
        LastMembrane(ceiling=1.1),
        Rate(),
        Rank(ceiling=1.1),
        Rank(fraction=0.5, ceiling=1.1),
    ],
    ids=["membrane", "rate", "rank", "rank-batch"],
)
@pytest.mark.parametrize("convolutional", [True, False])
def test_answer_curves_end_in_the_answer(readout: ReadOut, convolutional: bool) -> None:
    """What `answer_curve` sums up, against the same counted sample by sample."""
    changes = SMALL_CONVOLUTIONS if convolutional else {}
    network = build(replace(TINY, readout=readout, steps=6, **changes), HP).eval()
    with torch.no_grad():  # some samples answer early, some late
        for layer in (*network.layers, *getattr(network, "convolutions", ())):
            layer.weight.mul_(3.0 if convolutional else 2.0)
            layer.bias.zero_()
    images = images_of("digits")
    inputs = torch.from_numpy(images.test).flatten(1)[:100]
    inputs = inputs * torch.linspace(0.1, 1.5, 100).unsqueeze(1)  # faint batches first
    labels = torch.from_numpy(images.test_labels)[:100]
    curve = answer_curve(network, inputs, labels, 25)

    right, stops, spikes = 0, [], torch.zeros(6, len(curve.spikes[0]))
    answered = torch.zeros(10, dtype=torch.int64)
    for x, y in zip(inputs.split(25), labels.split(25), strict=True):
        with torch.no_grad():
            activity = network(x)
        answers = classes_of(activity.output)
        right += int((answers == y).sum())
        answered += y[answers != SILENT].bincount(minlength=10)
        last = len(activity.windows[0].states) - 1
        ends = torch.full((25,), last)
        if isinstance(readout, Rank):
            states = activity.windows[-1].states
            ends = network.readout.stop_steps(states, network.neuron.v_th)
        stops += ends.tolist()
        for n, end in enumerate(ends.tolist()):
            for t in range(6):
                spikes[t] += activity.spikes()[:, : min(t, end) + 1, n].sum(1)
    assert curve.confusion.trace() == curve.correct[-1] == right
    assert curve.confusion.sum(1).tolist() == answered.tolist()
    assert curve.silent == 100 - answered.sum()
    assert curve.asked.tolist() == [1, 2, 3, 4, 5, 6]
    torch.testing.assert_close(curve.spikes, spikes / 100)
    assert curve.latency == pytest.approx(np.mean(stops) + 1)
    assert len(set(stops)) > 1 or not isinstance(readout, Rank)
    assert curve.spikes[0].sum() > 0


def test_samples_that_nobody_answers_are_no_zeros() -> None:
    """Black images without a bias: the network says nothing, also where the label is 0."""
    network = build(replace(TINY, readout=Rate()), GP).eval()
    for layer in network.layers:
        torch.nn.init.zeros_(layer.bias)
    curve = answer_curve(network, torch.zeros(6, 784), torch.tensor([0, 0, 0, 1, 2, 3]), 3)
    assert curve.silent == 6
    assert curve.confusion.sum() == curve.correct.sum() == 0
    tested = {"tests": {"frozen": run.as_json(curve)}, "selected": {"tests": {}}, "epochs": []}
    row, *_ = rows({"result": tested})
    assert row["accuracy"] == 0.0


def test_long_windows_are_asked_at_few_steps() -> None:
    network = build(plans.by_parts(TINY, "pixels", steps=784), GP)
    curve = answer_curve(network, torch.rand(2, 784), torch.tensor([1, 2]), 2)
    assert len(curve.asked) == 28
    assert (curve.asked[0], curve.asked[-1]) == (1, 784)


def test_runs_are_recorded_and_read_back(kept: tuple[Path, Records[Any, Any]]) -> None:
    folder, records = kept
    frame = records.frame
    assert records.labels == ("tiny", "tiny-rate", "tiny-rank", "tiny-fixed-theta")
    assert records.methods("tiny") == ("LP", "GP", "HP")
    assert records.seeds("tiny", "HP") == (1, 2)
    for method in records.methods("tiny"):
        own = {"label": "tiny", "method": method}
        last = samples(frame, condition="last", usual=True, **own)[:, 0]
        assert last.shape == (2,)
        assert (last > 15.0).all(), "better than chance"
        learning = samples(frame, condition="learning", **own)
        assert learning.shape == (2, 2)
        selected = samples(frame, condition="selected", usual=True, **own)[:, 0]
        stays = learning[:, 1] > learning[:, 0]  # the last epoch is the best
        np.testing.assert_array_equal(selected[stays], last[stays])
    hybrid = {"label": "tiny", "method": "HP"}
    asked = {**hybrid, "condition": "answered by", "usual": True}
    assert levels(frame, **asked).tolist() == [1, 2, 3, 4]
    assert samples(frame, **asked).shape == samples(frame, "spikes", **asked).shape == (2, 4)
    scales = levels(frame, condition="gain", **hybrid).tolist()
    assert scales == list(SCALES)
    one = samples(frame, condition="gain", **hybrid)[:, scales.index(1.0)]
    last = samples(frame, condition="last", usual=True, **hybrid)[:, 0]
    np.testing.assert_allclose(one, last)
    loaded = EXPERIMENT.load("smoke", folder=folder)
    where = {"label": "tiny", "method": "LP", "condition": "last", "protocol": "frozen"}
    np.testing.assert_array_equal(samples(loaded.frame, **where), samples(frame, **where))
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*/*.json")}
    EXPERIMENT.run("smoke", store=Store(folder), device="cpu")
    assert {path: path.stat().st_mtime_ns for path in times} == times, "nothing is run twice"
    assert records.claims()["classification/tiny/HP"].shape == (2,)

    figure = draw(loaded)
    titles = [axes.get_title() or axes.get_title(loc="left") for axes in figure.axes]
    assert any(title.startswith("Learning tiny: ") for title in titles)
    assert any(title.startswith("All but ") and "points at most" in title for title in titles)
    assert all(axes.get_xlabel() for axes in figure.axes)


def test_the_network_of_the_best_validation_epoch_is_tested_too() -> None:
    """Learning too fast at last: the best epoch is an earlier one, and a run as long ends in it."""
    schedule = replace(TINY.schedule, epochs=4, lr_weight=2e-2)
    trial = Trial(EXPERIMENT, replace(TINY, schedule=schedule), GP, 1)
    result, network = EXPERIMENT.compute(trial, Place(CPU))
    validations = [epoch["validation"] for epoch in result["epochs"]]
    best = 1 + int(np.argmax(validations))
    assert best < 4, "otherwise nothing is tested here"
    assert result["selected"]["epoch"] == best
    shorter = replace(trial, settings=replace(TINY, schedule=replace(schedule, epochs=best)))
    assert (
        EXPERIMENT.compute(shorter, Place(CPU))[0]["tests"]
        == result["selected"]["tests"]
        != result["tests"]
    )
    again = run.score_answers(Trained(trial, network, images_of("digits"), CPU))
    assert again["tests"] == result["tests"], "the last epoch's network is handed on"


def test_spike_codes_draw_alike_in_every_test() -> None:
    trial = Trial(EXPERIMENT, replace(TINY, encode=Poisson(), label="p"), HP, 1)
    tested = Trained(trial, trial.build(), images_of("digits"), CPU)
    assert run.score_answers(tested) == run.score_answers(tested)


def test_a_convolutional_trial_runs_from_end_to_end() -> None:
    settings = replace(
        MNIST_NETWORK,
        label="small",
        dataset="digits",
        validation=1_700,
        schedule=replace(MNIST_NETWORK.schedule, epochs=1),
        steps=4,
        **SMALL_CONVOLUTIONS,
    )
    result, _ = EXPERIMENT.compute(Trial(EXPERIMENT, settings, HP, 1), Place(CPU))
    assert np.isfinite(result["epochs"][0]["loss"])
    assert 1.0 <= result["tests"]["batch"]["latency"] <= 4.0
    assert len(result["tests"]["batch"]["spikes"][0]) == 4, "two convolutions, two dense layers"


def test_cifar10_inputs_are_normalised_and_shifted_in_pixels_are_black() -> None:
    pixels = np.zeros((4, 3, 32, 32), np.float32)
    inputs = inputs_of(CIFAR10_NETWORK, pixels)
    black = inputs[0].unflatten(0, (3, 32, 32))[:, 0, 0]
    torch.testing.assert_close(black, torch.tensor([-2.4291, -2.4183, -2.2214]), atol=1e-4, rtol=0)
    augment = augmentation(Trial(EXPERIMENT, CIFAR10_NETWORK, GP, 1))
    torch.testing.assert_close(augment(inputs, torch.Generator()), inputs)
    assert augmentation(Trial(EXPERIMENT, MNIST_NETWORK, GP, 1)) is None


def test_methods_are_compared_over_the_seeds_they_share(
    kept: tuple[Path, Records[Any, Any]],
) -> None:
    records, own = kept[1], {"label": "tiny", "condition": "last"}
    hp, gp = (samples(records.frame, method=m, usual=True, **own) for m in ("HP", "GP"))
    np.testing.assert_allclose(gap(records.frame, "HP", "GP", **own), hp - gp)
    without = tuple(r for r in records.records if r["request"]["label"] != "tiny-GP-seed1")
    fewer = replace(records, records=without)
    np.testing.assert_allclose(gap(fewer.frame, "HP", "GP", **own), hp[1:] - gp[1:])


def test_classes_that_are_never_answered_are_counted(
    kept: tuple[Path, Records[Any, Any]],
) -> None:
    records = deepcopy(kept[1].of("tiny", "GP"))
    for record in records:
        record["result"]["tests"]["frozen"]["confusion"] = [[1, 0, 2], [3, 0, 0], [1, 0, 0]]
    frame = replace(kept[1], records=tuple(records)).frame
    assert samples(frame, "unanswered", condition="last").tolist() == [[1.0], [1.0]]


def test_committed_records_are_whole() -> None:
    for record in EXPERIMENT.load("laptop").records:
        settings, outcome = record["request"]["settings"], record["result"]
        assert len(outcome["epochs"]) == settings["schedule"]["epochs"]
        for test in (*outcome["tests"].values(), *outcome["selected"]["tests"].values()):
            assert np.sum(test["confusion"]) == 10_000


@pytest.mark.parametrize("profile", plans.PLANS)
def test_plans_name_all_settings_once(profile: str) -> None:
    planned = [settings for group in plans.PLANS[profile] for settings in group.settings]
    assert len({settings.label for settings in planned}) == len(planned)
    for settings in planned:
        assert json.loads(json.dumps(as_json(settings))) == as_json(settings), "what records hold"


def test_claims_are_about_settings_of_the_paper_profile() -> None:
    labels = {settings.label for group in plans.PLANS["paper"] for settings in group.settings}
    claimed = {c.id.split("/")[1] for c in load_claims() if c.id.startswith("classification/")}
    assert claimed
    assert claimed <= labels


def rule(**changes: Any) -> Hebbian:
    return Hebbian(trace_decay=0.95, **changes)


def schedule(**changes: Any) -> Schedule:
    return replace(TINY.schedule, **changes)


def layers(hidden: dict, last: dict) -> tuple[Dense, ...]:
    return Dense(size=32, **hidden), Dense(size=10, **last)


BARE = "faded, without dropout and neurons unless convolved"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: {"dataset": "svhn"}, "Settings.dataset = 'svhn': it must be one of digits, mnist"),
        (lambda: {"theta": "free"}, "ClassificationSettings.theta = 'free'"),
        (lambda: {"steps": 0}, "ClassificationSettings.steps = 0: it must be a whole number >= 1"),
        (lambda: {"tau": 0.0}, "ClassificationSettings.tau = 0.0: it must be > 0, or None"),
        (lambda: {"neuron": LIF(decay=1.2, v_th=1.0)}, "LIF.decay = 1.2"),
        (lambda: {"dense": plans.dense(5, 0)}, "Dense.size = 0"),
        (lambda: {"dense": plans.dense(32, plastic=(True,))}, "shorter"),
        (lambda: {"dense": (Dense(size=32),)}, "layers that end in 10 classes"),
        (lambda: {"dense": ()}, "at least one layer, the read-out"),
        (
            lambda: {"initial_meta": InitialMeta((1.0, 0.0), (0.0, 0.0), (0.0, 0.0))},
            "ClassificationSettings.initial_meta",
        ),
        (
            lambda: {"encode": InParts(), "steps": 5},
            "Settings.steps = 5: it must be a divisor of the 784 pixels",
        ),
        (
            lambda: {
                "dataset": "cifar10",
                "encode": InParts(),
                "steps": 28,
                **SMALL_CONVOLUTIONS,
            },
            "None with convolutions",
        ),
        (lambda: {"encode": Poisson(), **SMALL_CONVOLUTIONS}, "None with convolutions"),
        (lambda: {"dataset": "cifar10"}, "there, for colour images"),
        (
            lambda: {"neuron": LIF(decay=0.4, v_th=0.3, reset="sometimes")},
            "LIF.reset = 'sometimes': it must be one of subtract, zero, none",
        ),
        (lambda: {"dense": layers({}, {"neuron": LIF(decay=0.4, v_th=0.3, reset="none")})}, BARE),
        (lambda: {"dense": layers({"dropout": 0.5}, {})}, BARE),
        (lambda: {"dense": layers({"faded": False}, {})}, BARE),
        (lambda: {"nonnegative_rate": True}, "False unless convolved"),
        (lambda: {"dense": layers({"dropout": 2.0}, {})}, r"Dense.dropout = 2.0: .* in \[0, 1\)"),
        (lambda: {"readout": Rank(fraction=1.5)}, "Rank.fraction = 1.5"),
        (lambda: {"rule": rule(sign=0)}, "Hebbian.sign = 0: it must be 1"),
        (lambda: {"augment": True}, "Settings.augment = True: it must be False for grey images"),
        (lambda: {"schedule": schedule(weight_decay=0.1)}, "0 for adam"),
        (lambda: {"schedule": schedule(decay="steps")}, "milestones"),
    ],
)
def test_impossible_settings_are_named(change: Callable[[], dict], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change())


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("encode", "Columns"),
        ("encode", "Morse"),
        ("readout", "Loudest"),
        ("neuron", "HH"),
        ("rule", "Covariance"),
    ],
)
def test_objects_of_unknown_kinds_are_named(field: str, kind: str) -> None:
    """A code, an answer, a neuron or a rule is an object: only a stored name can be wrong."""
    kinds = {**KINDS, "ClassificationSettings": ClassificationSettings}
    whole = as_json(TINY)
    assert from_json(whole, kinds) == TINY
    with pytest.raises(ValueError, match=f"settings of kind '{kind}' are unknown"):
        from_json({**whole, field: {"kind": kind}}, kinds)


def test_what_does_not_go_together_cannot_be_said() -> None:
    """STDP has no function of the potential; inputs are shown in parts or as spikes, not both."""
    stdp = as_json(STDP(trace_decay=0.9))
    with pytest.raises(ValueError, match=r"STDP has other fields.*'post'"):
        from_json({**stdp, "post": "identity"}, KINDS)
    with pytest.raises(TypeError, match="'view'"):
        replace(TINY, encode=Poisson(), view="rows")


def test_too_large_a_validation_split_is_named() -> None:
    trial = Trial(EXPERIMENT, replace(TINY, validation=2_000), GP, 1)
    message = "validation = 2000: it must be less than the 2000 training samples of digits"
    with pytest.raises(ValueError, match=message):
        EXPERIMENT.compute(trial, Place(CPU))


def test_unknown_names_and_missing_records_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="label 'nothing' is unknown: choose one of tiny"):
        EXPERIMENT.run("smoke", labels=["nothing"])
    with pytest.raises(ValueError, match="method 'XP' is unknown"):
        EXPERIMENT.run("smoke", methods=["XP"])
    with pytest.raises(ValueError, match="nothing to run"):
        EXPERIMENT.run("smoke", labels=["tiny-rate"], methods=["LP"])
    with pytest.raises(FileNotFoundError, match="hybrid run classification --profile laptop"):
        EXPERIMENT.load("laptop", folder=tmp_path)
    nothing = EXPERIMENT.records(EXPERIMENT.trials("smoke"), [])
    with pytest.raises(KeyError, match="no finished trial of HP on tiny"):
        nothing.results("tiny", "HP")


def test_command_line(kept: tuple[Path, Records[Any, Any]], tmp_path: Path) -> None:
    store = tmp_path / "store"
    (found,) = kept[0].glob("classification/tiny-GP-seed2-*.json")
    (store / "classification").mkdir(parents=True)
    shutil.copy(found, store / "classification")
    arguments = ["run", "classification", "--method", "GP", "--jobs", "1"]
    done = CliRunner().invoke(cli.app, [*arguments, "--store", str(store), "--label", "tiny"])
    assert done.exit_code == 0, done.output
    assert len(list(store.glob("classification/*.json"))) == 2
