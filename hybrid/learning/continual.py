"""Learning tasks one after the other, and testing all of them after each."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from hybrid.checks import one_of, require
from hybrid.learning.consolidation import Consolidation, fisher_information
from hybrid.learning.evaluation import Protocol, accuracy
from hybrid.learning.fitting import EpochLog, fit
from hybrid.learning.iteration import Split
from hybrid.learning.schedule import Schedule
from hybrid.learning.training import one_hot_mse
from hybrid.model.networks import ContextGated, Masks

MetaEpoch = Literal["none", "replay", "own"]


class View(NamedTuple):
    """How one task sees a stream's images; numbers are of images."""

    pixels: Tensor | None  # order of the pixels [in]; None: as they are
    train: Tensor  # [N]
    validation: Tensor
    test: Tensor
    answers: Tensor  # of each class [classes]
    choices: Tensor  # answers to choose among, where the task is known

    def inputs(self, images: Tensor) -> Tensor:
        """Return images as the task shows them [N, in]."""
        return images if self.pixels is None else images[:, self.pixels]


class Stream(NamedTuple):
    """Images, and the tasks made of them in their order."""

    train: Split
    test: Split
    views: tuple[View, ...]


@dataclass(frozen=True, kw_only=True)
class StreamTraining:
    """How a stream is learned.

    Args:
        epochs: of each task.
        joint: each image of a batch is of a task of its own, also of one to come: what a network
            without masks can do in as many steps if there is no order of tasks.
        meta: what θ learns from after each task. "replay": batches of random earlier tasks, which
            have to be stored (authors); "own": of the task that has just been learned.
        meta_tasks: number of tasks after which θ learns; the authors': 35 of 50.
        fresh: whether each task starts with new moments of Adam, but for "joint"; the authors' go
            on, so that weights of earlier tasks still move for a while.
        fisher_samples: images that a task's Fisher information is estimated from.
    """

    epochs: int
    joint: bool = False
    meta: MetaEpoch = "none"
    meta_tasks: int = 35
    fresh: bool = True
    fisher_samples: int = 1000

    def __post_init__(self) -> None:
        for name in ("epochs", "fisher_samples"):
            require(self, name, getattr(self, name) >= 1, ">= 1")
        one_of(self, "meta", MetaEpoch)


class Learner(nn.Module):
    """A network, what holds its weights, and what it has come to: all that a checkpoint keeps.

    Args:
        network: learns the tasks.
        consolidation: of its weights.
        tasks: number of tasks of the stream.
        masks: gives the masks of each task; None for a network that is not told the task.

    `accuracy` [tasks + 1, tasks] holds the fraction of correct answers on each task (column) before
    the first and after each task (row); NaN where it was not tested: beyond the task to come,
    once learning has begun.
    """

    done: Tensor
    accuracy: Tensor

    def __init__(
        self,
        network: ContextGated,
        consolidation: Consolidation,
        tasks: int,
        masks: Callable[[int], Masks] | None,
    ) -> None:
        super().__init__()
        self.network, self.consolidation, self._draw = network, consolidation, masks
        self._known: dict[int, Masks] = {}
        self._present: tuple[int, torch.device, Masks] | None = None
        self.register_buffer("done", torch.zeros((), dtype=torch.int64))  # epochs
        self.register_buffer("accuracy", torch.full((tasks + 1, tasks), float("nan")))

    def masks(self, task: int) -> Masks | None:
        """Return the masks of a task, or None; those of all tasks are kept as bare positions."""
        if self._draw is None:
            return None
        device = self.done.device
        if self._present is None or self._present[:2] != (task, device):
            if task not in self._known:
                self._known[task] = self._draw(task)
            # What a mask finds out about itself in use goes when the next task comes.
            self._present = (task, device, [mask.to(device) for mask in self._known[task]])
        return self._present[2]


