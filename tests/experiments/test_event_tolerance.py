"""The event-tolerance experiment: frames and their cache, faults, protocols, records."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from hybrid.data.events.faults import SENSOR_FAULTS
from hybrid.data.events.recordings import Recordings, of_tonic, tonic_version
from hybrid.described import as_json, from_json
from hybrid.experiments.core.experiment import Group
from hybrid.experiments.core.methods import GP, HP, LP, Method
from hybrid.experiments.core.network import score
from hybrid.experiments.core.records import Records, compared, gap, levels, samples, select
from hybrid.experiments.core.trials import Place, Trial
from hybrid.experiments.deployment.inspect import KINDS
from hybrid.experiments.event_tolerance import EXPERIMENT, camera, plans, run
from hybrid.experiments.event_tolerance.claims import faults_in
from hybrid.experiments.event_tolerance.figure import draw, draw_details, draw_gains
from hybrid.experiments.event_tolerance.frames import (
    CACHE_SETTING,
    frames_from,
    frames_of,
    recordings_for,
)
from hybrid.experiments.event_tolerance.settings import EventSettings
from hybrid.learning.iteration import Split
from hybrid.learning.schedule import Schedule
from hybrid.model.coding import EventCounts, LastMembrane, Rate
from hybrid.model.convolutional import Convolution, Dense
from hybrid.model.layers import InitialMeta
from hybrid.model.networks import Activity, HybridNetwork
from hybrid.model.neurons import LIF, NeuronState
from hybrid.model.plasticity import Hebbian, LayerState
from hybrid.model.window.choice import Window
from hybrid.report.estimate import Estimate
from hybrid.runs.store import Json, Store


def dense(hidden: int) -> tuple[Dense, ...]:
    return Dense(size=hidden, plastic=True), Dense(size=10, plastic=True)


TINY = EventSettings(
    label="tiny",
    dataset="event_digits",
    recordings=60,
    tested=20,
    validation=20,
    neuron=LIF(decay=0.4, v_th=0.35),
    rule=Hebbian(trace_decay=0.95, trace_clip=4.0, nominal_batch=10),
    readout=Rate(),
    steps=3,
    tau=None,
    span=310_000,
    dense=dense(12),
    encode=EventCounts(ceiling=3),
    schedule=Schedule(epochs=1, batch_size=10, lr_weight=1e-3, lr_meta=5e-4),
    faults=(("centre", (0.0, 4.0)), ("noise", (20.0,)), ("hot", (0.05, 0.1))),
)


def build(method: Method) -> HybridNetwork:
    """Return the untrained network of seed 1."""
    return Trial(EXPERIMENT, TINY, method, 1).build()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for frames."""
    monkeypatch.setenv(CACHE_SETTING, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for frames that several tests need."""
    folder = tmp_path_factory.mktemp("frames")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_SETTING, str(folder))
        yield folder


@pytest.fixture
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A smoke profile that takes seconds."""
    convolutions = (Convolution(channels=3, pooled=True), Convolution(channels=4, pooled=True))
    convolutional = replace(TINY, label="tiny-conv", convolutions=convolutions)
    tiny = (
        Group(settings=(TINY,), methods=("LP", "GP", "HP"), seeds=2),
        Group(settings=(convolutional,), methods=("HP",), seeds=1),
    )
    monkeypatch.setitem(plans.PLANS, "smoke", tiny)


class Counting:
    """A source that knows how often it was read."""

    def __init__(self, settings: EventSettings) -> None:
        self._source, self.reads = recordings_for(settings).train, 0
        self.labels, self.sensor = self._source.labels, self._source.sensor
        self.fingerprint = self._source.fingerprint

    def read(self, numbers: Sequence[int]) -> Recordings:
        self.reads += 1
        return self._source.read(numbers)


def test_frames_are_counted_once_for_the_same_windows(cache: Path) -> None:
    source = Counting(TINY)
    first = frames_of(TINY, source)
    assert first.shape == (60, 3 * 2 * 34 * 34)
    assert first.dtype == torch.uint8
    assert source.reads == 1
    assert torch.equal(frames_of(TINY, source), first)
    assert source.reads == 1, "kept on disk"
    for change in ({"steps": 4}, {"span": 200_000}, {"span": None}):
        other = frames_of(replace(TINY, **change), source)
        assert other.shape != first.shape or (other != first).any(), "other windows, other frames"
    assert source.reads == 4
    fewer = frames_of(TINY, recordings_for(replace(TINY, recordings=30)).train)
    assert torch.equal(fewer, first[:30])
    assert len(list(cache.glob("*.safetensors"))) == 5


def test_those_who_ask_at_once_count_once(cache: Path) -> None:
    source = Counting(TINY)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: frames_of(TINY, source), range(4)))
    assert source.reads == 1
    assert all(torch.equal(one, found[0]) for one in found)


