"""Event recordings: files, frames, damaged data, tonic's folders, faults of a sensor."""

import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.data import events as named
from hybrid.data import sources
from hybrid.data.events import archive, load_events, read_bin, tree
from hybrid.data.frames import to_frames
from hybrid.data.recordings import EVENT, EventError, Events, Recordings
from hybrid.data.sensor_faults import HOT_RATE, SENSOR_FAULTS, corrupt_events
from hybrid.data.sources import DamagedDataError, MissingDataError

SENSOR = (7, 5, 2)
LEVELS = {
    "centre": 2.0,
    "occlusion": 0.25,
    "dead": 0.3,
    "hot": 0.1,
    "dropped": 0.5,
    "gap": 0.3,
    "noise": 20.0,
    "flipped": 0.3,
    "jitter": 5.0,
    "slow": 10.0,
}


def events(seed: int, count: int = 400, sensor: tuple[int, int, int] = SENSOR) -> Events:
    source = np.random.default_rng(seed)
    made = np.empty(count, EVENT)
    made["x"], made["y"] = (source.integers(size, size=count) for size in sensor[:2])
    made["t"] = np.sort(source.integers(300_000, size=count))
    made["p"] = source.random(count) < 0.5
    return made


def recordings(count: int = 6) -> Recordings:
    return Recordings.of([events(i, 200 + 50 * i) for i in range(count)], SENSOR)


def as_bin(made: Events) -> bytes:
    """Return events as N-MNIST's files have them, written from the format's description."""
    bits = (
        made["x"].astype(np.uint64) << np.uint64(32)
        | made["y"].astype(np.uint64) << np.uint64(24)
        | made["p"].astype(np.uint64) << np.uint64(23)
        | made["t"].astype(np.uint64)
    )
    return b"".join(int(word).to_bytes(5, "big") for word in bits)


