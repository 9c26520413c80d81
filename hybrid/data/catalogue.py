"""Data sets by name: which files they consist of, and whether these are here and whole."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from hybrid.data.download import part_of
from hybrid.data.sources import data_directory, fetch, registry

State = Literal["here", "damaged", "partial", "missing", "missing, no mirror"]


class Entry(NamedTuple):
    """One file of a data set."""

    name: str  # path below the data directory
    state: State
    size: int  # bytes on disk


def data_sets() -> dict[str, tuple[str, ...]]:
    """Return the registered files of each data set, by the set's folder."""
    found: dict[str, list[str]] = {}
    for name in registry():
        found.setdefault(name.split("/")[0], []).append(name)
    return {name: tuple(files) for name, files in found.items()}


def choose(names: list[str] | None) -> tuple[str, ...]:
    """Return the files of some data sets, or of all.

    Raises:
        ValueError: if a data set is unknown.
    """
    known = data_sets()
    for name in names or ():
        if name not in known:
            raise ValueError(f"data set {name!r} is unknown: choose among {', '.join(known)}")
    return tuple(file for name in names or known for file in known[name])


def entries(names: list[str] | None, *, verify: bool) -> Iterator[Entry]:
    """Yield the state of each file of some data sets, or of all.

    Args:
        names: of data sets; None for all.
        verify: whether checksums are computed: without it, a file that is there is "here".
    """
    for name in choose(names):
        path, source = data_directory() / name, registry()[name]
        state: State = "missing" if source.urls else "missing, no mirror"
        size = 0
        if path.exists():
            size = path.stat().st_size
            state = "damaged" if verify and not source.owns_file(path) else "here"
        elif part_of(path).exists():
            state, size = "partial", part_of(path).stat().st_size
        yield Entry(name, state, size)


def fetch_all(names: list[str] | None) -> Iterator[tuple[str, Exception | None]]:
    """Fetch what is missing, one file after the other; yield each with what went wrong, or None.

    Without names, files that no mirror has are left out: nothing can be done about them.
    """
    for name in choose(names):
        if names is None and not registry()[name].urls and not (data_directory() / name).exists():
            continue
        try:
            fetch(name)
        except (OSError, ValueError) as error:
            yield name, error
        else:
            yield name, None
