"""Trials on images or recordings with labels: train on some, watch others, test on the rest."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from sklearn.model_selection import train_test_split

from hybrid.data.images import Images, load_images
from hybrid.experiments.trials import Config, Trial, final_meta
from hybrid.learning.checkpoint import BestState
from hybrid.learning.fitting import EpochLog
from hybrid.learning.training import Augment, Split, train
from hybrid.model.networks import HybridNetwork
from hybrid.runs.seeds import numpy_stream, torch_stream
from hybrid.runs.store import Json


class Samples(Protocol):
    """What is learned from and tested on: `Images`, or whatever `inputs` makes inputs of."""

    @property
    def train(self) -> Any: ...

    @property
    def train_labels(self) -> np.ndarray: ...

    @property
    def test(self) -> Any: ...

    @property
    def test_labels(self) -> np.ndarray: ...


def flat(config: Config, pixels: np.ndarray) -> torch.Tensor:
    """Return images as inputs [N, in], in [0, 1]."""
    return torch.from_numpy(pixels).flatten(1)


def unchanged(config: Config) -> Augment | None:
    """Train on the images as they are."""
    return None


@lru_cache(maxsize=2)
def images_of(dataset: str) -> Images:
    """Return an image set, kept in memory for the trials that follow."""
    return load_images(dataset)


def images_for(config: Config) -> Images:
    """Return the images of a config."""
    return images_of(config.dataset)


def hash_of_images(dataset: str) -> str:
    """Return a hash of an image set."""
    return images_of(dataset).sha256()


class Trained(NamedTuple):
    """A trained network, and what it is to be tested on."""

    trial: Trial
    network: HybridNetwork
    images: Any  # the experiment's samples
    device: torch.device


@dataclass(frozen=True)
class ImageExperiment:
    """An experiment on images with labels; see `hybrid.experiments.trials.Experiment`."""

    name: str
    # (config, method, seed) -> an untrained network
    network: Callable[..., HybridNetwork]
    # What the tests of a trained network add to the result of its record.
    test: Callable[[Trained], Json]
    # What else is measured of the network of the last epoch.
    examine: Callable[[Trained], Json] | None = None
    # Whether the network of the best validation epoch is tested, too.
    selects: bool = False
    # config -> samples
    data: Callable[..., Samples] = images_for
    # name of a data set -> a hash of it, after fetching it
    digest: Callable[[str], str] = hash_of_images
    # (config, samples to learn from) -> inputs of the network [N, *]
    inputs: Callable[..., torch.Tensor] = flat
    # config -> random change of training batches
    augment: Callable[..., Augment | None] = unchanged

    def data_sha256(self, dataset: str) -> str:
        """Return a hash of a data set, after fetching it."""
        return self.digest(dataset)

    def build(self, trial: Trial) -> HybridNetwork:
        """Return the untrained network of a trial."""
        return self.network(trial.config, trial.method, trial.seed)

    def run(
        self, trial: Trial, device: torch.device, checkpoint: Path | None = None
    ) -> tuple[Json, HybridNetwork]:
        """Train and test one network; see `fit` for what `checkpoint` does."""
        best = BestState() if self.selects else None
        network, logs = self.train(trial, device, checkpoint, best)
        images = self.data(trial.config)
        result: Json = {"epochs": [vars(log) for log in logs], "meta": final_meta(network)}
        trained = Trained(trial, network, images, device)
        tests = self.test(trained)
        result |= tests
        if self.examine is not None:
            result |= self.examine(trained)
        if best is not None:
            if best.epoch < len(logs):
                last = {name: value.clone() for name, value in network.state_dict().items()}
                network.load_state_dict(best.state)
                tests = self.test(trained)
                network.load_state_dict(last)
            result["selected"] = {"epoch": best.epoch, **tests}
        return result, network

    def train(
        self,
        trial: Trial,
        device: torch.device,
        checkpoint: Path | None = None,
        best: BestState | None = None,
    ) -> tuple[HybridNetwork, list[EpochLog]]:
        """Train one network, as `run` does before it tests it."""
        network = self.build(trial).to(device)
        logs = train(
            network,
            *self._splits(trial, self.data(trial.config), device),
            trial.config.schedule(),
            lambda epoch: torch_stream(trial.seed, "order", epoch),
            checkpoint=checkpoint,
            title=trial.title,
            augment=self.augment(trial.config),
            best=best,
        )
        return network, logs

    def _splits(self, trial: Trial, images: Samples, device: torch.device) -> tuple[Split, Split]:
        """Return the training images and those held out to watch learning."""
        kept, held_out = split_numbers(trial.config, trial.seed, images)
        inputs = self.inputs(trial.config, images.train).to(device)
        labels = torch.from_numpy(images.train_labels).to(device)
        return Split(inputs[kept], labels[kept]), Split(inputs[held_out], labels[held_out])


def split_numbers(config: Config, seed: int, images: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Return which training images to learn from, and which to watch learning with.

    Raises:
        ValueError: if the config asks for more than there are.
    """
    available = len(images.train_labels)
    if config.validation >= available:
        raise ValueError(
            f"Config.validation = {config.validation}: {config.dataset} has {available} training "
            "samples, so it must be less"
        )
    kept, held_out = train_test_split(
        np.arange(available),
        test_size=config.validation,
        stratify=images.train_labels,
        random_state=int(numpy_stream(seed, "validation split").integers(2**31)),
    )
    return kept, held_out
