"""Archives from elsewhere: read in memory, never unpacked, and refused if they look hostile."""

import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath, PureWindowsPath

from hybrid.data.sources import DamagedDataError

LARGEST = 4 << 30  # bytes that an archive may hold, unpacked
_LINK = 0o120000  # of a file's mode in a zip archive


# What reading a damaged archive, or an image or array in it, may raise.
_DAMAGE: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    ValueError,  # HostileArchiveError among them
    LookupError,
    TypeError,
    OverflowError,
    SyntaxError,  # of a PNG, in Pillow's words
    struct.error,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    RuntimeError,  # encrypted, or of a compression that zipfile does not know
)


class HostileArchiveError(ValueError):
    """An archive with an entry that has no place in a data set; the message names it."""


@contextmanager
def reading(what: object, advice: str) -> Iterator[None]:
    """Raise DamagedDataError for whatever a damaged archive raises within this block.

    Args:
        what: is read, as messages name it.
        advice: what to do about damage.

    Raises:
        PermissionError: as it is, for a file may be whole that one must not read.
    """
    try:
        yield
    except PermissionError:
        raise
    except _DAMAGE as error:
        raise DamagedDataError(f"{what} cannot be read ({error}). {advice}") from error


def checked_zip(archive: zipfile.ZipFile, largest: int = LARGEST) -> zipfile.ZipFile:
    """Return a zip archive after looking at its entries.

    Raises:
        HostileArchiveError: for a path that leads out of the archive, a link, or too many bytes.
    """
    total = 0
    for entry in archive.infolist():
        total += entry.file_size
        _check(entry.filename, (entry.external_attr >> 16) & 0o170000 == _LINK, total, largest)
    return archive


def checked_members(
    archive: tarfile.TarFile, largest: int = LARGEST
) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file of a tar archive, after looking at it.

    Raises:
        HostileArchiveError: see `checked_zip`; for a device or a pipe, too.
    """
    total = 0
    for member in archive:
        total += member.size
        special = not (member.isfile() or member.isdir())
        _check(member.name, special, total, largest)
        if member.isfile():
            file = archive.extractfile(member)
            assert file is not None
            yield member.name, file.read()
    # A compressed stream is checked at its very end, which lies behind that of the archive.
    while archive.fileobj is not None and (rest := archive.fileobj.read(1 << 20)):
        total += len(rest)
        _check("behind the last one", False, total, largest)


def _check(name: str, special: bool, total: int, largest: int) -> None:
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        if path.is_absolute() or path.drive or ".." in path.parts:
            raise HostileArchiveError(f"entry {name!r} leads out of the archive")
    if special:
        raise HostileArchiveError(f"entry {name!r} is a link or a device, not a file")
    if total > largest:
        raise HostileArchiveError(f"up to entry {name!r} it holds {total:,} bytes, unpacked")
