"""The soma of a core: what whole-number potentials become.

A spiking soma is primitive P08 of TianjicX, the best public description; of Tianjic itself less is
known. One step: add the input unless the neuron is refractory, fire above the threshold, reset,
leak. A leak of k/256 after the reset is what the paper's neuron does before its next input:

    v_t = decay · reset(v_{t-1}, z_{t-1}) + I_t,  z_t = H(v_t - v_th)

A threshold may rise with a neuron's own spikes, and a register of random bits may be added to it,
with their sign. Source: openBII/BiMap; `chip.toml` for widths.
"""

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hybrid.checks import one_of, require
from hybrid.tianjic.chip import tianjic
from hybrid.tianjic.fixed import Overflows, signed_range

ResetMode = Literal["to value", "subtract threshold", "subtract value"]
_NOTHING = 1 << 7  # of 1/2^15: less than half of one share in 127
LEAK_STEPS = 256  # leaks are multiples of 1/256
_TAPS = (0, 1, 2, 3, 5, 7)  # bits of the register whose parity comes in at its top


class SomaState(NamedTuple):
    """What neurons remember, as integers [N, out]; None for what their soma does not have."""

    left: Tensor  # potential after reset and leak
    raised: Tensor | None = None  # what their spikes have added to the threshold
    waits: Tensor | None = None  # steps for which they are refractory
    register: int = 0  # of random bits


class SomaStep(NamedTuple):
    """One step of neurons, as integers [N, out]."""

    state: SomaState
    v: Tensor  # potential before reset: what a copy of the neuron sends as its potential
    z: Tensor  # spikes, 0 or 1


@dataclass(frozen=True, kw_only=True)
class Soma:
    """Constants of leaky integrate-and-fire neurons in whole numbers.

    Args:
        threshold: a neuron fires strictly above it; one for all, or one for each sample and neuron
            [N, out].
        leak: k of the leak k/256: 256 keeps the potential, 0 forgets it.
        added: to the potential with each leak.
        reset: what a spike does: sets the potential to `reset_value`, subtracts the threshold that
            was crossed, or subtracts `reset_value`.
        reset_value: see `reset`.
        lowest: below which neither potentials nor thresholds fall; None for what bits hold.
        refractory: steps after a spike in which inputs are lost.
        increment: that a spike adds to the neuron's threshold, from the next step on.
        increment_leak: k of k/256, by which that fades in each step.
        noise: which bits of the random register are added to thresholds; 0 for none.
        seed: of that register, not 0.
        bits: of the potential; Tianjic's unless told otherwise.

    Raises ValueError, naming the constant, for values that the chip cannot hold.
    """

    threshold: int | Tensor
    leak: int = LEAK_STEPS
    added: int = 0
    reset: ResetMode = "subtract threshold"
    reset_value: int = 0
    lowest: int | None = None
    refractory: int = 0
    increment: int = 0
    increment_leak: int = LEAK_STEPS
    noise: int = 0
    seed: int = 1
    bits: int = field(default_factory=lambda: tianjic().potential_bits)

    def __post_init__(self) -> None:
        low, high = signed_range(self.bits)
        for name in ("leak", "increment_leak"):
            fits = 0 <= getattr(self, name) <= LEAK_STEPS
            require(self, name, fits, f"in 0 to {LEAK_STEPS}")
        for name in ("threshold", "reset_value", "added", "increment"):
            value = torch.as_tensor(getattr(self, name))
            held = bool(((low <= value) & (value <= high)).all())
            require(self, name, held, f"in {low} to {high}")
        require(self, "lowest", self.lowest is None or low <= self.lowest <= 0, f"in {low} to 0")
        require(self, "refractory", 0 <= self.refractory <= 15, "in 0 to 15: it has 4 bits")
        require(self, "noise", 0 <= self.noise <= high, f"in 0 to {high}")
        require(self, "seed", 0 < self.seed < 1 << 32, "in 1 to 2^32 - 1")
        one_of(self, "reset", ResetMode)

    def at_rest(self, samples: int, neurons: int, device: torch.device | None = None) -> SomaState:
        """Return neurons before the first step."""
        rest = torch.zeros(samples, neurons, dtype=torch.int64, device=device)
        return SomaState(
            rest,
            rest if self.increment else None,
            rest if self.refractory else None,
            self.seed,
        )

    def step(self, current: Tensor, state: SomaState, overflows: Overflows, place: str) -> SomaStep:
        """Advance neurons by one step.

        Args:
            current: input [N, out], integers.
            state: after the step before.
            overflows: counts potentials that do not fit.
            place: named where they are counted.

        Raises:
            SaturationError: see `Overflows`.
        """
        low = signed_range(self.bits)[0] if self.lowest is None else self.lowest
        threshold, register = torch.as_tensor(self.threshold), state.register
        if state.raised is not None:
            threshold = threshold + state.raised
        if self.noise:
            drawn, register = random_bits(register, current.numel())
            threshold = threshold + signed_bits(drawn, self.noise).view_as(current)
        if threshold.ndim:
            threshold = threshold.clamp(max=signed_range(self.bits)[1])
        threshold = threshold.clamp(min=low)
        if state.waits is not None:
            current = torch.where(state.waits == 0, current, 0)
        v = overflows.saturate(state.left + current, self.bits, place)
        z = (v > threshold).long()
        if self.reset == "to value":
            after = torch.where(z == 1, self.reset_value, v)
        else:
            after = v - z * (threshold if self.reset == "subtract threshold" else self.reset_value)
        leaked = ((after * self.leak) >> 8) + self.added  # the floor of k/256
        left = overflows.saturate(leaked, self.bits, place)
        return SomaStep(
            SomaState(
                left if self.lowest is None else left.clamp(min=low),
                None if state.raised is None else self._raised(state.raised, z, overflows, place),
                None if state.waits is None else self._waiting(state.waits, z),
                register,
            ),
            v,
            z,
        )

    def _raised(self, raised: Tensor, z: Tensor, overflows: Overflows, place: str) -> Tensor:
        faded = ((raised * self.increment_leak) >> 8) + z * self.increment
        return overflows.saturate(faded, self.bits, place)

    def _waiting(self, waits: Tensor, z: Tensor) -> Tensor:
        return torch.where(z == 1, self.refractory, (waits - 1).clamp(min=0))


