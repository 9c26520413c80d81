"""From a trained network to whole numbers.

Weights become 8 bits with one scale per layer, potentials count in that scale times the input's,
leaks become k/256. What the local rule asks of a potential, a tanh, becomes a table of 8 bits.
Source of the recipe: the laboratory's quantisers (openBII/HNN); scales here are exact and not
powers of four, as a potential's unit is free.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from hybrid.model.coding import LastMembrane, Rate, ReadOut
from hybrid.model.layers import HybridLinear
from hybrid.model.networks import FullyConnected
from hybrid.model.neurons import IF, LIF, Neuron
from hybrid.model.plasticity import Hebbian, MetaLocal
from hybrid.tianjic.cores import Carried, Outcome, SpikingLayer
from hybrid.tianjic.fixed import coded, multiplier_for, quantized, scale_of, signed_range
from hybrid.tianjic.history import LocalModule
from hybrid.tianjic.host import HostRule
from hybrid.tianjic.shapes import DenseShape, LocalShape
from hybrid.tianjic.soma import LEAK_STEPS, ResetMode, Soma, Table

CarriedTrace = Literal["folded", "separate", "none"]
CARRIED_TRACES: tuple[CarriedTrace, ...] = ("folded", "separate", "none")
PEAK = signed_range(8)[1]
ARGUMENT = 32  # steps of a table's argument in one unit of v / v_th: tables reach from -4 to 4
_RESETS: dict[str, tuple[ResetMode, int]] = {
    "subtract": ("subtract threshold", 0),
    "zero": ("to value", 0),
    "none": ("subtract value", 0),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a network is brought to the chip.

    Args:
        weight_bits: of weights and of the static weights of lags.
        codebook: numbers that a layer's weights are chosen from; None for all that bits hold. A
            survey says that a core of Tianjic has 32, without saying how.
        carried: what becomes of the trace that training has left. "folded" into the weights, where
            it no longer fades; "separate", a second matrix that fades as it should; "none".
        lags: steps that a local module remembers; None for all, which is exact.
        delay: newest steps that it leaves out, because they would come too late.
        score_bits: of scores.
        kept: share of the activations that 8 bits hold, of those that calibrate; the rest is cut.
        headroom: largest synapse that bits hold, in units of the largest weight: more than 1 for a
            host that writes larger ones.

    Raises ValueError for values that make no sense.
    """

    weight_bits: int = 8
    codebook: int | None = None
    carried: CarriedTrace = "folded"
    lags: int | None = None
    delay: int = 0
    score_bits: int = 16
    kept: float = 0.9999
    headroom: float = 1.0

    def __post_init__(self) -> None:
        if not 2 <= self.weight_bits <= 8:
            raise ValueError(f"weight_bits = {self.weight_bits}: the chip holds 2 to 8")
        if self.codebook is not None and self.codebook < 2:
            raise ValueError(f"codebook = {self.codebook}: give >= 2, or None for all")
        if self.carried not in CARRIED_TRACES:
            raise ValueError(
                f"carried = {self.carried!r}: choose one of {', '.join(CARRIED_TRACES)}"
            )
        if self.lags is not None and self.lags < 1:
            raise ValueError(f"lags = {self.lags}: give >= 1, or None for all")
        if self.delay < 0:
            raise ValueError(f"delay = {self.delay}: it must be >= 0")
        if not 0.0 < self.kept <= 1.0:
            raise ValueError(f"kept = {self.kept}: it must lie in (0, 1]")
        if self.headroom < 1.0:
            raise ValueError(f"headroom = {self.headroom}: it must be >= 1")


DEFAULT = Options()


@dataclass(frozen=True, kw_only=True)
class ChipNetwork:
    """A fully connected network in whole numbers.

    Args:
        layers: in the order of signals.
        gain: fading of the first layer's drive [T].
        readout: how potentials or spikes of the last layer become an answer.
    """

    layers: tuple[SpikingLayer, ...]
    gain: tuple[float, ...]
    readout: ReadOut

    def encode(self, images: Tensor) -> list[Tensor]:
        """Return images [N, in] from 0 to 1 as T inputs of 8 bits; beyond, they are cut."""
        return [quantized(images * gain, 1.0 / PEAK, 8) for gain in self.gain]

    def answers(self, outcome: Outcome) -> Tensor:
        """Return the class of each sample [N]."""
        if isinstance(self.readout, Rate):
            return outcome.counts.argmax(-1)
        assert isinstance(self.readout, LastMembrane)
        potentials = outcome.potentials
        if self.readout.ceiling is not None:
            highest = round(self.readout.ceiling * self.layers[-1].soma.threshold)
            potentials = potentials.clamp(max=highest)
        return potentials.argmax(-1)

    def frozen(self) -> "ChipNetwork":
        """Return the same network without local modules, which takes fewer cores."""
        layers = tuple(replace(layer, local=None, host=None) for layer in self.layers)
        return replace(self, layers=layers)

    def shapes(self) -> tuple[DenseShape, ...]:
        """Return what the mapper has to know."""
        return tuple(
            DenseShape(
                name=layer.name,
                inputs=layer.weight.shape[0],
                outputs=layer.weight.shape[1],
                graded=i == 0 or layer.payload is not None,
                local=None
                if layer.local is None
                else LocalShape(
                    lags=len(layer.local.lags),
                    per_synapse=layer.local.lags.ndim == 3,
                    delay=layer.local.delay,
                ),
                carried=layer.carried is not None,
                density=round(float((layer.weight != 0).float().mean()), 4),
            )
            for i, layer in enumerate(self.layers)
        )


