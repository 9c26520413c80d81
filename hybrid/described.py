"""Objects as JSON and back: constants of the model and of trials, each with its kind."""

import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import Field, fields, is_dataclass
from functools import cache
from typing import Any

from torch import Tensor

# What makes the objects of a description, by the name of their kind.
Kinds = Mapping[str, Callable[..., Any]]

# Of a field that came later: at its default, it leaves descriptions as they were before.
LATER = {"later": True}


def _described(owner: Any, own: Field[Any]) -> bool:
    """Return whether a field belongs to the description of its owner."""
    return own.init and not ("later" in own.metadata and getattr(owner, own.name) == own.default)


def as_json(value: Any, kinds: Kinds | None = None) -> Any:
    """Return an object as JSON values: it keeps its kind beside its fields, tuples are lists.

    What is not a field of its constructor is left out, and so is a default that is `LATER`. Of a
    module that knows what it was `built_with`, this is what is described.

    Classes that are not the package's are described with a hash of their code, for records that
    nobody reads back: another rule of the same name is another rule.

    Args:
        value: numbers, names, tensors, data classes, named tuples, modules, and lists of them.
        kinds: classes that may be met; None for any, which nobody reads back.

    Raises:
        ValueError: if `kinds` lacks an object's class, or its code cannot be found.
    """
    if isinstance(value, Tensor):
        parts = {"data": value.tolist()}
    elif hasattr(value, "built_with"):
        parts = value.built_with
    elif is_dataclass(value):
        parts = {f.name: getattr(value, f.name) for f in fields(value) if _described(value, f)}
    elif isinstance(value, tuple) and hasattr(value, "_asdict"):
        parts = value._asdict()
    elif isinstance(value, list | tuple):
        return [as_json(entry, kinds) for entry in value]
    elif kinds is None or value is None or isinstance(value, bool | int | float | str):
        return value
    else:
        raise ValueError(
            f"{value!r} cannot be written down: give a plain number or name, or an object of a "
            "frozen dataclass"
        )
    kind = type(value)
    if kinds is not None and kinds.get(kind.__name__) is not kind and not isinstance(value, Tensor):
        raise ValueError(
            f"{kind.__name__} is a class that this package lacks: say kinds=[{kind.__name__}], now "
            "and when the file is loaded"
        )
    described = {name: as_json(part, kinds) for name, part in parts.items()}
    own = {} if kinds is not None or isinstance(value, Tensor) else _code(kind)  # type: ignore[arg-type]
    return {"kind": kind.__name__, **own, **described}


_PACKAGE = __name__.partition(".")[0]


@cache
def _code(kind: Any) -> dict[str, str]:
    """Return a hash of what somebody's own class does, its parents in the package apart.

    Raises:
        ValueError: if its code cannot be found.
    """
    theirs = sys.stdlib_module_names | {_PACKAGE, "torch"}
    others = [own for own in kind.__mro__ if own.__module__.partition(".")[0] not in theirs]
    try:
        text = "\n".join(inspect.getsource(own) for own in others)
    except (OSError, TypeError) as error:
        raise ValueError(
            f"the code of {kind.__name__} cannot be found, and records must know it: define the "
            "class in a file or a notebook"
        ) from error
    return {"code": hashlib.sha256(text.encode()).hexdigest()[:16]} if others else {}


def from_json(value: Any, kinds: Kinds) -> Any:
    """Return what `as_json` took apart.

    Args:
        value: JSON values.
        kinds: classes of the objects by name.

    Raises:
        ValueError: if an object is of an unknown kind, or has other fields.
    """
    if isinstance(value, list):
        return tuple(from_json(entry, kinds) for entry in value)
    if not isinstance(value, dict):
        return value
    rest = {name: from_json(entry, kinds) for name, entry in value.items() if name != "kind"}
    kind: Any = value.get("kind")
    if kind not in kinds:
        raise ValueError(f"settings of kind {kind!r} are unknown: other code has made them")
    try:
        return kinds[kind](**rest)
    except TypeError as error:
        raise ValueError(f"{kind} has other fields in this state of the code: {error}") from error
