"""Trials: one network each, trained, tested, recorded and resumed alike in every experiment."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import torch
from torch import nn

from hybrid import __version__
from hybrid.experiments.base import Method, results_folder, source_sha256, timed
from hybrid.learning.schedule import Schedule
from hybrid.model.networks import META_NAMES
from hybrid.runs.cluster import away
from hybrid.runs.fanout import fan_out
from hybrid.runs.files import (
    DamagedFileError,
    canonical_json,
    load_tensors,
    save_tensors,
    tensor_bytes,
    write_atomically,
)
from hybrid.runs.store import Json, Store, read_record


class Config(Protocol):
    """What every experiment's config has."""

    @property
    def label(self) -> str:
        """Tells the config from its neighbours in names of records."""
        ...

    @property
    def dataset(self) -> str: ...

    @property
    def validation(self) -> int:
        """Training data held out to watch learning."""
        ...

    def as_json(self) -> Json: ...

    def schedule(self) -> Schedule: ...


class Experiment(Protocol):
    """What makes one experiment differ from another; it can be sent to other processes."""

    @property
    def name(self) -> str: ...

    def data_sha256(self, dataset: str) -> str:
        """Return a hash of a data set, after fetching it."""
        ...

    def build(self, trial: "Trial") -> nn.Module:
        """Return the untrained network of a trial."""
        ...

    def run(
        self, trial: "Trial", device: torch.device, checkpoint: Path | None = None
    ) -> tuple[Json, nn.Module]:
        """Train and test one network; see `fit` for what `checkpoint` does."""
        ...


@dataclass(frozen=True)
class Trial:
    """One network: an experiment's config, a method and a seed."""

    experiment: Experiment
    config: Config
    method: Method
    seed: int

    @property
    def title(self) -> str:
        return f"{self.config.label}-{self.method.name}-seed{self.seed}"

    def request(self, data_sha256: str) -> Json:
        """Return the full description that the trial's record is stored under."""
        return {
            "experiment": self.experiment.name,
            "label": self.title,
            "config": self.config.as_json(),
            "method": self.method.request(),
            "seed": self.seed,
            "data": data_sha256,
            "version": __version__,
        }

    def build(self) -> nn.Module:
        """Return the untrained network."""
        return self.experiment.build(self)


class Task(NamedTuple):
    """A trial, where its record goes, and where it runs."""

    trial: Trial
    store: Store | None
    device: torch.device


def run_all(
    trials: Sequence[Trial], *, store: Store | None, jobs: int, device: torch.device, title: str
) -> list[Json]:
    """Return the records of all trials: stored ones, and new ones from `jobs` processes.

    Processes of this machine keep their own records. Those of a cluster send what they computed,
    and this process keeps it: a trial that another machine has begun is begun anew.
    """
    for experiment, name in {(trial.experiment, trial.config.dataset) for trial in trials}:
        experiment.data_sha256(name)  # fetched once, and errors are met before any process starts
    tasks = [Task(trial, store, device) for trial in trials]
    if not away():
        records = dict(fan_out(run_task, tasks, jobs=jobs, title=title))
        return [records[i] for i in range(len(tasks))]
    missing = [task for task in tasks if stored_record(task.trial, store) is None]
    computed = {
        missing[i].trial.title: _keep(missing[i], outcome)
        for i, outcome in fan_out(compute_task, missing, jobs=jobs, title=title)
    }
    return [
        computed.get(task.trial.title) or cast(Json, stored_record(task.trial, store))
        for task in tasks
    ]


class Computed(NamedTuple):
    """What a process on another machine sends back."""

    result: Json
    about: Json
    weights: bytes


def compute_task(task: Task) -> Computed:
    """Train and test a network without a store."""
    trial, _, device = task
    networks: list[nn.Module] = []

    def compute() -> Json:
        result, network = trial.experiment.run(trial, device)
        networks.append(network)
        return result

    result, about = timed(compute, device)
    weights = tensor_bytes(networks[0].cpu().state_dict(), {"trial": trial.title})
    return Computed(result, about, weights)


