"""Data, settings and models of one's own: by command, from Python, in other processes."""

import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from hybrid.cli import app
from hybrid.data.events.recordings import EVENT
from hybrid.data.images import Images
from hybrid.data.own import classes_in, image_of, own_data, own_events, own_images
from hybrid.described import as_json
from hybrid.experiments.core.experiment import Group
from hybrid.experiments.core.settings import vary
from hybrid.experiments.core.trials import Place, Task, compute, source_sha256
from hybrid.experiments.registry import experiment
from hybrid.runs.store import read_record

MAKERS = '''
import numpy as np

def patterns(count, seed, shape=(12, 10)):
    """Three patterns with a few pixels flipped."""
    rng = np.random.default_rng(seed)
    templates = np.random.default_rng(0).random((3, *shape)) > 0.6
    labels = np.arange(count) % 3
    return templates[labels] ^ (rng.random((count, *shape)) < 0.05), labels

def arrays():
    return *patterns(300, 1), *patterns(90, 2)

def coloured():
    (a, b), (c, d) = patterns(300, 1, (3, 8, 8)), patterns(60, 2, (3, 8, 8))
    return (255 * a).astype(np.uint8), b, (255 * c).astype(np.uint8), d

class Sounds:
    """Audio events without y, as of tonic's SHD: low tones or high ones."""

    sensor_size = (40, 1, 1)

    def __init__(self, count, seed):
        rng, self.items = np.random.default_rng(seed), []
        for label in np.arange(count) % 2:
            events = np.zeros(60, [("t", "i8"), ("x", "i8"), ("p", "i8")])
            events["x"] = rng.integers(20, size=60) + 20 * label
            events["t"], events["p"] = np.sort(rng.integers(1_000_000, size=60)), 1
            self.items.append((events, label))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, number):
        return self.items[number]

def sounds():
    return Sounds(300, 1), Sounds(60, 2)

def broken():
    return 1, 2, 3
'''


@pytest.fixture
def makers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "makers.py").write_text(MAKERS)
    return tmp_path


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["run", *arguments])
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.parametrize(
    ("name", "maker", "method"),
    [
        ("fault_tolerance", "arrays", "HP"),
        ("fault_tolerance", "coloured", "GP"),
        ("continual", "arrays", "sparse GP"),
        ("event_tolerance", "sounds", "GP"),
        ("classification", "sounds", "HP"),
        ("classification", "arrays", "GP"),
    ],
)
def test_data_of_ones_own_by_command(makers: Path, name: str, maker: str, method: str) -> None:
    """Other sizes, channels and classes: it learns, keeps records, prints a table, draws."""
    data = f"makers.py:{maker}"
    labels = ["--label", "makers-sounds"] if maker == "sounds" and name[0] == "c" else []
    asked = [name, "--data", data, "--seeds", "1", "--method", method, *labels, "--jobs", "1"]
    if name == "fault_tolerance" and maker == "arrays":
        asked.remove("--method"), asked.remove(method)  # a figure needs them all
    text = run(*asked)
    assert "makers" in text
    assert "accuracy" in text
    paths = sorted((makers / "results" / name).glob("*.json"))
    record = read_record(paths[0])
    assert record["request"]["settings"]["dataset"] == data
    accuracies = [float(found) for found in re.findall(r"(\d+\.\d+) \(1\)", text)]
    assert max(accuracies) > 70.0
    if "--method" not in asked:
        assert (makers / "results" / "figures" / "smoke" / "fig3.png").exists()
    before = {path: path.stat().st_mtime_ns for path in paths}
    again = run(*asked)  # nothing is computed again
    if "--method" not in asked:
        assert "fig3_details.png" in again, "drawn from what was read, too"
    assert before == {path: path.stat().st_mtime_ns for path in paths}


