"""Fan out pieces of work: over processes of this machine, or over a cluster (see `cluster`)."""

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, as_completed
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import torch
from joblib.externals.loky import get_reusable_executor
from tqdm.auto import tqdm

from hybrid.runs.cluster import Checked, on_cluster
from hybrid.runs.instructions import ENVIRONMENT, fixed

if TYPE_CHECKING:
    from distributed import Client

_WATCHED = 1.0  # seconds after which a worker looks for its parent

Piece = TypeVar("Piece")
Done = TypeVar("Done")


def fan_out(
    work: Callable[[Piece], Done],
    pieces: Iterable[Piece],
    *,
    jobs: int,
    title: str,
    unit: str = "trial",
    fast: bool = False,
) -> Iterator[tuple[int, Done]]:
    """Yield (i, work(pieces[i])) as they are finished, `jobs` at a time, with a progress bar.

    Each process computes with one thread: results do not depend on `jobs`, and neighbours on the
    same cores do not slow each other down.

    Args:
        work: a picklable function of one piece.
        pieces: picklable.
        jobs: number of processes. On a cluster: as many as it has.
        title, unit: of the progress bar.
        fast: with this processor's own instructions, not those that repeat elsewhere.

    Raises:
        ValueError: if `jobs` < 1. An error in a piece of work is raised here, with its traceback.
        ChildProcessError: if a process was killed, or one piece of work was lost with several
            workers of a cluster, one after the other.
        ConnectionError: if the scheduler of the cluster is gone.
    """
    pieces = list(pieces)
    if jobs < 1:
        raise ValueError(f"jobs = {jobs}: give at least one process")
    client = on_cluster()
    done = _on(client, work, pieces) if client is not None else _here(work, pieces, jobs, fast)
    return iter(tqdm(done, total=len(pieces), desc=title, unit=unit))


def _here(
    work: Callable[[Piece], Done], pieces: list[Piece], jobs: int, fast: bool
) -> Iterator[tuple[int, Done]]:
    """Compute in processes of this machine; in this one, if one is enough and it is prepared."""
    many = min(jobs, max(len(pieces), 1))
    if many == 1 and (fast or fixed()):
        yield from (_single_threaded(work, i, piece) for i, piece in enumerate(pieces))
        return
    # The pool replaces a process that idled or grew, and says so in the thread that hands out work.
    # Where warnings are errors, that would end the thread, and all would wait for ever.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs were given")
    # Workers find the modules that this process does, files of the user's among them.
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    executor = get_reusable_executor(
        many,
        env=environment | ({} if fast else ENVIRONMENT),
        initializer=_leave_with,
        initargs=(os.getpid(),),
    )
    running = [executor.submit(_single_threaded, work, i, p) for i, p in enumerate(pieces)]
    try:
        for done in as_completed(running):
            yield done.result()
    except BaseException as error:
        executor.shutdown(wait=True, kill_workers=True)
        if not isinstance(error, BrokenExecutor):
            raise
        raise ChildProcessError(
            "a process was killed, most often for want of memory: run again with fewer jobs; what "
            "is finished is kept"
        ) from error


def _leave_with(parent: int) -> None:
    """End this process soon after its parent: nobody would take what it computes."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCHED)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on(
    client: "Client", work: Callable[[Piece], Done], pieces: list[Piece]
) -> Iterator[tuple[int, Done]]:
    """Compute on a cluster, which gets everything at once: workers that come later find work."""
    from distributed import KilledWorker, as_completed

    checked: Checked[Piece, tuple[int, Done]] = Checked(partial(_single_threaded, work))
    futures = client.map(checked, range(len(pieces)), pieces, pure=False)
    try:
        for future in as_completed(futures, loop=client.loop):
            yield future.result()
            future.release()
    except KilledWorker as error:
        raise ChildProcessError(
            f"{error.last_worker.address} and workers before it were lost at the same piece of "
            "work, most often for want of memory: start workers with more (--memory-limit) and "
            "run again; what is finished is kept"
        ) from error
    except CancelledError as error:  # of work that nobody cancelled: the connection is lost
        raise ConnectionError(
            "the Dask scheduler is gone: start it and its workers anew, and run again; what is "
            "finished is kept"
        ) from error
    finally:
        with suppress(CancelledError, OSError):  # there may be nobody to tell
            client.cancel(futures)


def _single_threaded(work: Callable[[Piece], Done], number: int, piece: Piece) -> tuple[int, Done]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    # Traces of inputs that fell silent decay into denormal numbers, which slow every product.
    torch.set_flush_denormal(True)
    try:
        return number, work(piece)
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)
