"""Pictures of gestures: what is drawn is what the cameras report."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from hybrid.data.events.sets import load_events
from hybrid.data.files import registry
from hybrid.experiments.event_tolerance import gestures


def test_pictures_count_events_in_windows_and_under_faults() -> None:
    """Windows of a sound camera add up to its recording; faults remove or add events."""
    recordings = load_events("event_digits").test.read(range(3))
    found = gestures.pictures(recordings, shrink=2)
    assert found.shape == (3, gestures.WINDOWS + len(gestures.FAULTS), 17, 17)
    for number, events in enumerate(recordings):
        balance = np.where(events["p"], 1, -1)
        whole = np.zeros((17, 17), dtype=np.int64)
        np.add.at(whole, (events["y"] // 2, events["x"] // 2), balance)
        np.testing.assert_array_equal(found[number, : gestures.WINDOWS].sum(0), whole)
    centre, dropped, noise = np.abs(found[:, gestures.WINDOWS :]).sum((0, 2, 3))
    sound = np.abs(found[:, : gestures.WINDOWS].sum(1)).sum()
    assert centre == 0  # the blind square is wider than this camera
    assert 0 < dropped < sound < noise


def test_the_committed_record_is_of_the_published_recordings_and_can_be_drawn() -> None:
    """Ten gestures, by the hashes of the registry."""
    record = gestures.load()
    names = sorted(name for name in registry() if name.startswith("dvs_gesture10/"))
    hashes = "".join(registry()[name].digests[0] for name in names)
    assert record["data"] == hashlib.sha256(hashes.encode()).hexdigest()
    assert len(record["names"]) == len(record["pictures"]) == len(names) == 10
    assert record["faults"] == [list(fault) for fault in gestures.FAULTS]
    figure = gestures.draw(record)
    assert figure.axes[0].get_images()


def test_a_missing_record_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """There is nothing to draw without it."""
    monkeypatch.setattr(gestures, "path", lambda: tmp_path / "gestures.json")
    with pytest.raises(FileNotFoundError, match=r"gestures\.json"):
        gestures.load()
