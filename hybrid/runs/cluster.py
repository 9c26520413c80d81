"""Work on other machines: joblib's Dask backend, for as long as a `with` block lasts.

Workers compute, this process keeps: nothing has to be shared but the code and, for trials on real
data, `HYBRID_DATA` (or a network). A worker that is lost does not lose its work: Dask gives it to
another one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from joblib import parallel_config

if TYPE_CHECKING:
    from concurrent.futures import Future

    from distributed import Client

_AWAY: ContextVar[bool] = ContextVar("away", default=False)
_PATIENCE = 30  # seconds that a scheduler, and then its first worker, may take to answer


def away() -> bool:
    """Return whether work is being sent to a cluster."""
    return _AWAY.get()


@contextmanager
def connected(address: str | None, code: Callable[[], str] | None = None) -> Iterator[None]:
    """Send what `fan_out` runs within this block to the Dask scheduler at an address.

    Args:
        address: such as tcp://host:8786; None computes here.
        code: names the state of the code, here and on workers: they must be of the same.

    Raises:
        ValueError: if Dask is not installed, no scheduler answers or it has not two workers, these
            have several threads (torch's settings are those of a whole process) or other code.
        ChildProcessError: if one piece of work was lost with several workers, one after the other.
    """
    if address is None:
        yield
        return
    try:
        from distributed import Client, KilledWorker
    except ImportError as error:
        raise ValueError(
            "a cluster needs Dask: in a checkout, install it with `pip install '.[cluster]'`"
        ) from error
    try:
        client = Client(address, timeout=_PATIENCE, set_as_default=True)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no Dask scheduler answers at {address!r} ({error}): start one with `dask scheduler`"
        ) from error
    with client:
        _check(client, address, code)
        marked = _AWAY.set(True)
        try:
            with parallel_config(backend=_backend()):
                yield
        except KilledWorker as error:
            raise ChildProcessError(
                f"{error.last_worker.address} and workers before it were lost at the same piece of "
                "work, most often for want of memory: start workers with more (--memory-limit) and "
                "run again; what is finished is kept"
            ) from error
        finally:
            _AWAY.reset(marked)


def _backend() -> Any:
    """Return joblib's Dask backend, but one that tells of work that was given up.

    joblib's own waits for ever for work whose workers died, as nothing calls it back.
    """
    from joblib._dask import DaskDistributedBackend

    class Backend(DaskDistributedBackend):  # type: ignore[misc]
        def submit(self, func: Any, callback: Any = None) -> "Future[Any]":
            def tell(done: "Future[Any]") -> None:
                if done.exception() is not None:
                    callback(done.exception())

            future: Future[Any] = super().submit(func, callback)
            future.add_done_callback(tell)
            return future

        def retrieve_result_callback(self, out: Any) -> Any:
            if isinstance(out, BaseException):
                raise out
            return super().retrieve_result_callback(out)

    return Backend(wait_for_workers_timeout=_PATIENCE)


def _check(client: "Client", address: str, code: Callable[[], str] | None) -> None:
    advice = f"`dask worker {address} --nthreads 1 --nworkers N`"
    try:
        # With a single one joblib would compute here.
        client.wait_for_workers(2, timeout=_PATIENCE)
    except TimeoutError as error:
        raise ValueError(f"{address} has not two workers: start some with {advice}") from error
    threads = client.nthreads()
    if max(threads.values()) > 1:
        raise ValueError(
            f"workers at {address} have several threads each: start them with {advice}"
        )
    if code is not None:
        answers = client.run(code, on_error="return")  # an error where the package is missing
        other = [worker for worker, found in answers.items() if found != code()]
        if other:
            raise ValueError(f"{', '.join(other)} run other code: install this state of it there")
