"""Few-shot and continual networks on the chip, beside the same in floating point."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from hybrid.experiments import continual, continual_config, few_shot_config
from hybrid.experiments.deployment_config import Config
from hybrid.experiments.deployment_record import (
    cpu_seconds,
    layer_rates,
    rounded,
    shapes_as_json,
)
from hybrid.experiments.few_shot_lessons import bank_of, lesson_of
from hybrid.experiments.few_shot_tests import Examinee
from hybrid.experiments.trials import Trial
from hybrid.learning.continual import Learner
from hybrid.learning.episodic import Lesson
from hybrid.model.few_shot import FewShot
from hybrid.runs.seeds import numpy_stream
from hybrid.runs.store import Json
from hybrid.tianjic.context import quantize_context
from hybrid.tianjic.few_shot import ChipFewShot, quantize_few_shot
from hybrid.tianjic.fixed import Overflows
from hybrid.tianjic.quantize import Options

CPU = torch.device("cpu")
_CALIBRATED = 300  # training images that ranges are taken from
_EPISODES_AT_ONCE = 500
_IMAGES_AT_ONCE = 100


@torch.no_grad()
def deploy_few_shot(trial: Trial, trained: Trial, network: FewShot) -> Json:
    """Return what a few-shot network answers on the chip, and in floating point, by episode size.

    Every image is embedded once; ranges of activations are those of training drawings.
    """
    config, own = trial.config, trained.config
    assert isinstance(config, Config)
    assert isinstance(own, few_shot_config.Config)
    network.eval()
    bank = bank_of(own, trained.seed)
    numbers = (bank.split.train[:, None] * bank.drawings + np.arange(bank.drawings)).ravel()
    calibration = bank.images(numbers[:: max(1, len(numbers) // _CALIBRATED)], own)
    examinee = Examinee.of(network, bank, bank.split.test, own, CPU)
    count = config.tested or own.test_episodes
    accuracy: Json = {"float": {}, "chip": {}}
    overflows, narrow_overflows = Overflows(), Overflows()
    for ways, shots in own.tests:
        name = f"{ways}-way {shots}-shot"
        source = numpy_stream(trained.seed, "test episodes", ways, shots)
        episodes = examinee.episodes(count, ways, shots, source)
        accuracy["float"][name] = round(float(examinee.answers(episodes, ways).mean()), 5)
        chip = quantize_few_shot(network, calibration, ways * shots)
        lesson = lesson_of(examinee.images, episodes, ways, CPU)
        right = _answered(chip, examinee.images, lesson, ways, overflows)
        accuracy["chip"][name] = round(right, 5)
    ways, shots = own.tests[0]
    source = numpy_stream(trained.seed, "test episodes", ways, shots)
    lesson = lesson_of(examinee.images, examinee.episodes(count, ways, shots, source), ways, CPU)
    bits = []
    for width in config.bits:
        narrow = quantize_few_shot(network, calibration, ways * shots, Options(weight_bits=width))
        right = _answered(narrow, examinee.images, lesson, ways, narrow_overflows)
        bits.append([width, round(right, 5)])
    chip = quantize_few_shot(network, calibration, ways * shots)
    looks = torch.arange(ways * shots)
    one = looks.unsqueeze(0), (looks % ways).unsqueeze(0), torch.zeros(1, 1, dtype=torch.int64)
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
    chip: ChipFewShot, images: Tensor, lesson: Lesson, ways: int, overflows: Overflows
) -> float:
    """Return the share of right answers on the chip."""
    features = torch.cat([chip.embedding.features(part, overflows) for part in images.split(500)])
    right = []
    for part in torch.arange(len(lesson.targets)).split(_EPISODES_AT_ONCE):
        found = chip.readout.potentials(
            features[lesson.support[part]],
            lesson.labels[part],
            features[lesson.query[part]],
            ways,
            overflows=overflows,
        )
        right.append(found.argmax(-1) == lesson.targets[part])
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


@torch.no_grad()
def deploy_continual(trial: Trial, trained: Trial, learner: Learner) -> Json:
    """Return what a network answers about each of its tasks after the last one."""
    config, own = trial.config, trained.config
    assert isinstance(config, Config)
    assert isinstance(own, continual_config.Config)
    learner.eval()
    stream = continual.stream_of(own, trained.seed, CPU)
    network, plastic = learner.network, bool(learner.network.meta_parameters())
    names = ["frozen", *(["own trace"] if plastic else [])]
    accuracy: Json = {f"{where}, {n}": {"tasks": []} for n in names for where in ("float", "chip")}
    noted: Json = {"rates": {}, "shapes": {}, "overflows": {}, "cpu": {}}
    for task, view in enumerate(stream.views):
        shown = view.test[: config.tested]
        images = view.inputs(stream.test.inputs[shown])
        answers = view.answers[stream.test.labels[shown]]
        masks = learner.masks(task)
        calibration = view.inputs(stream.train.inputs[view.train[:_CALIBRATED]])
        whole = quantize_context(network, masks, calibration)
        for name in names:
            own_trace = name == "own trace"
            chip = whole if own_trace else whole.frozen()
            float_scores, chip_scores = [], []
            for part in images.split(_IMAGES_AT_ONCE):
                pool = "sample" if own_trace else "batch"
                float_scores.append(network(part, masks, pool=pool, adapt=own_trace).output)
                scores, outcome = chip.scores(part)
                chip_scores.append(scores)
                lost = noted["overflows"].setdefault(f"chip, {name}", {})
                for place, count in outcome.overflows.items():
                    lost[place] = lost.get(place, 0) + count
            for where, parts in (("float", float_scores), ("chip", chip_scores)):
                found = view.choices[torch.cat(parts)[:, view.choices].argmax(-1)]
                right = float((found == answers).float().mean())
                accuracy[f"{where}, {name}"]["tasks"].append(round(right, 5))
            if task == 0:
                rates = layer_rates(outcome)
                # The read-out is sent potentials, hardly ever zero, after the last step.
                sent, classes = chip.weight.shape
                often = round(1.0 / len(network.gain), 4)
                rates |= {"read-out": [often] * sent, "output": [often] * classes}
                noted["rates"][f"chip, {name}"] = rates
                infer = partial(network, images[:1], masks, pool="sample", adapt=own_trace)
                noted["cpu"][f"chip, {name}"] = cpu_seconds(infer)
                noted["shapes"][f"chip, {name}"] = shapes_as_json(chip.shapes())
    return {
        "accuracy": accuracy,
        "tested": len(shown),
        "steps": len(network.gain),
        **noted,
    }
