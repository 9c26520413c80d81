"""Few-shot training at the authors' width: episodes a second, one at a time and side by side."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from hybrid.experiments.few_shot_config import Config
from hybrid.experiments.few_shot_methods import HP, build
from hybrid.learning.episodic import Lesson, episode_loss, lesson_loss
from hybrid.learning.schedule import Schedule
from hybrid.model.few_shot import FewShot

CONFIG = replace(Config(label="bench"), tests=((5, 1),))
EPISODES = 32
LOOKS = CONFIG.ways * CONFIG.shots


def network() -> FewShot:
    net = build(CONFIG, HP, 1)
    assert isinstance(net, FewShot)
    return net


def lesson() -> Lesson:
    """Return 32 episodes of five looks and a query, all of drawings of their own."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(EPISODES * (LOOKS + 1), 1, 31, 31, generator=generator)
    numbers = torch.arange(len(images)).view(EPISODES, -1)
    labels = torch.stack([torch.randperm(LOOKS, generator=generator) for _ in range(EPISODES)])
    targets = torch.randint(LOOKS, (EPISODES, 1), generator=generator)
    return Lesson(images, numbers[:, :LOOKS], labels, numbers[:, LOOKS:], targets, CONFIG.ways)


def frame_by_frame(net: FewShot, batch: Lesson) -> Tensor:
    """Return an episode's loss with one image in each call of the embedding (authors' form)."""
    features = torch.cat([net.embedding(image.unsqueeze(0)) for image in batch.images])
    arguments = batch.support, batch.labels, batch.query
    scores = FewShot(_Known(features), net.head)(batch.images, *arguments, ways=batch.ways)
    return episode_loss(scores, batch.targets, CONFIG.loss)


class _Known(nn.Module):
    """Stands in for an embedding whose features are known."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.features = features

    def forward(self, images: Tensor) -> Tensor:
        return self.features


def side_by_side(net: FewShot, batch: Lesson) -> Tensor:
    return lesson_loss(net, batch, CONFIG.loss)


def iteration(
    net: FewShot, loss: Callable[[FewShot, Lesson], Tensor], batch: Lesson, schedule: Schedule
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

    The difference is between episodes side by side and one at a time, over all 32.
    """
    together, schedule = lesson(), CONFIG.schedule()
    first = one_of(together, 0)
    net = network()
    with torch.no_grad():
        scores = net(*together[:4], ways=CONFIG.ways)
        alone = [net(*one_of(together, i)[:4], ways=CONFIG.ways) for i in range(EPISODES)]
    difference = (scores - torch.cat(alone)).abs().max().item()
    names = {
        "one episode a step, image by image": (frame_by_frame, first, 1),
        "one episode a step": (side_by_side, first, 1),
        f"{EPISODES} episodes a step": (side_by_side, together, EPISODES),
    }
    runs = {
        name: iteration(network(), loss, batch, schedule)
        for name, (loss, batch, _) in names.items()
    }
    return runs, {name: count for name, (_, _, count) in names.items()}, difference


def one_of(batch: Lesson, row: int) -> Lesson:
    """Return one episode of a lesson, with its own images alone."""
    shown = torch.cat([batch.support[row], batch.query[row]])
    numbers = torch.arange(len(shown)).unsqueeze(0)
    rows = slice(row, row + 1)
    return Lesson(
        batch.images[shown],
        numbers[:, :LOOKS],
        batch.labels[rows],
        numbers[:, LOOKS:],
        batch.targets[rows],
        batch.ways,
    )
