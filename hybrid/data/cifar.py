"""CIFAR-10 from its binary archive, and a JPEG copy as a stand-in.

The python archive holds pickles, which can run code when they are read: it is not supported.

Images are bytes [N, 3, 32, 32] (red, green, blue planes), labels [N].
"""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hybrid.data.archives import checked_members, reading
from hybrid.data.sources import DamagedDataError

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)  # fmt: skip
_PIXELS = 3 * 32 * 32


class Bytes(NamedTuple):
    """A set of images as they are stored."""

    images: NDArray[np.uint8]  # [N, 3, 32, 32]
    labels: NDArray[np.int64]  # [N]


def read_cifar10(path: Path) -> tuple[Bytes, Bytes]:
    """Read the training and the test set of a CIFAR-10 archive.

    Args:
        path: `cifar-10-binary.tar.gz`, or a tar of JPEG files
            `<any>/{train,test}/<class>/<name>.jpg`; told apart by what they hold.

    Raises:
        DamagedDataError: if the archive is cut short or holds something else.
    """
    advice = "Delete the file and run again to fetch it anew."
    parts: dict[str, list[Bytes]] = {"train": [], "test": []}
    with reading(path, advice), tarfile.open(path) as archive:
        for name, content in checked_members(archive):
            read = _reader(name)
            if read is not None:
                parts[_part(name)].append(_checked(name, read(name, content)))
    if not parts["train"] or not parts["test"]:
        raise DamagedDataError(f"{path} holds no training or no test images. {advice}")
    return _joined(parts["train"]), _joined(parts["test"])


def _part(name: str) -> str:
    """Return whether a file belongs to the training or the test set."""
    path = Path(name)
    return "test" if path.name.startswith("test_batch") or "test" in path.parts else "train"


def _checked(name: str, found: Bytes) -> Bytes:
    """Return a file's images if they are what CIFAR-10 holds."""
    images, labels = found
    if images.shape[1:] != (3, 32, 32) or len(labels) != len(images):
        raise ValueError(f"{name} holds images {list(images.shape)} and {len(labels)} labels")
    if labels.min() < 0 or labels.max() >= len(CIFAR10_CLASSES):
        raise ValueError(f"{name} has labels up to {labels.max()}, there are 10 classes")
    return found


def _reader(name: str) -> Callable[[str, bytes], Bytes] | None:
    """Return what reads a file of this name, or None if it holds no images."""
    base = Path(name).name
    if base.endswith(".jpg"):
        return _jpeg
    if base.startswith(("data_batch", "test_batch")) and base.endswith(".bin"):
        return _binary
    return None


def _binary(name: str, content: bytes) -> Bytes:
    """Read records of one label byte and 3,072 pixel bytes."""
    if not content or len(content) % (1 + _PIXELS):
        raise tarfile.TarError(f"{name} holds {len(content):,} bytes: not a whole number of images")
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + _PIXELS)
    return Bytes(records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64))


def _jpeg(name: str, content: bytes) -> Bytes:
    image = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    folder = Path(name).parent.name
    if folder not in CIFAR10_CLASSES:
        raise ValueError(f"{name} is in none of the class folders {', '.join(CIFAR10_CLASSES)}")
    label = CIFAR10_CLASSES.index(folder)
    return Bytes(image.transpose(2, 0, 1)[None], np.array([label]))


def _joined(parts: list[Bytes]) -> Bytes:
    return Bytes(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