def test_data_of_ones_own_from_python(makers: Path) -> None:
    faults = experiment("fault_tolerance").with_data("smoke", "makers.py:arrays")
    (settings,) = faults.plans["smoke"][0].settings
    assert (settings.label, settings.dense[-1].size, settings.validation) == (
        "makers-arrays",
        3,
        30,
    )
    frame = faults.run("smoke", seeds=1, methods=["GP"]).frame
    clean = frame[(frame.condition == "gaussian") & (frame.level == 0.0) & frame.usual]
    assert clean.accuracy.max() > 80.0
    with pytest.raises(ValueError, match="define it at the top of a file"):
        experiment("fault_tolerance").with_data("smoke", lambda: None)
    with pytest.raises(ValueError, match="few_shot has data of its own"):
        experiment("few_shot").with_data("smoke", "makers.py:arrays")


def test_a_record_of_other_data_is_not_taken_for_ones_own(makers: Path) -> None:
    """Two files, one name of a function: what it returns is hashed, not its name."""
    (makers / "other.py").write_text(MAKERS.replace("< 0.05", "< 0.15"))
    faults = experiment("fault_tolerance")
    first, second = (
        faults.with_data("smoke", f"{name}.py:arrays").trials("smoke", seeds=1)[0].request()
        for name in ("makers", "other")
    )
    assert first["data"] != second["data"]


def test_data_that_change_between_processes_are_refused(makers: Path) -> None:
    """A function without a seed returns other data in each process: no record may name one hash."""
    (trial,) = (
        experiment("fault_tolerance")
        .with_data("smoke", "makers.py:arrays")
        .trials("smoke", seeds=1, methods=["GP"])
    )
    task = Task((trial,), (Place(torch.device("cpu")),), source_sha256(), "0" * 64)
    with pytest.raises(ValueError, match="holds other data in this process than where"):
        compute(task)


def test_one_name_in_two_folders_is_two_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        share = {"one": "0.05", "two": "0.2"}[folder]
        (tmp_path / folder / "makers.py").write_text(MAKERS.replace("0.05", share))
        found.append(own_data("makers.py:arrays").sha256())
    assert found[0] != found[1]


