"""Running a network in whole numbers, as its cores would, many samples at a time.

It knows nothing of energy or of places: it counts which neurons were active, and all else follows
from that and from the mapping.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from hybrid.tianjic.chip import Chip
from hybrid.tianjic.fixed import Overflows, exact_product, shifted, signed_range
from hybrid.tianjic.history import History, HostRule, LocalModule, WrittenSynapses
from hybrid.tianjic.primitives import weigh
from hybrid.tianjic.rules import tiles
from hybrid.tianjic.shapes import ConvolutionShape
from hybrid.tianjic.soma import Soma, SomaStep

Local = Literal["off", "history", "write-back"]
Trace = History | WrittenSynapses | None  # what stands for a layer's trace


class Carried(NamedTuple):
    """The trace that training has left, as a second matrix of weights that fades.

    What fades is what its cores take in: they look each input up in a table, one for each step
    (P07). Its weights have the scale of the layer's own, so that their sums add up as they are.
    """

    weight: Tensor  # [in, out], 8 bits
    gains: tuple[float, ...]  # by which inputs fade [T]

    def faded(self, x: Tensor, step: int) -> Tensor:
        """Return what inputs of 8 bits become in a step."""
        return (x.double() * self.gains[step]).round().long()


class Recurrent(NamedTuple):
    """Synapses from a layer's own neurons, which bring the spikes of the step before."""

    weight: Tensor  # [out, out], 8 bits, of the scale of the layer's own
    peak: int  # what a spike comes in as


@dataclass(frozen=True, kw_only=True)
class SpikingLayer:
    """A layer of spiking neurons in whole numbers, a synapse for each input and output."""

    name: str
    weight: Tensor  # [in, out], 8 bits
    bias: Tensor  # added in each step [out], in units of the potential
    soma: Soma
    offsets: Tensor | None = None  # added in each step, of each sample [T, N, out]
    unit: float  # what one unit of the potential is worth
    payload: tuple[int, ...] | None = None  # what spikes carry, by step; None for bare ones
    local: LocalModule | None = None
    carried: Carried | None = None  # the trace left by training
    recurrent: Recurrent | None = None
    host: HostRule | None = None  # what a host needs to rewrite its synapses
    convolution: ConvolutionShape | None = None  # whose unfolded synapses the weights are


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How the cores add up.

    Args:
        fan_in: inputs of a core; None for one core of any size.
        partial_sum_bits: of the sums that tiles of a layer send to each other.
        partial_sum_shift: bits that these sums lose on the way; None for so many, layer by layer,
            that the largest possible sum fits.
        strict: whether a number that does not fit is an error.
    """

    fan_in: int | None = 256
    partial_sum_bits: int = 32
    partial_sum_shift: int | None = 0
    strict: bool = False

    @classmethod
    def of(cls, chip: Chip) -> "Limits":
        """Return the limits of a chip's cores."""
        return cls(fan_in=chip.fan_in, partial_sum_bits=chip.partial_sum_bits)


WIDE = Limits()
Watch = Callable[[SpikingLayer, Tensor, list[SomaStep]], None]


class Layered(NamedTuple):
    """What a layer did, over all samples and steps."""

    active_in: Tensor  # how often each input was not zero [in]
    active_out: Tensor  # how often each neuron fired [out]
    largest: int  # magnitude of a potential


class Outcome(NamedTuple):
    """What a network did with a batch."""

    potentials: Tensor  # of the last layer after the last step, before reset [N, out]
    counts: Tensor  # its spikes [N, out]
    samples: int
    steps: int
    layers: dict[str, Layered]
    overflows: dict[str, int]
    trail: Tensor  # potentials of the last layer in each step [T, N, out]


def run(
    layers: Sequence[SpikingLayer],
    inputs: Sequence[Tensor],
    *,
    local: Local = "history",
    limits: Limits = WIDE,
    watch: Watch | None = None,
) -> Outcome:
    """Run a network from rest, each sample on its own.

    Args:
        layers: in the order of signals.
        inputs: T inputs of the first layer [N, in], whole numbers; what 8 bits do not hold is cut,
            and counted.
        local: how the local modules work: not at all; by a history; by a host that rewrites
            synapses, for layers without a carried or folded trace. Those are there in any case.
        limits: of the cores.
        watch: called after each layer, with what came in [T, N, in] and what its somas did.

    Raises:
        ValueError: if shapes do not fit, or a name is unknown.
        SaturationError: if a number does not fit, and the limits are strict.
    """
    if local not in get_args(Local):
        raise ValueError(f"local = {local!r}: it must be one of {', '.join(get_args(Local))}")
    _check(layers, inputs)
    overflows = Overflows(strict=limits.strict)
    done: dict[str, Layered] = {}
    signals = spikes = trail = overflows.saturate(torch.stack(tuple(inputs)), 8, "inputs")
    for layer in layers:
        if layer is not layers[0]:  # spikes, or the numbers that they carry
            payload = (layer.payload or (1,) * len(inputs))[: len(inputs)]
            signals = spikes * torch.tensor(payload, device=spikes.device).view(-1, 1, 1)
        trace = _trace(layer, local, overflows)
        steps = window(layer, signals, trace, limits, overflows)
        if watch is not None:
            watch(layer, signals, steps)
        trail = torch.stack([step.v for step in steps])
        spikes = torch.stack([step.z for step in steps])
        largest = int(trail.abs().max()) if trail.numel() else 0
        done[layer.name] = Layered((signals != 0).sum((0, 1)), spikes.sum((0, 1)), largest)
    v, shown = trail[-1], len(inputs)
    return Outcome(v, spikes.sum(0), len(v), shown, done, dict(overflows.counts), trail)


