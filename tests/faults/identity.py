"""Things under other names, code that changes meanwhile, and what must be part of a key."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from hybrid.experiments.core.trials import (
    Place,
    Task,
    compute,
    hash_of_code,
    load_network,
    source_sha256,
)
from hybrid.experiments.registry import EXPERIMENTS
from hybrid.learning.checkpoint import load_checkpoint, made_by
from hybrid.paths import package_sources, project_root
from hybrid.runs.files import canonical_json, read_sealed
from hybrid.runs.store import Store, read_record
from tests.faults import sweeps
from tests.faults.tally import Tally

_CPU = torch.device("cpu")


def names(folder: Path, quick: bool) -> Tally:
    """Put each record, weight file and checkpoint of a sweep under the names of all others."""
    tally, store = Tally(), Store(folder)
    sweeps.sweep(folder)
    trials = sweeps.trials()[: 3 if quick else None]
    requests = [trial.request() for trial in trials]
    records = [store.path(request).read_bytes() for request in requests]
    weights = [store.weights_path(request).read_bytes() for request in requests]
    checkpoints = []
    for trial, request in zip(trials, requests, strict=True):
        place = Place(_CPU, store.checkpoint_path(request), store, None, True)
        compute(Task((trial,), (place,), source_sha256(), request["data"]))
        assert place.checkpoint is not None
        checkpoints.append(place.checkpoint.read_bytes())
    for own, other in permutations(range(len(trials)), 2):
        trial, request = trials[own], requests[own]
        what = f"{trials[other].name} under the name of {trial.name}"
        store.path(request).write_bytes(records[other])
        tally.ask(f"record of {what}", lambda r=request: store.load(r), lambda found: False)
        store.path(request).write_bytes(records[own])
        store.weights_path(request).write_bytes(weights[other])
        tally.ask(f"weights of {what}", lambda t=trial: load_network(t, store), lambda found: False)
        store.weights_path(request).write_bytes(weights[own])
        path = store.checkpoint_path(request)
        path.write_bytes(checkpoints[other])
        by = {trial.name: f"{Store.key(request)} {source_sha256()[:16]}"}
        with made_by(by):
            network = trial.build()
            tally.ask(
                f"checkpoint of {what}",
                lambda t=trial, n=network, p=path: load_checkpoint(p, n, (), title=t.name),
                lambda found: False,
            )
    return tally


def side_records(folder: Path, quick: bool) -> Tally:
    """Change every 50th byte of what is committed beside records: none is believed."""
    tally, root = Tally(), project_root() / "data"
    for path in [*sorted(root.glob("*.json")), *sorted((root / "results").glob("*.json"))]:
        content, original = path.read_bytes(), read_sealed(path)
        copy = folder / path.name
        for place in range(0, len(content), len(content) // (10 if quick else 50)):
            copy.write_bytes(
                content[:place] + bytes([content[place] ^ 0x11]) + content[place + 1 :]
            )
            tally.ask(
                f"{path.name}, byte {place}",
                lambda c=copy: read_sealed(c),
                lambda found, o=original: found == o,
            )
    return tally


def keys(folder: Path, quick: bool) -> Tally:
    """Change each file that decides, each constant of each experiment, and its data."""
    tally = Tally()
    sources = package_sources()
    before = source_sha256()
    for name in list(sources)[:: 10 if quick else 1]:
        changed = {**sources, name: sources[name] + "\n# more"}
        with mock.patch("hybrid.experiments.core.trials.package_sources", return_value=changed):
            tally.add(f"code of {name}", wrong=hash_of_code() == before)
    for experiment in EXPERIMENTS.values():
        trial = experiment.trials("smoke")[0]
        known = canonical_json(trial.request("d"))
        tally.add(f"data of {experiment.name}", wrong=canonical_json(trial.request("e")) == known)
        for name, changed_settings in _variants(trial.settings):
            other = canonical_json(replace(trial, settings=changed_settings).request("d"))
            tally.add(f"{experiment.name}: {name}", wrong=other == known)
    return tally


def _variants(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield settings that differ in one constant, at any depth."""
    for own in (own for own in fields(settings) if own.init):
        value, name = getattr(settings, own.name), f"{prefix}{own.name}"
        if is_dataclass(value):
            for deeper, changed in _variants(value, f"{name}."):
                yield deeper, _with(settings, own.name, changed)
        elif isinstance(value, tuple) and value and all(map(is_dataclass, value)):
            for number, part in enumerate(value):
                for deeper, changed in _variants(part, f"{name}[{number}]."):
                    parts = (*value[:number], changed, *value[number + 1 :])
                    yield deeper, _with(settings, own.name, parts)
        else:
            yield name, _with(settings, own.name, _other(value))


