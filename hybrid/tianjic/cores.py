"""Running a network in whole numbers, as its cores would, many samples at a time.

It knows nothing of energy or of places: it counts which neurons were active, and all else follows
from that and from the mapping.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hybrid.tianjic.chip import Chip
from hybrid.tianjic.fixed import Overflows, exact_product, shifted, signed_range
from hybrid.tianjic.history import History, LocalModule
from hybrid.tianjic.host import HostRule, WrittenSynapses
from hybrid.tianjic.mapping import tiles
from hybrid.tianjic.soma import Activator, Soma

Local = Literal["off", "history", "write-back"]
LOCALS: tuple[Local, ...] = ("off", "history", "write-back")


@dataclass(frozen=True, kw_only=True)
class Carried:
    """The trace that training has left, as a second matrix of weights that fades.

    Args:
        weight: [in, out], 8 bits.
        gains: (multiplier, shift) to units of the potential for each step [T].
    """

    weight: Tensor
    gains: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class SpikingLayer:
    """A fully connected layer of spiking neurons in whole numbers.

    Args:
        name: of the layer.
        weight: [in, out], 8 bits.
        bias: added in each step [out], in units of the potential.
        soma: of its neurons.
        unit: what one unit of the potential is worth.
        payload: numbers that its input spikes carry, one for each step; None for bare spikes.
        local: its local module, or None.
        carried: the trace left by training, or None.
        host: what a host needs to rewrite its synapses, or None.
    """

    name: str
    weight: Tensor
    bias: Tensor
    soma: Soma
    unit: float
    payload: tuple[int, ...] | None = None
    local: LocalModule | None = None
    carried: Carried | None = None
    host: HostRule | None = None


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


class Layered(NamedTuple):
    """What a layer did, over all samples and steps."""

    active_in: Tensor  # how often each input was not zero [in]
    active_out: Tensor  # how often each neuron fired [out]
    largest: int  # magnitude of a potential


@dataclass
class Outcome:
    """What a network did with a batch."""

    potentials: Tensor  # of the last layer after the last step, before reset [N, out]
    counts: Tensor  # its spikes [N, out]
    samples: int
    steps: int
    layers: dict[str, Layered]
    overflows: dict[str, int] = field(default_factory=dict)


def run(
    layers: Sequence[SpikingLayer],
    inputs: Sequence[Tensor],
    *,
    local: Local = "history",
    limits: Limits = WIDE,
    noise: torch.Generator | None = None,
) -> Outcome:
    """Run a network from rest, each sample on its own.

    Args:
        layers: in the order of signals.
        inputs: T inputs of the first layer [N, in], whole numbers of 8 bits.
        local: how the local modules work: not at all; by a history; by a host that rewrites
            synapses, for layers without a carried or folded trace. Those are there in any case.
        limits: of the cores.
        noise: source for noisy thresholds.

    Raises:
        ValueError: if shapes do not fit, inputs exceed 8 bits, or a name is unknown.
        SaturationError: if a number does not fit, and the limits are strict.
    """
    if local not in LOCALS:
        raise ValueError(f"local = {local!r}: choose one of {', '.join(LOCALS)}")
    _check(layers, inputs)
    overflows = Overflows(strict=limits.strict)
    done: dict[str, Layered] = {}
    shown = list(inputs)
    spikes: list[Tensor] = []
    v = shown[0]
    for layer in layers:
        if layer is not layers[0]:
            shown = _shown(layer, spikes)
        spikes, v, largest = _window(layer, shown, local, limits, overflows, noise)
        active = torch.stack([(x != 0).sum(0) for x in shown]).sum(0)
        done[layer.name] = Layered(active, torch.stack(spikes).sum((0, 1)), largest)
    counts = torch.stack(spikes).sum(0)
    return Outcome(v, counts, len(v), len(inputs), done, dict(overflows.counts))


def _check(layers: Sequence[SpikingLayer], inputs: Sequence[Tensor]) -> None:
    if not layers or not len(inputs):
        raise ValueError("give at least one layer and one step")
    size = inputs[0].shape[-1]
    for x in inputs:
        if x.is_floating_point() or x.ndim != 2 or x.shape != inputs[0].shape:
            raise ValueError("inputs must be whole numbers, T tensors [N, in] of one shape")
        low, high = signed_range(8)
        if x.numel() and not low <= int(x.min()) <= int(x.max()) <= high:
            raise ValueError(f"inputs must lie in {low} to {high}: quantise them first")
    for layer in layers:
        if layer.weight.shape[0] != size:
            raise ValueError(
                f"layer {layer.name!r} takes {layer.weight.shape[0]} inputs, it is given {size}"
            )
        for known in (layer.payload, layer.carried.gains if layer.carried else None):
            if known is not None and len(known) < len(inputs):
                raise ValueError(f"layer {layer.name!r} knows {len(known)} steps only")
        size = layer.weight.shape[1]


def _shown(layer: SpikingLayer, spikes: Sequence[Tensor]) -> list[Tensor]:
    """Return what a layer is shown: spikes, or the numbers that they carry."""
    if layer.payload is None:
        return list(spikes)
    return [z * carried for z, carried in zip(spikes, layer.payload, strict=False)]


def _window(
    layer: SpikingLayer,
    shown: Sequence[Tensor],
    local: Local,
    limits: Limits,
    overflows: Overflows,
    noise: torch.Generator | None,
) -> tuple[list[Tensor], Tensor, int]:
    """Run a layer over all steps; return its spikes, last potential, and largest magnitude."""
    state = layer.soma.at_rest(len(shown[0]), layer.weight.shape[1], shown[0].device)
    history = _memory(layer, len(shown[0]), local, overflows)
    spikes, largest, v = [], 0, state.v
    for t, x in enumerate(shown):
        current = dendrite(x, layer.weight, limits, overflows, layer.name) + layer.bias
        if layer.carried is not None:
            faded = dendrite(x, layer.carried.weight, limits, overflows, layer.name)
            current = current + shifted(faded, *layer.carried.gains[t])
        if history is not None:
            current = current + history.current(x)
        step = layer.soma.step(current, state, overflows, f"{layer.name}: potentials", noise)
        if history is not None:
            history.learn(x, step.v)
        state, v = step.state, step.v
        spikes.append(step.z)
        largest = max(largest, int(v.abs().max()) if v.numel() else 0)
    return spikes, v, largest


def _memory(
    layer: SpikingLayer, samples: int, local: Local, overflows: Overflows
) -> History | WrittenSynapses | None:
    """Return what stands for a layer's trace, or None."""
    if layer.local is None or local == "off":
        return None
    if local == "history":
        return History(layer.local, overflows, layer.name)
    if layer.host is None:
        raise ValueError(f"layer {layer.name!r} has no rule of a host: give it carried='none'")
    return WrittenSynapses(layer.weight, layer.host, layer.local, samples, overflows, layer.name)


