"""Sets of recordings: files, damaged data, tonic's folders."""

import os
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from hybrid.data.events import sets
from hybrid.data.events.recordings import Events, Recordings, of_tonic
from hybrid.data.events.sets import (
    EventSet,
    EventSource,
    archive,
    load_events,
    read_bin,
    tree,
)
from hybrid.data.files import SETTING, DamagedDataError, MissingDataError
from tests.data.events.made import SENSOR, as_bin, events


def write_tree(folder: Path, labels: list[int]) -> list[Events]:
    made = [events(i) for i in range(len(labels))]
    for number, (label, own) in enumerate(zip(labels, made, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        (folder / str(label) / f"{number + 1:05d}.bin").write_bytes(as_bin(own))
    return made


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


def test_recordings_are_asked_for_by_their_numbers(tmp_path: Path) -> None:
    """A mask would be taken for recordings 0 and 1, over and over."""
    made = write_tree(tmp_path, [1, 2, 3])
    source = tree(tmp_path)
    np.testing.assert_array_equal(source.read(np.array([2], np.uint8))[0], made[2])
    assert len(source.read([])) == 0
    for numbers, message in (
        (source.labels > 1, r"a mask of recordings: give their numbers, np.flatnonzero"),
        ([0.0, 1.0], "numbers of float64"),
        ([[0, 1]], "2D: give whole ones in a row"),
        ([0, 3], "recordings 0 to 3: there are 0 to 2"),
        ([-1], "recordings -1 to -1: there are 0 to 2"),
    ):
        with pytest.raises(ValueError, match=message):
            source.read(numbers)  # type: ignore[arg-type]


class Loaded(torch.utils.data.Dataset):
    """Recordings one by one, as a DataLoader asks for them."""

    def __init__(self, source: EventSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source.labels)

    def __getitem__(self, number: int) -> int:
        return int(self.source.read([number])[0]["t"].sum())


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_archives_are_read_in_workers_however_these_start(
    tmp_path: Path, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a fork, one open file would be read at one place by all."""
    made = write_tree(tmp_path / "Train", [3] * 24)
    with zipfile.ZipFile(tmp_path / "Train.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted((tmp_path / "Train").rglob("*.bin")):
            packed.write(path, path.relative_to(tmp_path))
    source = archive(tmp_path / "Train.zip", "some")
    source.read([0])  # open before the workers start
    elsewhere = archive(Path(os.path.relpath(tmp_path / "Train.zip")), "some")
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(elsewhere.read([5])[0], made[5])
    loader = torch.utils.data.DataLoader(
        Loaded(source), batch_size=2, num_workers=2, multiprocessing_context=start
    )
    assert torch.cat(list(loader)).tolist() == [int(own["t"].sum()) for own in made]
    os.utime(tmp_path / "Train.zip", (0, 0))
    with pytest.raises(DamagedDataError, match="has changed since it was loaded: load it again"):
        source.read([0])


def test_sources_of_every_kind_can_be_sent_to_workers(tmp_path: Path) -> None:
    made = write_tree(tmp_path, [1, 2])
    for source in (tree(tmp_path), load_events("event_digits").test):
        again = pickle.loads(pickle.dumps(source))
        np.testing.assert_array_equal(again.read([1]).events, source.read([1]).events)
        assert len(source.read([])) == len(source.read(np.array([], int))) == 0
    np.testing.assert_array_equal(tree(tmp_path).read([1])[0], made[1])


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


@pytest.mark.parametrize("label", ["77", "10", "²", "٣", "-1", "x"])
def test_a_label_that_is_no_class_is_named(tmp_path: Path, label: str) -> None:
    write_tree(tmp_path / "Train", [1])
    (tmp_path / "Train" / label).mkdir()
    (tmp_path / "Train" / label / "00002.bin").write_bytes(as_bin(events(1)))
    with zipfile.ZipFile(tmp_path / "Train.zip", "w") as packed:
        packed.write(tmp_path / "Train" / label / "00002.bin", f"Train/{label}/00002.bin")
    for read in (lambda: tree(tmp_path / "Train"), lambda: archive(tmp_path / "Train.zip", "")):
        with pytest.raises(DamagedDataError, match=rf"{label}/00002\.bin.*labels 0 to 9"):
            read()


def test_the_fingerprint_of_a_tree_is_that_of_its_content(tmp_path: Path) -> None:
    made = [as_bin(own) for own in write_tree(tmp_path, [1, 2])]
    first, second = tmp_path / "1" / "00001.bin", tmp_path / "2" / "00002.bin"
    before = tree(tmp_path).fingerprint
    assert tree(tmp_path).fingerprint == before
    second.write_bytes(made[1][:-1] + bytes([made[1][-1] ^ 1]))
    changed = tree(tmp_path).fingerprint
    assert changed != before, "one byte of a file of the same size"
    second.write_bytes(made[0][-5:] + made[1])
    first.write_bytes(made[0][:-5])
    assert tree(tmp_path).fingerprint not in (before, changed), "an event went to the next file"
    first.write_bytes(made[0])
    second.write_bytes(made[1])
    assert tree(tmp_path).fingerprint == before


def test_part_of_n_mnist_is_not_taken_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SETTING, str(tmp_path))
    write_tree(tmp_path / "NMNIST" / "Train", [1, 2])
    with pytest.raises(DamagedDataError, match="holds 2 recordings, not 60,000"):
        load_events("nmnist")


def test_a_failed_download_by_tonic_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SETTING, str(tmp_path))

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(of_tonic("dataset", "Dataset"), "download", unreachable)
    with pytest.raises(MissingDataError, match="could not be fetched by tonic") as caught:
        load_events("nmnist")
    assert str(tmp_path) in str(caught.value)
    assert "HYBRID_DATA" in str(caught.value)


def test_learned_from_simulated_digits_and_tested_on_other_real_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No digit is in both halves, and none of those that the simulated camera was fitted to."""

    def source(name: str, first: int, count: int) -> EventSource:
        def read(numbers: Sequence[int]) -> Recordings:
            asked.extend((name, first + number) for number in numbers)
            return Recordings.of([events(first + number, 5) for number in numbers], SENSOR)

        return EventSource(np.arange(first, first + count), SENSOR, name, read)

    asked: list[tuple[str, int]] = []
    made = {
        "nmnist_small": (source("real", 0, 120), source("real test", 1_000, 10)),
        "event_mnist": (source("simulated", 0, 150), source("simulated test", 1_000, 50)),
    }
    monkeypatch.setattr(sets, "load_events", lambda name: EventSet(name, *made[name], ()))
    both = load_events("mnist_to_nmnist")
    assert both.train.labels.tolist() == list(range(120, 150))
    assert both.test.labels.tolist() == [*range(100, 120), *range(1_000, 1_010)]
    np.testing.assert_array_equal(both.train.read([4])[0], events(124, 5))
    found = both.test.read([29, 0, 20])
    for number, digit in enumerate((1_009, 100, 1_000)):
        np.testing.assert_array_equal(found[number], events(digit, 5))
    assert asked == [
        ("simulated", 124),
        ("real test", 1_009),
        ("real", 100),
        ("real test", 1_000),
    ]
    other = {**made, "event_mnist": (source("simulated anew", 0, 150), made["event_mnist"][1])}
    before = both.sha256()
    monkeypatch.setattr(sets, "load_events", lambda name: EventSet(name, *other[name], ()))
    assert load_events("mnist_to_nmnist").sha256() != before


def test_an_unknown_set_is_refused() -> None:
    with pytest.raises(ValueError, match="choose one of event_digits"):
        load_events("n-mnist")


def test_bytes_are_read_as_the_format_says() -> None:
    # x = 1, y = 2, brighter, t = 3 µs, and x = 33, y = 0, darker, t = 2^23 - 1 µs.
    content = bytes([1, 2, 0x80, 0, 3, 33, 0, 0x7F, 0xFF, 0xFF])
    assert read_bin(content, "made up").tolist() == [(1, 2, 3, True), (33, 0, 2**23 - 1, False)]
