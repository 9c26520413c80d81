"""Files with bytes changed at random: read as they should be, or refused with a clear error.

Each is read in a process of its own making, so that one that ends the process counts, too.
"""

import gzip
import io
import json
import multiprocessing
import tarfile
import zipfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy.io import savemat

from hybrid.data.characters import read_omniglot
from hybrid.data.events.sets import archive, read_bin
from hybrid.data.files import DamagedDataError, reading
from hybrid.data.images import read_cifar10, read_idx
from hybrid.data.matlab import read_structures
from hybrid.exchange.saved import load, save
from hybrid.runs import files
from hybrid.runs.files import DamagedFileError, load_tensors, sealed
from hybrid.runs.store import read_record
from hybrid.tianjic.chip import load_chip
from tests.faults.tally import Tally
from tests.model.small import network

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


def _tensors() -> bytes:
    return files.tensor_bytes({"w": torch.arange(20.0)}, {"trial": "it"})


def _network(folder: Path) -> bytes:
    save(network(), folder / "network.safetensors")
    return (folder / "network.safetensors").read_bytes()


def _record() -> bytes:
    request = {"experiment": "it", "label": "a-GP-seed1", "settings": {"steps": 3}}
    return sealed({"request": request, "result": {"tests": [0.5, None]}, "about": {}}).encode()


def _mat() -> bytes:
    cells, one = np.empty((1, 2), dtype=object), np.arange(9)[None]
    for number in range(2):
        names = ("x", "y", "p", "ts")
        cells[0, number] = {name: (one + number).astype(np.int16) for name in names}
    buffer = io.BytesIO()
    savemat(buffer, {"ROI": cells})
    return buffer.getvalue()


def _resealed_tensors(content: bytes) -> bytes:
    """Give a changed file of tensors the right checksum, if it still has a place for one."""
    mark = content.find(b'checksum\\":\\"')
    given = content[mark + 13 : mark + 77]
    if mark < 0 or len(given) < 64:
        return content
    blank = content.replace(given, files.UNSIGNED.encode(), 1)
    right = files._checksum(blank, files.UNSIGNED).encode()
    return blank.replace(files.UNSIGNED.encode(), right, 1)


def _resealed_json(content: bytes) -> bytes:
    """Give a changed record the right checksum, if it still is an object."""
    try:
        body = json.loads(content)
        body.pop("sha256", None)
        return sealed(body).encode()
    except (ValueError, AttributeError, RecursionError):
        return content


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
    return b"".join(value.numpy().tobytes() for value in tensors.values()) + repr(about).encode()


def _read_events(path: Path) -> bytes:
    return read_bin(path.read_bytes(), str(path)).tobytes()


def _read_mat(path: Path) -> bytes:
    with reading(path):
        found = read_structures(path.read_bytes(), "ROI")
    return b"".join(row.tobytes() for entry in found for row in entry.values())


def _read_network(path: Path) -> bytes:
    try:
        made = load(path)
    except ValueError as error:  # of another version, it says, or of unknown parts
        raise DamagedFileError(str(error)) from error
    return b"".join(value.numpy().tobytes() for value in made.state_dict().values())


def _read_record(path: Path) -> bytes:
    return repr(read_record(path)).encode()


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
            else. The others are guarded by the registry's checksums, or are text to be edited, or
            have been sealed again by whoever changed them.
        seal: makes the checksum right again.
    """

    content: bytes
    read: Callable[[Path], bytes]
    guarded: bool = True
    seal: Callable[[bytes], bytes] = bytes


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
        "tensors": Kind(_tensors(), _read_tensors),
        "tensors, sealed again": Kind(_tensors(), _read_tensors, False, _resealed_tensors),
        "network": Kind(_network(folder), _read_network),
        "network, sealed again": Kind(_network(folder), _read_network, False, _resealed_tensors),
        "record": Kind(_record(), _read_record),
        "record, sealed again": Kind(_record(), _read_record, False, _resealed_json),
        "structures of MATLAB": Kind(_mat(), _read_mat, guarded=False),
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


_FORK = multiprocessing.get_context("fork")


def fuzz(folder: Path, count: int, seed: int = 0) -> Tally:
    """Read so many damaged files in all; count answers that are neither the data nor allowed."""
    known, tally = kinds(folder), Tally()
    sound = {}
    for name, kind in known.items():
        (folder / "input").write_bytes(kind.content)
        sound[name] = kind.read(folder / "input")
    begin = 0
    while begin < count:
        ours, theirs = _FORK.Pipe(duplex=False)
        arguments = (folder / "input", known, sound, range(begin, count), seed, theirs)
        process = _FORK.Process(target=_read_on, args=arguments)
        process.start()
        theirs.close()
        try:
            while True:
                number, wrong, raw = ours.recv()
                name = list(known)[number % len(known)]
                tally.add(f"{name} {number} (seed {seed})", wrong=wrong, raw=raw)
                begin = number + 1
        except EOFError:
            process.join()
        if begin < count:
            name = list(known)[begin % len(known)]
            tally.add(f"{name} {begin} (seed {seed})", raw=f"exit code {process.exitcode}")
            begin += 1
    return tally


def _read_on(
    path: Path,
    known: dict[str, Kind],
    sound: dict[str, bytes],
    numbers: range,
    seed: int,
    said: Connection,
) -> None:
    """Read one damaged file after the other; say of each whether something was wrong."""
    for number in numbers:
        name = list(known)[number % len(known)]
        kind, wrong, raw = known[name], False, ""
        path.write_bytes(kind.seal(_mutated(kind.content, np.random.default_rng([seed, number]))))
        try:
            found = kind.read(path)
            wrong = kind.guarded and found != sound[name]
        except ALLOWED:
            pass
        except Exception as error:
            raw = repr(error)
        said.send((number, wrong, raw))