def write_tree(folder: Path, labels: list[int]) -> list[Events]:
    made = [events(i) for i in range(len(labels))]
    for number, (label, own) in enumerate(zip(labels, made, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        (folder / str(label) / f"{number + 1:05d}.bin").write_bytes(as_bin(own))
    return made


def test_events_have_the_fields_of_tonic() -> None:
    assert named.of_tonic("io", "events_struct") == EVENT


def test_recordings_that_cannot_be_are_refused() -> None:
    outside, backwards = events(0), events(1)
    outside["x"][3] = SENSOR[0]
    backwards["t"][7] = backwards["t"][6] - 1
    for wrong, message in ((outside, "beyond 7 x 5 pixels"), (backwards, "order of time")):
        with pytest.raises(EventError, match=f"recording 1 .*{message}"):
            Recordings.of([events(2), wrong], SENSOR)
    for starts in ([0, 2], [1, 3], [0, 3, 2, 3], []):
        with pytest.raises(ValueError, match="starts must rise from 0 to 3"):
            Recordings(events(0, 3), np.array(starts, dtype=np.int64), SENSOR)


@settings(deadline=None, max_examples=30)
@given(
    counts=st.lists(st.integers(0, 60), min_size=1, max_size=40),
    steps=st.integers(1, 12),
    by=st.sampled_from(["time", "count"]),
    seed=st.integers(0, 10_000),
)
def test_every_event_is_counted_once(counts: list[int], steps: int, by: str, seed: int) -> None:
    parts = [events(seed + i, count) for i, count in enumerate(counts)]
    frames = to_frames(Recordings.of(parts, SENSOR), steps, by)  # type: ignore[arg-type]
    assert frames.shape == (len(counts), steps, 2, SENSOR[1], SENSOR[0])
    for own, part in zip(frames, parts, strict=True):
        expected = np.zeros((2, SENSOR[1], SENSOR[0]))
        np.add.at(expected, (part["p"].astype(int), part["y"], part["x"]), 1)
        np.testing.assert_array_equal(own.sum(0), expected)


@pytest.mark.parametrize(("by", "argument"), [("time", "n_time_bins"), ("count", "n_event_bins")])
def test_frames_are_those_of_tonic_but_for_what_tonic_loses(by: str, argument: str) -> None:
    made, steps = recordings(), 9
    frames = to_frames(made, steps, by)  # type: ignore[arg-type]
    theirs = named.of_tonic("transforms", "ToFrame")(sensor_size=SENSOR, **{argument: steps})
    for own, part in zip(frames, made, strict=True):
        extra = own.astype(int) - theirs(part)
        assert extra[:-1].any() == 0, "all windows but the last are equal"
        assert extra.min() == 0
        lost = extra.sum()
        assert lost >= 1 if by == "time" else lost == len(part) % steps
        assert lost < steps, "whole windows of µs, or of events, lose no more"


def test_windows_of_a_span_do_not_move_with_what_is_lost() -> None:
    made = recordings()
    late = made.keep(made.events["t"] >= 150_000)
    frames = to_frames(made, 6, span=300_000)
    np.testing.assert_array_equal(to_frames(late, 6, span=300_000)[:, 3:], frames[:, 3:])
    assert to_frames(late, 6, span=300_000)[:, :3].sum() == 0
    assert frames.sum() == len(made.events)
    crowded = np.zeros(70_000, EVENT)
    with pytest.raises(ValueError, match="a pixel has more than 65,535 events"):
        to_frames(Recordings.of([crowded], SENSOR), 1)
    crowded["x"][::2] = 1
    assert to_frames(Recordings.of([crowded], SENSOR), 1).max() == 35_000
    assert to_frames(Recordings.of([], SENSOR), 3).shape == (0, 3, 2, 5, 7)
    with pytest.raises(ValueError, match="span = 3"):
        to_frames(made, 6, span=3)
    with pytest.raises(ValueError, match="choose one of time, count"):
        to_frames(made, 6, by="size")  # type: ignore[arg-type]


def test_a_tree_as_tonic_leaves_it_is_read(tmp_path: Path) -> None:
    labels = [7, 0, 7, 3]
    made = write_tree(tmp_path / "NMNIST" / "Train", labels)
    source = tree(tmp_path / "NMNIST" / "Train")
    assert source.labels.tolist() == labels, "in the order of numbers, not of labels"
    found = source.read([3, 0])
    np.testing.assert_array_equal(found[0], made[3])
    np.testing.assert_array_equal(found[1], made[0])
    with zipfile.ZipFile(tmp_path / "Train.zip", "w") as packed:
        for path in sorted((tmp_path / "NMNIST").rglob("*.bin")):
            packed.write(path, path.relative_to(tmp_path / "NMNIST"))
    zipped = archive(tmp_path / "Train.zip", "some")
    np.testing.assert_array_equal(zipped.read(range(4)).events, source.read(range(4)).events)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    write_tree(tmp_path, [1, 2, 3])
    (tmp_path / "1" / "00001.bin").write_bytes(as_bin(events(0))[:-2])
    (tmp_path / "2" / "00002.bin").write_bytes(b"")
    beyond = events(2)
    beyond["x"][0] = 34
    (tmp_path / "3" / "00003.bin").write_bytes(as_bin(beyond))
    source = tree(tmp_path)
    for number, message in enumerate(("cut short", "is empty", "beyond 34 x 34")):
        with pytest.raises(DamagedDataError, match=f"0000{number + 1}.bin .*{message}"):
            source.read([number])


def test_a_wrong_folder_or_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedDataError, match="holds no recordings"):
        tree(tmp_path)
    (tmp_path / "recording.bin").write_bytes(as_bin(events(0)))
    with pytest.raises(DamagedDataError, match="expected <label>/<number>"):
        tree(tmp_path)
    write_tree(tmp_path / "both" / "Train", [1])
    write_tree(tmp_path / "both" / "Test", [2])
    with pytest.raises(DamagedDataError, match="expected <label>/<number>"):
        tree(tmp_path / "both")
    (tmp_path / "some.zip").write_bytes(b"no archive")
    with pytest.raises(DamagedDataError, match=r"some\.zip cannot be read"):
        archive(tmp_path / "some.zip", "some")


def test_part_of_n_mnist_is_not_taken_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(sources.SETTING, str(tmp_path))
    write_tree(tmp_path / "NMNIST" / "Train", [1, 2])
    with pytest.raises(DamagedDataError, match="holds 2 recordings, not 60,000"):
        load_events("nmnist")


@pytest.mark.parametrize("name", ["nmnist", "dvs_gesture", "cifar10_dvs"])
def test_a_failed_download_by_tonic_names_the_remedy(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(sources.SETTING, str(tmp_path))

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(named.of_tonic("dataset", "Dataset"), "download", unreachable)
    with pytest.raises(MissingDataError, match="could not be fetched by tonic") as caught:
        load_events(name)
    assert str(tmp_path) in str(caught.value)
    assert "HYBRID_DATA" in str(caught.value)


@pytest.fixture
def gestures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with three recordings and one, as tonic leaves DVS128 Gesture."""
    monkeypatch.setenv(sources.SETTING, str(tmp_path))
    monkeypatch.setattr(named.of_tonic("datasets", "DVSGesture"), "_check_exists", lambda _: True)
    monkeypatch.setattr(named, "_GESTURES_LEAST", {"Train": 3, "Test": 1})
    for half, labels in (("ibmGestureTrain", (4, 0, 10)), ("ibmGestureTest", (9,))):
        folder = tmp_path / "DVSGesture" / half / "user01_led"
        folder.mkdir(parents=True)
        for label in labels:
            # Columns of the published arrays: x, y, polarity, ms.
            np.save(folder / f"{label}.npy", np.array([[3, 5, 1, 20], [127, label, 0, 21]]))
    return tmp_path / "DVSGesture"


def test_gestures_in_the_folders_of_tonic_are_read(
    gestures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load_events("dvs_gesture")
    assert found.train.labels.tolist() == [0, 10, 4], "in the order of paths"
    assert found.test.labels.tolist() == [9]
    for number, label in enumerate(found.train.labels):
        events = found.train.read([number])[0]
        assert events["t"].tolist() == [0, 1000]
        assert (events["x"].tolist(), events["p"].tolist()) == ([3, 127], [True, False])
        assert events["y"].tolist() == [5, label], "the label is that of the recording"
    assert found.classes[4] == "right arm counter-clockwise"

    # Whatever order the file system lists them in.
    theirs = named.of_tonic("datasets", "DVSGesture")
    backwards = theirs.__init__

    def reversed_files(self: object, *arguments: object, **options: object) -> None:
        backwards(self, *arguments, **options)
        self.data.reverse()  # type: ignore[attr-defined]
        self.targets.reverse()  # type: ignore[attr-defined]

    monkeypatch.setattr(theirs, "__init__", reversed_files)
    again = load_events("dvs_gesture")
    assert again.sha256() == found.sha256()
    np.testing.assert_array_equal(again.train.read([2]).events, found.train.read([2]).events)


def test_gestures_that_are_missing_or_damaged_are_named(gestures: Path) -> None:
    path = gestures / "ibmGestureTrain" / "user01_led" / "4.npy"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DamagedDataError, match=r"4\.npy cannot be read"):
        load_events("dvs_gesture").train.read([2])
    path.unlink()
    with pytest.raises(DamagedDataError, match="holds 2 recordings, fewer than 3"):
        load_events("dvs_gesture")


def test_a_recording_of_cifar10_dvs_without_its_reader_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(sources.SETTING, str(tmp_path))
    theirs = named.of_tonic("datasets", "CIFAR10DVS")
    monkeypatch.setattr(theirs, "_check_exists", lambda _: True)
    monkeypatch.setattr(named, "_CIFAR10_DVS_SIZE", 40)
    monkeypatch.setattr(named, "_CIFAR10_DVS_TEST", 10)
    for name in theirs.classes:
        (tmp_path / "CIFAR10DVS" / name).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "CIFAR10DVS" / name / f"{number}.aedat4").write_bytes(b"")
    found = load_events("cifar10_dvs")
    assert np.bincount(found.test.labels).tolist() == [1] * 10
    assert np.bincount(found.train.labels).tolist() == [3] * 10
    monkeypatch.setitem(sys.modules, "aedat", None)
    with pytest.raises(MissingDataError, match="pip install aedat"):
        found.train.read([0])


def test_an_unknown_set_is_refused() -> None:
    with pytest.raises(ValueError, match="choose one of event_digits"):
        load_events("n-mnist")


@pytest.mark.parametrize("name", SENSOR_FAULTS)
def test_faults_change_something_and_only_by_seed_and_number(name: str) -> None:
    made, before = recordings(), np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    faulty = corrupt_events(made, name, LEVELS[name], seed=3)
    again = corrupt_events(made, name, LEVELS[name], seed=3)
    np.testing.assert_array_equal(faulty.events, again.events)
    assert len(faulty) == len(made)
    assert len(faulty.events) != len(made.events) or (faulty.events != made.events).any()
    np.testing.assert_array_equal(made.events, recordings().events)
    alone = corrupt_events(Recordings.of([made[4]], SENSOR), name, LEVELS[name], 3, numbers=[4])
    np.testing.assert_array_equal(alone[0], faulty[4])
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # type: ignore[index]
    assert corrupt_events(made, name, 0.0, seed=3) is made


@pytest.mark.parametrize("name", [n for n in SENSOR_FAULTS if n not in ("centre", "slow")])
def test_random_faults_differ_by_seed(name: str) -> None:
    made = recordings()
    one, other = (corrupt_events(made, name, LEVELS[name], seed) for seed in (1, 2))
    assert len(one.events) != len(other.events) or (one.events != other.events).any()


def test_levels_mean_what_their_axes_say() -> None:
    sensor = (34, 34, 2)
    made = Recordings.of([events(i, 20_000, sensor) for i in range(4)], sensor)

    def left(name: str, level: float) -> Recordings:
        return corrupt_events(made, name, level, seed=0)

    def share(name: str, level: float) -> float:
        return len(left(name, level).events) / len(made.events)

    assert share("dropped", 0.3) == pytest.approx(0.7, abs=1e-3)
    assert share("gap", 0.3) == pytest.approx(0.7, abs=0.02)
    assert share("dead", 0.25) == pytest.approx(0.75, abs=0.04)
    assert share("occlusion", 0.25) == pytest.approx(0.75, abs=0.03)
    assert share("centre", 17.0) == 0.0
    seen = left("centre", 3.0).events
    assert share("centre", 3.0) == pytest.approx(1 - 36 / 34**2, abs=5e-3)
    assert not ((np.abs(seen["x"] - 16.5) < 3) & (np.abs(seen["y"] - 16.5) < 3)).any()
    turned = (left("flipped", 0.2).events["p"] != made.events["p"]).mean()
    assert turned == pytest.approx(0.2, abs=0.01)
    added = len(left("noise", 10.0).events) - len(made.events)
    assert added == pytest.approx(4 * 10.0 * 34**2 * 0.3, rel=0.05)
    hot = Recordings.of([events(9, 2, sensor)] * 1, sensor)
    pixels = corrupt_events(hot, "hot", 0.05, seed=0).events
    assert len(np.unique(pixels[["x", "y"]])) == pytest.approx(0.05 * 34**2, rel=0.3)


def test_polarity_of_noise_is_balanced() -> None:
    made = corrupt_events(recordings(), "noise", 500.0, seed=0).events
    assert made["p"].mean() == pytest.approx(0.5, abs=0.03)


def rested(part: Events, rest: int) -> Events:
    """What pixels send that rest for `rest` µs after each event, one event after the other."""
    last: dict[tuple[int, int], int] = {}
    wanted = []
    for x, y, t, _ in part.tolist():
        wanted.append(t - last.get((x, y), -(10**9)) > rest)
        if wanted[-1]:
            last[x, y] = t
    return part[np.array(wanted, dtype=bool)]


@pytest.mark.parametrize("rest", [0.001, 3.0, 40.0, 1000.0])
def test_pixels_rest_after_what_they_send(rest: float) -> None:
    shaken = corrupt_events(recordings(), "jitter", 100.0, seed=0)
    assert shaken.events["t"].min() < 0
    for made in (recordings(), shaken):
        slow = corrupt_events(made, "slow", rest, seed=0)
        assert 0 < len(slow.events) <= len(made.events)
        for own, part in zip(slow, made, strict=True):
            np.testing.assert_array_equal(own, rested(part, round(1e3 * rest)))


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.4, 0.9, 1.0])
def test_occlusion_hides_the_share_it_says_anywhere(share: float) -> None:
    sensor = (34, 34, 2)
    everywhere = np.zeros(34 * 34, EVENT)
    everywhere["x"], everywhere["y"] = np.tile(np.arange(34), 34), np.repeat(np.arange(34), 34)
    made = Recordings.of([everywhere] * 300, sensor)
    hidden = corrupt_events(made, "occlusion", share, seed=0)
    counts = 34 * 34 - np.diff(hidden.starts)
    np.testing.assert_allclose(counts / 34**2, share, atol=0.5 / 34)
    seen = np.zeros((34, 34))
    np.add.at(seen, (hidden.events["y"], hidden.events["x"]), 1)
    for axis in (0, 1):
        assert (seen.min(axis) < 300).all(), "each row and column is hidden sometimes, the last too"


def test_hot_pixels_fire_at_their_rate() -> None:
    sensor = (34, 34, 2)
    ends = np.zeros(2, EVENT)
    ends["t"] = 0, 1_000_000
    made = corrupt_events(Recordings.of([ends], sensor), "hot", 0.05, seed=0)
    pixels, counts = np.unique(made.events[["x", "y"]], return_counts=True)
    assert counts[counts > 2].mean() == pytest.approx(HOT_RATE, rel=0.05)
    assert len(pixels) > 0.02 * 34**2


def test_jitter_moves_times_by_as_much_as_it_says() -> None:
    part = np.zeros(20_000, EVENT)
    part["t"] = 500_000
    moved = corrupt_events(Recordings.of([part], SENSOR), "jitter", 5.0, seed=0).events["t"]
    assert moved.mean() == pytest.approx(500_000, abs=200)
    assert moved.std() == pytest.approx(5_000, rel=0.03)


def test_jitter_moves_times_and_nothing_else() -> None:
    made = recordings()
    moved = corrupt_events(made, "jitter", 5.0, seed=0)
    assert len(moved.events) == len(made.events)
    order = np.sort(moved.events[["x", "y", "p"]])
    np.testing.assert_array_equal(order, np.sort(made.events[["x", "y", "p"]]))


@pytest.mark.parametrize(
    ("name", "level", "message"),
    [
        ("blur", 0.1, "choose one of centre"),
        ("dropped", 1.5, "must be >= 0 and <= 1"),
        ("noise", -1.0, "must be >= 0"),
    ],
)
def test_impossible_faults_are_refused(name: str, level: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        corrupt_events(recordings(), name, level, seed=0)


def test_bytes_are_read_as_the_format_says() -> None:
    # x = 1, y = 2, brighter, t = 3 µs, and x = 33, y = 0, darker, t = 2^23 - 1 µs.
    content = bytes([1, 2, 0x80, 0, 3, 33, 0, 0x7F, 0xFF, 0xFF])
    assert read_bin(content, "made up").tolist() == [(1, 2, 3, True), (33, 0, 2**23 - 1, False)]
