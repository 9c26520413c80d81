"""One process at a time: a lock that lies beside the file that it is about."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

PATIENCE = 1800.0  # seconds for which others wait
_SILENT = 1.0  # seconds of waiting before a message says so
_log = logging.getLogger(__name__)


@contextmanager
def alone(path: Path, doing: str) -> Iterator[None]:
    """Let one process at a time make a file; others say that they wait for it.

    The lock is `.<name>.lock` in the same folder, whatever TMPDIR says. It is left behind.

    Args:
        path: of the file.
        doing: what is done to it, for messages: "is fetching".

    Raises:
        OSError: if the lock cannot be opened, or another process keeps it for too long; the message
            names it, and the remedy.
    """
    path = Path(os.path.realpath(path))
    lock = path.with_name(f".{path.name}.lock")
    guard = FileLock(lock, mode=0o666)  # other users work in the same folder
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            guard.acquire(timeout=_SILENT)
        except Timeout:
            _log.warning(
                "another process %s %s: waiting for it, at most %.0f min (lock: %s)",
                *(doing, path, PATIENCE / 60, lock),
            )
            guard.acquire(timeout=PATIENCE)
    except Timeout as error:
        raise TimeoutError(
            f"another process {doing} {path} for more than {PATIENCE / 60:.0f} min (lock: {lock}): "
            "wait for it or end it, and run again; what is finished is kept"
        ) from error
    except OSError as error:
        raise type(error)(
            error.errno,
            f"the lock {lock} cannot be opened ({error.strerror}): make the folder writable, "
            "delete the lock if another user has left it, or choose another folder",
        ) from error
    try:
        yield
    finally:
        guard.release()