def _with(settings: Any, name: str, value: Any) -> Any:
    """Return a copy with one field changed, whether or not it makes sense together."""
    copy = object.__new__(type(settings))
    for own in fields(settings):
        object.__setattr__(copy, own.name, getattr(settings, own.name))
    object.__setattr__(copy, name, value)
    return copy


def _other(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        return value + 1
    return value + value if value and isinstance(value, str | tuple) else "another"


_CODE = """
import sys, torch
from pathlib import Path
from tests.faults import sweeps
sweeps.sweep(Path(sys.argv[1]))
"""


def code(folder: Path, quick: bool) -> Tally:
    """Edit the package before, during and between kills of a sweep: no result of two codes."""
    tally = Tally()
    package = folder / "code"
    for name in ("hybrid", "tests", "data/registry.txt", "pyproject.toml"):
        source, target = project_root() / name, package / name
        target.parent.mkdir(parents=True, exist_ok=True)
        ignored = shutil.ignore_patterns("__pycache__", "vectors")
        copied = shutil.copytree(source, target, ignore=ignored) if source.is_dir() else None
        if copied is None:
            shutil.copy(source, target)
    edited = package / "hybrid" / "learning" / "training.py"
    texts = [edited.read_text("utf-8")]
    texts.append(texts[0].replace("F.mse_loss(", "F.l1_loss("))
    assert texts[1] != texts[0]
    expected = []
    for number, text in enumerate(texts):
        edited.write_text(text, "utf-8")
        _run(package, folder / f"whole{number}", None)
        expected.append(_results(folder / f"whole{number}"))
    assert expected[0] != expected[1], "the edit must show"
    moments = (None, 0.3) if quick else (None, 0.1, 0.5, 1.2)
    for when in moments:
        for during in (False, True):
            store = folder / f"edited {when} {during}"
            edited.write_text(texts[0], "utf-8")
            _run(package, store, when, edit=(edited, texts[1]) if during else None)
            edited.write_text(texts[1], "utf-8")
            _run(package, store, None)
            found = _results(store)
            mixed = [
                name
                for name, (source, result) in found.items()
                if (source, result) not in (whole[name] for whole in expected)
            ]
            tally.add(f"edited {when} {during}", wrong=mixed, lost=len(found) != len(expected[0]))
    return tally


def _run(
    package: Path, store: Path, kill: float | None, edit: tuple[Path, str] | None = None
) -> None:
    """Run the sweep with a copy of the code; kill it so many seconds after its first file."""
    environment = {**os.environ, "PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", _CODE, str(store)]
    process = subprocess.Popen(
        command, cwd=package, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    if kill is not None or edit is not None:
        end = time.monotonic() + 60.0
        while not list(store.rglob("*.safetensors")) and time.monotonic() < end:
            time.sleep(0.01)
        if edit is not None:
            edit[0].write_text(edit[1], "utf-8")
        if kill is not None:
            time.sleep(kill)
            os.killpg(process.pid, signal.SIGKILL)
    process.wait(120.0)


def _results(store: Path) -> dict[str, tuple[str, str]]:
    """Return what records say: by which code, and what came out but for times."""
    found = {}
    for path in store.rglob("*.json"):
        record = read_record(path)
        epochs = [
            {name: value for name, value in log.items() if "seconds" not in name}
            for log in record["result"]["epochs"]
        ]
        result = canonical_json({**record["result"], "epochs": epochs})
        found[path.name] = (record["about"]["source"], result)
    return found
