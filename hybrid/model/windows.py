"""A layer over a whole window of T steps, with two exact ways to evaluate the local current.

*recurrent* keeps the trace P and updates it at every step; *factored* never builds P inside the
window, see `hybrid.model.memories`. Both give the same numbers and the same gradients up to
rounding. Here the loop over time runs, and the choice between them is made: by cost, and for each
input only where the clip of its trace provably does not act.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hybrid.model import narrow
from hybrid.model.clip import SplitTrace, may_clip, select_inputs
from hybrid.model.coding import Drive, Static
from hybrid.model.masked import MaskedHistory
from hybrid.model.masks import SparseMask
from hybrid.model.memories import (
    EventHistory,
    FixedSynapses,
    RecurrentTrace,
    StaticTrace,
    SynapticMemory,
    samples_of,
    steps_of,
)
from hybrid.model.neurons import Neuron, NeuronState
from hybrid.model.plasticity import (
    STDP,
    Hebbian,
    LayerState,
    LocalRule,
    MetaLocal,
    Pool,
    Synapse,
)
from hybrid.model.static_signals import StaticRule

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


def run(
    memory: SynapticMemory,
    neuron: Neuron,
    steps: int,
    start: NeuronState | None,
    teacher: Sequence[Tensor] | None = None,
) -> Window:
    """Let neurons and synapses interact for `steps` steps; the one loop over time of a layer."""
    state, states = start, []
    for t in range(steps):
        current = memory.current(t)
        state = neuron.step(current if teacher is None else current + teacher[t], state)
        memory.learn(t, state)
        states.append(state)
    return Window(tuple(states), LayerState(state, *memory.end()))


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
    teacher: Sequence[Tensor] | None = None,
    sparse_mask: SparseMask | None = None,
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
        teacher: T currents [N, out] added to those of the synapses (labels, few-shot learning).
        sparse_mask: takes the place of the synapse's mask; whatever has no sparse form (another
            rule or pooling, a trace to start from, "recurrent") is evaluated with a dense one.

    Returns:
        The window: T neuron states, and the state to continue from.

    Raises:
        ValueError: if shapes do not fit, a name is unknown, or "factored" is asked of a rule or
            gain that has no factored form.

    A factored window is exact only while the clip of the trace is inactive. `clip.may_clip`
    finds the inputs for which that is not certain; their rows of the trace are kept and clipped
    step by step, beside the factored rest.
    """
    start = start or LayerState()
    _check_shapes(drive, synapse, start, pool, sparse_mask)
    if teacher is not None and len(teacher) != _length(drive):
        raise ValueError(f"{len(teacher)} teacher currents for {_length(drive)} steps")
    if evaluation not in EVALUATIONS:
        names = ", ".join(EVALUATIONS)
        raise ValueError(f"evaluation = {evaluation!r}: choose one of {names}")
    steps = _length(drive)
    if sparse_mask is not None:
        learning = rule if adapt else None
        if evaluation != "recurrent" and _has_sparse_form(drive, synapse, learning, pool, start):
            own = MaskedHistory(drive, synapse, sparse_mask, learning, neuron.v_th, final_trace)
            return run(own, neuron, steps, start.neuron, teacher)
        synapse = synapse._replace(mask=sparse_mask.dense().to(synapse.weight))
    if rule is None or synapse.meta is None or not adapt:
        if rule is None:
            synapse = synapse._replace(meta=None)
        return run(FixedSynapses(drive, synapse, start), neuron, steps, start.neuron, teacher)

    if not has_closed_form(drive, synapse.meta, rule, start):
        if evaluation == "factored":
            raise ValueError(
                "evaluation = 'factored' needs one local gain per layer and a Hebbian rule, or a "
                "static drive and STDP without a memory; use 'auto' or 'recurrent'"
            )
        evaluation = "recurrent"
    elif evaluation == "auto":
        evaluation = cheaper_evaluation(drive, synapse, pool, start)

    memory: SynapticMemory | None = None
    if evaluation == "factored" and isinstance(rule, Hebbian | STDP):
        memory = factored(drive, synapse, rule, neuron.v_th, pool, start, final_trace)
    alone = teacher is None
    if memory is None and alone and narrow.applies(synapse, neuron, rule, pool, start):
        states, trace = narrow.run(steps_of(drive), synapse, neuron, rule, start.trace)
        return Window(states, LayerState(states[-1], trace))
    memory = memory or RecurrentTrace(drive, synapse, rule, neuron.v_th, pool, start)
    return run(memory, neuron, steps, start.neuron, teacher)


