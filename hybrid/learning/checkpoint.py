"""Training state on disk: enough to go on, bit for bit, after a kill."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from hybrid.runs.files import DamagedFileError, load_tensors, save_tensors

log = logging.getLogger(__name__)


_MADE_BY: ContextVar[Mapping[str, str]] = ContextVar("made_by", default=MappingProxyType({}))


@contextmanager
def made_by(known: Mapping[str, str]) -> Iterator[None]:
    """Let checkpoints within the block say who writes them, and be believed only by the same.

    Args:
        known: by the title of a training, what else decides it: all constants, data, the code.
    """
    before = _MADE_BY.set(known)
    try:
        yield
    finally:
        _MADE_BY.reset(before)


class BestState:
    """A network as it was after the epoch with the highest validation accuracy.

    Of equals the earliest counts. Test data have no part in the choice.
    """

    def __init__(self) -> None:
        self.epoch, self.validation = 0, -1.0  # epochs count from 1 here
        self.state: dict[str, Tensor] = {}

    def see(self, epoch: int, validation: float, network: nn.Module) -> None:
        """Keep a copy of the network's state if it is better than all before."""
        if validation > self.validation:
            self.epoch, self.validation = epoch, validation
            self.state = {name: value.clone() for name, value in network.state_dict().items()}


def save_checkpoint(
    path: Path,
    network: nn.Module,
    optimisers: Sequence[torch.optim.Optimizer],
    about: dict[str, Any],
    best: BestState | None = None,
    title: str = "",
) -> None:
    """Write parameters, traces, optimiser states and the best state, with `about`, atomically."""
    about = {**about, "by": _MADE_BY.get().get(title)}
    tensors = {f"network/{name}": value for name, value in network.state_dict().items()}
    for i, optimiser in enumerate(optimisers):
        for index, state in optimiser.state_dict()["state"].items():
            for name, value in state.items():
                tensors[f"optimiser/{i}/{index}/{name}"] = torch.as_tensor(value)
    if best is not None:
        tensors |= {f"best/{name}": value for name, value in best.state.items()}
        about = {**about, "best": {"epoch": best.epoch, "validation": best.validation}}
    save_tensors(path, tensors, about)


def load_checkpoint(
    path: Path,
    network: nn.Module,
    optimisers: Sequence[torch.optim.Optimizer],
    best: BestState | None = None,
    of: str | None = None,
    title: str = "",
) -> dict[str, Any] | None:
    """Restore what `save_checkpoint` wrote and return its `about`.

    Returns None, and changes nothing, if there is no checkpoint, or it is damaged, lacks the best
    state, or was made by another trial or other code than `made_by` says of the training's title
    (which is reported): training then starts anew.

    Raises:
        ValueError: if it is not `of` what is trained now, as its `about` has it.
    """
    try:
        tensors, about = load_tensors(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except DamagedFileError as error:
        log.warning("%s; training starts anew", error)
        return None
    by = _MADE_BY.get().get(title)
    if by is not None and about.get("by") != by:
        log.warning("%s is of another trial, or of other code; training starts anew", path)
        return None
    if best is not None and "best" not in about:
        log.warning("%s holds no best state; training starts anew", path)
        return None
    if of is not None and about.get("of", of) != of:
        raise ValueError(
            f"{path} keeps the training of another network or schedule: go on with that one, or "
            "delete the file, or name another one"
        )
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimisers]
    groups: dict[str, dict[str, Tensor]] = {"network": {}, "best": {}}
    for key, value in tensors.items():
        kind, name = key.split("/", 1)
        if kind in groups:
            groups[kind][name] = value
        else:
            i, index, entry = name.split("/")
            states[int(i)].setdefault(int(index), {})[entry] = value
    network.load_state_dict(groups["network"])
    if best is not None:
        best.state = groups["best"]
        best.epoch, best.validation = about["best"]["epoch"], about["best"]["validation"]
    for optimiser, state in zip(optimisers, states, strict=True):
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        _lay_out_like_parameters(optimiser)
    return about


def _lay_out_like_parameters(optimiser: torch.optim.Optimizer) -> None:
    """Give restored moments the memory layout of their parameters.

    Files hold contiguous tensors, while convolutions keep their channels last; fused optimisers
    walk both in the order of memory.
    """
    for parameter, state in optimiser.state.items():
        for name, value in state.items():
            if value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter).copy_(value)
