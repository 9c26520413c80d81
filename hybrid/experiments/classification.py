"""Classification (paper Fig. 2): LP, GP and HP on images and sequences, with several codes,
neuron models and local rules, in fully connected and in convolutional networks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hybrid.data.augment import crop_and_flip
from hybrid.experiments import base
from hybrid.experiments.base import Method, Profile, choose_methods, choose_profile
from hybrid.experiments.classification_config import (
    CIFAR10_NETWORK,
    FASHION_NETWORK,
    MNIST_NETWORK,
    Config,
)
from hybrid.experiments.classification_networks import build
from hybrid.experiments.classification_results import Result, collect
from hybrid.experiments.trials import Config as TrialConfig
from hybrid.experiments.trials import Experiment, Trained, Trial, flat, load_records, run_all
from hybrid.learning.course import Course, follow
from hybrid.learning.training import Augment, seeded
from hybrid.model.layers import HybridLinear
from hybrid.model.networks import HybridNetwork
from hybrid.runs.seeds import torch_stream
from hybrid.runs.store import Json, Store

# "batch" is the authors' protocol: traces go on moving while a test batch is shown.
LP = replace(base.LP, protocols=("batch", "frozen"))
GP = base.GP
HP = replace(base.HP, protocols=("batch", "frozen"))
METHODS: tuple[Method, ...] = (LP, GP, HP)
SCALES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)  # of the learned gains, for the sensitivity to θ


@dataclass(frozen=True, kw_only=True)
class Group:
    """Some configs, and the methods and number of seeds each is run with."""

    configs: tuple[Config, ...]
    methods: tuple[str, ...] = ("LP", "GP", "HP")
    seeds: int = 3


Plan = tuple[Group, ...]


# One thing changed at a time, under the label's suffix. Neurons are compared under the rate code:
# a membrane that does not leak has no use for the other answers.
CODES_AND_NEURONS: dict[str, dict[str, Any]] = {
    "rate": {"answer": "rate"},
    "rank": {"answer": "rank"},
    "poisson": {"code": "poisson"},
    "IF": {"neuron": "IF", "answer": "rate"},
    "adaptive": {"neuron": "adaptive", "answer": "rate"},
}
# Of the local module alone: GP would be the same network in all of them.
RULES_AND_ABLATIONS: dict[str, dict[str, Any]] = {
    "STDP": {"rule": "stdp"},
    "fixed-theta": {"theta": "fixed"},
    "unit-gain": {"theta": "unit-gain"},
    "hidden-only": {"plastic": (True, False)},
    "readout-only": {"plastic": (False, True)},
}


def variants(config: Config, changes: dict[str, dict[str, Any]]) -> tuple[Config, ...]:
    """Return the config with each of the changes, labelled by its name."""
    return tuple(
        replace(config, label=f"{config.label}-{name}", **change)
        for name, change in changes.items()
    )


def by_rows(config: Config, label: str) -> Config:
    """Return the config for images shown row by row: longer memories, and a rate code.

    Chosen on validation digits (seed 101): a membrane read at the end has forgotten the first
    rows, and stays at chance.
    """
    longer: dict[str, Any] = {
        "view": "rows",
        "steps": 28,
        "decay": 0.8,
        "tau": None,
        "answer": "rate",
    }
    return replace(config, label=label, **longer)


# Small and short; θ learns faster than in longer runs. Chosen on validation digits (seeds 101 to
# 105); the test digits had no part in it.
_SMOKE = Config(
    label="digits",
    validation=500,
    hidden=(128,),
    batch_size=50,
    steps=6,
    epochs=3,
    lr_weight=2e-3,
    lr_meta=5e-3,
)
_SHORT = replace(_SMOKE, label="digits-short", epochs=1)
_SMOKE_ROWS = replace(
    by_rows(_SMOKE, "digits-rows"), epochs=2, hidden=(64,), batch_size=100, lr_weight=8e-3
)
_DENSE = tuple(Config(label=name, dataset=name, epochs=10) for name in ("mnist", "fashion_mnist"))
_SMALL: dict[str, Any] = {
    "convolutions": ((16, True, 0.0), (32, True, 0.0), (64, True, 0.0)),
    "hidden": (128,),
}
_REDUCED = tuple(
    replace(network, label=f"{network.dataset}-reduced", epochs=15, lr_weight=1e-3, **_SMALL)
    for network in (MNIST_NETWORK, replace(FASHION_NETWORK, milestones=(10,)))
)

PLANS: dict[Profile, Plan] = {
    "smoke": (
        Group(configs=(_SMOKE,)),
        Group(configs=(_SMOKE_ROWS,), methods=("GP", "HP"), seeds=1),
        Group(
            configs=(
                _SHORT,
                *variants(_SHORT, CODES_AND_NEURONS),
                *variants(_SHORT, RULES_AND_ABLATIONS),
            ),
            methods=("HP",),
            seeds=1,
        ),
    ),
    "laptop": (
        Group(configs=_REDUCED, methods=("GP", "HP"), seeds=1),
        Group(configs=_DENSE),
        Group(configs=(by_rows(_DENSE[0], "mnist-rows"),)),
        Group(configs=variants(_DENSE[1], CODES_AND_NEURONS), methods=("GP", "HP")),
        Group(configs=variants(_DENSE[1], RULES_AND_ABLATIONS), methods=("HP",)),
    ),
    "paper": (
        Group(configs=(MNIST_NETWORK, FASHION_NETWORK, CIFAR10_NETWORK), methods=("GP", "HP")),
        Group(configs=tuple(replace(config, epochs=30) for config in _DENSE), seeds=5),
        Group(configs=(by_rows(_DENSE[0], "mnist-rows"),)),
        Group(
            configs=(
                replace(by_rows(_DENSE[0], "mnist-pixels"), view="pixels", steps=784, decay=0.99),
            )
        ),
    ),
}


def trials_of(
    plan: Plan, *, seed: int, methods: Sequence[str] | None, configs: Sequence[str] | None
) -> list[Trial]:
    """Return the trials of a plan, or those of some methods and configs.

    Raises:
        ValueError: if a method or config is unknown, or nothing is left.
    """
    known = {config.label: config for group in plan for config in group.configs}
    for label in configs or ():
        if label not in known:
            raise ValueError(f"config {label!r} is unknown: choose among {', '.join(known)}")
    chosen = choose_methods(tuple(methods), METHODS) if methods is not None else METHODS
    trials = [
        Trial(EXPERIMENT, config, method, seed + 1 + i)
        for group in plan
        for config in group.configs
        if configs is None or config.label in configs
        for i in range(group.seeds)
        for method in choose_methods(group.methods, METHODS)
        if method in chosen
    ]
    if not trials:
        raise ValueError("nothing to run: these configs are not run with these methods")
    return trials


def run(
    profile: str,
    *,
    seed: int = 0,
    methods: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    store: Store | None = None,
    jobs: int = 1,
    device: str = "auto",
) -> Result:
    """Run a profile, or what is left of it, and return its result.

    Args:
        profile: "smoke", "laptop" or "paper".
        seed: the trials use seeds seed + 1 … seed + n.
        methods: a subset of the profile's methods, by name; None for all.
        datasets: labels of the configs to run; None for all.
        store: where records are looked up and kept; None computes all and keeps nothing.
        jobs: processes.
        device: "auto", "cpu" or a torch device.

    Raises:
        ValueError: if a name is unknown. Other errors as of the data and training modules.
    """
    plan = choose_profile(profile, PLANS)
    trials = trials_of(plan, seed=seed, methods=methods, configs=datasets)
    chosen = base.choose_device(device)
    title = f"{EXPERIMENT.name} ({profile})"
    records = run_all(trials, store=store, jobs=jobs, device=chosen, title=title)
    return collect(_configs(plan), records)


def load(profile: str, *, folder: Path | None = None) -> Result:
    """Read the committed records of a profile, without data and without training.

    Raises:
        DamagedFileError: if a record is damaged.
        FileNotFoundError: if there is none with the plan's present constants.
        ValueError: if records contradict each other, see `collect`.
    """
    plan = choose_profile(profile, PLANS)
    seeds = max(group.seeds for group in plan)
    result = collect(_configs(plan), load_records(profile, EXPERIMENT.name, seeds, folder))
    if not result.records:
        raise FileNotFoundError(
            f"{folder or base.results_folder(profile)} holds no finished trial of "
            f"{EXPERIMENT.name} with the constants of profile {profile!r}: compute them with "
            f"`hybrid run {EXPERIMENT.name} --profile {profile}`"
        )
    return result


def _configs(plan: Iterable[Group]) -> list[Config]:
    return [config for group in plan for config in group.configs]


# Of CIFAR-10, as the authors normalise it.
_MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
_DEVIATION = torch.tensor([0.2023, 0.1994, 0.2010]).view(3, 1, 1)


def inputs_of(config: TrialConfig, pixels: np.ndarray) -> Tensor:
    """Return images as network inputs [N, in]: grey ones as they are, colour ones normalised."""
    if not config.dataset.startswith("cifar10"):
        return flat(config, pixels)
    return ((torch.from_numpy(pixels) - _MEAN) / _DEVIATION).flatten(1)


def augmentation(config: Config) -> Augment | None:
    """Return the random change of training batches: what is shifted in is black."""
    return _shifted_and_mirrored if config.augment else None


def _shifted_and_mirrored(inputs: Tensor, generator: torch.Generator) -> Tensor:
    black = (-_MEAN / _DEVIATION).to(inputs.device)
    images = inputs.unflatten(1, (3, 32, 32))
    return crop_and_flip(images, generator, fill=black).flatten(1)


def test_all(trained: Trained) -> Json:
    """Return the course of the answers, the sensitivity to θ and one image's spikes."""
    result = test_answers(trained)
    network = trained.network
    layers = [layer for layer in network.layers if isinstance(layer, HybridLinear)]
    gains = [layer.local_gain for layer in layers if layer.rule is not None]
    if gains:
        learned = [gain.detach().clone() for gain in gains]
        result["sensitivity"] = []
        for scale in SCALES:
            _scale(gains, learned, scale)
            confusion = _course(trained, trained.trial.method.protocols[0]).confusion
            result["sensitivity"].append([scale, int(confusion.trace())])
        _scale(gains, learned, 1.0)
    first = inputs_of(trained.trial.config, trained.images.test[:1]).to(trained.device)
    return result | {"raster": _raster(network, first)}


