"""Recordings: what is refused, and what tonic has to do with them."""

from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

from hybrid.data.events import recordings
from hybrid.data.events.frames import to_frames
from hybrid.data.events.recordings import (
    EVENT,
    EventError,
    Events,
    Recordings,
    of_tonic,
    tonic_version,
)
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


def as_fields(made: Events, **kinds: str) -> np.ndarray:
    """Return the same events in fields of other types."""
    dtype = [(name, kinds.get(name, kind)) for name, (kind, _) in EVENT.fields.items()]  # type: ignore[union-attr]
    return made.astype(dtype)


@pytest.mark.parametrize(
    "kinds",
    [{"t": "u8"}, {"t": "u4"}, {"t": "i4"}, {"t": "f8"}, {"x": "u1", "y": "f4"}, {"p": "i1"}],
)
def test_fields_of_other_types_are_the_same_events(kinds: dict[str, str]) -> None:
    made = events(0)
    given = as_fields(made, **kinds)
    for found in (Recordings.of([given], SENSOR), Recordings(given, np.array([0, 400]), SENSOR)):
        assert found.events.dtype == EVENT
        np.testing.assert_array_equal(found.events, made)
    given["t"][7] = given["t"][6] - 1
    with pytest.raises(EventError, match="recording 0 is not in the order of time"):
        Recordings.of([given], SENSOR)


def test_polarities_of_both_conventions_are_the_same_events() -> None:
    made = events(0)
    signed = as_fields(made, p="i1")
    signed["p"] = 2 * signed["p"] - 1
    both = Recordings.of([signed, made], SENSOR)
    np.testing.assert_array_equal(both[0], both[1])
    np.testing.assert_array_equal(to_frames(both, 3)[0], to_frames(both, 3)[1])
    signed["p"][0] = 0
    for wrong in (signed, as_fields(made, p="i2")):
        wrong["p"][1] = 2 if wrong is not signed else -1
        with pytest.raises(ValueError, match="they must be 0 and 1, or -1 and 1"):
            Recordings.of([wrong], SENSOR)


def test_events_that_cannot_be_told_are_refused() -> None:
    made = events(0)
    wrong: list[tuple[np.ndarray, str]] = [
        (as_fields(made, t="f8"), r"t of float64: give whole numbers of µs; of seconds, \(1e6"),
        (as_fields(made, t="M8[us]"), "t of datetime64"),
        (made[["x", "y", "t"]], "lack p"),
        (np.zeros(3), "lack p, t, x, y"),
        (list(made), "events as list: give a structured array"),  # type: ignore[list-item]
        (made.reshape(20, 20), "events as ndarray: give"),
        (np.ma.array(made), "events as MaskedArray: give"),
        (as_fields(made, x="U3"), "x of <U3: give whole numbers"),
        (made[["x", "t", "p"]], "lack y"),
        (as_fields(made, x="f4"), "x of float32: give whole numbers"),
        (as_fields(made, y="i4"), r"y from -40000 to 4: -32,768 to 32,767 can be told"),
    ]
    wrong[0][0]["t"] /= 1e6
    wrong[-2][0]["x"][5] = 1.5
    wrong[-1][0]["y"][5] = -40_000
    for given, message in wrong:
        with pytest.raises(ValueError, match=message):
            Recordings.of([given], SENSOR)


def test_events_of_a_cochlea_have_no_row() -> None:
    """As in the Spiking Heidelberg Digits: channel, time, and a polarity that says nothing."""
    given = np.array([(3, 10, 1), (699, 25, 1)], [("x", "i2"), ("t", "i8"), ("p", "i1")])
    made = Recordings.of([given], (700, 1, 1))
    frames = to_frames(made, 2)
    assert frames.shape == (1, 2, 1, 1, 700)
    assert frames[0, 0, 0, 0, 3] == frames[0, 1, 0, 0, 699] == 1


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
