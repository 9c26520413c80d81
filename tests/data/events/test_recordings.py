"""Recordings: what is refused, and what tonic has to do with them."""

from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

from hybrid.data.events import recordings
from hybrid.data.events.recordings import EVENT, EventError, Recordings, of_tonic, tonic_version
from tests.data.events.made import SENSOR, events


def test_events_have_the_fields_of_tonic() -> None:
    assert of_tonic("io", "events_struct") == EVENT


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
    with pytest.raises(EventError, match="recording 1 is empty"):
        Recordings.complete([events(0), events(1, 0)], SENSOR)


def test_without_tonic_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_package(name: str) -> None:
        raise PackageNotFoundError(name)

    def no_module(name: str) -> None:
        raise ModuleNotFoundError(name="tonic")

    monkeypatch.setattr(recordings, "version", no_package)
    monkeypatch.setattr(recordings, "import_module", no_module)
    for ask in (tonic_version, lambda: of_tonic("transforms", "DropEvent")):
        with pytest.raises(ValueError, match=r"pip install '.\[events\]'"):
            ask()
