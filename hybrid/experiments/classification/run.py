"""Classification (paper Fig. 2): LP, GP and HP on images and sequences, with several codes,
neuron models and local rules, in fully connected and in convolutional networks.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from hybrid.data.augment import crop_and_flip
from hybrid.experiments.classification.settings import ClassificationSettings, samples_of
from hybrid.experiments.core.methods import Method
from hybrid.experiments.core.network import (
    Labelled,
    Trained,
    build_network,
    plastic_layers,
)
from hybrid.experiments.core.samples import flat
from hybrid.experiments.core.trials import Trial
from hybrid.learning.evaluation import AnswerCurve, answer_curve
from hybrid.learning.fitting import seeded
from hybrid.learning.training import Augment
from hybrid.model.networks import HybridNetwork
from hybrid.runs.seeds import torch_stream
from hybrid.runs.store import Json

SCALES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)  # of the learned gains, for the sensitivity to θ
# Of CIFAR-10, as the authors normalise it.
_MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
_DEVIATION = torch.tensor([0.2023, 0.1994, 0.2010]).view(3, 1, 1)


def build(trial: Trial[ClassificationSettings, Method]) -> nn.Module:
    """Return the untrained network of a trial."""
    return build_network(trial.settings, trial.method, trial.seed, trial.settings.image)


def inputs_of(settings: ClassificationSettings, pixels: np.ndarray) -> Tensor:
    """Return images as network inputs [N, in]: grey ones as they are, colour ones normalised."""
    if not settings.colour:
        return flat(settings, pixels)
    return ((torch.from_numpy(pixels) - _MEAN) / _DEVIATION).flatten(1)


def augmentation(trial: Trial[ClassificationSettings, Method]) -> Augment | None:
    """Return the random change of training batches: what is shifted in is black."""
    return _shifted_and_mirrored if trial.settings.augment else None


def _shifted_and_mirrored(inputs: Tensor, generator: torch.Generator) -> Tensor:
    black = (-_MEAN / _DEVIATION).to(inputs.device)
    images = inputs.unflatten(1, (3, 32, 32))
    return crop_and_flip(images, generator, fill=black).flatten(1)


def score_answers(trained: Trained[ClassificationSettings, Method]) -> Json:
    """Return confusions, answers at each step and what they cost, under each protocol."""
    protocols = trained.trial.method.protocols
    return {"tests": {name: as_json(_curve(trained, name)) for name in protocols}}


def examine(trained: Trained[ClassificationSettings, Method]) -> Json:
    """Return the sensitivity to θ and one image's spikes."""
    network = trained.network
    result: Json = {}
    gains = [layer.theta.local_gain for layer in plastic_layers(network)]
    if gains:
        learned = [gain.detach().clone() for gain in gains]
        result["sensitivity"] = []
        for scale in SCALES:
            _scale(gains, learned, scale)
            confusion = _curve(trained, trained.trial.method.protocols[0]).confusion
            result["sensitivity"].append([scale, int(confusion.trace())])
        _scale(gains, learned, 1.0)
    first = inputs_of(trained.trial.settings, trained.samples.test[:1]).to(trained.device)
    return result | {"raster": _raster(network, first)}


def _curve(trained: Trained[ClassificationSettings, Method], protocol: str) -> AnswerCurve:
    trial, network, images, device = trained
    settings = trial.settings
    inputs = inputs_of(settings, images.test).to(device)
    labels = torch.from_numpy(images.test_labels).to(device)
    with seeded(torch_stream(trial.seed, "test")):  # spike codes draw
        adapt = protocol != "frozen"
        return answer_curve(network, inputs, labels, settings.schedule.batch_size, adapt=adapt)


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


def as_json(curve: AnswerCurve) -> Json:
    """Return what a record keeps of the answers; `silent` where there are any."""
    return {
        "confusion": curve.confusion.tolist(),
        "looks": curve.asked.tolist(),
        "correct": curve.correct.tolist(),
        "spikes": [[round(count, 3) for count in row] for row in curve.spikes.tolist()],
        "latency": round(curve.latency, 4),
    } | ({"silent": curve.silent} if curve.silent else {})


TRAINING: Labelled[ClassificationSettings, Method] = Labelled(
    samples=samples_of,
    test=score_answers,
    examine=examine,
    selects=True,
    inputs=inputs_of,
    augment=augmentation,
)