def quantize(network: FullyConnected, options: Options = DEFAULT) -> ChipNetwork:
    """Return a trained network in whole numbers.

    Raises:
        ValueError: if the network has something that the chip has not: an encoder, a neuron other
            than LIF and IF, a rule other than the Hebbian one, a first-spike read-out.
    """
    if network.encode is not None:
        raise ValueError("a network that encodes its inputs: give the chip what comes out of it")
    if not isinstance(network.readout, Rate | LastMembrane):
        raise ValueError(f"{type(network.readout).__name__} is no read-out of the chip")
    fading = len(set(network.gain)) > 1
    layers = []
    for number, module in enumerate(network.layers):
        assert isinstance(module, HybridLinear)
        graded = number == 0 or fading
        payload = tuple(round(PEAK * g) for g in network.gain) if number and fading else None
        name = f"layer {number + 1}"
        layers.append(
            integer_layer(
                module,
                name,
                graded=graded,
                payload=payload,
                steps=network.steps,
                options=options,
            )
        )
    return ChipNetwork(layers=tuple(layers), gain=network.gain, readout=network.readout)


def integer_layer(
    module: HybridLinear,
    name: str,
    *,
    graded: bool,
    payload: tuple[int, ...] | None,
    steps: int,
    options: Options,
    mask: Tensor | None = None,
) -> SpikingLayer:
    """Return a trained layer in whole numbers.

    Args:
        module: the layer.
        name: of it.
        graded: whether its inputs are numbers of 8 bits, from 0 to 1.
        payload: see `SpikingLayer`.
        steps: T.
        options: see there.
        mask: [in, out], 1 where the weight acts, 0 where the trace does; None for both everywhere.

    Raises:
        ValueError: if the chip has not its neuron or rule.
    """
    weight, bias = module.weight.detach().T, module.bias
    if mask is not None:
        weight = weight * mask
    meta = module.synapse().meta
    read = meta is not None and options.carried != "none" and module.lifetime != "call"
    carried = meta.local_gain.detach() * module.trace if read and meta is not None else None
    if carried is not None and options.carried == "folded":
        weight, carried = weight + carried, None
    scale = options.headroom * scale_of(weight, options.weight_bits)
    unit = scale / PEAK if graded else scale
    soma = integer_soma(module.neuron, unit)
    kept = None
    if carried is not None and bool(carried.any()):
        assert module.rule is not None
        own = scale_of(carried, options.weight_bits)
        gains = [own / scale * module.rule.trace_decay**t for t in range(steps)]
        kept = Carried(
            weight=quantized(carried, own, options.weight_bits).to(torch.int8),
            gains=tuple(multiplier_for(gain) for gain in gains),
        )
    static = quantized(weight, scale, options.weight_bits).to(torch.int8)
    return SpikingLayer(
        name=name,
        weight=static if options.codebook is None else coded(static, options.codebook),
        bias=quantized(
            torch.zeros(weight.shape[1]) if bias is None else bias.detach(), unit, soma.bits
        ),
        soma=soma,
        unit=unit,
        payload=payload,
        local=_local(module, meta, mask, unit, soma, graded, steps, options),
        carried=kept,
        host=_host(module, meta, mask, scale, graded, options),
    )


