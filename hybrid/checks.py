"""Checks of constants: one way to refuse a value that makes no sense."""

import math
from collections.abc import Iterable
from typing import Any, get_args

from torch import Tensor


def require(owner: object, field: str, ok: bool, allowed: str) -> None:
    """Raise ValueError, naming field, value and what is allowed, unless `ok`."""
    if not ok:
        name = type(owner).__name__
        raise ValueError(f"{name}.{field} = {getattr(owner, field)!r}: it must be {allowed}")


def between(value: "float | Tensor", low: float, high: float = math.inf) -> bool:
    """Return whether a number, or each entry of a tensor, lies in [low, high]; NaN does not."""
    if isinstance(value, Tensor):
        return bool(((value >= low) & (value <= high)).all())
    return low <= value <= high


def positive(value: "float | Tensor") -> bool:
    """Return whether a number, or each entry of a tensor, is > 0 and finite."""
    if isinstance(value, Tensor):
        return bool(((value > 0.0) & value.isfinite()).all())
    return 0.0 < value < math.inf


def one_of(owner: object, field: str, known: Any) -> None:
    """Raise ValueError, as `require` does, unless a field is among some names or a Literal's."""
    names = get_args(known) or tuple(known)
    require(owner, field, getattr(owner, field) in names, f"one of {', '.join(names)}")


def choose(what: str, name: str, known: Iterable[str]) -> str:
    """Return `name` if it is known; ValueError names what there is."""
    known = tuple(known)
    if name not in known:
        raise ValueError(f"{what} {name!r} is unknown: choose one of {', '.join(known)}")
    return name
