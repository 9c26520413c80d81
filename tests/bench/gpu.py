"""What an iteration of the paper's networks takes on a GPU: as it is written, and recorded.

    python -m tests.bench.gpu

Prints a table and writes `build/gpu.json`. The networks are those of the paper's profile; what they
are shown is noise, of the size of the data sets. "As written" is the same network run step by step,
as notebooks do; it stops early where its read-out does.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hybrid.data.images import Images
from hybrid.experiments.core.trials import Place, Trial
from hybrid.experiments.few_shot.plans import SMOKE
from hybrid.experiments.registry import experiment
from hybrid.learning.iteration import Batch, Iteration, Recorded
from hybrid.learning.side_by_side import _SideBySide
from hybrid.runs.files import sealed, write_atomically
from hybrid.runs.instructions import processor
from hybrid.runs.seeds import numpy_stream

OUT = Path(__file__).resolve().parents[2] / "build" / "gpu.json"
SHOWN = 20  # batches
SEEDS = 10


def noise(classes: int, each: int, *shape: int) -> Images:
    """Return images without meaning, as many of each class."""
    source, labels = numpy_stream(0, "noise"), torch.arange(classes * each).numpy() % classes
    pixels = source.random((len(labels), *shape), dtype="float32")
    return Images(pixels, labels, pixels[:1000], labels[:1000])


def grey() -> Images:
    return noise(10, 600, 1, 28, 28)


def colour() -> Images:
    return noise(10, 300, 3, 32, 32)


class Case(NamedTuple):
    """A network: whose, and what of its settings is changed."""

    name: str
    experiment: str
    data: str
    label: str
    change: Callable[[Any], Any] | None = None
    methods: tuple[str, ...] = ("HP", "GP")
    seeds: int = 1  # side by side


def episodes(count: int) -> Callable[[Any], Any]:
    """Return what gives settings so many episodes in a step, of drawings that are bundled."""
    few = {"dataset": SMOKE.dataset, "validation": SMOKE.validation, "rotations": False}
    return lambda own: replace(own, **few, schedule=replace(own.schedule, batch_size=count))


CASES = (
    Case("784-512-10, T = 8, batch 100", "fault_tolerance", "grey", "mnist"),
    Case(
        "784-512-10, ten seeds, T = 8, batch 100", "fault_tolerance", "grey", "mnist", seeds=SEEDS
    ),
    Case("MNIST convolutional, batch 100", "classification", "grey", "mnist-convolutional"),
    Case("Fashion-MNIST convolutional, batch 50", "classification", "grey", "fashion_mnist-conv"),
    Case(
        "CIFAR-10 convolutional, batch 50",
        "classification",
        "colour",
        "cifar10-convolutional",
        lambda own: replace(own, augment=False),  # images are moved before they are shown
    ),
    Case(
        "continual, 784-1024-1024-10",
        "continual",
        "grey",
        "mnist-authors",
        methods=("HP", "sparse GP"),
    ),
    Case(
        "continual, ten seeds, 784-1024-1024-10",
        "continual",
        "grey",
        "mnist-authors",
        methods=("HP", "sparse GP"),
        seeds=SEEDS,
    ),
    *(
        Case(f"few-shot, {n} episodes", "few_shot", "", "omniglot-authors", episodes(n))
        for n in (1, 32, 256)
    ),
)


def trials_of(case: Case, method: str) -> list[Trial[Any, Any]]:
    """Return the trials of a case, which differ in their seeds alone."""
    chosen, place = experiment(case.experiment), f"{__file__}:{case.data}"
    plan = [s for group in chosen.plans["paper"] for s in group.settings]
    settings = next(own for own in plan if own.label.startswith(case.label))
    own = case.change(settings) if case.change else settings
    own = chosen.on_own(own, place, own.label) if chosen.on_own else own
    known = chosen.method(method)
    return [Trial(chosen, own, known, seed) for seed in range(1, case.seeds + 1)]


def begun(case: Case, method: str, device: torch.device) -> tuple[Iteration, list[Batch]]:
    """Return what trains the networks of a case, and some batches."""
    trials = trials_of(case, method)
    each = [t.experiment.begin(t, Place(device)).training for t in trials]
    trainings = [own for own in each if own is not None]
    source = [torch.Generator().manual_seed(own.seed) for own in trials]
    how, lessons = trainings[0], trainings[0].lessons(source[0])
    if len(trainings) > 1:
        several = _SideBySide(trainings)
        how, lessons = several.how, several.lessons(source)
    name, first = next(lessons)
    return how.iterations[name], [first, *(b for _, b in islice(lessons, SHOWN - 1))]


def milliseconds(
    work: Callable[[Batch], Tensor], batches: list[Batch], times: int
) -> tuple[float, float]:
    """Return what a batch takes, and the mean loss of a first round, which warms up."""
    losses = torch.stack([work(batch).float().mean() for batch in batches])
    torch.cuda.synchronize()
    start = time.perf_counter()
    for number in range(times):
        work(batches[number % len(batches)])
    torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start) / times, float(losses.mean())


def set_up(case: Case, method: str, device: torch.device) -> tuple[Recorded, list[Batch], float]:
    """Return a recorded iteration, batches for it, and the seconds that it took to record it."""
    iteration, batches = begun(case, method, device)
    start, recorded = time.perf_counter(), Recorded(iteration)
    recorded(batches[0])
    torch.cuda.synchronize()
    return recorded, batches, time.perf_counter() - start


def measured(case: Case, method: str, device: torch.device) -> dict[str, Any]:
    """Return a row of the table; the losses of the first batches must be near each other."""
    torch.manual_seed(0)
    iteration, batches = begun(case, method, device)
    plain, expected = milliseconds(iteration, batches, SHOWN)
    torch.manual_seed(0)
    recorded, batches, seconds = set_up(case, method, device)
    fast, found = milliseconds(recorded, batches, 10 * SHOWN)
    return {
        "work": f"{case.name}: {method}",
        "as written, ms": round(plain, 2),
        "recorded, ms": round(fast, 3),
        "ratio": round(plain / fast, 1),
        "as a graph": recorded._graph is not None,
        "memory, MB": round(torch.cuda.max_memory_allocated() / 1e6),
        "setup, s": round(seconds, 1),
        # Learned alike? One batch was shown before; spikes turn rounding into differences.
        "loss": round(expected, 4),
        "loss, recorded": round(found, 4),
    }


def child(number: int, *more: str) -> dict[str, Any]:
    """Return what a process of its own says of one row."""
    command = [sys.executable, "-m", "tests.bench.gpu", "--row", str(number), *more]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    last = (done.stdout.strip() or done.stderr.strip() or "nothing").splitlines()[-1]
    try:
        row: dict[str, Any] = json.loads(last)
    except ValueError:
        row = {"error": (done.stderr.strip() or last)[-600:]}
    said = [line[:300] for line in done.stderr.splitlines() if "slower" in line]
    return row | ({"said": said} if said else {})


def main() -> None:
    """Compile all networks side by side, then measure one after the other, and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*", help="parts of names of rows; all without")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--set-up", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no GPU is here: this table is of one")
    device = torch.device("cuda")
    rows = [(case, method) for case in CASES for method in case.methods]
    if asked.row is not None:
        if asked.set_up:
            print(json.dumps({"setup": set_up(*rows[asked.row], device)[2]}))
        else:
            print(json.dumps(measured(*rows[asked.row], device)))
        return
    names = [f"{case.name}: {method}" for case, method in rows]
    chosen = [n for n, name in enumerate(names) if not asked.cases or has(name, asked.cases)]
    start = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = list(pool.map(lambda number: child(number, "--set-up"), chosen))
    print(f"compiled in {time.perf_counter() - start:.0f} s: {compiled}", flush=True)
    found = []
    for number in chosen:
        found.append({"work": names[number], **child(number)})
        print(found[-1], flush=True)
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        whole = sealed({"machine": processor(device), "rows": found})
        write_atomically(asked.out, whole.encode())


def has(name: str, parts: list[str]) -> bool:
    """Return whether a name has one of some parts."""
    return any(part in name for part in parts)


if __name__ == "__main__":
    main()
