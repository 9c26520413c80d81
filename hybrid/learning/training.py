"""Two-timescale training: weights and meta-local parameters, each with its own optimiser.

Both descend the same loss on the same batches, at different rates: the scheme of the authors'
classification and fault-tolerance scripts. The network's traces live by their own rule meanwhile.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybrid.learning.checkpoint import BestState
from hybrid.learning.evaluation import accuracy, checked_labels
from hybrid.learning.fitting import EpochLog, Lessons, Training, fit
from hybrid.learning.iteration import Iteration, Split, output_of
from hybrid.learning.schedule import Schedule
from hybrid.model.convolutional import Convolutional
from hybrid.model.layers import meta_parameters, weight_parameters
from hybrid.runs.seeds import torch_stream

# Maps outputs [N, C] and labels [N] to a scalar.
Loss = Callable[[Tensor, Tensor], Tensor]
# Changes a batch of training inputs at random, from a generator.
Augment = Callable[[Tensor, torch.Generator], Tensor]


def one_hot_mse(output: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error between outputs [N, C] and one-hot labels (paper Eq. 9).

    Raises:
        ValueError: if labels are no classes from 0 to C - 1 (on a GPU, torch stops instead), or
            there is not one for each sample.
    """
    if labels.shape != output.shape[:-1]:
        given, wanted = list(labels.shape), list(output.shape[:-1])
        raise ValueError(f"labels of shape {given} for outputs of {wanted} samples")
    try:
        target = F.one_hot(labels, output.shape[-1]).to(output.dtype)
    except RuntimeError:  # another dtype or range: said in our words, without a cost to the rest
        target = F.one_hot(checked_labels(labels, output.shape[-1]), output.shape[-1]).to(
            output.dtype
        )
    return F.mse_loss(output, target)


# Samples with labels: all of them at once, or batch by batch, as a `DataLoader` gives them.
Data = Split | Iterable[tuple[Tensor, Tensor]]


def _default_order(epoch: int) -> torch.Generator:
    return torch_stream(0, "order", epoch)


def train(
    network: nn.Module,
    data: Data,
    validation: Data,
    schedule: Schedule,
    order: Callable[[int], torch.Generator] = _default_order,
    *,
    checkpoint: str | Path | None = None,
    title: str = "training",
    augment: Augment | None = None,
    best: BestState | None = None,
    loss: Loss = one_hot_mse,
) -> list[EpochLog]:
    """Train a network in place and return one log per epoch.

    Args:
        network: a module whose call returns an `Activity`, or its output [N, C] alone; its weights
            and its θ are trained at rates of their own.
        data: training samples; of a `DataLoader` the size and order of the batches are its own.
        validation: held-out training samples, looked at once per epoch, never learned from.
        schedule: epochs, batch size and learning rates.
        order: gives the generator of epoch e: it shuffles, augments, and seeds what dropout and
            spike codes draw from.
        checkpoint, title, best: see `Training`.
        augment: changes each training batch at random; None leaves it as it is.
        loss: maps outputs [N, C] and labels [N] to a scalar.

    Raises:
        NonFiniteLossError: see `fit`.
        ValueError: if samples and labels do not pair up, labels are no classes, data can be gone
            through only once, or nothing is there to train.
    """
    how: dict[str, Any] = {"title": title, "augment": augment, "best": best, "loss": loss}
    path = None if checkpoint is None else Path(checkpoint)
    return fit(prepared(network, data, validation, schedule, order, checkpoint=path, **how))


