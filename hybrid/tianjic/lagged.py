"""A trained local rule as sums over lags, in numbers of 8 bits and powers of four.

What the rule makes of a potential, a tanh, becomes a table. Scales of rates and entries of tables
are chosen so that scores times post factors are in units of the potential, and nothing has to be
rescaled but by a cut.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hybrid.model.neurons import LIF, Neuron
from hybrid.model.plasticity import Hebbian, MetaLocal
from hybrid.tianjic.chip import tianjic
from hybrid.tianjic.fixed import PEAK, quantized, scale_of
from hybrid.tianjic.history import DECAY_CUT, LocalModule
from hybrid.tianjic.primitives import LARGEST_CUT, cut_for
from hybrid.tianjic.soma import SoftMaximum, Table

# How far tables reach, in units of what they are of: a tanh is flat there, a share next to nothing.
REACH = {"tanh": 3.0, "identity": 4.0, "softmax": 8.0}


@dataclass(frozen=True, kw_only=True)
class Lagged:
    """A trained local module, as sums over lags.

    Args:
        rule, neuron: say what is made of a potential.
        gain: of the local current.
        rate: weights of products of inputs [in], or of each synapse [in, out].
        decays: of lags.
        thresholds: subtracted from potentials, in units of the neuron's threshold [out].
        input_scale: what one unit of an input is worth: 1 for spikes.
        largest: score, of those expected.
    """

    rule: Hebbian
    neuron: LIF
    gain: float
    rate: Tensor
    decays: Tensor
    thresholds: Tensor
    input_scale: float
    largest: float

    @classmethod
    def of(
        cls,
        rule: Hebbian,
        meta: MetaLocal,
        neuron: Neuron,
        *,
        delay: int,
        mask: Tensor | None,
        lags: int,
        input_scale: float,
        pairs: tuple[Tensor, Tensor] | None,
    ) -> "Lagged":
        """Return the lags of a layer.

        Args:
            rule, meta, neuron: trained rule, parameters, neuron.
            delay: newest steps that are left out.
            mask: [in, out], the share of the weight; that of the trace is 1 - mask. None for 1
                both.
            lags: steps that are remembered.
            input_scale: see the class.
            pairs: inputs in whole numbers now and then [*, in], from which the range of scores is
                taken; None for all that could come in.
        """
        assert isinstance(neuron, LIF)
        rate = meta.local_rate.double()
        if mask is not None:
            rate = (1.0 - mask).double() * rate.unsqueeze(-1)
        ages = delay + torch.arange(lags, dtype=torch.float64)
        return cls(
            rule=rule,
            neuron=neuron,
            gain=float(meta.local_gain),
            rate=rate,
            decays=rule.trace_decay**ages,
            thresholds=meta.sliding_threshold,
            input_scale=input_scale,
            largest=_largest_score(rate, input_scale, pairs),
        )

    @property
    def coarsest(self) -> float:
        """The least unit of a potential for which the largest score fits."""
        worth = 4.0 * REACH["identity"] if self.rule.post == "identity" else 1.0
        most = PEAK * PEAK * (tianjic().fan_in // len(self.decays))
        return self.largest * abs(self.gain) * worth / most

    def module(self, unit: float, bits: int, delay: int) -> LocalModule:
        """Return the local module in whole numbers, if a unit of the potential is worth so much."""
        table, worth, argument_cut = post_table(self.rule, self.neuron, unit)
        # Products of two inputs have 14 bits, or 1; a cut by 4^4 leaves 6 and never overflows 8.
        input_cut = 0 if self.input_scale == 1.0 else 4
        product = self.input_scale**2 * 4.0**input_cut
        # Scores times post factors are added to potentials as they are, or several times: their
        # units must agree, and the largest score must fit.
        score = unit / (worth * abs(self.gain)) if self.gain else math.inf
        most = tianjic().fan_in // len(self.decays)
        times = max(1, min(math.ceil(self.largest / (PEAK * score)), most))
        score *= times
        rate, decays = self.rate * math.copysign(1.0, self.gain), self.decays
        if rate.ndim == 2:
            rate, decays = decays.view(-1, 1, 1) * rate, torch.ones_like(decays)
        least, score_cut = scale_of(rate, bits) * product, 0
        while 4.0 ** (score_cut + 1) * least <= score and score_cut < LARGEST_CUT:
            score_cut += 1
        scale = score / (product * 4.0**score_cut)
        weights = quantized(rate, scale, bits) if self.gain else torch.zeros_like(rate)
        v_th = 1.0 if self.rule.post == "softmax" else float(self.neuron.v_th)
        return LocalModule(
            weights=weights.to(torch.int8),
            decays=(decays * 4.0**DECAY_CUT).round().long(),
            table=table,
            thresholds=quantized(self.thresholds * v_th, unit, tianjic().potential_bits),
            argument_cut=argument_cut,
            input_cut=input_cut,
            score_cut=score_cut,
            times=times,
            delay=delay,
        )


def _largest_score(rate: Tensor, input_scale: float, pairs: tuple[Tensor, Tensor] | None) -> float:
    """Return the largest Σ_i rate[i] · x[i] · x'[i] of pairs of inputs, or its bound for any."""
    if pairs is None:
        most = 1.0 if input_scale == 1.0 else PEAK * input_scale
        return float(rate.abs().sum(0).max()) * most**2
    now, then = (x.flatten(0, -2).double() * input_scale for x in pairs)
    return float(((now * then) @ rate).abs().max())


def post_table(
    rule: Hebbian, neuron: Neuron, unit: float
) -> tuple[Table | SoftMaximum, float, int]:
    """Return the post factor as a table of potentials.

    Args:
        rule: says which function it is.
        neuron: whose threshold potentials are measured in, but for shares.
        unit: what one unit of the potential is worth.

    Returns:
        The table; what one unit of its entries is worth; the cut from potentials to addresses.
    """
    assert isinstance(neuron, LIF)
    v_th = 1.0 if rule.post == "softmax" else float(neuron.v_th)
    addresses = 2 * PEAK + 1 if rule.post == "softmax" else PEAK
    n = cut_for(REACH[rule.post] * v_th / (addresses * unit))
    step = unit * 4.0**n / v_th  # of the argument, from one address to the next
    if rule.post == "softmax":
        return SoftMaximum(step), 1.0 / PEAK, n
    if rule.post == "tanh":
        return tanh_table(step, rule.sign), 1.0 / PEAK, n
    steps = torch.arange(-128, 128).clamp(-PEAK, PEAK)
    return Table(tuple((rule.sign * steps).tolist())), step, n


def tanh_table(step: float, sign: int = 1) -> Table:
    """Return ± 127 · tanh(i · step), flat at its ends if these are next to ± 127."""
    values = (PEAK * torch.tanh(step * torch.arange(-128, 128).double())).round().int()
    values[values.abs() >= PEAK - 1] = (PEAK * values[values.abs() >= PEAK - 1].sign()).int()
    return Table(tuple((sign * values).tolist()))
