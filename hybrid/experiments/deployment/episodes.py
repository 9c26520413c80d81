"""A few-shot network on the chip, beside the same in floating point."""

import numpy as np
import torch
from torch import Tensor

from hybrid.experiments.core.trials import Trial
from hybrid.experiments.deployment.record import cpu_seconds, rounded, shapes_as_json
from hybrid.experiments.deployment.settings import DeploymentSettings
from hybrid.experiments.few_shot.episodes import batch_of, pool_of
from hybrid.experiments.few_shot.evaluation import Tested
from hybrid.experiments.few_shot.methods import FewShotMethod
from hybrid.experiments.few_shot.settings import FewShotSettings, size_name
from hybrid.learning.episodic import EpisodeBatch
from hybrid.model.few_shot import FewShot
from hybrid.runs.seeds import numpy_stream
from hybrid.runs.store import Json
from hybrid.tianjic.few_shot import ChipFewShot, quantize_few_shot
from hybrid.tianjic.fixed import Overflows
from hybrid.tianjic.quantize import Options

_CPU = torch.device("cpu")
_CALIBRATED = 300  # training drawings that ranges are taken from
_AT_ONCE = 500  # episodes


@torch.no_grad()
def deploy_episodes(
    settings: DeploymentSettings, trained: Trial[FewShotSettings, FewShotMethod], network: FewShot
) -> Json:
    """Return what a few-shot network answers on the chip, and in floating point, by episode size.

    Every image is embedded once; ranges of activations are those of training drawings.
    """
    own = trained.settings
    network.eval()
    pool = pool_of(own, trained.seed)
    numbers = (pool.split.train[:, None] * pool.drawings + np.arange(pool.drawings)).ravel()
    calibration = pool.images(numbers[:: max(1, len(numbers) // _CALIBRATED)], own)
    tested = Tested.of(network, pool, pool.split.test, own, _CPU)
    count = settings.tested or own.test_episodes
    accuracy: Json = {"float": {}, "chip": {}}
    overflows, narrow_overflows = Overflows(), Overflows()
    for ways, shots in own.tests:
        name = size_name(ways, shots)
        source = numpy_stream(trained.seed, "test episodes", ways, shots)
        episodes = tested.episodes(count, ways, shots, source)
        accuracy["float"][name] = round(float(tested.correct(episodes, ways).mean()), 5)
        chip = quantize_few_shot(network, calibration, ways * shots)
        batch = batch_of(tested.images, episodes, ways, _CPU)
        right = _answered(chip, tested.images, batch, ways, overflows)
        accuracy["chip"][name] = round(right, 5)
    ways, shots = own.tests[0]
    source = numpy_stream(trained.seed, "test episodes", ways, shots)
    batch = batch_of(tested.images, tested.episodes(count, ways, shots, source), ways, _CPU)
    bits = []
    for width in settings.bits:
        narrow = quantize_few_shot(network, calibration, ways * shots, Options(weight_bits=width))
        right = _answered(narrow, tested.images, batch, ways, narrow_overflows)
        bits.append([width, round(right, 5)])
    chip = quantize_few_shot(network, calibration, ways * shots)
    shown = torch.arange(ways * shots)
    one = shown.unsqueeze(0), (shown % ways).unsqueeze(0), torch.zeros(1, 1, dtype=torch.int64)
    return {
        "accuracy": accuracy,
        "tested": count,
        "bits": bits,
        "steps": 1,
        "rates": {"chip": _embedding_rates(chip, calibration)},
        "shapes": {
            "chip": shapes_as_json(chip.shapes(ways, ways * shots)),
            "chip, folded": shapes_as_json(chip.shapes(ways, ways * shots, "folded")),
        },
        "overflows": {"chip": dict(overflows.counts)},
        "cpu": {"chip": cpu_seconds(lambda: network(calibration[: ways * shots], *one, ways=ways))},
    }


def _answered(
    chip: ChipFewShot, images: Tensor, batch: EpisodeBatch, ways: int, overflows: Overflows
) -> float:
    """Return the share of right answers on the chip."""
    features = torch.cat([chip.embedding.features(part, overflows) for part in images.split(500)])
    right = []
    for part in torch.arange(len(batch.targets)).split(_AT_ONCE):
        found = chip.readout.potentials(
            features[batch.support[part]],
            batch.labels[part],
            features[batch.query[part]],
            ways,
            overflows=overflows,
        )
        right.append(found.argmax(-1) == batch.targets[part])
    return float(torch.cat(right).float().mean())


def _embedding_rates(chip: ChipFewShot, images: Tensor) -> Json:
    """Return how often each number that enters a layer is not zero."""
    stages = list(chip.embedding.stages(images, Overflows()))
    names = [*(f"convolution {i}" for i in range(1, len(stages))), "read-out"]
    rates = {
        name: rounded((x != 0).flatten(1).sum(0), len(x))
        for name, x in zip(names, stages, strict=True)
    }
    ways = chip.readout.weight.shape[1]
    return rates | {"output": [1.0] * ways}
