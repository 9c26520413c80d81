"""The event-tolerance experiment: frames and their cache, faults, protocols, records."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from hybrid.data.dvs import NMNIST_CAMERA, NMNIST_SACCADES, record
from hybrid.data.event_statistics import agreement, distance, statistics
from hybrid.data.events import of_tonic, tonic_version
from hybrid.data.images import load_images
from hybrid.data.recordings import Recordings
from hybrid.data.sensor_faults import SENSOR_FAULTS
from hybrid.experiments import camera_check, camera_fit, event_figure, event_sets
from hybrid.experiments import event_plans as plans
from hybrid.experiments import event_tolerance as experiment
from hybrid.experiments.base import GP, HP, LP, Method
from hybrid.experiments.event_config import Config
from hybrid.experiments.event_results import Result, measure
from hybrid.experiments.event_sets import frames_of, recordings_for
from hybrid.experiments.plans import Group
from hybrid.experiments.trials import Trial
from hybrid.learning.training import Split
from hybrid.model.networks import Activity
from hybrid.model.neurons import NeuronState
from hybrid.model.plasticity import LayerState
from hybrid.model.window.choice import Window
from hybrid.runs.store import Json, Store

TINY = Config(
    label="tiny",
    recordings=60,
    tested=20,
    validation=20,
    steps=3,
    span=310_000,
    hidden=12,
    batch_size=10,
    epochs=1,
    faults=(("centre", (0.0, 4.0)), ("noise", (20.0,)), ("hot", (0.05, 0.1))),
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for frames."""
    monkeypatch.setenv(event_sets.CACHE_SETTING, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """A smoke profile that takes seconds."""
    convolutional = replace(TINY, label="tiny-conv", convolutions=((3, True), (4, True)))
    monkeypatch.setitem(
        plans.PLANS,
        "smoke",
        (
            Group(configs=(TINY,), methods=("LP", "GP", "HP"), seeds=2),
            Group(configs=(convolutional,), methods=("HP",), seeds=1),
        ),
    )


class Counting:
    """A source that knows how often it was read."""

    def __init__(self, config: Config) -> None:
        self._source, self.reads = recordings_for(config).train, 0
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
    for change in ({"steps": 4}, {"span": 200_000}, {"span": None}, {"span": None, "by": "count"}):
        other = frames_of(replace(TINY, **change), source)
        assert other.shape != first.shape or (other != first).any(), "other windows, other frames"
    assert source.reads == 5
    fewer = frames_of(TINY, recordings_for(replace(TINY, recordings=30)).train)
    assert torch.equal(fewer, first[:30])
    assert len(list(cache.iterdir())) == 6


def test_a_damaged_cache_is_counted_anew(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = Counting(TINY)
    first = frames_of(TINY, source)
    (path,) = cache.iterdir()
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
    sets = [experiment.test_sets(TINY, sound, "hot", (0.05, 0.1), seed) for seed in (1, 1, 2)]
    assert torch.equal(sets[0], sets[1])
    assert not torch.equal(sets[0], sets[2])
    assert sets[0].shape == (2, 20, 3 * 2 * 34 * 34)
    clean = experiment.test_sets(TINY, sound, "centre", (0.0,), 1)[0]
    assert torch.equal(clean, experiment.frames_from(TINY, sound))


def drawn_as_told(result: Result) -> None:
    """The figure has a panel for each fault, with its levels and all that was tested."""
    sound = recordings_for(TINY).test.read([3])
    figure = event_figure.draw(result, "tiny", sound, camera_check.load())
    panels = {axes.get_title(): axes for axes in figure.axes}
    for fault, levels in result.faults("tiny").items():
        title = SENSOR_FAULTS[fault].axis.partition(" (")[0]
        lines = {line.get_label(): line for line in panels[title].get_lines()}
        assert list(lines) == ["LP, batch", "GP, frozen", "HP, batch", "HP, frozen"]
        for method, protocol in (name.split(", ") for name in lines):
            line = lines[f"{method}, {protocol}"]
            np.testing.assert_array_equal(line.get_xdata(), levels)
            expected = result.accuracy("tiny", method, fault, protocol).mean(0)
            np.testing.assert_allclose(line.get_ydata(), expected)
    evidence = panels["Evidence, noise at 20"].get_lines()[2]
    np.testing.assert_allclose(
        evidence.get_ydata(), result.evidence("tiny", "HP", "noise")[:, -1].mean(0)
    )
    assert {"Three saccades", "Events per recording"} <= set(panels)
    plt.close(figure)


@pytest.mark.usefixtures("plan")
def test_a_profile_runs_is_kept_and_read_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "records")
    result = experiment.run("smoke", store=store)
    assert result.labels() == ("tiny", "tiny-conv")
    assert result.methods("tiny") == ("LP", "GP", "HP")
    for method in ("LP", "GP", "HP"):
        assert result.seeds("tiny", method) == (1, 2)
        for fault, levels in result.faults("tiny").items():
            found = result.accuracy("tiny", method, fault)
            assert found.shape == (2, len(levels))
            np.testing.assert_array_equal(found[:, 0], result.sound("tiny", method))
    assert result.protocols("tiny", "HP") == ("batch", "frozen", "sample", "stream")
    assert result.protocols("tiny-conv", "HP") == ("batch", "frozen", "sample")
    assert result.protocols("tiny", "GP") == ("frozen",)
    expected = result.accuracy("tiny", "HP", "noise") - result.accuracy("tiny", "GP", "noise")
    np.testing.assert_array_equal(result.gap("tiny", "noise", "HP", "GP"), expected)
    assert result.rates("tiny", "HP", "hot").shape == (2, 2, 2)
    assert (result.rates("tiny", "HP", "hot")[..., 0] > 0.0).all()
    assert result.learning("tiny", "LP").shape == (2, 1)
    assert result.evidence("tiny", "HP", "centre").shape == (2, 2, TINY.steps)
    again = experiment.run("smoke", store=store)
    assert again.records == result.records, "nothing is computed twice"
    drawn_as_told(result)
    read = experiment.load("smoke", folder=tmp_path / "records")
    assert [r["result"] for r in read.records] == [r["result"] for r in result.records]


def test_claims_are_measured_on_faulty_cameras_and_each_fault_weighs_the_same() -> None:
    """Of 10 recordings: HP gains 4 under one fault and (1 + 3) / 2 under the other."""

    def record(method: str, seed: int, right: dict[str, list[int]]) -> Json:
        tests = {
            fault: {"confusion": [[[count, 10 - count], [0, 0]] for count in counts]}
            for fault, counts in right.items()
        }
        config = {"label": "made up", "faults": [["centre", [0.0, 4.0]], ["noise", [5.0, 20.0]]]}
        request = {"config": config, "method": {"name": method}, "seed": seed}
        return {"request": request, "result": {"tests": {"frozen": tests}}}

    records = (
        record("GP", 1, {"centre": [9, 2], "noise": [4, 3]}),
        record("GP", 2, {"centre": [9, 2], "noise": [4, 3]}),
        record("HP", 1, {"centre": [3, 6], "noise": [5, 6]}),
        record("HP", 2, {"centre": [9, 2], "noise": [4, 3]}),
    )
    measured = measure(Result(("made up",), records))
    assert list(measured) == ["event_tolerance/made up/HP-GP"]
    np.testing.assert_allclose(measured["event_tolerance/made up/HP-GP"], [30.0, 0.0])


def test_lp_trains_its_read_out_alone() -> None:
    network = experiment.build(TINY, LP, 1)
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert all(name.startswith("layers.1.") for name in trained)
    assert network.meta_parameters()
    assert not experiment.build(TINY, GP, 1).meta_parameters()
    first = [experiment.build(TINY, method, 1).layers[0].weight for method in (GP, HP, LP)]
    assert torch.equal(first[0], first[1])
    assert torch.equal(first[0], first[2])


def test_evidence_is_of_the_right_class() -> None:
    """A made-up network: its output neurons spike as often as the inputs say, up to now."""
    spikes = torch.tensor(
        [[[1.0, 0, 0], [0, 0, 0]], [[1, 1, 0], [0, 0, 1]], [[1, 0, 0], [1, 0, 1]]]
    )
    network = experiment.build(TINY, GP, 1)
    window = Window(tuple(NeuronState(z, z) for z in spikes), LayerState())
    network.forward = lambda *_, **__: Activity(spikes[-1], (window,))  # type: ignore[method-assign]
    shown = Split(torch.zeros(2, 1), torch.tensor([0, 2]))
    # Sample 0: 1, 2 - 1/2, 3 - 1/2; sample 1: 0, 1, 2 - 1/2.
    found = experiment.evidence(network, shown, 2, adapt=False)
    np.testing.assert_allclose(found, [0.5, 1.25, 2.0])


@pytest.mark.parametrize(
    ("method", "change", "least"),
    [(GP, {}, 60), (HP, {}, 60), (HP, {"answer": "membrane", "tau": 40.0}, 40)],
)
def test_networks_learn_from_events(method: Method, change: dict, least: int) -> None:
    """Far more than chance, from few recordings: the pipeline is whole."""
    config = replace(TINY, recordings=400, tested=100, hidden=64, epochs=6, lr_weight=5e-4)
    config = replace(config, **change)
    config = replace(config, validation=50, decay=0.8, faults=(("centre", (0.0,)),))
    trial = Trial(experiment.EXPERIMENT, config, method, 101)
    result, _ = experiment.EXPERIMENT.run(trial, torch.device("cpu"))
    counts = np.array(next(iter(result["tests"].values()))["centre"]["confusion"][0])
    assert counts.sum() == 100
    assert np.trace(counts) > least


@pytest.mark.parametrize("profile", plans.PLANS)
def test_plans_name_each_config_once(profile: str) -> None:
    configs = [config for group in plans.PLANS[profile] for config in group.configs]
    assert len({config.label for config in configs}) == len(configs)
    for config in configs:
        assert json.loads(json.dumps(config.as_json())) == config.as_json(), "what records hold"
        assert config.faults[0][1][0] == 0.0, "the sound camera is tested"


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

    monkeypatch.setattr("hybrid.data.events.version", no_package)
    monkeypatch.setattr("hybrid.data.events.import_module", no_module)
    for ask in (tonic_version, lambda: of_tonic("transforms", "DropEvent")):
        with pytest.raises(ValueError, match=r"pip install '.\[events\]'"):
            ask()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "mnist"}, "dataset = 'mnist': it must be one of event_digits"),
        ({"by": "pixel"}, "one of time, count"),
        ({"by": "count"}, "None with windows by count"),
        ({"recordings": 0}, ">= 1, or None for all"),
        ({"steps": 0}, "steps = 0"),
        ({"answer": "vote"}, "one of rate, membrane"),
        ({"faults": ()}, "pairs of"),
        ({"span": -5}, "at least 1 µs for each window"),
        ({"ceiling": 300}, "at most 255"),
        ({"initial_meta": -1.0}, "initial_meta = -1.0"),
        ({"faults": (("centre", (0.0,)), ("centre", (1.0,)))}, "of different names"),
        ({"faults": (("centre", ()),)}, "with levels"),
        ({"faults": (("centre", (1.0,)),)}, "level 0, first"),
        ({"faults": (("fog", (1.0,)),)}, "pairs of"),
        ({"faults": (("dropped", (0.0, 1.5)),)}, "dropped level 1.5"),
        ({"faults": (("dropped", (0.0, 0.9, 0.5)),)}, "dropped that rise"),
        ({"faults": (("dropped", (0.0, 0.5, 0.5)),)}, "dropped that rise"),
        ({"faults": (("dropped", (0.0, 0.5)), ("noise", (0.0, 5.0)))}, "first fault alone"),
    ],
)
def test_impossible_configs_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)


