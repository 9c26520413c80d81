"""Training state on disk: enough to go on, bit for bit, after a kill."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hybrid.runs.files import DamagedFileError, load_tensors, save_tensors

log = logging.getLogger(__name__)


def save_checkpoint(
    path: Path,
    network: nn.Module,
    optimisers: Sequence[torch.optim.Optimizer],
    about: dict[str, Any],
) -> None:
    """Write parameters, traces and optimiser states, with `about` beside them, atomically."""
    tensors = {f"network/{name}": value for name, value in network.state_dict().items()}
    for i, optimiser in enumerate(optimisers):
        for index, state in optimiser.state_dict()["state"].items():
            for name, value in state.items():
                tensors[f"optimiser/{i}/{index}/{name}"] = torch.as_tensor(value)
    save_tensors(path, tensors, about)


def load_checkpoint(
    path: Path, network: nn.Module, optimisers: Sequence[torch.optim.Optimizer]
) -> dict[str, Any] | None:
    """Restore what `save_checkpoint` wrote and return its `about`.

    Returns None, and changes nothing, if there is no checkpoint or it is damaged (which is
    reported): training then starts anew.
    """
    try:
        tensors, about = load_tensors(path)
    except FileNotFoundError:
        return None
    except DamagedFileError as error:
        log.warning("%s; training starts anew", error)
        return None
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimisers]
    parameters = {}
    for key, value in tensors.items():
        kind, name = key.split("/", 1)
        if kind == "network":
            parameters[name] = value
        else:
            i, index, entry = name.split("/")
            states[int(i)].setdefault(int(index), {})[entry] = value
    network.load_state_dict(parameters)
    for optimiser, state in zip(optimisers, states, strict=True):
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    return about
