"""A layer over a whole window of T steps, with two exact ways to evaluate the local current.

*recurrent* keeps the trace P and updates it at every step; *factored* never builds P inside the
window, see `hybrid.model.window.memories`. Both give the same numbers and the same gradients up to
rounding. Here the loop over time runs, and the choice between them is made: by cost, and for each
input only where the clip of its trace provably does not act.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hybrid.checks import choose
from hybrid.model.drive import Control, Source, as_drive, check_dtype
from hybrid.model.neurons import Neuron, NeuronState, without_values
from hybrid.model.plasticity import (
    STDP,
    Hebbian,
    LayerState,
    LocalRule,
    Synapse,
    mapped,
    tensors_in,
)
from hybrid.model.pooling import POOLS, Pool
from hybrid.model.window.clip import SplitTrace, may_clip, select_inputs
from hybrid.model.window.memories import (
    EventHistory,
    FinalTrace,
    FixedSynapses,
    Plastic,
    RecurrentTrace,
    StaticTrace,
    SynapticMemory,
)
from hybrid.model.window.sparse import MaskedHistory, SparseMask

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
    steps: Iterable[int],
    state: NeuronState | None = None,
    teacher: Sequence[Tensor] | None = None,
) -> tuple[NeuronState, ...]:
    """Let neurons and synapses interact step by step; the one loop over time of a layer."""
    states = []
    for t in steps:
        current = memory.current(t)
        state = neuron.step(current if teacher is None else current + teacher[t], state)
        memory.learn(t, state)
        states.append(state)
    return tuple(states)


def run_window(
    source: Source,
    synapse: Synapse,
    neuron: Neuron,
    rule: LocalRule | None = None,
    start: LayerState | None = None,
    *,
    pool: Pool = "batch",
    evaluation: Evaluation = "auto",
    adapt: bool = True,
    final_trace: FinalTrace = "graph",
    teacher: Sequence[Tensor] | None = None,
    sparse_mask: SparseMask | None = None,
    control: Control | None = None,
) -> Window:
    """Run one layer over a window of T steps.

    Args:
        source: a drive, or T tensors [N, in].
        synapse: weights [out, in], bias, meta-local parameters and mask.
        neuron: neuron model.
        rule: local rule; None for a layer that only has global weights.
        start: state to start from; None for rest and a zero trace.
        pool: "batch", "ranks", "sample" or "stream", see `Pooling.of`.
        evaluation: "recurrent", "factored", or "auto", which takes the one with fewer
            multiplications (`cheaper_evaluation`).
        adapt: False freezes the trace at its start: it is read, it neither moves nor decays.
        final_trace: "none" spares building the final trace where nobody needs it, `final.trace` is
            then None; "values" spares its gradients. Neither depends on the evaluation.
        teacher: T currents [N, out] added to those of the synapses (labels, few-shot learning).
        sparse_mask: takes the place of the synapse's mask; whatever has no sparse form (another
            rule or pooling, a trace to start from, "recurrent") is evaluated with a dense one.
        control: what neurons make of their weighted inputs, where no trace moves.

    Returns:
        The window: T neuron states, and the state to continue from.

    Raises:
        ValueError: if shapes do not fit, a name is unknown, "factored" is asked of a rule or gain
            that has no factored form, or `control` while a trace moves or under a sparse mask.

    A factored window is exact only while the clip of the trace is inactive. `clip.may_clip`
    finds the inputs for which that is not certain; their rows of the trace are kept and clipped
    step by step, beside the factored rest.
    """
    drive, start = as_drive(source), start or LayerState()
    choose("pool", pool, POOLS)
    if synapse.mask is not None:  # of booleans, for example
        synapse = synapse._replace(mask=synapse.mask.to(synapse.weight.dtype))
    check_shapes(drive.shape, synapse, start, pool, sparse_mask)
    check_dtype(drive.value_at(0), synapse.weight)
    if teacher is not None and len(teacher) != drive.steps:
        raise ValueError(f"{len(teacher)} teacher currents for {drive.steps} steps")
    choose("evaluation", evaluation, EVALUATIONS)
    # A batch of nobody leaves no mark: there is no mean over its samples.
    learning = rule if adapt and synapse.meta is not None and drive.shape[0] else None
    plastic = None
    if learning is not None:
        plastic = Plastic(drive, synapse, learning, neuron.v_th, pool, start, final_trace)
    memory: SynapticMemory
    if control is not None and (plastic is not None or sparse_mask is not None):
        raise ValueError("neurons control weighted inputs of fixed synapses alone: adapt=False")
    if sparse_mask is not None and not _has_sparse_form(start, plastic, evaluation):
        weight, mask = sparse_mask.full(synapse.weight), sparse_mask.dense().to(synapse.weight)
        synapse = synapse._replace(weight=weight, mask=mask)
        sparse_mask = None
    if sparse_mask is not None:
        memory = MaskedHistory(drive, synapse, sparse_mask, learning, neuron.v_th, final_trace)
    elif plastic is None:
        meta = synapse.meta if rule is not None else None
        memory = FixedSynapses(drive, synapse._replace(meta=meta), start, control)
    else:
        plastic = plastic._replace(synapse=synapse)
        memory = factored(plastic, evaluation) or RecurrentTrace(plastic)
    states = run(memory, neuron, range(drive.steps), start.neuron, teacher)
    if learning is not None and final_trace == "none":
        return Window(states, LayerState(states[-1]))
    ending = memory.end()
    if final_trace == "values":
        ending = mapped(Tensor.detach, ending[0]), mapped(Tensor.detach, ending[1])
    return Window(states, LayerState(states[-1], *ending))


def _has_sparse_form(start: LayerState, layer: Plastic | None, evaluation: Evaluation) -> bool:
    """Return whether `MaskedHistory` can stand in for a layer: its trace must never clip."""
    if start.trace is not None or evaluation == "recurrent":
        return False
    if layer is None:
        return True
    if type(layer.rule) is not Hebbian or layer.pool != "batch" or layer.meta.local_gain.ndim:
        return False
    if layer.rule.trace_clip is None:
        return True
    return not without_values() and not bool(may_clip(layer).any())


def has_closed_form(layer: Plastic) -> bool:
    """Return whether factored synapses can stand in for the rule."""
    if layer.meta.local_gain.ndim or layer.pool == "ranks":
        return False
    if type(layer.rule) is STDP:
        return layer.drive.repeated and layer.start.eligibility is None
    return type(layer.rule) is Hebbian  # a subclass may learn differently


# Largest share of inputs near the clip for which two groups are faster than the recurrent form.
_SPLIT = 0.5


def factored(layer: Plastic, evaluation: Evaluation = "factored") -> SynapticMemory | None:
    """Return factored synapses, recurrent where the clip may act.

    None where another evaluation is asked for or cheaper, or the clip may act on most inputs.

    Raises:
        ValueError: if "factored" is asked of a rule or gain that has no factored form.
    """
    closed = has_closed_form(layer)
    if evaluation == "factored" and not closed:
        raise ValueError(
            "evaluation = 'factored' needs one local gain per layer and a Hebbian rule, or a "
            "static drive and STDP without a memory; use 'auto' or 'recurrent'"
        )
    if evaluation == "auto" and closed:
        evaluation = cheaper_evaluation(layer)
    if not closed or evaluation == "recurrent":
        return None
    if layer.rule.trace_clip is None:
        return _closed_form(layer)
    if without_values():  # nobody can tell where the clip may act
        return None
    risky = may_clip(layer)
    if not risky.any():
        return _closed_form(layer)
    if int(risky.sum()) > _SPLIT * len(risky):
        return None
    safe, near = (~risky).nonzero().squeeze(1), risky.nonzero().squeeze(1)
    free = _closed_form(select_inputs(layer, safe, bias=True))
    clipped = RecurrentTrace(select_inputs(layer, near, bias=False))
    return SplitTrace(torch.cat([safe, near]), free, clipped)


def _closed_form(layer: Plastic) -> SynapticMemory:
    return StaticTrace(layer) if layer.drive.repeated else EventHistory(layer)


# A trace per sample is read from memory at every use: a pass over it costs about as much time as
# this many multiplications per entry do inside a matrix product.
_PASS = 8


def cheaper_evaluation(layer: Plastic) -> Literal["recurrent", "factored"]:
    """Return the evaluation that needs fewer multiplications per window.

    With n samples, i inputs, o outputs and T steps, a product of inputs and a matrix costs nio.
    Recurrent: two products at each step, to read and to write the trace; with a trace per sample
    two passes over n traces instead, which wait for memory (`_PASS`). Factored: x W, x P_0 and
    the final trace once (static drive) or T times, plus Gram matrices and histories.
    """
    out, inputs = layer.synapse.weight.shape
    n, steps, trace = layer.drive.shape[0], layer.drive.steps, layer.start.trace
    product, shared, static = n * inputs * out, layer.pool == "batch", layer.drive.repeated
    recurrent = steps * product * (2 if shared else 1 + 2 * _PASS)

    visible = 1 if static else steps
    reads = 0 if trace is None else _PASS if trace.ndim == 3 else visible
    factored = (2 * visible + reads) * product
    if layer.synapse.mask is not None and shared:
        factored += 2 * steps * product  # the masked past is built densely at every step
    elif layer.synapse.mask is not None:
        # A mask needs a product of its own for each step and each earlier one.
        factored += product if static else steps * (steps - 1) // 2 * product
    else:
        pairs = n * (n if shared else 1)
        factored += pairs * (inputs + steps * out if static else steps * steps * (inputs + out))
    return "factored" if factored < recurrent else "recurrent"


def check_shapes(
    shape: torch.Size,
    synapse: Synapse,
    start: LayerState,
    pool: Pool,
    sparse: SparseMask | None = None,
) -> None:
    """Refuse what does not fit a drive whose steps have a shape [N, in]."""
    out, inputs = synapse.weight.shape
    for part, allowed in ((start.neuron, {shape[0]}), (start.eligibility, {1, shape[0]})):
        held = {len(value) for value in tensors_in(part)}
        if len(shape) == 2 and not held <= allowed:
            raise ValueError(
                f"the start is a state of {max(held)} samples, and there are {shape[0]}: start "
                "the same samples from it, or begin anew from stored()"
            )
    if len(shape) != 2 or shape[1] != inputs:
        raise ValueError(f"each step of the drive must have shape [N, {inputs}], got {list(shape)}")
    if start.trace is not None:
        own, n = tuple(start.trace.shape), shape[0]
        if own not in ((inputs, out), (n, inputs, out)):
            raise ValueError(
                f"the trace must have shape [{inputs}, {out}] or [{n}, {inputs}, {out}], "
                f"got {list(own)}"
            )
        if len(own) == 3 and pool in ("batch", "ranks"):
            raise ValueError(
                f"pool = {pool!r} moves one trace for all samples, but the start has one per "
                f"sample: give a trace of shape [{inputs}, {out}], or use pool 'sample' or 'stream'"
            )
    for mask in (synapse.mask, sparse):
        if mask is not None and tuple(mask.shape) != (inputs, out):
            raise ValueError(f"the mask must have shape [{inputs}, {out}], got {list(mask.shape)}")
