"""Continual learning (paper Fig. 5): tasks one after the other, and what is left of the first."""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hybrid.data.tasks import Task, permuted, split
from hybrid.experiments.continual.methods import ContinualMethod, build
from hybrid.experiments.continual.settings import ContinualSettings
from hybrid.experiments.core.samples import (
    images_for,
    number_of_classes,
    shape_of,
)
from hybrid.experiments.core.splits import split_numbers
from hybrid.experiments.core.trials import Begun, Place, Trial, learned_theta
from hybrid.learning.continual import (
    Learner,
    Stream,
    StreamTraining,
    View,
    accuracy_on,
    prepared,
)
from hybrid.learning.fitting import EpochLog
from hybrid.learning.iteration import Split
from hybrid.runs.seeds import numpy_stream, torch_stream
from hybrid.runs.store import Json

_SHOWN = 500  # test images that the overlap of representations is measured with


def build_learner(trial: Trial[ContinualSettings, ContinualMethod]) -> Learner:
    """Return the untrained learner of a trial."""
    tasks = tasks_of(trial.settings, trial.seed)
    outputs = len(np.unique(np.concatenate([task.choices for task in tasks])))
    return build(trial.settings, trial.method, trial.seed, outputs)


def begin(trial: Trial[ContinualSettings, ContinualMethod], place: Place) -> Begun:
    """Prepare learning one stream, tested after each task; see `fit` for checkpoints."""
    settings, method = trial.settings, trial.method
    learner = build_learner(trial).to(place.device)
    stream = stream_of(settings, trial.seed, place.device)
    schedule, epochs = settings.schedule, settings.epochs + method.extra_epochs
    if method.gated:
        schedule = replace(schedule, lr_weight=settings.lr_gated)
    schedule = replace(schedule, epochs=epochs * settings.tasks)
    training = StreamTraining(
        epochs=epochs,
        joint=method.joint,
        meta=method.meta,
        meta_tasks=settings.meta_tasks,
        fresh=settings.fresh,
        fisher_samples=settings.penalty.fisher_samples,
    )
    order = partial(torch_stream, trial.seed, "order")
    kept = {"checkpoint": place.checkpoint, "title": trial.name}
    how = prepared(learner, stream, training, schedule, order, **kept)  # type: ignore[arg-type]
    return Begun(how, lambda logs: _finish(trial, learner, stream, logs))


def _finish(
    trial: Trial[ContinualSettings, ContinualMethod],
    learner: Learner,
    stream: Stream,
    logs: list[EpochLog],
) -> tuple[Json, Learner]:
    """Test a network that has learned all tasks; return the result of its record, and it."""
    method, size = trial.method, trial.settings.schedule.batch_size
    final: dict[str, list[float]] = {protocol: [] for protocol in method.protocols}
    for protocol in method.protocols:
        asked: dict[str, Any] = {"batch_size": size, "protocol": protocol}
        for task, view in enumerate(stream.views):
            share = accuracy_on(learner, stream, task, stream.test, view.test, **asked)
            final[protocol].append(round(share, 5))
    table = learner.accuracy.tolist()
    result: Json = {
        "epochs": [log.record() for log in logs],
        "accuracy": [[None if np.isnan(x) else round(x, 5) for x in row] for row in table],
        "representations": representations(learner, stream),
        "meta": learned_theta(learner.network),
        "final": final,
    }
    return result, learner


def tasks_of(settings: ContinualSettings, seed: int) -> tuple[Task, ...]:
    """Return the tasks of a trial."""
    classes = number_of_classes(settings.dataset)
    if settings.stream != "permuted":
        return split(settings.stream, classes)
    source = None if settings.authors_permutations else numpy_stream(seed, "permutations")
    return permuted(settings.tasks, math.prod(shape_of(settings.dataset)), classes, source)


def stream_of(settings: ContinualSettings, seed: int, device: torch.device) -> Stream:
    """Return the stream of a trial; which images are held out depends on the seed."""
    images = images_for(settings)
    kept, held_out = split_numbers(settings, seed, images)

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(device)

    train = Split(tensor(images.train).flatten(1), tensor(images.train_labels))
    test = Split(tensor(images.test).flatten(1), tensor(images.test_labels))
    judged = np.arange(len(test.labels))
    if settings.judged_on == "validation":
        test, judged = train, held_out
    labels = test.labels.cpu().numpy()
    views = []
    for pixels, classes, answers, choices in tasks_of(settings, seed):
        own_train = np.isin(images.train_labels, classes)
        views.append(
            View(
                None if pixels is None else tensor(pixels),
                tensor(kept[own_train[kept]]),
                tensor(held_out[own_train[held_out]]),
                tensor(judged[np.isin(labels[judged], classes)]),
                tensor(answers),
                tensor(choices),
            )
        )
    return Stream(train, test, tuple(views))


@torch.no_grad()
def representations(learner: Learner, stream: Stream) -> Json:
    """Return, per hidden layer, how alike tasks are represented and how many neurons spike.

    "overlap" is the cosine between the mean spike counts of two tasks [layers, tasks, tasks],
    "active" the share of neurons that spike for at least one of the images [layers, tasks].
    """
    learner.eval()
    means: list[list[Tensor]] = []
    for task, view in enumerate(stream.views):
        inputs = view.inputs(stream.test.inputs[view.test[:_SHOWN]])
        counts = learner.network(inputs, learner.masks(task)).spike_counts()
        means.append([count.mean(0) for count in counts])
    overlap, active = [], []
    for layer in zip(*means, strict=True):
        table = torch.stack(layer)  # [tasks, neurons]
        unit = torch.nn.functional.normalize(table, dim=1)
        overlap.append([[round(x, 4) for x in row] for row in (unit @ unit.T).tolist()])
        active.append([round(x, 4) for x in (table > 0.0).float().mean(1).tolist()])
    return {"overlap": overlap, "active": active}
