"""Windows of samples that end at different steps: each is shown its own length, and no more.

A window is cut where a sample ends, and what follows is run with those that are left. So a sample
has the very activity that it would have alone, and moves no trace after its end: a shared trace
moves by the mean over those that are still there.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hybrid.model.drive import Drive
from hybrid.model.neurons import NeuronState
from hybrid.model.plasticity import LayerState, mapped
from hybrid.model.window.choice import Window

Run = Callable[[Drive, LayerState], Window]


def checked_lengths(lengths: Tensor, samples: int, steps: int) -> Tensor:
    """Return lengths [N] as int64.

    Raises:
        ValueError: if there is not one for each sample, a whole number from 1 to `steps`.
    """
    whole = lengths.ndim == 1 and not (lengths.is_floating_point() or lengths.dtype == torch.bool)
    if not whole or len(lengths) != samples:
        raise ValueError(
            f"lengths of shape {list(lengths.shape)} and {lengths.dtype} for {samples} samples: "
            "give each a whole number of steps"
        )
    if samples and not (int(lengths.min()) >= 1 and int(lengths.max()) <= steps):
        raise ValueError(
            f"lengths from {int(lengths.min())} to {int(lengths.max())}: they must lie between 1 "
            f"and the {steps} steps of the inputs"
        )
    return lengths.long()


def run_ragged(run: Run, drive: Drive, lengths: Tensor, start: LayerState) -> Window:
    """Run a window in which sample n is shown the first `lengths[n]` steps.

    Args:
        run: (drive, start) to the window of a layer, with its final trace.
        drive: of all samples, as long as the longest; what comes after a sample's end is not used.
        lengths: [N], see `checked_lengths`.
        start: state to start from.

    Returns:
        As many states as the longest sample has steps. After its end a sample has no spikes, and
        its potential stays; the final state is that of each sample's own end.
    """
    count, first, state = len(lengths), 0, start
    states: list[NeuronState] = []
    for end in torch.unique(lengths).tolist():
        rows = (lengths >= end).nonzero().squeeze(1)
        part = run(drive.part(first, end, rows), _chosen(state, rows, count))
        held = state.neuron
        if held is not None:
            held = held._replace(z=torch.zeros_like(held.z))
        states += [_placed(held, rows, own, count) for own in part.states]
        neuron = _placed(state.neuron, rows, part.final.neuron, count)
        trace, memory = part.final.trace, part.final.eligibility
        if trace is not None and trace.ndim == 3:  # each sample's own
            trace = _placed(state.trace, rows, trace, count)
        state = LayerState(neuron, trace, _placed(state.eligibility, rows, memory, count))
        first = end
    return Window(tuple(states), state)


def _chosen(state: LayerState, rows: Tensor, count: int) -> LayerState:
    """Return the state of some of so many samples."""

    def own(value: Tensor) -> Tensor:
        return value[rows] if len(value) == count else value

    trace = state.trace
    if trace is not None and trace.ndim == 3:
        trace = own(trace)
    return LayerState(mapped(own, state.neuron), trace, mapped(own, state.eligibility))


def _placed(whole: Any, rows: Tensor, part: Any, count: int) -> Any:
    """Return a state of all samples with that of some in place; what they share is the part's."""
    if whole is None or part is None or len(rows) == count:
        return part
    if isinstance(part, Tensor):
        return whole.index_copy(0, rows, part) if len(whole) == count else part
    pairs = zip(whole, part, strict=True)
    return type(part)(*(_placed(a, rows, b, count) for a, b in pairs))
