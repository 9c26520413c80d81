"""HP as a stream on a chip that cannot rewrite its synapses: a host does, between images.

An image meets fixed synapses, W + local_gain ∘ P in 8 bits. From the inputs and post factors that
the chip sends, a host moves P as `pool="stream"` has it: 1/M of a batch's update for each image,
with a decay of λ^{1/M} per step. After so many images it rewrites the synapses that have changed.
Within these images the trace stands still, and a clip acts at their end alone: that is what differs
from `hybrid.model.streams`, but for rounding. As M images weigh as much as a batch, a trace moves
little meanwhile.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from hybrid.tianjic.chip import Chip
from hybrid.tianjic.cores import Limits, SpikingLayer, run
from hybrid.tianjic.fixed import Overflows
from hybrid.tianjic.quantize import ChipNetwork
from hybrid.tianjic.soma import SomaStep


class Streamed(NamedTuple):
    """What a network answered to images in their order, and what a host did meanwhile."""

    classes: Tensor  # [N]
    rewritings: int
    written: int  # synapses that changed, in all rewritings together
    sent: int  # bytes of post factors, and spikes between layers, that the host has read
    operations: int  # of the host, of which products with zero are left out
    overflows: dict[str, int]


class HostTrace:
    """The trace of a layer, which a host keeps and writes into the layer's synapses.

    Args:
        layer: quantised with `carried="none"`.

    Raises:
        ValueError: if the layer has no rule of a host.
    """

    def __init__(self, layer: SpikingLayer) -> None:
        if layer.host is None:
            raise ValueError(
                f"layer {layer.name!r} has no rule of a host: quantize with carried='none'"
            )
        self._layer, self._rule = layer, layer.host
        self._trace = layer.host.start.float()
        self.operations = 0  # that it has cost so far, products with zero left out

    def synapses(self, overflows: Overflows) -> Tensor:
        """Return the synapses as they are written now [in, out], 8 bits."""
        self.operations += 2 * self._layer.weight.numel()  # gain and weight; rounding is free
        rule, name = self._rule, self._layer.name
        return rule.written(self._layer.weight, self._trace, overflows, name).to(torch.int8)

    def learn(self, signals: Tensor, steps: Sequence[SomaStep], overflows: Overflows) -> None:
        """Move the trace by images that came one after the other.

        Args:
            signals: what came in [T, N, in].
            steps: what the somas did.
            overflows: counts what a table does not take.
        """
        rule, images, name = self._rule, signals.shape[1], self._layer.name
        post = torch.stack([rule.module.post(step.v, overflows, name) for step in steps])
        # Image after image, and step after step of each.
        pre, post = (values.transpose(0, 1).flatten(0, 1).float() for values in (signals, post))
        decay = rule.trace_decay ** (1.0 / rule.nominal_batch)
        ages = decay ** torch.arange(len(pre) - 1, -1, -1.0).unsqueeze(1)
        moved = rule.rate.float().reshape(-1, 1) * ((ages * pre).T @ post) / rule.nominal_batch
        self._trace = rule.clipped(decay ** (len(steps) * images) * self._trace + moved)
        met = int((pre != 0).long().sum()) * post.shape[1]
        self.operations += met + 2 * self._trace.numel()  # and the decay, and the rate


@torch.no_grad()
def answer_stream(chip: ChipNetwork, images: Tensor, *, every: int = 1, limits: Limits) -> Streamed:
    """Show images one after the other to a network whose synapses a host rewrites.

    Args:
        chip: quantised with `carried="none"`, and with headroom for what the trace adds.
        images: in their order [N, in].
        every: images from one rewriting to the next; as many as there are, for none.
        limits: of the cores.

    Raises:
        ValueError: if no layer has a local rule, there is no image, images are no [N, in], or
            `every` is no whole number >= 1.
    """
    if not isinstance(every, int) or every < 1 or not len(images):
        raise ValueError(f"every = {every}, {len(images)} images: give at least one of both")
    if images.ndim != 2:
        raise ValueError(f"images of shape {list(images.shape)}: give them as [N, in]")
    traces = {layer.name: HostTrace(layer) for layer in chip.layers if layer.host is not None}
    if not traces:
        raise ValueError(
            "a stream needs a local rule, and synapses that a host rewrites: "
            "quantize(network, Options(carried='none'))"
        )
    overflows, sent = Overflows(strict=limits.strict), list[int]()

    def rewritten() -> list[SpikingLayer]:
        return [
            replace(layer, weight=traces[layer.name].synapses(overflows))
            if layer.name in traces
            else layer
            for layer in chip.layers
        ]

    def learn(layer: SpikingLayer, signals: Tensor, steps: list[SomaStep]) -> None:
        if layer.name not in traces:
            return
        traces[layer.name].learn(signals, steps, overflows)
        sent.append(sum(step.v.numel() for step in steps))
        if layer is not layers[0]:  # the host itself has sent the images
            sent.append(int((signals != 0).sum()))

    layers, answers, written, rewritings = rewritten(), [], 0, 0
    for shown, part in enumerate(images.split(every)):
        if shown:
            before, layers = layers, rewritten()
            written += sum(
                int((old.weight != new.weight).sum())
                for old, new in zip(before, layers, strict=True)
            )
            rewritings += 1
        outcome = run(layers, chip.encode(part), local="off", limits=limits, watch=learn)
        overflows.counts.update(outcome.overflows)
        answers.append(chip.answers(outcome))
    done = sum(trace.operations for trace in traces.values())
    counts = dict(overflows.counts)
    return Streamed(torch.cat(answers), rewritings, written, sum(sent), done, counts)


_IN_A_PACKET = 2  # synapses with their addresses of 16 bits within a core


def rewriting(streamed: Streamed, chip: Chip) -> dict[str, float]:
    """Return what a host adds for an image, on average, in a stream.

    It reads post factors of 8 bits and spikes between layers, and writes each synapse that changes.
    Packets are as few as can be, as those of a packet lie in one core. Seconds are those of the
    packets if each port takes one per clock: not published, a model of ours. The energy of the host
    depends on the host and is left out.

    Args:
        streamed: what happened.
        chip: gives ports, clock, and the payload of a packet.
    """
    images = len(streamed.classes)
    packets = streamed.sent / chip.packet_bytes + streamed.written / _IN_A_PACKET
    return {
        "synapses": streamed.written / images,
        "bytes": (streamed.sent + 3.0 * streamed.written) / images,
        "packets": packets / images,
        "operations": streamed.operations / images,
        "seconds": packets / images / (chip.input_ports * chip.clock),
    }