def learn_stream(
    learner: Learner,
    stream: Stream,
    training: StreamTraining,
    schedule: Schedule,
    order: Callable[[int], torch.Generator],
    *,
    checkpoint: Path | None = None,
    title: str = "training",
) -> list[EpochLog]:
    """Train on all tasks in order, fill in `learner.accuracy`, and return one log per epoch.

    A log's validation accuracy is the present task's. After a kill, training goes on from the last
    whole epoch, see `fit`.

    Raises:
        NonFiniteLossError: see `fit`.
        ValueError: if the schedule's epochs are not those of all tasks.
    """
    if schedule.epochs != (needed := training.epochs * len(stream.views)):
        raise ValueError(
            f"schedule.epochs = {schedule.epochs}: {len(stream.views)} tasks of {training.epochs} "
            f"epochs take {needed}"
        )
    network = learner.network
    trainer = _Trainer(
        learner,
        stream,
        training,
        schedule,
        schedule.optimisers(network.weight_parameters(), []),
        schedule.optimisers([], network.meta_parameters()),
    )
    return fit(
        learner,
        [*trainer.of_weights, *trainer.of_meta],
        schedule,
        trainer.steps,
        trainer.validate,
        order,
        checkpoint=checkpoint,
        title=title,
        steps_per_epoch=ceil(len(stream.views[0].train) / schedule.batch_size),
    )


