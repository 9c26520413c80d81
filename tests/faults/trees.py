"""Processes whose parents, kernels, schedulers or workers are ended: nobody outlives them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import psutil
from nbformat.v4 import new_code_cell, new_notebook

from hybrid.runs.notebooks import Page, execute
from hybrid.runs.store import read_record
from tests.faults.tally import Tally

WITHIN = 10.0  # seconds after which nobody may be left
_SIGNALS = ("SIGTERM", "SIGKILL", "SIGHUP")


def _run(seeds: int) -> tuple[str, ...]:
    """Return the command that trains so many networks, two at a time."""
    return ("run", "fault_tolerance", "--method", "GP", "--seeds", str(seeds), "--jobs", "2")


def begun(*command: str, folder: Path | None = None) -> subprocess.Popen[str]:
    """Start a command in a session of its own, by which its processes are found."""
    with hearing_hangups():
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
        )


@contextmanager
def hearing_hangups() -> Iterator[None]:
    """Begin processes that SIGHUP ends, also where this one was begun by `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def alive(session: int) -> list[int]:
    """Return the processes of a session that have not ended."""
    found = []
    for process in psutil.process_iter(["status"]):
        try:
            own = os.getsid(process.pid) == session
        except (ProcessLookupError, PermissionError):  # gone meanwhile, or another user's
            continue
        if own and process.info["status"] not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            found.append(process.pid)
    return found


def waited(there: Callable[[], object], within: float) -> bool:
    """Wait until something is true; return whether it was in time."""
    end = time.monotonic() + within
    while not there():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def ended(parent: subprocess.Popen[str], signal_name: str) -> tuple[int | None, int, str]:
    """Send a signal to a parent alone; return its exit code, how many outlive it, what it said."""
    os.kill(parent.pid, getattr(signal, signal_name))
    try:
        waited(lambda: parent.poll() is not None and not alive(parent.pid), WITHIN)
        code, orphans = parent.poll(), len(alive(parent.pid))
    finally:
        for process in alive(parent.pid):
            os.kill(process, signal.SIGKILL)
        _, said = parent.communicate()
    return code, orphans, said or ""


def expected_code(signal_name: str) -> int:
    """Return the exit code of a command that such a signal ended."""
    number = int(getattr(signal, signal_name))
    return -number if signal_name == "SIGKILL" else 128 + number


def of_runs(folder: Path, signal_name: str, tally: Tally) -> None:
    """End the parent of a run with two workers, and go on."""
    store = folder / f"run {signal_name}"
    parent = begun("hybrid", *_run(2), "--store", str(store))
    begins = waited(lambda: list(store.rglob("*.checkpoint.safetensors")), 90.0)
    here = len(alive(parent.pid))
    code, orphans, first = ended(parent, signal_name)
    kept = {path: path.read_bytes() for path in store.rglob("*.json")}
    again = begun("hybrid", *_run(2), "--store", str(store))
    _, said = again.communicate(timeout=180.0)
    records = [read_record(path) for path in store.rglob("*.json")]
    tally.add(
        f"run, {signal_name}",
        orphans=orphans,
        lost=any(path.read_bytes() != content for path, content in kept.items())
        or len(records) != 2,
        wrong=list(store.rglob("*.checkpoint.safetensors")),
        raw="Traceback" in first + said
        or not begins
        or here < 3
        or code != expected_code(signal_name),
    )


def of_notebooks(folder: Path, signal_name: str, tally: Tally) -> None:
    """End the parent of two notebooks at work, whose kernels are the workers' children."""
    code = """
import sys
from pathlib import Path
from hybrid.runs.notebooks import Page, execute_all
folder = Path(sys.argv[1])
pages = [Page(f"{name}.ipynb", (folder / "it.ipynb").read_bytes(), {}) for name in "ab"]
execute_all(pages, folder=folder / "done", figures=folder / "figures", jobs=2, title="two")
"""
    own = folder / f"notebooks {signal_name}"
    own.mkdir()
    (own / "it.py").write_text(code, "utf-8")
    mark = own / "kernels"
    mark.mkdir()
    cell = f"import os, time\nopen('{mark}/' + str(os.getpid()), 'w')\ntime.sleep(60)"
    (own / "it.ipynb").write_bytes(page(cell).content)
    with hearing_hangups():
        parent = subprocess.Popen(
            [sys.executable, str(own / "it.py"), str(own)],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    begins = waited(lambda: len(list(mark.iterdir())) == 2, 90.0)
    kernels = [int(path.name) for path in mark.iterdir()]
    _, orphans, _ = ended(parent, signal_name)
    waited(lambda: not any(map(psutil.pid_exists, kernels)), WITHIN)
    left = [kernel for kernel in kernels if psutil.pid_exists(kernel)]
    for kernel in left:
        os.kill(kernel, signal.SIGKILL)
    tally.add(f"notebooks, {signal_name}", orphans=orphans + len(left), raw=not begins)


def page(source: str) -> Page:
    """Return a notebook of one cell."""
    notebook = new_notebook(cells=[new_code_cell(source)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "x", "language": "python"}
    return Page("it.ipynb", nbformat.writes(notebook).encode(), {})


def kernels(tally: Tally) -> None:
    """Kill a kernel from within: one line with the remedy."""
    done = execute(page("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"))
    said = done.failed or ""
    tally.add("kernel killed", raw="run again" not in said or "\n" in said)


class Cluster:
    """A scheduler and two workers in sessions of their own, which can be ended."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        place = folder / "scheduler.json"
        place.unlink(missing_ok=True)
        common = ["--scheduler-file", str(place), "--no-dashboard"]
        host = ("--host", "127.0.0.1", "--port", "0")  # any port: others may run beside
        self.all = [begun("distributed.cli.dask_scheduler", *host, *common)]
        # The file is there before its text is.
        if not waited(lambda: place.exists() and place.read_text("utf-8").endswith("}"), 180.0):
            self.__exit__()
            raise TimeoutError("the scheduler has not said where it is")
        self.address = json.loads(place.read_text("utf-8"))["address"]
        options = ("--nthreads", "1", "--no-nanny", *common)
        self.all += [begun("distributed.cli.dask_worker", *options) for _ in range(2)]

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.all:
            process.kill()
            process.communicate()


def of_clusters(folder: Path, who: str, tally: Tally) -> None:
    """End the command, the scheduler, or all workers of a run on a cluster."""
    store = folder / f"cluster {who}"
    command = ("hybrid", *_run(4), "--store", str(store))
    with Cluster(folder / "made") as cluster:
        parent = begun(*command, "--cluster", cluster.address)
        waited(lambda: _busy(cluster), 60.0)
        if who in _SIGNALS:
            code, orphans, said = ended(parent, who)
            fine = code == expected_code(who) and "Traceback" not in said
        else:
            victims = cluster.all[:1] if who == "scheduler" else cluster.all[1:]
            for process in victims:
                process.kill()
            try:
                _, said = parent.communicate(timeout=30.0)
            except subprocess.TimeoutExpired:  # it waits for workers, and has said so
                parent.terminate()
                _, said = parent.communicate(timeout=30.0)
            orphans = len(alive(parent.pid))
            remedy = "start it" if who == "scheduler" else "start some with"
            fine = remedy in said and "Traceback" not in said
    again = begun(*command)
    again.communicate(timeout=180.0)
    lost = len(list(store.rglob("*.json"))) != 4
    tally.add(f"cluster, {who}", orphans=orphans, raw="" if fine else said[-300:] or who, lost=lost)


def _busy(cluster: Cluster) -> bool:
    times = [psutil.Process(process.pid).cpu_times().user for process in cluster.all[1:]]
    return max(times) > 6.0  # importing the package takes some of them


def trees(folder: Path, quick: bool) -> Tally:
    """End parents, kernels, schedulers and workers; count who is left after ten seconds."""
    tally = Tally()
    for name in _SIGNALS[: 1 if quick else 3]:
        of_runs(folder, name, tally)
    if quick:
        return tally
    kernels(tally)
    for name in _SIGNALS:
        of_notebooks(folder, name, tally)
    for who in (*_SIGNALS, "scheduler", "workers"):
        of_clusters(folder, who, tally)
    return tally
