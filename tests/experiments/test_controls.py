"""What HP is set against: controls that are trained, corrections, and images as they arrive."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hybrid import cli
from hybrid.data.augment import add_noise, erase
from hybrid.described import as_json
from hybrid.experiments.core import verification
from hybrid.experiments.core.experiment import Group
from hybrid.experiments.core.records import Records, compared, gap, levels, samples, select, usual
from hybrid.experiments.core.samples import images_of
from hybrid.experiments.core.splits import split_numbers
from hybrid.experiments.core.trials import Trial
from hybrid.experiments.fault_tolerance import EXPERIMENT, PLANS, mechanism
from hybrid.experiments.fault_tolerance.arrivals import MIXED, arrivals
from hybrid.experiments.fault_tolerance.controls import SHOWN, draw_controls
from hybrid.experiments.fault_tolerance.methods import METHODS, augmentation
from hybrid.experiments.fault_tolerance.plans import SEARCH, SMOKE, TESTED
from hybrid.experiments.registry import EXPERIMENTS
from hybrid.learning.correction import CORRECTIONS, Rates
from hybrid.learning.evaluation import answer
from hybrid.learning.training import one_hot_mse
from hybrid.model.convolutional import Dense
from hybrid.model.layers import HybridLinear
from hybrid.model.networks import FullyConnected
from hybrid.runs.store import Store, read_record
from tests.experiments.digits import TEST, few_digits

SMALL = replace(
    SMOKE,
    dense=(Dense(size=16, plastic=True), Dense(size=10, plastic=True)),
    schedule=replace(SMOKE.schedule, epochs=2, lr_weight=2e-3),
    faults=(("gaussian", (0.0, 0.06)), ("crop", (4.0,))),
    corrections=CORRECTIONS,
    arrivals=True,
)
CONTROLS = tuple(m.name for m in METHODS if m.name not in ("LP", "HP-sample"))


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with few_digits(), pytest.MonkeyPatch.context() as patch:
        plan = (Group(settings=(SMALL,), methods=CONTROLS, seeds=1),)
        patch.setitem(PLANS, "smoke", plan)
        yield


@pytest.fixture(scope="module")
def kept(_small: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Records[Any, Any]]:
    folder = tmp_path_factory.mktemp("store")
    return folder, EXPERIMENT.run("smoke", store=Store(folder))


def test_every_way_to_test_has_rows(kept: tuple[Path, Records[Any, Any]]) -> None:
    own = kept[1].frame
    for method in CONTROLS:
        protocols = set(select(own, method=method, condition="crop")["protocol"])
        traces = {"batch", "frozen", "sample", "stream"} if method.startswith("HP") else {"frozen"}
        assert protocols == traces | set(CORRECTIONS)
        known = "batch" if method.startswith("HP") else "frozen"
        assert set(select(own, method=method, condition="gaussian", usual=True)["protocol"]) == {
            known
        }
    noisy = samples(own, method="GP", protocol="currents-stream", condition="gaussian")
    assert noisy.shape == (1, 2)
    assert 20.0 < noisy.min() < noisy.max() <= 100.0
    difference = gap(own, "GP + currents-stream", "GP", condition="gaussian")
    np.testing.assert_allclose(difference, noisy - gap_free(own))
    found = compared(own, ["digits/gaussian=0.06/HP + stream - GP", "digits/x=1/GP - HP", "a/b-c"])
    assert list(found) == ["digits/gaussian=0.06/HP + stream - GP"]
    assert found["digits/gaussian=0.06/HP + stream - GP"].shape == (1,)
    overlap = select(own, condition="theta").dropna(subset="overlap")
    assert set(overlap["method"]) == {name for name in CONTROLS if name.startswith("HP")}


def gap_free(own: Any) -> np.ndarray:
    return samples(own, method="GP", protocol="frozen", condition="gaussian")


def test_arrivals_are_counted_apart(kept: tuple[Path, Records[Any, Any]]) -> None:
    (record,) = kept[1].of("digits", "HP")
    entries = record["result"]["arrivals"]
    for name in ("batch", "currents-batch", "offset"):
        sizes = [
            e["level"] for e in entries if e["condition"] == "batch of" and e["protocol"] == name
        ]
        assert sorted(sizes) == [1, 10, 100, 1000]
    thirds = [e for e in entries if e["condition"] == "changing" and e["protocol"] == "stream"]
    assert [entry["level"] for entry in thirds] == [1.0, 2.0, 3.0]
    assert sum(entry["of"] for entry in thirds) == TEST
    tests = record["result"]["tests"]
    counts = np.array(tests["frozen"]["gaussian"]["confusion"])
    clean = next(
        e
        for e in entries
        if (e["condition"], e["level"], e["protocol"]) == ("sorted", 0.0, "frozen")
    )
    assert clean["right"] == np.trace(counts[0]), "order is nothing to a frozen network"


def test_arrivals_hold_the_test_images_once() -> None:
    images = images_of("digits")
    coming = arrivals(images, seed=1)
    assert [arrival.name for arrival in coming] == [
        *("batch of", "sorted", "sorted", "mixed", "changing")
    ]
    by_class = coming[1]
    assert (by_class.labels.diff() >= 0).all()
    order = np.argsort(images.test_labels, kind="stable")
    np.testing.assert_array_equal(by_class.inputs.numpy(), images.test[order].reshape(TEST, -1))
    mixed, clean = coming[3].inputs, torch.from_numpy(images.test).flatten(1)
    untouched = (mixed == clean).all(1).float().mean().item()
    assert 0.5 / len(MIXED) < untouched < 2.0 / len(MIXED)
    changing = coming[4]
    same = (changing.inputs == clean).all(1)
    for (_, first, end), expected in zip(changing.parts, (True, False, True), strict=True):
        assert bool(same[first:end].all()) is expected
    again = arrivals(images, seed=1)[3].inputs
    assert torch.equal(again, mixed)
    assert not torch.equal(arrivals(images, seed=2)[3].inputs, mixed)


@pytest.mark.parametrize("name", ["HP-plus", "HP-minus", "HP-one-rate", "HP-mean", "GP-norm"])
def test_controls_differ_in_what_they_are_called_for(name: str) -> None:
    network = Trial(EXPERIMENT, SMALL, EXPERIMENT.method(name), 1).build()
    layer = network.layers[0]  # type: ignore[union-attr, index]
    assert isinstance(layer, HybridLinear)
    if name == "GP-norm":
        assert layer.norm is not None
        assert network.layers[1].norm is None  # type: ignore[union-attr, index]
        return
    assert layer.rule is not None
    assert vars(layer.rule)["sign"] == (-1 if name == "HP-minus" else 1)
    assert vars(layer.rule)["post"] == ("constant" if name == "HP-mean" else "tanh")
    torch.nn.init.constant_(layer.theta.local_gain, -0.5)
    with torch.no_grad():
        layer.theta.local_rate.neg_()
    meta = layer.synapse().meta
    assert meta is not None
    assert meta.local_rate.shape == (784,)
    signed = name in ("HP-plus", "HP-minus")
    assert bool((meta.local_rate >= 0).all()) is signed
    assert (meta.local_gain > 0).item() is signed
    assert (meta.local_rate.unique().numel() == 1) is (name == "HP-one-rate")
    x = torch.rand(20, 784, generator=torch.Generator().manual_seed(1))
    one_hot_mse(network(x).output, torch.arange(20) % 10).backward()
    for value in layer.theta.parameters():
        assert value.grad is not None
        assert value.grad.abs().max() > 0.0
    if signed:  # what repeats is strengthened or weakened, whatever the learned values
        current = x @ layer.trace
        sign = torch.sign(current.mean()) * torch.sign(torch.tanh(network(x).windows[0].v).mean())
        assert sign.item() == vars(layer.rule)["sign"]


def test_a_constant_signal_makes_a_running_mean() -> None:
    network = Trial(EXPERIMENT, SMALL, EXPERIMENT.method("HP-mean"), 1).build()
    layer = network.layers[0]  # type: ignore[union-attr, index]
    assert isinstance(layer, HybridLinear)
    x = torch.rand(20, 784, generator=torch.Generator().manual_seed(1))
    network.train()(x)
    ages = [SMALL.rule.trace_decay**age for age in reversed(range(SMALL.steps))]
    faded = sum(gain * age for gain, age in zip(network.gain, ages, strict=True))  # type: ignore[union-attr, arg-type]
    mean = (layer.theta.local_rate * x.mean(0)).unsqueeze(1)
    expected = -faded * mean * layer.theta.sliding_threshold
    torch.testing.assert_close(layer.trace, expected.detach(), atol=1e-7, rtol=1e-4)


def test_training_images_are_changed_as_named() -> None:
    source = torch.Generator().manual_seed(0)
    grey = torch.full((400, 784), 0.5)
    variances = add_noise(grey, source).var(1)
    assert variances.min() < 0.005
    assert 0.05 < variances.max() < 0.07
    blank = erase(torch.ones(3000, 28, 28), source) == 0.0
    assert (blank.any(2).sum(1) * blank.any(1).sum(1) == blank.sum((1, 2))).all(), "rectangles"
    assert blank.sum((1, 2)).max() <= 18 * 18
    assert blank.float().mean(0).min() > 0.0, "anywhere"
    changed = {
        name: augmentation(Trial(EXPERIMENT, SMALL, EXPERIMENT.method(name), 1))
        for name in ("GP", "GP-noise", "GP-erase")
    }
    assert changed["GP"] is None
    for name in ("GP-noise", "GP-erase"):
        change = changed[name]
        assert change is not None
        assert change(grey, source).shape == grey.shape
        assert not torch.equal(change(grey, source), grey)


def test_constants_are_searched_on_images_that_are_not_for_tests() -> None:
    settings = replace(SMALL, judged_on="validation", corrections=("pixels",), arrivals=False)
    trial = Trial(EXPERIMENT, settings, EXPERIMENT.method("GP"), 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PLANS, "smoke", (Group(settings=(settings,), methods=("GP",), seeds=1),))
        (record,) = EXPERIMENT.run("smoke").records
    held_out = split_numbers(settings, 1, images_of("digits"))[1]
    assert record["result"]["tests"]["pixels"]["crop"]["of"] == len(held_out)
    counts = np.array(record["result"]["tests"]["frozen"]["gaussian"]["confusion"][0])
    truth = np.bincount(images_of("digits").train_labels[held_out], minlength=10)
    np.testing.assert_array_equal(counts.sum(1), truth)
    assert trial.name == "digits-GP-seed1"


def test_the_rates_are_those_that_the_search_chose() -> None:
    records = EXPERIMENT.load("search")
    assert len(records.records) == len(SEARCH)
    best = {}
    for name in ("pixels", "currents-stream", "thresholds"):
        scores = {
            label: select(records.frame, label=label, protocol=name)["accuracy"].mean()
            for label in records.labels
        }
        best[name] = records.planned[max(scores, key=lambda label: scores[label])].rates
    chosen = Rates(
        pixels=best["pixels"].pixels,
        currents=best["currents-stream"].currents,
        thresholds=best["thresholds"].thresholds,
    )
    assert chosen == TESTED.rates


def test_fields_that_came_later_leave_old_descriptions_alone() -> None:
    plain = replace(SMALL, corrections=(), arrivals=False)
    assert not {"corrections", "rates", "arrivals", "judged_on"} & set(as_json(plain))
    assert {"corrections", "arrivals"} <= set(as_json(SMALL))
    assert usual({"currents-stream": 0, "frozen": 0}) == "frozen"
    for change, message in (
        ({"corrections": ("prayer",)}, "corrections"),
        ({"rates": Rates(currents=0.0)}, "rates"),
        ({"judged_on": "train"}, "judged_on"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(SMALL, **change)  # type: ignore[arg-type]


def test_the_figure_shows_every_way(kept: tuple[Path, Records[Any, Any]]) -> None:
    figure = draw_controls(kept[1], "digits")
    by_title = {axes.get_title(): axes for axes in figure.axes}
    noise, blanked, faults = figure.axes[:3]
    assert noise.get_title().startswith("Noise 0.06: most gained by ")
    assert blanked.get_title().startswith("Blanked 4: most gained by ")
    names = [text.get_text() for text in noise.get_yticklabels()]
    assert names == [name for way, (name, _) in SHOWN.items() if way != "GP"]
    own = kept[1].frame
    assert levels(own, condition="gaussian", usual=True).tolist() == [0.0, 0.06]
    expected = gap(own, "GP + thresholds", "GP", condition="gaussian")[:, -1].mean()
    marks = [line.get_xdata()[0] for line in noise.get_lines() if line.get_marker() == "o"]
    np.testing.assert_allclose(marks[names.index("GP, thresholds")], expected)
    rows = [text.get_text() for text in faults.get_yticklabels()]
    assert rows == ["noise 0.06", "blanked 4"]
    assert any(title.startswith("GP, homeostatic: ") for title in by_title)


def test_a_record_is_verified_to_the_last_bit(kept: tuple[Path, Records[Any, Any]]) -> None:
    path = min(kept[0].glob("*/digits-GP-seed1-*.json"))
    runner = CliRunner()
    done = runner.invoke(cli.app, ["verify", str(path), "--jobs", "1"])
    assert done.exit_code == 0, done.output
    assert "equal to the last bit" in done.output
    record = read_record(path)
    assert {"cpu", "instructions", "numpy", "torch"} <= set(record["about"])
    record["result"]["tests"]["frozen"]["crop"]["confusion"][0][0][0] += 1
    Store(kept[0]).save(record["request"], record["result"], record["about"])
    ((_, found),) = verification.verify([path], EXPERIMENTS)
    assert found is not None
    assert found.startswith("result.tests.frozen.crop.confusion[0][0][0] is ")
    failed = runner.invoke(cli.app, ["verify", str(path), "--jobs", "1"])
    assert failed.exit_code == 1
    record["request"]["settings"]["steps"] = 3
    store = Store(kept[0].parent / "other")
    store.save(record["request"], record["result"], record["about"])
    with pytest.raises(ValueError, match="constants that no plan has"):
        list(verification.verify([store.path(record["request"])], EXPERIMENTS))


def test_noise_moves_currents_by_its_mean_and_the_trace_pushes_back() -> None:
    images = images_of("digits")
    networks = {}
    for name in ("GP", "HP"):
        network = Trial(EXPERIMENT, SMALL, EXPERIMENT.method(name), 1).build()
        assert isinstance(network, FullyConnected)
        networks[name] = network
    for values in (networks["HP"].layers[0].theta.local_gain,):  # type: ignore[union-attr]
        torch.nn.init.constant_(values, -1.0)  # type: ignore[arg-type]
    plain, hybrid = (mechanism.currents(network, images) for network in networks.values())
    assert not plain.trace.any()
    moved, unmoved = (np.ptp(values) for values in (plain.weights, plain.mixed))
    assert unmoved < 0.1 * moved
    assert np.sign(hybrid.trace[-1] - hybrid.trace[0]) == -np.sign(
        hybrid.weights[-1] - hybrid.weights[0]
    )
    streams = {name: mechanism.streamed(network, images) for name, network in networks.items()}
    assert not streams["GP"].trace.any()
    assert streams["HP"].trace[0] == 0.0
    assert streams["HP"].trace[1:].all(), "each image finds the trace that those before it left"
    shown = torch.from_numpy(streams["HP"].pictures).float().flatten(1)
    tested = answer(networks["HP"], shown[None], "stream", 1).classes[0].numpy()
    expected = tested == images.test_labels[: len(shown)]
    np.testing.assert_array_equal(streams["HP"].right.astype(bool), expected)
    figure = mechanism.draw_mechanism(networks, images, streams["HP"])
    titles = [axes.get_title() for axes in figure.axes]
    assert [title.split(" by ")[0] for title in titles[:2]] == [
        "Noise moves HP's current",
        "Its trace pushes back",
    ]
    assert titles[2].startswith("In a stream it gives back ")
    moment = mechanism.draw_moment(streams, 3)
    assert moment.axes[0].get_title().startswith("Image 3: GP ")
    assert len(moment.axes[1].get_lines()[0].get_xdata()) == 3
