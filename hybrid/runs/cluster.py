"""Work on other machines, for as long as a `with` block lasts: a connection to a Dask scheduler.

Workers compute, this process keeps: nothing has to be shared but the code and, for trials on real
data, `HYBRID_DATA` (or a network). A worker that is lost does not lose its work: Dask gives it to
another one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client

_CLIENT: ContextVar["Client | None"] = ContextVar("client", default=None)
_PATIENCE = 30  # seconds that a scheduler, and then its first worker, may take to answer


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
    with client:
        _check(client, address, code)
        before = _CLIENT.set(client)
        try:
            yield
        finally:
            _CLIENT.reset(before)


def _check(client: "Client", address: str, code: Callable[[], str] | None) -> None:
    advice = f"`dask worker {address} --nthreads 1 --nworkers N`"
    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
    except TimeoutError as error:
        raise ValueError(f"{address} has no worker: start some with {advice}") from error
    if max(client.nthreads().values()) > 1:
        raise ValueError(
            f"workers at {address} have several threads each: start them with {advice}"
        )
    if code is not None:
        answers = client.run(code, on_error="return")  # an error where the package is missing
        other = [worker for worker, found in answers.items() if found != code()]
        if other:
            raise ValueError(f"{', '.join(other)} run other code: install this state of it there")
