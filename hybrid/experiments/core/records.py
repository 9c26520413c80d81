"""Records of one profile, and what they say as one tidy frame."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hybrid.checks import choose
from hybrid.experiments.core.settings import SettingsT
from hybrid.experiments.core.trials import MethodT
from hybrid.learning.evaluation import unpacked
from hybrid.report.estimate import Estimate, Floats
from hybrid.report.figures import picture, provenance, save
from hybrid.report.scoreboard import load_claims
from hybrid.runs.store import Json

if TYPE_CHECKING:
    from hybrid.experiments.core.experiment import Experiment

Row = dict[str, Any]
# How to draw a figure, and the labels whose records it shows; by the names of their files.
Drawn = dict[str, tuple[Callable[[], Figure], Sequence[str]]]


@dataclass(frozen=True)
class Records(Generic[SettingsT, MethodT]):
    """All finished trials of a plan, in its order."""

    experiment: "Experiment[SettingsT, MethodT]"
    planned: Mapping[str, SettingsT]  # by label, finished or not
    records: tuple[Json, ...]
    profile: str = ""

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Labels of settings with finished trials, in the order of the plan."""
        present = {label_of(record) for record in self.records}
        return tuple(label for label in self.planned if label in present)

    def methods(self, label: str) -> tuple[str, ...]:
        """Return the methods that finished at least one trial."""
        names = (r["request"]["method"]["name"] for r in self.records if label_of(r) == label)
        return tuple(dict.fromkeys(names))

    def of(self, label: str, method: str | None = None) -> list[Json]:
        """Return the records of some settings, and of a method if one is named, by seed.

        Raises:
            KeyError: if there are none.
        """
        found = [
            record
            for record in self.records
            if label_of(record) == label and method in (None, record["request"]["method"]["name"])
        ]
        if not found:
            raise KeyError(f"no finished trial of {method or 'any method'} on {label}")
        return sorted(found, key=lambda record: record["request"]["seed"])

    def results(self, label: str, method: str) -> list[Json]:
        """Return what trials came to, by seed."""
        return [record["result"] for record in self.of(label, method)]

    def seeds(self, label: str, method: str) -> tuple[int, ...]:
        """Return the seeds of the finished trials."""
        return tuple(record["request"]["seed"] for record in self.of(label, method))

    def minutes(self, label: str, method: str) -> float:
        """Return how long a trial ran, the mean."""
        return float(np.mean([r["about"]["seconds"] / 60 for r in self.of(label, method)]))

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row for each trial, protocol, condition and level.

        Columns: label, method, seed, protocol ("" where nothing is tested), usual (whether the
        protocol is the authors': "batch" where there are traces), condition, level, accuracy in
        per cent, and what else the experiment knows of a row.
        """
        rows = [
            {
                "label": label_of(record),
                "method": record["request"]["method"]["name"],
                "seed": record["request"]["seed"],
                "protocol": "",
                "usual": True,
                "level": 0.0,
                **row,
            }
            for record in self.records
            for row in self.experiment.rows(record)
        ]
        return pd.DataFrame(rows)

    def table(self) -> str:
        """Return the accuracy of each method, protocol, condition and level, over seeds."""
        tested = self.frame[self.frame["protocol"] != ""]
        if tested.empty or "accuracy" not in tested:
            return "no accuracies in these records"
        by = ["label", "method", "protocol", "condition", "level"]
        means = tested.groupby(by, sort=False)["accuracy"].agg(
            lambda values: str(Estimate.of(values.to_numpy()))
        )
        return means.reset_index().to_string(index=False)

    def figures(
        self, folder: str | Path, seed: int = 0, *, only: str | Sequence[str] | None = None
    ) -> list[Path]:
        """Draw and save figures; return the paths of the pictures.

        Args:
            folder: for the figures.
            seed: of what is random in examples.
            only: names of figures; None for all.

        Raises:
            ValueError: if these records have no figure of such a name.
        """
        if isinstance(only, str):
            only = [only]
        drawn = self.experiment.draw(self, seed)
        names = list(drawn) if only is None else [choose("figure", name, drawn) for name in only]
        return [
            save(drawn[name][0](), name, Path(folder), self.provenance(drawn[name][1]))[0]
            for name in names
        ]

    def show(
        self, folder: str | Path, seed: int = 0, *, only: str | Sequence[str] | None = None
    ) -> None:
        """Draw and save figures, and show them in a notebook; arguments as of `figures`."""
        from IPython.display import display  # part of Jupyter, which only notebooks need

        for path in self.figures(folder, seed, only=only):
            display(picture(path))

    def claims(self) -> dict[str, Floats]:
        """Return values for each claim of `data/paper.toml` that is spoken to.

        One per seed [seeds], or for each of its test samples [seeds, samples].
        """
        if not self.records:
            return {}
        own = f"{self.experiment.name}/"
        ids = [c.id.removeprefix(own) for c in load_claims() if c.id.startswith(own)]
        measured = {**self.experiment.claims(self.frame), **compared(self.frame, ids)}
        return {f"{own}{name}": values for name, values in measured.items()}

    def provenance(self, labels: Sequence[str]) -> Json:
        """Return where a figure of the records of some labels comes from."""
        records = [record for record in self.records if label_of(record) in labels]
        settings = {label_of(record): record["request"]["settings"] for record in records}
        seeds = [record["request"]["seed"] for record in records]
        return provenance(
            list(settings.values()), profile=self.profile, records=records, seeds=seeds
        )


def label_of(record: Json) -> str:
    """Return the label of a record's settings."""
    return str(record["request"]["settings"]["label"])


def select(frame: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """Return the rows whose columns have the values wanted."""
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    return frame


def table(frame: pd.DataFrame, value: str = "accuracy", **wanted: Any) -> pd.DataFrame:
    """Return values by seed (rows, in order) and level (columns, as they come).

    Raises:
        KeyError: if no row has the values wanted.
    """
    found = select(frame, **wanted)
    if found.empty:
        raise KeyError(f"no record says anything of {wanted}")
    levels = found["level"].drop_duplicates()
    return found.pivot(index="seed", columns="level", values=value)[levels]


def samples(frame: pd.DataFrame, value: str = "accuracy", **wanted: Any) -> Floats:
    """Return values [seeds, levels]; see `table`."""
    return table(frame, value, **wanted).to_numpy(dtype=float)


def levels(frame: pd.DataFrame, **wanted: Any) -> Floats:
    """Return the levels [levels] of the rows wanted, as they come."""
    return select(frame, **wanted)["level"].drop_duplicates().to_numpy(dtype=float)


def gap(
    frame: pd.DataFrame, first: str, second: str, value: str = "accuracy", **wanted: Any
) -> Floats:
    """Return values of one method minus another's [seeds of both, levels].

    Or [seeds, levels, samples], of a column that knows each sample (`finest`).

    Methods are compared within a seed: they share the order of images, the noise, the validation
    split and the initial weights. A name may end in a protocol, or in a correction: "HP + stream";
    without, each is tested under its usual one.
    """
    known = set(frame["method"])

    def values(name: str) -> pd.DataFrame:
        method, _, protocol = (name, "", "") if name in known else name.rpartition(" + ")
        how = {"protocol": protocol} if protocol else {"usual": True}
        return table(frame, value, **{"method": method, **how, **wanted})

    one, other = values(first), values(second)
    difference = one - other[one.columns]
    return _floats(difference.loc[one.index.intersection(other.index)])


def _floats(table: pd.DataFrame) -> Floats:
    """Return values [seeds, levels], or [seeds, levels, samples] where an entry has many."""
    if table.empty:
        return np.empty(table.shape)
    return np.array(table.to_numpy().tolist(), dtype=float)


def finest(frame: pd.DataFrame) -> str:
    """Return the column of accuracies by sample, where records know them, else of means."""
    return "each" if "each" in frame and frame["each"].notna().any() else "accuracy"


def compared(frame: pd.DataFrame, ids: Iterable[str]) -> dict[str, Floats]:
    """Return values for claims "label/condition/A - B": A minus B, by their ids.

    Values are [seeds], or [seeds, samples] where records know each sample.

    A condition is a column's value, with a level ("gaussian=0.06"), with two between which levels
    are averaged ("crop=4..9"), or without: the mean over all levels but 0. A and B are as in `gap`.
    What no record speaks to is left out.
    """
    found = {}
    for name in ids:
        if name.count(" - ") != 1 or name.count("/") != 2:
            continue
        label, asked, methods = name.split("/")
        condition, _, strength = asked.partition("=")
        own = select(frame, label=label, condition=condition)
        if strength:
            low, high = (float(end) for end in (strength.split("..") * 2)[:2])
            own = own[own["level"].between(low, high)]
        else:
            own = own[own["level"] > 0.0]
        with suppress(KeyError):
            first, second = methods.split(" - ")
            found[name] = gap(own, first, second, finest(own)).mean(1)
    return found


def shared_seeds(frame: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Return the rows of those seeds that all of these methods have finished, and of them alone."""
    frame = frame[frame["method"].isin(methods)]
    seeds = [set(select(frame, method=name)["seed"]) for name in methods]
    return frame[frame["seed"].isin(set.intersection(*seeds))]


def by_label(frame: pd.DataFrame) -> Iterator[tuple[str, tuple[str, ...], pd.DataFrame]]:
    """Yield each label, its methods and its rows."""
    for label, own in frame.groupby("label", sort=False):
        yield str(label), tuple(own["method"].unique()), own


def _right(test: Mapping[str, Any]) -> tuple[Sequence[float], int]:
    """Return right answers at each level, and of how many."""
    if "confusion" not in test:
        return test["right"], test["of"]
    counts = np.array(test["confusion"])
    silent = test.get("silent", [0])[0]
    return np.trace(counts, axis1=1, axis2=2), int(counts[0].sum()) + silent


def tested_rows(tests: Mapping[str, Any], faults: Mapping[str, Sequence[float]]) -> Iterator[Row]:
    """Yield what tests under faults say: accuracy and firing rates, per protocol, fault and level.

    Args:
        tests: of a result, by protocol and fault: confusion counts, or right answers and how many
            were asked for, at each level; perhaps which.
        faults: levels of each fault.
    """
    for protocol, by_fault in tests.items():
        for fault, levels in faults.items():
            test = by_fault[fault]
            right, asked = _right(test)
            silent = test.get("silent", [0] * len(right))
            each = test.get("each")
            for number, level in enumerate(levels):
                rates = test["rates"][number] if "rates" in test else ()
                yield {
                    "protocol": protocol,
                    "usual": protocol == usual(tests),
                    "condition": fault,
                    "level": level,
                    "accuracy": 100.0 * right[number] / asked,
                    "silent": 100.0 * silent[number] / asked,
                    **{f"rate {layer}": rate for layer, rate in enumerate(rates)},
                    **({"each": 100.0 * unpacked(each[number], asked)} if each else {}),
                }


def learning_rows(result: Json) -> Iterator[Row]:
    """Yield the validation accuracy after each epoch of a result."""
    for number, log in enumerate(result["epochs"], start=1):
        accuracy = 100.0 * log["validation"]
        yield {"condition": "learning", "level": float(number), "accuracy": accuracy}


def usual(tests: Mapping[str, Any]) -> str:
    """Return the authors' protocol where a method was tested under it, else its own."""
    known = [name for name in ("batch", "frozen", "sample") if name in tests]
    return known[0] if known else next(iter(tests))
