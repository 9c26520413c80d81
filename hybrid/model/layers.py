"""Plastic layers as thin modules over `run_window`: parameters, a stored trace and its lifetime."""

from typing import Literal

import torch
from torch import Tensor, nn

from hybrid.model.coding import Drive
from hybrid.model.neurons import Neuron
from hybrid.model.plasticity import LayerState, LocalRule, MetaLocal, Pool, Synapse
from hybrid.model.windows import Evaluation, Window, run_window

Lifetime = Literal["call", "task", "carry"]
LIFETIMES: tuple[Lifetime, ...] = ("call", "task", "carry")


class HybridLinear(nn.Module):
    """A fully connected spiking layer with a global weight and a local trace at each synapse.

    Args:
        in_features, out_features: layer size.
        neuron: neuron model.
        rule: local rule; None gives a layer that learns by gradients alone (GP).
        bias: whether the neurons have a bias.
        lifetime: how long the trace lives. "call": it starts at zero in each call. "task": it is
            carried from call to call until `begin_task`. "carry": it is carried for good.
        pool: how a batch shares the trace, see `Pooling.of`; "sample" and "stream" keep traces
            per sample, which only a "call" lifetime can hold.
        initial_meta: each θ is drawn from U(0, initial_meta), the authors' initialisation.
        generator: source of the initial weights and bias.
        meta_generator: source of the initial θ, so that a layer has the same initial weights with
            and without a rule; None takes `generator`.

    The stored trace changes only in training mode, or in `forward(..., store=True)`: evaluation
    leaves no mark. Gradients never flow through the stored trace (authors' code).
    """

    trace: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        neuron: Neuron,
        rule: LocalRule | None,
        generator: torch.Generator,
        meta_generator: torch.Generator | None = None,
        bias: bool = True,
        lifetime: Lifetime = "carry",
        pool: Pool = "batch",
        initial_meta: float = 0.01,
    ) -> None:
        super().__init__()
        if lifetime not in LIFETIMES:
            names = ", ".join(LIFETIMES)
            raise ValueError(f"lifetime = {lifetime!r}: choose one of {names}")
        if pool != "batch" and lifetime != "call":
            raise ValueError(
                f"pool = {pool!r} keeps one trace per sample, which cannot outlive a call: "
                f"use lifetime='call' instead of {lifetime!r}, or pool='batch'"
            )
        self.neuron, self.rule, self.lifetime, self.pool = neuron, rule, lifetime, pool

        def global_values(*shape: int) -> nn.Parameter:
            bound = in_features**-0.5  # as torch's own linear layer
            return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))

        def meta_values(*shape: int) -> nn.Parameter:
            source = meta_generator or generator
            return nn.Parameter(torch.empty(shape).uniform_(0.0, initial_meta, generator=source))

        self.weight = global_values(out_features, in_features)
        self.bias = global_values(out_features) if bias else None
        if rule is not None:
            self.local_gain = meta_values()
            self.local_rate = meta_values(in_features)
            self.sliding_threshold = meta_values(out_features)
            self.register_buffer("trace", torch.zeros(in_features, out_features))

    def synapse(self, mask: Tensor | None = None) -> Synapse:
        """Return the layer's synapses, with an optional mask [in, out] for the global weights."""
        meta = None
        if self.rule is not None:
            meta = MetaLocal(self.local_gain, self.local_rate, self.sliding_threshold)
        return Synapse(self.weight, self.bias, meta, mask)

    def stored(self) -> LayerState:
        """Return the state that a call starts from: at rest, with the stored trace if it lives."""
        if self.rule is None or self.lifetime == "call":
            return LayerState()
        return LayerState(trace=self.trace)

    def forward(
        self,
        drive: Drive,
        start: LayerState | None = None,
        *,
        mask: Tensor | None = None,
        pool: Pool | None = None,
        evaluation: Evaluation = "auto",
        adapt: bool = True,
        store: bool | None = None,
    ) -> Window:
        """Run a window of T steps.

        Args:
            drive: `Static` value [N, in] or T tensors [N, in].
            start: state to start from; None for `stored()`.
            mask: [in, out], 1 where the global weight acts, 0 where the trace does.
            pool: overrides the layer's own, for example at test time.
            evaluation, adapt: see `run_window`.
            store: whether the final trace becomes the stored one; None means in training mode.

        Returns:
            The window. Its `final.trace` is None where the layer has no use for it.

        Raises:
            ValueError: if `store` is asked for where there is no single trace to store, or as
                of `run_window`.
        """
        pool = pool or self.pool
        can_store = self.rule is not None and self.lifetime != "call" and pool == "batch" and adapt
        if store and not can_store:
            raise ValueError(
                "store=True needs a rule, a lifetime of 'task' or 'carry', pool='batch' and "
                "adapt=True: nothing else leaves one trace for all samples"
            )
        store = can_store and (self.training if store is None else store)
        window = run_window(
            drive,
            self.synapse(mask),
            self.neuron,
            self.rule,
            self.stored() if start is None else start,
            pool=pool,
            evaluation=evaluation,
            adapt=adapt,
            final_trace=store or start is not None,
        )
        if store and window.final.trace is not None:
            # One memory layout, so that a run resumed from disk repeats the same bits.
            self.trace = window.final.trace.detach().contiguous()
        return window

    def begin_task(self) -> None:
        """Clear the trace if its lifetime is one task."""
        if self.rule is not None and self.lifetime == "task":
            self.trace = torch.zeros_like(self.trace)
