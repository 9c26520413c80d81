"""What drives a layer over a window of T steps: one input that fades, or an input for each step.

Layout is [T, N, *]. A drive knows its steps, its samples and its input at each step; how it was
given is nobody else's business.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hybrid.model.plasticity import contract

# What neurons make of the weighted sums x W [N, out] of their inputs, before gain and bias.
Control = Callable[[Tensor], Tensor]


class _Stepwise(ABC):
    """What all drives share: an input for each step, and its gain."""

    gain: tuple[float, ...]  # T gains

    @property
    def steps(self) -> int:
        """T."""
        return len(self.gain)

    @property
    def shape(self) -> torch.Size:
        """Shape of the input of a step, [N, in]."""
        return self.value_at(0).shape

    @abstractmethod
    def value_at(self, t: int) -> Tensor:
        """Return the input of step t before its gain [N, in]."""

    def at(self, t: int) -> Tensor:
        """Return x_t [N, in]."""
        value = self.value_at(t)
        return value if self.gain[t] == 1.0 else value * self.gain[t]


@dataclass(frozen=True, eq=False)
class Static(_Stepwise):
    """A drive x_t = gain_t · value: an image shown for T steps without T copies of it."""

    value: Tensor  # [N, in]
    gain: tuple[float, ...]
    repeated = True  # one input serves the whole window

    def value_at(self, t: int) -> Tensor:
        return self.value

    def currents(
        self, weight: Tensor, bias: Tensor | None, control: Control | None = None
    ) -> Callable[[int], Tensor]:
        """Return t -> x_t Wᵀ + b [N, out], with a single product for all steps."""
        product = contract(self.value, weight)
        product = product if control is None else control(product)
        return lambda t: scaled(product, self.gain[t], bias)

    def select(self, inputs: Tensor) -> "Static":
        """Return the drive of some inputs, given by their numbers [k]."""
        return Static(self.value[:, inputs], self.gain)

    def part(self, first: int, end: int, samples: Tensor) -> "Static":
        """Return steps `first` to `end` - 1 of some samples, given by their numbers [k]."""
        return Static(self.value[samples], self.gain[first:end])

    def sizes(self, *, pooled: bool) -> list[Tensor]:
        """Return Σ_n |value| [in] for each step, or |value| [N, in] if not `pooled`."""
        size = self.value.abs()
        return [size.sum(0) if pooled else size] * self.steps


@dataclass(frozen=True, eq=False)
class Steps(_Stepwise):
    """A drive x_t = gain_t · inputs_t with an input of its own for each step: spikes, events."""

    inputs: tuple[Tensor, ...]  # T tensors [N, in]
    gain: tuple[float, ...]
    repeated = False

    def __post_init__(self) -> None:
        if len(self.gain) != len(self.inputs):
            raise ValueError(f"{len(self.gain)} gains for {len(self.inputs)} inputs: give as many")
        shapes = {tuple(x.shape) for x in self.inputs}
        if len(shapes) > 1:
            raise ValueError(f"inputs of shapes {sorted(shapes)}: all steps must have one shape")

    def value_at(self, t: int) -> Tensor:
        return self.inputs[t]

    def currents(
        self, weight: Tensor, bias: Tensor | None, control: Control | None = None
    ) -> Callable[[int], Tensor]:
        """Return t -> x_t Wᵀ + b [N, out]."""
        if control is None:
            return lambda t: contract(self.at(t), weight, bias)
        return lambda t: scaled(control(contract(self.inputs[t], weight)), self.gain[t], bias)

    def select(self, inputs: Tensor) -> "Steps":
        """Return the drive of some inputs, given by their numbers [k]."""
        return Steps(tuple(x[:, inputs] for x in self.inputs), self.gain)

    def part(self, first: int, end: int, samples: Tensor) -> "Steps":
        """Return steps `first` to `end` - 1 of some samples, given by their numbers [k]."""
        return Steps(tuple(x[samples] for x in self.inputs[first:end]), self.gain[first:end])

    def sizes(self, *, pooled: bool) -> list[Tensor]:
        """Return Σ_n |inputs_t| [in] of each step, or |inputs_t| [N, in] if not `pooled`."""
        sizes = [x.abs() for x in self.inputs]
        return [size.sum(0) for size in sizes] if pooled else sizes


Drive = Static | Steps
# What a layer or a network takes as its drive.
Source = Drive | Tensor | Sequence[Tensor]


def scaled(current: Tensor, gain: float, bias: Tensor | None) -> Tensor:
    """Return gain · current + b."""
    return current * gain if bias is None else torch.add(bias, current, alpha=gain)


def as_drive(source: Source) -> Drive:
    """Return a drive for T inputs [N, in], a tensor [T, N, in] among them, or as it is.

    Raises:
        ValueError: if there is no step.
    """
    if isinstance(source, Static | Steps):
        drive = source
    else:
        inputs = source.unbind(0) if isinstance(source, Tensor) else tuple(source)
        drive = Steps(inputs, (1.0,) * len(inputs))
    if drive.steps == 0:
        raise ValueError("the drive has no steps: a window needs at least one")
    return drive


def checked_source(source: Any, inputs: int, *, once: bool) -> Source:
    """Refuse what cannot drive a layer of so many inputs, and say what can.

    Args:
        source: of a layer or a network.
        inputs: of the layer.
        once: whether one input [N, in] may serve all steps.

    Raises:
        ValueError: if it is no drive, and no tensors of the right shape.
    """
    if isinstance(source, Static | Steps):
        return source
    if isinstance(source, Tensor):
        fits = source.ndim == 3 or (once and source.ndim == 2)
        fits, given = fits and source.shape[-1] == inputs, str(list(source.shape))
    else:
        several = isinstance(source, Iterable) and not isinstance(source, str | np.ndarray)
        parts = tuple(source) if several else (source,)
        known = all(isinstance(x, Tensor) for x in parts)
        fits = known and all(x.ndim == 2 and x.shape[1] == inputs for x in parts)
        shapes = sorted({str(list(x.shape)) for x in parts}) if known else []
        given = f"{len(parts)} of {', '.join(shapes)}" if known else type(source).__name__
        source = parts
    if not fits:
        one = f"inputs [N, {inputs}], shown at each step, or " if once else ""
        raise ValueError(
            f"{given} cannot be shown: give {one}T inputs [N, {inputs}], as one tensor "
            f"[T, N, {inputs}] or as T tensors; flatten images, x.flatten(1), and show a layer one "
            "image for T steps by hybrid.direct(x, T)"
        )
    found: Source = source
    return found


def check_dtype(x: Tensor, weight: Tensor) -> None:
    """Raise ValueError if inputs and weights are numbers of two kinds, unless autocast is on."""
    if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        raise ValueError(
            f"inputs of {x.dtype} for weights of {weight.dtype}: give x.to({weight.dtype}), or "
            "make the network of the inputs' precision, network.double() for example"
        )


def time_first(source: Source) -> Tensor:
    """Return inputs [N, T, in], whose samples come first, as [T, N, in].

    Raises:
        ValueError: if they are no such tensor.
    """
    if not isinstance(source, Tensor) or source.ndim != 3:
        raise ValueError("batch_first = True is for one tensor [N, T, in]")
    return source.transpose(0, 1)


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
    if not tau > 0.0:
        raise ValueError(f"tau = {tau}: the time constant must be > 0 steps, or None")
    # Single precision as in the reference implementation, so that gains agree to the last bit.
    return tuple(torch.exp(-torch.arange(steps, dtype=torch.float32) / tau).tolist())


def direct(value: Tensor, steps: int) -> Static:
    """Direct code: the analogue value [N, in] drives the layer at each of `steps` steps."""
    return Static(value, drive_decay(steps, None))


def fade(source: Source, gain: tuple[float, ...]) -> Drive:
    """Multiply a drive step by step with `gain` (T values).

    Args:
        source: a drive, T tensors [N, in], or one value [N, in] to be shown at each step.
        gain: T gains, see `drive_decay`.

    Raises:
        ValueError: if the number of steps of `source` is not that of `gain`.
    """
    if isinstance(source, Tensor) and source.ndim == 2:
        return Static(source, gain)
    drive = as_drive(source)
    if drive.steps != len(gain):
        raise ValueError(
            f"the drive has {drive.steps} steps, the network {len(gain)}: make them equal"
            + (
                ", or say batch_first=True of inputs [N, T, in]"
                if isinstance(source, Tensor)
                else ""
            )
        )
    return replace(drive, gain=tuple(a * b for a, b in zip(drive.gain, gain, strict=True)))
