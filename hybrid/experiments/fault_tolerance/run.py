"""Fault tolerance (paper Fig. 3): train on clean images, test on cropped and noisy ones."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from hybrid.data.faults import corrupt
from hybrid.data.images import Images
from hybrid.experiments.core.methods import Method
from hybrid.experiments.core.network import (
    Answer,
    Labelled,
    Trained,
    plastic_layers,
    score,
    ways_to_answer,
)
from hybrid.experiments.core.settings import Levels
from hybrid.experiments.core.splits import split_numbers
from hybrid.experiments.fault_tolerance.arrivals import Arrival, arrivals
from hybrid.experiments.fault_tolerance.methods import augmentation
from hybrid.experiments.fault_tolerance.settings import FaultSettings
from hybrid.runs.seeds import numpy_stream
from hybrid.runs.store import Json

BATCHES = (10, 1000)  # images of a batch, beside the usual 100
_POOLED = ("batch", "offset", "currents-batch")  # whose answers depend on it


def score_faults(trained: Trained[FaultSettings, Method]) -> Json:
    """Return, per protocol and fault, counts and firing rates at each level.

    Confusion counts for the protocols of the method, right answers for corrections. Beside them:
    how images that arrive in other ways are answered, and how much of a local current is an
    image's overlap with itself.
    """
    trial, network, images, device = trained
    settings, size = trial.settings, trial.settings.schedule.batch_size
    if settings.judged_on == "validation":
        held_out = split_numbers(settings, trial.seed, images)[1]
        images = replace(
            images, test=images.train[held_out], test_labels=images.train_labels[held_out]
        )
    sets = faulty_images(images, settings.faults, trial.seed).to(device)
    labels = torch.from_numpy(images.test_labels).to(device)
    ways = ways_to_answer(
        network,
        trial.method.protocols,
        settings.corrections,
        settings.rates,
        lambda: torch.from_numpy(images.train).flatten(1).to(device),
    )
    result: Json = {
        "tests": score(
            ways, sets, labels, settings.faults, size=size, classes=settings.dense[-1].size
        )
    }
    if settings.arrivals:
        coming = arrivals(images, trial.seed)
        result["arrivals"] = score_arrivals(ways, coming, size, device)
    hidden = plastic_layers(network)[:1]
    for layer in hidden:  # of the first layer, and of the images alone: Σ_j x_j² · rate_j · gain
        meta = layer.synapse().meta
        assert meta is not None
        shown = torch.from_numpy(images.test).flatten(1).to(device)
        overlap = (shown.square() @ meta.local_rate).mean() * meta.local_gain
        result["overlap"] = round(overlap.item(), 6)
    return result


def score_arrivals(
    ways: Mapping[str, Answer], coming: list[Arrival], size: int, device: torch.device
) -> list[Json]:
    """Return right answers to images that arrive in other ways, one entry for each part."""
    sets = torch.stack([arrival.inputs for arrival in coming]).to(device)
    found: list[Json] = []

    def count(name: str, arrival: Arrival, answers: Tensor, size: int | None = None) -> None:
        right = answers == arrival.labels.to(device)
        for level, first, end in arrival.parts:
            entry = {"protocol": name, "condition": arrival.name, "level": size or level}
            found.append({**entry, "right": int(right[first:end].sum()), "of": end - first})

    for name, way in ways.items():
        for arrival, answers in zip(coming, way(sets, size).classes, strict=True):
            count(name, arrival, answers)
        for other in BATCHES if name in _POOLED else ():
            count(name, coming[0], way(sets[:1], other).classes[0], other)
        if name == "sample":  # a batch of one has a trace of its own
            count("batch", coming[0], way(sets[:1], 1).classes[0], 1)
        elif name in _POOLED and name != "batch":
            count(name, coming[0], way(sets[:1], 1).classes[0], 1)
    return found


def faulty_images(images: Images, faults: Levels, seed: int) -> Tensor:
    """Return every faulty version of the test set [versions, N, in], in the order of the faults.

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


TRAINING: Labelled[FaultSettings, Method] = Labelled(test=score_faults, augment=augmentation)
