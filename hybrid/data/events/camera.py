"""A model of an event camera that looks at a picture while it is moved in three saccades.

A pixel remembers the logarithm of the light at its last event, and reports as soon as the light has
changed by more than its threshold. Pixels differ in their thresholds, rest for a refractory time
after each event, and now and then report for no reason. N-MNIST was recorded so, with a camera that
a motor tilted along a triangle in front of a screen (Orchard et al., Front. Neurosci. 9:437, 2015).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hybrid.checks import require
from hybrid.data.events.recordings import Events, Recordings, events_of

Picture = NDArray[np.float32]
Places = tuple[tuple[float, float], ...]
_PIXELS, _NOISE = 1, 2  # streams of random numbers, apart for equal seeds
_AT_ONCE = 64  # pictures simulated together


@dataclass(frozen=True, kw_only=True)
class Saccades:
    """How the picture moves: from corner to corner, slowly at first and at last.

    Args:
        corners: where the picture is before the first and after each saccade, (right, down) of the
            middle in pixels.
        onsets, durations: of each saccade, in ms.
        length: of a recording, in ms.

    Raises ValueError if these do not fit each other.
    """

    corners: Places = ((-3.0, -3.0), (0.0, 3.0), (3.0, -3.0), (-3.0, -3.0))
    onsets: tuple[float, ...] = (5.0, 105.0, 215.0)
    durations: tuple[float, ...] = (90.0, 90.0, 90.0)
    length: float = 320.0

    def __post_init__(self) -> None:
        saccades = len(self.corners) - 1
        for name in ("onsets", "durations"):
            fits = len(getattr(self, name)) == saccades
            require(self, name, fits, f"as many as there are saccades, {saccades}")
        times = np.array([*self.onsets, *self.durations, self.length])
        if not np.isfinite(times).all() or times[saccades:].min() <= 0.0:
            raise ValueError("onsets, durations and length must be finite, the latter two > 0")
        ends = np.add(self.onsets, self.durations)
        if (ends > (*self.onsets, self.length)[1:]).any():
            raise ValueError("a saccade must end before the next one, or the recording, does")

    def position(self, time: float) -> tuple[float, float]:
        """Return where the picture is at a time in ms, (right, down) in pixels."""
        x, y = self.corners[0]
        saccades = zip(self.onsets, self.durations, pairwise(self.corners), strict=True)
        for onset, duration, (start, end) in saccades:
            share = min(max((time - onset) / duration, 0.0), 1.0)
            way = share - np.sin(2 * np.pi * share) / (2 * np.pi)  # speed: a raised cosine
            x, y = x + way * (end[0] - start[0]), y + way * (end[1] - start[1])
        return float(x), float(y)


@dataclass(frozen=True, kw_only=True)
class EventCamera:
    """Constants of the pixels. Raises ValueError, naming the field, for values without sense.

    Args:
        size: pixels on each side.
        contrast: change of the logarithm of light between paper and full ink.
        threshold_on, threshold_off: change that makes an event, brighter and darker.
        mismatch: standard deviation of the logarithm of the thresholds over pixels.
        blur: of the optics, standard deviation in pixels.
        refractory: rest after each event, in ms.
        noise_on, noise_off: events without reason, in 1/s for each pixel.
        ink_is_dark: whether ink takes light away, as the polarities in N-MNIST say.
        step: of the simulation, in ms; a pixel has at most one event in each, and rests end with
            one. A tenth of a millisecond makes 8 % more events than one: constants that were fitted
            hold for the step that they were fitted with.
        seed: of the pixels' thresholds: another seed is another camera.
    """

    size: int = 34
    contrast: float = 1.0
    threshold_on: float = 0.1
    threshold_off: float = 0.1
    mismatch: float = 0.1
    blur: float = 0.7
    refractory: float = 2.0
    noise_on: float = 0.3
    noise_off: float = 0.05
    ink_is_dark: bool = True
    step: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("size", "contrast", "threshold_on", "threshold_off", "step"):
            require(self, name, 0 < getattr(self, name) < float("inf"), "> 0 and finite")
        for name in ("mismatch", "blur", "refractory", "noise_on", "noise_off"):
            require(self, name, 0 <= getattr(self, name) < float("inf"), ">= 0 and finite")

    def thresholds(self) -> tuple[Picture, Picture]:
        """Return the thresholds of all pixels, brighter and darker [height, width]."""
        source = np.random.default_rng([_PIXELS, self.seed])
        spread = np.exp(self.mismatch * source.standard_normal((2, self.size, self.size)))
        on, off = spread * np.array([self.threshold_on, self.threshold_off])[:, None, None]
        return on.astype(np.float32), off.astype(np.float32)


def record(
    pictures: Picture,
    camera: EventCamera,
    saccades: Saccades,
    *,
    seed: int,
    numbers: Sequence[int] | None = None,
) -> Recordings:
    """Return one recording of each picture.

    Args:
        pictures: ink in [0, 1] [N, height, width], at most the camera's size.
        camera, saccades: what looks, and how.
        seed: of the noise.
        numbers: of the pictures, 0 … N - 1 if None. The noise of a recording depends on its
            picture's number and on the seed alone, not on what else is recorded with it.

    Raises:
        ValueError: if pictures are larger than the camera's or not in [0, 1], or if there are not
            as many numbers.
    """
    if pictures.ndim != 3 or max(pictures.shape[1:]) > camera.size:
        raise ValueError(
            f"pictures must have shape [N, height, width] of at most {camera.size} pixels, got "
            f"{list(pictures.shape)}"
        )
    if not (pictures.min(initial=0.0) >= 0.0 and pictures.max(initial=0.0) <= 1.0):
        raise ValueError("pictures must lie in [0, 1]")
    numbers = range(len(pictures)) if numbers is None else numbers
    if len(numbers) != len(pictures):
        raise ValueError(f"{len(numbers)} numbers for {len(pictures)} pictures")
    parts: list[Events] = []
    for begin in range(0, len(pictures), _AT_ONCE):
        batch = pictures[begin : begin + _AT_ONCE]
        of, events = _changes(batch, camera, saccades)
        own = numbers[begin : begin + _AT_ONCE]
        noise = [_noise(camera, saccades, seed, number) for number in own]
        of = np.append(of, np.repeat(np.arange(len(batch)), [len(unasked) for unasked in noise]))
        events = np.concatenate([events, *noise])
        events = events[np.lexsort((events["t"], of))]
        parts.extend(np.split(events, np.bincount(of, minlength=len(batch)).cumsum()[:-1]))
    return Recordings.of(parts, (camera.size, camera.size, 2))


def _changes(
    pictures: Picture, camera: EventCamera, saccades: Saccades
) -> tuple[NDArray[np.int64], Events]:
    """Return the events that the moving pictures cause, and the picture of each."""
    on, off = camera.thresholds()
    shown = _shifted(pictures, camera, saccades)
    now = shown(0.0)
    reference, rests_until = now.copy(), np.zeros(now.shape, dtype=np.float32)
    found = [(np.empty(0, np.int64), events_of([], [], [], []))]
    for k in range(int(np.ceil(saccades.length / camera.step))):
        start, end = k * camera.step, (k + 1) * camera.step
        if saccades.position(start) == saccades.position(end):
            continue  # nothing changes while the picture stands still
        before, now = now, shown(end)
        change, resting = now - reference, rests_until > start
        hits = np.flatnonzero(((change > on) | (change < -off)) & ~resting)
        number, pixel = np.divmod(hits, on.size)
        # When within the step the threshold was crossed, the light changing evenly.
        gone = before.ravel()[hits] - reference.ravel()[hits]
        reached = change.ravel()[hits]
        brighter = reached > 0.0
        wanted = np.where(brighter, on.ravel()[pixel], -off.ravel()[pixel])
        share = np.clip((wanted - gone) / (reached - gone), 0.0, 1.0)
        time = start + share * camera.step
        row, column = np.divmod(pixel, camera.size)
        found.append((number, events_of(column, row, 1e3 * time, brighter)))
        rests_until.ravel()[hits] = time + camera.refractory
        # A pixel compares with the light at the end of its rest.
        np.copyto(reference, now, where=resting)
        reference.ravel()[hits] = now.ravel()[hits]
    return np.concatenate([n for n, _ in found]), np.concatenate([e for _, e in found])


def _shifted(
    pictures: Picture, camera: EventCamera, saccades: Saccades
) -> Callable[[float], Picture]:
    """Return what tells the logarithm of the light at each pixel at a time [N, height, width]."""
    from scipy.ndimage import gaussian_filter

    size, margin = camera.size, 1 + int(np.ceil(np.abs(saccades.corners).max()))
    free = [size - side for side in pictures.shape[1:]]
    border = [(margin + room // 2, margin + room - room // 2) for room in free]
    ink = gaussian_filter(np.pad(pictures, [(0, 0), *border]), camera.blur, axes=(1, 2))
    # In double precision, then rounded: libraries for other processors differ in the last bit.
    light = np.log1p(float(np.expm1(camera.contrast)) * ink.astype(np.float64)).astype(np.float32)
    light = -light if camera.ink_is_dark else light
    below = np.diff(light, axis=1)

    def at(time: float) -> Picture:
        """Interpolate between whole pixels."""
        x, y = (margin - moved for moved in saccades.position(time))
        row, column = int(np.floor(y)), int(np.floor(x))
        down, right = np.float32(y - row), np.float32(x - column)
        rows, columns = slice(row, row + size), slice(column, column + size + 1)
        between = light[:, rows, columns] + down * below[:, rows, columns]
        return between[:, :, :-1] + right * np.diff(between, axis=2)

    return at


def _noise(camera: EventCamera, saccades: Saccades, seed: int, number: int) -> Events:
    """Return events without a reason, spread evenly over pixels and time."""
    source, parts = np.random.default_rng([_NOISE, seed, number]), []
    for rate, up in ((camera.noise_on, True), (camera.noise_off, False)):
        count = source.poisson(rate * camera.size**2 * saccades.length / 1e3)
        x, y = source.integers(camera.size, size=(2, count))
        parts.append(events_of(x, y, 1e3 * source.uniform(0.0, saccades.length, count), up))
    return np.concatenate(parts)


FITTED = 100  # training recordings of N-MNIST, the first ones, that the constants below rest on
# See `hybrid.experiments.event_tolerance.fit`.
# Its pixels do not differ: which of the real camera's are more sensitive is not known, and a
# made-up pattern takes the average images further away from the real ones.
NMNIST_CAMERA = EventCamera(
    threshold_on=0.109, threshold_off=0.1, mismatch=0.0, blur=0.32, noise_on=0.38, noise_off=0.02
)
NMNIST_SACCADES = Saccades(
    corners=((-3.11, -1.52), (-0.44, 3.93), (2.24, -1.52), (-3.11, -1.52)),
    onsets=(6.3, 103.7, 214.1),
    durations=(83.3, 96.9, 90.4),
)