def random_bits(register: int, count: int) -> tuple[Tensor, int]:
    """Return the next values of a register of random bits, and its last one.

    In each step its bits move down by one place, and the parity of some of them comes in at the
    top; values are signed numbers of 32 bits.
    """
    bits = np.zeros(32 + count, np.uint8)
    bits[:32] = (register >> np.arange(32)) & 1
    reach = 32 - max(_TAPS)  # so many new bits depend on old ones alone
    for start in range(0, count, reach):
        end = min(start + reach, count)
        parity = np.zeros(end - start, np.uint8)
        for tap in _TAPS:
            parity ^= bits[start + tap : end + tap]
        bits[start + 32 : end + 32] = parity
    windows = np.lib.stride_tricks.sliding_window_view(bits, 32)[1:]
    values = windows.astype(np.uint64) @ (np.uint64(1) << np.arange(32, dtype=np.uint64))
    signed = values.astype(np.uint32).view(np.int32).astype(np.int64)
    return torch.from_numpy(signed), int(values[-1]) if count else register


def signed_bits(values: Tensor, mask: int) -> Tensor:
    """Return the bits of signed numbers that a mask lets pass, with the sign of each number."""
    return torch.where(values >= 0, values & mask, -(~values & mask))


@dataclass(frozen=True)
class SoftMaximum:
    """Shares of neurons in 8 bits, by a table of exponentials and a division.

    Entry i, exp(-i · step) in 1/2^15, belongs to neurons whose argument lies i below the largest.
    No primitive divides: a host does it, see `hybrid.tianjic.few_shot`.
    """

    step: float

    @property
    def entries(self) -> tuple[int, ...]:
        """The table, 256 whole numbers."""
        return tuple(round(math.exp(-i * self.step) * (1 << 15)) for i in range(256))

    def look_up(self, values: Tensor, n: int, overflows: Overflows, place: str) -> Tensor:
        """Return shares [N, out], 127 for all, of floor(values / 4^n) [N, out].

        Neurons more than 255 below the largest are taken as 255 below it, and counted unless the
        table ends at next to nothing.
        """
        argument = values.long() >> (2 * n)
        entries = torch.tensor(self.entries, device=argument.device)
        below = argument.amax(-1, keepdim=True) - argument
        if entries[-1] > _NOTHING:
            below = overflows.saturate(below, 9, place)
        weights = entries[below.clamp(max=255)]
        total = weights.sum(-1, keepdim=True)
        return (weights * signed_range(8)[1] + total // 2) // total


@dataclass(frozen=True)
class Table:
    """A look-up table of 8 bits to 8 bits (P07): any function of a coarse potential.

    Entry i belongs to the address i - 128.
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

    def look_up(self, values: Tensor, n: int, overflows: Overflows, place: str) -> Tensor:
        """Return entries at floor(values / 4^n); those beyond 8 bits are taken as the nearest.

        They are counted unless the table is flat at its ends.

        Raises:
            SaturationError: see `Overflows`.
        """
        address = values.long() >> (2 * n)
        entries = torch.tensor(self.entries, device=address.device)
        if not self.flat:
            address = overflows.saturate(address, 8, place)
        return entries[address.clamp(-128, 127) + 128]