def test_frames_under_anothers_name_are_counted_anew(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = Counting(TINY)
    frames_of(TINY, source)
    (path,) = cache.glob("*.safetensors")
    other = replace(TINY, span=200_000)
    expected = frames_of(other, source)
    (own,) = set(cache.glob("*.safetensors")) - {path}
    own.write_bytes(path.read_bytes())
    with caplog.at_level(logging.WARNING):
        assert torch.equal(frames_of(other, source), expected)
    assert "holds other frames" in caplog.text


def test_a_damaged_cache_is_counted_anew(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = Counting(TINY)
    first = frames_of(TINY, source)
    (path,) = cache.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        assert torch.equal(frames_of(TINY, source), first)
    assert path.name in caplog.text
    assert source.reads == 2


def test_a_cache_that_cannot_be_written_costs_time_alone(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        assert len(frames_of(TINY, recordings_for(TINY).train)) == 60
    assert "frames are not kept" in caplog.text


def test_methods_of_a_seed_meet_the_same_faults_and_seeds_others() -> None:
    sound = recordings_for(TINY).test.read(range(20))
    sets = [run.faulty_frames(TINY, sound, "hot", (0.05, 0.1), seed) for seed in (1, 1, 2)]
    assert torch.equal(sets[0], sets[1])
    assert not torch.equal(sets[0], sets[2])
    assert sets[0].shape == (2, 20, 3 * 2 * 34 * 34)
    clean = run.faulty_frames(TINY, sound, "centre", (0.0,), 1)[0]
    assert torch.equal(clean, frames_from(TINY, sound))


def drawn_as_told(records: Records[Any, Any]) -> None:
    """The figure has a panel for each fault, with its levels and all that was tested."""
    sound = recordings_for(TINY).test.read([3])
    figure, details = draw(records, sound, camera.load()), draw_details(records, "tiny")
    panels = {axes.get_title(): axes for axes in (*figure.axes, *details.axes)}
    own = select(records.frame, label="tiny")
    assert faults_in(own) == ["centre", "noise", "hot"]
    for fault in faults_in(own):
        title = SENSOR_FAULTS[fault].axis.partition(" (")[0]
        lines = {line.get_label(): line for line in panels[title].get_lines()}
        assert list(lines) == ["LP, batch", "GP, frozen", "HP, batch", "HP, frozen"]
        for method, protocol in (name.split(", ") for name in lines):
            line = lines[f"{method}, {protocol}"]
            where = {"method": method, "condition": fault, "protocol": protocol}
            np.testing.assert_array_equal(line.get_xdata(), levels(own, **where))
            np.testing.assert_allclose(line.get_ydata(), samples(own, **where).mean(0))
    evidence = panels["tiny: evidence, noise at 20"].get_lines()[2]
    gathered = [result["evidence"]["noise"][-1] for result in records.results("tiny", "HP")]
    np.testing.assert_allclose(evidence.get_ydata(), np.mean(gathered, axis=0))
    assert {"Three saccades", "Events per recording"} <= set(panels)
    (gains,) = [axes for title, axes in panels.items() if title.startswith("HP's largest lead")]
    expected = gap(own, "HP", "GP", condition="noise")[:, 1:].mean()
    assert any(np.isclose(line.get_xdata()[0], expected) for line in gains.get_lines())


@pytest.mark.usefixtures("_tiny")
def test_a_profile_runs_is_kept_and_read_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "records")
    records = EXPERIMENT.run("smoke", store=store)
    assert records.labels == ("tiny", "tiny-conv")
    assert records.methods("tiny") == ("LP", "GP", "HP")
    own = select(records.frame, label="tiny")
    faults = {"centre": [0.0, 4.0], "noise": [0.0, 20.0], "hot": [0.0, 0.05, 0.1]}
    for method in ("LP", "GP", "HP"):
        assert records.seeds("tiny", method) == (1, 2)
        tested = select(own, method=method, usual=True)
        sound = samples(tested, condition="centre")[:, 0]
        for fault, strengths in faults.items():
            assert levels(tested, condition=fault).tolist() == strengths
            found = samples(tested, condition=fault)
            assert found.shape == (2, len(strengths))
            np.testing.assert_array_equal(found[:, 0], sound)

    def protocols(label: str, method: str) -> list[str]:
        found = select(records.frame, label=label, method=method, condition="hot")
        return list(found["protocol"].unique())

    assert protocols("tiny", "HP") == ["batch", "frozen", "sample", "stream"]
    assert protocols("tiny-conv", "HP") == ["batch", "frozen", "sample"]
    assert protocols("tiny", "GP") == ["frozen"]
    noise = {"condition": "noise", "usual": True}
    expected = samples(own, method="HP", **noise) - samples(own, method="GP", **noise)
    np.testing.assert_array_equal(gap(own, "HP", "GP", condition="noise"), expected)
    hot = {"method": "HP", "condition": "hot", "usual": True}
    hidden, out = (samples(own, layer, **hot)[:, 1:] for layer in ("rate 0", "rate 1"))
    assert hidden.shape == out.shape == (2, 2)
    assert (hidden > 0.0).all()
    assert np.isfinite(out).all()
    assert samples(own, method="LP", condition="learning").shape == (2, 1)
    gathered = [result["evidence"]["centre"] for result in records.results("tiny", "HP")]
    assert np.shape(gathered) == (2, 2, TINY.steps)
    again = EXPERIMENT.run("smoke", store=store)
    assert again.records == records.records, "nothing is computed twice"
    drawn_as_told(records)
    read = EXPERIMENT.load("smoke", folder=tmp_path / "records")
    assert [r["result"] for r in read.records] == [r["result"] for r in records.records]


def test_records_say_which_recordings_were_answered_rightly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = replace(TINY, label="each", each=True, corrections=("currents-stream",), tested=30)
    plan = (Group(settings=(settings,), methods=("GP", "HP"), seeds=2),)
    monkeypatch.setitem(plans.PLANS, "smoke", plan)
    records = EXPERIMENT.run("smoke")
    frame = records.frame[records.frame["condition"] != "learning"]
    assert set(frame["each"].map(len)) == {30}
    np.testing.assert_allclose(frame["each"].map(np.mean), frame["accuracy"])
    with monkeypatch.context() as patch:
        patch.setattr(run, "score", lambda *a, **k: score(*a, **{**k, "each": False}))
        without = EXPERIMENT.run("smoke")
    pd.testing.assert_frame_equal(without.frame, records.frame.drop(columns="each"))

    by_recording = records.claims()
    name = "event_tolerance/each/GP + currents-stream - HP"
    assert by_recording[name].shape == (2, 30)
    np.testing.assert_allclose(by_recording[name].mean(1), without.claims()[name])
    figure = draw_gains(records, "each")
    (axes,) = figure.axes
    assert axes.get_xlabel().endswith("mean over levels (n = 2; 30 recordings)")
    sure = re.findall(r" (\d+)(?:;|$)", axes.get_title())
    ways = ("HP", "HP + stream", "GP + currents-stream")
    expected = [
        sum(
            Estimate.of(gap(frame, way, "GP", "each", condition=fault)[:, 1:].mean(1)).low > 0.0
            for fault in faults_in(frame)
        )
        for way in ways
    ]
    assert list(map(int, sure)) == expected
    shown = {round(float(x), 6) for line in axes.get_lines() for x in line.get_xdata()}
    gains = [compared(records.frame, [f"each/{f}/HP - GP"]) for f in ("centre", "noise", "hot")]
    assert {round(float(np.mean(*gain.values())), 6) for gain in gains} <= shown

    noise = compared(records.frame, ["each/noise/HP + stream - GP"])["each/noise/HP + stream - GP"]
    assert noise.shape == (2, 30)
    assert set(np.unique(noise)) <= {-100.0, 0.0, 100.0}, "one level: right or wrong"


def test_claims_are_measured_on_faulty_cameras_and_each_fault_weighs_the_same() -> None:
    """Of 10 recordings: HP gains 4 under one fault and (1 + 3) / 2 under the other."""

    def record(method: str, seed: int, right: dict[str, list[int]]) -> Json:
        tests = {
            fault: {"confusion": [[[count, 10 - count], [0, 0]] for count in counts]}
            for fault, counts in right.items()
        }
        settings = {"label": "made up", "faults": [["centre", [0.0, 4.0]], ["noise", [5.0, 20.0]]]}
        request = {"settings": settings, "method": {"name": method}, "seed": seed}
        return {"request": request, "result": {"tests": {"frozen": tests}, "epochs": []}}

    records = (
        record("GP", 1, {"centre": [9, 2], "noise": [4, 3]}),
        record("GP", 2, {"centre": [9, 2], "noise": [4, 3]}),
        record("HP", 1, {"centre": [3, 6], "noise": [5, 6]}),
        record("HP", 2, {"centre": [9, 2], "noise": [4, 3]}),
    )
    measured = Records(EXPERIMENT, {"made up": TINY}, records).claims()
    assert list(measured) == ["event_tolerance/made up/HP - GP"]
    np.testing.assert_allclose(measured["event_tolerance/made up/HP - GP"], [30.0, 0.0])


def test_lp_trains_its_read_out_alone() -> None:
    network = build(LP)
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert all(name.startswith("layers.1.") for name in trained)
    assert network.meta_parameters()
    assert not build(GP).meta_parameters()
    first = [build(method).layers[0].weight for method in (GP, HP, LP)]
    assert torch.equal(first[0], first[1])
    assert torch.equal(first[0], first[2])


def test_evidence_is_of_the_right_class() -> None:
    """A made-up network: its output neurons spike as often as the inputs say, up to now."""
    spikes = torch.tensor(
        [[[1.0, 0, 0], [0, 0, 0]], [[1, 1, 0], [0, 0, 1]], [[1, 0, 0], [1, 0, 1]]]
    )
    network = build(GP)
    window = Window(tuple(NeuronState(z, z) for z in spikes), LayerState())
    network.forward = lambda *_, **__: Activity(spikes[-1], (window,))  # type: ignore[method-assign]
    shown = Split(torch.zeros(2, 1), torch.tensor([0, 2]))
    # Sample 0: 1, 2 - 1/2, 3 - 1/2; sample 1: 0, 1, 2 - 1/2.
    found = run.evidence(network, shown, 2, adapt=False)
    np.testing.assert_allclose(found, [0.5, 1.25, 2.0])


@pytest.mark.parametrize(
    ("method", "change", "least"),
    [
        (GP, {}, 60),
        (HP, {}, 60),
        (HP, {"readout": LastMembrane(ceiling=1.1), "tau": 40.0}, 40),
    ],
)
def test_networks_learn_from_events(
    method: Method,
    change: dict,
    least: int,
    shared_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Far more than chance, from few recordings: the pipeline is whole."""
    monkeypatch.setenv(CACHE_SETTING, str(shared_cache))
    settings = replace(
        TINY,
        recordings=400,
        tested=100,
        validation=50,
        neuron=LIF(decay=0.8, v_th=0.35),
        dense=dense(64),
        schedule=replace(TINY.schedule, epochs=6, lr_weight=5e-4),
        faults=(("centre", (0.0,)),),
        **change,
    )
    result, _ = EXPERIMENT.compute(
        Trial(EXPERIMENT, settings, method, 101), Place(torch.device("cpu"))
    )
    counts = np.array(next(iter(result["tests"].values()))["centre"]["confusion"][0])
    assert counts.sum() == 100
    assert np.trace(counts) > least


@pytest.mark.parametrize("profile", plans.PLANS)
def test_plans_name_all_settings_once(profile: str) -> None:
    planned = [settings for group in plans.PLANS[profile] for settings in group.settings]
    assert len({settings.label for settings in planned}) == len(planned)
    for settings in planned:
        assert json.loads(json.dumps(as_json(settings))) == as_json(settings), "what records hold"
        assert settings.faults[0][1][0] == 0.0, "the sound camera is tested"


def test_more_recordings_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match=r"recordings = 5000: it must be at most 4,500"):
        recordings_for(replace(TINY, recordings=5_000))
    with pytest.raises(ValueError, match=r"tested = 501: it must be at most 500"):
        recordings_for(replace(TINY, tested=501))


def test_without_tonic_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_package(name: str) -> None:
        raise PackageNotFoundError(name)

    def no_module(name: str) -> None:
        raise ModuleNotFoundError(name="tonic")

    monkeypatch.setattr("hybrid.data.events.recordings.version", no_package)
    monkeypatch.setattr("hybrid.data.events.recordings.import_module", no_module)
    for ask in (tonic_version, lambda: of_tonic("transforms", "DropEvent")):
        with pytest.raises(ValueError, match=r"pip install '.\[events\]'"):
            ask()


def faults(*pairs: tuple[str, tuple[float, ...]]) -> dict:
    return {"faults": pairs}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: {"dataset": "mnist"}, "dataset = 'mnist': it must be one of event_digits"),
        (lambda: {"recordings": 0}, ">= 1, or None for all"),
        (lambda: {"steps": 0}, "steps = 0"),
        (lambda: {"faults": ()}, "at least one fault"),
        (lambda: {"span": -5}, "at least 1 µs for each window"),
        (lambda: {"encode": EventCounts(ceiling=300)}, "at most 255"),
        (lambda: {"encode": EventCounts(ceiling=0)}, "EventCounts.ceiling = 0: it must be >= 1"),
        (lambda: {"encode": None}, "encode = None: it must be EventCounts"),
        (lambda: {"initial_meta": InitialMeta.up_to(-1.0)}, r"pairs \(low, high\) with low <="),
        (lambda: faults(("centre", (0.0,)), ("centre", (1.0,))), "of different names"),
        (lambda: faults(("centre", ())), "with levels"),
        (lambda: faults(("centre", (1.0,))), "level 0, first"),
        (lambda: faults(("fog", (1.0,))), "pairs of"),
        (lambda: faults(("dropped", (0.0, 1.5))), "dropped level 1.5"),
        (lambda: faults(("dropped", (0.0, 0.9, 0.5))), "dropped that rise"),
        (lambda: faults(("dropped", (0.0, 0.5, 0.5))), "dropped, each once"),
        (lambda: faults(("dropped", (0.0, 0.5)), ("noise", (0.0, 5.0))), "first fault alone"),
    ],
)
def test_impossible_settings_are_refused(change: Callable[[], dict], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change())


def test_other_windows_and_answers_cannot_be_said() -> None:
    """Windows are of time, and an answer is an object: only a stored name can be wrong."""
    for by in ("pixel", "count"):
        with pytest.raises(TypeError, match="'by'"):
            replace(TINY, by=by)
    kinds = {**KINDS, "EventSettings": EventSettings, "EventCounts": EventCounts}
    whole = as_json(TINY)
    assert from_json(whole, kinds) == TINY
    with pytest.raises(ValueError, match="settings of kind 'Vote' are unknown"):
        from_json({**whole, "readout": {"kind": "Vote"}}, kinds)
