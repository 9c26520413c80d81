"""The simulated camera beside the real one: how well it agrees, and how it was fitted."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from hybrid.data.events.camera import NMNIST_CAMERA, NMNIST_SACCADES, record
from hybrid.data.events.statistics import agreement, distance, statistics
from hybrid.data.images import load_images
from hybrid.experiments.event_tolerance import camera, fit


def test_the_camera_agrees_with_n_mnist_as_far_as_is_said() -> None:
    """The committed comparison with real test recordings, which notebook 03b quotes."""
    check = camera.load()
    assert check["camera"] == asdict(NMNIST_CAMERA), "of the present constants"
    assert check["saccades"] == json.loads(json.dumps(asdict(NMNIST_SACCADES)))
    assert check["simulator"] == camera.simulator(), "of the present simulator"
    found = check["agreement"]
    assert abs(found["total"] - 1.0) < 0.02
    assert np.abs(np.array(found["counts"]) - 1.0).max() < 0.1
    assert found["rates"] > 0.95
    assert np.min(found["images"]) > 0.95
    real, model = (camera.statistics_in(check, which) for which in ("real", "model"))
    again = agreement(real, model)
    assert again.total == pytest.approx(found["total"], abs=1e-3)
    assert again.rates == pytest.approx(found["rates"], abs=1e-3)
    np.testing.assert_allclose(again.images, found["images"], atol=1e-3)


def test_a_camera_is_fitted_to_what_another_one_saw() -> None:
    """A few steps of the fit come nearer to recordings of a known camera than its start."""
    pictures = load_images("digits").train[:6]
    known = replace(NMNIST_CAMERA, threshold_on=0.14, threshold_off=0.14)
    seen = record(pictures, known, NMNIST_SACCADES, seed=0)
    start = np.array([value for value, _ in fit._START.values()])
    noise = fit.border_noise(seen)
    first = record(pictures, *fit.model_of(start, noise), seed=0)
    _, _, left = fit.fit(seen, pictures, evaluations=40)
    assert left < 0.8 * distance(statistics(seen), statistics(first))
