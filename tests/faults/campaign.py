"""The campaign of faults: its kinds, in whole and in small."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults import disks, identity, inputs, mirrors, surroundings, sweeps, trees
from tests.faults.tally import Tally

Kind = Callable[[Path, bool], Tally]


def _fuzz(folder: Path, quick: bool) -> Tally:
    return inputs.fuzz(folder, 1_400 if quick else 14_000, seed=7 if quick else 0)


# Title, as the page on faults has it: what it does, given a folder, and whether in small.
KINDS: dict[str, Kind] = {
    "things under other names": identity.names,
    "changed bytes of records": sweeps.damaged,
    "changed bytes beside records": identity.side_records,
    "code edited between kills": identity.code,
    "keys: code, constants, data": identity.keys,
    "kills at random moments": sweeps.killed,
    "the n-th call fails or kills": disks.calls,
    "power cut, ext4": disks.power,
    "disks, clocks, races, NaN": sweeps.troubles,
    "parents, kernels, clusters": trees.trees,
    "hostile mirrors": mirrors.mirrors,
    "locks of others": mirrors.holders,
    "damaged inputs": _fuzz,
    "odd surroundings": surroundings.foreign,
    "environments cut short": surroundings.environments,
    "wrong command lines": surroundings.command_lines,
}
INNER = ("damaged inputs", "changed bytes of records")  # many small ones, counted apart
QUICK = tuple(
    name
    for name in KINDS
    # Minutes even in small; tests of their own look at parts of these.
    if name not in ("code edited between kills", "parents, kernels, clusters")
)


def run(name: str, folder: Path, *, quick: bool) -> Tally:
    """Return what came of one kind of attacks."""
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    tally = KINDS[name](folder, quick)
    tally.seconds = time.perf_counter() - began
    return tally


def as_table(record: dict[str, Any]) -> str:
    """Return the figures of all kinds as a table of Markdown, those not run among them."""
    head = ("attacks", "tried", "survived", "silently wrong", "lost", "orphans", "raw errors")
    names = ("tried", "survived", "wrong", "lost", "orphans", "raw")
    kinds = record["kinds"]
    rows = [
        [title, *(f"{kinds[title][n]:,}" if title in kinds else "not run" for n in names)]
        for title in KINDS
    ]
    for title, inner in (("all but damaged bytes", False), ("damaged bytes", True)):
        chosen = [own for name, own in record["kinds"].items() if (name in INNER) == inner]
        rows.append([f"**{title}**", *(f"{sum(own[n] for own in chosen):,}" for n in names)])
    lines = [head, ["---", *["---:"] * len(names)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
