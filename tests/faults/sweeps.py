"""Sweeps that are killed, run out of disk, cannot write, race, or meet NaN and a wrong clock."""

import multiprocessing
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from tqdm.auto import tqdm

from hybrid.experiments.core.network import Labelled
from hybrid.experiments.core.samples import flat
from hybrid.experiments.core.trials import Trial, run_all
from hybrid.experiments.fault_tolerance import EXPERIMENT, METHODS
from hybrid.experiments.fault_tolerance.plans import SMOKE
from hybrid.experiments.fault_tolerance.run import score_faults
from hybrid.model.convolutional import Dense
from hybrid.runs.files import DamagedFileError
from hybrid.runs.store import Store, read_record
from tests.faults.tally import Tally

SETTINGS = replace(
    SMOKE,
    dataset=f"{Path(__file__).with_name('few.py')}:make",
    validation=60,
    dense=(Dense(size=16, plastic=True), Dense(size=10, plastic=True)),
    steps=3,
    schedule=replace(SMOKE.schedule, batch_size=100),
    faults=(("gaussian", (0.0, 0.06)),),
)
_CPU = torch.device("cpu")
_FORK = multiprocessing.get_context("fork")
_LONGEST = 120.0  # seconds; a sweep takes about two


def trials() -> list[Trial]:
    """Return a small sweep: three methods, two seeds."""
    return [Trial(EXPERIMENT, SETTINGS, method, seed) for seed in (1, 2) for method in METHODS[:3]]


def sweep(folder: Path) -> None:
    """Run the sweep in this process, or what is left of it."""
    torch.set_num_threads(1)
    run_all(trials(), store=Store(folder), jobs=1, device=_CPU, title="sweep")


