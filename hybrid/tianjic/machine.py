"""Running a mapped network: cores and the packets between them, and nothing else.

Each core has its own slice of the weights and its own memory, and knows only what packets have
brought. What comes out is what `cores.run` gives for the network as a whole, bit for bit, as long
as no partial sum overflows: in the 32 bits that are assumed, none can. What it adds are exact
counts of events, by core, link and step. It is slow: to look at what a chip does, and to break
things.
"""

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hybrid.runs.files import write_atomically
from hybrid.tianjic.cores import SpikingLayer, check_inputs
from hybrid.tianjic.defects import NONE, Defects
from hybrid.tianjic.few_shot import ChipConvolution
from hybrid.tianjic.fixed import Overflows
from hybrid.tianjic.mapping import Mapping
from hybrid.tianjic.mesh import Link, tree
from hybrid.tianjic.primitives import rectify, weigh
from hybrid.tianjic.routing import Multicast, multicasts
from hybrid.tianjic.rules import Core, Numbers, Role
from hybrid.tianjic.shapes import ConvolutionShape, Shape
from hybrid.tianjic.soma import SomaState

Layer = SpikingLayer | ChipConvolution
# In which the cores of a layer work.
_ORDER: tuple[Role, ...] = (
    *("synapses", "carried", "recurrent", "coincidences", "scores", "products"),
    *("sums", "copies"),
)


class Happened(NamedTuple):
    """What one step led to, over all samples."""

    cores: list[int]  # synapses that met something, numbers added, by core
    casts: list[int]  # packets, by what is sent together


