"""A layer over a whole window of T steps, with two exact ways to evaluate the local current.

*recurrent* keeps the trace P and updates it at every step. *factored* never builds P inside the
window: it uses that a trace is a sum of outer products,

    x_t P_t = λ^t (x_t P_0) + w Σ_{s<t} λ^{t-1-s} (x_t (local_rate ∘ x_s)ᵀ) y_s ,

so that only products between inputs (a Gram matrix) and a short history of y are needed. For a
`Static` drive x_t = c_t x one Gram matrix and one product x W serve the whole window. Both give
the same numbers and the same gradients up to rounding.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from hybrid.model import narrow
from hybrid.model.coding import Drive, Static
from hybrid.model.neurons import Neuron, NeuronState
from hybrid.model.plasticity import (
    Eligibility,
    Hebbian,
    LayerState,
    LocalRule,
    Pool,
    Pooling,
    Synapse,
    contract,
    global_weight,
    hybrid_weight,
    synaptic_current,
    update_trace,
)

Evaluation = Literal["auto", "recurrent", "factored"]
EVALUATIONS: tuple[Evaluation, ...] = ("auto", "recurrent", "factored")


class Window(NamedTuple):
    """A layer's activity over T steps and the state it ends in."""

    states: tuple[NeuronState, ...]  # T states, v and z [N, out] each
    final: LayerState

    @property
    def z(self) -> Tensor:
        """All spikes [T, N, out]."""
        return torch.stack([state.z for state in self.states])

    @property
    def v(self) -> Tensor:
        """All membrane potentials [T, N, out]."""
        return torch.stack([state.v for state in self.states])


class SynapticMemory(Protocol):
    """The synapses during a window: they give currents and they learn."""

    def current(self, t: int) -> Tensor:
        """Return I_t [N, out]."""
        ...

    def learn(self, t: int, state: NeuronState) -> None:
        """Take in what the neurons did at step t."""
        ...

    def end(self) -> tuple[Tensor | None, Eligibility | None]:
        """Return the trace and the eligibility after the last step."""
        ...


def run(memory: SynapticMemory, neuron: Neuron, steps: int, start: NeuronState | None) -> Window:
    """Let neurons and synapses interact for `steps` steps; the one loop over time of a layer."""
    state, states = start, []
    for t in range(steps):
        state = neuron.step(memory.current(t), state)
        memory.learn(t, state)
        states.append(state)
    return Window(tuple(states), LayerState(state, *memory.end()))


class FixedSynapses:
    """Synapses that do not change within the window: global learning, or a frozen trace."""

    def __init__(self, drive: Drive, synapse: Synapse, state: LayerState) -> None:
        self._state, self._bias = state, synapse.bias
        trace = state.trace if synapse.meta is not None else None
        if trace is not None and trace.ndim != 2:
            raise ValueError("a frozen trace must be one for all samples, of shape [in, out]")
        if isinstance(drive, Static):
            self._gain = drive.gain
            self._product = synaptic_current(drive.value, trace, synapse._replace(bias=None))
            self._steps: tuple[Tensor, ...] = ()
        else:
            self._steps = _steps(drive)
            self._weight = global_weight(synapse)
            if trace is not None:
                self._weight = hybrid_weight(self._weight, trace, synapse)

    def current(self, t: int) -> Tensor:
        if not self._steps:
            return _scaled(self._product, self._gain[t], self._bias)
        return contract(self._steps[t], self._weight, self._bias)

    def learn(self, t: int, state: NeuronState) -> None:
        pass

    def end(self) -> tuple[Tensor | None, Eligibility | None]:
        return self._state.trace, self._state.eligibility


class RecurrentTrace:
    """Synapses whose trace is kept and updated at every step; any rule, any drive."""

    def __init__(
        self,
        drive: Drive,
        synapse: Synapse,
        rule: LocalRule,
        v_th: float,
        pool: Pool,
        state: LayerState,
    ) -> None:
        self._drive = drive if isinstance(drive, Static) else _steps(drive)
        self._synapse, self._rule, self._v_th = synapse, rule, v_th
        self._pooling = Pooling.of(pool, rule, _samples(drive))
        self._trace, self._memory = state.trace, state.eligibility
        if self._trace is not None and self._trace.ndim == 2 and not self._pooling.shared:
            self._trace = self._trace.expand(_samples(drive), -1, -1)

    def current(self, t: int) -> Tensor:
        if isinstance(self._drive, Static):
            self._x = self._drive.gain[t] * self._drive.value
        else:
            self._x = self._drive[t]
        return synaptic_current(self._x, self._trace, self._synapse)

    def learn(self, t: int, state: NeuronState) -> None:
        meta = self._synapse.meta
        assert meta is not None
        pairs, self._memory = self._rule.correlate(self._x, state, self._memory, meta, self._v_th)
        self._trace = update_trace(self._trace, pairs, meta, self._rule, self._pooling)

    def end(self) -> tuple[Tensor | None, Eligibility | None]:
        return self._trace, self._memory


