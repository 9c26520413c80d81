"""The chip as a file of constants, each with its source: `chip.toml`.

What nobody has published is in the file as well, marked as assumed and with a range. Two chips are
easily mixed up: Tianjic (2019, 156 cores) ran the paper's network; of TianjicX (2022, 160 cores)
only what has no other source is taken.
"""

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from hybrid.checks import one_of, require

Confidence = Literal["high", "medium", "low"]
Generation = Literal["Tianjic", "TianjicX", "assumed"]


@dataclass(frozen=True, kw_only=True)
class Constant:
    """One fact or assumption about the chip.

    Raises ValueError, saying what is missing, for a constant without unit or source, or with a
    range that does not hold its value.
    """

    value: float
    unit: str
    source: str
    confidence: Confidence
    generation: Generation
    low: float | None = None  # range of what is not known; None for a constant taken as certain
    high: float | None = None

    def __post_init__(self) -> None:
        for name in ("unit", "source"):
            given = bool(str(getattr(self, name)).strip())
            require(self, name, given, "given: say where the number is from")
        one_of(self, "confidence", Confidence)
        one_of(self, "generation", Generation)
        if self.low is None or self.high is None:
            require(self, "low", self.low == self.high, "given together with high, or not at all")
        else:
            within = self.low <= self.value <= self.high
            require(self, "value", within, f"within its range, {self.low} to {self.high}")

    def drawn(self, source: np.random.Generator, *, whole: bool) -> "Constant":
        """Return the constant with a value, maybe a whole one, drawn from its range, if any."""
        if self.low is None or self.high is None:
            return self
        if whole:
            return replace(self, value=int(source.integers(int(self.low), int(self.high) + 1)))
        return replace(self, value=float(source.uniform(self.low, self.high)))


_SHARES = ("static_share", "gating", "idle_share")


@dataclass(frozen=True)
class Chip:
    """All constants of a chip, by name; see `chip.toml` for what they mean.

    Raises ValueError for constants that contradict each other.
    """

    constants: Mapping[str, Constant] = field(hash=False)
    cores: int = field(init=False)
    mesh_width: int = field(init=False)
    mesh_height: int = field(init=False)
    fan_in: int = field(init=False)
    fan_out: int = field(init=False)
    weight_bits: int = field(init=False)
    potential_bits: int = field(init=False)
    partial_sum_bits: int = field(init=False)
    core_sram: int = field(init=False)
    core_synapses: int = field(init=False)
    clock: float = field(init=False)
    phase_clocks: int = field(init=False)
    macs_per_clock: int = field(init=False)
    ann_efficiency: float = field(init=False)
    snn_efficiency: float = field(init=False)
    gating: float = field(init=False)
    idle_share: float = field(init=False)
    static_share: float = field(init=False)
    packet_energy: float = field(init=False)
    update_energy: float = field(init=False)
    hop_clocks: int = field(init=False)
    buffer_packets: int = field(init=False)
    input_ports: int = field(init=False)
    border_clocks: int = field(init=False)
    border_energy: float = field(init=False)
    packet_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        for name in self.names():
            kind, value = type(self).__annotations__[name], self.constants[name].value
            object.__setattr__(self, name, kind(value))
            if getattr(self, name) != value:
                raise ValueError(f"{name} = {value}: it must be a whole number")
            self._check(name)
        if self.mesh_width * self.mesh_height != self.cores:
            raise ValueError(
                f"a mesh of {self.mesh_width} x {self.mesh_height} has not {self.cores} cores"
            )

    def _check(self, name: str) -> None:
        """Raise ValueError for a constant that makes no sense, naming it."""
        value = getattr(self, name)
        if name in _SHARES:
            sound, wanted = 0.0 <= value <= 1.0, "a share, 0 to 1"
        elif name.endswith("_energy") or name == "core_sram":
            sound, wanted = value >= 0.0, "0 or more"
        elif name == "weight_bits":
            sound, wanted = 2 <= value <= 8, "2 to 8"
        elif name.endswith("_bits"):
            sound, wanted = 2 <= value <= 32, "2 to 32"
        else:
            sound, wanted = value > 0, "more than 0"
        if not sound:
            raise ValueError(f"{name} = {value:g}: it must be {wanted}")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all constants that a chip needs."""
        return tuple(entry.name for entry in fields(cls) if not entry.init)

    @property
    def phase(self) -> float:
        """Seconds of one phase, in which all cores compute and communicate once."""
        return self.phase_clocks / self.clock

    @property
    def slots(self) -> int:
        """Synapses that a core meets in one phase."""
        return self.fan_in * self.fan_out

    @property
    def energy_per_mac(self) -> float:
        """J per multiply-accumulate at full load, all that the chip draws included."""
        return 2.0 / self.ann_efficiency

    @property
    def energy_per_sop(self) -> float:
        """J per synaptic operation at full load, all that the chip draws included."""
        return 1.0 / self.snn_efficiency

    @property
    def full_power(self) -> float:
        """W with all synapses of all cores busy (ANN mode)."""
        return self.cores * self.slots / self.phase * self.energy_per_mac

    @property
    def static_power(self) -> float:
        """W of the whole chip without any operation."""
        return self.static_share * self.full_power

    @property
    def core_phase_energy(self) -> float:
        """J of one core in one phase at full load."""
        return self.slots * self.energy_per_mac

    def drawn(self, source: np.random.Generator) -> "Chip":
        """Return a chip whose uncertain constants are drawn from their ranges."""
        kinds = type(self).__annotations__
        return Chip(
            {
                name: constant.drawn(source, whole=kinds[name] is int)
                for name, constant in self.constants.items()
            }
        )

    def changed(self, **values: float) -> "Chip":
        """Return a chip with other values of some constants: assumed ones, for what-if questions.

        Raises:
            ValueError: if a constant is unknown.
        """
        changed = dict(self.constants)
        for name, value in values.items():
            if name not in changed:
                raise ValueError(f"{name!r} is unknown: choose one of {', '.join(self.names())}")
            old = changed[name]
            source = f"changed from {old.value:g} ({old.source})"
            changed[name] = Constant(
                value=value, unit=old.unit, source=source, confidence="low", generation="assumed"
            )
        return Chip(changed)


_USED: ContextVar[Chip | None] = ContextVar("chip in use", default=None)


def tianjic() -> Chip:
    """Return the chip that is simulated: Tianjic, unless another is in use."""
    return _USED.get() or _read()


@contextmanager
def in_use(chip: Chip) -> Iterator[None]:
    """Let a chip of one's own be the one that is simulated, wherever none is given."""
    before = _USED.set(chip)
    try:
        yield
    finally:
        _USED.reset(before)


@cache
def _read() -> Chip:
    return load_chip()


def load_chip(path: Path | None = None) -> Chip:
    """Read a chip's constants, by default Tianjic's.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is no TOML, a constant is missing, unknown, without a source, or wrong;
            the message names file and constant.
    """
    path = path or Path(__file__).with_name("chip.toml")
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML: {error}") from error
    names = Chip.names()
    for name in (*names, *table):
        if name not in table:
            raise ValueError(f"{path} has no constant {name!r}")
        if name not in names:
            raise ValueError(f"{path}: {name!r} is no constant of a chip")
    constants, place = {}, str(path)
    try:
        for name, entry in table.items():
            place = f"{path}, constant {name!r}"
            constants[name] = Constant(**entry)
        place = str(path)
        return Chip(constants)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from error
