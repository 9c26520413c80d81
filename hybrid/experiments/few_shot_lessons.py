"""Where the drawings of episodes come from: a bank of characters, split into classes."""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hybrid.data.augment import Jitter
from hybrid.data.characters import Characters, load_characters
from hybrid.data.episodes import ClassSplit, Episodes, Integers, sample_episodes, split_classes
from hybrid.experiments.few_shot_config import Config
from hybrid.learning.episodic import Exercise, Lesson
from hybrid.runs.seeds import numpy_stream

# Of white paper as the authors normalise it.
_MEAN, _DEVIATION = 0.9195, 0.2721


class Bank(NamedTuple):
    """All drawings of a trial, and which classes serve what."""

    ink: Tensor  # 0 to 255 [classes · drawings, 1, height, width]
    drawings: int  # of each class
    takes: int  # blocks that they come in
    split: ClassSplit

    def images(self, numbers: Integers, config: Config) -> Tensor:
        """Return drawings as network inputs [N, 1, height, width]."""
        ink = self.ink[numbers].float() / 255.0
        return ink if config.ink == "unit" else (1.0 - ink - _MEAN) / _DEVIATION


def bank_of(config: Config, seed: int) -> Bank:
    """Return the bank of a trial; the split depends on the seed."""
    characters = characters_of(config.dataset)
    split = split_classes(
        len(characters),
        config.split,
        numpy_stream(seed, "classes"),
        validation=config.validation,
        test=config.unseen,
    )
    if config.rotations:  # turned classes lie behind all others, 90 degrees first
        turned = [split.train + quarter * len(characters) for quarter in range(4)]
        split = split._replace(train=np.concatenate(turned))
        characters = characters.with_rotations()
    ink = torch.from_numpy(characters.drawings)
    return Bank(ink.flatten(0, 1).unsqueeze(1), ink.shape[1], characters.takes, split)


@lru_cache(maxsize=1)
def characters_of(dataset: str) -> Characters:
    """Return a set of characters, kept in memory for the trials that follow."""
    return load_characters(dataset)


def exercises(
    bank: Bank, config: Config, generator: torch.Generator, device: torch.device
) -> Iterator[Exercise]:
    """Yield the exercises of one epoch."""
    source = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    for _ in range(config.steps):
        if config.meta == "joint":
            episodes = _draw(bank, config, source)
            yield Exercise([_lesson(bank, episodes, config, source, device)])
        else:
            yield _checked(bank, config, source, device)


def _checked(
    bank: Bank, config: Config, source: np.random.Generator, device: torch.device
) -> Exercise:
    """Return lessons and, of the last one's classes under the same labels, other drawings."""
    lessons = []
    for _ in range(config.steps_per_check):
        # Twice the drawings: the first half to learn from, the second to check θ with.
        episodes = sample_episodes(
            bank.split.train,
            bank.drawings,
            config.episodes,
            ways=config.ways,
            shots=2 * config.shots,
            queries=2 * config.queries,
            generator=source,
            takes=bank.takes,
        )
        lessons.append(halves(episodes, config))
    return Exercise(
        [_lesson(bank, first, config, source, device) for first, _ in lessons],
        _lesson(bank, lessons[-1][1], config, source, device),
    )


def halves(episodes: Episodes, config: Config) -> tuple[Episodes, Episodes]:
    """Cut episodes of twice the shots and queries into two of the same classes and labels."""
    n = len(episodes.support)
    # A stable sort by label keeps the random order within each class.
    order = np.argsort(episodes.labels, axis=1, kind="stable").reshape(n, config.ways, -1)
    parts = []
    for half in (0, 1):
        own = slice(half * config.shots, (half + 1) * config.shots)
        places = np.sort(order[:, :, own].reshape(n, -1), axis=1)  # as they were shown
        asked = slice(half * config.queries, (half + 1) * config.queries)
        parts.append(
            Episodes(
                np.take_along_axis(episodes.support, places, 1),
                np.take_along_axis(episodes.labels, places, 1),
                episodes.query[:, asked],
                episodes.targets[:, asked],
            )
        )
    return parts[0], parts[1]


def _draw(bank: Bank, config: Config, source: np.random.Generator) -> Episodes:
    """Return training episodes, of drawings of their own or of shared ones."""
    wanted = {"ways": config.ways, "shots": config.shots, "queries": config.queries}
    train, drawings = bank.split.train, bank.drawings
    if config.shared is None:
        return sample_episodes(
            train, drawings, config.episodes, **wanted, generator=source, takes=bank.takes
        )
    classes, each = config.shared
    if each % bank.takes:
        raise ValueError(
            f"Config.shared = {config.shared}: {config.dataset} comes in {bank.takes} takes, of "
            "which equally many drawings are shared, so the second number must be divisible"
        )
    chosen = source.choice(train, classes, replace=False)
    block = drawings // bank.takes  # as many from each take
    keys = source.random((classes, bank.takes, block))
    own = np.argsort(keys, axis=2)[..., : each // bank.takes]
    own = own + block * np.arange(bank.takes)[:, None]
    table = (chosen[:, None] * drawings + own.reshape(classes, -1)).ravel()
    episodes = sample_episodes(
        np.arange(classes),
        each,
        config.episodes,
        **wanted,
        generator=source,
        takes=bank.takes,
    )
    return episodes._replace(support=table[episodes.support], query=table[episodes.query])


def _lesson(
    bank: Bank,
    episodes: Episodes,
    config: Config,
    source: np.random.Generator,
    device: torch.device,
) -> Lesson:
    """Return episodes with their images, some of them mirrored, all a little moved."""
    compact, used = episodes.compact()
    images = bank.images(used, config)
    if config.flipped:
        mirrored = torch.from_numpy(source.random(len(images)) < config.flipped)
        images[mirrored] = images[mirrored].flip(-1)
    if any(config.jitter):
        paper = 0.0 if config.ink == "unit" else (1.0 - _MEAN) / _DEVIATION
        images = Jitter(*config.jitter)(images, source, fill=paper)
    return lesson_of(images, compact, config.ways, device)


def lesson_of(images: Tensor, episodes: Episodes, ways: int, device: torch.device) -> Lesson:
    """Return episodes as tensors on a device."""
    support, labels, query, targets = (torch.from_numpy(array).to(device) for array in episodes)
    return Lesson(images.to(device), support, labels, query, targets, ways)
