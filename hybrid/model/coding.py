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


def poisson(value: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
    """Poisson rate code: spikes [T, N, in] with probability `value` [N, in] at every step.

    Without a generator, torch's global one is drawn from.

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


def in_parts(value: Tensor, steps: int) -> tuple[Tensor, ...]:
    """Sequential code: cut each input [N, steps · in] into `steps` parts [N, in], shown in order.

    With 28 steps an image of 28 rows is shown row by row, with 784 pixel by pixel.

    Raises:
        ValueError: if the inputs cannot be cut into equal parts.
    """
    if steps < 1 or value.shape[-1] % steps:
        raise ValueError(f"inputs of {value.shape[-1]} values cannot be cut into {steps} parts")
    return value.unflatten(-1, (steps, -1)).unbind(-2)


def counts_in_parts(counts: Tensor, steps: int, ceiling: int) -> tuple[Tensor, ...]:
    """Event frames as inputs: counts [N, steps · in] are cut at `ceiling`, scaled to at most 1,
    and shown step by step, see `in_parts`.

    Raises:
        ValueError: if the ceiling is not at least 1, or the counts cannot be cut into equal parts.
    """
    if ceiling < 1:
        raise ValueError(f"ceiling = {ceiling}: it must be >= 1")
    return in_parts(counts.clamp(max=ceiling).float() / ceiling, steps)


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

    def answered(self, states: Sequence[NeuronState], v_th: float) -> Tensor:
        """Return which samples' outputs no later step can change, as booleans [N]."""
        ...


def _none(states: Sequence[NeuronState]) -> Tensor:
    v = states[-1].v
    return torch.zeros(v.shape[0], dtype=torch.bool, device=v.device)


@dataclass(frozen=True)
class Rate:
    """Output = spikes per step, Σ_t z_t / T in [0, 1] (paper Eq. 9 with Z = 1/T)."""

    def __call__(self, states: Sequence[NeuronState], v_th: float) -> Tensor:
        return torch.stack([state.z for state in states]).mean(0)

    def answered(self, states: Sequence[NeuronState], v_th: float) -> Tensor:
        return _none(states)


@dataclass(frozen=True)
class LastMembrane:
    """Output = v_T / v_th, clipped from above at `ceiling` (authors' fully connected networks)."""

    ceiling: float | None = None

    def __call__(self, states: Sequence[NeuronState], v_th: float) -> Tensor:
        return _relative(states[-1].v, v_th, self.ceiling)

    def answered(self, states: Sequence[NeuronState], v_th: float) -> Tensor:
        return _none(states)


@dataclass(frozen=True)
class Rank:
    """First-spike code: v / v_th at the stopping step (paper Eq. 9, Z = δ(t_stop)).

    Args:
        earliest: no stop before this step, counted from 0.
        ceiling: upper bound of the output, or None.
        fraction: None: each sample stops alone, at the first step at which one of its outputs
            exceeds the threshold, whatever else is in its batch. A number: the whole batch stops
            at the first step at which more than this fraction of its samples have an output
            above the threshold (the authors' convolutional networks).

    Whoever has not stopped by then stops at the last step.
    """

    earliest: int = 1
    ceiling: float | None = None
    fraction: float | None = None

    def __post_init__(self) -> None:
        if self.earliest < 0:
            raise ValueError(f"Rank.earliest = {self.earliest}: it must be >= 0")
        if self.fraction is not None and not 0.0 <= self.fraction < 1.0:
            raise ValueError(f"Rank.fraction = {self.fraction}: it must lie in [0, 1), or be None")

    def _fired(self, states: Sequence[NeuronState], v_th: float) -> Tensor:
        """Return at which steps samples may stop, as booleans [T, N]."""
        fired = torch.stack([(state.v > v_th).any(-1) for state in states])
        fired[: self.earliest] = False
        if self.fraction is None:
            return fired
        return (fired.double().mean(1, keepdim=True) > self.fraction).expand_as(fired)

    def answered(self, states: Sequence[NeuronState], v_th: float) -> Tensor:
        return self._fired(states, v_th).any(0)

    def stop_steps(self, states: Sequence[NeuronState], v_th: float) -> Tensor:
        """Return the stopping step of each sample, counted from 0, as integers [N]."""
        fired = self._fired(states, v_th).to(torch.int8)
        fired[-1] = 1
        return fired.argmax(0)

    def __call__(self, states: Sequence[NeuronState], v_th: float) -> Tensor:
        stop = self.stop_steps(states, v_th)
        v = torch.stack([state.v for state in states])
        chosen = v[stop, torch.arange(v.shape[1], device=v.device)]
        return _relative(chosen, v_th, self.ceiling)


def _relative(v: Tensor, v_th: float, ceiling: float | None) -> Tensor:
    return v / v_th if ceiling is None else (v / v_th).clamp(max=ceiling)
