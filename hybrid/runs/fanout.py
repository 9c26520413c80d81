"""Fan-out of independent pieces of work over processes, with joblib; see `cluster` for more."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor
from typing import TypeVar

import torch
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from hybrid.runs.cluster import away

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")


def fan_out(
    work: Callable[[Task], Outcome],
    tasks: Iterable[Task],
    *,
    jobs: int,
    title: str,
    unit: str = "trial",
) -> Iterator[tuple[int, Outcome]]:
    """Yield (i, work(tasks[i])) as they are finished, `jobs` at a time, with a progress bar.

    Each process computes with one thread: results do not depend on `jobs`, and neighbours on the
    same cores do not slow each other down.

    Args:
        work: a picklable function of one task.
        tasks: picklable tasks.
        jobs: number of processes; 1 stays in this one. On a cluster: as many as it has.
        title, unit: of the progress bar.

    Raises:
        ValueError: if `jobs` < 1. An error in a trial is raised here, with its traceback.
        ChildProcessError: if a process was killed.
    """
    tasks = list(tasks)
    if jobs < 1:
        raise ValueError(f"jobs = {jobs}: give at least one process")
    many = -1 if away() else min(jobs, max(len(tasks), 1))
    # A cluster gets everything at once: workers that come later find something to do.
    parallel = Parallel(
        n_jobs=many,
        return_as="generator_unordered",
        batch_size=1,
        pre_dispatch="all" if away() else "2*n_jobs",
    )
    outcomes = parallel(delayed(_single_threaded)(work, i, task) for i, task in enumerate(tasks))
    return _watched(tqdm(outcomes, total=len(tasks), desc=title, unit=unit))


def _watched(outcomes: Iterable[tuple[int, Outcome]]) -> Iterator[tuple[int, Outcome]]:
    try:
        yield from outcomes
    except BrokenExecutor as error:
        raise ChildProcessError(
            "a process was killed, most often for want of memory: run again with fewer jobs; what "
            "is finished is kept"
        ) from error


def _single_threaded(
    work: Callable[[Task], Outcome], number: int, task: Task
) -> tuple[int, Outcome]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    # Traces of inputs that fell silent decay into denormal numbers, which slow every product.
    torch.set_flush_denormal(True)
    try:
        return number, work(task)
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)
