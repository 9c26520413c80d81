"""Plastic layers as thin modules over `run_window`: parameters, a stored trace and its lifetime."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from hybrid.checks import choose
from hybrid.model.drive import Control, Source, checked_source, time_first
from hybrid.model.neurons import Neuron
from hybrid.model.plasticity import LayerState, LocalRule, MetaLocal, Pool, Synapse, plastic_step
from hybrid.model.window.choice import Evaluation, Window, run_window
from hybrid.model.window.sparse import SparseMask

ThetaForm = Literal["free", "signed", "layer"]
THETA_FORMS: tuple[ThetaForm, ...] = ("free", "signed", "layer")
Lifetime = Literal["call", "carry"]
LIFETIMES: tuple[Lifetime, ...] = ("call", "carry")


class Theta(nn.Module):
    """θ, the meta-local parameters of a layer, by name: what training tells from weights."""

    local_gain: nn.Parameter
    local_rate: nn.Parameter
    sliding_threshold: nn.Parameter
    mixing: nn.Parameter  # of the few-shot read-out, in the place of the local gain

    def __init__(self, **values: Tensor) -> None:
        super().__init__()
        for name, value in values.items():
            self.register_parameter(name, nn.Parameter(value))


def meta_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Return the trained meta-local parameters θ of all layers of a network."""
    layers = [module for module in network.modules() if isinstance(module, Theta)]
    return [p for theta in layers for p in theta.parameters() if p.requires_grad]


def weight_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Return the trained global parameters of a network: all that are not θ."""
    theta = {id(p) for p in meta_parameters(network)}
    return [p for p in network.parameters() if p.requires_grad and id(p) not in theta]


class InitialMeta(NamedTuple):
    """Where the meta-local parameters start: each is drawn from U(low, high)."""

    local_gain: tuple[float, float]
    local_rate: tuple[float, float]
    sliding_threshold: tuple[float, float]

    @classmethod
    def up_to(cls, high: float) -> "InitialMeta":
        """Return U(0, high) for all three, the authors' fully connected networks."""
        return cls((0.0, high), (0.0, high), (0.0, high))


