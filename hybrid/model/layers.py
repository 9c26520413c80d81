"""Plastic layers as thin modules over `run_window`: parameters, a stored trace and its lifetime."""

from collections.abc import Callable
from copy import copy
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hybrid.checks import choose
from hybrid.model.built import Built
from hybrid.model.drive import (
    Control,
    Drive,
    Source,
    as_drive,
    checked_source,
    time_first,
)
from hybrid.model.neurons import (
    Neuron,
    is_batched,
    plain,
    tensor_constants,
    without_values,
)
from hybrid.model.parameters import Constants, Kept, Theta, renew_buffers
from hybrid.model.plasticity import LayerState, LocalRule, MetaLocal, Synapse, mapped, plastic_step
from hybrid.model.pooling import POOLS, Pool
from hybrid.model.rules import Rewarded
from hybrid.model.window.choice import Evaluation, Window, run_window
from hybrid.model.window.memories import FinalTrace
from hybrid.model.window.ragged import checked_lengths, run_ragged
from hybrid.model.window.sparse import SparseMask

ThetaForm = Literal["free", "signed", "layer"]
THETA_FORMS: tuple[ThetaForm, ...] = ("free", "signed", "layer")
Lifetime = Literal["call", "carry"]
LIFETIMES: tuple[Lifetime, ...] = ("call", "carry")
SHARED: tuple[Pool, ...] = ("batch", "ranks")  # poolings that leave one trace for all
Answer = Literal["window", "spikes"]
ANSWERS: tuple[Answer, ...] = ("window", "spikes")


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


