"""Settings: frozen constants of a trial that hold the model's own objects, as JSON and back."""

from collections.abc import Callable, Iterable
from dataclasses import Field, dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

from hybrid.checks import require
from hybrid.learning.schedule import Schedule

Levels = tuple[tuple[str, tuple[float, ...]], ...]  # of each fault, by its name


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the settings of every experiment have. Raises ValueError, naming a bad field."""

    label: str  # names them in records, tables and figures
    dataset: str
    validation: int  # training data held out to watch learning
    schedule: Schedule

    def __post_init__(self) -> None:
        require(self, "label", bool(self.label) and "/" not in self.label, "a name without /")
        require(self, "validation", self.validation >= 1, ">= 1")


# Of a field that came later: at its default, it leaves descriptions as they were before.
LATER = {"later": True}


def _described(owner: Any, own: Field[Any]) -> bool:
    """Return whether a field belongs to the description of its owner."""
    return own.init and not ("later" in own.metadata and getattr(owner, own.name) == own.default)


SettingsT = TypeVar("SettingsT", bound=Settings)


def check_faults(
    owner: object, faults: Levels, known: Iterable[str], check: Callable[[str, float], None]
) -> None:
    """Refuse faults of a settings' field `faults` that are unknown, named twice or without levels.

    Args:
        owner: the settings.
        faults: of them.
        known: names that there are.
        check: raises ValueError for a level that makes no sense.
    """
    known, names = tuple(known), [name for name, _ in faults]
    require(owner, "faults", bool(names), "at least one fault")
    allowed = f"pairs of ({', '.join(known)}) and levels"
    require(owner, "faults", set(names) <= set(known), allowed)
    require(owner, "faults", len(set(names)) == len(names), "of different names")
    for name, levels in faults:
        once = bool(levels) and len(set(levels)) == len(levels)
        require(owner, "faults", once, f"with levels of {name}, each once")
        for level in levels:
            check(name, level)


def as_json(value: Any) -> Any:
    """Return settings as JSON values: an object keeps its kind beside its fields, tuples are lists.

    What is not a field of its constructor is left out, and so is a default that is `LATER`.
    """
    if is_dataclass(value):
        known = [f.name for f in fields(value) if _described(value, f)]
        own = {name: as_json(getattr(value, name)) for name in known}
        return {"kind": type(value).__name__, **own}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {"kind": type(value).__name__, **{k: as_json(v) for k, v in value._asdict().items()}}
    if isinstance(value, tuple):
        return [as_json(entry) for entry in value]
    return value


def from_json(value: Any, kinds: dict[str, type]) -> Any:
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
    kind = value.get("kind")
    if kind not in kinds:
        raise ValueError(f"settings of kind {kind!r} are unknown: other code has made them")
    try:
        return kinds[kind](**rest)
    except TypeError as error:
        raise ValueError(f"{kind} has other fields in this state of the code: {error}") from error


def vary(settings: SettingsT, name: str, *values: Any) -> tuple[SettingsT, ...]:
    """Return settings with other values of one constant, each labelled by its value.

    Args:
        settings: where the sweep starts.
        name: of the constant, with dots into objects: "neuron.v_th" for example.
        values: one for each of the settings that are returned.

    Raises:
        ValueError: if there is no such constant, or a value makes no sense.
    """
    return tuple(
        replace(
            _changed(settings, name.split("."), value), label=f"{settings.label}-{name}={value}"
        )
        for value in values
    )


def _changed(owner: Any, path: list[str], value: Any) -> Any:
    known = [f.name for f in fields(owner)] if is_dataclass(owner) else []
    if path[0] not in known:
        kind = type(owner).__name__
        raise ValueError(f"{kind} has no constant {path[0]!r}: choose one of {', '.join(known)}")
    own = value if len(path) == 1 else _changed(getattr(owner, path[0]), path[1:], value)
    return replace(owner, **{path[0]: own})