def test_the_camera_agrees_with_n_mnist_as_far_as_is_said() -> None:
    """The committed comparison with real test recordings, which notebook 03 quotes."""
    check = camera_check.load()
    assert check["camera"] == asdict(NMNIST_CAMERA), "of the present constants"
    assert check["saccades"] == json.loads(json.dumps(asdict(NMNIST_SACCADES)))
    assert check["simulator"] == camera_check.simulator(), "of the present simulator"
    found = check["agreement"]
    assert abs(found["total"] - 1.0) < 0.02
    assert np.abs(np.array(found["counts"]) - 1.0).max() < 0.1
    assert found["rates"] > 0.95
    assert np.min(found["images"]) > 0.95
    real, model = (camera_check.statistics_in(check, which) for which in ("real", "model"))
    again = agreement(real, model)
    assert again.total == pytest.approx(found["total"], abs=1e-3)
    assert again.rates == pytest.approx(found["rates"], abs=1e-3)
    np.testing.assert_allclose(again.images, found["images"], atol=1e-3)


def test_a_camera_is_fitted_to_what_another_one_saw() -> None:
    """A few steps of the fit come nearer to recordings of a known camera than its start."""
    pictures = load_images("digits").train[:6]
    camera = replace(NMNIST_CAMERA, threshold_on=0.14, threshold_off=0.14)
    seen = record(pictures, camera, NMNIST_SACCADES, seed=0)
    start = np.array([value for value, _ in camera_fit._START.values()])
    noise = camera_fit.border_noise(seen)
    first = record(pictures, *camera_fit.model_of(start, noise), seed=0)
    _, _, left = camera_fit.fit(seen, pictures, evaluations=40)
    assert left < 0.8 * distance(statistics(seen), statistics(first))
