"""Fault tolerance (paper Fig. 3): train on clean images, test on cropped and noisy ones."""

import torch
from torch import Tensor, nn

from hybrid.data.faults import corrupt
from hybrid.data.images import Images
from hybrid.experiments.core.methods import Method
from hybrid.experiments.core.network import Labelled, Trained, build_network
from hybrid.experiments.core.settings import Levels
from hybrid.experiments.core.trials import Trial
from hybrid.experiments.fault_tolerance.settings import FaultSettings
from hybrid.learning.evaluation import evaluate
from hybrid.runs.seeds import numpy_stream
from hybrid.runs.store import Json

IMAGE = (1, 28, 28)


def build(trial: Trial[FaultSettings, Method]) -> nn.Module:
    """Return the untrained network of a trial."""
    return build_network(trial.settings, trial.method, trial.seed, IMAGE)


def score_faults(trained: Trained[FaultSettings, Method]) -> Json:
    """Return, per protocol and fault, confusion counts and firing rates at each level."""
    trial, network, images, device = trained
    settings = trial.settings
    sets = faulty_images(images, settings.faults, trial.seed).to(device)
    labels = torch.from_numpy(images.test_labels).to(device)
    tests: Json = {}
    for protocol in trial.method.protocols:
        outcome = evaluate(network, sets, labels, protocol, settings.schedule.batch_size)
        counts = [len(levels) for _, levels in settings.faults]
        tests[protocol] = {
            name: {
                "confusion": confusion.tolist(),
                "rates": [[round(rate, 6) for rate in row] for row in rates.tolist()],
            }
            for (name, _), confusion, rates in zip(
                settings.faults,
                outcome.confusion.split(counts),
                outcome.rates.split(counts),
                strict=True,
            )
        }
    return {"tests": tests}


def faulty_images(images: Images, faults: Levels, seed: int) -> Tensor:
    """Return every faulty version of the test set [versions, N, 784], in the order of the faults.

    The noise depends on the seed, the fault and the level, not on the method: methods of one seed
    are compared on the very same pixels.
    """
    count = sum(len(levels) for _, levels in faults)
    sets = torch.empty(count, *images.test.shape).flatten(2)
    rows = iter(sets)
    for name, levels in faults:
        for i, level in enumerate(levels):
            faulty = corrupt(images.test, name, level, numpy_stream(seed, "fault", name, i))
            next(rows).copy_(torch.from_numpy(faulty).flatten(1))
    return sets


TRAINING: Labelled[FaultSettings, Method] = Labelled(test=score_faults)
