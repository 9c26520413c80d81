"""Spiking neurons as pure steps: explicit state in, explicit state out.

A neuron is a frozen set of constants with one method, `step`. Tensors are [N, out]: N samples of
`out` neurons. Potentials and thresholds are dimensionless, time counts in steps.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from hybrid.model.surrogates import Rectangle, Surrogate, spike

Reset = Literal["subtract", "zero", "none"]
RESETS: tuple[Reset, ...] = ("subtract", "zero", "none")


class NeuronState(NamedTuple):
    """What a layer of neurons remembers between two steps."""

    v: Tensor  # membrane potential [N, out]
    z: Tensor  # spikes [N, out]
    adaptation: Tensor | None = None  # threshold adaptation [N, out], adaptive neurons only


class Neuron(Protocol):
    """What layers ask of a neuron model."""

    @property
    def v_th(self) -> float: ...

    def step(self, current: Tensor, state: NeuronState | None) -> NeuronState:
        """Advance one step under `current` [N, out]; a state of None means at rest."""
        ...


def lif_step(
    current: Tensor,
    state: NeuronState | None,
    *,
    decay: float,
    v_th: float,
    reset: Reset,
    surrogate: Surrogate,
) -> NeuronState:
    """One step of leaky integrate-and-fire neurons.

    v_t = decay · reset(v_{t-1}, z_{t-1}) + I_t and z_t = H(v_t - v_th), where reset is
    v - v_th z ("subtract"), v (1 - z) ("zero") or v ("none": spikes leave the membrane alone).

    Args:
        current: input current I_t [N, out].
        state: state after the previous step, or None for neurons at rest.
        decay: membrane decay per step, 1 - k_u in the paper.
        v_th: spike threshold.
        reset: what a spike does to the membrane.
        surrogate: derivative used for z in the backward pass.

    Returns:
        State after this step.

    Source: paper Eq. 8; the authors' networks use "subtract" save for the convolutional
    Fashion-MNIST network and few-shot learning ("zero") and the CIFAR-10 read-out ("none").
    """
    if state is None:
        v = current
    elif reset == "subtract":
        v = torch.add(current, torch.sub(state.v, state.z, alpha=v_th), alpha=decay)
    elif reset == "zero":
        v = torch.add(current, state.v * (1.0 - state.z), alpha=decay)
    else:
        v = torch.add(current, state.v, alpha=decay)
    return NeuronState(v, spike(v, v_th, surrogate))


def adaptive_lif_step(
    current: Tensor,
    state: NeuronState | None,
    *,
    decay: float,
    v_th: float,
    reset: Reset,
    surrogate: Surrogate,
    adaptation_decay: float,
    adaptation_gain: float,
) -> NeuronState:
    """One step of LIF neurons whose threshold rises with their own spikes.

    a_t = adaptation_decay · a_{t-1} + z_{t-1}; the threshold is v_th + adaptation_gain · a_t, for
    spiking and for a subtractive reset alike. Arguments and returns as in `lif_step`.

    Source: Bellec et al., NeurIPS 2018 (adaptive threshold).
    """
    if state is None:
        adaptation, v = torch.zeros_like(current), current
    else:
        previous = torch.zeros_like(current) if state.adaptation is None else state.adaptation
        adaptation = adaptation_decay * previous + state.z
        if reset == "subtract":
            v = decay * (state.v - (v_th + adaptation_gain * previous) * state.z) + current
        elif reset == "zero":
            v = decay * state.v * (1.0 - state.z) + current
        else:
            v = decay * state.v + current
    return NeuronState(v, spike(v - adaptation_gain * adaptation, v_th, surrogate), adaptation)


@dataclass(frozen=True, kw_only=True)
class LIF:
    """Leaky integrate-and-fire neuron, the paper's model (Eq. 8). Raises ValueError if invalid."""

    decay: float
    v_th: float
    reset: Reset = "subtract"
    surrogate: Surrogate = field(default_factory=Rectangle)

    def __post_init__(self) -> None:
        _validate(self.decay, self.v_th, self.reset)

    def step(self, current: Tensor, state: NeuronState | None) -> NeuronState:
        """See `lif_step`."""
        return lif_step(
            current,
            state,
            decay=self.decay,
            v_th=self.v_th,
            reset=self.reset,
            surrogate=self.surrogate,
        )


@dataclass(frozen=True, kw_only=True)
class IF:
    """Integrate-and-fire neuron: a LIF neuron that does not leak. Raises ValueError if invalid."""

    v_th: float
    reset: Reset = "subtract"
    surrogate: Surrogate = field(default_factory=Rectangle)

    def __post_init__(self) -> None:
        _validate(1.0, self.v_th, self.reset)

    def step(self, current: Tensor, state: NeuronState | None) -> NeuronState:
        """See `lif_step`, with decay 1."""
        return lif_step(
            current, state, decay=1.0, v_th=self.v_th, reset=self.reset, surrogate=self.surrogate
        )


@dataclass(frozen=True, kw_only=True)
class AdaptiveLIF:
    """LIF neuron with a threshold that adapts to its activity. Raises ValueError if invalid."""

    decay: float
    v_th: float
    adaptation_decay: float = 0.9
    adaptation_gain: float = 0.1
    reset: Reset = "subtract"
    surrogate: Surrogate = field(default_factory=Rectangle)

    def __post_init__(self) -> None:
        _validate(self.decay, self.v_th, self.reset)
        if not 0.0 <= self.adaptation_decay <= 1.0:
            raise ValueError(f"adaptation_decay = {self.adaptation_decay}: it must lie in [0, 1]")
        if self.adaptation_gain < 0.0:
            raise ValueError(f"adaptation_gain = {self.adaptation_gain}: it must be >= 0")

    def step(self, current: Tensor, state: NeuronState | None) -> NeuronState:
        """See `adaptive_lif_step`."""
        return adaptive_lif_step(
            current,
            state,
            decay=self.decay,
            v_th=self.v_th,
            reset=self.reset,
            surrogate=self.surrogate,
            adaptation_decay=self.adaptation_decay,
            adaptation_gain=self.adaptation_gain,
        )


def _validate(decay: float, v_th: float, reset: str) -> None:
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"decay = {decay}: the membrane decay must lie in [0, 1]")
    if v_th <= 0.0:
        raise ValueError(f"v_th = {v_th}: the threshold must be > 0")
    if reset not in RESETS:
        raise ValueError(f"reset = {reset!r}: choose one of {', '.join(RESETS)}")
