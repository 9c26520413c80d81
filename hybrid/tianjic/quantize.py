"""From a trained network to whole numbers.

Weights become 8 bits with one scale per layer, potentials count in that scale times the input's,
leaks become k/256. What the local rule asks of a potential, a tanh, becomes a table of 8 bits.
Source of the recipe: the laboratory's quantisers (openBII/HNN); scales here are exact and not
powers of four, as a potential's unit is free.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hybrid.checks import one_of, require
from hybrid.model.coding import LastMembrane, Rate, ReadOut
from hybrid.model.layers import HybridLinear
from hybrid.model.networks import FullyConnected
from hybrid.model.neurons import IF, LIF, Neuron, tensor_constants
from hybrid.model.plasticity import Hebbian, MetaLocal
from hybrid.tianjic.chip import tianjic
from hybrid.tianjic.cores import Carried, Outcome, SpikingLayer
from hybrid.tianjic.fixed import coded, multiplier_for, quantized, signed_range, weights_of
from hybrid.tianjic.history import HostRule, LocalModule
from hybrid.tianjic.shapes import DenseShape
from hybrid.tianjic.soma import LEAK_STEPS, ResetMode, SoftMaximum, Soma, Table

CarriedTrace = Literal["folded", "separate", "none"]
PEAK = signed_range(8)[1]
ARGUMENT = 32  # steps of a table's argument in one unit of v / v_th: tables reach from -4 to 4
# With a value of 0.
_RESETS: dict[str, ResetMode] = {
    "subtract": "subtract threshold",
    "zero": "to value",
    "none": "subtract value",
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
        require(self, "weight_bits", 2 <= self.weight_bits <= 8, "in 2 to 8")
        require(self, "codebook", self.codebook is None or self.codebook >= 2, ">= 2, or None")
        one_of(self, "carried", CarriedTrace)
        require(self, "lags", self.lags is None or self.lags >= 1, ">= 1, or None for all")
        require(self, "delay", self.delay >= 0, ">= 0")
        require(self, "kept", 0.0 < self.kept <= 1.0, "in (0, 1]")
        require(self, "headroom", self.headroom >= 1.0, ">= 1")


DEFAULT = Options()


@dataclass(frozen=True, kw_only=True)
class ChipNetwork:
    """A fully connected network in whole numbers."""

    layers: tuple[SpikingLayer, ...]  # in the order of signals
    gain: tuple[float, ...]  # fading of the first layer's drive [T]
    readout: ReadOut  # how potentials or spikes of the last layer become an answer

    def encode(self, images: Tensor) -> list[Tensor]:
        """Return images [N, in] from 0 to 1 as T inputs; `run` cuts what 8 bits do not hold.

        Raises:
            ValueError: if a pixel is NaN or infinite.
        """
        return [quantized(images * gain, 1.0 / PEAK, 32) for gain in self.gain]

    def answers(self, outcome: Outcome) -> Tensor:
        """Return the class of each sample [N]."""
        if isinstance(self.readout, Rate):
            return outcome.counts.argmax(-1)
        assert isinstance(self.readout, LastMembrane)
        potentials = outcome.potentials
        if self.readout.ceiling is not None:
            highest = round(self.readout.ceiling * float(self.layers[-1].soma.threshold))
            potentials = potentials.clamp(max=highest)
        return potentials.argmax(-1)

    def frozen(self) -> "ChipNetwork":
        """Return the same network without local modules, which takes fewer cores."""
        layers = tuple(replace(layer, local=None, host=None) for layer in self.layers)
        return replace(self, layers=layers)

    def shapes(self) -> tuple[DenseShape, ...]:
        """Return what the mapper has to know."""
        return tuple(
            dense_shape(
                layer.name,
                layer.weight,
                graded=number == 0 or layer.payload is not None,
                local=None if layer.local is None else layer.local.shape,
                carried=layer.carried is not None,
            )
            for number, layer in enumerate(self.layers)
        )


def dense_shape(name: str, weight: Tensor, **options: Any) -> DenseShape:
    """Return the shape of a layer with weights [in, out], its density rounded for records."""
    density = round(float((weight != 0).float().mean()), 4)
    inputs, outputs = weight.shape
    return DenseShape(name=name, inputs=inputs, outputs=outputs, density=density, **options)


@torch.no_grad()
def quantize(network: FullyConnected, options: Options = DEFAULT) -> ChipNetwork:
    """Return a trained network in whole numbers.

    Raises:
        ValueError: if the network is not fully connected, or has something that the chip has not:
            an encoder, a neuron other than LIF and IF, a rule other than the Hebbian one, a
            first-spike read-out.
    """
    network = getattr(network, "_orig_mod", network)  # behind torch.compile
    if not isinstance(network, FullyConnected):
        raise ValueError(
            f"{type(network).__name__} cannot be quantised: `quantize` takes a FullyConnected "
            "network; few-shot and context-gated ones have their own, convolutions have none"
        )
    if network.encode is not None:
        raise ValueError("a network that encodes its inputs: give the chip what comes out of it")
    if not isinstance(network.readout, Rate | LastMembrane):
        raise ValueError(f"{type(network.readout).__name__} is no read-out of the chip")
    gain = network.gain
    layers = tuple(
        integer_layer(module, number, gain, options, graded=len(set(gain)) > 1)
        for number, module in enumerate(network.layers)
    )
    return ChipNetwork(layers=layers, gain=gain, readout=network.readout)


def integer_layer(
    module: nn.Module,
    number: int,
    gain: tuple[float, ...],
    options: Options,
    *,
    graded: bool,
    mask: Tensor | None = None,
) -> SpikingLayer:
    """Return a trained layer in whole numbers.

    Args:
        module: `HybridLinear`.
        number: of the layer; the first one, 0, is shown images.
        gain: fading of the drive [T].
        options: see there.
        graded: whether spikes between layers carry numbers of 8 bits, which fade, too.
        mask: [in, out], 1 where the weight acts, 0 where the trace does; None for both everywhere.

    Raises:
        ValueError: if the chip has not its neuron or rule, a parameter is NaN or infinite, or
            weights are so large that the threshold is less than one unit of the potential.
    """
    if type(module) is not HybridLinear:
        raise ValueError(f"{type(module).__name__} has no form on the chip: use HybridLinear")
    if module.norm is not None:
        raise ValueError("a normalised layer cannot be quantised: fold its norm into its weights")
    payload = tuple(round(PEAK * g) for g in gain) if number and graded else None
    peak = PEAK if graded or not number else 1  # what an input of 1 comes in as
    for name, value in module.state_dict().items():
        if not value.isfinite().all():
            raise ValueError(f"layer {number + 1}: {name} is NaN or infinite: train it anew")
    weight, bits, rule = module.weight.T, options.weight_bits, module.rule
    weight = weight if mask is None else weight * mask
    meta, trace = module.synapse().meta, None
    if meta is not None and options.carried != "none" and module.lifetime != "call":
        trace = meta.local_gain * module.trace
        if options.carried == "folded":
            weight, trace = weight + trace, None
    static, scale = weights_of(weight, bits, headroom=options.headroom)
    unit = scale / peak
    soma = integer_soma(module.neuron, unit)
    if not soma.threshold:
        raise ValueError(
            f"layer {number + 1}: its threshold, {float(module.neuron.v_th):g}, is less than half "
            f"a unit of the potential, {unit:.3g}: weights reach {float(weight.abs().max()):.3g}, "
            "scale them down"
        )
    bias = torch.zeros(weight.shape[1]) if module.bias is None else module.bias
    local = host = carried = None
    if meta is not None:
        if type(rule) is not Hebbian or rule.post in ("softmax", "constant"):
            raise ValueError(f"{rule}: a history needs the Hebbian rule with tanh or identity")
        reach = len(gain) - 1 - options.delay
        lags = min(reach, options.lags or reach)
        if lags > 0:
            local = local_module(
                rule, meta, module.neuron, options, mask=mask, lags=lags, unit=unit, peak=peak
            )
        if trace is not None and bool(trace.any()):
            fading, trace_scale = weights_of(trace, bits)
            gains = (trace_scale / scale * rule.trace_decay**t for t in range(len(gain)))
            carried = Carried(fading, tuple(multiplier_for(g) for g in gains))
        if options.carried == "none":
            strength = meta.local_gain / scale
            host = HostRule(
                start=_start(module),
                trace_decay=rule.trace_decay,
                rate=meta.local_rate * (post_table(rule)[1] / peak),
                gain=strength if mask is None else strength * (1.0 - mask),
                bits=bits,
                clip=rule.trace_clip,
            )
    return SpikingLayer(
        name=f"layer {number + 1}",
        weight=static if options.codebook is None else coded(static, options.codebook),
        bias=quantized(bias, unit, soma.bits),
        soma=soma,
        unit=unit,
        payload=payload,
        local=local,
        carried=carried,
        host=host,
    )


def _start(module: HybridLinear) -> Tensor:
    """Return the trace [in, out] that a call starts from."""
    return torch.zeros_like(module.trace) if module.lifetime == "call" else module.trace


def integer_soma(neuron: Neuron, unit: float) -> Soma:
    """Return a neuron in whole numbers, of which one is worth `unit`.

    Raises:
        ValueError: if it is neither LIF nor IF, or has constants for each neuron.
    """
    if any(value.numel() > 1 for value in tensor_constants(neuron).values()):
        raise ValueError(f"{neuron}: on the chip, all neurons of a layer share their constants")
    if type(neuron) not in (LIF, IF):  # a subclass may do more than the chip can
        raise ValueError(f"{type(neuron).__name__} is no neuron of the chip: use LIF or IF")
    assert isinstance(neuron, LIF)
    leak = LEAK_STEPS if isinstance(neuron, IF) else round(LEAK_STEPS * float(neuron.decay))
    threshold = round(float(neuron.v_th) / unit)
    return Soma(threshold=threshold, leak=leak, reset=_RESETS[neuron.reset])


def local_module(
    rule: Hebbian,
    meta: MetaLocal,
    neuron: Neuron,
    options: Options,
    *,
    mask: Tensor | None,
    lags: int,
    unit: float,
    peak: int = PEAK,
    input_scale: float | None = None,
) -> LocalModule:
    """Return a local module in whole numbers.

    Args:
        rule, meta, neuron, options: trained rule, parameters, its threshold, bits and delay.
        mask: [in, out], the share of the weight; that of the trace is 1 - mask. None for 1 both.
        lags: steps that are remembered.
        unit: what one unit of the potential is worth.
        peak: largest input in whole numbers: 1 for spikes.
        input_scale: what one unit of an input is worth; None for 1 / peak.
    """
    input_scale = input_scale or 1.0 / peak
    rate = meta.local_rate.double()
    if mask is not None:
        rate = (1.0 - mask).double() * rate.unsqueeze(-1)
    ages = options.delay + torch.arange(lags, dtype=torch.float64)
    decays = (rule.trace_decay**ages).view(-1, *[1] * rate.ndim)
    static, scale = weights_of(decays * rate, options.weight_bits)
    score_shift, largest = 0, peak * int(static.long().abs().sum(1).max())
    while (largest >> score_shift) > signed_range(options.score_bits)[1] - 1:
        score_shift += 1  # so that a score always fits
    coincidence_shift = 7 if peak > 1 else 0
    table, worth = post_table(rule)
    v_th = 1.0 if rule.post == "softmax" else float(neuron.v_th)  # what potentials are measured in
    score = input_scale**2 * (1 << coincidence_shift) * scale * 2**score_shift
    return LocalModule(
        lags=static,
        table=table,
        argument=multiplier_for(ARGUMENT * unit / v_th),
        thresholds=quantized(meta.sliding_threshold * v_th, unit, tianjic().potential_bits),
        coincidence_shift=coincidence_shift,
        score_shift=score_shift,
        score_bits=options.score_bits,
        gain=multiplier_for(float(meta.local_gain) * score * worth / unit),
        delay=options.delay,
    )


@torch.no_grad()
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
    return float((_start(module).abs() + added * meta.local_rate.abs().reshape(-1, 1)).max())


def post_table(rule: Hebbian) -> tuple[Table | SoftMaximum, float]:
    """Return the post factor as a table, and what one unit of its entries is worth."""
    if rule.post == "softmax":
        return SoftMaximum(1.0 / ARGUMENT), 1.0 / PEAK
    if rule.post == "tanh":
        return tanh_table(rule.sign), 1.0 / PEAK
    steps = torch.arange(-128, 128).clamp(-PEAK, PEAK)
    return Table(tuple((rule.sign * steps).tolist())), 1.0 / ARGUMENT


def tanh_table(sign: int = 1) -> Table:
    """Return ± 127 · tanh(i / `ARGUMENT`)."""
    values = torch.tanh(torch.arange(-128, 128) / ARGUMENT)
    return Table(tuple((sign * PEAK * values).round().int().tolist()))
