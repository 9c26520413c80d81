"""Neurons that keep the currents of training, on a chip whose host looks after them.

Between spikes a membrane is linear: f · I against a threshold is I against the threshold over f. So
cores without a multiplier for each neuron can run the correction "currents-stream" of
`hybrid.learning.correction`: before each image a host writes every neuron's threshold and bias, and
an offset that fades with the drive, as synapses of axons that carry its gain.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hybrid.tianjic.chip import Chip
from hybrid.tianjic.cores import SpikingLayer
from hybrid.tianjic.fixed import signed_range

_OPERATIONS = (
    12  # of a host, per neuron and image: two means, a deviation, a threshold, a bias, an offset
)


def adjusted(
    layer: SpikingLayer, factor: Tensor, shift: Tensor, gain: Sequence[float]
) -> SpikingLayer:
    """Return a layer whose neurons take factor · xW + shift where they took xW, image by image.

    Args:
        layer: the first one of a network, without a local module.
        factor, shift: of each image and neuron [N, out], as of `running_gain`; factor > 0.
        gain: of the drive [T].
    """
    low, high = signed_range(layer.soma.bits)

    def whole(values: Tensor) -> Tensor:
        return values.double().round().clamp(low, high).long()

    soma = replace(layer.soma, threshold=whole(layer.soma.threshold / factor.double()))
    bias = whole(layer.bias / factor.double()) - layer.bias
    written, peak = weights(layer, factor, shift), signed_range(8)[1]
    offsets = torch.stack([bias + round(peak * g) * written for g in gain])
    return replace(layer, soma=soma, offsets=offsets)


def weights(layer: SpikingLayer, factor: Tensor, shift: Tensor) -> Tensor:
    """Return the synapses [N, out] through which axons of at most 127 add a shift to currents."""
    peak = signed_range(8)[1]
    return (shift.double() / (factor.double() * layer.unit * peak)).round().long()


def axons(written: Tensor) -> int:
    """Return how many axons it takes for 8 bits to hold the largest of these synapses."""
    return max(1, -(-int(written.abs().max()) // signed_range(8)[1]))


def upkeep(outputs: int, axons: int, chip: Chip) -> dict[str, float]:
    """Return what a host adds for an image: it reads what came in, and writes what has changed.

    Args:
        outputs: neurons of the layer; the host keeps two numbers for each.
        axons: that carry offsets, a synapse of 8 bits of each neuron on every one.
        chip: gives bits of potentials and the payload of a packet.
    """
    width = chip.potential_bits / 8
    moved = outputs * (3 * width + axons)  # a potential out; threshold, bias and synapses in
    packets = moved / chip.packet_bytes
    return {
        "bytes": moved,
        "packets": packets,
        "operations": float(_OPERATIONS * outputs),
        "seconds": packets / (chip.input_ports * chip.clock),
    }
