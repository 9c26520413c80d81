"""A content-addressed store of trial records.

A trial is asked for by a description (experiment, settings, method, seed, data, version). Its
record is one JSON file under the hash of that description, so that a result can only be found by
someone who asks for what produced it. The package's version stands for the code: a change that
alters results has to raise it; which code it was exactly, each record says. Records carry a
checksum; one that does not match is reported and computed again, never used.
"""

import logging
from pathlib import Path
from typing import Any

from hybrid.runs.files import (
    DamagedFileError,
    canonical_json,
    read_sealed,
    sealed,
    sha256,
    write_atomically,
)

log = logging.getLogger(__name__)

Json = dict[str, Any]

# Bytes of a label, so that what is written beside it under a name that ends with it can be named.
_LONGEST = 255 - len("-0123456789abcdef.checkpoint.safetensors") - len("..01234567.tmp")


class Store:
    """Records under one folder, `<folder>/<experiment>/<label>-<key>.json`."""

    def __init__(self, folder: str | Path, *, recompute: bool = False) -> None:
        """Open a store; with `recompute`, a run ignores finished records and replaces them."""
        self.folder, self.recompute = Path(folder), recompute

    @staticmethod
    def key(request: Json) -> str:
        """Return the hash that a record of `request` lies under."""
        return sha256(canonical_json(request))[:16]

    def path(self, request: Json) -> Path:
        """Return where the record of `request` lies, or would lie.

        `request` must hold "experiment" and "label"; all of it goes into the key.

        Raises:
            ValueError: if the label is too long for the name of a file.
        """
        label: str = request["label"]
        if len(label.encode()) > _LONGEST:
            raise ValueError(
                f"label {label[:40]}...: {len(label.encode())} bytes are too long for the name of "
                f"a file, give at most {_LONGEST}, method and seed included"
            )
        return self.folder / request["experiment"] / f"{label}-{self.key(request)}.json"

    def checkpoint_path(self, request: Json) -> Path:
        """Return where the unfinished trial `request` keeps its last epoch."""
        return self.path(request).with_suffix(".checkpoint.safetensors")

    def weights_path(self, request: Json) -> Path:
        """Return where the trained network of `request` lies, if it was kept."""
        return self.path(request).with_suffix(".safetensors")

    def load(self, request: Json) -> Json | None:
        """Return the record of `request`, or None if there is none that can be trusted."""
        path = self.path(request)
        try:
            record = read_record(path)
        except (FileNotFoundError, NotADirectoryError):  # writing will say what is in the way
            return None
        except DamagedFileError as error:
            log.warning("%s; it will be computed again", error)
            return None
        if canonical_json(record["request"]) != canonical_json(request):
            log.warning("%s is the record of something else; it will be computed again", path)
            return None
        return record

    def save(self, request: Json, result: Json, about: Json) -> Json:
        """Write and return the record of a finished trial.

        Args:
            request: what was asked.
            result: what came out, the same for the same request on the same kind of machine.
            about: where and how it ran (times, versions, machine); not part of the result.
        """
        body = {"request": request, "result": result, "about": about}
        write_atomically(self.path(request), sealed(body).encode())
        return body


def read_record(path: Path) -> Json:
    """Read one record file.

    Raises:
        FileNotFoundError: if there is none.
        DamagedFileError: if it is not JSON, lacks a part, or fails its checksum.
    """
    record = read_sealed(path)
    if not is_record(record):
        raise DamagedFileError(f"{path} is damaged (it is no record)")
    return record


def is_record(body: Json) -> bool:
    """Return whether a sealed file holds a record, not something else that is kept beside some."""
    parts = {"request", "result", "about"}
    if body.keys() != parts or not all(isinstance(body[name], dict) for name in parts):
        return False
    return all(isinstance(body["request"].get(name), str) for name in ("experiment", "label"))
