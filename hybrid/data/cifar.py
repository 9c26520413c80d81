"""CIFAR-10 from its original archives, binary or python, and a JPEG copy as a stand-in.

Images are bytes [N, 3, 32, 32] (red, green, blue planes), labels [N].
"""

import io
import pickle
import tarfile
import zlib
from collections.abc import Callable, Iterator
from lzma import LZMAError
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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
        path: `cifar-10-binary.tar.gz`, `cifar-10-python.tar.gz`, or a tar of JPEG files
            `<any>/{train,test}/<class>/<name>.jpg`; told apart by what they hold.

    Raises:
        DamagedDataError: if the archive is cut short or holds something else.
    """
    advice = "Delete the file and run again to fetch it anew."
    parts: dict[str, list[Bytes]] = {"train": [], "test": []}
    try:
        with tarfile.open(path) as archive:
            for name, content in _files(archive):
                read = _reader(name)
                if read is not None:
                    parts[_part(name)].append(_checked(name, read(name, content)))
    except (
        tarfile.TarError,
        OSError,
        EOFError,
        LZMAError,
        zlib.error,
        pickle.UnpicklingError,
        LookupError,  # a file that lacks what it should hold
        TypeError,
        ValueError,
    ) as error:
        raise DamagedDataError(
            f"{path} cannot be read as an archive ({error}). {advice}"
        ) from error
    if not parts["train"] or not parts["test"]:
        raise DamagedDataError(f"{path} holds no training or no test images. {advice}")
    return _joined(parts["train"]), _joined(parts["test"])


def _files(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        if member.isfile():
            file = archive.extractfile(member)
            assert file is not None
            yield member.name, file.read()


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
    if base.startswith(("data_batch", "test_batch")):
        return _binary if base.endswith(".bin") else _pickled
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


class _ArraysOnly(pickle.Unpickler):
    """Loads what the python archive holds, arrays in a dictionary, and can run nothing else.

    The one place that reads a pickle: the published archive is one.
    """

    _ALLOWED = ("_reconstruct", "ndarray", "dtype")

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("numpy") and name in self._ALLOWED:
            # numpy has since moved its private modules.
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of images")


def _pickled(name: str, content: bytes) -> Bytes:
    batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    if not isinstance(batch, dict) or not {b"data", b"labels"} <= set(batch):
        raise ValueError(f"{name} is not a dictionary of data and labels")
    images = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32)
    return Bytes(images, np.asarray(batch[b"labels"], np.int64))


def _joined(parts: list[Bytes]) -> Bytes:
    return Bytes(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
