"""The soma of a core: what whole-number potentials become.

One step of a spiking soma: add the input, fire above the threshold, reset, leak. A leak of k/256
after the reset is what the paper's neuron does before its next input:

    v_t = decay · reset(v_{t-1}, z_{t-1}) + I_t,  z_t = H(v_t - v_th)

The order and the modes are those of primitive P08 of TianjicX, the best public description; of
Tianjic itself less is known. Source: openBII/BiMap; `chip.toml` for widths.
"""

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hybrid.checks import one_of, require
from hybrid.tianjic.chip import tianjic
from hybrid.tianjic.fixed import Overflows, shifted, signed_range

ResetMode = Literal["to value", "subtract threshold", "subtract value"]
_NOTHING = 1 << 7  # of 1/2^15: less than half of one share in 127
LEAK_STEPS = 256  # leaks are multiples of 1/256


class SomaStep(NamedTuple):
    """One step of neurons, as integers [N, out]."""

    left: Tensor  # potential after reset and leak: what neurons remember
    v: Tensor  # potential before reset: what a copy of the neuron sends as its potential
    z: Tensor  # spikes, 0 or 1


@dataclass(frozen=True, kw_only=True)
class Soma:
    """Constants of leaky integrate-and-fire neurons in whole numbers.

    Args:
        threshold: a neuron fires strictly above it; one for all, or one for each sample and neuron
            [N, out].
        leak: k of the leak k/256: 256 keeps the potential, 0 forgets it.
        reset: what a spike does: sets the potential to `reset_value`, subtracts the threshold that
            was crossed, or subtracts `reset_value`.
        reset_value: see `reset`.
        bits: of the potential; Tianjic's unless told otherwise.

    Raises ValueError, naming the constant, for values that the chip cannot hold.
    """

    threshold: int | Tensor
    leak: int = LEAK_STEPS
    reset: ResetMode = "subtract threshold"
    reset_value: int = 0
    bits: int = field(default_factory=lambda: tianjic().potential_bits)

    def __post_init__(self) -> None:
        low, high = signed_range(self.bits)
        require(self, "leak", 0 <= self.leak <= LEAK_STEPS, f"in 0 to {LEAK_STEPS}")
        for name in ("threshold", "reset_value"):
            value = torch.as_tensor(getattr(self, name))
            held = bool(((low <= value) & (value <= high)).all())
            require(self, name, held, f"in {low} to {high}")
        one_of(self, "reset", ResetMode)

    def at_rest(self, samples: int, neurons: int, device: torch.device | None = None) -> Tensor:
        """Return the potentials before the first step [N, out]."""
        return torch.zeros(samples, neurons, dtype=torch.int64, device=device)

    def step(self, current: Tensor, left: Tensor, overflows: Overflows, place: str) -> SomaStep:
        """Advance neurons by one step.

        Args:
            current: input [N, out], integers.
            left: potentials after the step before [N, out].
            overflows: counts potentials that do not fit.
            place: named where they are counted.

        Raises:
            SaturationError: see `Overflows`.
        """
        v = overflows.saturate(left + current, self.bits, place)
        z = (v > self.threshold).long()
        if self.reset == "to value":
            after = torch.where(z == 1, self.reset_value, v)
        else:
            lost = self.threshold if self.reset == "subtract threshold" else self.reset_value
            after = v - z * lost
        leaked = (after * self.leak) >> 8  # the floor of k/256
        return SomaStep(overflows.saturate(leaked, self.bits, place), v, z)


@dataclass(frozen=True)
class SoftMaximum:
    """Shares of neurons in 8 bits, by a table of exponentials and a division.

    Entry i, exp(-i · step) in 1/2^15, belongs to neurons whose argument lies i below the largest.
    How a chip divides is not said anywhere: a table of reciprocals, or the host.
    """

    step: float

    @property
    def entries(self) -> tuple[int, ...]:
        """The table, 256 whole numbers."""
        return tuple(round(math.exp(-i * self.step) * (1 << 15)) for i in range(256))

    def look_up(self, argument: Tensor, overflows: Overflows, place: str) -> Tensor:
        """Return shares [N, out], 127 for all, of whole-number arguments [N, out].

        Neurons more than 255 below the largest are taken as 255 below it, and counted unless the
        table ends at next to nothing.
        """
        entries = torch.tensor(self.entries, device=argument.device)
        below = argument.amax(-1, keepdim=True) - argument
        if entries[-1] > _NOTHING:
            below = overflows.saturate(below, 9, place)
        weights = entries[below.clamp(max=255)]
        total = weights.sum(-1, keepdim=True)
        return (weights * signed_range(8)[1] + total // 2) // total


@dataclass(frozen=True)
class Table:
    """A look-up table of 8 bits to 8 bits: any function of a coarse potential.

    Entry i belongs to the argument i - 128.
    """

    entries: tuple[int, ...]

    def __post_init__(self) -> None:
        low, high = signed_range(8)
        if len(self.entries) != 256 or min(self.entries) < low or max(self.entries) > high:
            raise ValueError(f"a table needs 256 entries from {low} to {high}")

    @property
    def flat(self) -> bool:
        """Whether it no longer changes at both ends: what lies beyond them loses nothing."""
        first, second, *_, last_but_one, last = self.entries
        return first == second and last_but_one == last

    def look_up(self, argument: Tensor, overflows: Overflows, place: str) -> Tensor:
        """Return entries for integers; those beyond 8 bits are taken as the nearest.

        They are counted unless the table is flat at its ends.

        Raises:
            SaturationError: see `Overflows`.
        """
        entries = torch.tensor(self.entries, device=argument.device)
        if not self.flat:
            argument = overflows.saturate(argument, 8, place)
        return entries[argument.clamp(-128, 127) + 128]


@dataclass(frozen=True, kw_only=True)
class Activator:
    """A soma in ANN mode: 8-bit activations of sums · multiplier / 2^shift.

    Raises ValueError for a negative shift or multiplier.
    """

    multiplier: int
    shift: int
    table: Table | None = None  # of any function, such as a tanh; None for max(0, ·)

    def __post_init__(self) -> None:
        for name in ("multiplier", "shift"):
            require(self, name, getattr(self, name) >= 0, ">= 0")

    def activation(self, total: Tensor, overflows: Overflows, place: str) -> Tensor:
        """Return activations of sums, both integers; numbers that are too large are counted.

        Raises:
            SaturationError: see `Overflows`.
        """
        scaled = shifted(total, self.multiplier, self.shift)
        if self.table is not None:
            return self.table.look_up(scaled, overflows, place)
        return overflows.saturate(scaled.clamp(min=0), 8, place)
