"""Mirrors that behave in every bad way, a good one behind each; and locks that others hold."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from unittest import mock

from hybrid import locks
from hybrid.data import files
from hybrid.data.files import Source, download, fetch
from hybrid.locks import alone
from tests.data.mirrors import BAD_HEADERS, CONTENT, DIGEST, OK, SIZE, Crude, Mirror
from tests.faults.tally import Tally

_LONG = 20.0  # seconds that a download with one bad and one good mirror may take here
_KEPT = b"HTTP/1.1 206 Partial Content\r\n"

# What else servers say: header, body, and seconds between the bytes of one that drips.
_BODIES: dict[str, tuple[bytes, bytes, float]] = {
    "nothing at all": (b"", b"", 0.0),
    "half a header": (b"HTTP/1.1 200", b"", 0.0),
    "an empty file": (OK + b"Content-Length: 0\r\n\r\n", b"", 0.0),
    "half the file": (OK + b"Content-Length: 1024000\r\n\r\n", CONTENT[:500_000], 0.0),
    "half the file, no length": (OK + b"\r\n", CONTENT[:500_000], 0.0),
    "another file of the size": (OK + b"Content-Length: 1024000\r\n\r\n", bytes(SIZE), 0.0),
    "a longer file": (OK + b"Content-Length: 1024001\r\n\r\n", CONTENT + b"x", 0.0),
    "an endless file": (OK + b"\r\n", 30 * CONTENT, 0.0),
    "a range nobody asked for": (
        _KEPT + b"Content-Range: bytes 9-99/100\r\n\r\n",
        CONTENT[9:99],
        0.0,
    ),
    "chunks of no length": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\nabc\r\n", 0.0),
    "a chunk without end": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"ffffff\r\nabc", 0.0),
    "compressed, it says": (OK + b"Content-Encoding: gzip\r\n\r\n", b"not gzip", 0.0),
    "a header without end": (OK + b"X: " + 80_000 * b"x", b"", 0.0),
    "a thousand headers": (OK + 1000 * b"X: y\r\n" + b"\r\n", b"", 0.0),
    "redirected for ever": (b"HTTP/1.1 302 Found\r\nLocation: /file.bin\r\n\r\n", b"", 0.0),
    "redirected to ftp": (b"HTTP/1.1 302 Found\r\nLocation: ftp://127.0.0.1/x\r\n\r\n", b"", 0.0),
    "refused": (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", b"", 0.0),
    "a byte now and then": (OK + b"Content-Length: 1024000\r\n\r\n", b"x", 0.02),
    "a header now and then": (OK + b"X-Slow: ", b"x", 0.02),
    "chunks now and then": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.02),
}


@contextmanager
def _good() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/good"
        finally:
            server.shutdown()  # or its thread would ask a closed socket for ever


def mirrors(folder: Path, quick: bool) -> Tally:
    """Fetch a file from a bad mirror, a part of it there or not: the good one behind gives it."""
    tally = Tally()
    bad = {name: (head, b"bytes", 0.0) for name, head in BAD_HEADERS.items()} | _BODIES
    with _good() as good, ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, {files.SETTING: str(folder)}))
        stack.enter_context(mock.patch.object(files, "_TIMEOUT", 0.3))
        for name in list(bad)[:: 6 if quick else 1]:
            head, body, pause = bad[name]
            for part in (b"", CONTENT[:7_000], b"of something else"):
                with Crude(head, body, pause=pause) as server:
                    source = Source("toy/file.bin", SIZE, (DIGEST,), (server.url, good))
                    with mock.patch.object(files, "registry", lambda s=source: {s.name: s}):
                        source.path.parent.mkdir(exist_ok=True)
                        source.path.unlink(missing_ok=True)
                        files.part_of(source.path).unlink(missing_ok=True)
                        if part:
                            files.part_of(source.path).write_bytes(part)
                        began, raw = time.monotonic(), ""
                        try:
                            fetch(source.name)
                        except Exception as error:
                            raw = repr(error)
                    took = time.monotonic() - began
                    there = source.path.read_bytes() if source.path.exists() else b""
                    tally.add(
                        f"{name}, {len(part)} bytes there",
                        raw=raw or (f"{took:.0f} s" if took > _LONG else ""),
                        wrong=there not in (b"", CONTENT),
                        lost=there == b"",
                    )
    return tally


_FETCH = """
import sys
from pathlib import Path
from hybrid.data.files import download
download(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
"""


def holders(folder: Path, quick: bool) -> Tally:
    """Fetch at once with other TMPDIRs; wait for a lock whose holder is stopped, killed or gone."""
    tally = Tally()
    with _good() as good:
        for number in range(1 if quick else 4):
            path = folder / f"at once {number}" / "file.bin"
            path.parent.mkdir()
            processes = []
            for own in range(3):
                elsewhere = folder / f"tmp {number} {own}"
                elsewhere.mkdir()
                command = [sys.executable, "-c", _FETCH, good, str(path), DIGEST, str(SIZE)]
                environment = {**os.environ, "TMPDIR": str(elsewhere)}
                processes.append(
                    subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
                )
            codes = [process.wait(120.0) for process in processes]
            tally.add(
                f"three at once {number}",
                raw=any(codes),
                wrong=not path.exists() or path.read_bytes() != CONTENT,
            )
        for state in ("stopped", "killed"):
            path = folder / state / "file.bin"
            path.parent.mkdir()
            holder = _holder(path)
            os.kill(holder.pid, signal.SIGSTOP if state == "stopped" else signal.SIGKILL)
            if state == "killed":
                holder.wait()
            with (
                mock.patch.object(locks, "_SILENT", 0.05),
                mock.patch.object(locks, "PATIENCE", 0.1),
            ):
                raw, said = "", ""
                try:
                    download(good, path, DIGEST, SIZE)
                except TimeoutError as error:
                    said = str(error)
                except Exception as error:
                    raw = repr(error)
            if state == "stopped":
                raw = raw or ("" if "end it, and run again" in said else f"said {said!r}")
                holder.kill()
                holder.wait()
                download(good, path, DIGEST, SIZE)
            tally.add(f"holder {state}", raw=raw, lost=path.read_bytes() != CONTENT)
    for name, there in (("a folder", True), ("left behind", False)):
        path = folder / f"lock {name}" / "file.bin"
        lock = path.with_name(f".{path.name}.lock")
        path.parent.mkdir()
        lock.mkdir() if there else lock.touch()
        tally.ask(f"lock is {name}", lambda p=path: _entered(p), lambda found, t=there: not t)
    return tally


def _entered(path: Path) -> bool:
    with alone(path, "is at"):
        return True


def _holder(path: Path) -> subprocess.Popen[str]:
    """Return a process that holds the lock of a file."""
    code = (
        "import sys, time; from filelock import FileLock\n"
        "with FileLock(sys.argv[1]): print('held', flush=True); time.sleep(600)"
    )
    lock = path.with_name(f".{path.name}.lock")
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout as said:
        assert said.readline() == "held\n"
    return process
