"""Two-timescale training: weights and meta-local parameters, each with its own optimiser.

Both descend the same loss on the same batches, at different rates: the scheme of the authors'
classification and fault-tolerance scripts. The network's traces live by their own rule meanwhile.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from hybrid.learning.checkpoint import BestState, load_checkpoint, save_checkpoint
from hybrid.learning.schedule import Schedule

# Changes a batch of training inputs at random, from a generator.
Augment = Callable[[Tensor, torch.Generator], Tensor]


class Split(NamedTuple):
    """Samples and their labels."""

    inputs: Tensor  # [N, in]
    labels: Tensor  # [N], integers


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
    augment: Augment | None = None,
    best: BestState | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = one_hot_mse,
) -> list[EpochLog]:
    """Train a network in place and return one log per epoch.

    Args:
        network: a module whose call returns an `Activity`, and whose `weight_parameters()` and
            `meta_parameters()` are trained at their own rates.
        data: training samples.
        validation: held-out training samples, looked at once per epoch, never learned from.
        schedule: epochs, batch size and learning rates.
        order: gives the generator of epoch e, so that any epoch can be replayed: it shuffles,
            augments, and seeds torch's global generator, which dropout and spike codes draw from.
        checkpoint: file that keeps the state after each epoch. If it exists, training goes on
            from it and ends, on a CPU, bit for bit where an uninterrupted run would have.
        title: label of the progress bar.
        augment: changes each training batch at random; None leaves it as it is.
        best: is told of every epoch, and kept in the checkpoint too.
        loss: maps outputs [N, C] and labels [N] to a scalar.

    Raises:
        NonFiniteLossError: if the loss is NaN or infinite. The checkpoint still holds the last
            whole epoch.
        ValueError: if samples and labels do not pair up.
    """
    if len(data.inputs) != len(data.labels):
        raise ValueError(f"{len(data.inputs)} samples but {len(data.labels)} labels")
    weights, meta = network.weight_parameters(), network.meta_parameters()  # type: ignore[operator]
    optimisers = schedule.optimisers(weights, meta)
    logs: list[EpochLog] = []
    if checkpoint is not None:
        about = load_checkpoint(checkpoint, network, optimisers, best)
        logs = [EpochLog(**entry) for entry in about["epochs"]] if about else []

    # Shown in terminals only: bars of parallel trials would pile up in a notebook.
    epochs = range(len(logs), schedule.epochs)
    bar = tqdm(epochs, desc=title, unit="epoch", leave=False, disable=None)
    for epoch in bar:
        kept = f"epoch {epoch}, kept in {checkpoint}" if checkpoint and epoch else "none"
        schedule.set_rates(optimisers, epoch)
        generator = order(epoch)
        batches = _batches(data, schedule.batch_size, generator, augment)
        with seeded(generator):
            mean = _epoch(network, batches, schedule, optimisers, loss, f"epoch {epoch + 1}", kept)
            logs.append(EpochLog(mean, accuracy(network, validation, schedule.batch_size)))
        bar.set_postfix(loss=f"{mean:.4f}", validation=f"{logs[-1].validation:.3f}")
        if best is not None:
            best.see(epoch + 1, logs[-1].validation, network)
        if checkpoint is not None:
            about = {"epochs": [vars(log) for log in logs]}
            save_checkpoint(checkpoint, network, optimisers, about, best)
    return logs


@contextmanager
def seeded(generator: torch.Generator) -> Iterator[None]:
    """Let torch's global generator follow from `generator` within the block, and no longer."""
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _batches(
    data: Split, size: int, generator: torch.Generator, augment: Augment | None
) -> Iterator[Split]:
    """Return the batches of one epoch in random order; all seeds are drawn at once."""
    shuffled = torch.randperm(len(data.labels), generator=generator).to(data.labels.device)
    # A stream of its own, so that what the network draws does not depend on the augmentation.
    changes = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)))
    batches = (Split(data.inputs[batch], data.labels[batch]) for batch in shuffled.split(size))
    if augment is None:
        return batches
    return (Split(augment(inputs, changes), labels) for inputs, labels in batches)


def _epoch(
    network: nn.Module,
    batches: Iterator[Split],
    schedule: Schedule,
    optimisers: list[torch.optim.Optimizer],
    loss: Callable[[Tensor, Tensor], Tensor],
    name: str,
    kept: str,
) -> float:
    """Run one epoch and return its mean loss."""
    network.train()
    values = []
    for batch in batches:
        for optimiser in optimisers:
            optimiser.zero_grad()
        device = batch.inputs.device.type
        with torch.autocast(device, torch.bfloat16, enabled=schedule.mixed_precision):
            output = network(batch.inputs).output
        value = loss(output.float() if schedule.mixed_precision else output, batch.labels)
        values.append(value.item())
        if not math.isfinite(values[-1]):
            raise NonFiniteLossError(
                f"the loss became {values[-1]} in {name}, batch {len(values)} (last good state: "
                f"{kept}). Lower lr_weight = {schedule.lr_weight} or lr_meta = "
                f"{schedule.lr_meta}, or check the inputs for NaN."
            )
        value.backward()
        for optimiser in optimisers:
            optimiser.step()
    return sum(values) / len(values)


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
