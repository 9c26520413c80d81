"""Continual learning (paper Fig. 5): tasks one after the other, and what is left of the first."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hybrid.data.images import CLASSES
from hybrid.data.tasks import Task, permuted, split
from hybrid.experiments.continual_config import Config
from hybrid.experiments.continual_methods import METHODS, ContinualMethod, build, lessons
from hybrid.experiments.continual_plans import PLANS
from hybrid.experiments.continual_results import Result
from hybrid.experiments.image_trials import images_of, split_numbers
from hybrid.experiments.plans import Schemes
from hybrid.experiments.trials import Trial, final_meta
from hybrid.learning.continual import Learner, Stream, View, accuracy_on, learn_stream
from hybrid.learning.training import Split
from hybrid.runs.seeds import numpy_stream, torch_stream
from hybrid.runs.store import Json

_SHOWN = 500  # test images that the overlap of representations is measured with


@dataclass(frozen=True)
class ContinualExperiment:
    """Streams of tasks; see `hybrid.experiments.trials.Experiment`."""

    name: str = "continual"

    def data_sha256(self, dataset: str) -> str:
        """Return a hash of an image set, after fetching it."""
        return images_of(dataset).sha256()

    def build(self, trial: Trial) -> Learner:
        """Return the untrained learner of a trial."""
        config, method = _own(trial)
        outputs = len(np.unique(np.concatenate([t.choices for t in tasks_of(config, trial.seed)])))
        return build(config, method, trial.seed, outputs)

    def run(
        self, trial: Trial, device: torch.device, checkpoint: Path | None = None
    ) -> tuple[Json, Learner]:
        """Learn one stream, testing after each task; see `fit` for what `checkpoint` does."""
        config, method = _own(trial)
        learner, stream = self.build(trial).to(device), stream_of(config, trial.seed, device)
        logs = learn_stream(
            learner,
            stream,
            lessons(config, method),
            config.schedule(method.gated),
            lambda epoch: torch_stream(trial.seed, "order", epoch),
            checkpoint=checkpoint,
            title=trial.title,
        )
        accuracy = [
            [None if np.isnan(value) else round(value, 5) for value in row]
            for row in learner.accuracy.tolist()
        ]
        result: Json = {
            "epochs": [vars(log) for log in logs],
            "accuracy": accuracy,
            "representations": representations(learner, stream),
            "meta": final_meta(learner.network),
        }
        result["final"] = {
            protocol: [
                round(
                    accuracy_on(
                        learner,
                        stream,
                        task,
                        stream.test,
                        view.test,
                        batch_size=config.batch_size,
                        protocol=protocol,
                    ),
                    5,
                )
                for task, view in enumerate(stream.views)
            ]
            for protocol in method.protocols
        }
        return result, learner


def tasks_of(config: Config, seed: int) -> tuple[Task, ...]:
    """Return the tasks of a trial."""
    classes = len(CLASSES[config.dataset])
    if config.stream != "permuted":
        return split(config.stream, classes)
    source = None if config.authors_permutations else numpy_stream(seed, "permutations")
    return permuted(config.tasks, 28 * 28, classes, source)


def stream_of(config: Config, seed: int, device: torch.device) -> Stream:
    """Return the stream of a trial; which images are held out depends on the seed."""
    images = images_of(config.dataset)
    kept, held_out = split_numbers(config, seed, images)

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(device)

    views = []
    for pixels, classes, answers, choices in tasks_of(config, seed):
        own_train = np.isin(images.train_labels, classes)
        views.append(
            View(
                None if pixels is None else tensor(pixels),
                tensor(kept[own_train[kept]]),
                tensor(held_out[own_train[held_out]]),
                tensor(np.isin(images.test_labels, classes).nonzero()[0]),
                tensor(answers),
                tensor(choices),
            )
        )
    train = Split(tensor(images.train).flatten(1), tensor(images.train_labels))
    test = Split(tensor(images.test).flatten(1), tensor(images.test_labels))
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


def _own(trial: Trial) -> tuple[Config, ContinualMethod]:
    assert isinstance(trial.config, Config)
    assert isinstance(trial.method, ContinualMethod)
    return trial.config, trial.method


EXPERIMENT = ContinualExperiment()
SCHEMES = Schemes(experiment=EXPERIMENT, methods=METHODS, plans=PLANS)


def run(profile: str, **options: Any) -> Result:
    """Run a profile, or what is left of it, and return its result; see `Schemes.run`."""
    return Result(*SCHEMES.run(profile, **options))


def load(profile: str, *, folder: Path | None = None) -> Result:
    """Return the result of a profile's committed records; see `Schemes.load`."""
    return Result(*SCHEMES.load(profile, folder=folder))
