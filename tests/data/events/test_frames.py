"""Frames: windows of time and of count."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.data.events.frames import to_frames
from hybrid.data.events.recordings import EVENT, Recordings, of_tonic
from tests.data.events.made import SENSOR, events, recordings


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


def test_frames_are_those_of_tonic_but_for_what_tonic_loses() -> None:
    made, steps = recordings(), 9
    theirs = of_tonic("transforms", "ToFrame")(sensor_size=SENSOR, n_time_bins=steps)
    for own, part in zip(to_frames(made, steps), made, strict=True):
        extra = own.astype(int) - theirs(part)
        assert extra[:-1].any() == 0, "all windows but the last are equal"
        assert extra.min() == 0
        assert 1 <= extra.sum() < steps, "whole windows of µs lose no more"


def test_windows_of_as_many_events_share_them_out() -> None:
    made, steps = recordings(), 9
    for own, part in zip(to_frames(made, steps, "count"), made, strict=True):
        for frame, window in zip(own, np.array_split(part, steps), strict=True):
            expected = np.zeros_like(frame)
            np.add.at(expected, (window["p"].astype(int), window["y"], window["x"]), 1)
            np.testing.assert_array_equal(frame, expected)
    theirs = of_tonic("transforms", "ToFrame")(sensor_size=SENSOR, n_event_bins=10)
    np.testing.assert_array_equal(to_frames(made, 10, "count")[0], theirs(made[0]))


def test_windows_of_a_span_do_not_move_with_what_is_lost() -> None:
    made = recordings()
    late = Recordings.of([part[part["t"] >= 150_000] for part in made], SENSOR)
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
