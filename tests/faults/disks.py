"""Calls to the system that fail or are the last ones, and disks whose power is cut."""

import multiprocessing
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from tqdm.auto import tqdm

from hybrid.experiments.core.trials import run_all
from hybrid.runs.files import DamagedFileError
from hybrid.runs.store import Store, read_record
from tests.faults import sweeps
from tests.faults.tally import NAMED, Tally

_FORK = multiprocessing.get_context("fork")
_CALLS = ("fsync", "replace", "open", "unlink")  # of the module os, which writing goes through


class Counted:
    """Counts calls to the system that concern a folder, and does something at the n-th."""

    def __init__(self, folder: Path, kind: str, number: int, what: Callable[[], None]) -> None:
        self.folder, self.kind, self.number, self.what = str(folder), kind, number, what
        self.seen = 0

    @contextmanager
    def __call__(self) -> Iterator["Counted"]:
        """Watch the calls within the block."""
        with ExitStack() as stack:
            target = "pathlib.Path.open" if self.kind == "open" else f"os.{self.kind}"
            real = Path.open if self.kind == "open" else getattr(os, self.kind)

            def watched(first: Any, *rest: Any, **words: Any) -> Any:
                name = str(first)
                if isinstance(first, int):
                    name = os.path.realpath(f"/proc/self/fd/{first}")
                writes = self.kind != "open" or "xb" in (*rest, words.get("mode"))
                if name.startswith(self.folder) and writes:
                    self.seen += 1
                    if self.seen == self.number:
                        self.what()
                return real(first, *rest, **words)

            stack.enter_context(mock.patch(target, watched))
            yield self


def _fail() -> None:
    raise OSError(5, "Input/output error")


def _die() -> None:
    os._exit(9)


def _one(folder: Path) -> None:
    torch.set_num_threads(1)
    trial = sweeps.trials()[0]
    run_all([trial], store=Store(folder), jobs=1, device=torch.device("cpu"), title="one")


def _dying(folder: Path, kind: str, number: int) -> None:
    tqdm.set_lock(threading.RLock())
    with Counted(folder, kind, number, _die)():
        _one(folder)


def calls(folder: Path, quick: bool) -> Tally:
    """Let the n-th call of each kind fail, or be the last one, for every n: then go on."""
    tally, folder = Tally(), folder.resolve()
    _one(folder / "whole")
    expected = sweeps.outcome(folder / "whole")
    for kind in _CALLS:
        with Counted(folder / f"count {kind}", kind, 0, _fail)() as counted:
            _one(folder / f"count {kind}")
        assert counted.seen, f"{kind} is called otherwise"
        step = max(counted.seen // 2, 1) if quick else 1
        for number in range(1, counted.seen + 1, step):
            for what in ("fails", "kills"):
                store, raw = folder / f"{kind} {number} {what}", ""
                if what == "kills":
                    process = _FORK.Process(target=_dying, args=(store, kind, number))
                    process.start()
                    process.join(120.0)
                    raw = "" if process.exitcode == 9 else f"exit code {process.exitcode}"
                else:
                    try:
                        with Counted(store, kind, number, _fail)():
                            _one(store)
                    except NAMED as error:
                        raw = "" if "Input/output" in str(error) else repr(error)
                    except Exception as error:
                        raw = repr(error)
                kept = _sound(store)
                _one(store)
                lost = any(not path.exists() for path in kept)
                tally.add(
                    f"{kind} {number} {what}",
                    raw=raw,
                    lost=lost,
                    wrong=sweeps.outcome(store) != expected,
                )
    return tally


def _sound(store: Path) -> list[Path]:
    """Return the whole records of a store; whatever else is there must not be one."""
    found = []
    for path in store.rglob("*.json"):
        try:
            read_record(path)
            found.append(path)
        except DamagedFileError:
            continue
    return found


def _write_on(folder: Path, said: Any) -> None:
    """Keep record after record; say each once it is there."""
    store = Store(folder)
    for number in range(10_000):
        request = {"experiment": f"e{number % 7}", "label": f"r{number}", "number": number}
        store.save(request, {"value": "x" * 300}, {})
        said.put(number)


def power(folder: Path, quick: bool) -> Tally:
    """Cut the power: copy an ext4 disk while records are written, and look at the copy.

    What the copy holds is what had reached the disk. Where disks cannot be mounted, nothing is
    tried, and the figures say so.
    """
    tally = Tally()
    for number in range(2 if quick else 20):
        image, place = folder / "disk.img", folder / "disk"
        place.mkdir(exist_ok=True)
        image.write_bytes(bytes(16 << 20))
        made = subprocess.run(
            ["mkfs.ext4", "-q", "-F", str(image)], capture_output=True, check=False
        )
        if made.returncode or not _mounted(image, place):
            return tally
        said: Any = _FORK.Queue()
        process = _FORK.Process(target=_write_on, args=(place, said))
        process.start()
        reported = [said.get(timeout=30.0) for _ in range(5 + 9 * number)]
        while not said.empty():
            reported.append(said.get())
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        _snapshot(image, folder / "copy.img")  # nothing is synchronised before
        process.kill()
        process.join()
        subprocess.run(["umount", str(place)], check=True)
        if not _mounted(folder / "copy.img", place):
            tally.add(f"power {number}", wrong="the copy cannot be mounted")
            continue
        try:
            there = {read_record(path)["request"]["number"] for path in place.rglob("*.json")}
            tally.add(f"power {number}", lost=sorted(set(reported) - there))
        except (DamagedFileError, OSError) as error:
            tally.add(f"power {number}", wrong=str(error))
        finally:
            subprocess.run(["umount", str(place)], check=True)
    return tally


def _snapshot(image: Path, copy: Path) -> None:
    """Copy an image in one state: until two copies in a row are equal, the disk was at work."""
    before = b""
    while (now := image.read_bytes()) != before:
        before = now
    copy.write_bytes(now)


def _mounted(image: Path, place: Path) -> bool:
    command = ["mount", "-o", "loop", str(image), str(place)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
