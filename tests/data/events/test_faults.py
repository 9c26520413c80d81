"""Faults of a sensor: what they do, and that only seed and number decide."""

import numpy as np
import pytest

from hybrid.data.events.faults import HOT_RATE, SENSOR_FAULTS, corrupt_events
from hybrid.data.events.recordings import EVENT, Events, Recordings
from tests.data.events.made import SENSOR, events, recordings

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
