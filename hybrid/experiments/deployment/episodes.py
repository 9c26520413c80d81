"""A few-shot network on the chip, beside the same in floating point."""

import torch
from torch import Tensor

from hybrid.data.episodes import Episodes
from hybrid.experiments.core.trials import Trial
from hybrid.experiments.deployment.chip import cpu_seconds, rounded, shapes_as_json
from hybrid.experiments.deployment.settings import DeploymentSettings
from hybrid.experiments.few_shot.episodes import batch_of, pool_of
from hybrid.experiments.few_shot.methods import FewShotMethod
from hybrid.experiments.few_shot.run import Tested
from hybrid.experiments.few_shot.settings import FewShotSettings, size_name
from hybrid.learning.episodic import EpisodeBatch
from hybrid.model.few_shot import FewShot
from hybrid.runs.seeds import numpy_stream
from hybrid.runs.store import Json
from hybrid.tianjic.chip import tianjic
from hybrid.tianjic.few_shot import ChipFewShot, host_work, quantize_few_shot
from hybrid.tianjic.fixed import Overflows
from hybrid.tianjic.layer import Options

_CPU = torch.device("cpu")
_CALIBRATED = 300  # training drawings that ranges are taken from
_AT_ONCE = 500  # episodes, or images


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
    numbers = pool.of(pool.split.train)
    calibration = pool.images(numbers[:: max(1, len(numbers) // _CALIBRATED)], own)
    tested = Tested.of(network, pool, pool.split.test, own, _CPU)
    count, overflows = settings.tested or own.test_episodes, Overflows()

    def drawn(ways: int, shots: int) -> Episodes:
        source = numpy_stream(trained.seed, "test episodes", ways, shots)
        return tested.episodes(count, ways, shots, source)

    def in_float(ways: int, shots: int) -> float:
        return round(float(tested.correct(drawn(ways, shots), ways).mean()), 5)

    def on_chip(ways: int, shots: int, lost: Overflows, bits: int = 8) -> float:
        options = Options(weight_bits=bits)
        made = quantize_few_shot(network, calibration, ways * shots, options)
        batch = batch_of(tested.images, drawn(ways, shots), ways, _CPU)
        return round(_answered(made, batch, lost), 5)

    ways, shots = own.tests[0]
    chip = quantize_few_shot(network, calibration, ways * shots)
    shown = torch.arange(ways * shots)
    one = shown.unsqueeze(0), (shown % ways).unsqueeze(0), torch.zeros(1, 1, dtype=torch.int64)
    return {
        "accuracy": {
            "float": {size_name(*size): in_float(*size) for size in own.tests},
            "chip": {size_name(*size): on_chip(*size, overflows) for size in own.tests},
        },
        "tested": count,
        "bits": [[bits, on_chip(ways, shots, Overflows(), bits)] for bits in settings.bits],
        "steps": 1,
        "support": ways * shots,
        "host": host_work(chip, ways, ways * shots, tianjic()),
        "rates": {"chip": _embedding_rates(chip, calibration)},
        "shapes": {
            "chip": shapes_as_json(chip.shapes(ways, ways * shots)),
            "chip, folded": shapes_as_json(chip.shapes(ways, ways * shots, "folded")),
        },
        "overflows": {"chip": dict(overflows.counts)},
        "cpu": {"chip": cpu_seconds(lambda: network(calibration[: ways * shots], *one, ways=ways))},
    }


def _answered(chip: ChipFewShot, batch: EpisodeBatch, overflows: Overflows) -> float:
    """Return the share of right answers on the chip."""
    parts = batch.images.split(_AT_ONCE)
    features = torch.cat([chip.embedding.features(part, overflows) for part in parts])
    right = []
    for part in torch.arange(len(batch.targets)).split(_AT_ONCE):
        support, query = features[batch.support[part]], features[batch.query[part]]
        found = chip.readout.potentials(
            support, batch.labels[part], query, batch.ways, overflows=overflows
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
