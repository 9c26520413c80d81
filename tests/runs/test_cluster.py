"""Trials on a real Dask cluster of two worker processes, one of which is killed."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import dask
import nbformat
import pytest
from distributed import Client, LocalCluster

from hybrid.experiments.core.experiment import Group
from hybrid.experiments.core.trials import Trial, choose_device, run_all
from hybrid.experiments.fault_tolerance import EXPERIMENT, PLANS
from hybrid.experiments.fault_tolerance.plans import SMOKE
from hybrid.model.convolutional import Dense
from hybrid.runs import cluster as work_on_clusters
from hybrid.runs.cluster import connected, on_cluster
from hybrid.runs.fanout import fan_out
from hybrid.runs.notebooks import NotebookError, Page, execute_all
from hybrid.runs.store import Store, read_record
from tests.faults.trees import Cluster as ClusterOfProcesses
from tests.faults.trees import begun

SMALL = replace(
    SMOKE,
    validation=4_000,
    dense=(Dense(size=24, plastic=True), Dense(size=10, plastic=True)),
    steps=3,
    schedule=replace(SMOKE.schedule, epochs=2),
    faults=(("gaussian", (0.0, 0.06)),),
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as made:
        yield made


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Group(settings=(SMALL,), methods=("LP", "GP", "HP"), seeds=2)
    monkeypatch.setitem(PLANS, "smoke", (small,))


def parts(folder: Path) -> dict[str, Any]:
    """Return what records say of results, and the bytes of trained weights."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".json":
            record = read_record(path)
            found[path.name] = (record["request"], _without_times(record["result"]))
        elif path.suffix == ".safetensors":
            found[path.name] = path.read_bytes()
    return found


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if "seconds" not in k}
    return [_without_times(v) for v in value] if isinstance(value, list) else value


