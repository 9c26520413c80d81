"""One iteration of training: forward, loss, backward, optimisers, and the traces.

With a spiking network a GPU spends nearly all its time waiting for Python. There an iteration is
compiled and recorded once, as a CUDA graph, and then replayed: whoever trains only says which
samples come next. The equations are those of the network itself, which then runs all T steps and
asks no tensor for its value (`without_values`).
"""

import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hybrid.model.networks import FullyConnected
from hybrid.model.neurons import data_independent
from hybrid.model.parameters import renew_buffers

log = logging.getLogger(__name__)

# What an iteration is shown: tensors, such as those of a `Split`, and constants.
Batch = tuple[Any, ...]
# Maps the parts of a batch to a scalar, or one for each network: a network, then a loss.
Measure = Callable[..., Tensor]
# Iterations before an iteration is recorded: compilers and libraries choose their kernels in them.
_WARM_UP = 3


class Split(NamedTuple):
    """Samples and their labels."""

    inputs: Tensor  # [N, in]
    labels: Tensor  # [N], integers


def output_of(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return the output [N, C] of a network, or of a plain module.

    Raises:
        ValueError: if samples have steps of their own, for a network that expects steps first.
    """
    if inputs.ndim == 3 and isinstance(network, FullyConnected) and network.encode is None:
        raise ValueError(
            f"samples of shape {list(inputs.shape[1:])}, with steps of their own: a network shows "
            "them in turn with encode=InParts(), for samples x.flatten(1)"
        )
    found = network(inputs)
    output: Tensor = found if isinstance(found, Tensor) else found.output
    return output


class Iteration:
    """What training does with one batch.

    Args:
        network: is trained, in training mode.
        optimisers: of what it trains.
        measure: maps the parts of a batch to a scalar; the part that is compiled.
        resting: optimisers of what it leaves alone, which spares the gradients of that.
        step: is given a function that lets all optimisers step, and calls it once; None calls it.
    """

    def __init__(
        self,
        network: nn.Module,
        optimisers: Sequence[torch.optim.Optimizer],
        measure: Measure,
        *,
        resting: Sequence[torch.optim.Optimizer] = (),
        step: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self.network, self.optimisers, self.measure = network, optimisers, measure
        self.resting, self._step = resting, step

    def __call__(
        self,
        batch: Batch,
        seen: Callable[[Tensor], None] | None = None,
        measure: Measure | None = None,
    ) -> Tensor:
        """Train on a batch, and return its loss; of networks side by side there are several.

        Args:
            batch: its parts.
            seen: is shown the loss before it acts, and may raise.
            measure: what is run in the place of `measure`, such as its compiled form.
        """
        with at_rest(self.resting):
            for optimiser in self.optimisers:
                optimiser.zero_grad()
            value = (measure or self.measure)(*batch)
            if seen is not None:
                seen(value)
            (value.sum() if value.ndim else value).backward()
            if self._step is None:
                self._let_step()
            else:
                self._step(self._let_step)
        return value.detach()

    def start_anew(self) -> None:
        """Let the optimisers forget: what they remember is as before the first step."""
        for optimiser in self.optimisers:
            for value in moments(optimiser):
                value.zero_()  # in place: a recorded step knows these very tensors

    def _let_step(self) -> None:
        for optimiser in self.optimisers:
            optimiser.step()


@contextmanager
def at_rest(optimisers: Sequence[torch.optim.Optimizer]) -> Iterator[None]:
    """Spare the gradients of what some optimisers train: a quarter of an iteration of HP."""
    tensors = [x for o in optimisers for group in o.param_groups for x in group["params"]]
    for tensor in tensors:
        tensor.requires_grad_(False)
    try:
        yield
    finally:
        for tensor in tensors:
            tensor.requires_grad_(True)


class Recorded:
    """An iteration that is recorded with the first batch, and replayed for all of its shape.

    Args:
        iteration: what is recorded; its optimisers are `recorded` ones, see `Schedule.optimisers`.
            A batch's tensors may differ from those of the one before; its constants are recorded.
        backend: of `torch.compile`, for the forward and the backward pass; None compiles nothing.

    Batches of another shape, such as the last one of an epoch, run as they come. What cannot be
    compiled is recorded as it is written, and what cannot be recorded runs so; a warning says why.
    Hooks and observers are not part of a record. On a CPU nothing is recorded; the work is the
    same as on a GPU, all T steps of a window.
    """

    def __init__(self, iteration: Iteration, backend: str | None = "inductor") -> None:
        self._iteration, self._measure = iteration, _compiled(iteration.measure, backend)
        renew_buffers(iteration.network)  # states that were handed out stay as they are
        self._shown: Batch | None = None  # where a recorded iteration finds its batch
        self._graph: torch.cuda.CUDAGraph | None = None
        self._loss: Tensor | None = None  # where it leaves its loss
        # Where traces live: an iteration finds what the one before has left there.
        self._buffers: list[tuple[nn.Module, str, Tensor]] = []
        self._given_up = False

    def __call__(self, batch: Batch) -> Tensor:
        """Train on a batch, and return its loss, which nobody has to read at once."""
        if any(isinstance(part, tuple) for part in batch):  # of networks with other shapes each
            return self._run(batch, self._iteration.measure)
        if self._shown is None:
            self._prepare(batch)
        assert self._shown is not None
        pairs = list(zip(self._shown, batch, strict=True))
        if not all(_alike(mine, own) for mine, own in pairs):
            return self._run(batch, self._iteration.measure)
        for mine, own in pairs:
            if isinstance(own, Tensor):
                mine.copy_(own)
        if self._given_up or not batch[0].is_cuda:
            return self._run(self._shown, self._measure)
        if self._graph is None and not self._record(self._shown):
            return self._run(self._shown, self._measure)
        assert self._graph is not None
        assert self._loss is not None
        self._graph.replay()
        return self._loss.clone()

    def _prepare(self, batch: Batch) -> None:
        """Make room for batches like this one, and note where traces live."""
        self._shown = tuple(own.clone() if isinstance(own, Tensor) else own for own in batch)
        self._buffers = [
            (module, name, buffer)
            for module in self._iteration.network.modules()
            for name, buffer in module.named_buffers(recurse=False)
        ]

    def _run(self, batch: Batch, measure: Measure) -> Tensor:
        """Train on a batch: the work that is recorded."""
        if self._given_up:
            value = self._iteration(batch)
        else:
            with data_independent():
                value = self._iteration(batch, measure=measure)
        with torch.no_grad():
            for module, name, own in self._buffers:
                left = getattr(module, name)
                if left is not own:
                    own.copy_(left)
                    setattr(module, name, own)
        return value

    def _record(self, batch: Batch) -> bool:
        """Record an iteration, compiled if that can be, and return whether it could be recorded.

        Network and optimisers are afterwards as they were before.
        """
        for measure in dict.fromkeys((self._measure, self._iteration.measure)):
            try:
                with torch.cuda.device(batch[0].device):
                    side = torch.cuda.Stream()
                    side.wait_stream(torch.cuda.current_stream())
                    with torch.cuda.stream(side):
                        self._warm(batch, measure)
                    torch.cuda.current_stream().wait_stream(side)
                    graph = torch.cuda.CUDAGraph()
                    with torch.cuda.graph(graph):
                        self._loss = self._run(batch, measure)
            except Exception as error:  # a compiler's, or of work that asks a tensor for its value
                reason = str(error).strip().partition("\n")[0]
                log.warning("training is slower than it could be: %s", reason)
                continue
            self._graph, self._measure = graph, measure
            return True
        self._given_up, self._measure = True, self._iteration.measure
        return False

    def _warm(self, batch: Batch, measure: Measure) -> None:
        """Run an iteration a few times, and leave network and optimisers as they were before."""
        network, optimisers = self._iteration.network, self._iteration.optimisers
        tensors = [*network.parameters(), *(own for *_, own in self._buffers)]
        before = [tensor.detach().clone() for tensor in tensors]
        past = [[value.clone() for value in moments(optimiser)] for optimiser in optimisers]
        try:
            with torch.random.fork_rng(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of steps that could be recorded, and are not yet
                for _ in range(_WARM_UP):
                    self._run(batch, measure)
        finally:
            with torch.no_grad():
                for tensor, value in zip(tensors, before, strict=True):
                    tensor.copy_(value)
                for module, name, own in self._buffers:
                    setattr(module, name, own)
                for optimiser, kept in zip(optimisers, past, strict=True):
                    for i, value in enumerate(moments(optimiser)):
                        value.copy_(kept[i] if kept else torch.zeros_like(value))
                    optimiser.zero_grad()


def _alike(mine: Any, own: Any) -> bool:
    """Return whether a part of a batch can take the place of another, or is the same constant."""
    if isinstance(own, Tensor) or isinstance(mine, Tensor):
        both = isinstance(own, Tensor) and isinstance(mine, Tensor)
        return both and mine.shape == own.shape
    return bool(mine == own)


def _compiled(measure: Measure, backend: str | None) -> Measure:
    """Return a compiled form of its own, whatever else a process has compiled."""
    if backend is None:
        return measure
    how: dict[str, Any] = {"backend": backend, "fullgraph": True, "dynamic": False}
    if "isolate_recompiles" in inspect.signature(torch.compile).parameters:
        how["isolate_recompiles"] = True
    compiled: Measure = torch.compile(measure, **how)
    return compiled


def moments(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    """Return all tensors that an optimiser remembers, in the order of what it trains."""
    states = [optimiser.state[p] for group in optimiser.param_groups for p in group["params"]]
    return [value for state in states for value in state.values() if isinstance(value, Tensor)]