def _has_sparse_form(
    drive: Drive, synapse: Synapse, rule: LocalRule | None, pool: Pool, start: LayerState
) -> bool:
    """Return whether `MaskedHistory` can stand in for the rule: its trace must never clip."""
    if start.trace is not None:
        return False
    if rule is None or synapse.meta is None:
        return True
    if type(rule) is not Hebbian or pool != "batch" or synapse.meta.local_gain.ndim != 0:
        return False
    if rule.trace_clip is None:
        return True
    return not bool(may_clip(drive, synapse, rule, pool, start).any())


def has_closed_form(drive: Drive, meta: MetaLocal, rule: LocalRule, start: LayerState) -> bool:
    """Return whether factored synapses can stand in for the rule."""
    if meta.local_gain.ndim != 0:
        return False
    if type(rule) is STDP:
        return isinstance(drive, Static) and start.eligibility is None
    return type(rule) is Hebbian  # a subclass may learn differently


# Largest share of inputs near the clip for which two groups are faster than the recurrent form.
_SPLIT = 0.5


def factored(
    drive: Drive,
    synapse: Synapse,
    rule: StaticRule,
    v_th: float,
    pool: Pool,
    start: LayerState,
    final_trace: bool,
) -> SynapticMemory | None:
    """Return factored synapses, recurrent where the clip may act; None if that is most of it."""

    def closed_form(drive: Drive, synapse: Synapse, start: LayerState) -> SynapticMemory:
        if isinstance(drive, Static):
            return StaticTrace(drive, synapse, rule, v_th, pool, start, final_trace)
        assert isinstance(rule, Hebbian)
        return EventHistory(drive, synapse, rule, v_th, pool, start, final_trace)

    risky = may_clip(drive, synapse, rule, pool, start)
    count = int(risky.sum())
    if count == 0:
        return closed_form(drive, synapse, start)
    if count > _SPLIT * len(risky):
        return None
    groups = (~risky).nonzero().squeeze(1), risky.nonzero().squeeze(1)
    free = select_inputs(drive, synapse, start, groups[0], bias=True)
    clipped = select_inputs(drive, synapse, start, groups[1], bias=False)
    kept = RecurrentTrace(clipped[0], clipped[1], rule, v_th, pool, clipped[2])
    return SplitTrace(groups, (closed_form(*free), kept))


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
    n, steps = samples_of(drive), _length(drive)
    product, shared = n * inputs * out, pool == "batch"
    own_start = start.trace is not None and start.trace.ndim == 3
    recurrent = steps * product * (2 if shared else 1 + 2 * _PASS)

    visible = 1 if isinstance(drive, Static) else steps
    reads = 0 if start.trace is None else _PASS if own_start else visible
    factored = (2 * visible + reads) * product
    if synapse.mask is not None and shared:
        factored += 2 * steps * product  # the masked past is built densely at every step
    elif synapse.mask is not None:
        # A mask needs a product of its own for each step and each earlier one.
        factored += product if isinstance(drive, Static) else steps * (steps - 1) // 2 * product
    elif isinstance(drive, Static):
        factored += n * (n if shared else 1) * (inputs + steps * out)
    else:
        factored += n * (n if shared else 1) * steps * steps * (inputs + out)
    return "factored" if factored < recurrent else "recurrent"


def _length(drive: Drive) -> int:
    return len(drive.gain) if isinstance(drive, Static) else len(drive)


def _check_shapes(
    drive: Drive, synapse: Synapse, start: LayerState, pool: Pool, sparse_mask: SparseMask | None
) -> None:
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
    for mask in (synapse.mask, sparse_mask):
        if mask is not None and tuple(mask.shape) != (inputs, out):
            raise ValueError(f"the mask must have shape [{inputs}, {out}], got {list(mask.shape)}")
