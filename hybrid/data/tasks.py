"""Streams of tasks made from one image set: its pixels permuted anew, or two classes at a time."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybrid.checks import choose

Scenario = Literal["task-incremental", "domain-incremental", "class-incremental"]
SCENARIOS: tuple[Scenario, ...] = ("task-incremental", "domain-incremental", "class-incremental")

Integers = NDArray[np.int64]


class Task(NamedTuple):
    """How one task sees the images."""

    pixels: Integers | None  # order of the pixels [in]; None: as they are
    classes: Integers  # classes of the image set that belong to the task
    answers: Integers  # what each class of the image set is to be answered with [all classes]
    choices: Integers  # answers that a network which knows the task has to choose among


def permuted(
    count: int, pixels: int, classes: int, generator: np.random.Generator | None
) -> tuple[Task, ...]:
    """Return tasks that show all classes with their pixels permuted; the first one's are not.

    Args:
        count: number of tasks.
        pixels: of an image.
        classes: of the image set.
        generator: draws the permutations; None for the authors': numpy's legacy permutation of
            seed k for task k, in every run.

    Raises:
        ValueError: if there is no task.
    """
    if count < 1:
        raise ValueError(f"count = {count}: give at least one task")
    whole = np.arange(classes)
    sources = (generator or np.random.RandomState(k) for k in range(1, count))
    orders = [None, *(source.permutation(pixels) for source in sources)]
    return tuple(Task(order, whole, whole, whole) for order in orders)


def split(scenario: Scenario, classes: int, each: int = 2) -> tuple[Task, ...]:
    """Return tasks of `each` classes, in order (van de Ven et al., Nat. Mach. Intell. 4, 2022).

    "task-incremental": the network is told which classes it has to choose among.
    "domain-incremental": tasks share their answers, 0 to each - 1.
    "class-incremental": it has to choose among all classes.

    Raises:
        ValueError: if the scenario is unknown, or the classes cannot be split.
    """
    choose("scenario", scenario, SCENARIOS)
    if each < 2 or classes % each:
        raise ValueError(f"each = {each}: {classes} classes cannot be split so, or not worth it")
    whole = np.arange(classes)
    answers = whole % each if scenario == "domain-incremental" else whole
    told, all_answers = scenario == "task-incremental", np.unique(answers)
    parts = whole.reshape(-1, each)
    return tuple(Task(None, own, answers, own if told else all_answers) for own in parts)