class HybridLinear(nn.Module):
    """A fully connected spiking layer with a global weight and a local trace at each synapse.

    Args:
        in_features, out_features: layer size.
        neuron: neuron model.
        rule: local rule; None gives a layer that learns by gradients alone (GP).
        bias: whether the neurons have a bias.
        lifetime: how long the trace lives. "call": it starts at zero in each call. "carry": it is
            carried from call to call.
        pool: how a batch shares the trace, see `Pooling.of`; "sample" and "stream" keep traces
            per sample, which only a "call" lifetime can hold.
        initial_meta: distribution of the initial θ.
        nonnegative_rate: whether negative local rates act as zero (authors' Fashion-MNIST
            convolutional network).
        normalise: whether weighted inputs pass a batch normalisation, whose initial scale is the
            threshold (Zheng et al., AAAI 2021); of layers without a rule.
        theta_form: "free"; "signed": |local_gain| and |local_rate| act, so that the rule's sign
            alone says which way traces move; "layer": one local rate for all inputs.
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
        initial_meta: InitialMeta = InitialMeta.up_to(0.01),  # noqa: B008 (immutable)
        nonnegative_rate: bool = False,
        normalise: bool = False,
        theta_form: ThetaForm = "free",
    ) -> None:
        super().__init__()
        choose("lifetime", lifetime, LIFETIMES)
        choose("theta_form", theta_form, THETA_FORMS)
        if not all(low <= high for low, high in initial_meta):
            raise ValueError(f"{initial_meta}: give pairs (low, high) with low <= high")
        if pool != "batch" and lifetime != "call":
            raise ValueError(
                f"pool = {pool!r} keeps one trace per sample, which cannot outlive a call: "
                f"use lifetime='call' instead of {lifetime!r}, or pool='batch'"
            )
        self.neuron, self.rule, self.lifetime, self.pool = neuron, rule, lifetime, pool
        self.nonnegative_rate, self.theta_form = nonnegative_rate, theta_form

        if normalise and rule is not None:
            raise ValueError("normalise = True is for layers without a local rule")
        self.norm = nn.BatchNorm1d(out_features) if normalise else None
        if self.norm is not None:
            nn.init.constant_(self.norm.weight, neuron.v_th)

        self.weight = uniform_parameter(in_features, generator, out_features, in_features)
        self.bias = uniform_parameter(in_features, generator, out_features) if bias else None
        if rule is not None:
            source = meta_generator or generator

            def drawn(bounds: tuple[float, float], *shape: int) -> Tensor:
                return torch.empty(shape).uniform_(*bounds, generator=source)

            self.theta = Theta(
                local_gain=drawn(initial_meta.local_gain),
                local_rate=drawn(
                    initial_meta.local_rate, *(() if theta_form == "layer" else (in_features,))
                ),
                sliding_threshold=drawn(initial_meta.sliding_threshold, out_features),
            )
            self.register_buffer("trace", torch.zeros(in_features, out_features))

    def synapse(self, mask: Tensor | None = None) -> Synapse:
        """Return the layer's synapses, with an optional mask [in, out] for the global weights."""
        meta = None
        if self.rule is not None:
            gain: Tensor = self.theta.local_gain
            rate: Tensor = self.theta.local_rate
            if self.nonnegative_rate:
                rate = rate.clamp(min=0.0)
            elif self.theta_form == "signed":
                gain, rate = gain.abs(), rate.abs()
            elif self.theta_form == "layer":
                rate = rate.expand(self.weight.shape[1])
            meta = MetaLocal(gain, rate, self.theta.sliding_threshold)
        return Synapse(self.weight, self.bias, meta, mask)

    def stored(self) -> LayerState:
        """Return the state that a call starts from: at rest, with the stored trace if it lives."""
        if self.rule is None or self.lifetime == "call":
            return LayerState()
        return LayerState(trace=self.trace)

    def forward(
        self,
        source: Source,
        start: LayerState | None = None,
        *,
        mask: Tensor | SparseMask | None = None,
        pool: Pool | None = None,
        evaluation: Evaluation = "auto",
        adapt: bool = True,
        store: bool | None = None,
        control: Control | None = None,
        batch_first: bool = False,
    ) -> Window:
        """Run a window of T steps.

        Args:
            source: a drive, or T tensors [N, in].
            start: state to start from; None for `stored()`.
            mask: [in, out], 1 where the global weight acts, 0 where the trace does; where it has
                few ones, a sparse one is faster.
            pool: overrides the layer's own, for example at test time.
            evaluation, adapt: see `run_window`.
            store: whether the final trace becomes the stored one; None means in training mode.
            control: see `run_window`; it comes before a normalisation.
            batch_first: whether a tensor is [N, T, in], as of a DataLoader.

        Returns:
            The window. Its `final.trace` is None where the layer has no use for it.

        Raises:
            ValueError: if `store` is asked for where there is no single trace to store, or as
                of `run_window`.
        """
        pool = pool or self.pool
        can_store = self._can_store(pool, adapt)
        if store and not can_store:
            raise ValueError(
                "store=True needs a rule, lifetime='carry', pool='batch' and "
                "adapt=True: nothing else leaves one trace for all samples"
            )
        store = can_store and (self.training if store is None else store)
        source = time_first(source) if batch_first else source
        source = checked_source(source, self.weight.shape[1], once=False)
        sparse, dense = (mask, None) if isinstance(mask, SparseMask) else (None, mask)
        window = run_window(
            source,
            self.synapse(dense),
            self.neuron,
            self.rule,
            self.stored() if start is None else start,
            pool=pool,
            evaluation=evaluation,
            adapt=adapt,
            final_trace="graph" if start is not None else "values" if store else "none",
            sparse_mask=sparse,
            control=self._control(control),
        )
        if store:
            self._store(window.final.trace)
        return window

    def step(
        self, x: Tensor, state: LayerState, *, pool: Pool | None = None, adapt: bool = True
    ) -> LayerState:
        """One step, for networks whose layers advance together; see `plastic_step`.

        Args:
            x: input [N, in].
            state: state after the previous step; `stored()` to begin with.
            pool: overrides the layer's own.
            adapt: False freezes the trace.
        """
        if self.norm is not None:
            raise ValueError("a normalised layer runs whole windows, not single steps")
        rule = self.rule if adapt else None
        return plastic_step(x, state, self.synapse(), self.neuron, rule, pool or self.pool)

    def _control(self, control: Control | None) -> Control | None:
        """Return what weighted inputs pass on their way to the neurons."""
        norm = self.norm
        if norm is None or control is None:
            return control if norm is None else norm
        return lambda read: norm(control(read))

    def finish(self, state: LayerState, *, pool: Pool | None = None, adapt: bool = True) -> None:
        """End a window of single steps: in training mode, keep its trace as `forward` would."""
        if self.training and self._can_store(pool or self.pool, adapt):
            self._store(state.trace)

    def _can_store(self, pool: Pool, adapt: bool) -> bool:
        return self.rule is not None and self.lifetime != "call" and pool == "batch" and adapt

    def _store(self, trace: Tensor | None) -> None:
        if trace is not None:
            # One memory layout, so that a run resumed from disk repeats the same bits; and the
            # precision of the weights, whatever the window was computed in.
            kept = trace.detach().to(self.weight.dtype).contiguous()
            if kept.is_inference():  # could never be trained with
                with torch.inference_mode(mode=False):
                    kept = kept.clone()
            self.trace = kept


def uniform_parameter(fan_in: int, generator: torch.Generator, *shape: int) -> nn.Parameter:
    """Return a parameter drawn as those of torch's own linear layer."""
    bound = fan_in**-0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))
