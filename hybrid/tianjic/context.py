"""A context-gated network in whole numbers, as one task sees it.

A task's weights are W ∘ M, its local module acts on all other synapses: a factor 1 - M for each, so
that lags are matrices. The read-out weighs potentials, not spikes: the last hidden layer sends
them in 8 bits, and the read-out works in ANN mode. To change the task, weights are loaded anew.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hybrid.model.coding import LastMembrane
from hybrid.model.context import ContextGated, Masks
from hybrid.model.layers import HybridLinear
from hybrid.tianjic.cores import WIDE, Limits, Local, Outcome, SpikingLayer, dendrite, run
from hybrid.tianjic.fixed import Overflows, multiplier_for, quantized, scale_of, shifted
from hybrid.tianjic.quantize import (
    DEFAULT,
    PEAK,
    ChipNetwork,
    Options,
    integer_layer,
)
from hybrid.tianjic.shapes import DenseShape


@dataclass(frozen=True, kw_only=True)
class ChipContext:
    """A network as one task sees it.

    Args:
        hidden: its spiking layers.
        weight: of the read-out [hidden, classes], 8 bits.
        sent: (multiplier, shift) from potentials to the 8 bits that are sent.
    """

    hidden: ChipNetwork
    weight: Tensor
    sent: tuple[int, int]

    def scores(
        self, images: Tensor, *, local: Local = "history", limits: Limits = WIDE
    ) -> tuple[Tensor, Outcome]:
        """Return scores of classes [N, classes] for images [N, in], and what the layers did."""
        outcome = run(self.hidden.layers, self.hidden.encode(images), local=local, limits=limits)
        overflows = Overflows(strict=limits.strict)
        sent = shifted(outcome.potentials, *self.sent)
        potentials = overflows.saturate(sent, 8, "potentials sent to the read-out")
        scores = dendrite(potentials, self.weight, limits, overflows, "read-out")
        outcome.overflows.update(overflows.counts)
        return scores, outcome

    def frozen(self) -> "ChipContext":
        """Return the same network without local modules, which takes fewer cores."""
        return replace(self, hidden=self.hidden.frozen())

    def shapes(self) -> tuple[DenseShape, ...]:
        """Return what the mapper has to know."""
        inputs, outputs = self.weight.shape
        density = round(float((self.weight != 0).float().mean()), 4)
        last = DenseShape(
            name="read-out",
            inputs=inputs,
            outputs=outputs,
            graded=True,
            density=density,
            once=True,
        )
        return (*self.hidden.shapes(), last)


@torch.no_grad()
def quantize_context(
    network: ContextGated, masks: Masks | None, images: Tensor, options: Options = DEFAULT
) -> ChipContext:
    """Return a trained network in whole numbers, as one task sees it.

    Args:
        network: trained.
        masks: of the task; None for a network that is not told it: without traces.
        images: of training [N, in], from which the range of potentials is taken.
        options: see there; there is no carried trace.
    """
    layers: list[SpikingLayer] = []
    for number, module in enumerate(network.layers):
        assert isinstance(module, HybridLinear)
        payload = tuple(round(PEAK * g) for g in network.gain) if number else None
        layers.append(
            integer_layer(
                module,
                f"layer {number + 1}",
                graded=True,
                payload=payload,
                steps=len(network.gain),
                options=options,
                mask=None if masks is None else masks[number].dense(),
            )
        )
    hidden = ChipNetwork(layers=tuple(layers), gain=network.gain, readout=LastMembrane())
    found = run(layers, hidden.encode(images)).potentials.abs().flatten()
    peak = int(found.kthvalue(math.ceil(options.kept * len(found))).values)
    weight = network.readout_weight.T
    if masks is not None:
        weight = weight * masks[-1].dense()
    scale = scale_of(weight, options.weight_bits)
    return ChipContext(
        hidden=hidden,
        weight=quantized(weight, scale, options.weight_bits).to(torch.int8),
        sent=multiplier_for(PEAK / max(peak, 1)),
    )
