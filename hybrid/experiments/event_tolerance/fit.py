"""Fits the simulated camera to N-MNIST: `python -m hybrid.experiments.event_tolerance.fit`.

It compares recordings of the same digits, real and simulated, and prints the constants that
`hybrid.data.events.camera` keeps as `NMNIST_CAMERA` and `NMNIST_SACCADES`. Training recordings
alone are used; `camera`, beside this file, says how well the model does on others.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from tqdm.auto import tqdm

from hybrid.data.events.camera import FITTED, EventCamera, Picture, Saccades, record
from hybrid.data.events.recordings import Recordings
from hybrid.data.events.sets import load_events
from hybrid.data.events.statistics import distance, statistics
from hybrid.data.images import load_images

_EVALUATIONS = 600

# Name, start and first step of each constant: reach and middle of the triangle (pixels), onsets and
# durations of the saccades (ms), logarithms of the thresholds, mismatch and blur.
_START = {
    "reach x": (2.5, 0.5),
    "reach y": (2.5, 0.5),
    "middle x": (0.0, 0.5),
    "middle y": (0.0, 0.5),
    "onset 1": (0.0, 6.0),
    "onset 2": (105.0, 6.0),
    "onset 3": (215.0, 6.0),
    "duration 1": (90.0, 8.0),
    "duration 2": (90.0, 8.0),
    "duration 3": (90.0, 8.0),
    "log threshold on": (np.log(0.1), 0.15),
    "log threshold off": (np.log(0.1), 0.15),
    "mismatch": (0.1, 0.1),
    "blur": (0.7, 0.15),
}


def border_noise(recordings: Recordings) -> tuple[float, float]:
    """Return the rates of events of both polarities at the border, where no digit comes (1/s)."""
    width, height, _ = recordings.sensor
    events = recordings.events
    border = (events["x"] == 0) | (events["x"] == width - 1) | (events["y"] == 0)
    border |= events["y"] == height - 1
    last = np.append(events["t"], 0)[recordings.starts[1:] - 1]
    exposure = (2 * (width + height) - 4) * last.sum() / 1e6  # pixel · s
    on, off = (int((border & (events["p"] == up)).sum()) for up in (True, False))
    return on / exposure, off / exposure


def model_of(
    values: NDArray[np.float64], noise: tuple[float, float]
) -> tuple[EventCamera, Saccades]:
    """Return the camera and its saccades; ValueError if the constants make no sense."""
    (reach_x, reach_y, x, y), times = values[:4], values[4:10].round(1)
    on, off, mismatch, blur = np.abs([*np.exp(values[10:12]), *values[12:14]]).round(3)
    corners = ((-reach_x, -reach_y), (0.0, reach_y), (reach_x, -reach_y), (-reach_x, -reach_y))
    camera = EventCamera(
        threshold_on=float(on),
        threshold_off=float(off),
        mismatch=float(mismatch),
        blur=float(blur),
        noise_on=round(float(noise[0]), 2),
        noise_off=round(float(noise[1]), 2),
    )
    return camera, Saccades(
        corners=tuple((round(float(x + a), 2), round(float(y + b), 2)) for a, b in corners),
        onsets=tuple(map(float, times[:3])),
        durations=tuple(map(float, times[3:])),
    )


def fit(
    recordings: Recordings, pictures: Picture, evaluations: int = _EVALUATIONS
) -> tuple[EventCamera, Saccades, float]:
    """Return the model whose recordings of the pictures are nearest to the real, and how near."""
    real, noise = statistics(recordings), border_noise(recordings)
    start, step = (np.array(column) for column in zip(*_START.values(), strict=True))
    progress = tqdm(total=evaluations, desc="fitting the camera", unit="recording session")

    def loss(moved: NDArray[np.float64]) -> float:
        progress.update()
        try:
            model = model_of(start + moved * step, noise)
        except ValueError:
            return 1e3  # saccades that overlap, for example
        return distance(real, statistics(record(pictures, *model, seed=0)))

    simplex = np.vstack([np.zeros(len(start)), np.eye(len(start))])
    options = {"maxfev": evaluations, "adaptive": True, "initial_simplex": simplex}
    found = minimize(loss, simplex[0], method="Nelder-Mead", options=options)
    progress.close()
    return *model_of(start + found.x * step, noise), float(found.fun)


def main() -> None:
    """Fit, and print what was found."""
    # Both come in MNIST's order.
    recordings = load_events("nmnist_small").train.read(range(FITTED))
    pictures = load_images("mnist").train[:FITTED]
    camera, saccades, left = fit(recordings, pictures)
    print(f"distance {left:.4f} over {FITTED} recordings")
    print(camera, saccades, sep="\n")


if __name__ == "__main__":
    main()
