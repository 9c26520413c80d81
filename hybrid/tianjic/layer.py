"""A trained layer in whole numbers, and how it is asked for.

Weights become 8 bits with one scale per layer, potentials count in that scale times the input's,
leaks become k/256. What the local rule asks of a potential, a tanh, becomes a table of 8 bits.
Where the chip rescales, it can only divide by powers of four: scales of rates and entries of tables
are chosen so that nothing else is needed. Source of the recipe: the laboratory's quantisers
(openBII/HNN), but for scales, which are exact here, as a potential's unit is free.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from hybrid.checks import one_of, require
from hybrid.model.layers import HybridLinear
from hybrid.model.neurons import IF, LIF, AdaptiveLIF, Neuron, tensor_constants
from hybrid.model.plasticity import Hebbian
from hybrid.tianjic.chip import tianjic
from hybrid.tianjic.cores import Carried, SpikingLayer
from hybrid.tianjic.fixed import PEAK, coded, quantized, scale_of
from hybrid.tianjic.history import HostRule
from hybrid.tianjic.lagged import REACH, Lagged, post_table
from hybrid.tianjic.soma import LEAK_STEPS, ResetMode, Soma

CarriedTrace = Literal["folded", "separate", "none"]
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
        weight_bits: of weights and of the static weights of lags; None for the chip's.
        codebook: numbers that a layer's weights are chosen from; None for all that bits hold. A
            survey says that a core of Tianjic has 32, without saying how.
        carried: what becomes of the trace that training has left. "folded" into the weights, where
            it no longer fades; "separate", a second matrix that fades as it should; "none".
        lags: steps that a local module remembers; None for all, which is exact.
        delay: newest steps that it leaves out, because they would come too late.
        kept: share of the activations that 8 bits hold, of those that calibrate; the rest is cut.
        headroom: largest synapse that bits hold, in units of the largest weight: more than 1 for a
            host that writes larger ones.
        local: whether local modules work. Without them ("frozen") a network takes fewer cores, and
            its weights use all of their bits.

    Raises ValueError for values that make no sense.
    """

    weight_bits: int | None = None
    codebook: int | None = None
    carried: CarriedTrace = "folded"
    lags: int | None = None
    delay: int = 0
    kept: float = 0.9999
    headroom: float = 1.0
    local: bool = True

    def __post_init__(self) -> None:
        require(self, "weight_bits", 2 <= self.bits <= 8, "in 2 to 8")
        require(self, "codebook", self.codebook is None or self.codebook >= 2, ">= 2, or None")
        one_of(self, "carried", CarriedTrace)
        require(self, "lags", self.lags is None or self.lags >= 1, ">= 1, or None for all")
        require(self, "delay", self.delay >= 0, ">= 0")
        require(self, "kept", 0.0 < self.kept <= 1.0, "in (0, 1]")
        require(self, "headroom", self.headroom >= 1.0, ">= 1")
        free = self.codebook is None or self.carried != "none"
        require(self, "codebook", free, "None for a host, which writes any synapse")
        still = self.local or self.carried == "folded"
        require(self, "local", still, "True, unless the trace is folded into the weights")

    @property
    def bits(self) -> int:
        """Bits of weights."""
        return tianjic().weight_bits if self.weight_bits is None else self.weight_bits


DEFAULT = Options()
FROZEN = Options(local=False)
# For a host that rewrites synapses, larger ones included.
HOSTED = Options(carried="none", headroom=2.0)