def outcome(folder: Path) -> dict[str, Any]:
    """Return all that a sweep leaves but times: what records say, and weights byte by byte."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.name.startswith("."):
            continue  # what a killed process had begun to write
        if path.suffix == ".json":
            record = read_record(path)
            epochs = [
                {name: value for name, value in log.items() if "seconds" not in name}
                for log in record["result"]["epochs"]
            ]
            found[path.name] = {**record["result"], "epochs": epochs}
        elif path.suffix == ".safetensors":
            found[path.name] = path.read_bytes()
    return found


def _sweep_alone(folder: Path) -> None:
    """Run the sweep in a process of its own, which shares no lock with its parent.

    tqdm's lock is one for all forked processes: one that is killed while it writes a progress
    bar keeps the lock, and the next sweep would wait for ever.
    """
    tqdm.set_lock(threading.RLock())
    sweep(folder)


def kills(folder: Path, expected: dict[str, Any], count: int, seed: int = 0) -> dict[str, int]:
    """Kill sweeps at random moments, again and again, and compare what is left in the end.

    Args:
        folder: for the stores.
        expected: outcome of a sweep that nobody disturbed.
        count: kills.
        seed: of the moments.
    """
    source = np.random.default_rng(seed)
    killed = sweeps = lost = 0
    while killed < count:
        store = folder / f"sweep{sweeps}"
        finished: dict[str, bytes] = {}
        while True:
            process = _FORK.Process(target=_sweep_alone, args=(store,))
            process.start()
            process.join(float(source.uniform(0.02, 1.0)))
            if process.is_alive() and killed < count:
                assert process.pid is not None
                os.kill(process.pid, signal.SIGKILL)
                killed += 1
            process.join(_LONGEST)
            if process.is_alive():
                process.kill()
                raise AssertionError(f"a sweep that goes on did not end in {_LONGEST} s")
            there = {path.name: path.read_bytes() for path in store.rglob("*.json")}
            lost += sum(there.get(name) != content for name, content in finished.items())
            for path in store.rglob("*.json"):
                read_record(path)  # whole, or it would raise
            finished = there
            assert process.exitcode in (0, -signal.SIGKILL), "the sweep itself failed"
            if process.exitcode == 0:
                break
        assert outcome(store) == expected, "the sweep ended in something else"
        sweeps += 1
    return {"kills": killed, "sweeps": sweeps, "records lost": lost}


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[str]:
    """Let a folder be a disk of its own, or at least limit how large files may be."""
    folder.mkdir(parents=True, exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode == 0:
        try:
            yield "tmpfs"
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * kilobytes // 4, before[1]))
    try:
        yield "a limit of file sizes"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def full_disk(folder: Path, expected: dict[str, Any]) -> dict[str, object]:
    """Let the disk fill up: a clear error, whole records, and a run that goes on elsewhere."""
    with small_disk(folder / "disk", 480) as kind:
        message = _message(lambda: sweep(folder / "disk"))
        whole = {path: read_record(path) for path in (folder / "disk").rglob("*.json")}
        for path in (folder / "disk").rglob("*"):
            if path.is_file():
                target = folder / "larger" / path.relative_to(folder / "disk")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    assert "free space" in message, message
    assert whole, "the disk was full before the first record"
    kept = {path: path.read_bytes() for path in (folder / "larger").rglob("*.json")}
    sweep(folder / "larger")
    assert outcome(folder / "larger") == expected
    lost = sum(path.read_bytes() != content for path, content in kept.items())
    return {"disk": kind, "records before it was full": len(whole), "records lost": lost}


def read_only(folder: Path) -> dict[str, object]:
    """Run into a store that cannot be written: a file stands where its folder should be."""
    (folder / "store").write_text("not a folder")
    message = _message(lambda: sweep(folder / "store"))
    assert "make the folder writable" in message, message
    assert (folder / "store").read_text() == "not a folder"
    return {"clear errors": 1}


def _message(work: Callable[[], object]) -> str:
    try:
        work()
    except OSError as error:
        return str(error)
    raise AssertionError("it should have failed")


def damaged_records(folder: Path, path: Path, step: int = 1) -> dict[str, int]:
    """Change each byte of a record, and cut it at each length: never another record than before."""
    content, original = path.read_bytes(), read_record(path)
    copy = folder / "record.json"
    tried = refused = wrong = 0
    for place in range(0, len(content), step):
        changed = content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]
        for damaged in (changed, content[:place]):
            copy.write_bytes(damaged)
            tried += 1
            try:
                found = read_record(copy)
            except DamagedFileError:
                refused += 1
            else:
                wrong += found != original
    return {"records tried": tried, "refused": refused, "wrong records believed": wrong}


def _write_many(folder: Path, writer: int, count: int) -> None:
    store = Store(folder)
    for number in range(count):
        request = {"experiment": "race", "label": f"r{number}", "number": number}
        if store.load(request) is None:
            store.save(request, {"value": number}, {"writer": writer})


def writers(folder: Path, processes: int = 8, count: int = 100) -> dict[str, int]:
    """Let processes write the same records at once: each is whole in the end, and there once."""
    racing = [_FORK.Process(target=_write_many, args=(folder, i, count)) for i in range(processes)]
    for process in racing:
        process.start()
    for process in racing:
        process.join()
    assert [process.exitcode for process in racing] == [0] * processes
    records = [read_record(path) for path in (folder / "race").glob("*.json")]
    assert not list((folder / "race").glob(".*")), "temporary files are left"
    lost = len(set(range(count)) - {record["result"]["value"] for record in records})
    return {"processes": processes, "records": len(records), "records lost": lost}


def backward_clock(folder: Path, expected: dict[str, Any]) -> dict[str, int]:
    """Let all clocks go backwards while a sweep runs."""
    began = time.time()
    ticks = iter(range(1_000_000))

    def back() -> float:
        return began - 10.0 * next(ticks)

    with mock.patch("time.time", back), mock.patch("time.perf_counter", back):
        sweep(folder)
    found = outcome(folder)
    lost = sum(found.get(name) != content for name, content in expected.items())
    return {"records": len(trials()), "records lost": lost}


def nan_injection(folder: Path) -> dict[str, int]:
    """Give NaN to training: an error that says so, and no record."""

    def broken(settings: Any, pixels: np.ndarray) -> torch.Tensor:
        inputs = flat(settings, pixels).clone()
        inputs[::2] = float("nan")  # of training and validation images
        return inputs

    training = Labelled(test=score_faults, inputs=broken)
    experiment = replace(EXPERIMENT, begin=training.begin)
    named = 0
    for trial in trials()[:3]:
        changed = replace(trial, experiment=experiment)
        try:
            run_all([changed], store=Store(folder), jobs=1, device=_CPU, title="NaN")
        except ArithmeticError as error:
            named += "check the inputs for NaN" in str(error)
    assert named == 3
    assert not list(folder.rglob("*.json")), "a result of NaN was kept"
    return {"trials": 3, "named errors": named, "records kept": 0}


def killed(folder: Path, quick: bool) -> Tally:
    """Kill sweeps again and again: no finished record is lost, and the end is the same."""
    tally = Tally()
    sweep(folder / "undisturbed")
    found = kills(folder, outcome(folder / "undisturbed"), 8 if quick else 60)
    tally.add_many("kill", found["kills"], lost=found["records lost"])
    return tally


def damaged(folder: Path, quick: bool) -> Tally:
    """Change and cut a record at each byte, or in small at every fourth."""
    tally = Tally()
    sweep(folder / "sweep")
    record = next((folder / "sweep").rglob("*.json"))
    found = damaged_records(folder, record, step=4 if quick else 1)
    tally.add_many("record", found["records tried"], wrong=found["wrong records believed"])
    return tally


def troubles(folder: Path, quick: bool) -> Tally:
    """Let disks fill up, folders be files, writers race, clocks go backwards, data be NaN."""
    tally = Tally()
    sweep(folder / "undisturbed")
    expected = outcome(folder / "undisturbed")
    for name, attack in (
        ("full disk", lambda own: full_disk(own, expected)),
        ("store is a file", read_only),
        ("writers at once", lambda own: writers(own, count=20 if quick else 100)),
        ("clock goes backwards", lambda own: backward_clock(own, expected)),
        ("NaN in the data", nan_injection),
    ):
        own = folder / name
        own.mkdir()
        tally.add(name, lost=attack(own).get("records lost", 0))
    return tally
