"""Networks of one form that are trained in one batched call, each as if it were alone.

Ten seeds of a small network cost a GPU little more than one. Their parameters and buffers are
stacked, [S, ...], and each network's own are views of its part; the iteration is the one that
trains a single network, mapped over S by `torch.func.vmap`. Each draws from its own generator, so
that it meets the batches that it would meet alone.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from hybrid.described import as_json
from hybrid.learning.fitting import EpochLog, Lessons, Training, fit_several
from hybrid.learning.iteration import Batch, Iteration, Measure
from hybrid.model.window.sparse import SparseMask


def fit_side_by_side(trainings: Sequence[Training]) -> list[list[EpochLog]]:
    """Train networks in place, in one call for each step, and return the logs of each; see `fit`.

    Args:
        trainings: of networks of one form, with one schedule and objective, that take as many
            steps. Each keeps a checkpoint of its own, if any, and can go on alone from it.

    Raises:
        ValueError: if there is none, they differ in more than values, or one has to be alone.
        NonFiniteLossError, LeaseOverError: see `fit`.

    Afterwards each training is by itself again. What draws from torch's global generator, such as
    an augmentation that leaves its own unused, would not draw as it does alone.
    """
    several = _SideBySide(trainings)
    try:
        rows = fit_several(several)
    finally:
        several.part()
    return [list(logs) for logs in zip(*rows, strict=True)]


class Stack(nn.Module):
    """Networks of one form, as one of S times the size.

    Args:
        networks: whose parameters and buffers are, from now on, views of those of the stack.

    Raises:
        ValueError: if they differ in more than values.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        first, *others = (_form(network) for network in networks)
        if any(other != first for other in others):
            raise ValueError("networks side by side must have one form, and differ in values alone")
        self._networks = tuple(networks)  # a tuple: they are no parts of the stack
        self.whole = deepcopy(networks[0])
        rows = map(_tensors, (self.whole, *networks))
        for (module, name, value), *own in zip(*rows, strict=True):
            stacked = torch.stack([part.detach() for *_, part in own])
            if isinstance(value, nn.Parameter):
                stacked = nn.Parameter(stacked, value.requires_grad)
            setattr(module, name, stacked)
        self.tie()

    @torch.no_grad()
    def gather(self) -> None:
        """Take over the values of the networks, and tie them anew."""
        for (_, _, whole), *own in zip(*map(_tensors, (self.whole, *self._networks)), strict=True):
            whole.copy_(torch.stack([value for *_, value in own]))
        self.tie()

    def part(self) -> None:
        """Give each network values of its own: those of the stack no longer follow them."""
        self.tie()
        for network in self._networks:
            for module, name, value in list(_tensors(network)):
                if isinstance(value, nn.Parameter):
                    value.data = value.detach().clone()
                else:
                    setattr(module, name, value.clone())

    def tie(self) -> None:
        """Let each network's values be views of the stack's, also of those that were replaced."""
        for (_, _, whole), *own in zip(*map(_tensors, (self.whole, *self._networks)), strict=True):
            for (module, name, value), part in zip(own, whole.detach().unbind(), strict=True):
                if isinstance(value, nn.Parameter):
                    value.data = part
                else:
                    setattr(module, name, part)

    def tensor(self, of: Tensor) -> Tensor:
        """Return what the first network has as a part, as it is stacked."""
        pairs = zip(_tensors(self._networks[0]), _tensors(self.whole), strict=True)
        return next(whole for (*_, own), (*_, whole) in pairs if own is of)

    def mapped(self, measure: Measure) -> Measure:
        """Return a measure of the first network as one of all [S], of batches [S, ...]."""
        measured = _Measured(self._networks[0], measure)

        def one(parameters: Any, buffers: Any, *batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
            state = {**parameters, **buffers}
            value = functional_call(measured, state, batch)
            # A call puts what it has stored in the place of what it was given.
            left = {name: state[name] for name in buffers if state[name] is not buffers[name]}
            return value, left

        def all_of(*batch: Any) -> Tensor:
            parameters = {f"network.{k}": v for k, v in self.whole.named_parameters()}
            buffers = {f"network.{k}": v for k, v in self.whole.named_buffers()}
            dims = (0, 0, *(0 if isinstance(x, Tensor | _Ragged) else None for x in batch))
            if any(isinstance(part, _Ragged) for part in batch):
                every = range(len(self._networks))
                given = (parameters, buffers, *batch)
                each = [_at_once(one, dims, *(_part(of, s) for of in given)) for s in every]
                values = torch.cat([value for value, _ in each])
                left = {name: torch.cat([own[name] for _, own in each]) for name in each[0][1]}
            else:
                values, left = _at_once(one, dims, parameters, buffers, *batch)
            for key, value in left.items():
                path, _, name = key.removeprefix("network.").rpartition(".")
                setattr(self.whole.get_submodule(path), name, value.detach())
            return values

        return all_of


class _Ragged(tuple[Tensor, ...]):
    """A part of a batch whose shape differs from network to network."""


def _part(of: Any, number: int) -> Any:
    """Return what one network has of what is stacked, as a stack of one."""
    if isinstance(of, dict):
        return {name: _part(value, number) for name, value in of.items()}
    if isinstance(of, _Ragged):
        return of[number].unsqueeze(0)
    return of[number : number + 1] if isinstance(of, Tensor) else of


def _at_once(one: Callable[..., Any], dims: tuple[int | None, ...], *parts: Any) -> Any:
    """Return what `one` comes to for all networks, in one call."""
    try:
        return vmap(one, in_dims=dims)(*parts)
    except RuntimeError as error:
        if "randomness" not in str(error):
            raise
        raise ValueError(
            "networks that draw at random, for dropout or spike codes, are trained one at a time: "
            "side by side they would not draw as they do alone"
        ) from error


class _Measured(nn.Module):
    """A network with what measures it, which refers to that very network."""

    def __init__(self, network: nn.Module, measure: Measure) -> None:
        super().__init__()
        self.network, self._measure = network, measure

    def forward(self, *batch: Any) -> Tensor:
        return self._measure(*batch)


class _SideBySide:
    """Several trainings as `fit_several` takes them."""

    def __init__(self, trainings: Sequence[Training]) -> None:
        if not trainings:
            raise ValueError("no trainings: give at least one")
        for own in trainings:
            if own.alone is not None or own.best is not None:
                reason = own.alone or "its best state is kept"
                raise ValueError(f"{own.title} cannot be trained side by side: {reason}")
        first = trainings[0]
        for what in ("schedule", "objective"):
            if any(getattr(own, what) != getattr(first, what) for own in trainings):
                raise ValueError(f"networks side by side must have one {what}")
        self._stack = Stack([own.network for own in trainings])
        optimisers = {id(own): self._stacked(own) for own in first.optimisers}
        iterations = {
            name: Iteration(
                self._stack,
                [optimisers[id(own)] for own in iteration.optimisers],
                self._stack.mapped(iteration.measure),
                resting=[optimisers[id(own)] for own in iteration.resting],
            )
            for name, iteration in first.iterations.items()
        }
        # What a lesson asks of one, all of them do.
        self._before = [(i, i.optimisers) for own in trainings for i in own.iterations.values()]
        for own in trainings:
            for name, iteration in own.iterations.items():
                iteration.optimisers = iterations[name].optimisers
        whole = list(optimisers.values())
        self.each = trainings
        self.how = replace(first, network=self._stack, optimisers=whole, iterations=iterations)

    def gather(self) -> None:
        self._stack.gather()
        for whole, *each in self._parameters():
            parts = [optimiser.state.get(own, {}) for optimiser, own in each]
            optimiser, stacked = whole
            for name, value in parts[0].items():
                values = [part[name] for part in parts]
                alike = name != "step" and value.shape == each[0][1].shape
                optimiser.state[stacked][name] = torch.stack(values) if alike else value.clone()

    def scatter(self) -> None:
        self._stack.tie()
        for (optimiser, stacked), *each in self._parameters():
            for name, value in optimiser.state[stacked].items():
                for number, (other, own) in enumerate(each):
                    alike = value.shape == stacked.shape
                    other.state[own][name] = value[number] if alike else value

    def _parameters(self) -> Iterator[tuple[tuple[torch.optim.Optimizer, Tensor], ...]]:
        """Yield each parameter with its optimiser: the stack's, then the same of each network."""
        every = [self.how.optimisers, *(own.optimisers for own in self.each)]
        for optimisers in zip(*every, strict=True):
            lists = [[p for g in own.param_groups for p in g["params"]] for own in optimisers]
            for parameters in zip(*lists, strict=True):
                yield tuple(zip(optimisers, parameters, strict=True))

    def part(self) -> None:
        """Let each training be by itself again."""
        self.scatter()
        self._stack.part()
        for training in self.each:
            for optimiser in training.optimisers:
                for state in optimiser.state.values():
                    state |= {name: value.clone() for name, value in state.items()}
        for iteration, optimisers in self._before:
            iteration.optimisers = optimisers

    def _stacked(self, optimiser: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Return an optimiser of the whole stack that is otherwise like one of the first."""
        groups = [
            {**group, "params": [self._stack.tensor(own) for own in group["params"]]}
            for group in optimiser.param_groups
        ]
        kind: Callable[..., torch.optim.Optimizer] = type(optimiser)
        return kind(groups)

    def lessons(self, sources: Sequence[torch.Generator]) -> Lessons:
        self._stack.tie()
        each = [own.lessons(source) for own, source in zip(self.each, sources, strict=True)]
        return self._together(each)

    def _together(self, each: Sequence[Lessons]) -> Iterator[tuple[str, Batch]]:
        for step in zip_longest(*each):
            names = {None if own is None else own[0] for own in step}
            if len(names) > 1:
                raise ValueError("networks side by side must take as many steps, of the same kinds")
            yield step[0][0], tuple(map(_stack_of, *(batch for _, batch in step)))


def _stack_of(*parts: Any) -> Any:
    """Return the same part of each network's batch as one: tensors stacked, constants as they are.

    Masks become dense: each network's has as many ones as it happens to have.

    Raises:
        ValueError: if constants differ.
    """
    parts = tuple(part.dense() if isinstance(part, SparseMask) else part for part in parts)
    if all(isinstance(part, Tensor) for part in parts):
        same = all(part.shape == parts[0].shape for part in parts)
        return torch.stack(parts) if same else _Ragged(parts)
    if any(own != parts[0] for own in parts):
        raise ValueError(f"networks side by side must have the same constants, not {parts}")
    return parts[0]


def _tensors(network: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """Yield parameters and buffers, with the modules that have them, in order."""
    for module in network.modules():
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        for name, value in own:
            yield module, name, value


def _form(network: nn.Module) -> Any:
    """Return all but the values of a network."""
    built = [as_json(module) for module in network.modules() if hasattr(module, "built_with")]
    tensors = [(own.shape, own.dtype, own.requires_grad) for *_, own in _tensors(network)]
    return str(network), built, tensors
