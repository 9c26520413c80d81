"""Data of one's own, by the place of a function that returns them: `my_data.py:make`.

Such a place is the name of a data set wherever images or recordings are taken by name, in other
processes too. The function is called once in each process; records keep a hash of what it returns.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from hybrid.data.events.recordings import Recordings, Sensor
from hybrid.data.events.sets import EventSet, EventSource
from hybrid.data.images import Images
from hybrid.paths import named_object

_NUMBERED = "number the classes 0, 1, 2, ..."
_KINDS = """four arrays (train, labels, test, labels), two data sets (train, test) of samples with \
their labels, hybrid.own_images(...) or hybrid.own_events(...)"""


def is_own(name: str) -> bool:
    """Return whether the name of a data set is the place of a function."""
    return ":" in name


def own_data(name: str) -> Images | EventSet:
    """Return the data that a function of one's own makes.

    Args:
        name: `file.py:function`; the function takes nothing, and returns arrays of images and
            labels (train, labels, test, labels), or two data sets (train, test) of (sample, label):
            torch's, tonic's, or whatever has a length and is indexed by number; see `own_images`
            and `own_events`, whose results it may return as well.

    Raises:
        ValueError: if there is no such function, or what it returns is nothing of the kind; the
            message says what is wrong with it.
    """
    return made_at(place_of(name))


def place_of(name: str) -> str:
    """Return the name of data with the whole path of its file, whatever the working folder."""
    file, _, function = name.rpartition(":")
    return f"{Path(file).expanduser().resolve()}:{function}"


@lru_cache(maxsize=2)
def made_at(place: str) -> Images | EventSet:
    """Return what `own_data` does, kept in memory."""
    made = named_object(place)
    given = made() if callable(made) else made
    try:
        return _as_data(given)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def images_in(name: str) -> Images:
    """Return images of one's own, see `own_data`; ValueError if they are events."""
    data = own_data(name)
    if isinstance(data, EventSet):
        raise ValueError(f"{name} holds events: `classification` and `event_tolerance` take them")
    return data


def classes_in(data: Images | EventSet) -> int:
    """Return the number of classes."""
    if isinstance(data, EventSet):
        return len(data.classes)
    return 1 + int(max(data.train_labels.max(), data.test_labels.max()))


def image_of(data: Images | EventSet) -> tuple[int, int, int]:
    """Return the shape of an image, or of a frame of events: channels, height, width."""
    if isinstance(data, EventSet):
        width, height, polarities = data.train.sensor
        return polarities, height, width
    shape = data.train.shape[1:]
    return (1, *shape) if len(shape) == 2 else shape


def own_images(
    train: ArrayLike, train_labels: ArrayLike, test: ArrayLike, test_labels: ArrayLike
) -> Images:
    """Return images of one's own, to learn from and to be tested on.

    Args:
        train, test: [N, height, width] or [N, channels, height, width]: bytes from 0 to 255, or
            numbers from 0 to 1. Flat ones [N, in] are images of one row.
        train_labels, test_labels: [N], whole numbers from 0.

    Raises:
        ValueError: if shapes, ranges or labels are other ones.
    """
    pictures = [_pixels(name, given) for name, given in (("train", train), ("test", test))]
    if pictures[0].shape[1:] != pictures[1].shape[1:]:
        shapes = " and ".join(str(list(part.shape[1:])) for part in pictures)
        raise ValueError(f"images of {shapes}: those to learn from and to be tested on must agree")
    labels = [
        _labels(name, given, len(part))
        for (name, given), part in zip(
            (("train", train_labels), ("test", test_labels)), pictures, strict=True
        )
    ]
    _check_classes(*labels)
    return Images(pictures[0], labels[0], pictures[1], labels[1])


def own_events(
    train: Sequence[Any],
    train_labels: ArrayLike,
    test: Sequence[Any],
    test_labels: ArrayLike,
    sensor: Sensor,
) -> EventSet:
    """Return recordings of one's own, to learn from and to be tested on.

    Args:
        train, test: a structured array of events for each recording, see `as_events`: fields x, y,
            t (µs) and p; sensors of one row, such as a cochlea, need no y.
        train_labels, test_labels: [N], whole numbers from 0.
        sensor: width, height, polarities, as tonic's `sensor_size`.

    Raises:
        ValueError: if events or labels are other ones; EventError names the recording.
    """
    own = {"train": (train, train_labels), "test": (test, test_labels)}
    first, second = (_source(name, *given, sensor) for name, given in own.items())
    _check_classes(first.labels, second.labels)
    count = 1 + int(first.labels.max())
    return EventSet("own", first, second, tuple(map(str, range(count))))


