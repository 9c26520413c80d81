"""Spiking neurons as pure steps: explicit state in, explicit state out.

A neuron is a frozen set of constants with one method, `step`. Tensors are [N, out]: N samples of
`out` neurons. Potentials and thresholds are dimensionless, time counts in steps.

A spike z = H(v - v_th) has derivative zero almost everywhere. In the backward pass a surrogate
replaces dH/dv by a bump around the threshold (paper, Methods; Fig. 1).
"""

from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from hybrid.checks import between, one_of, positive, require

# A constant of neurons: a number, or a tensor, of one entry or one for each neuron [out]. Layers
# train those that are parameters.
Constant = float | Tensor

Reset = Literal["subtract", "zero", "none"]


class Surrogate(Protocol):
    """The derivative that the backward pass uses in place of dH/dv."""

    def backward(self, grad: Tensor, v: Tensor, v_th: float) -> Tensor:
        """Return grad · dH/dv at membrane potential `v`; all tensors share one shape."""
        ...


@dataclass(frozen=True)
class Rectangle:
    """dH/dv = 1 where |v - v_th| < half_width, else 0: the paper's choice, not rescaled.

    A half width of 0 gives the true derivative of a step, zero everywhere.
    """

    half_width: float = 0.5

    def __post_init__(self) -> None:
        require(self, "half_width", self.half_width >= 0.0, ">= 0")

    def backward(self, grad: Tensor, v: Tensor, v_th: float) -> Tensor:
        """See `Surrogate.backward`."""
        # The derivative of a hard tanh is this very window: one fused pass instead of four.
        low, high = v_th - self.half_width, v_th + self.half_width
        return torch.ops.aten.hardtanh_backward(grad, v, low, high)


@dataclass(frozen=True)
class FastSigmoid:
    """dH/dv = 1 / (1 + slope |v - v_th|)² (Zenke and Ganguli, Neural Comput. 30, 2018)."""

    slope: float = 10.0

    def __post_init__(self) -> None:
        require(self, "slope", self.slope > 0.0, "> 0")

    def backward(self, grad: Tensor, v: Tensor, v_th: float) -> Tensor:
        """See `Surrogate.backward`."""
        return grad / (1.0 + self.slope * (v - v_th).abs()).square()


@dataclass(frozen=True)
class ArcTan:
    """dH/dv = 1 / (1 + (π slope (v - v_th) / 2)²) (Fang et al., ICCV 2021), peak height 1."""

    slope: float = 2.0

    def __post_init__(self) -> None:
        require(self, "slope", self.slope > 0.0, "> 0")

    def backward(self, grad: Tensor, v: Tensor, v_th: float) -> Tensor:
        """See `Surrogate.backward`."""
        return grad / (1.0 + (torch.pi / 2 * self.slope * (v - v_th)).square())


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, v_th: float, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(v)
        ctx.v_th, ctx.surrogate = v_th, surrogate
        # Writing the comparison into a float buffer skips a slow conversion from bool.
        return torch.gt(v, v_th, out=torch.empty_like(v))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        (v,) = ctx.saved_tensors
        return ctx.surrogate.backward(grads[0], v, ctx.v_th), None, None


class _TransformedSpike(_Spike):
    """The same in the form that `torch.func` and compilers ask for, and slower without them."""

    @staticmethod
    def forward(v: Tensor, v_th: float, surrogate: Surrogate) -> Tensor:  # type: ignore[override]
        return (v > v_th).to(v.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float, Surrogate], output: Tensor) -> None:
        v, ctx.v_th, ctx.surrogate = inputs
        ctx.save_for_backward(v)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> tuple[Tensor, Any]:
        return cast(Tensor, _TransformedSpike.apply(*inputs)), in_dims[0]


