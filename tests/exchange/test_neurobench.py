"""NeuroBench's harness on our networks: its numbers are what our own activity says."""

import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import hybrid
from hybrid.model.coding import Rate
from hybrid.model.convolutional import Convolution, Convolutional, Dense
from hybrid.model.layers import InitialMeta
from hybrid.model.networks import FullyConnected, HybridNetwork
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import Hebbian
from tests.exchange.peers import peer

Benchmark = peer("neurobench.benchmarks").Benchmark
static = peer("neurobench.metrics.static")
workload = peer("neurobench.metrics.workload")

STEPS, SAMPLES = 5, 12
OPTIONS: dict[str, Any] = {
    "neuron": LIF(decay=0.6, v_th=0.3),
    "rule": Hebbian(trace_decay=0.9),
    "readout": Rate(),
    "steps": STEPS,
    "initial_meta": InitialMeta.up_to(0.5),
}


def measured(network: HybridNetwork, x: Tensor, labels: Tensor) -> dict[str, Any]:
    """Return what the harness says, of batches of 4."""
    metrics = [
        [static.ParameterCount, static.Footprint, static.ConnectionSparsity],
        [workload.ActivationSparsity, workload.SynapticOperations, workload.ClassificationAccuracy],
    ]
    loader = DataLoader(TensorDataset(x, labels), batch_size=4)
    model = hybrid.neurobench_model(network)
    last = [lambda output: output.argmax(-1)]
    found: dict[str, Any] = Benchmark(model, loader, [], last, metrics).run(quiet=True)
    return found


@pytest.mark.parametrize("each_step", [False, True])
def test_the_harness_counts_what_we_count(each_step: bool) -> None:
    """Of images, and of spikes [N, T, in]: bytes, zeros, spikes, operations, right answers."""
    draw = torch.Generator().manual_seed(0)
    network = FullyConnected((20, 30, 6), generator=draw, **OPTIONS)
    x = 2 * torch.rand(SAMPLES, 20, generator=draw)
    x[:, :7] = 0.0
    network(x)
    for layer in network.layers:  # pruned, weights and traces alike
        alive = torch.rand(layer.weight.shape, generator=draw) < 0.6
        layer.weight.data *= alive
        layer.trace *= alive.T
    network.eval()
    if each_step:
        x = (torch.rand(SAMPLES, STEPS, 20, generator=draw) < 0.3).float()
    activity = network(x.transpose(0, 1) if each_step else x, adapt=False)
    labels = activity.output.argmax(-1)
    labels[:3] = (labels[:3] + 1) % 6

    weights = [layer.weight + layer.theta.local_gain * layer.trace.T for layer in network.layers]
    first = x.transpose(0, 1) if each_step else x.expand(STEPS, *x.shape)
    inputs = [first, activity.windows[0].z]
    operations = [
        float((given != 0).sum((0, 1)).float() @ (weight != 0).float().sum(0)) / SAMPLES
        for given, weight in zip(inputs, weights, strict=True)
    ]
    spikes = sum(int(window.z.count_nonzero()) for window in activity.windows)
    assert spikes > 50
    count = sum(weight.numel() for weight in weights)
    zeros = sum(int((weight == 0).sum()) for weight in weights)

    found = measured(network, x, labels)
    assert found["ParameterCount"] == count + 36
    assert found["Footprint"] == 4 * (count + 36)
    assert found["ConnectionSparsity"] == pytest.approx(zeros / count, abs=5e-5)
    silent = 1.0 - spikes / (SAMPLES * STEPS * 36)
    assert found["ActivationSparsity"] == pytest.approx(silent, abs=1e-6)
    assert found["SynapticOperations"] == pytest.approx(
        {
            "Effective_MACs": 0.0 if each_step else operations[0],
            "Effective_ACs": operations[1] + (operations[0] if each_step else 0.0),
            "Dense": STEPS * count,
        }
    )
    assert found["ClassificationAccuracy"] == pytest.approx(1.0 - 3 / SAMPLES)


def test_convolutional_networks_are_measured() -> None:
    """Spikes of all layers, those before a pool among them."""
    torch.manual_seed(0)
    options = {**OPTIONS, "rule": None, "neuron": LIF(decay=0.6, v_th=0.15)}
    layers = [Convolution(channels=4, pooled=True), Convolution(channels=3)]
    network = Convolutional((1, 6, 6), layers, [Dense(size=5)], **options).eval()
    x = 2 * torch.rand(SAMPLES, 1, 6, 6)
    activity = network(x)
    spikes = sum(int(window.z.count_nonzero()) for window in activity.windows)
    assert spikes > 50
    found = measured(network, x, activity.output.argmax(-1))
    neurons = 4 * 36 + 3 * 9 + 5
    silent = 1.0 - spikes / (SAMPLES * STEPS * neurons)
    assert found["ActivationSparsity"] == pytest.approx(silent, abs=1e-6)
    assert found["ClassificationAccuracy"] == 1.0
    assert found["ParameterCount"] == sum(p.numel() for p in network.parameters())


def test_without_the_harness_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "neurobench.models", None)
    network = FullyConnected((4, 3), **OPTIONS)
    with pytest.raises(ImportError, match="pip install neurobench"):
        hybrid.neurobench_model(network)
