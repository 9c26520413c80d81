"""A continual-learning network on the chip, beside the same in floating point."""

from functools import partial

import torch

from hybrid.experiments.continual.methods import ContinualMethod
from hybrid.experiments.continual.run import stream_of
from hybrid.experiments.continual.settings import ContinualSettings
from hybrid.experiments.core.trials import Trial
from hybrid.experiments.deployment.chip import count_lost, cpu_seconds, layer_rates, shapes_as_json
from hybrid.experiments.deployment.settings import DeploymentSettings
from hybrid.learning.continual import Learner
from hybrid.runs.store import Json
from hybrid.tianjic.context import quantize_context
from hybrid.tianjic.layer import DEFAULT, FROZEN

_CPU = torch.device("cpu")
_CALIBRATED = 300  # training images that ranges are taken from
_AT_ONCE = 100  # images


@torch.no_grad()
def deploy_tasks(
    settings: DeploymentSettings,
    trained: Trial[ContinualSettings, ContinualMethod],
    learner: Learner,
) -> Json:
    """Return what a network answers about each of its tasks after the last one."""
    learner.eval()
    stream = stream_of(trained.settings, trained.seed, _CPU)
    network, plastic = learner.network, bool(learner.network.meta_parameters())
    names = ["frozen", *(["own trace"] if plastic else [])]
    accuracy: Json = {f"{where}, {n}": {"tasks": []} for n in names for where in ("float", "chip")}
    noted: Json = {"rates": {}, "shapes": {}, "overflows": {}, "cpu": {}}
    for task, view in enumerate(stream.views):
        shown = view.test[: settings.tested]
        images = view.inputs(stream.test.inputs[shown])
        answers = view.answers[stream.test.labels[shown]]
        masks = learner.masks(task)
        calibration = view.inputs(stream.train.inputs[view.train[:_CALIBRATED]])
        for name in names:
            own_trace = name == "own trace"
            options = DEFAULT if own_trace else FROZEN
            chip = quantize_context(network, masks, calibration, options)
            float_scores, chip_scores = [], []
            for part in images.split(_AT_ONCE):
                pool = "sample" if own_trace else "batch"
                float_scores.append(network(part, masks, pool=pool, adapt=own_trace).output)
                scores, outcome = chip.scores(part)
                chip_scores.append(scores)
                count_lost(noted["overflows"].setdefault(f"chip, {name}", {}), outcome)
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
    return {"accuracy": accuracy, "tested": len(shown), "steps": len(network.gain), **noted}
