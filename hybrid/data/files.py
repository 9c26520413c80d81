"""Files of data sets: what each must hold, and where a missing one is fetched from.

`HYBRID_DATA` names the data directory (default: the user's cache). A file that is there and has
a registered checksum is used as it is, without a network; a missing one is fetched from the first
mirror that gives it; a damaged one is never used. These archives are read in memory, not unpacked,
and refused if they look hostile, for anybody may have put them there. All of N-MNIST is the one set
that is not registered here: tonic fetches it, and unpacks it without these checks.
"""

import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PureWindowsPath
from queue import Empty, Queue
from threading import Event, Thread
from typing import Literal, NamedTuple, Self

import pooch
import requests
from tqdm.auto import tqdm

from hybrid.checks import choose
from hybrid.locks import alone
from hybrid.paths import folder_of, shipped

SETTING = "HYBRID_DATA"
LARGEST = 4 << 30  # bytes that an archive may hold, unpacked
FETCH_ANEW = "Delete the file and run again to fetch it anew."
_TIMEOUT = 30.0  # seconds within which a mirror must answer, and then send the next chunk
_CHUNK = 1 << 14  # bytes: at 30 s each, a mirror of less than 546 bytes a second is given up
_AHEAD = 64  # chunks that may have arrived before they are written
_LONGEST_HEADER = 1 << 16  # bytes of a long name, or of pax records, before an entry of a tar
_DIGEST = "(?:md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})"
_LINE = re.compile(
    r"(?P<name>\w+/\w[\w.-]*) (?P<size>\d+)"
    rf" (?P<digests>{_DIGEST}(?:,{_DIGEST})*)(?P<urls>(?: https?://\S+)*)",
    re.ASCII,
)


State = Literal["here", "damaged", "partial", "missing", "missing, no mirror"]


class MissingDataError(FileNotFoundError):
    """A data file is neither there nor to be had; the message names it and the remedy."""


class DamagedDataError(ValueError):
    """A data file is there but is not what it should be; the message names it and the remedy."""


class MirrorError(RuntimeError):
    """A mirror does not answer, refuses, is slow, breaks off, or sends something else."""


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
    size: int  # bytes of the published file
    digests: tuple[str, ...]  # "algorithm:hex" of the published file, then of equal repackings
    urls: tuple[str, ...]  # mirrors of the published file

    @property
    def path(self) -> Path:
        """Where the file lies, or will lie."""
        return data_directory() / self.name

    def is_whole(self) -> bool:
        """Return whether the file that is there is the published one or an equal one."""
        if not self.path.is_file():
            return False
        kinds = {digest.partition(":")[0] for digest in self.digests}
        return any(f"{kind}:{pooch.file_hash(self.path, kind)}" in self.digests for kind in kinds)


def data_directory() -> Path:
    """Return the data directory: `HYBRID_DATA`, else the user's cache folder."""
    return folder_of(SETTING)


@cache
def registry() -> dict[str, Source]:
    """Return all registered files by name, from `data/registry.txt`."""
    return parsed_registry(shipped("registry.txt").read_text(encoding="utf-8"))


