"""Test protocols: what a trace may do while a network is being tested.

"batch"   The authors' protocol: each test batch starts from the trace that training left, adapts
          it to the mean of its own samples during the window, and leaves no mark.
"frozen"  The trace that training left is read and never changed. For a network without traces
          this is the only protocol.
"sample"  As "batch", with a trace of its own for each sample: no sample can help another.
"stream"  One sample at a time, in order; the trace is carried on and moves slowly, see
          `hybrid.model.streams`. No labels, no batch.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hybrid.checks import choose
from hybrid.model.networks import Activity, FullyConnected, HybridNetwork
from hybrid.model.streams import run_stream

Protocol = Literal["batch", "frozen", "sample", "stream"]
PROTOCOLS: tuple[Protocol, ...] = ("batch", "frozen", "sample", "stream")
SILENT = -1  # the class of an answer that nobody gave
# Windows longer than this are asked for an answer at as many steps, evenly spread.
_ASKED = 28


@torch.no_grad()
def accuracy(
    answer: Callable[[Tensor], Tensor], inputs: Tensor, labels: Tensor, batch_size: int
) -> float:
    """Return the fraction of samples that are answered correctly.

    Args:
        answer: maps inputs [n, *] to classes [n].
        inputs: [N, *].
        labels: [N].
        batch_size: samples asked at a time.

    Raises:
        ValueError: if there is not one label for each sample.
    """
    if labels.shape != (len(inputs),):
        raise ValueError(f"labels of shape {list(labels.shape)} for {len(inputs)} samples")
    answers = torch.cat([answer(part) for part in inputs.split(batch_size)])
    return int((answers == labels).sum()) / len(labels)


def checked_labels(labels: Tensor, count: int) -> Tensor:
    """Return labels [N] as int64.

    Raises:
        ValueError: if they are not whole numbers from 0 to `count` - 1 in a row.
    """
    if labels.ndim != 1:
        raise ValueError(f"labels of shape {list(labels.shape)}: give one for each sample, [N]")
    if labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"labels of dtype {labels.dtype}: give whole numbers, such as int64")
    if len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < count):
        raise ValueError(
            f"labels from {int(labels.min())} to {int(labels.max())} for {count} classes: number "
            f"the classes from 0 to {count - 1}"
        )
    return labels.long()


def require_samples(labels: Tensor) -> None:
    """Raise ValueError if there is nobody to be tested: there is no share of nothing."""
    if not len(labels):
        raise ValueError("no samples: give at least one to test a network with")


def classes_of(outputs: Tensor) -> Tensor:
    """Return the classes [*] that outputs [*, C] stand for, or SILENT where all of them are 0."""
    return outputs.argmax(-1).masked_fill((outputs == 0.0).all(-1), SILENT)


def confusion(answers: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return counts [true class, predicted class] of answers [N] to samples with labels [N].

    Samples that no output neuron answered are not among them.
    """
    spoken = answers != SILENT
    cells = labels[spoken] * classes + answers[spoken]
    return torch.bincount(cells, minlength=classes**2).view(classes, classes)


def packed(right: Tensor) -> str:
    """Return which samples [N] were answered rightly as bits in hexadecimal; see `unpacked`."""
    return np.packbits(right.cpu().numpy()).tobytes().hex()