def integer_layer(
    module: nn.Module,
    number: int,
    gain: tuple[float, ...],
    options: Options,
    *,
    graded: bool,
    mask: Tensor | None = None,
    signals: Tensor | None = None,
) -> SpikingLayer:
    """Return a trained layer in whole numbers.

    Args:
        module: `HybridLinear`.
        number: of the layer; the first one, 0, is shown images.
        gain: fading of the drive [T].
        options: see there.
        graded: whether spikes between layers carry numbers of 8 bits, which fade, too.
        mask: [in, out], 1 where the weight acts, 0 where the trace does; None for both everywhere.
        signals: images, or spikes, that come in for some samples [T, N, in]; None if not known.

    Raises:
        ValueError: if the chip has not its neuron or rule, a parameter is NaN or infinite, or
            weights are so large that the threshold is less than one unit of the potential.
    """
    if type(module) is not HybridLinear:
        raise ValueError(f"{type(module).__name__} has no form on the chip: use HybridLinear")
    if module.norm is not None:
        raise ValueError("a normalised layer cannot be quantised: fold its norm into its weights")
    for name, value in module.state_dict().items():
        if not value.isfinite().all():
            raise ValueError(f"layer {number + 1}: {name} is NaN or infinite: train it anew")
    weight, bits, rule = module.weight.T, options.bits, module.rule
    weight = weight if mask is None else weight * mask
    meta, trace = module.synapse().meta, None
    if meta is not None and options.carried != "none" and module.lifetime != "call":
        trace = meta.local_gain * module.trace
        if options.carried == "folded":
            weight, trace = weight + trace, None
    if trace is not None and not trace.any():
        trace = None
    if not options.local:
        meta = None  # what training left is in the weights, and nothing moves
    # A trace that fades does so in what its cores take in: numbers, not bare spikes. And with these
    # a potential has a unit that is fine enough for scores times post factors.
    numbers = number > 0 and (graded or meta is not None)
    payload = tuple(round(PEAK * g) for g in gain) if numbers else None
    peak = PEAK if payload or not number else 1  # what an input of 1 comes in as
    lagged = None
    if meta is not None:
        if type(rule) is not Hebbian or rule.post in ("softmax", "constant"):
            raise ValueError(f"{rule}: a history needs the Hebbian rule with tanh or identity")
        reach = len(gain) - 1 - options.delay
        if signals is not None and payload is not None:
            signals = signals * torch.tensor(payload).view(-1, 1, 1)
        lags, most = min(reach, options.lags or reach), tianjic().fan_in
        if lags > most and options.carried == "none":
            lags = 0  # a host does without a history
        if lags > most:
            raise ValueError(
                f"layer {number + 1}: a core takes {most} numbers, {lags} lags are more: remember "
                f"fewer, lags={most // 2} for example"
            )
        summed = partial(
            Lagged.of,
            *(rule, meta, module.neuron),
            delay=options.delay,
            mask=mask,
            input_scale=1.0 / peak,
        )
        if lags > 0:
            pairs = None if signals is None else (signals[1:], signals[:-1])
            lagged = summed(lags=lags, pairs=pairs)
    largest = weight if trace is None else torch.stack([weight, trace])
    if not largest.any():  # neurons that bias alone moves: in steps of their threshold
        largest = torch.as_tensor(float(module.neuron.v_th) / PEAK * peak)
    scale = options.headroom * scale_of(largest, bits)
    if lagged is not None and options.carried != "none":
        scale = max(scale, lagged.coarsest * peak)
    static = quantized(weight, scale, bits).to(torch.int8)
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
        assert isinstance(rule, Hebbian)
        local = None if lagged is None else lagged.module(unit, bits, options.delay)
        if trace is not None:
            fading = quantized(trace, scale, bits).to(torch.int8)
            carried = Carried(fading, tuple(rule.trace_decay**t for t in range(len(gain))))
        if options.carried == "none":
            strength = meta.local_gain / scale
            host = HostRule(
                module=summed(lags=1, pairs=None).module(unit, bits, 0),
                start=_start(module),
                trace_decay=rule.trace_decay,
                rate=meta.local_rate * (post_table(rule, module.neuron, unit)[1] / peak),
                gain=strength if mask is None else strength * (1.0 - mask),
                bits=bits,
                clip=rule.trace_clip,
                nominal_batch=rule.nominal_batch,
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
    kept = module.trace.clone()  # which may learn on
    return torch.zeros_like(kept) if module.lifetime == "call" else kept


def integer_soma(neuron: Neuron, unit: float) -> Soma:
    """Return a neuron in whole numbers, of which one is worth `unit`.

    Raises:
        ValueError: if it is not LIF, IF or AdaptiveLIF, or has constants for each neuron.
    """
    if any(value.numel() > 1 for value in tensor_constants(neuron).values()):
        raise ValueError(f"{neuron}: on the chip, all neurons of a layer share their constants")
    if type(neuron) not in (LIF, IF, AdaptiveLIF):  # a subclass may do more than the chip can
        name = type(neuron).__name__
        raise ValueError(f"{name} is no neuron of the chip: use LIF, IF or AdaptiveLIF")
    assert isinstance(neuron, LIF)
    soma = Soma(
        threshold=round(float(neuron.v_th) / unit),
        leak=round(LEAK_STEPS * float(neuron.decay)),
        reset=_RESETS[neuron.reset],
    )
    if not isinstance(neuron, AdaptiveLIF):
        return soma
    return replace(
        soma,
        increment=round(float(neuron.adaptation_gain) / unit),
        increment_leak=round(LEAK_STEPS * float(neuron.adaptation_decay)),
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
    post = getattr(rule, "post", "tanh")
    peak = 4.0 * REACH[post] if post == "identity" else 1.0  # a table's reach, at most
    added = peak * sum(rule.trace_decay**t for t in range(steps))
    return float((_start(module).abs() + added * meta.local_rate.abs().reshape(-1, 1)).max())
