"""What deployment records say: accuracy on the chip beside floating point."""

from collections.abc import Iterator
from typing import get_args

import numpy as np
import pandas as pd

from hybrid.experiments.core.records import Row, by_label, samples, select
from hybrid.experiments.deployment.broken import AROUND, PLAIN
from hybrid.experiments.deployment.settings import Defect
from hybrid.report.estimate import Floats
from hybrid.runs.store import Json

# Conditions that are no faults of images, sizes of episodes, or tasks.
_OTHERS = ("bits", "histories", "narrower", "cpu", *get_args(Defect))
_COUNTS = ("images", "synapses that did not fit")  # beside accuracies of histories


def rows(record: Json) -> Iterator[Row]:
    """Yield a record's rows; the protocol is the form that was tested, "chip, frozen" for example.

    Accuracy under each fault, in episodes of each size, or on each task; by "bits" of a weight, as
    trained, after more epochs ("longer"), and after as many with rounded weights ("rounded"); of
    forms of the local module ("histories"); with "narrower" weights and sums; on chips with
    defects, by kind, as mapped or mapped around; and what one inference in floating point takes on
    the "cpu".
    """
    result = record["result"]
    levels = dict(result.get("levels", ()))
    for form, parts in result["accuracy"].items():
        for part, values in parts.items():
            shares = values if isinstance(values, list) else [values]
            for level, share in zip(levels.get(part, range(len(shares))), shares, strict=True):
                row = {"level": float(level), "accuracy": 100.0 * share}
                yield {"protocol": form, "condition": part, **row}
    for width, *shares in result.get("bits", ()):
        names = ("accuracy", "longer", "rounded")
        found = {n: 100.0 * share for n, share in zip(names, shares, strict=False)}
        yield {"condition": "bits", "level": float(width), **found}
    for kind in ("histories", "narrower"):
        for name, share in result.get(kind, {}).items():
            if name not in _COUNTS:
                yield {"protocol": name, "condition": kind, "accuracy": 100.0 * share}
    yield from _on_broken(result.get("defects", {}))
    for form, measured in result["cpu"].items():
        yield {"protocol": form, "condition": "cpu", **measured}


def _on_broken(found: Json) -> Iterator[Row]:
    """Yield rows of what `on_broken_chips` returns: protocol, kind and level."""
    for kind, kept in found.items():
        for protocol in (PLAIN, AROUND):
            for level, share in zip(kept["levels"], kept.get(protocol, ()), strict=False):
                if share is not None:
                    where = {"protocol": protocol, "condition": kind, "level": float(level)}
                    yield {**where, "accuracy": 100.0 * share}


def parts_in(frame: pd.DataFrame) -> list[str]:
    """Return what accuracies are of: faults, sizes of episodes, tasks."""
    return [str(name) for name in frame["condition"].unique() if name not in _OTHERS]


def forms_in(frame: pd.DataFrame) -> list[str]:
    """Return what was tested: in floating point and on the chip."""
    tested = frame[~frame["condition"].isin(_OTHERS)]
    return [str(name) for name in tested["protocol"].unique()]


def on_chip(form: str) -> str:
    """Return the form on the chip of a form in floating point, "float, frozen" for example."""
    return form.replace("float", "chip")


def histories(frame: pd.DataFrame) -> dict[str, Floats]:
    """Return accuracies [seeds] of forms of the local module; records keep them by alphabet."""
    first = ("float", "history", "rewritten", "no local current")

    def rank(name: str) -> tuple[int, str]:
        return (first.index(name) if name in first else len(first)), name

    found = select(frame, condition="histories")
    names = sorted(found["protocol"].unique(), key=rank)
    return {name: samples(found, protocol=name)[:, 0] for name in names}


def loss(frame: pd.DataFrame, form: str) -> Floats:
    """Return accuracy on the chip minus that in floating point, in points [seeds].

    Averaged over the levels of each fault and then over faults, or over episodes or tasks.

    Args:
        frame: of one label and method.
        form: in floating point.
    """
    chip, plain = (
        [samples(frame, protocol=own, condition=part).mean(1) for part in parts_in(frame)]
        for own in (on_chip(form), form)
    )
    return np.subtract(chip, plain).mean(axis=0)


def lost_on_broken(frame: pd.DataFrame, method: str, kind: str, level: float) -> Floats:
    """Return the points that a method's networks lose to a defect, as mapped [seeds].

    Args:
        frame: of one label.
        method: by name.
        kind, level: of the defect.
    """
    tried = select(frame, method=method, condition=kind, protocol=PLAIN)
    sound, hurt = (samples(tried, level=at)[:, 0] for at in (0.0, level))
    return sound - hurt


def claims(frame: pd.DataFrame) -> dict[str, Floats]:
    """Return one value per seed for each claim of `data/paper.toml`."""
    found: dict[str, Floats] = {}
    for label, methods, own in by_label(frame):
        for method in methods:
            tested = select(own, method=method)
            for form in forms_in(tested):
                where, _, name = form.partition(", ")
                if where == "float" and on_chip(form) in forms_in(tested):
                    key = f"{label}/{method}/{name}" if name else f"{label}/{method}"
                    found[key] = loss(tested, form)
    return found
