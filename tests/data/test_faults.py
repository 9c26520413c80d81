"""Faults of images: seeded, bounded, and named where impossible."""

import numpy as np
import pytest

from hybrid.data.faults import FAULTS, corrupt

PICTURES = np.linspace(0, 1, 40 * 28 * 28, dtype=np.float32).reshape(40, 28, 28)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_seeded_bounded_and_leave_their_input_alone(name: str) -> None:
    level = 4.0 if name == "crop" else 0.05
    before = PICTURES.copy()
    faulty = corrupt(PICTURES, name, level, rng())
    np.testing.assert_array_equal(PICTURES, before)
    assert faulty.dtype == np.float32
    if name not in ("gaussian_unclipped", "gaussian_centred"):
        assert faulty.min() >= 0.0
        assert faulty.max() <= 1.0
    assert not np.array_equal(faulty, PICTURES)
    np.testing.assert_array_equal(faulty, corrupt(PICTURES, name, level, rng()))
    np.testing.assert_array_equal(corrupt(PICTURES, name, 0.0, rng()), PICTURES)


def test_crop_blanks_the_centre_only() -> None:
    ones = np.ones((1, 28, 28), np.float32)
    blanked = corrupt(ones, "crop", 3, rng())
    assert blanked[0, 11:17, 11:17].sum() == 0
    assert blanked.sum() == 28 * 28 - 36
    assert corrupt(ones, "crop", 14, rng()).sum() == 0
    assert corrupt(ones, "crop", 99, rng()).sum() == 0


def test_noise_levels_mean_what_their_axis_says() -> None:
    grey = np.full((200, 28, 28), 0.5, np.float32)
    assert corrupt(grey, "gaussian", 0.01, rng()).var() == pytest.approx(0.01, rel=0.02)
    assert (corrupt(grey, "salt", 0.1, rng()) == 1).mean() == pytest.approx(0.1, rel=0.03)
    assert (corrupt(grey, "pepper", 0.3, rng()) == 0).mean() == pytest.approx(0.3, rel=0.03)
    both = corrupt(grey, "salt_pepper", 0.2, rng())
    assert (both != 0.5).mean() == pytest.approx(0.2, rel=0.03)
    assert (both == 0).mean() == pytest.approx((both == 1).mean(), rel=0.1)


def test_clipping_moves_the_mean_and_two_kinds_of_noise_do_not() -> None:
    ramp = np.tile(np.linspace(0, 1, 784, dtype=np.float32).reshape(1, 28, 28), (1500, 1, 1))
    moved, spread = {}, {}
    for name in ("gaussian", "gaussian_unclipped", "gaussian_centred"):
        added = corrupt(ramp, name, 0.06, rng()) - ramp
        moved[name] = np.abs(added.mean(0)).reshape(28, 28)[[0, 0, -1], [0, 1, -1]].mean()
        spread[name] = added.std(0).mean()
    # Of a black pixel the clipped half of the noise is lost: σ / sqrt(2 π) is left as its mean.
    assert moved["gaussian"] == pytest.approx(0.06**0.5 / (2 * np.pi) ** 0.5, rel=0.1)
    assert moved["gaussian_unclipped"] < 0.02
    assert moved["gaussian_centred"] < 0.02
    assert spread["gaussian_unclipped"] == pytest.approx(0.06**0.5, rel=0.02)
    assert spread["gaussian_centred"] == pytest.approx(spread["gaussian"], rel=0.02)


@pytest.mark.parametrize(
    ("name", "level", "images", "message"),
    [
        ("blur", 1.0, PICTURES, "'blur' is unknown: choose one of gaussian, salt"),
        ("gaussian", -0.1, PICTURES, "gaussian level -0.1: the noise variance"),
        ("crop", -1.0, PICTURES, "crop level -1.0: the half-width"),
        ("crop", 2.5, PICTURES, "whole number of pixels"),
        ("salt", 1.5, PICTURES, "salt level 1.5: .* <= 1"),
        ("gaussian", 0.1, PICTURES[0], r"must be \[N, H, W\]"),
        ("gaussian", 0.1, PICTURES * 255, r"values in \[0, 1\]"),
    ],
)
def test_wrong_faults_are_named(name: str, level: float, images: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        corrupt(images, name, level, rng())
