"""A fault-tolerance network whose images come one by one, its trace kept by a host."""

import torch
from torch import Tensor

from hybrid.experiments.deployment.settings import DeploymentSettings
from hybrid.learning.evaluation import answer
from hybrid.model.networks import FullyConnected
from hybrid.runs.store import Json
from hybrid.tianjic.chip import tianjic
from hybrid.tianjic.cores import Limits
from hybrid.tianjic.layer import HOSTED
from hybrid.tianjic.quantize import quantize
from hybrid.tianjic.stream import answer_stream, rewriting


def on_stream(
    settings: DeploymentSettings,
    network: FullyConnected,
    sets: dict[str, Tensor],
    labels: Tensor,
) -> Json:
    """Return accuracies of streams in floating point and on the chip, and what a host adds.

    Also of a stream whose synapses are never rewritten, on the same images.

    Args:
        settings: say how often synapses are rewritten.
        network: trained; each stream starts from the trace that training has left.
        sets: by fault, a stream for each level [levels, N, in].
        labels: of the images [N].
    """
    chip, limits = quantize(network, HOSTED), Limits.of(tianjic())

    def shares(classes: Tensor) -> list[float]:
        right = (classes == labels).double().mean(-1)
        return [round(value, 5) for value in right.tolist()]

    accuracy: Json = {
        "float, stream": {
            name: shares(answer(network, levels, "stream", len(labels)).classes)
            for name, levels in sets.items()
        }
    }
    found: Json = {"accuracy": accuracy, "overflows": {}, "rewritten": {}}
    for every in (*settings.streamed, len(labels)):
        form = form_of(every, len(labels))
        accuracy[form], lost = {}, found["overflows"].setdefault(form, {})
        upkeep: list[Json] = []
        for name, levels in sets.items():
            runs = [answer_stream(chip, images, every=every, limits=limits) for images in levels]
            accuracy[form][name] = shares(torch.stack([run.classes for run in runs]))
            upkeep += [rewriting(run, tianjic()) for run in runs]
            for run in runs:
                for place, count in run.overflows.items():
                    lost[place] = lost.get(place, 0) + count
        if every < len(labels):
            found["rewritten"][form] = {"every": every} | {
                key: round(sum(own[key] for own in upkeep) / len(upkeep), 9) for key in upkeep[0]
            }
    return found


def form_of(every: int, images: int) -> str:
    """Return what a stream is called whose synapses are rewritten after so many images."""
    if every >= images:
        return "chip, stream, never rewritten"
    return "chip, stream" if every == 1 else f"chip, stream by {every}"