class HybridLinear(Built):
    """A fully connected spiking layer with a global weight and a local trace at each synapse.

    Args:
        in_features, out_features: layer size.
        neuron: neuron model. Of its constants that are tensors the layer has copies of its own,
            parameters among them: it trains them at the weights' rate.
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
        generator: source of the initial weights and bias; None for torch's own.
        meta_generator: source of the initial θ, so that a layer has the same initial weights with
            and without a rule; None takes `generator`.
        returns: what a call returns: its "window", with the state it ends in; or its "spikes"
            [T, N, out] alone, for `nn.Sequential` and the like.

    The stored trace, and what the rule remembers beside it, change only in training mode, or in
    `forward(..., store=True)`, and by `reset`: evaluation leaves no mark. Gradients never flow
    through what is stored (authors' code).
    """

    # Is told of each window: its drive, the state it starts from, itself, pool, adapt and lengths.
    observer: Callable[[Drive, LayerState, Window, Pool, bool, Tensor | None], None] | None = None
    trace: Tensor
    memory: "Kept | None"  # None: the rule keeps nothing

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        neuron: Neuron,
        rule: LocalRule | None,
        generator: torch.Generator | None = None,
        meta_generator: torch.Generator | None = None,
        bias: bool = True,
        lifetime: Lifetime = "carry",
        pool: Pool = "batch",
        initial_meta: InitialMeta = InitialMeta.up_to(0.01),  # noqa: B008 (immutable)
        nonnegative_rate: bool = False,
        normalise: bool = False,
        theta_form: ThetaForm = "free",
        returns: Answer = "window",
    ) -> None:
        super().__init__()
        choose("lifetime", lifetime, LIFETIMES)
        choose("theta_form", theta_form, THETA_FORMS)
        choose("returns", returns, ANSWERS)
        choose("pool", pool, POOLS)
        if not all(low <= high for low, high in initial_meta):
            raise ValueError(f"{initial_meta}: give pairs (low, high) with low <= high")
        if pool not in SHARED and lifetime != "call":
            raise ValueError(
                f"pool = {pool!r} keeps one trace per sample, which cannot outlive a call: "
                f"use lifetime='call' instead of {lifetime!r}, or pool='batch'"
            )
        self.in_features, self.out_features = in_features, out_features
        self.rule, self.lifetime, self.pool, self.returns = rule, lifetime, pool, returns
        self.nonnegative_rate, self.theta_form = nonnegative_rate, theta_form
        self._neuron, constants = neuron, tensor_constants(neuron)
        for name, value in constants.items():
            if tuple(value.shape) not in ((), (1,), (out_features,)):
                raise ValueError(
                    f"{type(neuron).__name__}.{name} has shape {list(value.shape)}: give one value "
                    f"for the layer, or one for each of its {out_features} neurons"
                )
        if constants:
            self.constants = Constants(constants)

        if normalise and rule is not None:
            raise ValueError("normalise = True is for layers without a local rule")
        self.norm = nn.BatchNorm1d(out_features) if normalise else None
        if self.norm is not None:
            with torch.no_grad():
                self.norm.weight.copy_(torch.as_tensor(neuron.v_th))

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
            self.register_load_state_dict_pre_hook(renew_buffers)
            begun = rule.begun(self.weight.detach())
            self.memory = None if begun is None else Kept(begun)

    @property
    def neuron(self) -> Neuron:
        """The neuron model, with the present values of its trained constants."""
        constants: Constants | None = self._modules.get("constants")  # type: ignore[assignment]
        return self._neuron if constants is None else constants.of(self._neuron, self.weight.dtype)

    def extra_repr(self) -> str:
        """Return what `print` shows of the layer."""
        parts = [f"{self.in_features} -> {self.out_features}", f"neuron={_short(self._neuron)}"]
        parts.append(f"rule={self.rule}")
        if self.rule is not None:
            parts += [f"lifetime={self.lifetime!r}", f"pool={self.pool!r}"]
        return ",\n".join(parts)

    def reset(self) -> None:
        """Forget: the stored trace, and what the rule remembers, are as at the beginning."""
        if self.rule is not None:
            self._store(LayerState(trace=torch.zeros_like(self.trace)), begun=True)

    def reward(self, reward: float) -> None:
        """Turn what the stored tags hold into trace, see `Rewarded`.

        Raises:
            ValueError: in evaluation, which leaves no tags; before any tag; or for another rule.
        """
        if not isinstance(self.rule, Rewarded) or self.lifetime == "call":
            raise ValueError(
                "a reward needs a rule Rewarded(rule=...) and lifetime='carry'; of states that are "
                "handed on by hand, Rewarded.reward"
            )
        if not self.training:
            raise ValueError("a reward in evaluation, which leaves no tags: call train() first")
        self._store(self.rule.reward(self.stored(), reward))

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
        memory = None if self.memory is None else self.memory.value()
        return LayerState(trace=self.trace, eligibility=memory)

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
        lengths: Tensor | None = None,
        batch_first: bool = False,
    ) -> Window | Tensor:
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
            lengths: steps of each sample [N], if they end at different steps, see `run_ragged`.
            batch_first: whether a tensor is [N, T, in], as of a DataLoader.

        Returns:
            The window, or its spikes, see `returns`. Its `final.trace` is None where the layer has
            no use for it: to go on from it, give a `start` from the first window on.

        Raises:
            ValueError: if `store` is asked for where there is no single trace to store, `start`
                lacks its trace, or as of `run_window`.
        """
        pool = pool or self.pool
        can_store = self._can_store(pool, adapt)
        if store and not can_store:
            raise ValueError(
                "store=True needs a rule, lifetime='carry', pool='batch' or 'ranks', and "
                "adapt=True: nothing else leaves one trace for all samples"
            )
        if pool == "ranks" and lengths is not None:
            raise ValueError("lengths: processes whose samples end at other steps would not meet")
        store = can_store and (self.training if store is None else store)
        if store and pool == "batch" and dist.is_initialized() and dist.get_world_size() > 1:
            raise ValueError(
                "pool = 'batch' would leave each process a trace of its own samples, of which only "
                "one survives: use pool='ranks', which is the whole batch's, or lifetime='call'"
            )
        if self.rule is not None and start is not None and start.neuron and start.trace is None:
            raise ValueError(
                "start: a state without its trace, which its window did not build; begin with "
                "start=layer.stored(), or network.stored(), and hand on what each window ends in"
            )
        if lengths is not None and self.norm is not None:
            raise ValueError("lengths: a normalised layer needs all samples at every step")
        source = time_first(source) if batch_first else source
        drive = as_drive(checked_source(source, self.in_features, once=False))
        sparse, dense = (mask, None) if isinstance(mask, SparseMask) else (None, mask)

        def run(drive: Drive, start: LayerState, final_trace: FinalTrace = "graph") -> Window:
            return self._window(
                drive,
                start,
                synapse=self.synapse(dense),
                pool=pool,
                evaluation=evaluation,
                adapt=adapt,
                final_trace=final_trace,
                sparse_mask=sparse,
                control=self._control(control),
            )

        begin = self.stored() if start is None else start
        samples = drive.shape[0]
        if lengths is not None:
            lengths = checked_lengths(torch.as_tensor(lengths), samples, drive.steps)
        if lengths is not None and samples:
            window = run_ragged(run, drive, lengths, begin)
        else:
            final: FinalTrace = "graph" if start is not None else "values" if store else "none"
            window = run(drive, begin, final)
        if self.observer is not None:
            self.observer(drive, begin, window, pool, adapt, lengths)
        if store:
            self._store(window.final)
        return window if self.returns == "window" else window.z

    def _window(self, drive: Drive, start: LayerState, *, synapse: Synapse, **how: Any) -> Window:
        """Run a window, see `run_window`."""
        return run_window(drive, synapse, self.neuron, self.rule, start, **how)

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
            self._store(state)

    def _can_store(self, pool: Pool, adapt: bool) -> bool:
        return self.rule is not None and self.lifetime != "call" and pool in SHARED and adapt

    def _store(self, state: LayerState, *, begun: bool = False) -> None:
        assert self.rule is not None
        if state.trace is not None:
            self.trace = self._kept(state.trace)
        if self.memory is None:
            return
        if begun:
            self.memory.store(self.rule.begun(self.weight.detach()))
        elif state.eligibility is not None:
            self.memory.store(mapped(self._kept, self.rule.lasting(state.eligibility)))

    def _kept(self, value: Tensor) -> Tensor:
        # One memory layout, so that a run resumed from disk repeats the same bits; and the
        # precision of the weights, whatever the window was computed in.
        kept = value.detach()
        kept = kept.to(self.weight.dtype) if kept.is_floating_point() else kept
        kept = plain(kept.contiguous())
        memory = () if self.memory is None else self.memory.buffers()
        held = [plain(own) for own in (self.trace, *memory)]
        if without_values() and is_batched(kept) and not all(map(is_batched, held)):
            raise ValueError(
                "training under vmap would leave a trace of each call in one layer: give "
                "functional_call the buffers of each, or call eval(), or use lifetime='call'"
            )
        if not without_values() and kept.is_inference():  # could never be trained with
            with torch.inference_mode(mode=False):
                kept = kept.clone()
        return kept


def _short(neuron: Neuron) -> str:
    """Return a neuron in words, its tensors by their shape."""
    tensors = {
        name: f"{'trained' if isinstance(value, nn.Parameter) else 'given'} {list(value.shape)}"
        for name, value in tensor_constants(neuron).items()
    }
    shown = copy(neuron)
    for name, text in tensors.items():
        object.__setattr__(shown, name, text)
    return repr(shown)


def uniform_parameter(fan_in: int, generator: torch.Generator | None, *shape: int) -> nn.Parameter:
    """Return a parameter drawn as those of torch's own linear layer."""
    bound = fan_in**-0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))