def spike(v: Tensor, v_th: Constant, surrogate: Surrogate) -> Tensor:
    """Return z = H(v - v_th) as floats of `v`'s shape, with `surrogate` as its derivative.

    Source: paper Eq. 8, third line.
    """
    if isinstance(v_th, Tensor):  # has a gradient of its own
        v, v_th = v - v_th, 0.0
    if torch.compiler.is_compiling():
        # Under vmap a compiler loses the spikes of a Function. What it compiles has first
        # derivatives alone: a straight line through (v, z) has the right one, and adds 0.
        slope = surrogate.backward(torch.ones_like(v), v.detach(), v_th)
        return (v > v_th).to(v.dtype) + slope.detach() * (v - v.detach())
    function = _TransformedSpike if without_values() else _Spike
    return cast(Tensor, function.apply(v, v_th, surrogate))


def is_batched(value: Tensor) -> bool:
    """Return whether a tensor stands for several, under `torch.func.vmap`."""
    batched: bool = torch._C._functorch.is_batchedtensor(value)
    return batched


def plain(value: Tensor) -> Tensor:
    """Return a detached tensor as itself, where `torch.func` follows its gradient no longer."""
    if torch.compiler.is_compiling():
        return value
    while torch._C._functorch.is_gradtrackingtensor(value):
        value = torch._C._functorch.get_unwrapped(value)
    return value


_DATA_INDEPENDENT: ContextVar[bool] = ContextVar("data_independent", default=False)


@contextmanager
def data_independent() -> Iterator[None]:
    """Let networks do the same work whatever their data, as what is recorded must."""
    before = _DATA_INDEPENDENT.set(True)
    try:
        yield
    finally:
        _DATA_INDEPENDENT.reset(before)


def without_values() -> bool:
    """Return whether no tensor may be asked for its value.

    So it is while a compiler or `torch.func` is at work, and where work is `data_independent`.
    """
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return True
    return _DATA_INDEPENDENT.get()


def plus(value: Tensor, factor: Constant, other: Tensor) -> Tensor:
    """Return value + factor · other, in one pass if the factor is a number."""
    if isinstance(factor, Tensor):
        return value + factor * other
    return torch.add(value, other, alpha=factor)


class NeuronState(NamedTuple):
    """What a layer of neurons remembers between two steps."""

    v: Tensor  # membrane potential [N, out]
    z: Tensor  # spikes [N, out]
    adaptation: Tensor | None = None  # threshold adaptation [N, out], adaptive neurons only


class Neuron(Protocol):
    """What layers ask of a neuron model."""

    @property
    def v_th(self) -> Constant: ...

    def step(self, current: Tensor, state: NeuronState | None) -> NeuronState:
        """Advance one step under `current` [N, out]; a state of None means at rest."""
        ...


@dataclass(frozen=True, kw_only=True)
class LIF:
    """Leaky integrate-and-fire neuron, the paper's model (Eq. 8).

    v_t = decay · reset(v_{t-1}, z_{t-1}) + I_t and z_t = H(v_t - v_th), where reset is
    v - v_th z ("subtract"), v (1 - z) ("zero") or v ("none": spikes leave the membrane alone).

    Args:
        decay: membrane decay per step in [0, 1], 1 - k_u in the paper.
        v_th: spike threshold, > 0. Both may be tensors, of one entry or one for each neuron [out];
            an `nn.Parameter` is trained, each layer its own copy.
        reset: what a spike does to the membrane. The authors' networks use "subtract" save for the
            convolutional Fashion-MNIST network and few-shot learning ("zero") and the CIFAR-10
            read-out ("none").
        surrogate: derivative used for z in the backward pass.

    Raises ValueError, naming the constant, if one makes no sense.
    """

    decay: Constant
    v_th: Constant
    reset: Reset = "subtract"
    surrogate: Surrogate = field(default_factory=Rectangle)

    def __post_init__(self) -> None:
        require(self, "decay", between(self.decay, 0.0, 1.0), "in [0, 1]")
        require(self, "v_th", positive(self.v_th), "> 0")
        one_of(self, "reset", Reset)

    def step(self, current: Tensor, state: NeuronState | None) -> NeuronState:
        """Return the state after one step under I_t [N, out]; None for neurons at rest."""
        if state is None:
            v = current
        elif self.reset == "subtract":
            v = plus(current, self.decay, plus(state.v, -self.v_th, state.z))
        elif self.reset == "zero":
            v = plus(current, self.decay, state.v * (1.0 - state.z))
        else:
            v = plus(current, self.decay, state.v)
        return NeuronState(v, spike(v, self.v_th, self.surrogate))


