"""Codes: how a value becomes the inputs of T steps, and how spikes become an output.

Layout is [T, N, *].
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hybrid.checks import require
from hybrid.model.drive import Source
from hybrid.model.neurons import Constant, NeuronState, without_values

# How a batch of inputs [N, *] becomes what the first layer is shown in T steps.
Encode = Callable[[Tensor, int], Source]


@dataclass(frozen=True)
class Poisson:
    """Poisson rate code: spikes [T, N, in] with probability `value` [N, in] at every step."""

    def __call__(
        self, value: Tensor, steps: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw the spikes, without a generator from torch's global one.

        Raises:
            ValueError: if a value lies outside [0, 1].
        """
        known = value.numel() and not without_values()
        if known and (value.min() < 0.0 or value.max() > 1.0):
            raise ValueError(
                f"Poisson: values span [{value.min():.3g}, {value.max():.3g}]; "
                "they are probabilities and must lie in [0, 1]"
            )
        draws = torch.rand((steps, *value.shape), generator=generator, device=value.device)
        return (draws < value).to(value.dtype)


@dataclass(frozen=True)
class InParts:
    """Sequential code: each input [N, steps · in] in `steps` parts [N, in], shown in order.

    With 28 steps an image of 28 rows is shown row by row, with 784 pixel by pixel.
    """

    def __call__(self, value: Tensor, steps: int) -> tuple[Tensor, ...]:
        """Cut the inputs.

        Raises:
            ValueError: if they cannot be cut into equal parts.
        """
        if steps < 1 or value.shape[-1] % steps:
            raise ValueError(f"inputs of {value.shape[-1]} values cannot be cut into {steps} parts")
        return value.unflatten(-1, (steps, -1)).unbind(-2)


@dataclass(frozen=True, kw_only=True)
class EventCounts:
    """Event frames as inputs: counts [N, steps · in], shown step by step, see `InParts`.

    Args:
        ceiling: counts are cut here, and scaled to at most 1.

    Raises ValueError if the ceiling is not at least 1.
    """

    ceiling: int

    def __post_init__(self) -> None:
        require(self, "ceiling", self.ceiling >= 1, ">= 1")

    def __call__(self, value: Tensor, steps: int) -> tuple[Tensor, ...]:
        """Scale and cut the counts; ValueError if they cannot be cut into equal parts."""
        return InParts()(value.clamp(max=self.ceiling).float() / self.ceiling, steps)


class ReadOut(Protocol):
    """How the window of the last layer becomes an output [N, out]."""

    def __call__(self, states: Sequence[NeuronState], v_th: Constant) -> Tensor:
        """Read T states of the last layer."""
        ...

    def answered(self, states: Sequence[NeuronState], v_th: Constant) -> Tensor:
        """Return which samples' outputs no later step can change, as booleans [N]: here none."""
        return torch.zeros_like(states[-1].v[:, 0], dtype=torch.bool)


@dataclass(frozen=True)
class Rate(ReadOut):
    """Output = spikes per step, Σ_t z_t / T in [0, 1] (paper Eq. 9 with Z = 1/T)."""

    def __call__(self, states: Sequence[NeuronState], v_th: Constant) -> Tensor:
        return torch.stack([state.z for state in states]).mean(0)


@dataclass(frozen=True)
class LastMembrane(ReadOut):
    """Output = v_T / v_th, clipped from above at `ceiling` (authors' fully connected networks)."""

    ceiling: float | None = None

    def __post_init__(self) -> None:
        require(self, "ceiling", self.ceiling is None or self.ceiling > 0.0, "> 0, or None")

    def __call__(self, states: Sequence[NeuronState], v_th: Constant) -> Tensor:
        return _relative(states[-1].v, v_th, self.ceiling)


@dataclass(frozen=True)
class Rank(ReadOut):
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
        require(self, "earliest", self.earliest >= 0, ">= 0")
        share = self.fraction is None or 0.0 <= self.fraction < 1.0
        require(self, "fraction", share, "in [0, 1), or None")
        require(self, "ceiling", self.ceiling is None or self.ceiling > 0.0, "> 0, or None")

    def _fired(self, states: Sequence[NeuronState], v_th: Constant) -> Tensor:
        """Return at which steps samples may stop, as booleans [T, N]."""
        fired = torch.stack([(state.v > v_th).any(-1) for state in states])
        fired[: self.earliest] = False
        if self.fraction is None:
            return fired
        samples = max(fired.shape[1], 1)
        needed = int(self.fraction * samples)
        while needed / samples <= self.fraction:  # exactly, on devices without double precision
            needed += 1
        return (fired.sum(1, keepdim=True) >= needed).expand_as(fired)

    def answered(self, states: Sequence[NeuronState], v_th: Constant) -> Tensor:
        return self._fired(states, v_th).any(0)

    def stop_steps(self, states: Sequence[NeuronState], v_th: Constant) -> Tensor:
        """Return the stopping step of each sample, counted from 0, as integers [N]."""
        fired = self._fired(states, v_th).to(torch.int8)
        fired[-1] = 1
        return fired.argmax(0)

    def __call__(self, states: Sequence[NeuronState], v_th: Constant) -> Tensor:
        stop = self.stop_steps(states, v_th)
        v = torch.stack([state.v for state in states])
        chosen = v[stop, torch.arange(v.shape[1], device=v.device)]
        return _relative(chosen, v_th, self.ceiling)


def _relative(v: Tensor, v_th: Constant, ceiling: float | None) -> Tensor:
    return v / v_th if ceiling is None else (v / v_th).clamp(max=ceiling)
