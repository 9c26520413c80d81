"""Files of data sets: what each must hold, and where a missing one is fetched from.

`HYBRID_DATA` names the data directory (default: the user's cache). A file that is there and has
a registered checksum is used as it is, without a network; a missing one is fetched from the first
mirror that gives it; a damaged one is never used. Archives are read in memory, never unpacked, and
refused if they look hostile, for anybody may have put them there.
"""

import logging
import os
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path, PureWindowsPath
from typing import Literal, NamedTuple

import pooch
import requests
from filelock import FileLock
from tqdm.auto import tqdm

from hybrid.checks import choose
from hybrid.paths import shipped

SETTING = "HYBRID_DATA"
LARGEST = 4 << 30  # bytes that an archive may hold, unpacked
FETCH_ANEW = "Delete the file and run again to fetch it anew."
_TIMEOUT = 30.0  # seconds without an answer
_CHUNK = 1 << 14  # bytes at a time: less is lost if the mirror breaks off

State = Literal["here", "damaged", "partial", "missing", "missing, no mirror"]


class MissingDataError(FileNotFoundError):
    """A data file is neither there nor to be had; the message names it and the remedy."""


class DamagedDataError(ValueError):
    """A data file is there but is not what it should be; the message names it and the remedy."""


class HostileArchiveError(ValueError):
    """An archive with an entry that has no place in a data set; the message names it."""


class Entry(NamedTuple):
    """One file of a data set."""

    name: str  # path below the data directory
    state: State
    size: int  # bytes on disk


@dataclass(frozen=True)
class Source:
    """One registered file."""

    name: str  # path below the data directory
    digests: tuple[str, ...]  # "algorithm:hex" of the published file, then of equal repackings
    urls: tuple[str, ...]  # mirrors of the published file

    @property
    def path(self) -> Path:
        """Where the file lies, or will lie."""
        return data_directory() / self.name

    def is_whole(self) -> bool:
        """Return whether the file that is there is the published one or an equal one."""
        kinds = {digest.partition(":")[0] for digest in self.digests}
        return any(f"{kind}:{pooch.file_hash(self.path, kind)}" in self.digests for kind in kinds)


def data_directory() -> Path:
    """Return the data directory: `HYBRID_DATA`, else the user's cache folder."""
    setting = os.environ.get(SETTING)
    return Path(setting).expanduser() if setting else Path(pooch.os_cache("hybrid"))


@cache
def registry() -> dict[str, Source]:
    """Return all registered files by name, from `data/registry.txt`."""
    text = shipped("registry.txt").read_text(encoding="utf-8")
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return {
        name: Source(name, tuple(digests.split(",")), tuple(urls)) for name, digests, *urls in lines
    }


def entries(names: list[str] | None, *, verify: bool) -> Iterator[Entry]:
    """Yield the state of each file of some data sets, or of all.

    Args:
        names: of data sets; None for all.
        verify: whether checksums are computed: without it, a file that is there is "here".

    Raises:
        ValueError: if a data set is unknown.
    """
    for source in _files_of(names):
        state: State = "missing" if source.urls else "missing, no mirror"
        path = source.path
        if path.exists():
            state = "damaged" if verify and not source.is_whole() else "here"
        elif part_of(path).exists():
            path, state = part_of(path), "partial"
        yield Entry(source.name, state, path.stat().st_size if path.exists() else 0)


def fetch_all(names: list[str] | None) -> Iterator[tuple[str, Exception | None]]:
    """Fetch what is missing, one file after the other; yield each with what went wrong, or None.

    Without names, files that no mirror has are left out: nothing can be done about them.

    Raises:
        ValueError: if a data set is unknown.
    """
    for source in _files_of(names):
        if names is None and not source.urls and not source.path.exists():
            continue
        try:
            fetch(source.name)
        except (OSError, ValueError) as error:
            yield source.name, error
        else:
            yield source.name, None


def _files_of(names: list[str] | None) -> list[Source]:
    """Return the registered files of some data sets, named by their folders, or of all."""
    sources = registry().values()
    known = dict.fromkeys(source.name.split("/")[0] for source in sources)
    chosen = [choose("data set", name, known) for name in names or known]
    return [s for name in chosen for s in sources if s.name.split("/")[0] == name]


