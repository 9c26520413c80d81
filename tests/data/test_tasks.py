"""Streams of tasks: what is permuted, what is split, and what has to be answered."""

import numpy as np
import pytest

from hybrid.data.tasks import SCENARIOS, permuted, split


def test_permuted_tasks_keep_the_first_and_shuffle_the_others() -> None:
    tasks = permuted(4, 784, 10, np.random.default_rng(0))
    assert tasks[0].pixels is None
    orders = [task.pixels for task in tasks[1:]]
    assert all(sorted(order) == list(range(784)) for order in orders)
    assert len({order.tobytes() for order in orders}) == 3
    again = permuted(4, 784, 10, np.random.default_rng(0))
    np.testing.assert_array_equal(orders, [task.pixels for task in again[1:]])
    for task in tasks:
        np.testing.assert_array_equal(task.choices, np.arange(10))


def test_the_authors_permutations_are_the_same_in_every_run() -> None:
    tasks = permuted(3, 784, 10, None)
    for k in (1, 2):
        np.random.seed(k)
        np.testing.assert_array_equal(tasks[k].pixels, np.random.permutation(784))


def test_split_tasks_share_out_the_classes() -> None:
    for scenario in SCENARIOS:
        tasks = split(scenario, 10)
        assert [task.classes.tolist() for task in tasks] == [[2 * k, 2 * k + 1] for k in range(5)]
        assert all(task.pixels is None for task in tasks)
        for task in tasks:
            assert set(task.answers[task.classes]) <= set(task.choices)
    task_wise, domain_wise, class_wise = (split(scenario, 10)[2] for scenario in SCENARIOS)
    assert task_wise.choices.tolist() == [4, 5]
    assert domain_wise.choices.tolist() == [0, 1]
    assert domain_wise.answers[domain_wise.classes].tolist() == [0, 1]
    assert class_wise.choices.tolist() == list(range(10))


def test_impossible_streams_are_named() -> None:
    with pytest.raises(ValueError, match="count = 0"):
        permuted(0, 784, 10, None)
    with pytest.raises(ValueError, match="choose one of task-incremental"):
        split("instance-incremental", 10)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="each = 3"):
        split("task-incremental", 10, 3)
