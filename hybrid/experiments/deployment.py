"""Deployment (paper Fig. 6): trained networks on a simulated Tianjic, beside floating point.

Accuracy is what the whole-number simulation computes. Cores, time and energy are predictions of a
model whose constants are partly assumed; nothing here was measured on a chip.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hybrid.data.characters import CHARACTER_NAMES
from hybrid.experiments import (
    base,
    continual,
    continual_methods,
    fault_tolerance,
    few_shot,
    few_shot_methods,
)
from hybrid.experiments.base import Method
from hybrid.experiments.deployment_config import Base, Config
from hybrid.experiments.deployment_fault import deploy
from hybrid.experiments.deployment_others import deploy_continual, deploy_few_shot
from hybrid.experiments.deployment_plans import PLANS
from hybrid.experiments.deployment_results import Result
from hybrid.experiments.few_shot_lessons import characters_of
from hybrid.experiments.image_trials import hash_of_images
from hybrid.experiments.plans import Schemes
from hybrid.experiments.trials import Experiment, Trial, load_network
from hybrid.runs.files import save_tensors
from hybrid.runs.store import Json, Store

METHODS: tuple[Method, ...] = (base.LP, base.GP, base.HP, base.HP_SAMPLE)
_BASES: dict[Base, Experiment] = {
    "fault_tolerance": fault_tolerance.EXPERIMENT,
    "few_shot": few_shot.EXPERIMENT,
    "continual": continual.EXPERIMENT,
}
_OWN: dict[Base, tuple[Method, ...]] = {
    "fault_tolerance": fault_tolerance.METHODS,
    "few_shot": few_shot_methods.METHODS,
    "continual": continual_methods.METHODS,
}


@dataclass(frozen=True)
class DeploymentExperiment:
    """Networks on the chip; see `hybrid.experiments.trials.Experiment`."""

    name: str = "deployment"

    def data_sha256(self, dataset: str) -> str:
        """Return a hash of the data that networks learn from, after fetching them."""
        if dataset in CHARACTER_NAMES:
            return characters_of(dataset).sha256()
        return hash_of_images(dataset)

    def build(self, trial: Trial) -> nn.Module:
        """Return the untrained network of a trial."""
        return trained_by(trial).build()

    def run(
        self, trial: Trial, device: torch.device, checkpoint: Path | None = None
    ) -> tuple[Json, nn.Module]:
        """Train a network, or take a trained one from the store, and bring it to the chip.

        Args:
            trial: which network.
            device: trains it; the chip is simulated on the CPU.
            checkpoint: in a store: the network is looked up and kept there.
        """
        config = trial.config
        assert isinstance(config, Config)
        trained = trained_by(trial)
        store = None if checkpoint is None else Store(checkpoint.parents[1])
        network = trained_network(trained, store, device).cpu()
        found: Any = {
            "fault_tolerance": deploy,
            "few_shot": deploy_few_shot,
            "continual": deploy_continual,
        }[config.base]
        return found(trial, trained, network), network


def trained_by(trial: Trial) -> Trial:
    """Return the trial that trains a deployed network."""
    config = trial.config
    assert isinstance(config, Config)
    methods = {method.name: method for method in _OWN[config.base]}
    own = methods[trial.method.name]
    return Trial(_BASES[config.base], config.trained, own, trial.seed)


def trained_network(trained: Trial, store: Store | None, device: torch.device) -> nn.Module:
    """Return a trained network: from the store if it is there, else after training it.

    Raises:
        DamagedFileError: if its file is damaged.
    """
    if store is None:
        return trained.experiment.run(trained, device)[1]
    try:
        return load_network(trained, store)
    except FileNotFoundError:
        request = trained.request(trained.experiment.data_sha256(trained.config.dataset))
        checkpoint = store.checkpoint_path(request)
        _, network = trained.experiment.run(trained, device, checkpoint)
        save_tensors(store.weights_path(request), network.state_dict(), {"trial": trained.title})
        checkpoint.unlink(missing_ok=True)
        return network


EXPERIMENT = DeploymentExperiment()
SCHEMES = Schemes(experiment=EXPERIMENT, methods=METHODS, plans=PLANS)


def run(profile: str, **options: Any) -> Result:
    """Run a profile, or what is left of it, and return its result; see `Schemes.run`."""
    return Result(*SCHEMES.run(profile, **options))


def load(profile: str, *, folder: Path | None = None) -> Result:
    """Return the result of a profile's committed records; see `Schemes.load`."""
    return Result(*SCHEMES.load(profile, folder=folder))
