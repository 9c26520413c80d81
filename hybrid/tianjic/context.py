"""A context-gated network in whole numbers, as one task sees it.

A task's weights are W ∘ M, its local module acts on all other synapses: a factor 1 - M for each, so
that lags are matrices. The read-out weighs potentials, not spikes: the last hidden layer sends
them in 8 bits, and the read-out works in ANN mode. To change the task, weights are loaded anew.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hybrid.model.coding import LastMembrane
from hybrid.model.networks import ContextGated
from hybrid.model.window.sparse import Masks, dense_mask
from hybrid.tianjic.cores import WIDE, Limits, Local, Outcome, dendrite, run
from hybrid.tianjic.fixed import PEAK, Overflows, weights_of
from hybrid.tianjic.layer import DEFAULT, Options
from hybrid.tianjic.primitives import cut, cut_for
from hybrid.tianjic.quantize import ChipNetwork, dense_shape, integer_network
from hybrid.tianjic.shapes import Shape


@dataclass(frozen=True, kw_only=True)
class ChipContext:
    """A network as one task sees it."""

    hidden: ChipNetwork  # its spiking layers
    weight: Tensor  # of the read-out [hidden, classes], 8 bits
    sent: int  # by which potentials are cut to the 8 bits that are sent

    def scores(
        self, images: Tensor, *, local: Local = "history", limits: Limits = WIDE
    ) -> tuple[Tensor, Outcome]:
        """Return scores of classes [N, classes] for images [N, in], and what the layers did."""
        outcome = run(self.hidden.layers, self.hidden.encode(images), local=local, limits=limits)
        overflows = Overflows(strict=limits.strict)
        place = "potentials sent to the read-out"
        potentials = cut(outcome.potentials, self.sent, overflows, place)
        scores = dendrite(potentials, self.weight, limits, overflows, "read-out")
        outcome.overflows.update(overflows.counts)
        return scores, outcome

    def shapes(self) -> tuple[Shape, ...]:
        """Return what the mapper has to know."""
        last = dense_shape("read-out", self.weight, graded=True, once=True)
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
    *dense, last = (
        [None for _ in network.weights] if masks is None else [dense_mask(m) for m in masks]
    )
    readout = LastMembrane()
    hidden = integer_network(
        *(network.layers, network.gain, options, readout), graded=True, masks=dense, images=images
    )
    potentials = run(hidden.layers, hidden.encode(images)).potentials.abs().flatten()
    peak = int(potentials.kthvalue(math.ceil(options.kept * len(potentials))).values)
    weight = network.readout_weight.T
    static, _ = weights_of(weight if last is None else weight * last, options.bits)
    return ChipContext(hidden=hidden, weight=static, sent=cut_for(peak / PEAK))