def test_answers(trained: Trained) -> Json:
    """Return the course of the answers under each protocol."""
    protocols = trained.trial.method.protocols
    return {"tests": {name: _as_json(_course(trained, name)) for name in protocols}}


def _course(trained: Trained, protocol: str) -> Course:
    trial, network, images, device = trained
    config = trial.config
    inputs = inputs_of(config, images.test).to(device)
    labels = torch.from_numpy(images.test_labels).to(device)
    with seeded(torch_stream(trial.seed, "test")):  # spike codes draw
        adapt = protocol != "frozen"
        return follow(network, inputs, labels, config.schedule().batch_size, adapt=adapt)


@torch.no_grad()
def _scale(gains: Sequence[Tensor], learned: Sequence[Tensor], scale: float) -> None:
    for gain, value in zip(gains, learned, strict=True):
        gain.copy_(scale * value)


@torch.no_grad()
def _raster(network: HybridNetwork, sample: Tensor, neurons: int = 100) -> Json:
    """Return who spikes when, for one sample: (step, neuron) pairs of the last two layers."""
    network.eval()
    with seeded(torch.Generator().manual_seed(0)):
        windows = network(sample, adapt=False).windows[-2:]
    pairs = [window.z[:, 0].flatten(1)[:, :neurons].nonzero().tolist() for window in windows]
    return {"hidden": pairs[0], "read-out": pairs[1], "steps": len(windows[0].states)}


def _as_json(course: Course) -> Json:
    return {
        "confusion": course.confusion.tolist(),
        "looks": course.looks.tolist(),
        "correct": course.correct.tolist(),
        "spikes": [[round(count, 3) for count in row] for row in course.spikes.tolist()],
        "latency": round(course.latency, 4),
    }


EXPERIMENT = Experiment(
    name="classification",
    build=build,
    test=test_all,
    inputs=inputs_of,
    augment=augmentation,
    test_selected=test_answers,
)
