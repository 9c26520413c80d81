"""Training and testing on episodes: a few labelled looks, then queries.

Weights descend the loss of the queries. θ either descends the same loss, or is taught by other
drawings of the same classes, looking past the step of the weights (see `hybrid.learning.bilevel`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from hybrid.learning.bilevel import Bilevel, hypergradient
from hybrid.learning.checkpoint import BestState
from hybrid.learning.fitting import EpochLog, fit
from hybrid.learning.maml import FirstOrderMAML
from hybrid.learning.schedule import Schedule
from hybrid.model.few_shot import FewShot, Support

Learner = FewShot | FirstOrderMAML
LossName = Literal["cross-entropy", "binary"]
LOSSES: tuple[LossName, ...] = ("cross-entropy", "binary")


class Lesson(NamedTuple):
    """A batch of episodes; looks and queries are numbers of images."""

    images: Tensor  # [N, channels, height, width]
    support: Tensor  # [episodes, looks]
    labels: Tensor  # [episodes, looks]
    query: Tensor  # [episodes, queries]
    targets: Tensor  # [episodes, queries]
    ways: int


class Exercise(NamedTuple):
    """What one step learns from: lessons for the weights, one after the other, and one for θ."""

    lessons: Sequence[Lesson]
    check: Lesson | None = None  # other drawings of the same classes; None: θ learns as w does


@dataclass(frozen=True)
class Teaching:
    """How scores become a loss and the loss becomes steps."""

    loss: LossName = "cross-entropy"
    bilevel: Bilevel | None = None  # None: θ descends the loss of the weights

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"loss = {self.loss!r}: choose one of {', '.join(LOSSES)}")


def episode_loss(scores: Tensor, targets: Tensor, name: LossName) -> Tensor:
    """Return the mean loss of scores [episodes, queries, ways].

    "cross-entropy" is the usual one; "binary" is the authors': binary cross-entropy between the
    softmax of the scores and one-hot targets, averaged over ways, too.
    """
    if name == "cross-entropy":
        return F.cross_entropy(scores.flatten(0, 1), targets.flatten())
    expected = F.one_hot(targets, scores.shape[-1]).to(scores.dtype)
    return F.binary_cross_entropy(scores.softmax(-1), expected)


def train_on_episodes(
    network: Learner,
    exercises: Callable[[torch.Generator], Iterator[Exercise]],
    validate: Callable[[], float],
    schedule: Schedule,
    order: Callable[[int], torch.Generator],
    teaching: Teaching,
    *,
    checkpoint: Path | None = None,
    title: str = "training",
    best: BestState | None = None,
) -> list[EpochLog]:
    """Train a network in place and return one log per epoch; see `fit`.

    Args:
        network: what is trained.
        exercises: draws the exercises of one epoch.
        validate: returns the accuracy on held-out classes.
        schedule: epochs and rates; its batch size is not used.
        order, checkpoint, title, best: see `fit`.
        teaching: see `Teaching`.

    Raises:
        NonFiniteLossError: see `fit`.
        ValueError: if θ is to be checked, but an exercise brings nothing to check it with.
    """
    of_weights = schedule.optimisers(network.weight_parameters(), [])
    of_meta = schedule.optimisers([], network.meta_parameters())
    together = of_weights if teaching.bilevel else of_weights + of_meta

    def steps(generator: torch.Generator) -> Iterator[float]:
        network.train()
        for exercise in exercises(generator):
            for lesson in exercise.lessons:
                network.zero_grad()
                loss = lesson_loss(network, lesson, teaching.loss)
                yield loss.item()
                loss.backward()
                for optimiser in together:
                    optimiser.step()
            if teaching.bilevel is not None and of_meta:
                teach_meta(network, exercise, of_meta[0], teaching)
        network.eval()

    return fit(
        network,
        of_weights + of_meta,
        schedule,
        steps,
        validate,
        order,
        checkpoint=checkpoint,
        title=title,
        best=best,
    )


def lesson_loss(network: nn.Module, lesson: Lesson, name: LossName) -> Tensor:
    """Return the loss of a network on the queries of a lesson."""
    images, support, labels, query, targets, ways = lesson
    return episode_loss(network(images, support, labels, query, ways=ways), targets, name)


def teach_meta(
    network: Learner, exercise: Exercise, optimiser: torch.optim.Optimizer, teaching: Teaching
) -> None:
    """Let θ take one step along its bilevel gradient."""
    if exercise.check is None or teaching.bilevel is None:
        raise ValueError("a bilevel step needs an exercise with a lesson to check θ with")
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    weights, meta = network.weight_parameters(), network.meta_parameters()
    keys = [names[id(parameter)] for parameter in (*weights, *meta)]

    def loss_on(lesson: Lesson) -> Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]:
        def loss(w: Sequence[Tensor], theta: Sequence[Tensor]) -> Tensor:
            # Copies of the buffers, too: what is only tried out must not move running statistics.
            state = {name: buffer.clone() for name, buffer in network.named_buffers()}
            state |= dict(zip(keys, (*w, *theta), strict=True))
            images, support, labels, query, targets, ways = lesson
            arguments = (images, support, labels, query)
            scores: Tensor = functional_call(network, state, arguments, {"ways": ways})
            return episode_loss(scores, targets, teaching.loss)

        return loss

    gradients = hypergradient(
        loss_on(exercise.lessons[-1]), loss_on(exercise.check), weights, meta, teaching.bilevel
    )
    for parameter, gradient in zip(meta, gradients, strict=True):
        parameter.grad = gradient
    optimiser.step()


@torch.no_grad()
def answer_episodes(
    head: nn.Module, features: Tensor, lesson: Lesson, *, at_once: int = 500
) -> Tensor:
    """Return which queries were answered rightly, as booleans [episodes, queries].

    Args:
        head: maps support and queries to scores, in evaluation mode.
        features: of all images that the lesson numbers [N, features]; each is embedded once.
        lesson: the episodes; its images are not used.
        at_once: episodes computed together, which does not change the result.
    """
    right = []
    for rows in torch.arange(len(lesson.support)).split(at_once):
        support = Support(features[lesson.support[rows]], lesson.labels[rows])
        scores = head(support, features[lesson.query[rows]], ways=lesson.ways)
        right.append(scores.argmax(-1) == lesson.targets[rows])
    return torch.cat(right)


@torch.no_grad()
def embed(network: FewShot, images: Tensor, *, at_once: int = 500) -> Tensor:
    """Return the features of images in evaluation mode [N, features]."""
    network.eval()
    return torch.cat([network.embedding(part) for part in images.split(at_once)])