def test_settings_that_differ_by_their_data_stay_apart(
    makers: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The laptop's networks for MNIST and Fashion-MNIST are two, and both are run.

    What does not go with the data, colours for example, is left out with a word.
    """
    own = experiment("classification").with_data("laptop", "makers.py:arrays")
    labels = {settings.label for group in own.plans["laptop"] for settings in group.settings}
    assert {"makers-arrays-reduced", "makers-arrays-fashion_mnist-reduced"} <= labels
    assert not caplog.text
    experiment("classification").with_data("paper", "makers.py:arrays")
    assert "cifar10-convolutional is left out: " in caplog.text


def test_data_that_make_no_sense_are_named(makers: Path) -> None:
    for place, message in (
        ("makers.py:nothing", "defines no 'nothing'"),
        ("absent.py:make", "give a Python file and a name in it"),
        ("makers.py:broken", "tuple is not understood: return four arrays"),
        ("makers.py:sounds", "holds events"),
    ):
        text = run("fault_tolerance", "--data", place, code=1)
        assert message in " ".join(text.split()), place
    assert "holds images" in run("event_tolerance", "--data", "makers.py:arrays", code=1)
    (makers / "failing.py").write_text("import nothing_at_all")
    assert "cannot be run: ModuleNotFoundError" in " ".join(
        run("fault_tolerance", "--data", "failing.py:make", code=1).split()
    )


PICTURES = np.zeros((4, 6, 5), np.float32)
LABELS = np.array([0, 1, 2, 1])


def test_images_of_every_usual_kind_are_taken() -> None:
    """Bytes, booleans, tensors, a channel of one, colours, flat ones, pictures of Pillow."""
    for given, shape in (
        (PICTURES, (1, 6, 5)),
        ((PICTURES + 2).astype(np.uint8), (1, 6, 5)),
        (PICTURES > 0, (1, 6, 5)),
        (PICTURES[:, None], (1, 6, 5)),
        (np.zeros((4, 3, 6, 5)), (3, 6, 5)),
        (PICTURES.reshape(4, 30), (1, 1, 30)),
        (torch.zeros(4, 6, 5), (1, 6, 5)),
    ):
        data = own_images(given, LABELS, given, LABELS)
        assert image_of(data) == shape
        assert data.train.dtype == np.float32
        assert classes_in(data) == 3
    byte = own_images(np.full((4, 6, 5), 255, np.uint8), LABELS, PICTURES, LABELS)
    assert byte.train.max() == 1.0


def test_images_that_make_no_sense_are_named() -> None:
    wrong: list[tuple[NDArray[np.generic] | list[int], NDArray[np.generic], str]] = [
        (PICTURES + 2, LABELS, "from 2 to 2: scale them to 0"),
        (PICTURES * np.nan, LABELS, "scale them to 0"),
        (PICTURES.astype(int), LABELS, "images of int64: give bytes, or numbers from 0 to 1"),
        (np.zeros((4, 6, 5, 3)), LABELS, "give channels first"),
        (np.zeros(4), LABELS, r"train images \[4\]: give \[N, height, width\]"),
        (PICTURES, LABELS[:3], r"train labels \[3\] for 4 samples: give one each"),
        (PICTURES, LABELS - 1, "labels of int64 from -1: number the classes 0, 1, 2"),
        (PICTURES, LABELS + 1, "no training samples of class 0"),
        (np.ones((4, 6, 5), np.uint8), LABELS, "bytes up to 1: give booleans, or bytes up to 255"),
        (PICTURES, LABELS + 0.5, "labels of float64"),
        (np.zeros((4, 7, 5)), LABELS, "must agree"),
    ]
    for images, labels, message in wrong:
        with pytest.raises(ValueError, match=message):
            own_images(images, labels, PICTURES, LABELS)


def test_data_sets_of_samples_are_taken(makers: Path) -> None:
    """torch's, of tensors; of Pillow's pictures in colours; events only with their sensor."""
    (makers / "sets.py").write_text(
        textwrap.dedent("""
            import numpy as np, torch
            from PIL import Image
            from torch.utils.data import TensorDataset
            from makers import Sounds

            def tensors():
                images, labels = torch.rand(6, 1, 4, 4), torch.tensor([0, 1] * 3)
                return TensorDataset(images, labels), TensorDataset(images, labels)

            def pillow(mode="RGB"):
                red = Image.new("RGB", (5, 7), (255, 0, 0)).convert(mode)
                one = [(red, n % 2) for n in range(4)]
                return one, one

            def palette():
                return pillow("P")

            def other_sensor():
                other = Sounds(4, 1)
                other.sensor_size = (41, 1, 1)
                return Sounds(4, 0), other

            def unknown_sensor():
                return Sounds(4, 0).items, Sounds(4, 1).items
        """)
    )
    tensors = own_data("sets.py:tensors")
    assert isinstance(tensors, Images)
    assert image_of(tensors) == (1, 4, 4)
    for maker in ("pillow", "palette"):
        red = own_data(f"sets.py:{maker}")
        assert isinstance(red, Images)
        assert image_of(red) == (3, 7, 5)
        assert red.train[0].mean((1, 2)).round(2).tolist() == [1.0, 0.0, 0.0]
    with pytest.raises(ValueError, match=r"sensors of \(40, 1, 1\) and \(41, 1, 1\)"):
        own_data("sets.py:other_sensor")
    with pytest.raises(ValueError, match=r"events of a data set without sensor_size"):
        own_data("sets.py:unknown_sensor")


def test_events_of_ones_own_are_checked_and_told_apart() -> None:
    def recording(*times: int) -> NDArray[np.void]:
        events = np.zeros(len(times), EVENT)
        events["t"] = times
        return events

    parts = [recording(1, 2, 3), recording(4, 5)]
    data = own_events(parts, [0, 1], parts, [1, 0], (4, 3, 2))
    assert image_of(data) == (2, 3, 4)
    assert data.train.read([1])[0]["t"].tolist() == [4, 5]
    other = own_events([recording(1, 2, 4), parts[1]], [0, 1], parts, [1, 0], (4, 3, 2))
    assert data.sha256() != other.sha256()
    with pytest.raises(ValueError, match="recording 0 is not in the order of time"):
        own_events([recording(3, 1)], [0], parts, [1, 0], (4, 3, 2))
    with pytest.raises(ValueError, match="recording 1 is empty"):
        own_events([parts[0], recording()], [0, 1], parts, [1, 0], (4, 3, 2))


def test_settings_of_ones_own_by_command(makers: Path) -> None:
    """A sweep in a file: as many points as it has, with the profile's methods unless asked."""
    (makers / "sweep.py").write_text(
        textwrap.dedent("""
            from dataclasses import replace
            from hybrid import experiment, vary

            def points():
                (start,) = experiment("fault_tolerance").plans["smoke"][0].settings
                short = replace(start.schedule, epochs=1)
                start = replace(start, schedule=short, faults=(("gaussian", (0.0,)),))
                return vary(start, "rule.trace_decay", 0.5, 0.9)
        """)
    )
    asked = ["fault_tolerance", "--settings", "sweep.py:points", "--seeds", "1", "--method", "HP"]
    text = run(*asked, "--dry-run")
    for value in ("0.5", "0.9"):
        assert f"digits-rule.trace_decay={value}" in text
    both = run(*asked, "--data", "makers.py:arrays")
    assert "makers-arrays-rule.trace_decay=0.9" in both
    assert len(list((makers / "results" / "fault_tolerance").glob("*.json"))) == 2
    text = run("continual", "--settings", "sweep.py:points", code=1)
    assert "continual takes settings of kind ContinualSettings, or Groups of them" in " ".join(
        text.split()
    )


RULE_FILE = """
from dataclasses import dataclass, replace
from hybrid import Hebbian, experiment

@dataclass(frozen=True, kw_only=True)
class Mine(Hebbian):
    def learn(self, trace, memory, step):
        moved, memory = super().learn(trace, memory, step)
        return FACTOR * moved, memory
"""
POINTS = """
def points():
    (start,) = experiment("fault_tolerance").plans["smoke"][0].settings
    short = replace(start.schedule, epochs=1)
    start = replace(start, schedule=short, faults=(("gaussian", (0.0,)),), label="mine")
    return replace(start, rule=Mine(trace_decay=0.9))
"""


@pytest.mark.parametrize("together", [True, False])
def test_rules_of_ones_own_reach_the_workers_and_records_know_their_code(
    makers: Path, together: bool
) -> None:
    """Defined in the file of the settings, or beside it; a changed rule is another rule."""
    rule = makers / ("sweep.py" if together else "mine.py")
    points = POINTS if together else "from mine import *\n" + POINTS
    asked = ["fault_tolerance", "--settings", "sweep.py:points", "--seeds", "1", "--method", "HP"]
    asked += ["--data", "makers.py:arrays"]
    found = []
    for factor in ("1.0", "0.5", "1.0"):
        (makers / "sweep.py").write_text(points)
        rule.write_text(RULE_FILE.replace("FACTOR", factor) + (POINTS if together else ""))
        command = [sys.executable, "-m", "hybrid", "run", *asked, "--jobs", "1"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=makers, check=False)
        assert done.returncode == 0, done.stderr
        found.append(len(list((makers / "results" / "fault_tolerance").glob("*.json"))))
    assert found == [1, 2, 2]


def test_code_that_nobody_can_find_is_refused() -> None:
    kind = dataclass(frozen=True)(type("Made", (), {"__annotations__": {}}))
    with pytest.raises(ValueError, match="the code of Made cannot be found"):
        as_json(kind())


def test_groups_of_ones_own_say_methods_and_seeds() -> None:
    faults = experiment("fault_tolerance")
    (start,) = faults.plans["smoke"][0].settings
    points = vary(replace(start, faults=(("gaussian", (0.0,)),)), "neuron.v_th", 0.2, 0.3)
    own = faults.with_settings("smoke", [Group(settings=points, methods=("GP",), seeds=2)])
    assert [t.name for t in own.trials("smoke")] == [
        f"digits-neuron.v_th={v}-GP-seed{s}" for v in (0.2, 0.3) for s in (1, 2)
    ]
    assert len(own.trials("smoke", seeds=20)) == 40
    plain = faults.with_settings("smoke", points[0])
    assert {t.method.name for t in plain.trials("smoke", seeds=1)} == {"LP", "GP", "HP"}
