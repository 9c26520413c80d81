"""What lies in a store of records, file by file: sound, damaged, stale, stray, temporary."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hybrid.runs.files import TEMPORARY, is_abandoned, load_tensors, read_sealed
from hybrid.runs.store import Store, is_record

State = Literal["sound", "damaged", "stale", "stray", "temporary", "being written", "other"]
WRONG: tuple[State, ...] = ("damaged", "stray")  # what somebody should look after


class Finding(NamedTuple):
    """What a file is."""

    path: Path
    state: State
    why: str = ""


def examine(folder: Path, source: str) -> Iterator[Finding]:
    """Yield what each file of a store, or of a folder of stores, is.

    Damaged files fail their checksum. Stale ones were made by another state of the code: records
    are results all the same, weights and checkpoints will be made anew. Stray ones are not what
    their name says. Other ones are nothing that a store holds. Figures are passed over.

    Args:
        folder: of records.
        source: hash of the present code.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: give one of records, data/results/laptop")
    folder = folder.resolve()  # records know where they belong by the names of their folders
    skipped: list[Finding] = []
    seen: set[str] = set()

    def unreadable(error: OSError) -> None:
        skipped.append(Finding(Path(error.filename), "damaged", f"({error.strerror})"))

    for name, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        real = os.path.realpath(name)
        folders[:] = sorted(own for own in folders if own != "figures" and real not in seen)
        for file in sorted(files) if real not in seen else ():
            if not file.startswith(".") or not file.endswith(".lock"):
                yield Finding(Path(name) / file, *_found(Path(name) / file, source))
        seen.add(real)
    yield from skipped


def _found(path: Path, source: str) -> tuple[State, str]:
    if path.name.startswith(".") and path.suffix == TEMPORARY:
        return ("temporary" if is_abandoned(path) else "being written"), ""
    try:
        return _state(path, source)
    except OSError as error:
        return "damaged", f"(cannot be read: {error.strerror})"
    except Exception as error:  # sealed by somebody who did not write what records say
        return "damaged", str(error).removeprefix(f"{path} ")


def prune(folder: Path) -> list[Path]:
    """Remove what killed processes had begun to write below a folder, and return it.

    Links to other folders are not followed.
    """
    removed = []
    for name, _, files in os.walk(folder):
        for path in (Path(name) / file for file in files):
            if is_abandoned(path):
                path.unlink(missing_ok=True)
                removed.append(path)
    return removed


def _state(path: Path, source: str) -> tuple[State, str]:
    if path.suffix == ".json":
        body = read_sealed(path)
        return _of_record(path, body, source) if is_record(body) else ("sound", "")
    if path.suffix == ".safetensors":
        return _of_weights(path, load_tensors(path)[1], source)
    return "other", "nothing that a store holds"


def _of_record(path: Path, record: dict[str, Any], source: str) -> tuple[State, str]:
    request = record["request"]
    right = Store(path.parent.parent).path(request)
    if path != right:
        return "stray", f"the record of {right.parent.name}/{right.name}"
    return _compared(str(record["about"].get("source", "")), source)


def _of_weights(path: Path, about: dict[str, Any], source: str) -> tuple[State, str]:
    name, checkpoint = path.name.removesuffix(".safetensors"), ".checkpoint"
    key, _, made = str(about.get("by", "")).partition(" ")
    if not name.removesuffix(checkpoint).endswith(f"-{key}"):
        return "stray", "weights of another trial, or of nobody's"
    record = path.with_name(f"{name.removesuffix(checkpoint)}.json")
    if name.endswith(checkpoint) and record.exists():
        return "stray", "the checkpoint of a finished trial"
    return _compared(made, source)


def _compared(made: str, source: str) -> tuple[State, str]:
    if made == source[: len(made)] and made:
        return "sound", ""
    return "stale", f"made by the code {made or 'of an earlier state, not noted'}"