class StaticProducts(NamedTuple):
    """The products of one window under a static drive that stand in for its trace."""

    read: Tensor  # x W [N, out]
    start: Tensor | None  # local_gain · (x P_0) [N, out]; None for a trace that starts at zero
    recall: Callable[[Tensor, float, Tensor, float], Tensor]  # (L, λ, y, c) -> λ L + c · gain w G y


class StaticHistory:
    """Factored synapses under a static drive x_t = c_t x.

    With G = x diag(local_rate) xᵀ (its diagonal, where each sample has its own trace), what the
    sample reads from the trace, L_t = local_gain · x P_t, obeys a recursion without P:

        I_t = b + c_t (x W + L_t),   L_0 = local_gain · x P_0,
        L_{t+1} = λ L_t + c_t local_gain · w G y_t .

    The history h_t = Σ_{s<t} λ^{t-1-s} c_s y_s [N, out] is kept for building P at the end.
    """

    def __init__(
        self,
        gain: tuple[float, ...],
        products: StaticProducts,
        synapse: Synapse,
        rule: Hebbian,
        v_th: float,
        trace_decay: float,
        keep_history: bool,
    ) -> None:
        assert synapse.meta is not None
        self._gain, self._products, self._bias = gain, products, synapse.bias
        self._threshold = synapse.meta.sliding_threshold
        self._rule, self._v_th, self._decay = rule, v_th, trace_decay
        self._local = products.start
        self._keep_history = keep_history
        self.history: Tensor | None = None

    def current(self, t: int) -> Tensor:
        current = self._products.read
        if self._local is not None:
            current = current + self._local
        return _scaled(current, self._gain[t], self._bias)

    def learn(self, t: int, state: NeuronState) -> None:
        last = t == len(self._gain) - 1
        if last and not self._keep_history:
            return
        y = self._rule.post_signal(state.v, self._threshold, self._v_th)
        if self._keep_history:
            if self.history is None:
                self.history = self._gain[t] * y
            else:
                self.history = torch.add(self._decay * self.history, y, alpha=self._gain[t])
        if not last:
            local = torch.zeros_like(y) if self._local is None else self._local
            self._local = self._products.recall(local, self._decay, y, self._gain[t])

    def end(self) -> tuple[Tensor | None, Eligibility | None]:
        return None, None


class StaticTrace(StaticHistory):
    """A `StaticHistory` that starts from a trace and builds the final one, once, at the end."""

    def __init__(
        self,
        drive: Static,
        synapse: Synapse,
        rule: Hebbian,
        v_th: float,
        pool: Pool,
        state: LayerState,
        final_trace: bool,
    ) -> None:
        assert synapse.meta is not None
        x, meta = drive.value, synapse.meta
        self._pooling = Pooling.of(pool, rule, x.shape[0])
        self._start_trace = state.trace
        self._rated = x * meta.local_rate
        gain = meta.local_gain * self._pooling.weight

        start = None
        if state.trace is not None:
            start = _read_trace(x, local_trace(state.trace, synapse), meta.local_gain)
        read = contract(x, global_weight(synapse))
        recall = _recall(x, self._rated, gain, synapse.mask, self._pooling.shared)
        products = StaticProducts(read, start, recall)
        decay = self._pooling.trace_decay
        super().__init__(drive.gain, products, synapse, rule, v_th, decay, final_trace)

    def end(self) -> tuple[Tensor | None, Eligibility | None]:
        if self.history is None:
            return None, None
        weight, rated, history = self._pooling.weight, self._rated, self.history
        decayed = self._decay ** len(self._gain)
        if not self._pooling.shared:
            update = (weight * rated).unsqueeze(-1) * history.unsqueeze(-2)
            if self._start_trace is None:
                return update, None
            return torch.add(update, self._start_trace, alpha=decayed), None
        if self._start_trace is None:
            return (weight * rated).mT @ history, None
        final = torch.addmm(self._start_trace, rated.mT, history, beta=decayed, alpha=weight)
        return final, None