@dataclass(frozen=True, kw_only=True)
class IF(LIF):
    """Integrate-and-fire neuron: a LIF neuron that does not leak, its decay is 1."""

    decay: Constant = field(default=1.0, init=False)


@dataclass(frozen=True, kw_only=True)
class AdaptiveLIF(LIF):
    """LIF neuron whose threshold rises with its own spikes.

    a_t = adaptation_decay · a_{t-1} + z_{t-1}; the threshold is v_th + adaptation_gain · a_t, for
    spiking and for a subtractive reset alike.

    Args:
        adaptation_decay: in [0, 1].
        adaptation_gain: >= 0. Both may be tensors, see `LIF`.

    Source: Bellec et al., NeurIPS 2018 (adaptive threshold).
    """

    adaptation_decay: Constant = 0.9
    adaptation_gain: Constant = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "adaptation_decay", between(self.adaptation_decay, 0.0, 1.0), "in [0, 1]")
        require(self, "adaptation_gain", between(self.adaptation_gain, 0.0), ">= 0")

    def step(self, current: Tensor, state: NeuronState | None) -> NeuronState:
        """See `LIF.step`."""
        if state is None:
            adaptation, v = torch.zeros_like(current), current
        else:
            previous = torch.zeros_like(current) if state.adaptation is None else state.adaptation
            adaptation = self.adaptation_decay * previous + state.z
            if self.reset == "subtract":
                threshold = self.v_th + self.adaptation_gain * previous
                v = self.decay * (state.v - threshold * state.z) + current
            elif self.reset == "zero":
                v = self.decay * state.v * (1.0 - state.z) + current
            else:
                v = self.decay * state.v + current
        raised = v - self.adaptation_gain * adaptation
        return NeuronState(v, spike(raised, self.v_th, self.surrogate), adaptation)


# Between what bounds a trained constant acts. Training may push it further; what acts is the bound,
# and the gradient passes, so that it can come back.
_BOUNDS = {
    "decay": (0.0, 1.0),
    "v_th": (1e-6, None),
    "adaptation_decay": (0.0, 1.0),
    "adaptation_gain": (0.0, None),
}


def tensor_constants(neuron: Neuron) -> dict[str, Tensor]:
    """Return the constants of a neuron that are tensors, by name."""
    if not is_dataclass(neuron):
        return {}
    values = {f.name: getattr(neuron, f.name) for f in fields(neuron)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def with_constants(
    neuron: Neuron, constants: Mapping[str, Tensor], trained: Container[str]
) -> Neuron:
    """Return a neuron with other values of some constants, `trained` ones within their bounds."""
    other = copy(neuron)
    for name, value in constants.items():  # without checks: they would wait for a GPU
        if name in _BOUNDS and name in trained:
            value = value + (value.clamp(*_BOUNDS[name]) - value).detach()
        object.__setattr__(other, name, value)
    return other


def require_numbers(neuron: Neuron, owner: str) -> None:
    """Raise ValueError if a neuron has constants that are tensors, which `owner` cannot use."""
    if names := tensor_constants(neuron):
        raise ValueError(
            f"{type(neuron).__name__}.{', '.join(names)}: {owner} takes numbers, such as "
            "LIF(decay=0.4, v_th=0.35); constants that are tensors are for fully connected layers"
        )
