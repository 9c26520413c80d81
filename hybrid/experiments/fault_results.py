"""Reading fault-tolerance records: arrays with named axes, and what the claims are about."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hybrid.experiments.base import Method
from hybrid.learning.evaluation import Protocol
from hybrid.runs.store import Json


@dataclass(frozen=True)
class Result:
    """All finished trials of one config, with named axes."""

    config: Json
    records: tuple[Json, ...]
    methods: tuple[str, ...]  # those with at least one finished trial, in the order of the plan

    @property
    def dataset(self) -> str:
        return str(self.config["dataset"])

    def seeds(self, method: str) -> tuple[int, ...]:
        """Return the seeds that finished, in order."""
        return tuple(sorted(record["request"]["seed"] for record in self._of(method)))

    def protocols(self, method: str) -> tuple[Protocol, ...]:
        """Return the protocols that `method` was tested under."""
        return tuple(self._of(method)[0]["result"]["tests"])

    def levels(self, fault: str) -> NDArray[np.float64]:
        """Return the levels of a fault [levels]."""
        return np.array(dict(self.config["faults"])[fault])

    def confusion(self, method: str, protocol: str, fault: str) -> NDArray[np.int64]:
        """Return counts [seeds, levels, true class, predicted class]."""
        return np.array([t[fault]["confusion"] for t in self._tests(method, protocol)])

    def accuracy(self, method: str, protocol: str, fault: str) -> NDArray[np.float64]:
        """Return accuracies in per cent [seeds, levels]."""
        counts = self.confusion(method, protocol, fault)
        correct = np.trace(counts, axis1=-2, axis2=-1)
        return np.asarray(100.0 * correct / counts.sum(axis=(-2, -1)))

    def gap(self, fault: str) -> NDArray[np.float64]:
        """Return HP minus GP in points [seeds, levels], paired by seed, authors' protocol."""
        both = self.paired(("HP", "GP"))
        return both.accuracy("HP", "batch", fault) - both.accuracy("GP", "frozen", fault)

    def rates(self, method: str, protocol: str, fault: str) -> NDArray[np.float64]:
        """Return firing rates in spikes per neuron and step [seeds, levels, layers]."""
        return np.array([t[fault]["rates"] for t in self._tests(method, protocol)])

    def learning(self, method: str) -> NDArray[np.float64]:
        """Return validation accuracies in per cent [seeds, epochs]."""
        epochs = [record["result"]["epochs"] for record in self._of(method)]
        return np.array([[100.0 * log["validation"] for log in logs] for logs in epochs])

    def meta(self, method: str) -> list[dict[str, float]]:
        """Return, per seed, the learned local gain of each layer and means of the other θ."""
        return [record["result"]["meta"] for record in self._of(method)]

    def comparable(self) -> bool:
        """Return whether LP, GP and HP have finished a seed in common."""
        return {"LP", "GP", "HP"} <= set(self.methods) and bool(
            self.paired(("LP", "GP", "HP")).records
        )

    def paired(self, methods: Sequence[str]) -> "Result":
        """Return the trials of those seeds that all `methods` finished."""
        common = set.intersection(*(set(self.seeds(method)) for method in methods))
        kept = tuple(
            r
            for r in self.records
            if r["request"]["seed"] in common and r["request"]["method"]["name"] in methods
        )
        return Result(self.config, kept, tuple(methods))

    def _of(self, method: str) -> list[Json]:
        found = [r for r in self.records if r["request"]["method"]["name"] == method]
        if not found:
            raise KeyError(f"no finished trial of {method} on {self.dataset}")
        return sorted(found, key=lambda record: record["request"]["seed"])

    def _tests(self, method: str, protocol: str) -> list[Json]:
        return [record["result"]["tests"][protocol] for record in self._of(method)]


def collect(config: Json, records: Sequence[Json], methods: Sequence[Method]) -> Result:
    """Return the result made of those `records` that have this config and these methods.

    Raises:
        ValueError: if two records are of the same method and seed, or of different data.
    """
    wanted = [method.request() for method in methods]
    own = tuple(
        r for r in records if r["request"]["config"] == config and r["request"]["method"] in wanted
    )
    trials = [(r["request"]["method"]["name"], r["request"]["seed"]) for r in own]
    twice = {trial for trial in trials if trials.count(trial) > 1}
    if twice or len({r["request"]["data"] for r in own}) > 1:
        what = f"several records of {sorted(twice)}" if twice else "records of different data"
        raise ValueError(f"there are {what} for {config['dataset']}: remove the outdated ones")
    present = {name for name, _ in trials}
    return Result(config, own, tuple(m.name for m in methods if m.name in present))


def measure(result: Result) -> dict[str, NDArray[np.float64]]:
    """Return one value per seed for each claim of `data/paper.toml` that `result` speaks to.

    Methods are compared within a seed: they share the order of images, the noise, the validation
    split and the initial weights.
    """
    if not result.comparable():
        return {}
    gaussian, crop = result.levels("gaussian"), result.levels("crop")
    result = result.paired(("LP", "GP", "HP"))
    noisy = {m: _usual_accuracy(result, m, "gaussian") for m in ("LP", "GP", "HP")}
    gap = noisy["HP"] - noisy["GP"]
    worst = f"gaussian-{gaussian[-1]:g}"
    middle = (crop >= 4) & (crop <= 9)
    values = {
        **{f"clean/{m}": noisy[m][:, 0] for m in noisy},
        "clean/HP-GP": gap[:, 0],
        **{f"{worst}/{m}": noisy[m][:, -1] for m in noisy},
        f"{worst}/HP-GP": gap[:, -1],
        f"{worst}/HP-LP": (noisy["HP"] - noisy["LP"])[:, -1],
        f"{worst}/LP-GP": (noisy["LP"] - noisy["GP"])[:, -1],
        "gaussian/gap-growth": np.array([stats.kendalltau(gaussian, row)[0] for row in gap]),
        "gaussian/LP-crosses-GP": np.array(
            [crossing(gaussian, row) for row in noisy["LP"] - noisy["GP"]]
        ),
        "crop/HP-GP": result.gap("crop")[:, middle].mean(-1),
    }
    return {f"fault_tolerance/{result.dataset}/{name}": value for name, value in values.items()}


def crossing(levels: NDArray[np.float64], difference: NDArray[np.float64]) -> float:
    """Return the level at which `difference` first rises through zero, interpolated linearly.

    The lowest level if it starts above zero, NaN if it never rises through zero.
    """
    if difference[0] > 0.0:
        return float(levels[0])
    above = np.flatnonzero(difference > 0.0)
    if len(above) == 0:
        return float("nan")
    i = above[0]
    share = -difference[i - 1] / (difference[i] - difference[i - 1])
    return float(levels[i - 1] + share * (levels[i] - levels[i - 1]))


def usual_protocol(result: Result, method: str) -> Protocol:
    """Return the authors' protocol for methods that were tested under it, else their own."""
    protocols = result.protocols(method)
    return "batch" if "batch" in protocols else protocols[0]


def _usual_accuracy(result: Result, method: str, fault: str) -> NDArray[np.float64]:
    return result.accuracy(method, usual_protocol(result, method), fault)
