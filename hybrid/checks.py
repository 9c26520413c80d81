"""Checks of constants: one way to refuse a value that makes no sense."""

from collections.abc import Iterable


def require(owner: object, field: str, ok: bool, allowed: str) -> None:
    """Raise ValueError, naming field, value and what is allowed, unless `ok`."""
    if not ok:
        name = type(owner).__name__
        raise ValueError(f"{name}.{field} = {getattr(owner, field)!r}: it must be {allowed}")


def choose(what: str, name: str, known: Iterable[str]) -> str:
    """Return `name` if it is known; ValueError names what there is."""
    known = tuple(known)
    if name not in known:
        raise ValueError(f"{what} {name!r} is unknown: choose one of {', '.join(known)}")
    return name