def _host(
    module: HybridLinear,
    meta: MetaLocal | None,
    mask: Tensor | None,
    scale: float,
    graded: bool,
    options: Options,
) -> HostRule | None:
    """Return what a host needs where no trace is in the weights."""
    rule = module.rule
    if meta is None or not isinstance(rule, Hebbian) or options.carried != "none":
        return None
    gain = meta.local_gain.detach() / scale
    if mask is not None:
        gain = gain * (1.0 - mask)
    start = torch.zeros_like(module.trace) if module.lifetime == "call" else module.trace
    worth = post_table(rule)[1] / (PEAK if graded else 1)
    return HostRule(
        start=start,
        trace_decay=rule.trace_decay,
        rate=meta.local_rate.detach() * worth,
        gain=gain,
        bits=options.weight_bits,
        clip=rule.trace_clip,
    )


def integer_soma(neuron: Neuron, unit: float) -> Soma:
    """Return a neuron in whole numbers, of which one is worth `unit`.

    Raises:
        ValueError: if it is neither LIF nor IF.
    """
    if not isinstance(neuron, LIF | IF):
        raise ValueError(f"{type(neuron).__name__} is no neuron of the chip: use LIF or IF")
    leak = LEAK_STEPS if isinstance(neuron, IF) else round(LEAK_STEPS * neuron.decay)
    mode, value = _RESETS[neuron.reset]
    return Soma(threshold=round(neuron.v_th / unit), leak=leak, reset=mode, reset_value=value)


def _local(
    module: HybridLinear,
    meta: MetaLocal | None,
    mask: Tensor | None,
    unit: float,
    soma: Soma,
    graded: bool,
    steps: int,
    options: Options,
) -> LocalModule | None:
    rule = module.rule
    if meta is None or rule is None:
        return None
    if not isinstance(rule, Hebbian) or rule.post == "softmax":
        raise ValueError(f"{rule}: a history needs the Hebbian rule with tanh or identity")
    reach = steps - 1 - options.delay
    count = min(reach, options.lags or reach)
    if count < 1:
        return None
    ages = options.delay + torch.arange(count, dtype=torch.float64)
    decays = rule.trace_decay**ages
    lags = decays.unsqueeze(1) * meta.local_rate.detach().double()
    if mask is not None:
        lags = lags.unsqueeze(2) * (1.0 - mask.double())
    scale = scale_of(lags, options.weight_bits)
    static = quantized(lags, scale, options.weight_bits).to(torch.int8)
    product = (1.0 / PEAK) ** 2 * 128 if graded else 1.0  # what a coincidence of 1 is worth
    shift = score_shift(static, PEAK if graded else 1, options.score_bits)
    table, worth = post_table(rule)
    factor = float(meta.local_gain.detach()) * product * scale * 2**shift * worth / unit
    return LocalModule(
        lags=static,
        table=table,
        argument=multiplier_for(ARGUMENT * unit / module.neuron.v_th),
        thresholds=quantized(meta.sliding_threshold.detach() * module.neuron.v_th, unit, soma.bits),
        coincidence_shift=7 if graded else 0,
        score_shift=shift,
        score_bits=options.score_bits,
        gain=multiplier_for(factor),
        delay=options.delay,
    )


def largest_trace(module: HybridLinear, steps: int) -> float:
    """Return a bound of |P| within T steps, for inputs up to 1 and a sample of its own.

    The rule adds at most the local rate times |y| ≤ 1 (4 for an identity) in each step. Where this
    stays below the clip, the clip never acts, and a history, which cannot clip, is exact.
    """
    meta, rule = module.synapse().meta, module.rule
    if meta is None or rule is None:
        return 0.0
    peak = 1.0 if getattr(rule, "post", None) == "tanh" else PEAK / ARGUMENT
    added = peak * sum(rule.trace_decay**t for t in range(steps))
    start = torch.zeros_like(module.trace) if module.lifetime == "call" else module.trace
    bound = start.abs() + added * meta.local_rate.detach().abs().reshape(-1, 1)
    return float(bound.max())


def post_table(rule: Hebbian) -> tuple[Table, float]:
    """Return the post factor as a table, and what one unit of its entries is worth."""
    if rule.post == "tanh":
        return tanh_table(rule.sign), 1.0 / PEAK
    steps = torch.arange(-128, 128).clamp(-PEAK, PEAK)
    return Table(tuple((rule.sign * steps).tolist())), 1.0 / ARGUMENT


def tanh_table(sign: int = 1) -> Table:
    """Return ± 127 · tanh(i / `ARGUMENT`)."""
    values = torch.tanh(torch.arange(-128, 128) / ARGUMENT)
    return Table(tuple((sign * PEAK * values).round().int().tolist()))


def score_shift(lags: Tensor, peak: int, bits: int) -> int:
    """Return how many bits a score has to lose so that it always fits."""
    largest = peak * int(lags.long().abs().sum(1).max())
    shift = 0
    while (largest >> shift) > signed_range(bits)[1] - 1:
        shift += 1
    return shift