def check_inputs(inputs: Sequence[Tensor]) -> int:
    """Return how many inputs there are, after asserting that a network can take them.

    Raises:
        ValueError: if they are not whole numbers, T tensors [N, in] of one shape.
    """
    if not len(inputs):
        raise ValueError("give at least one step")
    for x in inputs:
        if x.is_floating_point() or x.ndim != 2 or x.shape != inputs[0].shape:
            raise ValueError("inputs must be whole numbers, T tensors [N, in] of one shape")
    return inputs[0].shape[1]


def _check(layers: Sequence[SpikingLayer], inputs: Sequence[Tensor]) -> None:
    if not layers:
        raise ValueError("give at least one layer")
    size = check_inputs(inputs)
    for layer in layers:
        takes, gives = layer.weight.shape
        if takes != size:
            raise ValueError(f"layer {layer.name!r} takes {takes} inputs, it is given {size}")
        for known in (layer.payload, layer.carried and layer.carried.gains):
            if known is not None and len(known) < len(inputs):
                raise ValueError(f"layer {layer.name!r} knows {len(known)} steps only")
        size = gives


def window(
    layer: SpikingLayer,
    signals: Tensor,
    trace: Trace,
    limits: Limits,
    overflows: Overflows,
    teacher: Tensor | None = None,
) -> list[SomaStep]:
    """Return the steps of a layer from rest, under signals [T, N, in].

    Args:
        layer, limits, overflows: see `run`.
        trace: learns; None for a layer without one.
        teacher: currents [T, N, out] added to those of the synapses.
    """
    state = layer.soma.at_rest(signals.shape[1], layer.weight.shape[1], signals.device)
    steps: list[SomaStep] = []
    for t, x in enumerate(signals):
        current = current_of(layer, x, trace, limits, overflows)
        if layer.carried is not None:
            faded = layer.carried.faded(x, t)
            current = current + dendrite(faded, layer.carried.weight, limits, overflows, layer.name)
        if layer.recurrent is not None and steps:
            own = layer.recurrent.peak * steps[-1].z
            current = current + dendrite(own, layer.recurrent.weight, limits, overflows, layer.name)
        for added in (layer.offsets, teacher):
            if added is not None:
                current = current + added[t]
        steps.append(layer.soma.step(current, state, overflows, f"{layer.name}: potentials"))
        state = steps[-1].state
        if trace is not None:
            trace.learn(x, steps[-1].v)
    return steps


def spikes_of(layer: SpikingLayer, signals: Tensor) -> Tensor:
    """Return the spikes of a layer [T, N, out], 0 or 1, as `run` has it by a history.

    Args:
        layer: see there.
        signals: whole-number inputs of 8 bits, or spikes before their payload [T, N, in].
    """
    overflows = Overflows()
    if layer.payload is not None:
        signals = signals * torch.tensor(layer.payload).view(-1, 1, 1)
    trace = _trace(layer, "history", overflows)
    return torch.stack([step.z for step in window(layer, signals, trace, WIDE, overflows)])


def _trace(layer: SpikingLayer, local: Local, overflows: Overflows) -> Trace:
    """Return what stands for a layer's trace, or None."""
    if local == "off" or (layer.local is None and layer.host is None):
        return None
    if local == "history":
        if layer.local is None:
            raise ValueError(f"layer {layer.name!r} has no history: more lags than a core holds")
        return History(layer.local, overflows, layer.name)
    if layer.host is None:
        raise ValueError(f"layer {layer.name!r} has no rule of a host: give it carried='none'")
    return WrittenSynapses(layer.weight, layer.host, overflows, layer.name)


def current_of(
    layer: SpikingLayer, x: Tensor, trace: Trace, limits: Limits, overflows: Overflows
) -> Tensor:
    """Return what inputs x [N, in] send into neurons: through weights, bias and trace [N, out]."""
    current = dendrite(x, layer.weight, limits, overflows, layer.name) + layer.bias
    return current if trace is None else current + trace.current(x)


def dendrite(x: Tensor, weight: Tensor, limits: Limits, overflows: Overflows, name: str) -> Tensor:
    """Return x [N, in] times weight [in, out] as tiles of cores add it up.

    With wide partial sums this is the plain product, whatever the tiles; with narrow ones each
    tile's sum is rounded and cut before it is added.
    """
    high = signed_range(limits.partial_sum_bits)[1]
    rows = tiles(len(weight), limits.fan_in) if limits.fan_in else []
    x = x.long()  # of 8 bits, -128 has no magnitude
    bound = int(x.abs().max()) * int(weight.long().abs().sum(0).max()) if x.numel() else 0
    if len(rows) < 2 or (bound <= high and not limits.partial_sum_shift):
        return weigh(x, weight)
    shift = limits.partial_sum_shift
    if shift is None:
        # Spikes or numbers of 8 bits: what can come in, not what happens to be in this batch.
        peak = 1 if int(x.abs().max()) <= 1 else signed_range(8)[1]
        largest = max(int(weight[row].long().abs().sum(0).max()) for row in rows)
        shift = max(0, (peak * largest).bit_length() - (limits.partial_sum_bits - 1))
    total = torch.zeros(len(x), weight.shape[1], dtype=torch.int64, device=x.device)
    for row in rows:
        sums = shifted(exact_product(x[:, row], weight[row]), shift)
        sums = overflows.saturate(sums, limits.partial_sum_bits, f"{name}: partial sums")
        total += sums << shift
    return total
