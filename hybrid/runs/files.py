"""Files that are whole or not there at all, and tensors without pickles."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

# What stands in the place of a checksum while it is computed, over all other bytes of a file.
UNSIGNED = 64 * "0"


class DamagedFileError(RuntimeError):
    """A file that exists but is not what was written; the message names it."""


def canonical_json(value: Any) -> str:
    """Return `value` as JSON with one possible spelling: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256(text: str) -> str:
    """Return the SHA-256 of `text` as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader, or a crash, sees the old file or the new one.

    Raises:
        OSError: if the folder cannot be written or the disk is full; the message names the folder
            and the remedy, and an older file at `path` is left as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise type(error)(error.errno, _advice(error, path.parent)) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise type(error)(error.errno, _advice(error, path.parent)) from error
        raise


def _advice(error: OSError, folder: Path) -> str:
    return (
        f"cannot write to {folder} ({error.strerror}): make the folder writable and free space "
        "on its disk, or choose another folder; finished work is kept and will be reused"
    )


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write named tensors and a JSON description to one safetensors file, atomically."""
    write_atomically(path, tensor_bytes(tensors, about))


def tensor_bytes(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> bytes:
    """Return what `save_tensors` writes."""
    whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    # One entry, as the library keeps several in no certain order; the checksum comes first in it.
    inside = canonical_json({"checksum": UNSIGNED, "content": dict(about)})
    payload = safetensors.torch.save(whole, metadata={"about": inside})
    return payload.replace(UNSIGNED.encode(), _checksum(payload, UNSIGNED).encode(), 1)


def _checksum(content: bytes, given: str) -> str:
    """Return the SHA-256 of a file in which a checksum is `given`."""
    before, _, after = content.partition(given.encode())
    digest = hashlib.sha256(before)
    digest.update(UNSIGNED.encode())
    digest.update(after)
    return digest.hexdigest()


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises:
        DamagedFileError: if the file was cut short or changed since, or others wrote it.
    """
    return parsed_tensors(path.read_bytes(), str(path))


def parsed_tensors(content: bytes, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return what a file holds; see `load_tensors`."""
    header = int.from_bytes(content[:8], "little")
    try:
        inside = json.loads(json.loads(content[8 : 8 + header])["__metadata__"]["about"])
        given, about = inside["checksum"], inside["content"]
        sound = len(given) == len(UNSIGNED) and _checksum(content, given) == given
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        what = "is damaged (checksum does not match)"
        if hashlib.sha256(content[:-32]).digest() == content[-32:]:
            what = "is of an earlier form, which this state of the package does not read"
        raise DamagedFileError(f"{name} {what}: delete it")
    return safetensors.torch.load(content), about
