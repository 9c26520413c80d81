"""Trials: one network each, trained, tested, recorded and resumed alike in every experiment."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from sklearn.model_selection import train_test_split

from hybrid import __version__
from hybrid.data.images import Images, load_images
from hybrid.experiments.base import Method, results_folder, timed
from hybrid.learning.checkpoint import BestState
from hybrid.learning.schedule import Schedule
from hybrid.learning.training import Augment, Split, train
from hybrid.model.networks import META_NAMES, HybridNetwork
from hybrid.runs.fanout import fan_out
from hybrid.runs.files import DamagedFileError, load_tensors, save_tensors
from hybrid.runs.seeds import numpy_stream, torch_stream
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
        """Training images held out to watch learning."""
        ...

    def as_json(self) -> Json: ...

    def schedule(self) -> Schedule: ...


@dataclass(frozen=True)
class Trial:
    """One network: an experiment's config, a method and a seed."""

    experiment: "Experiment"
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

    def build(self) -> HybridNetwork:
        """Return the untrained network."""
        return self.experiment.build(self.config, self.method, self.seed)


def flat(config: Config, pixels: np.ndarray) -> torch.Tensor:
    """Return images as inputs [N, in], in [0, 1]."""
    return torch.from_numpy(pixels).flatten(1)


def unchanged(config: Config) -> Augment | None:
    """Train on the images as they are."""
    return None


@dataclass(frozen=True)
class Experiment:
    """What makes one experiment differ from another; functions that processes can be sent."""

    name: str
    # (config, method, seed) -> an untrained network
    build: Callable[..., HybridNetwork]
    # What the tests of a trained network add to the result of its record.
    test: Callable[["Trained"], Json]
    # What else is measured of the network of the last epoch.
    examine: Callable[["Trained"], Json] | None = None
    # Whether the network of the best validation epoch is tested, too.
    selects: bool = False
    # (config, images) -> inputs of the network
    inputs: Callable[..., torch.Tensor] = flat
    # config -> random change of training batches
    augment: Callable[..., Augment | None] = unchanged


class Trained(NamedTuple):
    """A trained network, and what it is to be tested on."""

    trial: Trial
    network: HybridNetwork
    images: Images
    device: torch.device


class Task(NamedTuple):
    """A trial, where its record goes, and where it runs."""

    trial: Trial
    store: Store | None
    device: torch.device


def run_all(
    trials: Sequence[Trial], *, store: Store | None, jobs: int, device: torch.device, title: str
) -> list[Json]:
    """Return the records of all trials: stored ones, and new ones from `jobs` processes."""
    for name in {trial.config.dataset for trial in trials}:
        images_of(name)  # fetched once, and errors are met before any process starts
    tasks = [Task(trial, store, device) for trial in trials]
    return fan_out(run_task, tasks, jobs=jobs, title=title)


def run_task(task: Task) -> Json:
    """Return the record of a task: the stored one, or a new one."""
    trial, store, device = task
    request = trial.request(images_of(trial.config.dataset).sha256())
    if store is None:
        result, about = timed(lambda: run_trial(trial, device)[0], device)
        return {"request": request, "result": result, "about": about}

    checkpoint = store.checkpoint_path(request)
    if store.recompute:
        checkpoint.unlink(missing_ok=True)

    def compute() -> Json:
        result, network = run_trial(trial, device, checkpoint)
        save_tensors(store.weights_path(request), network.state_dict(), {"trial": trial.title})
        return result

    record = store.get(request, lambda: timed(compute, device))
    checkpoint.unlink(missing_ok=True)
    return record


def run_trial(
    trial: Trial, device: torch.device, checkpoint: Path | None = None
) -> tuple[Json, HybridNetwork]:
    """Train and test one network; see `train` for what `checkpoint` does."""
    experiment, config, seed = trial.experiment, trial.config, trial.seed
    images = images_of(config.dataset)
    network = trial.build().to(device)
    best = BestState() if experiment.selects else None
    logs = train(
        network,
        *_splits(trial, images, device),
        config.schedule(),
        lambda epoch: torch_stream(seed, "order", epoch),
        checkpoint=checkpoint,
        title=trial.title,
        augment=experiment.augment(config),
        best=best,
    )
    meta = {
        f"{name} (mean)" if value.ndim else name: round(value.mean().item(), 6)
        for name, value in network.named_parameters()
        if name.rsplit(".", 1)[-1] in META_NAMES
    }
    result: Json = {"epochs": [vars(log) for log in logs], "meta": meta}
    trained = Trained(trial, network, images, device)
    tests = experiment.test(trained)
    result |= tests
    if experiment.examine is not None:
        result |= experiment.examine(trained)
    if best is not None:
        if best.epoch < len(logs):
            last = {name: value.clone() for name, value in network.state_dict().items()}
            network.load_state_dict(best.state)
            tests = experiment.test(trained)
            network.load_state_dict(last)
        result["selected"] = {"epoch": best.epoch, **tests}
    return result, network


def _splits(trial: Trial, images: Images, device: torch.device) -> tuple[Split, Split]:
    """Return the training images and those held out to watch learning."""
    available = len(images.train_labels)
    if trial.config.validation >= available:
        raise ValueError(
            f"Config.validation = {trial.config.validation}: {trial.config.dataset} has "
            f"{available} training images, so it must be less"
        )
    state = int(numpy_stream(trial.seed, "validation split").integers(2**31))
    kept, held_out = train_test_split(
        np.arange(len(images.train_labels)),
        test_size=trial.config.validation,
        stratify=images.train_labels,
        random_state=state,
    )
    inputs = trial.experiment.inputs(trial.config, images.train).to(device)
    labels = torch.from_numpy(images.train_labels).to(device)
    return Split(inputs[kept], labels[kept]), Split(inputs[held_out], labels[held_out])


@lru_cache(maxsize=2)
def images_of(dataset: str) -> Images:
    """Return an image set, kept in memory for the trials that follow."""
    return load_images(dataset)


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


def load_network(trial: Trial, store: Store) -> HybridNetwork:
    """Return the trained network of a finished trial, if its weights were kept.

    Raises:
        FileNotFoundError: if the trial has not been run in this store, or only its record is here.
        DamagedFileError: if the weights are damaged.
    """
    path = store.weights_path(trial.request(images_of(trial.config.dataset).sha256()))
    if not path.exists():
        raise FileNotFoundError(f"{path} is not here: run the trial in this store first")
    tensors, about = load_tensors(path)
    if about["trial"] != trial.title:
        raise DamagedFileError(f"{path} holds {about['trial']}, not {trial.title}: delete it")
    network = trial.build()
    network.load_state_dict(tensors)
    return network
