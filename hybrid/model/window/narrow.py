"""The recurrent evaluation by hand for narrow layers, such as a read-out of ten neurons.

A narrow layer has little arithmetic: autograd spends its time on bookkeeping of many small steps.
This is the same mathematics as `RecurrentTrace` for LIF neurons, a Hebbian tanh rule and
one shared trace, with its backward pass written out:

    v_t = b + x_t E_tᵀ + decay · (v_{t-1} - v_th z_{t-1}),   E_t = W + gain · P_tᵀ
    y_t = sign · tanh(v_t / v_th - threshold)
    Q_t = λ P_t + w · rate ∘ (x_tᵀ y_t),                     P_{t+1} = clip(Q_t)

Traces and their gradients are kept as [out, in] here, the layout of the weights. Differentiable
once; with a mask, another neuron or rule, or a gain per synapse, autograd does the work instead.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hybrid.model.neurons import LIF, Neuron, NeuronState, Surrogate
from hybrid.model.plasticity import NARROW, Hebbian, LayerState, LocalRule, Pool, Synapse


class _Constants(NamedTuple):
    """All numbers of a window that no gradient reaches."""

    decay: float
    v_th: float
    surrogate: Surrogate
    trace_decay: float
    clip: float
    sign: int
    steps: int


def applies(
    synapse: Synapse, neuron: Neuron, rule: LocalRule, pool: Pool, start: LayerState
) -> bool:
    """Return whether `run` can evaluate this layer."""
    return (
        synapse.weight.shape[0] < NARROW
        and synapse.mask is None
        and synapse.meta is not None
        and synapse.meta.local_gain.ndim == 0
        and type(neuron) is LIF  # a subclass may behave differently
        and neuron.reset == "subtract"
        and type(rule) is Hebbian
        and rule.post == "tanh"
        and pool == "batch"
        and start.neuron is None
        and not torch.is_autocast_enabled(synapse.weight.device.type)
    )


def run(
    xs: tuple[Tensor, ...], synapse: Synapse, neuron: Neuron, rule: LocalRule, trace: Tensor | None
) -> tuple[tuple[NeuronState, ...], Tensor]:
    """Run a window and return its neuron states and its final trace [in, out]."""
    assert synapse.meta is not None
    assert isinstance(neuron, LIF)
    assert isinstance(rule, Hebbian)
    clip = float("inf") if rule.trace_clip is None else rule.trace_clip
    steps = len(xs)
    constants = _Constants(
        neuron.decay, neuron.v_th, neuron.surrogate, rule.trace_decay, clip, rule.sign, steps
    )
    bias = (
        synapse.weight.new_zeros(synapse.weight.shape[0]) if synapse.bias is None else synapse.bias
    )
    initial = torch.zeros_like(synapse.weight) if trace is None else trace.mT
    parameters = (synapse.weight, bias, *synapse.meta, initial)
    *activity, final = _NarrowWindow.apply(constants, *parameters, *xs)
    pairs = zip(activity[:steps], activity[steps:], strict=True)
    return tuple(NeuronState(v, z) for v, z in pairs), final.mT


class _NarrowWindow(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        constants: _Constants,
        weight: Tensor,
        bias: Tensor,
        gain: Tensor,
        rate: Tensor,
        threshold: Tensor,
        trace: Tensor,
        *xs: Tensor,
    ) -> tuple[Tensor, ...]:
        c, share = constants, 1.0 / xs[0].shape[0]
        column, shift = bias.unsqueeze(-1), -threshold
        vs: list[Tensor] = []
        zs: list[Tensor] = []
        ys: list[Tensor] = []
        traces = [trace]
        unclipped: list[Tensor] = []
        for t, x in enumerate(xs):
            v = torch.addmm(column, torch.addcmul(weight, gain, traces[t]), x.mT).mT
            if t:
                v = torch.add(v, torch.sub(vs[-1], zs[-1], alpha=c.v_th), alpha=c.decay)
            y = torch.add(shift, v, alpha=1.0 / c.v_th).tanh_()
            y = y if c.sign == 1 else y.neg_()
            moved = torch.addcmul(c.trace_decay * traces[t], y.mT @ x, rate, value=share)
            vs.append(v)
            zs.append(torch.gt(v, c.v_th, out=torch.empty_like(v)))
            ys.append(y)
            unclipped.append(moved)
            traces.append(moved.clamp(-c.clip, c.clip))
        ctx.save_for_backward(weight, gain, rate, *xs, *vs, *ys, *traces[:-1], *unclipped)
        ctx.constants = c
        ctx.set_materialize_grads(False)
        return (*vs, *zs, traces[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        c: _Constants = ctx.constants
        weight, gain, rate, *saved = ctx.saved_tensors
        xs, vs, ys, traces, unclipped = (saved[i * c.steps : (i + 1) * c.steps] for i in range(5))
        share = 1.0 / xs[0].shape[0]
        d_trace = grads[-1]  # with respect to P_{t+1}
        d_carried: Tensor | None = None  # with respect to v_t - v_th z_t
        d_weight, d_gain = torch.zeros_like(weight), torch.zeros_like(gain)
        d_rate, d_current = torch.zeros_like(weight), torch.zeros_like(vs[0])
        d_shift = torch.zeros_like(vs[0])
        d_xs: list[Tensor] = []
        wants_x = any(ctx.needs_input_grad[-c.steps :])
        for t in range(c.steps - 1, -1, -1):
            x, y, given = xs[t], ys[t], grads[t]
            dv = torch.zeros_like(y) if given is None else given.clone()
            dz, d_x = grads[c.steps + t], None
            if d_trace is not None:
                d_moved = d_trace * (unclipped[t].abs() <= c.clip)
                d_rate.addcmul_(d_moved, y.mT @ x, value=share)
                d_outer = share * (d_moved * rate)  # with respect to yᵀ x
                dy = (d_outer @ x.mT).mT
                d_x = y @ d_outer if wants_x else None
                inner = torch.ops.aten.tanh_backward(dy if c.sign == 1 else -dy, y)
                d_shift.add_(inner)
                dv.add_(inner, alpha=1.0 / c.v_th)
                d_trace = c.trace_decay * d_moved
            if d_carried is not None:
                dv.add_(d_carried)
                spent = -c.v_th * d_carried
                dz = spent if dz is None else dz + spent
            if dz is not None:
                dv.add_(c.surrogate.backward(dz, vs[t], c.v_th))
            d_hybrid = dv.mT @ x
            d_weight.add_(d_hybrid)
            d_gain.add_((d_hybrid * traces[t]).sum())
            d_trace = gain * d_hybrid if d_trace is None else torch.addcmul(d_trace, gain, d_hybrid)
            if wants_x:
                hybrid = torch.addcmul(weight, gain, traces[t])
                d_xs.append(dv @ hybrid if d_x is None else torch.addmm(d_x, dv, hybrid))
            d_current.add_(dv)
            d_carried = c.decay * dv
        d_rate = d_rate.sum(0) if rate.ndim else d_rate.sum()
        return (
            None,
            d_weight,
            d_current.sum(0),
            d_gain,
            d_rate,
            -d_shift.sum(0),
            d_trace,
            *(reversed(d_xs) if wants_x else [None] * c.steps),
        )
