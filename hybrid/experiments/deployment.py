"""Deployment (paper Fig. 6): trained networks on a simulated Tianjic, beside floating point.

Accuracy is what the whole-number simulation computes. Cores, time and energy are predictions of a
model whose constants are partly assumed; nothing here was measured on a chip.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
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
from hybrid.experiments.base import PROFILES, Method
from hybrid.experiments.deployment_config import Base, Config
from hybrid.experiments.deployment_fault import deploy
from hybrid.experiments.deployment_others import deploy_continual, deploy_few_shot
from hybrid.experiments.deployment_plans import PLANS
from hybrid.experiments.deployment_results import Result
from hybrid.experiments.few_shot_lessons import characters_of
from hybrid.experiments.image_trials import ImageExperiment, hash_of_images
from hybrid.experiments.plans import Schemes
from hybrid.experiments.trials import Experiment, Trial, load_network
from hybrid.runs.files import canonical_json, load_tensors, save_tensors
from hybrid.runs.store import Json, Store, read_record
from hybrid.tianjic.report import HEADER

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
_TRIALS: dict[Base, Callable[[str], list[Trial]]] = {
    "fault_tolerance": fault_tolerance.trials,
    "few_shot": few_shot.SCHEMES.trials,
    "continual": continual.SCHEMES.trials,
}
DEPLOY: dict[Base, Callable[..., Json]] = {
    "fault_tolerance": deploy,
    "few_shot": deploy_few_shot,
    "continual": deploy_continual,
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
        return DEPLOY[config.base](trial, trained, network), network


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
        return _train(trained, device, None)
    try:
        return load_network(trained, store)
    except FileNotFoundError:
        request = trained.request(trained.experiment.data_sha256(trained.config.dataset))
        checkpoint = store.checkpoint_path(request)
        network = _train(trained, device, checkpoint)
        save_tensors(store.weights_path(request), network.state_dict(), {"trial": trained.title})
        checkpoint.unlink(missing_ok=True)
        return network


def _train(trained: Trial, device: torch.device, checkpoint: Path | None) -> nn.Module:
    """Train a network; where tests take long and can be left out, they are."""
    experiment = trained.experiment
    if isinstance(experiment, ImageExperiment):
        return experiment.train(trained, device, checkpoint)[0]
    return experiment.run(trained, device, checkpoint)[1]


def inspect(checkpoint: Path, tested: int) -> str:
    """Return in words what a network that a run has kept does on the chip, and what it takes.

    Args:
        checkpoint: its weights, beside its record, in the store of a run.
        tested: test images, episodes, or images of each task.

    Raises:
        FileNotFoundError: if weights or record are not there.
        DamagedFileError: if one is damaged.
        ValueError: if it is of another experiment, or of constants that no profile has.
    """
    checkpoint = checkpoint.with_suffix(".safetensors")
    if not checkpoint.exists():
        raise FileNotFoundError(
            f"{checkpoint} is not there. Records are committed without weights: `hybrid run` an "
            "experiment with `--store` and a folder of your own, and give a .safetensors file that "
            "it leaves there beside its record."
        )
    request = read_record(checkpoint.with_suffix(".json"))["request"]
    config, trained = _found(request, tested)
    network = trained.build()
    network.load_state_dict(load_tensors(checkpoint)[0])
    trial = Trial(EXPERIMENT, config, trained.method, trained.seed)
    found = DEPLOY[config.base](trial, trained, network)
    result = Result((config.label,), ({"request": trial.request(""), "result": found},))
    return "\n".join([HEADER, "", trained.title, *_lines(result, config.label)])


def _found(request: Json, tested: int) -> tuple[Config, Trial]:
    """Return how to bring a recorded network to the chip, and the trial that trained it."""
    base, wanted = request["experiment"], canonical_json([request["config"], request["method"]])
    if base not in _TRIALS:
        raise ValueError(f"a network of {base!r}: the chip takes those of {', '.join(_TRIALS)}")
    for profile in PROFILES:
        for trial in _TRIALS[base](profile):
            own = trial.request("")
            if canonical_json([own["config"], own["method"]]) == wanted:
                config = Config(
                    label=trial.config.label,
                    base=base,
                    profile=profile,
                    trained_label=trial.config.label,
                    tested=tested,
                    faults=(("gaussian", (0.0,)),) if base == "fault_tolerance" else (),
                    bits=(),
                    sums=(),
                    lags=(),
                    delays=(),
                    rewritten=1,
                )
                return config, replace(trial, seed=request["seed"])
    raise ValueError(f"{request['label']}: no profile has a network with these constants")


def _lines(result: Result, label: str) -> Iterator[str]:
    (method,) = result.methods(label)
    for form in result.forms(label, method):
        for part in result.parts(label, method):
            right = result.accuracy(label, method, form, part).mean()
            yield f"{form}, {part}: {right:.1f} % right"
    record = result.of(label, method)[0]["result"]
    for form in record["shapes"]:
        yield f"{form}; did not fit: {record['overflows'].get(form) or 'none'}"
        yield result.report(label, method, form)


EXPERIMENT = DeploymentExperiment()
SCHEMES = Schemes(experiment=EXPERIMENT, methods=METHODS, plans=PLANS)


def run(profile: str, **options: Any) -> Result:
    """Run a profile, or what is left of it, and return its result; see `Schemes.run`."""
    return Result(*SCHEMES.run(profile, **options))


def load(profile: str, *, folder: Path | None = None) -> Result:
    """Return the result of a profile's committed records; see `Schemes.load`."""
    return Result(*SCHEMES.load(profile, folder=folder))
