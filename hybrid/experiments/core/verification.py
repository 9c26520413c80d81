"""Records computed again, and compared to the last bit."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from hybrid.experiments.core.experiment import Experiment
from hybrid.experiments.core.trials import Trial, run_all
from hybrid.runs.instructions import FIXED
from hybrid.runs.store import Json, read_record
from hybrid.version import __version__


def verify(
    paths: Sequence[Path], experiments: dict[str, Experiment[Any, Any]], jobs: int = 1
) -> Iterator[tuple[Path, str | None]]:
    """Compute records again; yield each path, and None or what is different.

    Args:
        paths: of records.
        experiments: by name.
        jobs: processes.

    Raises:
        DamagedFileError: if a record is damaged.
        FileNotFoundError: if there is none.
        ValueError: if no plan asks for what was recorded, or it was of other data.
    """
    records = [read_record(path) for path in paths]
    trials = [
        planned(record, experiments, path) for path, record in zip(paths, records, strict=True)
    ]
    for path, record, trial in zip(paths, records, trials, strict=True):
        if record["request"]["data"] != trial.request()["data"]:
            raise ValueError(f"{path} was computed from other data: fetch those, or remove it")
    again = run_all(
        trials, store=None, jobs=jobs, device=torch.device("cpu"), title="computing again"
    )
    for path, record, other in zip(paths, records, again, strict=True):
        found = difference(record["result"], other["result"])
        known = record["about"].get("instructions")
        if found is not None and known != FIXED:
            found += "; it was computed with instructions of its own, which need not repeat"
        yield path, found


def planned(
    record: Json, experiments: dict[str, Experiment[Any, Any]], path: Path
) -> Trial[Any, Any]:
    """Return the trial of a plan that a record is of.

    Raises:
        ValueError: if there is none.
    """
    request = record["request"]
    asked = {part: request.get(part) for part in ("settings", "method", "seed")}
    experiment = experiments.get(request["experiment"])
    if experiment is not None and request["version"] == __version__:
        for group in (group for plan in experiment.plans.values() for group in plan):
            for settings in group.settings:
                for name in group.methods:
                    trial = Trial(experiment, settings, experiment.method(name), request["seed"])
                    if trial.identity() == asked:
                        return trial
    raise ValueError(
        f"{path} was asked for with constants that no plan has, by another state of the code: "
        f"{request['label']} of version {request['version']}"
    )


def difference(one: Any, other: Any, place: str = "result") -> str | None:
    """Return where two results first differ, and in what, or None if they are the same."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        pairs = [(f"{place}.{key}", one[key], other[key]) for key in one]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [(f"{place}[{i}]", a, b) for i, (a, b) in enumerate(zip(one, other, strict=True))]
    elif one == other and type(one) is type(other):
        return None
    else:
        return f"{place} is {other!r}, was {one!r}"[:300]
    return next((found for p, a, b in pairs if (found := difference(a, b, p)) is not None), None)