@dataclass(frozen=True)
class Ran:
    """What a mapped network did.

    Args:
        potentials: of the last layer after the last step, before reset, or its activations
            [N, out].
        counts: its spikes, or activations [N, out].
        mapping: of the network.
        trail: the same potentials in each step [T, N, out].
        steps: what happened, step by step.
    """

    potentials: Tensor
    counts: Tensor
    trail: Tensor
    mapping: Mapping
    casts: tuple[Multicast, ...]
    steps: tuple[Happened, ...]

    def core_events(self) -> Numbers:
        """Return synapses that met something and numbers that were added [T, cores]."""
        return np.array([step.cores for step in self.steps])

    def link_packets(self) -> dict[Link, Numbers]:
        """Return how many packets passed each link that carried any, by step [T]."""
        found: dict[Link, Numbers] = {}
        sent = np.array([step.casts for step in self.steps])
        for number, cast in enumerate(self.casts):
            for link in tree(cast.start, cast.ends):
                found[link] = found.get(link, np.zeros(len(sent), np.int64)) + sent[:, number]
        return {link: count for link, count in found.items() if count.any()}

    def export(self, path: Path) -> None:
        """Write what happened as lines of JSON: one for each step and core or link that was busy.

        Raises:
            OSError: if it cannot be written.
        """
        lines = []
        events, links = self.core_events(), self.link_packets()
        for step in range(len(self.steps)):
            for number, core in enumerate(self.mapping.cores):
                if events[step, number]:
                    place = self.mapping.places[number]
                    lines.append(
                        {"step": step, "core": number, "layer": core.layer, "role": core.role}
                        | {"chip": place.chip, "x": place.x, "y": place.y}
                        | {"events": int(events[step, number])}
                    )
            lines += [
                {"step": step, "from": list(start), "to": list(end), "packets": int(count[step])}
                for (start, end), count in links.items()
                if count[step]
            ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write_atomically(path, text.encode())


def run_mapped(mapping: Mapping, layers: Sequence[Layer], inputs: Sequence[Tensor]) -> Ran:
    """Run a network by its cores and packets alone, each sample on its own.

    Args:
        mapping: cores and places.
        layers: by the shapes of the mapping, in the same order.
        inputs: T inputs of the first layer [N, in], whole numbers; what 8 bits do not hold is cut.

    Raises:
        ValueError: if the layers are not those of the mapping, or have something that cores are not
            given: currents from outside, noise.
    """
    return Machine(mapping, layers).run(inputs)


@dataclass
class _State:
    """What a core remembers."""

    inbox: dict[int | None, tuple[Numbers, Tensor]] = field(default_factory=dict)  # by sender
    soma: SomaState | None = None
    earlier: deque[Tensor] = field(default_factory=deque)  # inputs, or potentials; newest first


class Machine:
    """A mapped network, loaded and ready to run.

    Args:
        mapping, layers: see `run_mapped`.
        defects: of the chip.
    """

    def __init__(self, mapping: Mapping, layers: Sequence[Layer], defects: Defects = NONE) -> None:
        if len(layers) != len(mapping.shapes):
            raise ValueError(f"{len(layers)} layers for {len(mapping.shapes)} shapes")
        for shape, layer in zip(mapping.shapes, layers, strict=True):
            _check(shape, layer)
        self.mapping, self.defects = mapping, defects
        self.dead = [place in defects.dead for place in mapping.places]
        self.layers: dict[str, Layer] = {
            shape.name: layer for shape, layer in zip(mapping.shapes, layers, strict=True)
        }
        self.shapes = {shape.name: shape for shape in mapping.shapes}
        self.casts = tuple(multicasts(mapping))
        self.leaving: dict[int | None, list[int]] = {}
        for number, cast in enumerate(self.casts):
            self.leaving.setdefault(cast.source, []).append(number)
        self.generator = torch.Generator().manual_seed(defects.seed)
        # Where numbers of a sender belong in a core, and which of them: found once.
        self._met: dict[tuple[int, int | None, int, bytes], tuple[Tensor, Tensor]] = {}
        loaded = (self._weights(core) for core in mapping.cores)
        self.weights = [
            None if weights is None else self._written(weights, number)
            for number, weights in enumerate(loaded)
        ]

    def run(self, inputs: Sequence[Tensor]) -> Ran:
        """See `run_mapped`."""
        samples, first = len(inputs[0]) if len(inputs) else 0, self.mapping.shapes[0]
        if (size := check_inputs(inputs)) != first.inputs:
            raise ValueError(
                f"layer {first.name!r} takes {first.inputs} inputs, it is given {size}"
            )
        for name, layer in self.layers.items():
            known = None if isinstance(layer, ChipConvolution) else layer.payload
            if known is not None and len(known) < len(inputs):
                raise ValueError(f"layer {name!r} knows {len(known)} steps only")
        self.overflows = Overflows()
        self.states = [_State() for _ in self.mapping.cores]
        last = self.mapping.shapes[-1]
        steps, trail = [], []
        counts = torch.zeros(samples, last.outputs, dtype=torch.int64)
        for step, given in enumerate(inputs):
            x = self.overflows.saturate(given, 8, "inputs")
            self.happened = Happened([0] * len(self.mapping.cores), [0] * len(self.casts))
            self._send(None, np.arange(x.shape[1]), x.long())
            for shape in self.mapping.shapes:
                potentials, answers = self._layer(shape.name, step, samples)
            counts += answers
            trail.append(potentials)
            steps.append(self.happened)
        return Ran(potentials, counts, torch.stack(trail), self.mapping, self.casts, tuple(steps))

    def _written(self, weights: Tensor, number: int) -> Tensor:
        """Return weights as a core with defects holds them; what a kernel lacks has no cell."""
        written = self.defects.written(weights, number)
        layer = self.layers[self.mapping.cores[number].layer]
        if isinstance(layer, ChipConvolution) or layer.convolution is not None:
            return torch.where(weights != 0, written, 0)
        return written

    def _weights(self, core: Core) -> Tensor | None:
        """Return the weights that are loaded into a core."""
        layer = self.layers[core.layer]
        rows, columns = torch.from_numpy(core.axons), torch.from_numpy(core.neurons)
        if isinstance(layer, ChipConvolution):
            shape = self.shapes[core.layer]
            assert isinstance(shape, ConvolutionShape)
            return _unfolded(layer, shape, core) if core.role == "synapses" else None
        if core.role == "synapses":
            return layer.weight[rows][:, columns]
        if core.role == "carried":
            assert layer.carried is not None
            return layer.carried.weight[rows][:, columns]
        if core.role == "recurrent":
            assert layer.recurrent is not None
            return layer.recurrent.weight[rows][:, columns]
        if core.role == "coincidences":
            assert layer.local is not None
            static = layer.local.weights
            return static[rows] if core.lag is None else static[core.lag][rows][:, columns]
        return None

    def _send(self, source: int | None, numbers: Numbers, values: Tensor) -> None:
        """Send numbers of a core, or of a port, to all that need them."""
        if source is not None and self.dead[source]:
            return
        for index in self.leaving.get(source, ()):
            cast = self.casts[index]
            sent = values[:, np.searchsorted(numbers, cast.senders)]
            if cast.active is None:
                self.happened.casts[index] += len(values) * cast.packets(
                    self.mapping.chip.packet_bytes
                )
            else:
                self.happened.casts[index] += int((sent != 0).sum())
            for target in cast.targets:
                arrived = sent
                if self.defects.lost:
                    drawn = torch.rand(sent.shape, generator=self.generator)
                    arrived = sent * (drawn >= self.defects.lost)
                inbox = self.states[target].inbox
                if source in inbox:  # another stream of the same core
                    known, before = inbox[source]
                    inbox[source] = np.append(known, cast.senders), torch.hstack([before, arrived])
                else:
                    inbox[source] = cast.senders, arrived

    def _received(self, number: int, wanted: Numbers, sources: Sequence[int | None]) -> Tensor:
        """Return numbers that some senders have sent to a core [N, wanted]; 0 where none came."""
        inbox, samples = self.states[number].inbox, self._samples
        found = torch.zeros(samples, len(wanted), dtype=torch.int64)
        asked = wanted.tobytes()
        for source in sources:
            if source not in inbox:
                continue
            senders, values = inbox[source]
            if self.weights[number] is None:
                self.happened.cores[number] += int((values != 0).sum())
            key = number, source, len(senders), asked
            if key not in self._met:
                order, shared = np.argsort(wanted), np.isin(senders, wanted)
                places = order[np.searchsorted(wanted, senders[shared], sorter=order)]
                self._met[key] = torch.from_numpy(places), torch.from_numpy(shared)
            into, taken = self._met[key]
            found.index_add_(1, into, values[:, taken])
        return found

    def _layer(self, name: str, step: int, samples: int) -> tuple[Tensor, Tensor]:
        """Let the cores of a layer work; return its potentials and its answers [N, out]."""
        self._samples, layer, shape = samples, self.layers[name], self.shapes[name]
        roles = self.mapping.roles(name)
        result = [torch.zeros(samples, shape.outputs, dtype=torch.int64) for _ in range(2)]
        for role in _ORDER:
            for number in roles[role]:
                core = self.mapping.cores[number]
                if isinstance(layer, ChipConvolution):
                    out = self._convolve(number, core, layer)
                    found = (out, out)
                else:
                    found = self._work(number, core, layer, step)
                self._send(number, np.sort(core.neurons), found[1][:, np.argsort(core.neurons)])
                answers = role == "sums" or (role == "synapses" and not roles["sums"])
                if answers and not self.dead[number]:
                    for whole, part in zip(result, found, strict=True):
                        whole[:, torch.from_numpy(core.neurons)] = part
        for cores in roles.values():
            for number in cores:
                # Potentials and spikes of this step are for the next one.
                if self.mapping.cores[number].role not in ("products", "recurrent"):
                    self.states[number].inbox.clear()
        for number in roles["products"]:
            self._remember(number, layer)
        return result[0], result[1]

    def _convolve(self, number: int, core: Core, layer: ChipConvolution) -> Tensor:
        """Return the partial sums, or activations, of a core of a convolution."""
        weights, channels = self.weights[number], torch.from_numpy(core.neurons)
        if weights is not None:
            x = self._received(number, core.axons, list(self.states[number].inbox))
            self.happened.cores[number] += int((x != 0).sum(0) @ (weights != 0).long().sum(1))
            total = weigh(x, weights)
            if core.primitives == ("P04",):
                return total
        else:
            total = self._received(number, core.neurons, list(self.states[number].inbox))
        shape = self.shapes[core.layer]
        assert isinstance(shape, ConvolutionShape)
        total = total + layer.bias[channels // int(np.prod(shape.positions))]
        if layer.table is None:
            return rectify(total, layer.cut, self.overflows, core.layer)
        return layer.table.look_up(total, layer.cut, self.overflows, core.layer)

    def _work(
        self, number: int, core: Core, layer: SpikingLayer, step: int
    ) -> tuple[Tensor, Tensor]:
        """Return the potentials of a core, if it has any, and what it sends [N, neurons]."""
        state, weights = self.states[number], self.weights[number]
        if core.role in ("synapses", "carried", "recurrent", "coincidences"):
            x = self._received(number, core.axons, list(state.inbox))
            if core.role == "recurrent":
                assert layer.recurrent is not None
                x = x * layer.recurrent.peak
                state.inbox.clear()
            else:
                x = x * (1 if layer.payload is None else layer.payload[step])
            if core.role == "coincidences":
                sums = self._coincide(number, core, layer, x)
                return sums, sums
            if core.role == "carried":
                assert layer.carried is not None
                x = layer.carried.faded(x, step)
            assert weights is not None
            self.happened.cores[number] += int((x != 0).sum(0) @ (weights != 0).long().sum(1))
            total = weigh(x, weights)
            if "P08" not in core.primitives[0]:
                bits, place = self.mapping.chip.partial_sum_bits, f"{core.layer}: partial sums"
                total = self.overflows.saturate(total, bits, place)
                return total, total
        elif core.role == "scores":
            sums = self._received(number, core.neurons, list(state.inbox))
            scores = self._score(core, layer, sums)
            return scores, scores
        elif core.role == "products":
            products = self._multiply(number, core, layer)
            return products, products
        else:
            total = self._received(number, core.neurons, list(state.inbox))
        neurons = torch.from_numpy(core.neurons)
        soma, place = layer.soma, f"{layer.name}: potentials"
        before = state.soma or soma.at_rest(len(total), len(neurons))
        done = soma.step(total + layer.bias[neurons], before, self.overflows, place)
        state.soma = done.state
        if core.role != "copies":
            return done.v, done.z
        module = layer.local if layer.host is None else layer.host.module
        assert module is not None
        own = replace(module, thresholds=module.thresholds[neurons])
        return done.v, own.post(done.v, self.overflows, layer.name)

    def _coincide(self, number: int, core: Core, layer: SpikingLayer, x: Tensor) -> Tensor:
        """Return a core's share of the sums of lags [N, lags], or of a lag's neurons [N, out]."""
        module, static, state = layer.local, self.weights[number], self.states[number]
        assert module is not None
        assert static is not None
        rest = self.overflows, layer.name
        sums = torch.zeros(len(x), len(core.neurons), dtype=torch.int64)
        for lag in range(len(module.decays)) if core.lag is None else [core.lag]:
            if module.delay + lag >= len(state.earlier):
                continue
            alike = module.alike(x, state.earlier[module.delay + lag], *rest)
            met = 1 if core.lag is None else len(core.neurons)
            self.happened.cores[number] += int((alike != 0).sum()) * met
            if core.lag is None:
                sums[:, lag] = weigh(alike, static.unsqueeze(1)).squeeze(1)
            else:
                sums = weigh(alike, static)
        state.earlier.appendleft(x)
        alone = core.lag is not None and not self.mapping.count(layer.name, "scores")
        return self._score(core, layer, sums) if alone else sums

    def _score(self, core: Core, layer: SpikingLayer, sums: Tensor) -> Tensor:
        """Return scores of whole sums: of lags [N, lags], or of a lag's neurons [N, out]."""
        module, rest = layer.local, (self.overflows, layer.name)
        assert module is not None
        if core.lag is not None:
            return module.score(sums, core.lag, *rest)
        lags = core.neurons.tolist()
        return torch.stack([module.score(sums[:, i], lag, *rest) for i, lag in enumerate(lags)], 1)

    def _multiply(self, number: int, core: Core, layer: SpikingLayer) -> Tensor:
        """Return the local current of a core's neurons: scores times earlier potentials."""
        state, module, cores = self.states[number], layer.local, self.mapping.cores
        assert module is not None
        total = torch.zeros(self._samples, len(core.neurons), dtype=torch.int64)
        for lag in range(len(module.decays)):
            if module.delay + lag >= len(state.earlier):
                continue
            own = [s for s in state.inbox if s is not None and cores[s].lag in (None, lag)]
            if any(cores[s].lag is not None for s in own):
                scores = self._received(number, core.neurons, own)
            else:
                scores = self._received(number, np.array([lag]), own)
            total = total + scores * state.earlier[module.delay + lag]
        state.inbox.clear()
        return total * module.times

    def _remember(self, number: int, layer: Layer) -> None:
        """Let a core of products keep the potentials that copies have sent it."""
        state, core = self.states[number], self.mapping.cores[number]
        state.earlier.appendleft(self._received(number, core.neurons, list(state.inbox)))
        state.inbox.clear()


def _check(shape: Shape, layer: Layer) -> None:
    """Raise ValueError if a layer is not what its shape says, or has what cores are not given."""
    wrong = f"layer {shape.name!r} is not what its shape says"
    if isinstance(shape, ConvolutionShape) and not shape.spiking:
        if not isinstance(layer, ChipConvolution):
            raise ValueError(wrong)
        size = shape.channels, shape.image[0], shape.kernel, shape.kernel
        known = tuple(layer.weight.shape), layer.stride, layer.table is not None
        if known != (size, shape.stride, shape.table) or shape.pooled > 1:
            raise ValueError(f"{wrong}: its weights, its stride, or its table")
        return
    if not isinstance(layer, SpikingLayer):
        raise ValueError(wrong)
    if tuple(layer.weight.shape) != (shape.inputs, shape.outputs):
        raise ValueError(f"layer {shape.name!r} has not the size of its shape")
    hosted = layer.host is not None
    own = None if layer.local is None or hosted else layer.local.shape
    said = None if shape.local is None else replace(shape.local, filled=False)
    if own != said or (layer.carried is not None) != shape.carried:
        raise ValueError(f"{wrong}: its local module, or the trace that it carries")
    if (layer.recurrent is not None, hosted) != (shape.recurrent, shape.hosted):
        raise ValueError(f"{wrong}: its recurrent synapses, or its host")
    convolved = layer.convolution
    if convolved is not None:
        convolved = replace(convolved, name=shape.name, graded=shape.graded)
    if convolved != (shape if isinstance(shape, ConvolutionShape) else None):
        raise ValueError(f"{wrong}: its convolution")
    if layer.offsets is not None or layer.soma.noise:
        raise ValueError(f"layer {shape.name!r}: cores are given no offsets, no noise")


def _unfolded(layer: ChipConvolution, shape: ConvolutionShape, core: Core) -> Tensor:
    """Return a convolution's weights between the inputs and outputs of a core [in, out]."""
    _, height, width = shape.image
    entering = np.unravel_index(core.axons, (shape.image[0], height, width))
    leaving = np.unravel_index(core.neurons, (shape.channels, *shape.positions))
    channel, row, column = (index.astype(np.int32) for index in entering)
    out, down, across = (index.astype(np.int32) for index in leaving)
    reach = shape.kernel // 2
    y = row[:, None] - down[None] * shape.stride + reach
    x = column[:, None] - across[None] * shape.stride + reach
    inside = (y >= 0) & (y < shape.kernel) & (x >= 0) & (x < shape.kernel)
    met, meeting = inside.nonzero()
    weight = layer.weight.numpy()
    unfolded = np.zeros(inside.shape, weight.dtype)
    unfolded[met, meeting] = weight[out[meeting], channel[met], y[met, meeting], x[met, meeting]]
    return torch.from_numpy(unfolded)