@pytest.mark.usefixtures("plan")
def test_a_cluster_gives_the_bytes_of_a_local_run_also_without_one_of_its_workers(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    EXPERIMENT.run("smoke", store=Store(here))
    killed: list[int] = []
    stop = threading.Event()

    def kill_one() -> None:
        """Kill a worker as soon as it is busy."""
        with Client(cluster.scheduler_address, set_as_default=False) as client:
            pids = client.run(os.getpid)
            while not killed and not stop.is_set():
                busy = [worker for worker, tasks in client.processing().items() if tasks]
                for worker in busy[:1]:
                    os.kill(pids[worker], signal.SIGKILL)
                    killed.append(pids[worker])
                time.sleep(0.05)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    try:
        with connected(cluster.scheduler_address):
            assert on_cluster()
            EXPERIMENT.run("smoke", store=Store(there))
    finally:
        stop.set()
        killer.join(10.0)
    assert not on_cluster()
    assert killed, "no worker was killed while it was busy"
    expected = parts(here)
    assert len(expected) == 2 * 6
    assert parts(there) == expected


@pytest.mark.usefixtures("plan")
def test_what_is_in_the_store_is_not_computed_again(cluster: LocalCluster, tmp_path: Path) -> None:
    store = Store(tmp_path)
    EXPERIMENT.run("smoke", store=store, methods=["GP"])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    with connected(cluster.scheduler_address):
        EXPERIMENT.run("smoke", store=store, methods=["GP", "LP", "HP"])
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert len(after) == 6
    assert {path: after[path] for path in before} == before


def test_each_point_of_a_sweep_gets_its_own_record(cluster: LocalCluster) -> None:
    """Trials under one label that differ in one constant."""
    quick = replace(SMALL, schedule=replace(SMALL.schedule, epochs=1))
    trials = [
        Trial(
            EXPERIMENT, replace(quick, dense=(hidden, SMALL.dense[1])), EXPERIMENT.method("GP"), 1
        )
        for hidden in (Dense(size=8, plastic=True), Dense(size=40, plastic=True))
    ]
    words: dict[str, Any] = {
        "store": None,
        "jobs": 1,
        "device": choose_device("cpu"),
        "title": "it",
    }
    with connected(cluster.scheduler_address):
        there = run_all(trials, **words)
    here = run_all(trials, **words)
    sizes = [record["request"]["settings"]["dense"][0]["size"] for record in there]
    assert sizes == [8, 40]
    assert [_without_times(record["result"]) for record in there] == [
        _without_times(record["result"]) for record in here
    ]
    assert here[0]["result"]["tests"] != here[1]["result"]["tests"]


def test_notebooks_run_on_a_cluster_and_come_back(cluster: LocalCluster, tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook()
    lines = 'out_dir = "."', "import os, pathlib", "pathlib.Path(out_dir).mkdir()"
    write = 'pathlib.Path(out_dir, "figure.txt").write_text(str(os.getppid()))'
    notebook.cells = [
        nbformat.v4.new_code_cell(lines[0], metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("\n".join([*lines[1:], write])),
    ]
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "", "language": "python"}
    }
    content = nbformat.writes(notebook).encode()
    pages = [Page(f"{name}.ipynb", content, {}) for name in ("one", "two")]
    with connected(cluster.scheduler_address):
        done = execute_all(
            pages, folder=tmp_path / "done", figures=tmp_path / "figures", jobs=1, title="it"
        )
    assert [page.name for page in done] == ["one.ipynb", "two.ipynb"]
    executed = nbformat.read(tmp_path / "done" / "two.ipynb", 4)
    assert [cell.execution_count for cell in executed.cells] == [1, 2, 3]
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        assert (
            int((tmp_path / "figures" / "figure.txt").read_text()) in client.run(os.getpid).values()
        )


def _die(task: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_work_that_no_worker_survives_is_given_up() -> None:
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as made,
        pytest.raises(ChildProcessError, match=r"lost at the same piece of work.*run again"),
        connected(made.scheduler_address),
    ):
        list(fan_out(_die, [1], jobs=1, title="dying"))


def test_a_cluster_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybrid.runs.cluster._PATIENCE", 0.5)
    with (
        pytest.raises(ValueError, match="no Dask scheduler answers"),
        connected("tcp://127.0.0.1:1"),
    ):
        pass


@pytest.mark.parametrize("workers", [0, 1])
def test_a_cluster_needs_one_worker(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybrid.runs.cluster._PATIENCE", 0.5)
    with LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=False,
        dashboard_address=":0",
        protocol="tcp://",
        host="127.0.0.1",
    ) as made:
        if workers:
            with connected(made.scheduler_address):
                assert list(fan_out(_double, [4], jobs=1, title="one")) == [(0, 8)]
        else:
            with (
                pytest.raises(ValueError, match="has no worker: start some"),
                connected(made.scheduler_address),
            ):
                pass


def _double(task: int) -> int:
    return 2 * task


def test_workers_with_other_code_are_named(cluster: LocalCluster) -> None:
    with (
        pytest.raises(ValueError, match="runs other code"),
        connected(cluster.scheduler_address, lambda: str(os.getpid())),
    ):
        pass
    with connected(cluster.scheduler_address, lambda: "the same"):
        assert on_cluster()


def test_workers_without_the_code_are_named(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = ModuleType("only_here")
    exec("def code():\n    return 'this'", elsewhere.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", elsewhere)
    with (
        pytest.raises(ValueError, match="runs other code"),
        connected(cluster.scheduler_address, elsewhere.code),
    ):
        pass


@pytest.mark.usefixtures("plan")
def test_what_other_code_computed_is_not_kept(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybrid.experiments.core.trials.source_sha256", lambda: "another state")
    with (
        pytest.raises(ValueError, match="with other code: install this state"),
        connected(cluster.scheduler_address),
    ):
        EXPERIMENT.run("smoke", store=Store(tmp_path), methods=["GP"], seeds=1)
    assert not list(tmp_path.rglob("*.json"))


def test_a_notebook_that_fails_is_kept_and_named(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_code_cell('out_dir = "."', metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("1 / 0"),
    ]
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "", "language": "python"}
    }
    page = Page("bad.ipynb", nbformat.writes(notebook).encode(), {})
    with pytest.raises(NotebookError, match=r"bad.ipynb: cell 3 raised ZeroDivisionError"):
        execute_all([page], folder=tmp_path, figures=tmp_path / "figures", jobs=1, title="it")
    kept = nbformat.read(tmp_path / "bad.ipynb", 4)
    assert "ZeroDivisionError" in str(kept.cells[-1].outputs)


def test_workers_with_several_threads_are_refused() -> None:
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=2,
            processes=False,
            dashboard_address=":0",
            protocol="tcp://",
            host="127.0.0.1",
        ) as made,
        pytest.raises(ValueError, match="--nthreads 1"),
        connected(made.scheduler_address),
    ):
        pass


def test_a_scheduler_that_dies_is_one_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ClusterOfProcesses(tmp_path) as made:
        with (
            pytest.raises(ConnectionError, match="scheduler is gone: start it"),
            connected(made.address),
        ):
            _while_it_dies(made)
        assert not caplog.records


def _while_it_dies(made: ClusterOfProcesses) -> None:
    threading.Timer(0.5, made.all[0].kill).start()
    list(fan_out(time.sleep, [1.0] * 20, jobs=1, title="it"))


def test_it_is_said_that_no_worker_is_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_on_clusters, "_LOOKED", 0.1)
    with ClusterOfProcesses(tmp_path) as made, connected(made.address):
        for worker in made.all[1:]:
            worker.kill()
        end = time.monotonic() + 30.0
        while not caplog.records and time.monotonic() < end:
            time.sleep(0.05)
    (record,) = caplog.records
    assert "has no worker left: work waits; start some with `dask worker" in record.getMessage()


def test_workers_with_another_library_are_named(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is compared here is asked here and there: another number stands for another torch."""
    real = work_on_clusters.version
    monkeypatch.setattr(
        work_on_clusters, "version", lambda name: "0.1" if name == "torch" else real(name)
    )
    with (
        pytest.raises(ValueError, match=r"runs torch .*, not 0\.1: install this state"),
        connected(cluster.scheduler_address),
    ):
        pass


def test_a_worker_that_joins_late_must_be_as_the_others(tmp_path: Path) -> None:
    """With several threads it would share one generator of random numbers among pieces of work."""
    with ClusterOfProcesses(tmp_path) as made, connected(made.address):
        for worker in made.all[1:]:
            worker.kill()
        made.all.append(
            begun("distributed.cli.dask_worker", made.address, "--nthreads", "2", "--no-nanny")
        )
        with pytest.raises(ValueError, match="has several threads: start it with --nthreads 1"):
            list(fan_out(_double, [1, 2], jobs=1, title="it"))
