"""Where our constants are not the authors', of all networks for which they have a script."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from hybrid.described import as_json
from hybrid.experiments.classification import plans as classification
from hybrid.experiments.continual import plans as continual
from hybrid.experiments.core.experiment import Profile
from hybrid.experiments.core.settings import Settings
from hybrid.experiments.fault_tolerance import plans as fault_tolerance
from hybrid.experiments.few_shot import plans as few_shot
from hybrid.experiments.registry import EXPERIMENTS


class Departure(NamedTuple):
    """One constant."""

    experiment: str
    profile: Profile
    label: str
    name: str  # of the constant, with dots into objects
    ours: Any
    authors: Any


_CLASSIFICATION = {s.label: s for g in classification.PLANS["paper"] for s in g.settings}
# Settings of ours, and those that have the constants of the authors' scripts.
_PAIRS: tuple[tuple[str, Profile, str, Settings], ...] = (
    ("classification", "laptop", "mnist-reduced", _CLASSIFICATION["mnist-convolutional"]),
    (
        "classification",
        "laptop",
        "fashion_mnist-reduced",
        _CLASSIFICATION["fashion_mnist-convolutional"],
    ),
    ("fault_tolerance", "laptop", "fashion_mnist", fault_tolerance.SIMPLE_EXAMPLE),
    (
        "fault_tolerance",
        "laptop",
        "mnist",
        replace(fault_tolerance.AUTHORS, label="mnist", dataset="mnist"),
    ),
    ("fault_tolerance", "paper", "fashion_mnist", fault_tolerance.AUTHORS),
    ("few_shot", "laptop", "omniglot", few_shot.AUTHORS),
    ("continual", "laptop", "mnist", continual.AUTHORS),
)


def departures() -> list[Departure]:
    """Return all constants in which settings with a script of the authors differ from it."""
    found = []
    for experiment, profile, label, authors in _PAIRS:
        plan = EXPERIMENTS[experiment].plans[profile]
        own = next(s for group in plan for s in group.settings if s.label == label)
        theirs = dict(_constants(as_json(authors)))
        ours = dict(_constants(as_json(own)))
        for name in sorted({*ours, *theirs} - {"label", "dataset"}):
            if ours.get(name) != theirs.get(name):
                found.append(
                    Departure(experiment, profile, label, name, ours.get(name), theirs.get(name))
                )
    return found


def _constants(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the constants of settings with their names; lists are one constant each."""
    if not isinstance(value, dict):
        yield name, value
        return
    for key, part in value.items():
        if key == "kind":
            yield (name or "kind"), part
        else:
            yield from _constants(part, f"{name}.{key}" if name else key)


def as_markdown(found: list[Departure]) -> str:
    """Format departures as a table."""
    head = ("experiment", "profile", "settings", "constant", "ours", "authors'")
    rows = [(*d[:4], _short(d.ours), _short(d.authors)) for d in found]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))


def _short(value: Any) -> str:
    """Return a constant in few characters."""
    if value is None or value == []:
        return "none"
    if not isinstance(value, list):
        return str(value)
    if isinstance(value[0], dict):  # layers: what is on
        parts = [{k: v for k, v in entry.items() if k != "kind" and v} for entry in value]
        return "; ".join(" ".join(f"{k} {v}" for k, v in part.items()) for part in parts)
    if isinstance(value[0], list) and isinstance(value[0][1], list):  # faults and their levels
        return "; ".join(f"{name} {a[0]:g} to {a[-1]:g} ({len(a)} levels)" for name, a in value)
    return ", ".join(map(str, value))
