"""Learning tasks one after the other, and testing all of them after each."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from hybrid.checks import one_of, require
from hybrid.learning.consolidation import Consolidation, fisher_information
from hybrid.learning.evaluation import Protocol, accuracy
from hybrid.learning.fitting import Lessons, Training
from hybrid.learning.iteration import Batch, Iteration, Split
from hybrid.learning.owned import FADED, owned
from hybrid.learning.schedule import Schedule
from hybrid.learning.training import one_hot_mse
from hybrid.model.networks import ContextGated
from hybrid.model.window.sparse import Mask, Masks, dense_mask

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
        # Whether masks are dense: of as many ones in each task, which can be recorded.
        self.dense = False
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
            masks: Masks = [mask.to(device) for mask in self._known[task]]
            if self.dense:
                dtype = self.network.readout_weight.dtype
                masks = [dense_mask(mask, dtype) for mask in masks]
            self._present = (task, device, masks)
        return self._present[2]


def prepared(
    learner: Learner,
    stream: Stream,
    training: StreamTraining,
    schedule: Schedule,
    order: Callable[[int], torch.Generator],
    *,
    checkpoint: Path | None = None,
    title: str = "training",
) -> Training:
    """Return the training on all tasks in order, for `fit`; it fills in `learner.accuracy`.

    A log's validation accuracy is the present task's.

    Raises:
        ValueError: if the schedule's epochs are not those of all tasks.
    """
    if schedule.epochs != (needed := training.epochs * len(stream.views)):
        raise ValueError(
            f"schedule.epochs = {schedule.epochs}: {len(stream.views)} tasks of {training.epochs} "
            f"epochs take {needed}"
        )
    network, recorded = learner.network, stream.train.inputs.is_cuda
    learner.dense = learner.dense or recorded
    of_weights = schedule.optimisers(network.weight_parameters(), [], recorded=recorded)
    of_meta = schedule.optimisers([], network.meta_parameters(), recorded=recorded)

    def measure(inputs: Tensor, targets: Tensor, choices: Tensor, *masks: Mask) -> Tensor:
        output = learner.network(inputs, masks or None).output
        chosen = output[:, choices] if choices.ndim == 1 else output.gather(1, choices)
        return one_hot_mse(chosen, targets)

    held = learner.consolidation
    step = None if held.importance == "none" else held.step
    weights = Iteration(learner, of_weights, measure, resting=of_meta, step=step)
    iterations = {"weights": weights}
    if of_meta:
        iterations["theta"] = Iteration(learner, of_meta, measure, resting=of_weights)
    trainer = _Trainer(learner, stream, training, schedule, weights, bool(of_meta))
    return Training(
        network=learner,
        optimisers=[*of_weights, *of_meta],
        iterations=iterations,
        lessons=trainer.lessons,
        validate=trainer.validate,
        schedule=schedule,
        order=order,
        checkpoint=checkpoint,
        title=title,
        steps_per_epoch=ceil(len(stream.views[0].train) / schedule.batch_size),
        recorded=recorded,
        objective=training,
        alone=None if step is None else "its weights are held by what earlier tasks came to",
    )


class _Trainer(NamedTuple):
    """All that the lessons of an epoch need."""

    learner: Learner
    stream: Stream
    training: StreamTraining
    schedule: Schedule
    weights: Iteration
    has_meta: bool

    def lessons(self, generator: torch.Generator) -> Lessons:
        """Train for one epoch, and after the last one of a task end it."""
        learner, epochs = self.learner, self.training.epochs
        task, epoch = divmod(int(learner.done), epochs)
        if epoch == 0:
            if task == 0:
                self._test(0)
            if self.training.fresh and not self.training.joint:
                self.weights.start_anew()
        learner.train()
        mixed, masks = self.training.joint, learner.masks(task)
        batches = self._batches(task, generator)
        with self._own_weights(None if mixed else masks, epoch * len(batches)) as held:
            for numbers in batches:
                if mixed:
                    yield "weights", self._mixed(numbers, generator)
                else:
                    yield "weights", self._shown(task, numbers, held)
        if epoch == epochs - 1:
            learner.consolidation.end_task(lambda: self._fisher(task, generator))
            learner.train()
            for batch in self._for_meta(task, generator):
                yield "theta", batch
            self._test(task + 1)
        learner.done += 1

    def validate(self) -> float:
        """Return the accuracy on validation images of the task that was learned last."""
        task = (int(self.learner.done) - 1) // self.training.epochs
        return self._accuracy(task, self.stream.train, self.stream.views[task].validation)

    def _for_meta(self, task: int, generator: torch.Generator) -> Iterator[Batch]:
        """Yield what θ alone learns from, an epoch of earlier tasks or of this one."""
        replayed = self.training.meta == "replay"
        if self.training.meta == "none" or not self.has_meta or task >= self.training.meta_tasks:
            return
        if replayed and task == 0:
            return  # there is no earlier task yet
        for batch in self._batches(task, generator):
            shown, numbers = task, batch
            if replayed:
                shown = int(torch.randint(task, (), generator=generator))
                numbers = self._draw(shown, len(batch), generator)
            yield self._shown(shown, numbers, self.learner.masks(shown))

    def _batches(self, task: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return batches of a task's images in random order."""
        numbers = self.stream.views[task].train
        shuffled = torch.randperm(len(numbers), generator=generator).to(numbers.device)
        return numbers[shuffled].split(self.schedule.batch_size)

    def _draw(self, task: int, count: int, generator: torch.Generator) -> Tensor:
        """Return some of a task's images, drawn with replacement."""
        numbers = self.stream.views[task].train
        return numbers[torch.randint(len(numbers), (count,), generator=generator)]

    def _own_weights(self, masks: Masks | None, steps: int) -> AbstractContextManager[Masks | None]:
        """Train, within the block, a task's own weights alone, where that comes to the same.

        So it does if the others had no gradient for so many steps, or their moments are new.
        """
        alone = self.learner.consolidation.importance == "none"
        if masks is None or not (alone and (self.training.fresh or steps >= FADED)):
            return nullcontext(masks)
        return owned(self.weights, self.learner.network.weights, masks)

    def _shown(self, task: int, numbers: Tensor, masks: Masks | None) -> Batch:
        """Return images of a task, their places among its answers, these, and masks."""
        view = self.stream.views[task]
        inputs = view.inputs(self.stream.train.inputs[numbers])
        return inputs, self._targets(view, numbers), view.choices, *(masks or ())

    def _mixed(self, numbers: Tensor, generator: torch.Generator) -> Batch:
        """Return as many images as a batch has, of random tasks, and the answers of each."""
        views, images = self.stream.views, self.stream.train.inputs
        counts = torch.randint(len(views), (len(numbers),), generator=generator).bincount().tolist()
        parts = [
            (views[task], self._draw(task, n, generator)) for task, n in enumerate(counts) if n
        ]
        return (
            torch.cat([view.inputs(images[own]) for view, own in parts]),
            torch.cat([self._targets(view, own) for view, own in parts]),
            torch.cat([view.choices.expand(len(own), -1) for view, own in parts]),
        )

    def _targets(self, view: View, numbers: Tensor) -> Tensor:
        """Return the places of right answers among those that a task has to do with [N]."""
        labels = view.answers[self.stream.train.labels[numbers]]
        return torch.searchsorted(view.choices, labels)

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
