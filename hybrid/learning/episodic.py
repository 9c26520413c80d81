"""Training and testing on episodes: a labelled support, then queries.

Weights descend the loss of the queries. θ either descends the same loss, or is taught by other
drawings of the same classes, looking past the step of the weights (see `hybrid.learning.bilevel`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from hybrid.checks import one_of
from hybrid.learning.bilevel import Bilevel, hypergradient
from hybrid.learning.fitting import Lessons, Training
from hybrid.learning.iteration import Iteration
from hybrid.learning.schedule import Schedule
from hybrid.model.embedding import Embedding
from hybrid.model.few_shot import FewShot, Support
from hybrid.model.layers import uniform_parameter
from hybrid.model.networks import MetaLearner


class FirstOrderMAML(MetaLearner):
    """An embedding and a linear read-out that learn an episode by gradient descent.

    Each episode starts from the same weights, takes `steps` gradient steps on the cross-entropy
    of its support, and answers its queries. The weights' own gradient is that of the queries at
    the end of these steps; second derivatives are left out.

    Args:
        embedding: images to features, without batch normalisation: running statistics would be
            those of no episode.
        ways: classes of an episode, at most.
        steps: gradient steps on each support, in training and test.
        rate: size of these steps.
        generator: source of the initial read-out.

    Raises:
        ValueError: if the embedding is normalised, or a number makes no sense.

    Source: Finn et al., ICML 2017 (Omniglot: one step of 0.4; first-order form, section 5.2).
    """

    def __init__(
        self,
        embedding: Embedding,
        ways: int,
        *,
        steps: int,
        rate: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if embedding.normalised:
            raise ValueError("an embedding for MAML must not be normalised over batches")
        if ways < 2 or steps < 1 or rate <= 0.0:
            raise ValueError(f"ways = {ways}, steps = {steps}, rate = {rate}: give >= 2, >= 1, > 0")
        self.embedding, self.steps, self.rate = embedding, steps, rate
        features = embedding.features
        self.weight = uniform_parameter(features, generator, ways, features)
        self.bias = nn.Parameter(torch.zeros(ways))

    def forward(
        self,
        images: Tensor,
        support: Tensor,
        labels: Tensor,
        query: Tensor,
        *,
        ways: int | None = None,
    ) -> Tensor:
        """Return scores [episodes, queries, ways]; arguments as of `FewShot`."""
        graded = torch.is_grad_enabled()
        scores = []
        for shown, label, asked in zip(support, labels, query, strict=True):
            own = self._episode(images[shown], label, images[asked], ways)
            scores.append(own if graded else own.detach())
        return torch.stack(scores)

    @torch.enable_grad()
    def _episode(
        self, support: Tensor, labels: Tensor, queries: Tensor, ways: int | None
    ) -> Tensor:
        adapted: dict[str, Tensor] = dict(self.named_parameters())
        for _ in range(self.steps):
            loss = F.cross_entropy(self._scores(adapted, support, ways), labels)
            gradients = torch.autograd.grad(loss, list(adapted.values()))
            moved = zip(adapted.items(), gradients, strict=True)
            adapted = {name: value - self.rate * g for (name, value), g in moved}
        return self._scores(adapted, queries, ways)

    def _scores(self, state: dict[str, Tensor], images: Tensor, ways: int | None) -> Tensor:
        inner = {k.removeprefix("embedding."): v for k, v in state.items() if "embedding." in k}
        features: Tensor = functional_call(self.embedding, inner, (images,))
        return F.linear(features, state["weight"][:ways], state["bias"][:ways])


EpisodicNetwork = FewShot | FirstOrderMAML
_AT_ONCE = 500  # episodes, or images, which does not change results
LossName = Literal["cross-entropy", "binary"]


class EpisodeBatch(NamedTuple):
    """A batch of episodes; support and queries are numbers of images."""

    images: Tensor  # [N, channels, height, width]
    support: Tensor  # [episodes, support]
    labels: Tensor  # [episodes, support]
    query: Tensor  # [episodes, queries]
    targets: Tensor  # [episodes, queries]
    ways: int


class MetaBatch(NamedTuple):
    """What one step learns from: batches for the weights, one after the other, and one for θ."""

    batches: Sequence[EpisodeBatch]
    # Other drawings of the same classes; None: θ learns as w does.
    check: EpisodeBatch | None = None


@dataclass(frozen=True)
class Objective:
    """How scores become a loss and the loss becomes steps."""

    loss: LossName = "cross-entropy"
    bilevel: Bilevel | None = None  # None: θ descends the loss of the weights

    def __post_init__(self) -> None:
        one_of(self, "loss", LossName)


def episode_loss(scores: Tensor, targets: Tensor, name: LossName) -> Tensor:
    """Return the mean loss of scores [episodes, queries, ways].

    "cross-entropy" is the usual one; "binary" is the authors': binary cross-entropy between the
    softmax of the scores and one-hot targets, averaged over ways, too.
    """
    if name == "cross-entropy":
        return F.cross_entropy(scores.flatten(0, 1), targets.flatten())
    expected = F.one_hot(targets, scores.shape[-1]).to(scores.dtype)
    return F.binary_cross_entropy(scores.softmax(-1), expected)


def prepared(
    network: EpisodicNetwork,
    meta_batches: Callable[[torch.Generator], Iterator[MetaBatch]],
    validate: Callable[[], float],
    schedule: Schedule,
    order: Callable[[int], torch.Generator],
    objective: Objective,
    *,
    checkpoint: Path | None = None,
    title: str = "training",
    steps_per_epoch: int | None = None,
) -> Training:
    """Return the training of a network on episodes, for `fit`.

    Args:
        network: what is trained.
        meta_batches: draws the meta-batches of one epoch.
        validate: returns the accuracy on held-out classes.
        schedule: epochs and rates; its batch size is not used.
        order, checkpoint, title, steps_per_epoch: see `Training`.
        objective: see `Objective`. If θ is to be checked, each meta-batch has to bring something to
            check it with: else training ends with a ValueError.
    """
    recorded = next(network.parameters()).is_cuda
    of_weights = schedule.optimisers(network.weight_parameters(), [], recorded=recorded)
    of_meta = schedule.optimisers([], network.meta_parameters(), recorded=recorded)
    bilevel = objective.bilevel is not None

    def measure(*parts: Any) -> Tensor:
        return batch_loss(network, EpisodeBatch(*parts), objective.loss)

    def lessons(generator: torch.Generator) -> Lessons:
        network.train()
        for meta_batch in meta_batches(generator):
            for batch in meta_batch.batches:
                yield "episodes", batch
            if bilevel and of_meta:
                meta_step(network, meta_batch, of_meta[0], objective)
        network.eval()

    trained, resting = (of_weights, of_meta) if bilevel else (of_weights + of_meta, [])
    return Training(
        network=network,
        optimisers=of_weights + of_meta,
        iterations={"episodes": Iteration(network, trained, measure, resting=resting)},
        lessons=lessons,
        validate=validate,
        schedule=schedule,
        order=order,
        checkpoint=checkpoint,
        title=title,
        steps_per_epoch=steps_per_epoch,
        recorded=recorded,
        objective=objective,
        alone=_why_alone(network, objective),
    )


def _why_alone(network: EpisodicNetwork, objective: Objective) -> str | None:
    if objective.bilevel is not None:
        return "θ looks past a step of the weights"
    if isinstance(network, FirstOrderMAML):
        return "it takes gradient steps of its own in each episode"
    return None


def batch_loss(network: nn.Module, batch: EpisodeBatch, name: LossName) -> Tensor:
    """Return the loss of a network on the queries of a batch."""
    return episode_loss(network(*batch[:4], ways=batch.ways), batch.targets, name)


def meta_step(
    network: EpisodicNetwork,
    meta_batch: MetaBatch,
    optimiser: torch.optim.Optimizer,
    objective: Objective,
) -> None:
    """Let θ take one step along its bilevel gradient."""
    if meta_batch.check is None or objective.bilevel is None:
        raise ValueError("a bilevel step needs a meta-batch with a batch to check θ with")
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    weights, meta = network.weight_parameters(), network.meta_parameters()
    keys = [names[id(parameter)] for parameter in (*weights, *meta)]

    def loss_on(batch: EpisodeBatch) -> Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]:
        def loss(w: Sequence[Tensor], theta: Sequence[Tensor]) -> Tensor:
            # Copies of the buffers, too: what is only tried out must not move running statistics.
            state = {name: buffer.clone() for name, buffer in network.named_buffers()}
            state |= dict(zip(keys, (*w, *theta), strict=True))
            scores: Tensor = functional_call(network, state, batch[:4], {"ways": batch.ways})
            return episode_loss(scores, batch.targets, objective.loss)

        return loss

    gradients = hypergradient(
        loss_on(meta_batch.batches[-1]), loss_on(meta_batch.check), weights, meta, objective.bilevel
    )
    for parameter, gradient in zip(meta, gradients, strict=True):
        parameter.grad = gradient
    optimiser.step()


@torch.no_grad()
def correct_queries(head: nn.Module, features: Tensor, batch: EpisodeBatch) -> Tensor:
    """Return which queries were answered rightly, as booleans [episodes, queries].

    Args:
        head: maps support and queries to scores, in evaluation mode.
        features: of all images that the batch numbers [N, features]; each is embedded once.
        batch: the episodes; its images are not used.

    """
    right = []
    for rows in torch.arange(len(batch.support)).split(_AT_ONCE):
        support = Support(features[batch.support[rows]], batch.labels[rows])
        scores = head(support, features[batch.query[rows]], ways=batch.ways)
        right.append(scores.argmax(-1) == batch.targets[rows])
    return torch.cat(right)


@torch.no_grad()
def embed(network: FewShot, images: Tensor) -> Tensor:
    """Return the features of images in evaluation mode [N, features]."""
    network.eval()
    return torch.cat([network.embedding(part) for part in images.split(_AT_ONCE)])
