"""N-way K-shot episodes: which drawings are shown with which label, and which are asked for."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybrid.checks import choose

SPLITS = ("pooled", "standard")
POOLED_TEST = 100  # unseen classes in the authors' split
BACKGROUND = 964  # classes of Omniglot's background set, the first ones
Integers = NDArray[np.int64]


class ClassSplit(NamedTuple):
    """Numbers of the classes learned from, of those to choose by, and of those never seen."""

    train: Integers
    validation: Integers
    test: Integers


class Episodes(NamedTuple):
    """A batch of episodes. Drawings are numbered class by class: class · drawings + drawing."""

    support: Integers  # labelled drawings in the order they are shown [episodes, looks]
    labels: Integers  # their labels, 0 … ways - 1
    query: Integers  # drawings asked for [episodes, queries]
    targets: Integers  # their labels

    def compact(self) -> tuple["Episodes", Integers]:
        """Return the same episodes in numbers 0 … n - 1, and which n drawings these stand for."""
        size = self.support.shape[1]
        used, place = np.unique(np.hstack([self.support, self.query]), return_inverse=True)
        place = place.reshape(len(self.support), -1).astype(np.int64)
        return self._replace(support=place[:, :size], query=place[:, size:]), used


def split_classes(
    classes: int,
    name: str,
    generator: np.random.Generator,
    *,
    validation: int = 100,
    test: int = POOLED_TEST,
) -> ClassSplit:
    """Split classes into those to learn from, to choose by and to be tested on.

    Args:
        classes: how many there are.
        name: "pooled" tests on `test` classes drawn from all (authors: 100 of 1,623); "standard"
            tests on all classes behind Omniglot's background set.
        generator: source of the draw.
        validation: number of classes that are kept from training, to choose by.
        test: number of test classes of the pooled split.

    Raises:
        ValueError: if the name is unknown, or too few classes are left to learn from.
    """
    if choose("split", name, SPLITS) == "pooled":
        tested, rest = np.split(generator.permutation(classes), [test])
    else:
        tested, rest = np.arange(BACKGROUND, classes), generator.permutation(BACKGROUND)
    if len(rest) <= validation or not len(tested):
        raise ValueError(
            f"{classes} classes are too few for split {name!r} with {validation} validation classes"
        )
    return ClassSplit(rest[validation:], rest[:validation], tested)


def sample_episodes(
    classes: Integers,
    drawings: int,
    episodes: int,
    *,
    ways: int,
    shots: int,
    queries: int,
    generator: np.random.Generator,
    takes: int = 1,
) -> Episodes:
    """Draw episodes: `ways` classes, `shots` labelled drawings of each, shown in random order.

    Each query is a drawing of one of these classes, drawn at random, and neither a support
    drawing nor another query of its episode. Labels are given anew in each episode.

    Args:
        classes: numbers of the classes to draw from.
        drawings: drawings of each class.
        episodes, ways, shots, queries: how many.
        generator: source of all draws.
        takes: blocks that the drawings of a class come in; with more than one, queries are from
            another block than the support of their class.

    Raises:
        ValueError: if there are too few classes or drawings.
    """
    if not 1 <= ways <= len(classes):
        raise ValueError(f"ways = {ways}: there are {len(classes)} classes to draw from")
    most = shots + queries if takes == 1 else max(shots, queries)
    if min(episodes, shots, queries) < 1 or most > drawings // takes:
        raise ValueError(
            f"episodes = {episodes}, shots = {shots}, queries = {queries}: give at least one of "
            f"each, and no more than the {drawings} drawings of a class in {takes} takes allow"
        )
    chosen = _draw_without_replacement(episodes, len(classes), ways, generator)
    rows = episodes * ways
    if takes == 1:
        flat = _draw_without_replacement(rows, drawings, shots + queries, generator)
    else:
        block, each = _draw_without_replacement(rows, takes, 2, generator), drawings // takes
        shown_from, asked_from = (each * column for column in np.hsplit(block, 2))
        shown = shown_from + _draw_without_replacement(rows, each, shots, generator)
        asked = asked_from + _draw_without_replacement(rows, each, queries, generator)
        flat = np.hstack([shown, asked])
    numbers = classes[chosen][..., None] * drawings + flat.reshape(episodes, ways, -1)

    labels = np.broadcast_to(np.arange(ways)[:, None], (episodes, ways, shots))
    order = generator.permuted(np.tile(np.arange(ways * shots), (episodes, 1)), axis=1)
    support = np.take_along_axis(numbers[..., :shots].reshape(episodes, -1), order, axis=1)
    ordered = np.take_along_axis(labels.reshape(episodes, -1), order, axis=1)

    # The j-th query takes the j-th of the drawings that its class has left: never one twice.
    targets = generator.integers(ways, size=(episodes, queries))
    row, place = np.arange(episodes)[:, None], shots + np.arange(queries)
    return Episodes(support, ordered, numbers[row, targets, place], targets)


def _draw_without_replacement(
    rows: int, population: int, count: int, generator: np.random.Generator
) -> Integers:
    """Return `count` different numbers below `population` in random order, in each row."""
    # Keys of the whole population; in parts, so that thousands of rows need little memory.
    parts = [
        np.argsort(generator.random((len(part), population)), axis=1)[:, :count]
        for part in np.array_split(np.arange(rows), -(-rows * population // 2**24))
    ]
    return np.concatenate(parts).astype(np.int64)
