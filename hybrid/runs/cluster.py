"""Work on other machines, for as long as a `with` block lasts: a connection to a Dask scheduler.

Workers compute, this process keeps: nothing has to be shared but the code and, for trials on real
data, `HYBRID_DATA` (or a network). A worker that is lost does not lose its work: Dask gives it to
another one.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from distributed import Client

_CLIENT: ContextVar["Client | None"] = ContextVar("client", default=None)
_CODE: ContextVar[Callable[[], str] | None] = ContextVar("code", default=None)
Piece = TypeVar("Piece")
Done = TypeVar("Done")
_PATIENCE = 30  # seconds that a scheduler, and then its first worker, may take to answer
_LOOKED = 5.0  # seconds between two looks for workers
_log = logging.getLogger(__name__)


def on_cluster() -> "Client | None":
    """Return the connection to the cluster that work is being sent to, or None."""
    return _CLIENT.get()


@contextmanager
def connected(address: str | None, code: Callable[[], str] | None = None) -> Iterator[None]:
    """Send what `fan_out` runs within this block to the Dask scheduler at an address.

    Args:
        address: such as tcp://host:8786; None computes here.
        code: names the state of the code, here and on workers: they must be of the same.

    Raises:
        ValueError: if Dask is not installed, no scheduler answers or it has no worker, workers
            have several threads (torch's settings are those of a whole process) or other code.
    """
    if address is None:
        yield
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError(
            "a cluster needs Dask: in a checkout, install it with `pip install '.[cluster]'`"
        ) from error
    try:
        client = Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no Dask scheduler answers at {address!r} ({error}): start one with `dask scheduler`"
        ) from error
    with _quiet(), client:
        _check(client, address, code)
        before, code_before = _CLIENT.set(client), _CODE.set(code)
        over = threading.Event()
        watch = threading.Thread(target=_watch, args=(client, address, over), daemon=True)
        watch.start()
        try:
            yield
        finally:
            over.set()
            _CLIENT.reset(before)
            _CODE.reset(code_before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Let a lost connection be one error, without the pages that Dask logs about it."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _watch(client: "Client", address: str, over: threading.Event) -> None:
    """Say once, each time that it happens, that no worker is left."""
    told = False
    while not over.wait(_LOOKED):
        try:
            left = bool(client.nthreads())
        except Exception:  # the scheduler is gone, which whoever waits for results is told
            return
        if not left and not told:
            _log.warning(
                "%s has no worker left: work waits; start some with %s", address, _advice(address)
            )
        told = not left


def state(code: Callable[[], str] | None) -> dict[str, str]:
    """Return what must be the same here and on workers: versions, and the state of the code."""
    known = {name: version(name) for name in ("torch", "numpy")}
    return known if code is None else {**known, "hybrid": code()}


def _check(client: "Client", address: str, code: Callable[[], str] | None) -> None:
    advice = _advice(address)
    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
    except TimeoutError as error:
        raise ValueError(f"{address} has no worker: start some with {advice}") from error
    if max(client.nthreads().values(), default=1) > 1:
        raise ValueError(
            f"workers at {address} have several threads each: start them with {advice}"
        )
    here = state(code)
    for worker, there in client.run(state, code, on_error="return").items():
        if not isinstance(there, dict):  # an error, where the package is missing
            raise ValueError(f"{worker} runs other code ({there}): install this state of it there")
        compare(worker, there, here)


def compare(worker: str, there: dict[str, str], here: dict[str, str]) -> None:
    """Raise ValueError, naming the worker, if its `state` is another than here."""
    for name, own in here.items():
        if there[name] != own:
            what = "other code" if name == "hybrid" else f"{name} {there[name]}, not {own}"
            raise ValueError(f"{worker} runs {what}: install this state of it there")


class Checked(Generic[Piece, Done]):
    """Work for a worker that may have joined late: it must be as those that were looked at."""

    def __init__(self, work: Callable[[int, Piece], Done]) -> None:
        self.work, self.code = work, _CODE.get()
        self.here = state(self.code)

    def __call__(self, number: int, piece: Piece) -> Done:
        """Return work(number, piece).

        Raises:
            ValueError: if this worker has several threads, or another `state`.
        """
        from distributed import get_worker

        worker = get_worker()
        if worker.state.nthreads > 1:
            raise ValueError(f"{worker.address} has several threads: start it with --nthreads 1")
        compare(worker.address, state(self.code), self.here)
        return self.work(number, piece)


def _advice(address: str) -> str:
    return f"`dask worker {address} --nthreads 1 --nworkers N`"
