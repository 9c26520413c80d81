"""What all experiments share: methods, profiles, trials and where their records lie."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from hybrid import __version__
from hybrid.learning.evaluation import Protocol
from hybrid.runs.files import sha256
from hybrid.runs.store import Json

Profile = Literal["smoke", "laptop", "paper"]
PROFILES: tuple[Profile, ...] = ("smoke", "laptop", "paper")

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to learn, with its fixed colour in every figure."""

    name: str
    colour: str
    about: str  # one sentence for tables and legends
    local: bool  # has traces
    hidden_trained: bool = True  # hidden layers learn by gradients
    pool: Literal["batch", "sample"] = "batch"
    protocols: tuple[Protocol, ...] = ("frozen",)  # how it can be tested

    def request(self) -> Json:
        """Return what distinguishes this method's results, for the hash of a trial."""
        return {
            "name": self.name,
            "local": self.local,
            "hidden_trained": self.hidden_trained,
            "pool": self.pool,
            "protocols": list(self.protocols),
        }


# Colours: Wong, Nat. Methods 8 (2011), safe for colour-blind readers.
LP = Method(
    name="LP",
    colour="#009E73",
    about="hidden layer: fixed random weights and local plasticity; read-out trained by gradients",
    local=True,
    hidden_trained=False,
    protocols=("batch", "frozen", "sample", "stream"),
)
GP = Method(
    name="GP",
    colour="#0072B2",
    about="weights trained by gradients; no local plasticity",
    local=False,
)
HP = Method(
    name="HP",
    colour="#D55E00",
    about="weights and meta-local parameters trained by gradients; traces live by the local rule",
    local=True,
    protocols=("batch", "frozen", "sample", "stream"),
)
HP_SAMPLE = Method(
    name="HP-sample",
    colour="#CC79A7",
    about="HP with a trace of its own for each sample, in training and test, from zero each time",
    local=True,
    pool="sample",
    protocols=("sample",),
)


def require(owner: object, field: str, ok: bool, allowed: str) -> None:
    """Raise ValueError, naming field, value and what is allowed, unless `ok`."""
    if not ok:
        name = type(owner).__name__
        raise ValueError(f"{name}.{field} = {getattr(owner, field)!r}: it must be {allowed}")


def listed(value: object) -> object:
    """Return a value as JSON has it: tuples, also nested ones, become lists."""
    return [listed(entry) for entry in value] if isinstance(value, tuple) else value


def choose_profile(profile: str, table: dict[Profile, Value]) -> Value:
    """Return the entry of `profile`; ValueError names the profiles there are."""
    for name, value in table.items():
        if name == profile:
            return value
    raise ValueError(f"profile {profile!r} is unknown: choose one of {', '.join(table)}")


def choose_methods(names: tuple[str, ...], methods: tuple[Method, ...]) -> tuple[Method, ...]:
    """Return the methods of these names; ValueError names the methods there are."""
    known = {method.name: method for method in methods}
    if not names or len(set(names)) < len(names):
        raise ValueError(f"methods = {list(names)}: choose at least one, each once")
    for name in names:
        if name not in known:
            raise ValueError(f"method {name!r} is unknown: choose among {', '.join(known)}")
    return tuple(known[name] for name in names)


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


def project_root() -> Path:
    """Return the folder that holds `data/` and `figures/`: the checkout, or the working folder."""
    checkout = Path(__file__).resolve().parents[2]
    return checkout if (checkout / "pyproject.toml").exists() else Path.cwd()


def results_folder(profile: str) -> Path:
    """Return where the records of a profile lie."""
    return project_root() / "data" / "results" / profile


@cache
def source_sha256() -> str:
    """Return a hash of the package's own source: which state of the code made a record."""
    package = Path(__file__).resolve().parents[1]
    files = sorted(package.rglob("*.py"))
    return sha256("\n".join(f"{f.relative_to(package)}\n{f.read_text('utf-8')}" for f in files))


def timed(work: Callable[[], Json], device: torch.device) -> tuple[Json, Json]:
    """Return the result of `work` and a note on where, with what and how long it ran."""
    began = time.perf_counter()
    result = work()
    about: dict[str, Any] = {
        "seconds": round(time.perf_counter() - began, 1),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "hybrid": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, 1 thread",
        "device": str(device),
        "source": source_sha256()[:16],
    }
    return result, about
