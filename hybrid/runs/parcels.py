"""Records and checkpoints of a store in parts of limited size, to go on with on another machine."""

import hashlib
import io
import re
import tarfile
from pathlib import Path

from hybrid.runs.files import DamagedFileError, parsed_tensors, write_atomically

_PART = re.compile(r"([0-9a-f]{16})-(\d+)-of-(\d+)\.part")
_KINDS = ("*.json", "*.checkpoint.safetensors")


def pack(store: Path, folder: Path, megabytes: float = 15.0) -> list[Path]:
    """Write a store's records, and what its unfinished trials came to, into parts; return these.

    Trained networks are left out: whoever has a record can train its network again.

    Args:
        store: folder of records.
        folder: of the parts, each named after their content, its number and their number.
        megabytes: largest size of a part.

    Raises:
        ValueError: if there is nothing to pack, or parts are to have no size.
    """
    if not megabytes > 0.0:
        raise ValueError(f"parts of {megabytes} MB: give a size > 0")
    paths = sorted(path for kind in _KINDS for path in store.rglob(kind))
    if not paths:
        raise ValueError(f"{store} holds no records and no checkpoints: run something first")
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for path in paths:
            archive.add(path, path.relative_to(store).as_posix(), filter=_timeless)
    content, size = whole.getvalue(), max(1, int(megabytes * 1e6))
    key, count = hashlib.sha256(content).hexdigest()[:16], -(-len(content) // size)
    parts = []
    for number in range(count):
        parts.append(folder / f"{key}-{number + 1}-of-{count}.part")
        write_atomically(parts[-1], content[number * size : (number + 1) * size])
    return parts


def unpack(folder: Path, store: Path) -> list[Path]:
    """Put what `pack` wrote into a store; return the files that are new there.

    A record that is there already stays, and so does a checkpoint that is as far or further.

    Raises:
        ValueError: if there are no parts, or some are missing; nothing is then changed.
        DamagedFileError: if the parts are not what was packed; nothing is then changed.
    """
    parcels: dict[str, dict[int, Path]] = {}
    counts: dict[str, int] = {}
    for path in sorted(folder.glob("*.part")):
        if (named := _PART.fullmatch(path.name)) is not None:
            key, number, count = named.groups()
            parcels.setdefault(key, {})[int(number)] = path
            counts[key] = int(count)
    if not parcels:
        raise ValueError(f"{folder} holds no parts: `hybrid checkpoint pack` writes them")
    contents = []
    for key, parts in parcels.items():
        missing = [n for n in range(1, counts[key] + 1) if n not in parts]
        if missing:
            names = ", ".join(f"{key}-{n}-of-{counts[key]}.part" for n in missing)
            raise ValueError(f"{folder} lacks {names}: bring all parts of a parcel")
        content = b"".join(parts[n].read_bytes() for n in sorted(parts))
        if hashlib.sha256(content).hexdigest()[:16] != key:
            raise DamagedFileError(f"the parts {key}-* in {folder} are damaged: bring them anew")
        contents.append(content)
    found: list[tuple[Path, bytes]] = []
    for content in contents:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive.getmembers():
                path, file = store / member.name, archive.extractfile(member)
                if file is None or not path.resolve().is_relative_to(store.resolve()):
                    raise DamagedFileError(f"{member.name} does not belong into a store")
                found.append((path, file.read()))
    new = []
    for path, content in found:
        if _wanted(content, path):
            write_atomically(path, content)
            new.append(path)
    return new


def _timeless(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return an entry without what may differ between equal stores."""
    entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
    return entry


def _wanted(content: bytes, path: Path) -> bool:
    """Return whether a file says more than what is at a path."""
    ending = ".checkpoint.safetensors"
    if not path.name.endswith(ending):
        return not path.exists()
    if path.with_name(path.name.removesuffix(ending) + ".json").exists():  # is finished
        return False
    return not path.exists() or _epochs(content) > _epochs(path.read_bytes())


def _epochs(content: bytes) -> int:
    """Return how many epochs a checkpoint has behind it, none if it is damaged."""
    try:
        return len(parsed_tensors(content, "checkpoint")[1]["epochs"])
    except DamagedFileError:
        return 0
