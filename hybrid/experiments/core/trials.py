"""Trials: one network each, trained, tested, recorded and resumed alike in every experiment.

There is one way to run them, on this machine and on a cluster: a worker computes and sends bytes,
the process that was started by hand keeps them.
"""

import logging
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import torch
from torch import nn

from hybrid.described import as_json
from hybrid.experiments.core.methods import Method
from hybrid.experiments.core.settings import SettingsT
from hybrid.learning.checkpoint import made_by
from hybrid.learning.fitting import EpochLog, Training, fit
from hybrid.learning.lease import LeaseOverError, Noted, lease, legs, over
from hybrid.learning.side_by_side import fit_side_by_side
from hybrid.paths import package_sources
from hybrid.runs.cluster import on_cluster
from hybrid.runs.fanout import fan_out
from hybrid.runs.files import (
    DamagedFileError,
    canonical_json,
    load_tensors,
    sha256,
    tensor_bytes,
    write_atomically,
)
from hybrid.runs.instructions import FIXED, processor
from hybrid.runs.store import Json, Store
from hybrid.version import __version__

_log = logging.getLogger(__name__)
if TYPE_CHECKING:
    from hybrid.experiments.core.experiment import Experiment

MethodT = TypeVar("MethodT", bound=Method)


@dataclass(frozen=True)
class Trial(Generic[SettingsT, MethodT]):
    """One network: an experiment's settings, a method and a seed."""

    experiment: "Experiment[SettingsT, MethodT]"
    settings: SettingsT
    method: MethodT
    seed: int

    @property
    def name(self) -> str:
        """What progress bars and files call it; `identity` tells it from all others."""
        return f"{self.settings.label}-{self.method.name}-seed{self.seed}"

    def identity(self) -> Json:
        """Return all that was decided, whatever the data: constants, method and seed."""
        settings = as_json(self.settings)
        return {"settings": settings, "method": self.method.request(), "seed": self.seed}

    def request(self, data_sha256: str | None = None) -> Json:
        """Return the full description that the trial's record is stored under.

        Args:
            data_sha256: hash of the data; None to find it out, after fetching them.
        """
        return {
            "experiment": self.experiment.name,
            "label": self.name,
            **self.identity(),
            "data": data_sha256 or self.experiment.data_sha256(self.settings),
            "version": __version__,
        }

    def kind(self) -> str:
        """Return what trials have in common that differ by their seed alone."""
        return canonical_json({**self.identity(), "seed": 0, "experiment": self.experiment.name})

    def build(self) -> nn.Module:
        """Return the untrained network."""
        return self.experiment.build(self)


class Place(NamedTuple):
    """Where a trial runs.

    Attributes:
        device: computes.
        checkpoint: file that keeps the state after each epoch, so that a run which was killed goes
            on; None keeps nothing.
        store: of trained networks that a trial may build on; None where there is none.
        until: when the machine is given back, as of `time.time()`; None for never.
        untested: whether to end with the training, which the checkpoint keeps.
    """

    device: torch.device
    checkpoint: Path | None = None
    store: Store | None = None
    until: float | None = None
    untested: bool = False


class Begun(NamedTuple):
    """A trial that is ready to be trained.

    Attributes:
        training: of its network; None where nothing is trained, or not by itself.
        finish: given the logs of all epochs, tests the network; returns the result of the trial's
            record, and the network.
    """

    training: Training | None
    finish: Callable[[list[EpochLog]], tuple[Json, nn.Module]]


def trained(begun: Sequence[Begun]) -> list[list[EpochLog]]:
    """Train one network, or several side by side, and return the logs of each.

    Raises:
        ValueError: if there are several, and they cannot be side by side.
    """
    trainings = [own.training for own in begun if own.training is not None]
    if len(begun) == 1:
        return [fit(own) for own in trainings] or [[]]
    if len(trainings) < len(begun):
        raise ValueError(
            "one of these methods trains nothing by itself, so that nothing can be side by side: "
            "leave it out with --method, and run it without --side-by-side"
        )
    return fit_side_by_side(trainings)


def finished(begun: Sequence[Begun]) -> list[tuple[Json, nn.Module]]:
    """Train networks, see `trained`, and finish them one after the other."""
    return [own.finish(logs) for own, logs in zip(begun, trained(begun), strict=True)]


class Task(NamedTuple):
    """Trials on their way to a worker: one, or several to be trained side by side."""

    trials: tuple[Trial[Any, Any], ...]
    places: tuple[Place, ...]  # one for each; they differ in checkpoints alone
    source: str  # hash of the code, which must be the worker's, too
    data: str  # hash of the data that the record will name