def _recall(
    x: Tensor, rated: Tensor, gain: Tensor, mask: Tensor | None, shared: bool
) -> Callable[[Tensor, float, Tensor, float], Tensor]:
    """Return the step (L, λ, y, c) -> λ L + c · gain G y, for G in its cheapest form."""
    if not shared:
        allowed = None if mask is None else 1.0 - mask
        own = rated * x
        diagonal = gain * (own.sum(-1, keepdim=True) if allowed is None else own @ allowed)
        return lambda local, decay, y, c: torch.addcmul(decay * local, diagonal, y, value=c)
    if mask is None:
        gram = (rated @ x.mT) * gain
        return lambda local, decay, y, c: torch.addmm(local, gram, y, beta=decay, alpha=c)
    # A mask couples inputs and outputs: the update of each step has to be built.
    blocked = 1.0 - mask

    def recall(local: Tensor, decay: float, y: Tensor, c: float) -> Tensor:
        return decay * local + (c * gain) * (x @ ((rated.mT @ y) * blocked))

    return recall


class EventHistory:
    """Factored synapses under any drive.

    The inputs of the whole window are known when it begins, so the Gram matrices
    x_t diag(local_rate) x_sᵀ of all pairs of steps are one product, and so are x_t W and x_t P_0.
    """

    def __init__(
        self,
        drive: Drive,
        synapse: Synapse,
        rule: Hebbian,
        v_th: float,
        pool: Pool,
        state: LayerState,
        final_trace: bool,
    ) -> None:
        assert synapse.meta is not None
        self._x = torch.stack(_steps(drive), dim=1)  # [N, T, in]
        self._meta, self._mask, self._rule, self._v_th = synapse.meta, synapse.mask, rule, v_th
        self._pooling = Pooling.of(pool, rule, self._x.shape[0])
        self._start_trace, self._final = state.trace, final_trace
        self._rated = self._x * synapse.meta.local_rate

        n, steps, _ = self._x.shape
        read = contract(self._x.flatten(0, 1), global_weight(synapse), synapse.bias)
        self._read = read.unflatten(0, (n, steps))
        self._start = None
        if state.trace is not None:
            self._start = self._x @ local_trace(state.trace, synapse)
        if synapse.mask is None:
            if self._pooling.shared:
                flat = self._x.flatten(0, 1) @ self._rated.flatten(0, 1).mT
                self._gram = flat.unflatten(1, (n, steps)).unflatten(0, (n, steps))
            else:
                self._gram = self._x @ self._rated.mT  # [N, T, T]
        self._ys: list[Tensor] = []

    def current(self, t: int) -> Tensor:
        local = None
        if self._start is not None:
            local = self._start[:, t] * self._pooling.trace_decay**t
        if t:
            past = self._recall(t)
            local = past if local is None else local + past
        current = self._read[:, t]
        return current if local is None else current + self._meta.local_gain * local

    def _aged(self, t: int) -> Tensor:
        """Return the post signals of steps 0 … t-1 as they weigh at step t [N, t, out]."""
        decay, weight = self._pooling.trace_decay, self._pooling.weight
        aged = [weight * decay ** (t - 1 - s) * y for s, y in enumerate(self._ys[:t])]
        return torch.stack(aged, dim=1)

    def _recall(self, t: int) -> Tensor:
        """Return what the input of step t reads from the updates of this window [N, out]."""
        aged = self._aged(t)
        if self._mask is None:
            if self._pooling.shared:
                return self._gram[:, t, :, :t].flatten(1) @ aged.flatten(0, 1)
            return (self._gram[:, t : t + 1, :t] @ aged).squeeze(1)
        # A mask couples inputs and outputs: the past has to be built, or read pair by pair.
        x, allowed = self._x[:, t], 1.0 - self._mask
        if self._pooling.shared:
            past = self._rated[:, :t].flatten(0, 1).mT @ aged.flatten(0, 1)
            return x @ (past * allowed)
        return (((x.unsqueeze(1) * self._rated[:, :t]) @ allowed) * aged).sum(1)

    def learn(self, t: int, state: NeuronState) -> None:
        threshold = self._meta.sliding_threshold
        self._ys.append(self._rule.post_signal(state.v, threshold, self._v_th))

    def end(self) -> tuple[Tensor | None, Eligibility | None]:
        if not self._final:
            return None, None
        steps = len(self._ys)
        aged = self._aged(steps)
        if self._pooling.shared:
            update = self._rated.flatten(0, 1).mT @ aged.flatten(0, 1)
        else:
            update = self._rated.mT @ aged
        if self._start_trace is None:
            return update, None
        return torch.add(update, self._start_trace, alpha=self._pooling.trace_decay**steps), None