def _keep(task: Task, computed: Computed) -> Json:
    """Return the record of a trial that another machine has computed, after keeping it.

    Raises:
        ValueError: if it was computed by other code, as by a worker that came late.
    """
    if computed.about["source"] != source_sha256()[:16]:
        raise ValueError(
            f"a worker computed {task.trial.title} with other code: install this state of it on "
            "all machines and run again; what was finished before is kept"
        )
    request, store = _request(task.trial), task.store
    if store is None:
        return {"request": request, "result": computed.result, "about": computed.about}
    write_atomically(store.weights_path(request), computed.weights)
    return store.save(request, computed.result, computed.about)


def stored_record(trial: Trial, store: Store | None) -> Json | None:
    """Return the record of a trial, or None if there is none, or it is to be replaced."""
    return None if store is None or store.recompute else store.load(_request(trial))


def _request(trial: Trial) -> Json:
    return trial.request(trial.experiment.data_sha256(trial.config.dataset))


def run_task(task: Task) -> Json:
    """Return the record of a task: the stored one, or a new one."""
    trial, store, device = task
    experiment, request = trial.experiment, _request(trial)
    if store is None:
        result, about = timed(lambda: experiment.run(trial, device)[0], device)
        return {"request": request, "result": result, "about": about}

    checkpoint = store.checkpoint_path(request)
    if store.recompute:
        checkpoint.unlink(missing_ok=True)

    def compute() -> Json:
        result, network = experiment.run(trial, device, checkpoint)
        save_tensors(store.weights_path(request), network.state_dict(), {"trial": trial.title})
        return result

    record = store.get(request, lambda: timed(compute, device))
    checkpoint.unlink(missing_ok=True)
    return record


def final_meta(network: nn.Module) -> Json:
    """Return the learned meta-local parameters, those of many entries by their mean."""
    return {
        f"{name} (mean)" if value.ndim else name: round(value.mean().item(), 6)
        for name, value in network.named_parameters()
        if name.rsplit(".", 1)[-1] in META_NAMES
    }


def load_records(profile: str, experiment: str, seeds: int, folder: Path | None) -> list[Json]:
    """Read the records of a profile that are of this version and of seeds 1 to `seeds`.

    Trials with other seeds may lie in the same store.

    Raises:
        DamagedFileError: if a record is damaged.
    """
    paths = sorted(((folder or results_folder(profile)) / experiment).glob("*.json"))
    return [
        record
        for record in map(read_record, paths)
        if record["request"]["version"] == __version__ and 1 <= record["request"]["seed"] <= seeds
    ]


def own_records(trials: Sequence[Trial], records: Sequence[Json]) -> tuple[Json, ...]:
    """Return those records that belong to one of the trials, in the order of these.

    Raises:
        ValueError: if two of them are of the same config, method and seed.
    """
    parts = ("config", "method", "seed")
    asked = [trial.request("") for trial in trials]
    places = {canonical_json([request[p] for p in parts]): i for i, request in enumerate(asked)}
    found = [
        (place, record)
        for record in records
        if (place := places.get(canonical_json([record["request"][p] for p in parts]))) is not None
    ]
    own = tuple(record for _, record in sorted(found, key=lambda pair: pair[0]))
    titles = [record["request"]["label"] for record in own]
    twice = sorted({title for title in titles if titles.count(title) > 1})
    if twice:
        raise ValueError(f"there are several records of {twice}: remove the outdated ones")
    return own


def first_seeds(planned: int, asked: int | None) -> int:
    """Return how many seeds are run: all that are planned, or at most so many."""
    if asked is not None and asked < 1:
        raise ValueError(f"seeds = {asked}: give at least one")
    return planned if asked is None else min(planned, asked)


def load_network(trial: Trial, store: Store) -> nn.Module:
    """Return the trained network of a finished trial, if its weights were kept.

    Raises:
        FileNotFoundError: if the trial has not been run in this store, or only its record is here.
        DamagedFileError: if the weights are damaged.
    """
    path = store.weights_path(_request(trial))
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not here: run the trial in this store first, with `--recompute` if its "
            "record is there"
        )
    tensors, about = load_tensors(path)
    if about["trial"] != trial.title:
        raise DamagedFileError(f"{path} holds {about['trial']}, not {trial.title}: delete it")
    network = trial.build()
    network.load_state_dict(tensors)
    return network
