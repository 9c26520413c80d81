"""Two-timescale training: weights and meta-local parameters, each with its own optimiser.

Both descend the same loss on the same batches, at different rates: the scheme of the authors'
classification and fault-tolerance scripts. The network's traces live by their own rule meanwhile.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from hybrid.learning.checkpoint import load_checkpoint, save_checkpoint


class Split(NamedTuple):
    """Samples and their labels."""

    inputs: Tensor  # [N, in]
    labels: Tensor  # [N], integers


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train. Raises ValueError for values that cannot work."""

    epochs: int
    batch_size: int
    lr_weight: float
    lr_meta: float

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: it must be >= 1")
        for name in ("lr_weight", "lr_meta"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} = {getattr(self, name)}: it must be > 0")


@dataclass(frozen=True)
class EpochLog:
    """What one epoch came to."""

    loss: float  # mean training loss
    validation: float  # accuracy on the validation split, in [0, 1]


class NonFiniteLossError(ArithmeticError):
    """Training left the range of finite numbers; the message says when and what to do."""


def one_hot_mse(output: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error between outputs [N, C] and one-hot labels (paper Eq. 9)."""
    target = F.one_hot(labels, output.shape[-1]).to(output.dtype)
    return F.mse_loss(output, target)


def train(
    network: nn.Module,
    data: Split,
    validation: Split,
    schedule: Schedule,
    order: Callable[[int], torch.Generator],
    *,
    checkpoint: Path | None = None,
    title: str = "training",
    loss: Callable[[Tensor, Tensor], Tensor] = one_hot_mse,
) -> list[EpochLog]:
    """Train a network in place and return one log per epoch.

    Args:
        network: a module whose call returns an `Activity`, and whose `weight_parameters()` and
            `meta_parameters()` are trained at their own rates.
        data: training samples.
        validation: held-out training samples, looked at once per epoch, never learned from.
        schedule: epochs, batch size and learning rates.
        order: gives the generator that shuffles epoch e, so that any epoch can be replayed.
        checkpoint: file that keeps the state after each epoch. If it exists, training goes on
            from it and ends bit for bit where an uninterrupted run would have.
        title: label of the progress bar.
        loss: maps outputs [N, C] and labels [N] to a scalar.

    Raises:
        NonFiniteLossError: if the loss is NaN or infinite. The checkpoint still holds the last
            whole epoch.
        ValueError: if samples and labels do not pair up.
    """
    if len(data.inputs) != len(data.labels):
        raise ValueError(f"{len(data.inputs)} samples but {len(data.labels)} labels")
    weights, meta = network.weight_parameters(), network.meta_parameters()  # type: ignore[operator]
    rated = ((weights, schedule.lr_weight), (meta, schedule.lr_meta))
    optimisers = [torch.optim.Adam(params, rate, fused=True) for params, rate in rated if params]
    logs: list[EpochLog] = []
    if checkpoint is not None:
        about = load_checkpoint(checkpoint, network, optimisers)
        logs = [EpochLog(**entry) for entry in about["epochs"]] if about else []

    # Shown in terminals only: bars of parallel trials would pile up in a notebook.
    epochs = range(len(logs), schedule.epochs)
    bar = tqdm(epochs, desc=title, unit="epoch", leave=False, disable=None)
    for epoch in bar:
        mean = _epoch(network, data, schedule, order(epoch), optimisers, loss, epoch, checkpoint)
        logs.append(EpochLog(mean, accuracy(network, validation, schedule.batch_size)))
        bar.set_postfix(loss=f"{mean:.4f}", validation=f"{logs[-1].validation:.3f}")
        if checkpoint is not None:
            about = {"epochs": [vars(log) for log in logs]}
            save_checkpoint(checkpoint, network, optimisers, about)
    return logs


def _epoch(
    network: nn.Module,
    data: Split,
    schedule: Schedule,
    generator: torch.Generator,
    optimisers: list[torch.optim.Adam],
    loss: Callable[[Tensor, Tensor], Tensor],
    epoch: int,
    checkpoint: Path | None,
) -> float:
    """Run one epoch and return its mean loss."""
    network.train()
    total, shuffled = 0.0, torch.randperm(len(data.labels), generator=generator)
    batches = shuffled.to(data.labels.device).split(schedule.batch_size)
    for i, batch in enumerate(batches):
        for optimiser in optimisers:
            optimiser.zero_grad()
        value = loss(network(data.inputs[batch]).output, data.labels[batch])
        if not math.isfinite(value.item()):
            kept = f"epoch {epoch}, kept in {checkpoint}" if checkpoint and epoch else "none"
            raise NonFiniteLossError(
                f"the loss became {value.item()} in epoch {epoch + 1}, batch {i + 1} of "
                f"{len(batches)} (last good state: {kept}). Lower lr_weight = "
                f"{schedule.lr_weight} or lr_meta = {schedule.lr_meta}, or check the inputs "
                "for NaN."
            )
        value.backward()
        for optimiser in optimisers:
            optimiser.step()
        total += value.item()
    return total / len(batches)


@torch.no_grad()
def accuracy(network: nn.Module, data: Split, batch_size: int) -> float:
    """Return the fraction of samples classified correctly, in evaluation mode."""
    network.eval()
    correct = 0
    for inputs, labels in zip(
        data.inputs.split(batch_size), data.labels.split(batch_size), strict=True
    ):
        correct += int((network(inputs).output.argmax(-1) == labels).sum())
    return correct / len(data.labels)