def unpacked(bits: str, count: int) -> NDArray[np.bool_]:
    """Return which of so many samples were answered rightly [N], from what `packed` returned."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(bits), np.uint8), count=count).astype(bool)


class Answers(NamedTuple):
    """What a network said about several test sets, and how much it spiked."""

    classes: Tensor  # [sets, N]; SILENT where no output neuron answered
    rates: Tensor  # [sets, layers], spikes per neuron and step


class Outcome(NamedTuple):
    """What a network said about several test sets, counted, and how much it spiked."""

    confusion: Tensor  # [sets, true class, predicted class], counts
    rates: Tensor  # [sets, layers], spikes per neuron and step
    silent: Tensor  # [sets], samples that no output neuron answered, which are in no count


def evaluate(
    network: HybridNetwork, sets: Tensor, labels: Tensor, protocol: Protocol, batch_size: int
) -> Outcome:
    """Test a network on versions of one test set with labels [N], and count; see `answer`.

    Raises:
        ValueError: if there is no sample, or labels are no classes; and see `answer`.
    """
    require_samples(labels)
    if sets.ndim > 2 and sets.shape[1] != len(labels):
        raise ValueError(f"{len(labels)} labels for sets of {sets.shape[1]} samples")
    count = len(network.layers[-1].weight)  # type: ignore[arg-type]
    labels = checked_labels(labels, count)
    answers, rates = answer(network, sets, protocol, batch_size)
    counts = [confusion(row, labels, count) for row in answers]
    return Outcome(torch.stack(counts), rates, (answers == SILENT).sum(-1))


@torch.inference_mode()
def answer(network: HybridNetwork, sets: Tensor, protocol: Protocol, batch_size: int) -> Answers:
    """Test a network on several versions of one test set; the network is left unchanged.

    Args:
        network: trained network.
        sets: [S, N, in]: S versions (fault levels) of N test samples in the same order.
        protocol: what the trace may do.
        batch_size: samples per batch of the "batch" protocol.

    Raises:
        ValueError: if the protocol is unknown, or "stream" and the network not fully connected, or
            sets are no sets.
    """
    choose("protocol", protocol, PROTOCOLS)
    if sets.ndim < 3:
        plain = isinstance(network, FullyConnected) and network.encode is None
        size = network.layers[0].weight.shape[1] if plain else "*"  # type: ignore[index]
        raise ValueError(
            f"sets of shape {list(sets.shape)}: give S sets [N, {size}] as one tensor "
            f"[S, N, {size}]; of a single one, x[None]; flatten images, x.flatten(1)"
        )
    was_training = network.training
    network.eval()
    if protocol == "stream":
        if not isinstance(network, FullyConnected):
            raise ValueError("streams run through fully connected networks alone")
        streamed = run_stream(network, sets)
        outputs, rates = streamed.outputs, streamed.rates
    else:
        tested = [_test_set(network, inputs, protocol, batch_size) for inputs in sets]
        outputs = torch.stack([output for output, _ in tested])
        rates = torch.stack([rate for _, rate in tested])
    network.train(was_training)
    return Answers(classes_of(outputs), rates)


def _test_set(
    network: HybridNetwork, inputs: Tensor, protocol: Protocol, batch_size: int
) -> tuple[Tensor, Tensor]:
    """Return outputs [N, C] and firing rates [layers] of one test set."""
    outputs, steps = [], len(network.gain)
    spikes = torch.zeros(len(network.layers), device=inputs.device)
    for batch in inputs.split(batch_size):
        activity = network(
            batch,
            pool="sample" if protocol == "sample" else "batch",
            adapt=protocol != "frozen",
        )
        outputs.append(activity.output)
        counts = activity.spike_counts()[-len(spikes) :]  # those of dense layers
        spikes += torch.stack([count.mean(-1).sum() for count in counts])
    return torch.cat(outputs), spikes / (steps * len(inputs))


class AnswerCurve(NamedTuple):
    """What a network would answer at each step, and what that costs in spikes."""

    confusion: Tensor  # [true class, predicted class], counts
    asked: Tensor  # steps at which it was asked, counted from 1 [K]
    correct: Tensor  # right answers, had each sample to answer at that step at the latest [K]
    spikes: Tensor  # spikes of a sample up to its answer, by layer, up to that step [K, layers]
    latency: float  # mean number of steps until the answer
    silent: int  # samples that no output neuron answered, which are in no count


@torch.no_grad()
def answer_curve(
    network: HybridNetwork, inputs: Tensor, labels: Tensor, batch_size: int, *, adapt: bool = True
) -> AnswerCurve:
    """Test a network and follow its answers step by step; the network is left unchanged.

    A sample's spikes count until it has its answer (see `ReadOut.answered`).

    Args:
        network: trained network.
        inputs, labels: test samples.
        batch_size: samples that share a moving trace, where the network's pool is "batch".
        adapt: whether traces move during the test; no mark is left either way.

    Raises:
        ValueError: if there is no sample, or labels are no classes.
    """
    require_samples(labels)
    labels = checked_labels(labels, len(network.layers[-1].weight))  # type: ignore[arg-type]
    was_training = network.training
    network.eval()
    asked = torch.linspace(1, network.steps, min(network.steps, _ASKED)).round().int()
    parts = [
        _curve_of_batch(network, network(x, adapt=adapt), y, asked)
        for x, y in zip(inputs.split(batch_size), labels.split(batch_size), strict=True)
    ]
    network.train(was_training)
    counted = [torch.stack(column).sum(0) for column in zip(*parts, strict=True)]
    counts, correct, spikes, latency = counted
    mean, silent = latency.item() / len(labels), len(labels) - int(counts.sum())
    return AnswerCurve(counts, asked, correct, spikes / len(labels), mean, silent)


def _curve_of_batch(
    network: HybridNetwork, activity: Activity, labels: Tensor, asked: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return confusion, right answers and spikes at each step asked, and the sum of latencies."""
    states, v_th = activity.windows[-1].states, network.v_th
    # Who still works on an answer at each step; a batch may end before T.
    waiting = torch.stack(
        [torch.ones_like(labels, dtype=torch.bool)]
        + [~network.readout.answered(states[:t], v_th) for t in range(1, len(states))]
    )
    fired = (activity.spikes() * waiting).cumsum(1)  # [layers, T, N]
    correct, spikes = [], []
    for step in asked.tolist():
        t = min(step, len(states))
        correct.append((classes_of(network.readout(states[:t], v_th)) == labels).sum())
        spikes.append(fired[:, t - 1].sum(-1))
    counts = confusion(classes_of(activity.output), labels, activity.output.shape[-1])
    return counts, torch.stack(correct), torch.stack(spikes), waiting.sum()