class _Trainer(NamedTuple):
    """All that the steps of an epoch need."""

    learner: Learner
    stream: Stream
    training: StreamTraining
    schedule: Schedule
    of_weights: list[torch.optim.Optimizer]
    of_meta: list[torch.optim.Optimizer]

    def steps(self, generator: torch.Generator) -> Iterator[float]:
        """Train for one epoch, and after the last one of a task end it."""
        learner, epochs = self.learner, self.training.epochs
        task, epoch = divmod(int(learner.done), epochs)
        if epoch == 0:
            if task == 0:
                self._test(0)
            if self.training.fresh and not self.training.joint:
                for optimiser in self.of_weights:
                    optimiser.state.clear()
        with _at_rest(self.of_meta):
            yield from self._train(task, generator)
        if epoch == epochs - 1:
            learner.consolidation.end_task(lambda: self._fisher(task, generator))
            with _at_rest(self.of_weights):
                yield from self._train_meta(task, generator)
            self._test(task + 1)
        learner.done += 1

    def validate(self) -> float:
        """Return the accuracy on validation images of the task that was learned last."""
        task = (int(self.learner.done) - 1) // self.training.epochs
        return self._accuracy(task, self.stream.train, self.stream.views[task].validation)

    def _train(self, task: int, generator: torch.Generator) -> Iterator[float]:
        """Train the weights for one epoch, as many steps as there are batches of the task."""
        for batch in self._batches(task, generator):
            for optimiser in self.of_weights:
                optimiser.zero_grad()
            mixed = self.training.joint
            loss = self._mixed_loss(batch, generator) if mixed else self._loss(task, batch)
            yield loss.item()
            loss.backward()
            self.learner.consolidation.step(lambda: [o.step() for o in self.of_weights])

    def _train_meta(self, task: int, generator: torch.Generator) -> Iterator[float]:
        """Let θ alone learn for one epoch, from earlier tasks or from this one."""
        replayed = self.training.meta == "replay"
        if self.training.meta == "none" or not self.of_meta or task >= self.training.meta_tasks:
            return
        if replayed and task == 0:
            return  # there is no earlier task yet
        for batch in self._batches(task, generator):
            shown, numbers = task, batch
            if replayed:
                shown = int(torch.randint(task, (), generator=generator))
                numbers = self._draw(shown, len(batch), generator)
            for optimiser in self.of_meta:
                optimiser.zero_grad()
            loss = self._loss(shown, numbers)
            if not loss.isfinite():
                yield loss.item()  # ends the training; else logs are of the weights' loss
            loss.backward()
            for optimiser in self.of_meta:
                optimiser.step()

    def _batches(self, task: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return batches of a task's images in random order."""
        numbers = self.stream.views[task].train
        shuffled = torch.randperm(len(numbers), generator=generator).to(numbers.device)
        return numbers[shuffled].split(self.schedule.batch_size)

    def _draw(self, task: int, count: int, generator: torch.Generator) -> Tensor:
        """Return some of a task's images, drawn with replacement."""
        numbers = self.stream.views[task].train
        return numbers[torch.randint(len(numbers), (count,), generator=generator)]

    def _loss(self, task: int, numbers: Tensor) -> Tensor:
        """Return the loss on images of a task."""
        self.learner.train()
        inputs = self.stream.views[task].inputs(self.stream.train.inputs[numbers])
        output = self.learner.network(inputs, self.learner.masks(task)).output
        return self._error(task, numbers, output)

    def _mixed_loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss on as many images as a batch has, of random tasks."""
        self.learner.train()
        views, images = self.stream.views, self.stream.train.inputs
        counts = torch.randint(len(views), (len(batch),), generator=generator).bincount().tolist()
        parts = [(task, self._draw(task, n, generator)) for task, n in enumerate(counts) if n]
        inputs = [views[task].inputs(images[numbers]) for task, numbers in parts]
        outputs = self.learner.network(torch.cat(inputs)).output.split([len(x) for x in inputs])
        errors = [
            len(numbers) * self._error(task, numbers, output)
            for (task, numbers), output in zip(parts, outputs, strict=True)
        ]
        return torch.stack(errors).sum() / len(batch)

    def _error(self, task: int, numbers: Tensor, output: Tensor) -> Tensor:
        """Return the mean squared error of the outputs that a task has to do with."""
        view = self.stream.views[task]
        labels = view.answers[self.stream.train.labels[numbers]]
        return one_hot_mse(output[:, view.choices], torch.searchsorted(view.choices, labels))

    def _fisher(self, task: int, generator: torch.Generator) -> list[Tensor]:
        view, count = self.stream.views[task], self.training.fisher_samples
        chosen = view.train[torch.randperm(len(view.train), generator=generator)[:count]]
        images, masks = view.inputs(self.stream.train.inputs[chosen]), self.learner.masks(task)
        return fisher_information(
            self.learner.network, images, generator, masks=masks, choices=view.choices
        )

    def _test(self, row: int) -> None:
        """Fill a row of the accuracies: all tasks so far and the next one; before all, all."""
        views = self.stream.views
        for task, view in enumerate(views[: row + 1] if row else views):
            found = self._accuracy(task, self.stream.test, view.test)
            self.learner.accuracy[row, task] = found

    def _accuracy(self, task: int, data: Split, numbers: Tensor) -> float:
        size = self.schedule.batch_size
        return accuracy_on(self.learner, self.stream, task, data, numbers, batch_size=size)


@contextmanager
def _at_rest(optimisers: list[torch.optim.Optimizer]) -> Iterator[None]:
    """Spare the gradients of what some optimisers train: a quarter of an iteration of HP."""
    tensors = [x for o in optimisers for group in o.param_groups for x in group["params"]]
    for tensor in tensors:
        tensor.requires_grad_(False)
    try:
        yield
    finally:
        for tensor in tensors:
            tensor.requires_grad_(True)


@torch.no_grad()
def accuracy_on(
    learner: Learner,
    stream: Stream,
    task: int,
    data: Split,
    numbers: Tensor,
    *,
    batch_size: int,
    protocol: Protocol = "batch",
) -> float:
    """Return the fraction of some images that a task's view of the network classifies correctly.

    Args:
        data, numbers: which images.
        batch_size: samples that share a trace under the protocol "batch".
        protocol: what traces may do, see `hybrid.learning.evaluation`. As they start empty, those
            of "frozen" stay empty. A network without traces is tested alike under all of them.
    """
    learner.eval()
    view, masks = stream.views[task], learner.masks(task)

    def answer(batch: Tensor) -> Tensor:
        output = learner.network(
            view.inputs(data.inputs[batch]),
            masks,
            pool="sample" if protocol == "sample" else "batch",
            adapt=protocol != "frozen",
        ).output
        return view.choices[output[:, view.choices].argmax(-1)]

    return accuracy(answer, numbers, view.answers[data.labels[numbers]], batch_size)