def _as_data(given: Any) -> Images | EventSet:
    if isinstance(given, Images | EventSet):
        return given
    if isinstance(given, tuple | list) and len(given) == 4:
        return own_images(*given)
    if isinstance(given, tuple | list) and len(given) == 2:
        return _of_sets(*given)
    raise ValueError(f"{type(given).__name__} is not understood: return {_KINDS}")


def _of_sets(train: Any, test: Any) -> Images | EventSet:
    """Return the data of two data sets whose samples have labels."""
    parts: list[Any] = []
    for name, own in (("train", train), ("test", test)):
        try:
            pairs = [own[number] for number in range(len(own))]
            samples, labels = zip(*((sample, label) for sample, label in pairs), strict=True)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} has no samples (sample, label): return {_KINDS}") from error
        parts += [[_of_pillow(sample) for sample in samples], [np.asarray(n) for n in labels]]
    if getattr(parts[0][0], "dtype", None) is None or not parts[0][0].dtype.names:
        return own_images(*(np.stack(part) if i % 2 == 0 else part for i, part in enumerate(parts)))
    sensor = getattr(train, "sensor_size", None)
    if sensor is not None and getattr(test, "sensor_size", sensor) != sensor:
        raise ValueError(f"sensors of {sensor} and {test.sensor_size}: they must agree")
    if sensor is None:
        raise ValueError(
            "events of a data set without sensor_size: give it one (width, height, polarities), or "
            "return hybrid.own_events(...)"
        )
    width, height, polarities = sensor
    return own_events(parts[0], parts[1], parts[2], parts[3], (width, height, polarities))


def _of_pillow(sample: Any) -> Any:
    """Return a sample as an array; colours of a picture first."""
    from PIL import Image

    if isinstance(sample, Image.Image) and sample.mode == "P":
        sample = sample.convert("RGB")  # not the numbers of a palette
    array = np.asarray(sample.detach() if isinstance(sample, Tensor) else sample)
    coloured = isinstance(sample, Image.Image) and array.ndim == 3
    return np.moveaxis(array, -1, 0) if coloured else array


def _pixels(name: str, given: ArrayLike) -> NDArray[np.float32]:
    images = np.asarray(given)
    if images.ndim == 2:
        images = images[:, None]
    if images.ndim == 4 and images.shape[1] == 1:
        images = images[:, 0]
    shape = list(images.shape)
    if images.ndim not in (3, 4) or 0 in shape:
        raise ValueError(
            f"{name} images {shape}: give [N, height, width] or [N, channels, height, width]"
        )
    if images.ndim == 4 and shape[1] > 4 and shape[-1] <= 4:
        raise ValueError(
            f"{name} images {shape}: give channels first, images.transpose(0, 3, 1, 2)"
        )
    if images.dtype == np.uint8 and images.max() <= 1:
        raise ValueError(
            f"{name} images of bytes up to {images.max()}: give booleans, or bytes up to 255"
        )
    if images.dtype == np.uint8:
        return images.astype(np.float32) / np.float32(255)
    if images.dtype.kind not in "bf":
        raise ValueError(f"{name} images of {images.dtype}: give bytes, or numbers from 0 to 1")
    inside = bool(((images >= 0) & (images <= 1)).all())  # NaN is not
    if not inside:
        raise ValueError(
            f"{name} images from {images.min():g} to {images.max():g}: scale them to 0 ... 1"
        )
    return np.ascontiguousarray(images, np.float32)


def _labels(name: str, given: ArrayLike, count: int) -> NDArray[np.int64]:
    labels = np.asarray(given)
    if labels.shape != (count,):
        raise ValueError(f"{name} labels {list(labels.shape)} for {count} samples: give one each")
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        lowest = f" from {labels.min()}" if labels.dtype.kind in "iuf" else ""
        raise ValueError(
            f"{name} labels of {labels.dtype}{lowest}: number the classes 0, 1, 2, ..."
        )
    return labels.astype(np.int64)


def _check_classes(train: NDArray[np.int64], test: NDArray[np.int64]) -> None:
    """Refuse classes that nobody can learn: each up to the highest must be there to learn from."""
    missing = sorted(set(range(1 + int(max(train.max(), test.max())))) - set(train.tolist()))
    if missing:
        raise ValueError(
            f"no training samples of class {missing[0]}: number the classes 0, 1, 2, ..."
        )


def _source(name: str, parts: Sequence[Any], given: ArrayLike, sensor: Sensor) -> EventSource:
    labels = _labels(name, given, len(parts))
    kept = Recordings.complete(parts, sensor)
    digest = hashlib.sha256(f"{kept.sensor} {kept.starts.tolist()}".encode())
    digest.update(np.ascontiguousarray(kept.events).data)
    reader: Callable[[Sequence[int]], Recordings] = lambda numbers: Recordings.of(  # noqa: E731
        [kept[number] for number in numbers], sensor
    )
    return EventSource(labels, sensor, digest.hexdigest(), reader)
