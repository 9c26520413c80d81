"""Fan-out of independent trials over processes, with joblib.

On a cluster, wrap the call in `joblib.parallel_config(backend="dask")`; nothing here changes.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from joblib import Parallel, delayed
from tqdm.auto import tqdm

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")


def fan_out(
    work: Callable[[Task], Outcome], tasks: Iterable[Task], *, jobs: int, title: str
) -> list[Outcome]:
    """Return [work(task) for task in tasks], `jobs` at a time, with a progress bar.

    Each process computes with one thread: results do not depend on `jobs`, and neighbours on the
    same cores do not slow each other down.

    Args:
        work: a picklable function of one task.
        tasks: picklable tasks.
        jobs: number of processes; 1 stays in this one.
        title: label of the progress bar.

    Raises:
        ValueError: if `jobs` < 1. An error in a trial is raised here, with its traceback.
    """
    tasks = list(tasks)
    if jobs < 1:
        raise ValueError(f"jobs = {jobs}: give at least one process")
    parallel = Parallel(n_jobs=min(jobs, max(len(tasks), 1)), return_as="generator")
    outcomes = parallel(delayed(_single_threaded)(work, task) for task in tasks)
    return list(tqdm(outcomes, total=len(tasks), desc=title, unit="trial"))


def _single_threaded(work: Callable[[Task], Outcome], task: Task) -> Outcome:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    # Traces of inputs that fell silent decay into denormal numbers, which slow every product.
    torch.set_flush_denormal(True)
    try:
        return work(task)
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)
