"""The course of an answer: what a network would say at each step, and what that costs in spikes."""

from typing import NamedTuple

import torch
from torch import Tensor

from hybrid.model.networks import Activity, HybridNetwork

# Windows longer than this are looked at in as many places, evenly spread.
_LOOKS = 28


class Course(NamedTuple):
    """What a network said about a test set, and when."""

    confusion: Tensor  # [true class, predicted class], counts
    looks: Tensor  # steps at which it was asked, counted from 1 [K]
    correct: Tensor  # right answers, had each sample to answer at that step at the latest [K]
    spikes: Tensor  # spikes of a sample up to its answer, by layer, up to that step [K, layers]
    latency: float  # mean number of steps until the answer


@torch.no_grad()
def follow(
    network: HybridNetwork, inputs: Tensor, labels: Tensor, batch_size: int, *, adapt: bool = True
) -> Course:
    """Test a network and follow its answers step by step; the network is left unchanged.

    A sample's spikes count until it has its answer (see `ReadOut.answered`).

    Args:
        network: trained network.
        inputs, labels: test samples.
        batch_size: samples that share a moving trace, where the network's pool is "batch".
        adapt: whether traces move during the test; no mark is left either way.
    """
    was_training = network.training
    network.eval()
    looks = torch.linspace(1, network.steps, min(network.steps, _LOOKS)).round().int()
    parts = [
        _follow_batch(network, network(x, adapt=adapt), y, looks)
        for x, y in zip(inputs.split(batch_size), labels.split(batch_size), strict=True)
    ]
    network.train(was_training)
    counted = [torch.stack(column).sum(0) for column in zip(*parts, strict=True)]
    confusion, correct, spikes, latency = counted
    return Course(confusion, looks, correct, spikes / len(labels), latency.item() / len(labels))


def _follow_batch(
    network: HybridNetwork, activity: Activity, labels: Tensor, looks: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return confusion, right answers and spikes at each look, and the sum of latencies."""
    states, v_th = activity.windows[-1].states, network.v_th
    # Who still works on an answer at each step; a batch may end before T.
    waiting = torch.stack(
        [torch.ones_like(labels, dtype=torch.bool)]
        + [~network.readout.answered(states[:t], v_th) for t in range(1, len(states))]
    )
    fired = (activity.spikes() * waiting).cumsum(1)  # [layers, T, N]
    correct, spikes = [], []
    for look in looks.tolist():
        t = min(look, len(states))
        correct.append((network.readout(states[:t], v_th).argmax(-1) == labels).sum())
        spikes.append(fired[:, t - 1].sum(-1))
    classes = activity.output.shape[-1]
    cells = labels * classes + activity.output.argmax(-1)
    confusion = torch.bincount(cells, minlength=classes**2).view(classes, classes)
    return confusion, torch.stack(correct), torch.stack(spikes), waiting.sum()