def prepared(
    network: nn.Module,
    data: Data,
    validation: Data,
    schedule: Schedule,
    order: Callable[[int], torch.Generator],
    *,
    checkpoint: Path | None = None,
    title: str = "training",
    augment: Augment | None = None,
    best: BestState | None = None,
    loss: Loss = one_hot_mse,
    test: Data | None = None,
) -> Training:
    """Return what `train` does, prepared.

    Args:
        test: samples whose accuracy is logged after each epoch, and has no influence.

    Others as of `train`, which has what is raised, too.
    """
    data, validation = _checked(data), _checked(validation)
    test = None if test is None else _checked(test)
    if not any(p.requires_grad for p in network.parameters()):
        raise ValueError("nothing to train: no parameter of the network requires a gradient")
    on_gpu = isinstance(data, Split) and data.inputs.is_cuda
    parts = weight_parameters(network), meta_parameters(network)
    optimisers, mixed = schedule.optimisers(*parts, recorded=on_gpu), schedule.mixed_precision

    def measure(inputs: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=mixed):
            output = output_of(network, inputs)
        return loss(output.float() if mixed else output, labels)

    def lessons(generator: torch.Generator) -> Lessons:
        network.train()
        batches = _batches(data, schedule.batch_size, generator, augment)
        return (("both", batch) for batch in batches)

    def right_share(samples: Data) -> float:
        network.eval()
        size = schedule.batch_size
        held_out = [samples] if isinstance(samples, Split) else _pairs(samples)
        parts = [(_share(network, part, size), len(part.labels)) for part in held_out]
        if not parts:
            raise ValueError("no samples to validate with: give at least one")
        return sum(share * count for share, count in parts) / sum(count for _, count in parts)

    return Training(
        network=network,
        optimisers=optimisers,
        iterations={"both": Iteration(network, optimisers, measure)},
        lessons=lessons,
        validate=partial(right_share, validation),
        test=None if test is None else partial(right_share, test),
        schedule=schedule,
        order=order,
        checkpoint=checkpoint,
        title=title,
        best=best,
        steps_per_epoch=(
            ceil(len(data.labels) / schedule.batch_size) if isinstance(data, Split) else None
        ),
        recorded=on_gpu,
        objective=loss,
        alone=_why_alone(network, data),
    )


def _why_alone(network: nn.Module, data: Data) -> str | None:
    if not isinstance(data, Split):
        return "its batches come in an order of their own"
    return "convolutions fill a device" if isinstance(network, Convolutional) else None


def _checked(given: Data) -> Data:
    """Return samples as a `Split`, or batch by batch; see `train` for what is refused."""
    pair = isinstance(given, tuple) and len(given) == 2
    if pair and all(isinstance(part, Tensor) for part in given):
        given = Split(*given)
    elif pair and not any(isinstance(part, tuple | list) for part in given):
        kinds = " and ".join(type(part).__name__ for part in given)
        raise ValueError(f"a pair of {kinds}: give samples and labels as tensors, torch.as_tensor")
    if isinstance(given, Iterator):
        raise ValueError("an iterator is used up after one epoch: give a DataLoader")
    if isinstance(given, Split) and given.labels.shape != (len(given.inputs),):
        shape = list(given.labels.shape)
        raise ValueError(f"{len(given.inputs)} samples but {shape} labels: give one each")
    if isinstance(given, Split) and not len(given.labels):
        raise ValueError("no samples: give at least one")
    return given


def _pairs(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Split]:
    """Yield batches that are not empty; the first is asked for when somebody wants it."""
    for batch in batches:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise ValueError(
                f"a batch is a {type(batch).__name__}: give pairs (inputs, labels), of tensors"
            )
        if len(batch[1]):
            yield Split(*batch)


def _share(network: nn.Module, part: Split, size: int) -> float:
    """Return the fraction of samples that a network classifies correctly."""
    labels = part.labels

    def answer(inputs: Tensor) -> Tensor:
        output = output_of(network, inputs)
        checked_labels(labels, output.shape[-1])
        return output.argmax(-1)

    return accuracy(answer, *part, size)


def _batches(
    data: Data, size: int, generator: torch.Generator, augment: Augment | None
) -> Iterator[Split]:
    """Return the batches of one epoch in random order; all seeds are drawn at once."""
    batches: Iterator[Split]
    if isinstance(data, Split):
        inputs, labels = data
        shuffled = torch.randperm(len(labels), generator=generator).to(labels.device)
        batches = (Split(inputs[batch], labels[batch]) for batch in shuffled.split(size))
    else:
        batches = _pairs(data)
    # A stream of its own, so that what the network draws does not depend on the augmentation.
    changes = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)))
    if augment is None:
        return batches
    return (Split(augment(inputs, changes), labels) for inputs, labels in batches)
