"""Downloads that go on where they stopped, and are kept only if their checksum is right."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import requests
from filelock import FileLock
from tqdm.auto import tqdm

_TIMEOUT = 30.0  # seconds without an answer
_CHUNK = 1 << 14  # bytes at a time: less is lost if the mirror breaks off


class WrongContentError(OSError):
    """A mirror gave something else than what is registered."""


def download(url: str, path: Path, right: Callable[[Path], bool]) -> None:
    """Fetch a file, unless another process is fetching it or has just done so.

    What has arrived lies in `<path>.part` until it is whole; another attempt, from the same mirror
    or from another one, goes on behind it.

    Args:
        url: of a mirror.
        path: where the file goes.
        right: whether a file on disk is the registered one.

    Raises:
        requests.RequestException: if the mirror does not answer, refuses, or breaks off.
        WrongContentError: if the whole file is not the registered one; it is not kept.
        OSError: if the disk is full, or the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = part_of(path)
    with FileLock(_lock_of(path)):
        if path.exists() and right(path):
            return  # another process was faster
        _append(url, partial)
        if not right(partial):
            partial.unlink()
            raise WrongContentError(f"{url} gave something else than what is registered")
        os.replace(partial, path)


def part_of(path: Path) -> Path:
    """Return where the part of a download lies that has arrived."""
    return path.with_name(path.name + ".part")


def _lock_of(path: Path) -> Path:
    """Return a file that whoever fetches `path` on this machine locks; it is left behind."""
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"hybrid-{name}.lock"


def _append(url: str, partial: Path) -> None:
    """Bring what is missing of a file."""
    here = partial.stat().st_size if partial.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # what arrives is counted as it is on disk
    if here:
        headers["Range"] = f"bytes={here}-"
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing is missing, or the part is of something else: its checksum will tell
        answer.raise_for_status()
        goes_on = answer.status_code == requests.codes.partial_content
        expected = int(answer.headers.get("Content-Length", 0)) or None
        with (
            partial.open("ab" if goes_on else "wb") as file,
            tqdm(desc=partial.stem, total=expected, unit="B", unit_scale=True, leave=False) as bar,
        ):
            for chunk in answer.iter_content(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())
