"""Few-shot training at the authors' width: episodes a second, one at a time and side by side."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from hybrid.data.episodes import sample_episodes
from hybrid.experiments.core.trials import Trial
from hybrid.experiments.few_shot import EXPERIMENT
from hybrid.experiments.few_shot.episodes import batch_of
from hybrid.experiments.few_shot.methods import HP
from hybrid.experiments.few_shot.plans import AUTHORS
from hybrid.learning.episodic import EpisodeBatch, batch_loss, episode_loss
from hybrid.learning.schedule import Schedule
from hybrid.model.few_shot import FewShot

SETTINGS = replace(AUTHORS, tests=((5, 1),))
EPISODES = 32
LOOKS = SETTINGS.ways * SETTINGS.shots
# Classes and drawings of each. Of many, nearly each drawing is shown once; few are shared by the
# episodes of a step and embedded once for all, each shown about as often as in the laptop profile.
ALL, SHARED = (1523, 20), (20, 3)


def network() -> FewShot:
    net = Trial(EXPERIMENT, SETTINGS, HP, 1).build()
    assert isinstance(net, FewShot)
    return net


def drawn(classes: int, drawings: int) -> EpisodeBatch:
    """Return 32 episodes of five looks and a query, from as many drawings of as many classes."""
    episodes = sample_episodes(
        np.arange(classes),
        drawings,
        EPISODES,
        ways=SETTINGS.ways,
        shots=SETTINGS.shots,
        queries=SETTINGS.queries,
        generator=np.random.default_rng(0),
    )
    compact, used = episodes.compact()
    images = torch.rand(len(used), 1, 31, 31, generator=torch.Generator().manual_seed(0))
    return batch_of(images, compact, SETTINGS.ways, torch.device("cpu"))


def frame_by_frame(net: FewShot, batch: EpisodeBatch) -> Tensor:
    """Return an episode's loss with one image in each call of the embedding (authors' form)."""
    features = torch.cat([net.embedding(image.unsqueeze(0)) for image in batch.images])
    arguments = batch.support, batch.labels, batch.query
    scores = FewShot(_Known(features), net.head)(batch.images, *arguments, ways=batch.ways)
    return episode_loss(scores, batch.targets, SETTINGS.objective.loss)


class _Known(nn.Module):
    """Stands in for an embedding whose features are known."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.features = features

    def forward(self, images: Tensor) -> Tensor:
        return self.features


def side_by_side(net: FewShot, batch: EpisodeBatch) -> Tensor:
    return batch_loss(net, batch, SETTINGS.objective.loss)


def iteration(
    net: FewShot,
    loss: Callable[[FewShot, EpisodeBatch], Tensor],
    batch: EpisodeBatch,
    schedule: Schedule,
) -> Callable[[], float]:
    """Return one training iteration: forward, backward, both optimisers."""
    optimisers = schedule.optimisers(net.weight_parameters(), net.meta_parameters())

    def run() -> float:
        net.zero_grad()
        value = loss(net, batch)
        value.backward()
        for optimiser in optimisers:
            optimiser.step()
        return value.item()

    return run


def work() -> tuple[dict[str, Callable[[], float]], dict[str, int], float]:
    """Return iterations by name, the episodes of each, and the largest difference of scores.

    The difference is between episodes side by side and one at a time, over all 32 of either kind.
    """
    apart, shared = drawn(*ALL), drawn(*SHARED)
    names = {
        "one episode a step, image by image": (frame_by_frame, one_of(apart, 0)),
        "one episode a step": (side_by_side, one_of(apart, 0)),
        f"{EPISODES} episodes a step": (side_by_side, apart),
        f"{EPISODES} episodes a step, of {len(shared.images)} drawings": (side_by_side, shared),
    }
    schedule = SETTINGS.schedule
    runs = {
        name: iteration(network(), loss, batch, schedule) for name, (loss, batch) in names.items()
    }
    episodes = {name: len(batch.support) for name, (_, batch) in names.items()}
    return runs, episodes, max(difference(apart), difference(shared))


@torch.no_grad()
def difference(batch: EpisodeBatch) -> float:
    """Return the largest difference between scores of episodes side by side and one at a time."""
    net = network()
    together = net(*batch[:4], ways=SETTINGS.ways)
    alone = [net(*one_of(batch, i)[:4], ways=SETTINGS.ways) for i in range(EPISODES)]
    return (together - torch.cat(alone)).abs().max().item()


def one_of(batch: EpisodeBatch, row: int) -> EpisodeBatch:
    """Return one episode of a batch, with its own images alone."""
    shown = torch.cat([batch.support[row], batch.query[row]])
    numbers = torch.arange(len(shown)).unsqueeze(0)
    rows = slice(row, row + 1)
    return EpisodeBatch(
        batch.images[shown],
        numbers[:, :LOOKS],
        batch.labels[rows],
        numbers[:, LOOKS:],
        batch.targets[rows],
        batch.ways,
    )
