"""The simulated event camera: what makes events, when, and of which polarity."""

from dataclasses import replace

import numpy as np
import pytest

from hybrid.data.events import camera as simulator
from hybrid.data.events.camera import (
    NMNIST_CAMERA,
    NMNIST_SACCADES,
    EventCamera,
    Saccades,
    record,
)
from hybrid.data.events.recordings import Recordings
from hybrid.data.events.statistics import agreement, distance, statistics
from hybrid.data.images import load_images

QUIET = EventCamera(noise_on=0.0, noise_off=0.0, mismatch=0.0, blur=0.5)
# One sweep to the right, ten pixels in 100 ms.
SWEEP = Saccades(corners=((-5.0, 0.0), (5.0, 0.0)), onsets=(10.0,), durations=(100.0,), length=130)


def bar() -> np.ndarray:
    picture = np.zeros((1, 20, 20), np.float32)
    picture[0, 4:16, 8:12] = 1.0
    return picture


def sweep(camera: EventCamera = QUIET, saccades: Saccades = SWEEP) -> np.ndarray:
    return record(bar(), camera, saccades, seed=0)[0]


def test_a_picture_goes_where_its_corners_say() -> None:
    saccades = Saccades()
    ends = [0.0, *(o + d for o, d in zip(saccades.onsets, saccades.durations, strict=True))]
    for time, corner in zip(ends, saccades.corners, strict=True):
        np.testing.assert_allclose(saccades.position(time), corner, atol=1e-9)
    half = saccades.position(saccades.onsets[0] + saccades.durations[0] / 2)
    np.testing.assert_allclose(half, np.mean(saccades.corners[:2], axis=0))


def test_still_pictures_and_blank_ones_make_no_events() -> None:
    still = replace(SWEEP, corners=((0.0, 0.0), (0.0, 0.0)))
    assert len(sweep(saccades=still)) == 0
    assert len(record(np.zeros((2, 28, 28), np.float32), QUIET, Saccades(), seed=0).events) == 0


def test_dark_ink_darkens_where_it_comes_and_brightens_where_it_goes() -> None:
    events = sweep()
    early = events[events["t"] < 50_000]
    assert early["x"][~early["p"]].mean() > early["x"][early["p"]].mean() + 2.0, "leading edge"
    bright = sweep(replace(QUIET, ink_is_dark=False))
    assert len(bright) == len(events)
    np.testing.assert_array_equal(bright["p"], ~events["p"])
    assert events["t"].min() / 1e3 >= 10.0
    assert events["t"].max() / 1e3 <= 110.0 + QUIET.step
    assert set(events["y"]) <= set(range(10, 24)), "rows of the bar, and its blur"


def test_an_edge_makes_as_many_events_as_thresholds_fit_into_its_contrast() -> None:
    """So slow a sweep that a rest costs next to nothing: contrast 1, threshold 0.3: 3 events."""
    slow = replace(SWEEP, durations=(4000.0,), length=4100.0)
    camera = replace(QUIET, threshold_on=0.3, threshold_off=0.3, refractory=0.0)
    events = sweep(camera, slow)
    centre = events[(events["y"] == 16) & (events["x"] == 17)]
    assert centre["p"].tolist() == [False] * 3 + [True] * 3
    fewer = sweep(replace(camera, threshold_off=0.6), slow)
    centre = fewer[(fewer["y"] == 16) & (fewer["x"] == 17)]
    assert (~centre["p"]).sum() == 1


def test_a_pixel_rests_after_each_event() -> None:
    for rest in (1.0, 5.0, 20.0):
        events = sweep(replace(QUIET, refractory=rest, threshold_on=0.05, threshold_off=0.05))
        pixel = events["y"].astype(int) * 34 + events["x"]
        order = np.lexsort((events["t"], pixel))
        gaps = np.diff(events["t"][order])[np.diff(pixel[order]) == 0]
        assert len(gaps) > 0
        assert gaps.min() >= 1e3 * rest - 1  # times are cut to whole µs


def test_pixels_differ_by_the_camera_not_by_the_recording() -> None:
    uneven = replace(QUIET, mismatch=0.5)
    pair = record(np.repeat(bar(), 2, axis=0), uneven, SWEEP, seed=0)
    np.testing.assert_array_equal(pair[0], pair[1])
    other = sweep(replace(uneven, seed=1))
    assert len(other) != len(pair[0]) or (other != pair[0]).any()
    on, _ = uneven.thresholds()
    assert np.log(on / uneven.threshold_on).std() == pytest.approx(0.5, rel=0.1)


