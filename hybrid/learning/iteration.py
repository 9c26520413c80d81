"""One iteration of training: forward, loss, backward, both optimisers, and the traces.

A GPU spends nearly all time of a spiking network waiting for Python. There an iteration is compiled
and recorded once, as a CUDA graph, and then replayed: whoever trains only says which samples come
next. The equations are those of the network itself, which then runs all T steps and asks no tensor
for its value (`without_values`).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hybrid.learning.schedule import Schedule
from hybrid.model.networks import FullyConnected
from hybrid.model.neurons import data_independent

# Maps outputs [N, C] and labels [N] to a scalar.
Loss = Callable[[Tensor, Tensor], Tensor]
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
    """What training does with one batch, in two halves, so that a loss is seen before it acts.

    Args:
        network: is trained, in training mode.
        optimisers: of all that is trained.
        schedule: says whether the forward pass has mixed precision.
        loss: see `Loss`.
    """

    def __init__(
        self,
        network: nn.Module,
        optimisers: list[torch.optim.Optimizer],
        schedule: Schedule,
        loss: Loss,
    ) -> None:
        self.network, self.optimisers = network, optimisers
        self._mixed, self._criterion = schedule.mixed_precision, loss

    def loss(self, batch: Split) -> Tensor:
        """Return the loss on a batch, and leave its trace."""
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        return self.measure(batch.inputs, batch.labels)

    def measure(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Return the loss; the part that is compiled."""
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self._mixed):
            output = output_of(self.network, inputs)
        return self._criterion(output.float() if self._mixed else output, labels)

    def act(self, value: Tensor) -> None:
        """Let weights and θ follow the gradients of a loss."""
        value.backward()
        for optimiser in self.optimisers:
            optimiser.step()


class Recorded:
    """An iteration that is recorded with the first batch, and replayed for all of its shape.

    Args:
        iteration: what is recorded.
        backend: of `torch.compile`, for the forward and the backward pass; None compiles nothing.

    Batches of another shape, such as the last one of an epoch, run as they come. On a CPU nothing
    is recorded; the work is the same.
    """

    def __init__(self, iteration: Iteration, backend: str | None = "inductor") -> None:
        self._iteration, self._measure = iteration, iteration.measure
        if backend is not None:
            self._measure = torch.compile(iteration.measure, backend=backend, fullgraph=True)
        self._shown: Split | None = None  # where a recorded iteration finds its batch
        self._graph: torch.cuda.CUDAGraph | None = None
        self._loss: Tensor | None = None  # where it leaves its loss
        # Where traces live: an iteration finds what the one before has left there.
        self._buffers: list[tuple[nn.Module, str, Tensor]] = []

    def epoch(self, batches: Iterable[Split]) -> Iterator[float]:
        """Train on batches, then yield their losses: the device never waits for one to be read."""
        losses = [self(batch) for batch in batches]
        yield from torch.stack(losses).tolist() if losses else []

    def __call__(self, batch: Split) -> Tensor:
        """Train on a batch, and return its loss."""
        if self._shown is None:
            self._shown = Split(*(part.clone() for part in batch))
            self._buffers = [
                (module, name, buffer)
                for module in self._iteration.network.modules()
                for name, buffer in module.named_buffers(recurse=False)
            ]
        if any(mine.shape != own.shape for mine, own in zip(self._shown, batch, strict=True)):
            return self._run(batch, self._iteration.measure)
        for mine, own in zip(self._shown, batch, strict=True):
            mine.copy_(own)
        if not batch.inputs.is_cuda:
            return self._run(self._shown, self._measure)
        if self._graph is None:
            self._record(self._shown)
        assert self._graph is not None
        assert self._loss is not None
        self._graph.replay()
        return self._loss.clone()

    def _run(self, batch: Split, measure: Loss) -> Tensor:
        """Train on a batch: the work that is recorded."""
        for optimiser in self._iteration.optimisers:
            optimiser.zero_grad()
        with data_independent():
            value = measure(*batch)
        self._iteration.act(value)
        with torch.no_grad():
            for module, name, own in self._buffers:
                left = getattr(module, name)
                if left is not own:
                    own.copy_(left)
                    setattr(module, name, own)
        return value.detach()

    def _record(self, batch: Split) -> None:
        """Record an iteration; network and optimisers are afterwards as they were before."""
        network, optimisers = self._iteration.network, self._iteration.optimisers
        tensors = [*network.parameters(), *(own for *_, own in self._buffers)]
        before = [tensor.detach().clone() for tensor in tensors]
        past = [[value.clone() for value in moments(optimiser)] for optimiser in optimisers]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.random.fork_rng(), torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self._run(batch, self._measure)
        torch.cuda.current_stream().wait_stream(side)
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
            for optimiser, kept in zip(optimisers, past, strict=True):
                for i, value in enumerate(moments(optimiser)):
                    value.copy_(kept[i] if kept else torch.zeros_like(value))
                optimiser.zero_grad()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._loss = self._run(batch, self._measure)


def moments(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    """Return all tensors that an optimiser remembers, in the order of what it trains."""
    states = [optimiser.state[p] for group in optimiser.param_groups for p in group["params"]]
    return [value for state in states for value in state.values() if isinstance(value, Tensor)]