def run_window(
    drive: Drive,
    synapse: Synapse,
    neuron: Neuron,
    rule: LocalRule | None = None,
    start: LayerState | None = None,
    *,
    pool: Pool = "batch",
    evaluation: Evaluation = "auto",
    adapt: bool = True,
    final_trace: bool = True,
) -> Window:
    """Run one layer over a window of T steps.

    Args:
        drive: `Static` value [N, in], or T tensors [N, in].
        synapse: weights [out, in], bias, meta-local parameters and mask.
        neuron: neuron model.
        rule: local rule; None for a layer that only has global weights.
        start: state to start from; None for rest and a zero trace.
        pool: "batch", "sample" or "stream", see `Pooling.of`.
        evaluation: "recurrent", "factored", or "auto", which takes the one with fewer
            multiplications (`cheaper_evaluation`).
        adapt: False freezes the trace at its start: it is read, it neither moves nor decays.
        final_trace: False spares building the final trace where nobody needs it; `final.trace`
            is then None in a factored window.

    Returns:
        The window: T neuron states, and the state to continue from.

    Raises:
        ValueError: if shapes do not fit, a name is unknown, or "factored" is asked of a rule or
            gain that has no factored form.

    A factored window is exact only while the clip of the trace is inactive. `clip_excluded`
    decides that before the window; where it cannot, the recurrent form is used instead.
    """
    start = start or LayerState()
    _check_shapes(drive, synapse, start, pool)
    if evaluation not in EVALUATIONS:
        names = ", ".join(EVALUATIONS)
        raise ValueError(f"evaluation = {evaluation!r}: choose one of {names}")
    steps = _length(drive)
    if rule is None or synapse.meta is None or not adapt:
        if rule is None:
            synapse = synapse._replace(meta=None)
        return run(FixedSynapses(drive, synapse, start), neuron, steps, start.neuron)

    # A subclass may learn differently: only the rule itself has these closed forms.
    if type(rule) is not Hebbian or synapse.meta.local_gain.ndim != 0:
        if evaluation == "factored":
            raise ValueError(
                "evaluation = 'factored' needs a Hebbian rule and one local gain per layer; "
                "use 'auto' or 'recurrent'"
            )
        evaluation = "recurrent"
    elif evaluation == "auto":
        evaluation = cheaper_evaluation(drive, synapse, pool, start)

    memory: SynapticMemory
    if (
        evaluation == "factored"
        and isinstance(rule, Hebbian)
        and clip_excluded(drive, synapse, rule, pool, start)
    ):
        form = StaticTrace if isinstance(drive, Static) else EventHistory
        memory = form(drive, synapse, rule, neuron.v_th, pool, start, final_trace)  # type: ignore[arg-type]
    elif narrow.applies(synapse, neuron, rule, pool, start):
        states, trace = narrow.run(_steps(drive), synapse, neuron, rule, start.trace)
        return Window(states, LayerState(states[-1], trace))
    else:
        memory = RecurrentTrace(drive, synapse, rule, neuron.v_th, pool, start)
    return run(memory, neuron, steps, start.neuron)


# A trace per sample is read from memory at every use: a pass over it costs about as much time as
# this many multiplications per entry do inside a matrix product.
_PASS = 8


def cheaper_evaluation(
    drive: Drive, synapse: Synapse, pool: Pool, start: LayerState
) -> Literal["recurrent", "factored"]:
    """Return the evaluation that needs fewer multiplications per window.

    With n samples, i inputs, o outputs and T steps, a product of inputs and a matrix costs nio.
    Recurrent: two products at each step, to read and to write the trace; with a trace per sample
    two passes over n traces instead, which wait for memory (`_PASS`). Factored: x W, x P_0 and
    the final trace once (static drive) or T times, plus Gram matrices and histories.
    """
    out, inputs = synapse.weight.shape
    n, steps = _samples(drive), _length(drive)
    product, shared = n * inputs * out, pool == "batch"
    own_start = start.trace is not None and start.trace.ndim == 3
    recurrent = steps * product * (2 if shared else 1 + 2 * _PASS)

    visible = 1 if isinstance(drive, Static) else steps
    reads = 0 if start.trace is None else _PASS if own_start else visible
    factored = (2 * visible + reads) * product
    if synapse.mask is not None and shared:
        factored += 2 * steps * product  # the masked past is built densely at every step
    elif isinstance(drive, Static):
        factored += n * (n if shared else 1) * (inputs + steps * out)
    else:
        factored += n * (n if shared else 1) * steps * steps * (inputs + out)
    return "factored" if factored < recurrent else "recurrent"


