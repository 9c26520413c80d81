"""Where the drawings of episodes come from: a pool of characters, split into classes."""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hybrid.data.characters import Characters, load_characters
from hybrid.data.episodes import ClassSplit, Episodes, Integers, sample_episodes, split_classes
from hybrid.experiments.few_shot.settings import FewShotSettings
from hybrid.learning.episodic import EpisodeBatch, MetaBatch
from hybrid.runs.seeds import numpy_stream

# Of white paper as the authors normalise it.
_MEAN, _DEVIATION = 0.9195, 0.2721


class DrawingPool(NamedTuple):
    """All drawings of a trial, and which classes serve what."""

    ink: Tensor  # 0 to 255 [classes · drawings, 1, height, width]
    drawings: int  # of each class
    takes: int  # blocks that they come in
    split: ClassSplit

    def of(self, classes: Integers) -> Integers:
        """Return the numbers of all drawings of some classes."""
        return (classes[:, None] * self.drawings + np.arange(self.drawings)).ravel()

    def images(self, numbers: Integers, settings: FewShotSettings) -> Tensor:
        """Return drawings as network inputs [N, 1, height, width]."""
        ink = self.ink[numbers].float() / 255.0
        return ink if settings.ink == "unit" else (1.0 - ink - _MEAN) / _DEVIATION


def pool_of(settings: FewShotSettings, seed: int) -> DrawingPool:
    """Return the pool of a trial; the split depends on the seed."""
    characters = characters_of(settings.dataset)
    split = split_classes(
        len(characters),
        settings.split,
        numpy_stream(seed, "classes"),
        validation=settings.validation,
        test=settings.unseen,
    )
    if settings.rotations:  # turned classes lie behind all others, 90 degrees first
        turned = [split.train + quarter * len(characters) for quarter in range(4)]
        split = split._replace(train=np.concatenate(turned))
        characters = characters.with_rotations()
    ink = torch.from_numpy(characters.drawings)
    return DrawingPool(ink.flatten(0, 1).unsqueeze(1), ink.shape[1], characters.takes, split)


def hash_of_characters(settings: FewShotSettings) -> str:
    """Return a hash of a set of characters, after fetching it."""
    return characters_of(settings.dataset).sha256()


@lru_cache(maxsize=1)
def characters_of(dataset: str) -> Characters:
    """Return a set of characters, kept in memory for the trials that follow."""
    return load_characters(dataset)


def meta_batches(
    pool: DrawingPool, settings: FewShotSettings, generator: torch.Generator, device: torch.device
) -> Iterator[MetaBatch]:
    """Yield the meta-batches of one epoch.

    θ is checked, if it is, with other drawings of the last batch's classes under the same labels.
    """
    source = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))

    def batch(episodes: Episodes) -> EpisodeBatch:
        return _batch(pool, episodes, settings, source, device)

    for _ in range(settings.steps):
        if settings.objective.bilevel is None:
            yield MetaBatch([batch(_draw(pool, settings, source))])
        else:
            # Twice the drawings: the first half to learn from, the second to check θ with.
            drawn = [
                _draw(pool, settings, source, times=2) for _ in range(settings.steps_per_check)
            ]
            pairs = [halves(episodes, settings) for episodes in drawn]
            yield MetaBatch([batch(first) for first, _ in pairs], batch(pairs[-1][1]))


def halves(episodes: Episodes, settings: FewShotSettings) -> tuple[Episodes, Episodes]:
    """Cut episodes of twice the shots and queries into two of the same classes and labels."""
    n = len(episodes.support)
    # A stable sort by label keeps the random order within each class.
    order = np.argsort(episodes.labels, axis=1, kind="stable").reshape(n, settings.ways, -1)

    def half(own: Integers, query: Integers, targets: Integers) -> Episodes:
        places = np.sort(own.reshape(n, -1), axis=1)  # as they were shown
        support, labels = (np.take_along_axis(x, places, 1) for x in episodes[:2])
        return Episodes(support, labels, query, targets)

    whole = (order, episodes.query, episodes.targets)
    first, second = zip(*(np.split(array, 2, axis=-1) for array in whole), strict=True)
    return half(*first), half(*second)


def _draw(
    pool: DrawingPool, settings: FewShotSettings, source: np.random.Generator, times: int = 1
) -> Episodes:
    """Return training episodes, of drawings of their own or of shared ones.

    Args:
        pool, settings, source: of a trial.
        times: factor of shots and queries.
    """
    train, drawings = pool.split.train, pool.drawings
    wanted = {"shots": times * settings.shots, "queries": times * settings.queries}
    wanted |= {"ways": settings.ways, "takes": pool.takes}
    count = settings.schedule.batch_size
    if settings.shared is None:
        return sample_episodes(train, drawings, count, **wanted, generator=source)
    classes, each = settings.shared
    if each % pool.takes:
        raise ValueError(
            f"FewShotSettings.shared = {settings.shared}: {settings.dataset} comes in {pool.takes} "
            "takes, of which equally many drawings are shared, so the second number must be "
            "divisible"
        )
    chosen = source.choice(train, classes, replace=False)
    block = drawings // pool.takes  # as many from each take
    keys = source.random((classes, pool.takes, block))
    own = np.argsort(keys, axis=2)[..., : each // pool.takes]
    own = own + block * np.arange(pool.takes)[:, None]
    table = (chosen[:, None] * drawings + own.reshape(classes, -1)).ravel()
    episodes = sample_episodes(np.arange(classes), each, count, **wanted, generator=source)
    return episodes._replace(support=table[episodes.support], query=table[episodes.query])


def _batch(
    pool: DrawingPool,
    episodes: Episodes,
    settings: FewShotSettings,
    source: np.random.Generator,
    device: torch.device,
) -> EpisodeBatch:
    """Return episodes with their images, some of them mirrored, all a little moved."""
    compact, used = episodes.compact()
    images = pool.images(used, settings)
    if settings.flipped:
        mirrored = torch.from_numpy(source.random(len(images)) < settings.flipped)
        images[mirrored] = images[mirrored].flip(-1)
    if any(settings.jitter):
        paper = 0.0 if settings.ink == "unit" else (1.0 - _MEAN) / _DEVIATION
        images = settings.jitter(images, source, fill=paper)
    return batch_of(images, compact, settings.ways, device)


def batch_of(images: Tensor, episodes: Episodes, ways: int, device: torch.device) -> EpisodeBatch:
    """Return episodes as tensors on a device."""
    support, labels, query, targets = (torch.from_numpy(array).to(device) for array in episodes)
    return EpisodeBatch(images.to(device), support, labels, query, targets, ways)