class Computed(NamedTuple):
    """What a worker sends back."""

    result: Json  # the same for the same request, but for rounding
    about: Json  # where and how it ran
    weights: bytes


def compute(task: Task) -> list[Computed] | str:
    """Train and test what is asked for; if there is no time for it, say how far it came.

    Raises:
        ValueError: if the data or the code here are others than where the run was started.
    """
    trials, places, source, data = task
    if source != source_sha256():  # of a process that began later, or runs on another machine
        raise ValueError(
            f"a worker would compute {trials[0].name} with other code: install this state of it on "
            "all machines, and run again once nobody edits it; what is finished is kept"
        )
    trial, place, began = trials[0], places[0], time.perf_counter()
    # Else a GPU keeps ten bits of a convolution's float32 operands, and no record would say so.
    torch.backends.cudnn.allow_tf32 = False
    if trial.experiment.data_sha256(trial.settings) != data:
        raise ValueError(
            f"{trial.settings.dataset} holds other data in this process than where the run was "
            "started: a function of your own must return the same each time (give its generator a "
            "seed), and files must not change during a run"
        )
    if place.until is not None and over(until=place.until):
        return "not begun"
    known = {own.name: whole_identity(own.request(data)) for own in trials}
    try:
        with lease(place.until), legs() as noted, made_by(known):
            pairs = zip(trials, places, strict=True)
            begun = [own.experiment.begin(own, its) for own, its in pairs]
            logs = trained(begun)
            if place.untested and not all(own.training for own in begun):
                return "trains nothing by itself"
            if place.untested:
                return "is trained and waits for its tests"
            done = [own.finish(log) for own, log in zip(begun, logs, strict=True)]
    except LeaseOverError as stop:
        return str(stop)
    share = (time.perf_counter() - began) / len(trials)
    return [
        Computed(
            result,
            _about(
                own,
                share,
                task,
                [n for n in noted if n.title == own.name or len(trials) == 1],
            ),
            tensor_bytes(network.cpu().state_dict(), {"trial": own.name, "by": known[own.name]}),
        )
        for own, (result, network) in zip(trials, done, strict=True)
    ]


def whole_identity(request: Json) -> str:
    """Return what a checkpoint or the weights of a request are made by: it, and the code."""
    return f"{Store.key(request)} {source_sha256()[:16]}"


def _about(trial: Trial[Any, Any], seconds: float, task: Task, noted: Sequence[Noted]) -> Json:
    """Return where and how a trial ran, `seconds` of it in this process."""
    earlier, where = [n.leg for n in noted if not n.here], processor(task.places[0].device)
    together = len(task.trials)
    if together > 1 or any(leg["instructions"] != FIXED for leg in earlier):
        where["instructions"] = "of several"  # whose bits need not repeat
    about: Json = {
        "seconds": round(seconds + sum(leg["seconds"] for leg in earlier), 1),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "hybrid": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, 1 thread",
        **where,
        "device": str(task.places[0].device),
        "source": task.source[:16],
    }
    about |= {"side by side": together} if together > 1 else {}
    # Of the training, if other processes had a part in it.
    return about | ({"legs": [n.leg for n in noted]} if earlier else {})


