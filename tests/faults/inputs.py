"""Files with bytes changed at random: read as they should be, or refused with a clear error."""

import gzip
import io
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from hybrid.data.characters import read_omniglot
from hybrid.data.events.sets import archive, read_bin
from hybrid.data.files import DamagedDataError
from hybrid.data.images import read_cifar10, read_idx
from hybrid.runs.files import DamagedFileError, load_tensors, save_tensors
from hybrid.tianjic.chip import load_chip

# What a reader may answer to a damaged file; anything else is a defect.
ALLOWED = (DamagedDataError, DamagedFileError)


def _idx() -> bytes:
    header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (3, 4, 5))
    return gzip.compress(header + bytes(range(60)))


def _zip(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in entries.items():
            packed.writestr(name, content)
    return buffer.getvalue()


def _bin(count: int) -> bytes:
    """Return events of N-MNIST in the order of time: x, y, and polarity with microseconds."""
    polarity = 1 << 23
    return b"".join(
        bytes([i % 34, 3 * i % 34]) + ((i % 2) * polarity + 1_000 * i).to_bytes(3, "big")
        for i in range(count)
    )


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.eye(105) > 0).save(buffer, "PNG")
    return buffer.getvalue()


def _tar() -> bytes:
    buffer = io.BytesIO()
    row = bytes([3]) + bytes(3_072)
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name in ("data_batch_1.bin", "test_batch.bin"):
            info = tarfile.TarInfo(name)
            info.size = 2 * len(row)
            packed.addfile(info, io.BytesIO(2 * row))
    return buffer.getvalue()


def _tensors(folder: Path) -> bytes:
    path = folder / "sound.safetensors"
    save_tensors(path, {"w": torch.arange(20.0)}, {"trial": "it"})
    return path.read_bytes()


# Readers: what a file says, as bytes to compare.


def _read_idx(path: Path) -> bytes:
    return read_idx(path).tobytes()


def _read_recordings(path: Path) -> bytes:
    source = archive(path, "it")
    found = source.read(range(len(source.labels)))
    return found.events.tobytes() + source.labels.tobytes()


def _read_drawings(path: Path) -> bytes:
    return read_omniglot(path).drawings.tobytes()


def _read_images(path: Path) -> bytes:
    return b"".join(part.tobytes() for part in vars(read_cifar10(path)).values())


def _read_tensors(path: Path) -> bytes:
    tensors, about = load_tensors(path)
    return tensors["w"].numpy().tobytes() + repr(about).encode()


def _read_events(path: Path) -> bytes:
    return read_bin(path.read_bytes(), str(path)).tobytes()


def _read_constants(path: Path) -> bytes:
    try:
        return repr(load_chip(path).constants).encode()
    except ValueError as error:
        raise DamagedFileError(str(error)) from error


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        content: of a sound one.
        read: says what is in it.
        guarded: whether the format has a checksum, so that a changed file may not say something
            else. The others are guarded by the registry's checksums, or are text to be edited.
    """

    content: bytes
    read: Callable[[Path], bytes]
    guarded: bool = True


def kinds(folder: Path) -> dict[str, Kind]:
    """Return kinds of files that are read."""
    chip = Path(load_chip.__code__.co_filename).with_name("chip.toml")
    drawings = {
        f"images_background/Greek/character01/0001_{i:02d}.png": _png() for i in range(1, 21)
    }
    return {
        "idx": Kind(_idx(), _read_idx),
        "bin": Kind(_bin(40), _read_events, guarded=False),
        "zip of events": Kind(_zip({"Train/3/00001.bin": _bin(9)}), _read_recordings),
        "zip of drawings": Kind(_zip(drawings), _read_drawings),
        "tar of images": Kind(_tar(), _read_images),
        "tensors": Kind(_tensors(folder), _read_tensors),
        "constants of a chip": Kind(chip.read_bytes(), _read_constants, guarded=False),
    }


def _mutated(content: bytes, source: np.random.Generator) -> bytes:
    """Return a file with some bytes changed, cut out, doubled, or cut off."""
    changed = bytearray(content)
    for _ in range(int(source.integers(1, 4))):
        if not changed:
            break
        place = int(source.integers(len(changed)))
        length = int(source.integers(1, 33))
        kind = int(source.integers(5))
        if kind == 0:
            changed[place] ^= 1 << int(source.integers(8))
        elif kind == 1:
            changed[place : place + length] = source.bytes(length)
        elif kind == 2:
            del changed[place : place + length]
        elif kind == 3:
            changed[place:place] = changed[place : place + length]
        else:
            del changed[place:]
    return bytes(changed)


def fuzz(folder: Path, count: int, seed: int = 0) -> dict[str, int]:
    """Read so many damaged files in all; count answers that are neither the data nor allowed."""
    source = np.random.default_rng(seed)
    known, answers = kinds(folder), Counter[str]()
    path, sound = folder / "input", {}
    for name, kind in known.items():
        path.write_bytes(kind.content)
        sound[name] = kind.read(path)
    for number in range(count):
        name = list(known)[number % len(known)]
        kind = known[name]
        path.write_bytes(_mutated(kind.content, source))
        try:
            found = kind.read(path)
        except ALLOWED:
            answers["refused"] += 1
            continue
        except Exception as error:
            print(f"{name} {number} (seed {seed}): {error!r}")
            answers["other errors"] += 1
            continue
        answers["read"] += 1
        answers["wrong data believed"] += kind.guarded and found != sound[name]
    counted = ("refused", "read", "other errors", "wrong data believed")
    return {"inputs tried": count} | {name: answers[name] for name in counted}
