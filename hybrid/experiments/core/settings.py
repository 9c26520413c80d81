"""Settings: frozen constants of a trial that hold the model's own objects."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass, replace
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
