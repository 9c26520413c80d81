"""Deployment (paper Fig. 6): trained networks on a simulated Tianjic, beside floating point.

Accuracy is what the whole-number simulation computes. Cores, time and energy are predictions of a
model whose constants are partly assumed; nothing here was measured on a chip.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from hybrid.experiments import continual, fault_tolerance, few_shot
from hybrid.experiments.continual.settings import ContinualSettings
from hybrid.experiments.core.experiment import Experiment
from hybrid.experiments.core.methods import Method
from hybrid.experiments.core.trials import (
    Begun,
    Place,
    Trial,
    load_network,
    whole_identity,
)
from hybrid.experiments.deployment.episodes import deploy_episodes
from hybrid.experiments.deployment.images import deploy_images
from hybrid.experiments.deployment.settings import DeploymentSettings
from hybrid.experiments.deployment.tasks import deploy_tasks
from hybrid.experiments.fault_tolerance.run import TRAINING
from hybrid.experiments.fault_tolerance.settings import FaultSettings
from hybrid.experiments.few_shot.settings import FewShotSettings
from hybrid.learning.checkpoint import made_by
from hybrid.learning.fitting import EpochLog
from hybrid.runs.files import load_tensors, save_tensors
from hybrid.runs.store import Json


class Base(NamedTuple):
    """An experiment whose networks are brought to the chip."""

    experiment: Experiment[Any, Any]
    train: Callable[[Trial[Any, Any], Place], nn.Module]
    deploy: Callable[[DeploymentSettings, Trial[Any, Any], Any], Json]


def _whole(experiment: Experiment[Any, Any]) -> Callable[[Trial[Any, Any], Place], nn.Module]:
    """Return what trains a network of an experiment that tests while it trains."""
    return lambda trial, place: experiment.compute(trial, place)[1]


# By the kind of settings that a network is trained with.
BASES: dict[type, Base] = {
    FaultSettings: Base(  # whose tests take long, and are left out
        fault_tolerance.EXPERIMENT, lambda t, place: TRAINING.train(t, place)[0], deploy_images
    ),
    FewShotSettings: Base(few_shot.EXPERIMENT, _whole(few_shot.EXPERIMENT), deploy_episodes),
    ContinualSettings: Base(continual.EXPERIMENT, _whole(continual.EXPERIMENT), deploy_tasks),
}


def base_of(settings: DeploymentSettings) -> Base:
    """Return what the networks of some settings are made of."""
    return BASES[type(settings.trained)]


def data_sha256(settings: DeploymentSettings) -> str:
    """Return a hash of the data that networks learn from, after fetching them."""
    return base_of(settings).experiment.data_sha256(settings.trained)


def trained_by(trial: Trial[DeploymentSettings, Method]) -> Trial[Any, Any]:
    """Return the trial that trains a deployed network."""
    experiment = base_of(trial.settings).experiment
    method = experiment.method(trial.method.name)
    return Trial(experiment, trial.settings.trained, method, trial.seed)


def build(trial: Trial[DeploymentSettings, Method]) -> nn.Module:
    """Return the untrained network of a trial."""
    return trained_by(trial).build()


def begin(trial: Trial[DeploymentSettings, Method], place: Place) -> Begun:
    """Prepare to train a network, or take a trained one, and to bring it to the chip.

    The place's device trains it; the chip is simulated on the CPU.
    """
    trained = trained_by(trial)

    def finish(logs: list[EpochLog]) -> tuple[Json, nn.Module]:
        network = trained_network(trained, place).cpu()
        return base_of(trial.settings).deploy(trial.settings, trained, network), network

    return Begun(None, finish)


def trained_network(trained: Trial[Any, Any], place: Place) -> nn.Module:
    """Return a trained network: from the store if this code has trained it, else after training.

    Raises:
        DamagedFileError: if its file is damaged.
    """
    train, store = BASES[type(trained.settings)].train, place.store
    if store is None:
        return train(trained, Place(place.device))
    request = trained.request()
    by, path = whole_identity(request), store.weights_path(request)
    if path.exists() and load_tensors(path)[1].get("by") == by:
        return load_network(trained, store)
    checkpoint = store.checkpoint_path(request)
    with made_by({trained.name: by}):
        network = train(trained, Place(place.device, checkpoint, store))
    save_tensors(path, network.state_dict(), {"trial": trained.name, "by": by})
    checkpoint.unlink(missing_ok=True)
    return network