def clip_excluded(
    drive: Drive, synapse: Synapse, rule: Hebbian, pool: Pool, start: LayerState
) -> bool:
    """Return whether the clip of the trace provably never acts within the window.

    Let B_t be a bound on row j of |P_t|, and |y| <= 1 (true of tanh and softmax). The unclipped
    recursion gives, for every column,

        |P_{t+1}| <= λ |P_t| + w |local_rate_j| Σ_n |x_{t,n,j}| |y| <= λ B_t + w |rate_j| Σ_n |x_t|

    so B_{t+1} = λ B_t + w |rate_j| Σ_n |x_{t,n,j}| (without the sum where each sample has its own
    trace), started at B_0 = max_i |P_0|, bounds the unclipped trace. If B_t < clip for all t <= T,
    the unclipped trace never leaves the interval, hence clipping changes nothing at any step
    (induction over t) and both recursions agree. For an unbounded post signal no such bound
    exists and the answer is False.
    """
    if rule.trace_clip is None:
        return True
    if rule.post == "identity":
        return False
    assert synapse.meta is not None
    with torch.no_grad():
        pooling = Pooling.of(pool, rule, _samples(drive))
        rate = pooling.weight * synapse.meta.local_rate.abs()
        if isinstance(drive, Static):
            size, gains = drive.value.abs(), [abs(gain) for gain in drive.gain]
            size = size.sum(0) if pooling.shared else size
            pushes = [gain * (rate * size) for gain in gains]
        else:
            sizes = [x.abs() for x in _steps(drive)]
            pushes = [rate * (size.sum(0) if pooling.shared else size) for size in sizes]
        bound = torch.zeros_like(pushes[0])
        if start.trace is not None:
            bound = bound + row_peaks(start.trace)
        peak = bound
        for push in pushes:
            bound = torch.add(push, bound, alpha=pooling.trace_decay)
            peak = torch.maximum(peak, bound)
        # A hair below the clip, so that rounding in the bound itself cannot matter.
        return bool(peak.max() < rule.trace_clip * (1.0 - 1e-5))


def row_peaks(trace: Tensor) -> Tensor:
    """Return max_i |P_ji| of each row j, [in] or [N, in], in two fast passes."""
    return torch.maximum(trace.amax(-1), -trace.amin(-1))


def local_trace(trace: Tensor, synapse: Synapse) -> Tensor:
    """Return P ∘ (1 - M), the part of the trace that may act."""
    return trace if synapse.mask is None else trace * (1.0 - synapse.mask)


def _read_trace(x: Tensor, trace: Tensor, gain: Tensor) -> Tensor:
    """Return gain · (x P) [N, out] for a shared or per-sample trace."""
    if trace.ndim == 2:
        return gain * (x @ trace)
    return gain * torch.matmul(x.unsqueeze(-2), trace).squeeze(-2)


def _scaled(current: Tensor, gain: float, bias: Tensor | None) -> Tensor:
    return current * gain if bias is None else torch.add(bias, current, alpha=gain)


def _steps(drive: Drive) -> tuple[Tensor, ...]:
    if isinstance(drive, Static):
        return tuple(gain * drive.value for gain in drive.gain)
    return drive.unbind(0) if isinstance(drive, Tensor) else tuple(drive)


def _samples(drive: Drive) -> int:
    return drive.value.shape[0] if isinstance(drive, Static) else drive[0].shape[0]


def _length(drive: Drive) -> int:
    return len(drive.gain) if isinstance(drive, Static) else len(drive)


def _check_shapes(drive: Drive, synapse: Synapse, start: LayerState, pool: Pool) -> None:
    if _length(drive) == 0:
        raise ValueError("the drive has no steps: a window needs at least one")
    out, inputs = synapse.weight.shape
    x = drive.value if isinstance(drive, Static) else drive[0]
    if x.ndim != 2 or x.shape[1] != inputs:
        raise ValueError(
            f"each step of the drive must have shape [N, {inputs}], got {list(x.shape)}"
        )
    if start.trace is not None:
        shape, n = tuple(start.trace.shape), x.shape[0]
        if shape not in ((inputs, out), (n, inputs, out)):
            raise ValueError(
                f"the trace must have shape [{inputs}, {out}] or [{n}, {inputs}, {out}], "
                f"got {list(shape)}"
            )
        if start.trace.ndim == 3 and pool == "batch":
            raise ValueError(
                "pool = 'batch' moves one trace for all samples, but the start has one per sample: "
                f"give a trace of shape [{inputs}, {out}], or use pool 'sample' or 'stream'"
            )
    if synapse.mask is not None and tuple(synapse.mask.shape) != (inputs, out):
        raise ValueError(
            f"the mask must have shape [{inputs}, {out}], got {list(synapse.mask.shape)}"
        )
