"""Test protocols: what a trace may do while a network is being tested.

"batch"   The authors' protocol: each test batch starts from the trace that training left, adapts
          it to the mean of its own samples during the window, and leaves no mark.
"frozen"  The trace that training left is read and never changed. For a network without traces
          this is the only protocol.
"sample"  As "batch", with a trace of its own for each sample: no sample can help another.
"stream"  One sample at a time, in order; the trace is carried on and moves slowly, see
          `hybrid.model.stream`. No labels, no batch.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hybrid.model.networks import FullyConnected, HybridNetwork
from hybrid.model.stream import run_stream

Protocol = Literal["batch", "frozen", "sample", "stream"]
PROTOCOLS: tuple[Protocol, ...] = ("batch", "frozen", "sample", "stream")


class Outcome(NamedTuple):
    """What a network said about several test sets, and how much it spiked."""

    confusion: Tensor  # [sets, true class, predicted class], counts
    rates: Tensor  # [sets, layers], spikes per neuron and step


@torch.no_grad()
def evaluate(
    network: HybridNetwork, sets: Tensor, labels: Tensor, protocol: Protocol, batch_size: int
) -> Outcome:
    """Test a network on several versions of one test set; the network is left unchanged.

    Args:
        network: trained network.
        sets: [S, N, in]: S versions (fault levels) of N test samples in the same order.
        labels: [N].
        protocol: what the trace may do.
        batch_size: samples per batch of the "batch" protocol.

    Raises:
        ValueError: if the protocol is unknown, or "stream" and the network not fully connected.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol {protocol!r} is unknown: choose one of {', '.join(PROTOCOLS)}")
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
    classes = outputs.shape[-1]
    cells = labels * classes + outputs.argmax(-1)  # [S, N]
    counts = [torch.bincount(row, minlength=classes**2) for row in cells]
    return Outcome(torch.stack(counts).view(-1, classes, classes), rates)


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
