"""Spike codes: how a value becomes a drive over T steps, and how spikes become an output.

Layout is [T, N, *]. A drive is either `Static`, one value repeated with a gain per step, or a
sequence of T tensors [N, in] (a tensor [T, N, in] is one).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from hybrid.model.neurons import NeuronState


class Static(NamedTuple):
    """A drive x_t = gain_t · value: an image shown for T steps without T copies of it."""

    value: Tensor  # [N, in]
    gain: tuple[float, ...]  # T gains


Drive = Static | Sequence[Tensor] | Tensor


def drive_decay(steps: int, tau: float | None) -> tuple[float, ...]:
    """Return the T gains e^{-t/tau} of a fading drive, t = 0 … T-1 (all 1 if `tau` is None).

    Args:
        steps: T, the number of steps.
        tau: time constant τ_w in steps, or None for a drive that does not fade.

    Raises:
        ValueError: if `steps` < 1 or `tau` <= 0.

    Source: paper Eq. 8, factor e^{-(t-t_n0)/τ_w}; the authors' code applies it to the layer input.
    """
    if steps < 1:
        raise ValueError(f"steps = {steps}: a window needs at least one step")
    if tau is None:
        return (1.0,) * steps
    if tau <= 0.0:
        raise ValueError(f"tau = {tau}: the time constant must be > 0 steps, or None")
    # Single precision as in the reference implementation, so that gains agree to the last bit.
    return tuple(torch.exp(-torch.arange(steps, dtype=torch.float32) / tau).tolist())


def direct(value: Tensor, steps: int) -> Static:
    """Direct code: the analogue value [N, in] drives the layer at each of `steps` steps."""
    return Static(value, drive_decay(steps, None))


def poisson(value: Tensor, steps: int, generator: torch.Generator) -> Tensor:
    """Poisson rate code: spikes [T, N, in] with probability `value` [N, in] at every step.

    Raises:
        ValueError: if a value lies outside [0, 1].
    """
    if value.min() < 0.0 or value.max() > 1.0:
        raise ValueError(
            f"poisson: values span [{value.min():.3g}, {value.max():.3g}]; "
            "they are probabilities and must lie in [0, 1]"
        )
    draws = torch.rand((steps, *value.shape), generator=generator, device=value.device)
    return (draws < value).to(value.dtype)


def fade(source: Static | Tensor | Sequence[Tensor], gain: tuple[float, ...]) -> Drive:
    """Multiply a drive step by step with `gain` (T values).

    Args:
        source: a `Static` drive, one value [N, in] to be shown at each step, or T tensors [N, in].
        gain: T gains, see `drive_decay`.

    Raises:
        ValueError: if the number of steps of `source` is not that of `gain`.
    """
    if isinstance(source, Tensor) and source.ndim == 2:
        return Static(source, gain)
    steps = len(source.gain if isinstance(source, Static) else source)
    if steps != len(gain):
        raise ValueError(f"the drive has {steps} steps, the network {len(gain)}: make them equal")
    if isinstance(source, Static):
        return Static(source.value, tuple(a * b for a, b in zip(source.gain, gain, strict=True)))
    return tuple(x * g for x, g in zip(source, gain, strict=True))


class ReadOut(Protocol):
    """How the window of the last layer becomes an output [N, out]."""

    def __call__(self, states: Sequence[NeuronState], v_th: float) -> Tensor:
        """Read T states of the last layer."""
        ...


@dataclass(frozen=True)
class Rate:
    """Output = spikes per step, Σ_t z_t / T in [0, 1] (paper Eq. 9 with Z = 1/T)."""

    def __call__(self, states: Sequence[NeuronState], v_th: float) -> Tensor:
        return torch.stack([state.z for state in states]).mean(0)


@dataclass(frozen=True)
class LastMembrane:
    """Output = v_T / v_th, clipped from above at `ceiling` (authors' fully connected networks)."""

    ceiling: float | None = None

    def __call__(self, states: Sequence[NeuronState], v_th: float) -> Tensor:
        output = states[-1].v / v_th
        return output if self.ceiling is None else output.clamp(max=self.ceiling)


@dataclass(frozen=True)
class Rank:
    """First-spike code: v / v_th at each sample's own stopping step (paper Eq. 9, Z = δ(t_stop)).

    A sample stops at the first step >= `earliest` at which one of its outputs exceeds the
    threshold, or at the last step. Each sample decides alone, whatever else is in its batch.
    """

    earliest: int = 1
    ceiling: float | None = None

    def stop_steps(self, states: Sequence[NeuronState], v_th: float) -> Tensor:
        """Return the stopping step of each sample, counted from 0, as integers [N]."""
        fired = torch.stack([(state.v > v_th).any(-1) for state in states])  # [T, N]
        fired[: self.earliest] = False
        fired[-1] = True
        return fired.to(torch.int8).argmax(0)

    def __call__(self, states: Sequence[NeuronState], v_th: float) -> Tensor:
        stop = self.stop_steps(states, v_th)
        v = torch.stack([state.v for state in states])
        output = v[stop, torch.arange(v.shape[1], device=v.device)] / v_th
        return output if self.ceiling is None else output.clamp(max=self.ceiling)
