"""Files that are whole or not there at all, sealed by checksums, and tensors without pickles."""

import errno
import glob
import hashlib
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

TEMPORARY = ".tmp"  # ends the names of files that are being written; they begin with a dot
ABANDONED = 600.0  # seconds after which whoever wrote a temporary file no longer does

# What stands in the place of a checksum while it is computed, over all other bytes of a file.
UNSIGNED = 64 * "0"


class DamagedFileError(RuntimeError):
    """A file that exists but is not what was written; the message names it."""


def canonical_json(value: Any) -> str:
    """Return `value` as JSON with one possible spelling: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256(content: str | bytes) -> str:
    """Return the SHA-256 of a text or of bytes as 64 hexadecimal digits."""
    whole = content.encode() if isinstance(content, str) else content
    return hashlib.sha256(whole).hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path`, see `write_together`."""
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files of one folder, and replace older ones only once all new ones are there.

    Each file is whole at any moment, and after a power failure, too; when this returns, all are on
    the disk. Links are followed, and permissions are those that the umask gives.

    Raises:
        OSError: if the folder cannot be written or the disk is full; the message names the folder
            and the remedy. Each file then is whole, the older one or the new one.
    """
    targets = {Path(os.path.realpath(path)): content for path, content in contents.items()}
    folder = next(iter(targets)).parent
    written: dict[Path, Path] = {}
    try:
        new = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for target, content in targets.items():
            temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}{TEMPORARY}")
            written[target] = temporary
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for target, temporary in written.items():
            os.replace(temporary, target)
        for parent in {folder, *(made.parent for made in new)}:
            _synchronise(parent)
    except BaseException as error:
        for temporary in written.values():
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise type(error)(error.errno, _advice(error, folder)) from error
        raise
    for target in targets:
        for left in temporaries(folder, target.name):
            with suppress(OSError):  # another user's: the file is there all the same
                left.unlink(missing_ok=True)


def temporaries(folder: Path, name: str = "*") -> list[Path]:
    """Return what killed processes had begun to write, of one file or of all in a folder."""
    pattern = f".{name if name == '*' else glob.escape(name)}.*{TEMPORARY}"
    return [path for path in folder.glob(pattern) if is_abandoned(path)]


def is_abandoned(path: Path) -> bool:
    """Return whether a file is a temporary one of ours that nobody has written to for long."""
    try:
        entry = path.lstat()
    except OSError:
        return False  # gone meanwhile
    ours = re.fullmatch(rf"\..+\.[0-9a-f]{{8}}{TEMPORARY}", path.name) and stat.S_ISREG(
        entry.st_mode
    )
    return bool(ours) and abs(time.time() - entry.st_mtime) > ABANDONED


def _synchronise(folder: Path) -> None:
    """Bring a folder's names to the disk, so that new files outlive a power failure."""
    if os.name == "nt":
        return  # folders cannot be opened there
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks cannot
            raise
    finally:
        os.close(handle)


def sealed(body: Mapping[str, Any]) -> str:
    """Return a JSON object with its checksum: a line for each entry, for readable differences."""
    whole = {**body, "sha256": sha256(canonical_json(body))}
    parts = []
    for name, value in whole.items():
        if isinstance(value, dict):
            lines = ",\n".join(f"  {json.dumps(k)}: {canonical_json(v)}" for k, v in value.items())
            parts.append(f"{json.dumps(name)}: {{\n{lines}\n}}")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            lines = ",\n".join(f"  {canonical_json(entry)}" for entry in value)
            parts.append(f"{json.dumps(name)}: [\n{lines}\n]")
        else:
            parts.append(f"{json.dumps(name)}: {canonical_json(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def read_sealed(path: Path) -> dict[str, Any]:
    """Return what `sealed` was given.

    Raises:
        FileNotFoundError: if there is no such file.
        DamagedFileError: if it is not JSON or fails its checksum.
    """
    text = content_of(path).decode("utf-8", "replace")
    try:
        body = json.loads(text)
        digest = body.pop("sha256")
        found = sha256(canonical_json(body))  # numbers too large for a float are a ValueError
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise DamagedFileError(f"{path} is damaged ({error!r})") from error
    if found != digest:
        raise DamagedFileError(f"{path} is damaged (its checksum does not match)")
    return dict(body)


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
    return parsed_tensors(content_of(path), str(path))


def content_of(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        FileNotFoundError: if there is none.
        DamagedFileError: if it is no file: a folder, or a pipe, which would be waited for.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise DamagedFileError(f"{path} is no file: move it away")
    return path.read_bytes()


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
    try:
        return safetensors.torch.load(content), about
    except Exception as error:  # sealed by somebody who did not write what the format says
        raise DamagedFileError(f"{name} cannot be read ({error}): delete it") from error
