"""Streams: samples that arrive one at a time and share a slowly moving trace.

Each sample is shown for T steps to a network at rest, and leaves its trace to the next. Per step
the trace moves by 1/M of a batch update and decays by λ^{1/M} (`Pooling.of("stream", …)`), so that
M samples weigh as much as one batch of M: what a chip without a batch can run.

Many streams run side by side, each with its own trace: sources are [S, L, in], S streams of L
samples. The first layer is factored over a chunk of samples at a time: the trace itself is only
built at chunk borders, in between a sample reads its predecessors through inner products of inputs.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from hybrid.model.coding import Encode
from hybrid.model.drive import Drive, Static, Steps, fade
from hybrid.model.layers import HybridLinear
from hybrid.model.networks import FullyConnected
from hybrid.model.neurons import NeuronState
from hybrid.model.plasticity import Hebbian, LayerState, contract, global_weight
from hybrid.model.window.choice import factored, has_closed_form, run
from hybrid.model.window.clip import may_clip
from hybrid.model.window.memories import (
    Plastic,
    RecurrentTrace,
    StaticHistory,
    SynapticMemory,
    diagonal_recall,
)
from hybrid.model.window.signals import HebbianSignal


class _Streamed:
    """A network's first layer, and the trace that each of its streams has left so far.

    `begin` takes in the next chunk of values [S, K, in]; `states` shows sample k of it to all
    streams, in order, and returns T states; `end` builds the trace that the chunk leaves behind.
    """

    def __init__(self, layer: HybridLinear, gain: tuple[float, ...], streams: int) -> None:
        assert isinstance(layer.rule, Hebbian)
        self._layer, self._rule, self._gain = layer, layer.rule, gain
        self._synapse = layer.synapse()
        assert self._synapse.meta is not None
        self._meta = self._synapse.meta
        start = layer.stored().trace
        start = torch.zeros_like(layer.trace) if start is None else start
        self._trace = start.expand(streams, -1, -1)

    def _plastic(self, drive: Drive) -> Plastic:
        """Return the layer as it is now, about to be shown something."""
        start, v_th = LayerState(trace=self._trace), self._layer.neuron.v_th
        return Plastic(drive, self._synapse, self._rule, v_th, "stream", start)


class StreamedLayer(_Streamed):
    """A plastic layer under streams of static drives, factored over one chunk of samples."""

    def begin(self, values: Tensor) -> None:
        self._values, self._histories = values, torch.empty(0)
        # As if all samples came at once and no trace faded: what this excludes is excluded.
        everything = self._plastic(Static(values.abs().sum(1), self._gain))
        lasting = replace(self._rule, trace_decay=1.0)
        self._pooling = everything.pooling
        self._exact = not bool(may_clip(everything._replace(rule=lasting)).any())
        if not self._exact:
            return
        rated = values * self._meta.local_rate
        scale = self._meta.local_gain * self._pooling.weight
        self._read = contract(values.flatten(0, 1), global_weight(self._synapse))
        self._read = self._read.view(*values.shape[:2], -1)
        self._start = self._meta.local_gain * (values @ self._trace)
        self._gram = scale * (values @ rated.mT)  # [S, K, K]

    def states(self, k: int) -> tuple[NeuronState, ...]:
        steps, neuron = len(self._gain), self._layer.neuron
        if not self._exact:
            kept = RecurrentTrace(self._plastic(Static(self._values[:, k], self._gain)))
            states = run(kept, neuron, range(steps))
            self._trace = _ended(kept)
            return states
        decay = self._pooling.trace_decay
        start = self._start[:, k] * decay ** (steps * k)
        if k:
            earlier = self._gram[:, k, :k] * self._ages(k)
            start = torch.baddbmm(start.unsqueeze(1), earlier.unsqueeze(1), self._histories[:, :k])
            start = start.squeeze(1)
        memory = StaticHistory(
            self._gain,
            self._read[:, k],
            start,
            diagonal_recall(self._gram[:, k, k].unsqueeze(-1)),
            self._synapse.bias,
            HebbianSignal(self._rule, self._meta, neuron.v_th, self._gain),
            decay,
            final_trace="values",
        )
        states = run(memory, neuron, range(steps))
        assert memory.history is not None
        if k == 0:
            self._histories = memory.history.new_empty((*self._values.shape[:2], start.shape[-1]))
        self._histories[:, k] = memory.history
        return states

    def end(self) -> None:
        if not self._exact:
            return
        count = self._values.shape[1]
        rated = self._values * self._meta.local_rate
        rated = rated * (self._pooling.weight * self._ages(count)).unsqueeze(-1)
        decayed = self._pooling.trace_decay ** (len(self._gain) * count)
        self._trace = torch.baddbmm(self._trace, rated.mT, self._histories, beta=decayed)

    def _ages(self, k: int) -> Tensor:
        """Return the decay of the updates of samples 0 … k-1 by the start of sample k [k]."""
        per_sample = self._pooling.trace_decay ** len(self._gain)
        return self._values.new_tensor([per_sample**age for age in range(k - 1, -1, -1)])


class StreamedSteps(_Streamed):
    """A plastic layer under streams of samples that change from step to step, such as events.

    A chunk is one long window: its trace goes on from sample to sample, while the neurons start
    from rest with each.
    """

    def __init__(
        self, layer: HybridLinear, gain: tuple[float, ...], streams: int, encode: Encode
    ) -> None:
        super().__init__(layer, gain, streams)
        self._encode = encode

    def begin(self, values: Tensor) -> None:
        encoded = fade(self._encode(values.flatten(0, 1), len(self._gain)), self._gain)
        if encoded.repeated:
            raise ValueError("a stream of steps needs a code with one input for each step")
        # T times [S, K, in]
        shown = [encoded.at(t).unflatten(0, values.shape[:2]) for t in range(encoded.steps)]
        inputs = tuple(x[:, k] for k in range(values.shape[1]) for x in shown)
        layer = self._plastic(Steps(inputs, (1.0,) * len(inputs)))
        closed = factored(layer) if has_closed_form(layer) else None
        self._memory = closed or RecurrentTrace(layer)

    def states(self, k: int) -> tuple[NeuronState, ...]:
        steps = len(self._gain)
        return run(self._memory, self._layer.neuron, range(k * steps, (k + 1) * steps))

    def end(self) -> None:
        self._trace = _ended(self._memory)


class _StreamedRule:
    """A first layer of another rule, or of none, shown one sample of each stream at a time."""

    def __init__(self, network: FullyConnected) -> None:
        self._network = network
        self._layer: HybridLinear = network.layers[0]  # type: ignore[assignment]
        self._left = self._layer.stored()

    def begin(self, values: Tensor) -> None:
        self._values = values

    def states(self, k: int) -> tuple[NeuronState, ...]:
        drive = self._network.shown(self._values[:, k])
        states, self._left = _shown(self._layer, drive, self._left)
        return states

    def end(self) -> None:
        pass


def _shown(
    layer: HybridLinear, drive: Drive, left: LayerState
) -> tuple[tuple[NeuronState, ...], LayerState]:
    """Show a layer at rest one sample of each stream; return its states, and what is left."""
    window = layer(drive, left, pool="stream")
    memory = None if layer.rule is None else layer.rule.lasting(window.final.eligibility)
    return window.states, LayerState(trace=window.final.trace, eligibility=memory)


def _ended(memory: SynapticMemory) -> Tensor:
    """Return the trace after the last step."""
    trace, _ = memory.end()
    assert trace is not None
    return trace


class StreamActivity(NamedTuple):
    """What a network did with its streams."""

    outputs: Tensor  # [S, L, classes]
    rates: Tensor  # [S, layers], spikes per neuron and step


# Samples between two builds of the first layer's trace: such that inner products of inputs cost
# about as much as the trace.
_CHUNK = 100
_CHUNK_OF_STEPS = 60


@torch.no_grad()
def run_stream(
    network: FullyConnected, values: Tensor, *, chunk: int | None = None
) -> StreamActivity:
    """Show streams of samples to a network, one sample at a time.

    Args:
        network: network whose stored traces every stream starts from; it is left unchanged.
        values: inputs [S, L, in] of S streams, L samples each, in order: images, or what the
            network encodes.
        chunk: samples between two builds of the first layer's trace; None for a usual number.
            Speed only: the result is the same up to rounding.

    Raises:
        ValueError: if no layer has a local rule, or shapes do not fit.
    """
    if values.ndim != 3 or 0 in values.shape:
        shape = list(values.shape)
        raise ValueError(f"streams must have shape [S, L, in], none of them 0, got {shape}")
    layers: list[HybridLinear] = list(network.layers)  # type: ignore[arg-type]
    if all(layer.rule is None for layer in layers):
        raise ValueError("a stream needs a local rule: in this network nothing would adapt")
    gain, streams = network.gain, values.shape[0]
    first: StreamedLayer | StreamedSteps | _StreamedRule
    if type(layers[0].rule) is not Hebbian:
        first, usual = _StreamedRule(network), _CHUNK
    elif network.encode is None:
        first, usual = StreamedLayer(layers[0], gain, streams), _CHUNK
    else:
        first = StreamedSteps(layers[0], gain, streams, network.encode)
        usual = max(_CHUNK_OF_STEPS // len(gain), 1)
    left = [layer.stored() for layer in layers]
    was_training = network.training
    network.eval()
    outputs, spikes = [], layers[0].weight.new_zeros(streams, len(layers))
    for part in values.split(chunk or usual, dim=1):
        first.begin(part)
        for k in range(part.shape[1]):
            states = first.states(k)
            for i in range(len(layers)):
                if i:
                    drive: Drive = fade([state.z for state in states], gain)
                    states, left[i] = _shown(layers[i], drive, left[i])
                spikes[:, i] += torch.stack([state.z.mean(-1) for state in states]).sum(0)
            outputs.append(network.readout(states, network.v_th))
        first.end()
    network.train(was_training)
    steps = len(gain) * values.shape[1]
    return StreamActivity(torch.stack(outputs, dim=1), spikes / steps)