def run_all(
    trials: Sequence[Trial[Any, Any]],
    *,
    store: Store | None,
    jobs: int,
    device: torch.device,
    title: str,
    fast: bool = False,
    minutes: float | None = None,
    side_by_side: bool = False,
    untested: bool = False,
) -> list[Json]:
    """Return the records of all trials: stored ones, and new ones from `jobs` processes.

    On a cluster nothing is shared: a trial that another machine has begun is begun anew.

    Raises:
        LeaseOverError: if `minutes` were not enough, or trials are `untested`; the message says how
            far each trial came.
        ValueError: if two trials are the same, a worker has other code, `minutes` are given where
            nothing is kept, or trials cannot be `side_by_side`.
    """
    until = None if minutes is None else time.time() + 60.0 * minutes
    if minutes is not None and not minutes > 0.0:
        raise ValueError(f"minutes = {minutes}: give a number > 0")
    if (minutes is not None or untested) and (store is None or on_cluster()):
        raise ValueError(
            "to stop before the end takes a store on this machine, whose checkpoints are gone on "
            "from: give one, and no cluster"
        )
    # Data are fetched once, and errors are met before any process starts.
    hashes = {(t.experiment.name, t.settings.dataset): t for t in trials}
    data = {key: t.experiment.data_sha256(t.settings) for key, t in hashes.items()}
    requests = [t.request(data[t.experiment.name, t.settings.dataset]) for t in trials]
    keys = [Store.key(request) for request in requests]
    if len(set(keys)) < len(keys):
        twice = sorted({t.name for t, key in zip(trials, keys, strict=True) if keys.count(key) > 1})
        raise ValueError(f"{', '.join(twice)}: asked for twice, with the same constants")
    records: dict[int, Json] = {}
    kinds: dict[Any, list[int]] = {}  # numbers of trials that are computed together
    away, source = on_cluster(), source_sha256()
    for number, (trial, request) in enumerate(zip(trials, requests, strict=True)):
        found = None if store is None or store.recompute else store.load(request)
        if found is not None:
            if store is not None and (over_with := store.checkpoint_path(request)).exists():
                over_with.unlink()  # by a run that was killed at its very end
            records[number] = found
        else:
            kinds.setdefault(trial.kind() if side_by_side else number, []).append(number)
    groups = list(kinds.values())
    tasks: list[Task] = []
    for group in groups:
        trial, places = trials[group[0]], []
        for number in group:
            path = None if store is None or away else store.checkpoint_path(requests[number])
            if path is not None and store is not None and store.recompute:
                path.unlink(missing_ok=True)
            kept = None if away else store
            places.append(Place(device, path, kept, until, untested))
        own = data[trial.experiment.name, trial.settings.dataset]
        these = tuple(trials[number] for number in group)
        tasks.append(Task(these, tuple(places), source, own))
    left = list[str]()
    for i, news in fan_out(compute, tasks, jobs=jobs, title=title, fast=fast):
        if isinstance(news, str):
            left += [f"{trials[number].name} {news}" for number in groups[i]]
            continue
        for number, done in zip(groups[i], news, strict=True):
            records[number] = _keep(requests[number], done, store)
    if left:
        why, further = "the time is over", ""
        if untested:
            why, further = "it was asked to train only", ", without --untested to test"
        raise LeaseOverError(
            f"{why}: {len(records)} of {len(trials)} trials are finished, and "
            f"{', '.join(sorted(left))}; run the same again to go on{further}"
        )
    return [records[number] for number in range(len(trials))]


def _keep(request: Json, done: Computed, store: Store | None) -> Json:
    """Return the record of a trial after keeping it and its network."""
    if store is None:
        return {"request": request, "result": done.result, "about": done.about}
    write_atomically(store.weights_path(request), done.weights)
    record = store.save(request, done.result, done.about)
    store.checkpoint_path(request).unlink(missing_ok=True)
    return record


def load_network(trial: Trial[Any, Any], store: Store) -> nn.Module:
    """Return the trained network of a finished trial, if its weights were kept.

    Raises:
        FileNotFoundError: if the trial has not been run in this store, or only its record is here.
        DamagedFileError: if the weights are damaged.
    """
    request = trial.request()
    path = store.weights_path(request)
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not here: run the trial in this store first, with `--recompute` if its "
            "record is there"
        )
    return with_weights(trial, path, request)


def with_weights(trial: Trial[Any, Any], path: Path, request: Json) -> nn.Module:
    """Return the network of a trial with the weights of a file.

    Args:
        trial: says which network.
        path: of the file.
        request: what the file must have been made for.

    Raises:
        DamagedFileError: if the file is damaged, or another trial's.
    """
    tensors, about = load_tensors(path)
    key, _, made = str(about.get("by", "")).partition(" ")
    if about.get("trial") != trial.name or key != Store.key(request):
        what = about.get("trial") if about.get("trial") != trial.name else "other settings or data"
        raise DamagedFileError(f"{path} holds {what}, not {trial.name}: delete it")
    if made != source_sha256()[:16]:
        _log.warning("%s was made by another state of the code, %s", path, made)
    network = trial.build()
    network.load_state_dict(tensors)
    return network


def hash_of_code() -> str:
    """Return a hash of the package's own files as they are now."""
    return sha256("\n".join(f"{name}\n{text}" for name, text in package_sources().items()))


_AT_FIRST = hash_of_code()


def source_sha256() -> str:
    """Return a hash of the package's files as this process read them: which code makes a record.

    They may be edited while it runs.
    """
    return _AT_FIRST


def learned_theta(network: nn.Module) -> Json:
    """Return the learned meta-local parameters by layer, those of many entries by their mean."""
    return {
        f"{name.replace('.theta.', '.')}{' (mean)' if value.ndim else ''}": round(
            value.mean().item(), 6
        )
        for name, value in network.named_parameters()
        if ".theta." in name
    }


def choose_device(device: str) -> torch.device:
    """Return the device named, or with "auto" a GPU if CUDA finds one, else the CPU.

    Raises:
        ValueError: if the name is unknown, or the device is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device {device!r} cannot be used here: choose 'auto', 'cpu', or a device of this "
            "machine such as 'cuda:0'"
        ) from error
    return torch.device(device)