def test_noise_comes_at_its_rates_and_depends_on_seed_and_number() -> None:
    noisy = replace(QUIET, noise_on=8.0, noise_off=2.0)
    blank = np.zeros((20, 28, 28), np.float32)
    made = record(blank, noisy, Saccades(), seed=0)
    seconds = 20 * 34**2 * Saccades().length / 1e3
    for up, rate in ((True, 8.0), (False, 2.0)):
        assert (made.events["p"] == up).sum() / seconds == pytest.approx(rate, rel=0.05)
    part = record(blank[:3], noisy, Saccades(), seed=0, numbers=[4, 17, 0])
    for own, number in zip(part, (4, 17, 0), strict=True):
        np.testing.assert_array_equal(own, made[number])
    assert len(record(blank, noisy, Saccades(), seed=1).events) != len(made.events)


def test_recordings_do_not_depend_on_how_many_are_made_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pictures = load_images("digits").train[:7]
    one = record(pictures, EventCamera(), Saccades(), seed=3)
    monkeypatch.setattr(simulator, "_AT_ONCE", 2)
    other = record(pictures, EventCamera(), Saccades(), seed=3)
    np.testing.assert_array_equal(one.events, other.events)
    np.testing.assert_array_equal(one.starts, other.starts)


def test_the_last_bit_of_a_library_changes_no_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processors compute the same events though their logarithm or sine ends otherwise."""
    pictures = load_images("digits").train[:4]
    camera, saccades = replace(NMNIST_CAMERA, mismatch=0.1), NMNIST_SACCADES
    expected = record(pictures, camera, saccades, seed=0).events.tobytes()
    for name in ("log1p", "expm1", "exp", "sin"):
        exact = getattr(np, name)
        with monkeypatch.context() as other:
            other.setattr(np, name, lambda x, exact=exact: np.nextafter(exact(x), np.inf))
            assert record(pictures, camera, saccades, seed=0).events.tobytes() == expected, name


def test_statistics_count_what_they_say() -> None:
    made = record(load_images("digits").train[:5], EventCamera(), Saccades(), seed=0)
    found = statistics(made)
    np.testing.assert_array_equal(found.counts.sum((1, 2)), np.diff(made.starts))
    np.testing.assert_allclose(found.images.sum(), len(made.events) / 5)
    np.testing.assert_allclose(found.rates.sum() * 5.0, len(made.events) / 5)
    same = agreement(found, found)
    np.testing.assert_allclose([same.total, same.pictures, same.rates], 1.0)
    np.testing.assert_allclose(same.images, 1.0)
    assert distance(found, found) == 0.0
    half = Recordings.of([events[::2] for events in made], made.sensor)
    assert agreement(found, statistics(half)).total == pytest.approx(0.5, abs=1e-3)
    assert distance(found, statistics(half)) > 0.1


def test_a_camera_that_stands_still_sees_nothing() -> None:
    still = Saccades(corners=((0.0, 0.0),), onsets=(), durations=(), length=50.0)
    assert len(record(bar(), QUIET, still, seed=0).events) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"onsets": (5.0, 60.0, 215.0)}, "must end before the next"),
        ({"durations": (90.0, 90.0)}, "durations = .* as many as there are saccades, 3"),
        ({"length": 250.0}, "must end before"),
        ({"length": float("nan")}, "must be finite"),
        ({"durations": (90.0, 0.0, 90.0)}, "the latter two > 0"),
    ],
)
def test_impossible_saccades_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Saccades(), **change)


def test_impossible_cameras_and_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match=r"threshold_on = 0.0: it must be > 0"):
        EventCamera(threshold_on=0.0)
    with pytest.raises(ValueError, match=r"blur = -1: it must be >= 0"):
        EventCamera(blur=-1)
    with pytest.raises(ValueError, match=r"contrast = nan: it must be > 0 and finite"):
        EventCamera(contrast=float("nan"))
    with pytest.raises(ValueError, match=r"noise_on = inf"):
        EventCamera(noise_on=float("inf"))
    with pytest.raises(ValueError, match="at most 34 pixels"):
        record(np.zeros((1, 40, 40), np.float32), QUIET, SWEEP, seed=0)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        record(2 * bar(), QUIET, SWEEP, seed=0)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        record(np.nan * bar(), QUIET, SWEEP, seed=0)
    with pytest.raises(ValueError, match="2 numbers for 1 pictures"):
        record(bar(), QUIET, SWEEP, seed=0, numbers=[0, 1])