def fetch(name: str) -> Path:
    """Return the path of a registered file, fetching it first if it is not there.

    Raises:
        KeyError: if `name` is not registered.
        DamagedDataError: if the file is there but its checksum does not match.
        MissingDataError: if it is not there and no mirror gave it.
        OSError: if the disk is full, or the folder cannot be written.
    """
    source = registry()[name]
    if source.path.exists():
        if source.is_whole():
            return source.path
        expected = " or ".join(digest[:19] + "…" for digest in source.digests)
        raise DamagedDataError(
            f"{source.path} is damaged: its checksum is "
            f"sha256:{pooch.file_hash(source.path)[:12]}…, it should be {expected}. {FETCH_ANEW}"
        )
    failures = []
    for url in source.urls:
        try:
            download(url, source.path, source.digests[0])
        except (requests.RequestException, ValueError) as error:
            failures.append(f"  {url}: {_why(error)}")
        else:
            return source.path
    missing = f"{name} is not in {data_directory()}"
    by_hand = f"put the file there by hand, or set {SETTING} to a folder that has it."
    if not source.urls:
        raise MissingDataError(f"{missing}, and no public mirror is known: {by_hand}")
    tried = "\n".join(failures)
    raise MissingDataError(
        f"{missing} and could not be fetched:\n{tried}\nConnect to the network and run again: what "
        f"has arrived is kept, and the rest is fetched. Offline, {by_hand}"
    )


def _why(error: Exception) -> str:
    """Return in a few words what went wrong with a mirror."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.RequestException):
        return type(error).__name__
    return "it gave something else than what is registered"


def download(url: str, path: Path, digest: str) -> None:
    """Fetch a file, unless another process is fetching it or has just done so.

    What has arrived lies in `<path>.part` until it is whole; another attempt, from the same mirror
    or from another one, goes on behind it. pooch keeps the whole file if its checksum is right.

    Args:
        url: of a mirror.
        path: where the file goes.
        digest: "algorithm:hex" of the file.

    Raises:
        requests.RequestException: if the mirror does not answer, refuses, or breaks off.
        ValueError: if the whole file is not the registered one; it is not kept.
        OSError: if the disk is full, or the folder cannot be written.
    """

    def go_on(url: str, target: str, _: object) -> None:
        _append(url, part_of(path))
        os.replace(part_of(path), target)

    lock = sha256(str(path.resolve()).encode()).hexdigest()[:16]  # the file of it is left behind
    pooch.get_logger().setLevel(logging.WARNING)
    with FileLock(Path(tempfile.gettempdir()) / f"hybrid-{lock}.lock"):
        pooch.retrieve(url, digest, path.name, path.parent, downloader=go_on)


def part_of(path: Path) -> Path:
    """Return where the part of a download lies that has arrived."""
    return path.with_name(path.name + ".part")


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
        total = int(answer.headers.get("Content-Length", 0)) or None
        with partial.open("ab" if goes_on else "wb") as file:
            bar = tqdm.wrapattr(file, "write", total=total, desc=partial.stem, leave=False)
            with bar as counted:
                for chunk in answer.iter_content(_CHUNK):
                    counted.write(chunk)
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def reading(what: object, advice: str = FETCH_ANEW) -> Iterator[None]:
    """Raise DamagedDataError for whatever a damaged file makes its reader raise in this block.

    Args:
        what: is read, as messages name it.
        advice: what to do about damage.

    Raises:
        PermissionError, MemoryError: as they are, for the file may be whole.
    """
    try:
        yield
    except (PermissionError, MemoryError):
        raise
    except Exception as error:
        raise DamagedDataError(f"{what} cannot be read ({error}). {advice}") from error


def checked_zip(archive: zipfile.ZipFile) -> zipfile.ZipFile:
    """Return a zip archive after looking at its entries.

    Raises:
        HostileArchiveError: for a path that leads out of the archive, a link, or too many bytes.
    """
    total = 0
    for entry in archive.infolist():
        total += entry.file_size
        _check(entry.filename, stat.S_ISLNK(entry.external_attr >> 16), total)
    return archive


def checked_members(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file of a tar archive, after looking at it.

    Raises:
        HostileArchiveError: see `checked_zip`; for a device or a pipe, too.
    """
    total = 0
    for member in archive:
        total += member.size
        _check(member.name, not (member.isfile() or member.isdir()), total)
        if (file := archive.extractfile(member)) is not None:
            yield member.name, file.read()
    # A compressed stream is checked at its very end, which lies behind that of the archive.
    while archive.fileobj is not None and (rest := archive.fileobj.read(1 << 20)):
        total += len(rest)
        _check("behind the last one", False, total)


def _check(name: str, special: bool, total: int) -> None:
    path = PureWindowsPath(name)  # which both kinds of slashes divide, and a drive may lead
    if path.anchor or ".." in path.parts:
        raise HostileArchiveError(f"entry {name!r} leads out of the archive")
    if special:
        raise HostileArchiveError(f"entry {name!r} is a link or a device, not a file")
    if total > LARGEST:
        raise HostileArchiveError(f"up to entry {name!r} it holds {total:,} bytes, unpacked")
