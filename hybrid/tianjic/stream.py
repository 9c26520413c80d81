"""HP as a stream on a chip that cannot rewrite its synapses: a host does, between images.

An image meets fixed synapses, W + local_gain ∘ P in 8 bits. From the inputs and post factors that
the chip sends, a host moves P as `pool="stream"` has it: 1/M of a batch's update for each image,
with a decay of λ^{1/M} per step. After so many images it rewrites the synapses that have changed.
Within these images the trace stands still, which is all that differs from `hybrid.model.streams`,
but for rounding: as M images weigh as much as a batch, it moves little meanwhile.
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
    """What a network answered to images in their order, and what a host wrote meanwhile."""

    classes: Tensor  # [N]
    rewritings: int
    written: int  # synapses that changed, in all rewritings together
    overflows: dict[str, int]


class HostTrace:
    """The trace of a layer, which a host keeps and writes into the layer's synapses.

    Args:
        layer: quantised with `carried="none"`.

    Raises:
        ValueError: if the layer has no rule of a host.
    """

    def __init__(self, layer: SpikingLayer) -> None:
        if layer.host is None or layer.local is None:
            raise ValueError(
                f"layer {layer.name!r} has no rule of a host: quantize with carried='none'"
            )
        self._layer, self._rule, self._module = layer, layer.host, layer.local
        self._trace = layer.host.start.float()

    def synapses(self, overflows: Overflows) -> Tensor:
        """Return the synapses as they are written now [in, out], 8 bits."""
        whole = (self._layer.weight.float() + self._rule.gain * self._trace).round()
        place = f"{self._layer.name}: synapses"
        return overflows.saturate(whole, self._rule.bits, place).to(torch.int8)

    def learn(self, signals: Tensor, steps: Sequence[SomaStep], overflows: Overflows) -> None:
        """Move the trace by images that came one after the other.

        Args:
            signals: what came in [T, N, in].
            steps: what the somas did.
            overflows: counts what a table does not take.
        """
        rule, images = self._rule, signals.shape[1]
        post = torch.stack([self._module.post(s.v, overflows, self._layer.name) for s in steps])
        # Image after image, and step after step of each.
        pre, post = (values.transpose(0, 1).flatten(0, 1).float() for values in (signals, post))
        decay = rule.trace_decay ** (1.0 / rule.nominal_batch)
        ages = decay ** torch.arange(len(pre) - 1, -1, -1.0).unsqueeze(1)
        moved = rule.rate.float().reshape(-1, 1) * ((ages * pre).T @ post) / rule.nominal_batch
        self._trace = decay ** (len(steps) * images) * self._trace + moved
        if rule.clip is not None:
            self._trace = self._trace.clamp(-rule.clip, rule.clip)


@torch.no_grad()
def answer_stream(chip: ChipNetwork, images: Tensor, *, every: int = 1, limits: Limits) -> Streamed:
    """Show images one after the other to a network whose synapses a host rewrites.

    Args:
        chip: quantised with `carried="none"`, and with headroom for what the trace adds.
        images: in their order [N, in].
        every: images from one rewriting to the next.
        limits: of the cores.

    Raises:
        ValueError: if no layer has a local rule, or `every` is less than 1.
    """
    if every < 1:
        raise ValueError(f"every = {every}: it must be >= 1")
    traces = {layer.name: HostTrace(layer) for layer in chip.layers if layer.host is not None}
    if not traces:
        raise ValueError(
            "a stream needs a local rule, and synapses that a host rewrites: "
            "quantize(network, Options(carried='none'))"
        )
    overflows = Overflows(strict=limits.strict)

    def rewritten() -> list[SpikingLayer]:
        return [
            replace(layer, weight=traces[layer.name].synapses(overflows))
            if layer.name in traces
            else layer
            for layer in chip.layers
        ]

    layers, answers, written, rewritings = rewritten(), [], 0, 0
    for shown, part in enumerate(images.split(every)):
        if shown:
            before, layers = layers, rewritten()
            written += sum(
                int((old.weight != new.weight).sum())
                for old, new in zip(before, layers, strict=True)
            )
            rewritings += 1

        def learn(layer: SpikingLayer, signals: Tensor, steps: list[SomaStep]) -> None:
            if layer.name in traces:
                traces[layer.name].learn(signals, steps, overflows)

        outcome = run(layers, chip.encode(part), local="off", limits=limits, watch=learn)
        overflows.counts.update(outcome.overflows)
        answers.append(chip.answers(outcome))
    return Streamed(torch.cat(answers), rewritings, written, dict(overflows.counts))


def rewriting(chip: ChipNetwork, streamed: Streamed, images: int, target: Chip) -> dict[str, float]:
    """Return what a host adds for an image, on average, in a stream.

    It reads inputs and post factors of 8 bits, and writes each synapse that changes, 8 bits and an
    address of 16; its own operations are those of outer products.

    Args:
        chip, streamed: of the stream.
        images: in it.
        target: gives ports, clock, and the payload of a packet.
    """
    steps = len(chip.gain)
    plastic = [layer for layer in chip.layers if layer.host is not None]
    seen = sum(steps * sum(layer.weight.shape) for layer in plastic)
    changed = streamed.written / images
    moved = seen + 3.0 * changed
    packets = moved / target.packet_bytes
    return {
        "synapses": changed,
        "bytes": moved,
        "packets": packets,
        "operations": float(sum((2 * steps + 1) * layer.weight.numel() for layer in plastic)),
        "seconds": packets / (target.input_ports * target.clock),
    }
