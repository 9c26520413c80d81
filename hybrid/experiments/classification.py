"""Classification (paper Fig. 2): LP, GP and HP on images and sequences, with several codes,
neuron models and local rules, in fully connected and in convolutional networks.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hybrid.data.augment import crop_and_flip
from hybrid.experiments.classification_config import Config
from hybrid.experiments.classification_networks import build
from hybrid.experiments.classification_plans import METHODS, PLANS
from hybrid.experiments.classification_results import Result
from hybrid.experiments.image_trials import ImageExperiment, Trained, flat
from hybrid.experiments.plans import Schemes
from hybrid.experiments.trials import Config as TrialConfig
from hybrid.learning.course import Course, follow
from hybrid.learning.fitting import seeded
from hybrid.learning.training import Augment
from hybrid.model.layers import HybridLinear
from hybrid.model.networks import HybridNetwork
from hybrid.runs.seeds import torch_stream
from hybrid.runs.store import Json

SCALES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)  # of the learned gains, for the sensitivity to θ


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


def test_answers(trained: Trained) -> Json:
    """Return the course of the answers under each protocol."""
    protocols = trained.trial.method.protocols
    return {"tests": {name: _as_json(_course(trained, name)) for name in protocols}}


def examine(trained: Trained) -> Json:
    """Return the sensitivity to θ and one image's spikes."""
    network = trained.network
    result: Json = {}
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


EXPERIMENT = ImageExperiment(
    name="classification",
    network=build,
    test=test_answers,
    examine=examine,
    selects=True,
    inputs=inputs_of,
    augment=augmentation,
)
SCHEMES = Schemes(experiment=EXPERIMENT, methods=METHODS, plans=PLANS)


def run(profile: str, **options: Any) -> Result:
    """Run a profile, or what is left of it, and return its result; see `Schemes.run`."""
    return Result(*SCHEMES.run(profile, **options))


def load(profile: str, *, folder: Path | None = None) -> Result:
    """Return the result of a profile's committed records; see `Schemes.load`."""
    return Result(*SCHEMES.load(profile, folder=folder))