def dendrite(x: Tensor, weight: Tensor, limits: Limits, overflows: Overflows, name: str) -> Tensor:
    """Return x [N, in] times weight [in, out] as tiles of cores add it up.

    With wide partial sums this is the plain product, whatever the tiles; with narrow ones each
    tile's sum is rounded and cut before it is added.
    """
    high = signed_range(limits.partial_sum_bits)[1]
    rows = tiles(len(weight), limits.fan_in) if limits.fan_in else []
    bound = int(x.abs().max()) * int(weight.long().abs().sum(0).max()) if x.numel() else 0
    if len(rows) < 2 or (bound <= high and not limits.partial_sum_shift):
        return exact_product(x, weight)
    shift = limits.partial_sum_shift
    if shift is None:
        # Spikes or numbers of 8 bits: what can come in, not what happens to be in this batch.
        peak = 1 if int(x.abs().max()) <= 1 else signed_range(8)[1]
        largest = max(int(weight[row].long().abs().sum(0).max()) for row in rows)
        shift = max(0, (peak * largest).bit_length() - (limits.partial_sum_bits - 1))
    total: Tensor | int = 0
    for row in rows:
        part = slice(int(row[0]), int(row[-1]) + 1)
        own = shifted(exact_product(x[:, part], weight[part]), 1, shift)
        own = overflows.saturate(own, limits.partial_sum_bits, f"{name}: partial sums")
        total = total + (own << shift)
    assert isinstance(total, Tensor)
    return total


def activations(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    soma: Activator,
    *,
    stride: int,
    overflows: Overflows,
    place: str,
) -> Tensor:
    """Return a convolution in ANN mode: 8-bit images [N, C, H, W] to 8-bit images.

    Args:
        x: whole numbers.
        weight: [out, C, 3, 3], 8 bits.
        bias: [out].
        soma: of its neurons.
        stride: of the kernel; the border is padded with zeros.
        overflows, place: where activations that do not fit are counted.
    """
    bound = int(x.long().abs().max()) * int(weight.long().abs().sum((1, 2, 3)).max())
    kind = torch.float32 if bound < 1 << 24 else torch.float64
    sums = torch.nn.functional.conv2d(x.to(kind), weight.to(kind), stride=stride, padding=1)
    return soma.activation(sums.long() + bias.view(-1, 1, 1), overflows, place)