def parsed_registry(text: str) -> dict[str, Source]:
    """Return registered files by name.

    Args:
        text: a line for each file: name, bytes, checksums, mirrors; "#" begins a remark.

    Raises:
        ValueError: if a line says something else, or a name is there twice.
    """
    known: dict[str, Source] = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if not found or found["name"] in known:
            raise ValueError(f"registry: {line[:80]!r} is no line `name bytes checksums mirrors`")
        digests, urls = tuple(found["digests"].split(",")), tuple(found["urls"].split())
        known[found["name"]] = Source(found["name"], int(found["size"]), digests, urls)
    return known


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
        MissingDataError: if it is not there and no mirror gave it, or another process takes too
            long to fetch it.
        OSError: if the disk is full, or the folder cannot be written.
    """
    source = registry()[name]
    if source.path.exists():
        if not source.path.is_file():
            raise DamagedDataError(f"{source.path} is no file: move it away, and run again")
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
            download(url, source.path, source.digests[0], source.size)
        except MirrorError as error:
            failures.append(f"  {url}: {error}")
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


def download(url: str, path: Path, digest: str, size: int) -> None:
    """Fetch a file, unless another process is fetching it or has just done so.

    What has arrived lies in `<path>.part` until it is whole; another attempt, from the same mirror
    or from another one, goes on behind it. Only a file with the right checksum is kept.

    Args:
        url: of a mirror.
        path: where the file goes.
        digest: "algorithm:hex" of the file.
        size: of the file, in bytes; no more is written.

    Raises:
        MirrorError: if the mirror does not answer, refuses, is slow, breaks off, or sends something
            else than the registered file.
        OSError: if the disk is full, the folder cannot be written, or another process takes too
            long to fetch it.
    """
    part = part_of(path)
    with alone(path, "is fetching"):
        while not path.exists():
            goes_on = part.exists()
            try:
                _append(url, part, size)
            except OSError as error:
                raise type(error)(
                    error.errno,
                    f"cannot write {part} ({error.strerror}): make the folder writable and free "
                    f"space on its disk, or set {SETTING} to another; what has arrived is kept",
                ) from error
            algorithm, _, expected = digest.partition(":")
            if pooch.file_hash(part, algorithm) == expected:
                os.replace(part, path)
                return
            part.unlink()
            if not goes_on:  # otherwise it may be what was there before that is wrong
                raise MirrorError("it gave something else than what is registered")


def part_of(path: Path) -> Path:
    """Return where the part of a download lies that has arrived."""
    return path.with_name(path.name + ".part")


def _append(url: str, part: Path, size: int) -> None:
    """Bring what is missing of a file."""
    here = part.stat().st_size if part.exists() else 0
    if here >= size:
        return  # its checksum will tell
    bar = {"total": size, "initial": here, "desc": part.stem, "leave": False}
    try:
        with part.open("ab") as file, tqdm.wrapattr(file, "write", **bar) as counted:
            with closing(_arriving(url, here, size)) as chunks:
                for chunk in chunks:
                    counted.write(chunk[: size - here])
                    here += len(chunk)
                    if here >= size:
                        break  # the body may be endless
            file.flush()
            os.fsync(file.fileno())
    finally:
        if part.exists() and not part.stat().st_size:
            part.unlink()
    if here < size:
        raise MirrorError(f"it broke off after {here:,} of {size:,} bytes")


def _arriving(url: str, here: int, size: int) -> Generator[bytes, None, None]:
    """Yield what a mirror sends of a file behind its first bytes.

    The mirror is asked in a thread, which can be left: a mirror that sends a byte now and then, of
    its header or of the file, is given up as well.

    Args:
        url: of the mirror.
        here: number of bytes that are there.
        size: of the file.

    Raises:
        MirrorError: whatever it is that goes wrong with the mirror.
    """
    arrived: Queue[bytes | Exception | None] = Queue(_AHEAD)
    left = Event()

    def ask() -> None:
        try:
            for chunk in _sent(url, here, size):
                arrived.put(chunk)
                if left.is_set():
                    return
            arrived.put(None)
        except Exception as error:  # a header may hold anything
            arrived.put(error)

    Thread(target=ask, daemon=True).start()
    try:
        while (found := arrived.get(timeout=_TIMEOUT)) is not None:
            if isinstance(found, Exception):
                raise MirrorError(_why(found)) from None  # whose words may hold control characters
            yield found
    except Empty:
        raise MirrorError(f"it sent less than {_CHUNK:,} bytes in {_TIMEOUT:g} s") from None
    finally:
        left.set()
        while not arrived.empty():  # the thread may wait for a place
            arrived.get_nowait()


def _sent(url: str, here: int, size: int) -> Iterator[bytes]:
    """Yield the same, for as long as it may take."""
    headers = {"Accept-Encoding": "identity"}  # what arrives is counted as it is on disk
    if here:
        headers["Range"] = f"bytes={here}-"
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
        answer.raise_for_status()
        begins = here if answer.status_code == requests.codes.partial_content else 0
        length = answer.raw.length_remaining  # None if the header does not say
        if length is not None and begins + length != size:
            raise MirrorError(f"its file has {begins + length:,} bytes, not {size:,}")
        block = b""
        for piece in answer.raw.stream(_CHUNK, decode_content=False):
            block += piece  # which may be a single byte
            if len(block) >= _CHUNK:
                yield block[max(0, here - begins) :]  # a mirror that cannot go on begins anew
                begins, block = begins + len(block), b""
        yield block[max(0, here - begins) :]


def _why(error: Exception) -> str:
    """Return in a few words what went wrong with a mirror."""
    if isinstance(error, MirrorError):
        return str(error)
    if isinstance(error, requests.HTTPError) and error.response is not None:
        said = f"{error.response.status_code} {error.response.reason}"
        return "".join(letter for letter in said if letter.isprintable())[:80]
    return type(error).__name__


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


_HEADERS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)


class _Member(tarfile.TarInfo):
    """An entry of a tar archive, or a header before it, which is refused if it is long."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Return what a block of an archive says; the reader keeps such headers in memory."""
        made = super().frombuf(buf, encoding, errors)
        if made.type in _HEADERS and made.size > _LONGEST_HEADER:
            raise HostileArchiveError(f"the header of an entry is {made.size:,} bytes long")
        return made


def checked_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file of a tar archive, after looking at it.

    Raises:
        HostileArchiveError: see `checked_zip`; for a device or a pipe, too. Headers count as bytes.
    """
    with tarfile.open(path, tarinfo=_Member) as archive:
        for member in archive:
            special = not (member.isfile() or member.isdir()) or member.issparse()
            total = member.offset_data + member.size  # of all that lies before its end
            _check(member.name, special, total)
            if (file := archive.extractfile(member)) is not None:
                yield member.name, file.read()
        # A compressed stream is checked at its very end, which lies behind that of the archive.
        while archive.fileobj is not None and archive.fileobj.read(1 << 20):
            _check("the last", False, archive.fileobj.tell())


def _check(name: str, special: bool, total: int) -> None:
    path = PureWindowsPath(name)  # which both kinds of slashes divide, and a drive may lead
    name = name[:200]  # in messages
    if path.anchor or ".." in path.parts:
        raise HostileArchiveError(f"entry {name!r} leads out of the archive")
    if special:
        raise HostileArchiveError(f"entry {name!r} is a link or a device, not a file")
    if total > LARGEST:
        raise HostileArchiveError(f"up to entry {name!r} it holds {total:,} bytes, unpacked")
