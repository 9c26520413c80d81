"""Where files come from: a data directory, a registry of checksums, and mirrors.

`HYBRID_DATA` names the data directory (default: the user's cache). A file that is there and has
a registered checksum is used as it is, without a network; a missing one is fetched from the first
mirror that gives it, see `download`; a damaged one is never used.
"""

import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pooch
import requests

from hybrid.data.download import WrongContentError, download

SETTING = "HYBRID_DATA"


@dataclass(frozen=True)
class Source:
    """One registered file."""

    name: str  # path below the data directory
    digests: tuple[str, ...]  # "algorithm:hex" of the published file, then of equal repackings
    urls: tuple[str, ...]

    def owns_file(self, path: Path) -> bool:
        """Return whether a file is the published one or an equal one."""
        for digest in self.digests:
            algorithm, _, expected = digest.partition(":")
            with path.open("rb") as file:
                if hashlib.file_digest(file, algorithm).hexdigest() == expected:
                    return True
        return False


class MissingDataError(FileNotFoundError):
    """A data file is neither there nor to be had; the message names it and the remedy."""


class DamagedDataError(ValueError):
    """A data file is there but is not what it should be; the message names it and the remedy."""


def data_directory() -> Path:
    """Return the data directory: `HYBRID_DATA`, else the user's cache folder."""
    setting = os.environ.get(SETTING)
    return Path(setting).expanduser() if setting else Path(pooch.os_cache("hybrid"))


@cache
def registry() -> dict[str, Source]:
    """Return all registered files by name, from `data/registry.txt`."""
    here = Path(__file__).resolve()
    candidates = (here.parents[2] / "data" / "registry.txt", here.parent / "registry.txt")
    text = next(path for path in candidates if path.exists()).read_text(encoding="utf-8")
    entries = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return {
        name: Source(name, tuple(digests.split(",")), tuple(urls))
        for name, digests, *urls in entries
    }


def fetch(name: str) -> Path:
    """Return the path of a registered file, fetching it first if it is not there.

    Raises:
        KeyError: if `name` is not registered.
        DamagedDataError: if the file is there but its checksum does not match.
        MissingDataError: if it is not there and no mirror gave it.
    """
    source = registry()[name]
    path = data_directory() / name
    if path.exists():
        if not source.owns_file(path):
            found = hashlib.sha256(path.read_bytes()).hexdigest()
            expected = " or ".join(digest[:19] + "…" for digest in source.digests)
            raise DamagedDataError(
                f"{path} is damaged: its checksum is sha256:{found[:12]}…, it should be "
                f"{expected}. Delete the file and run again to fetch it anew."
            )
        return path
    return _download(source, path)


def _download(source: Source, path: Path) -> Path:
    failures = []
    for url in source.urls:
        try:
            download(url, path, source.owns_file)
        except (requests.RequestException, WrongContentError) as error:
            failures.append(f"  {url}: {_why(error)}")
        else:
            return path
    by_hand = f"put the file there by hand, or set {SETTING} to a folder that has it."
    if not source.urls:
        raise MissingDataError(
            f"{source.name} is not in {data_directory()}, and no public mirror is known: {by_hand}"
        )
    tried = "\n".join(failures)
    raise MissingDataError(
        f"{source.name} is not in {data_directory()} and could not be fetched:\n{tried}\n"
        "Connect to the network and run again: what has arrived is kept, and the rest is fetched. "
        f"Offline, {by_hand}"
    )


def _why(error: Exception) -> str:
    """Return in a few words what went wrong with a mirror."""
    if isinstance(error, WrongContentError):
        return "it gave something else than what is registered"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    return type(error).__name__
