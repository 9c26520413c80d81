"""A training iteration of the continual-learning network at the paper's size, in three forms."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hybrid.experiments.continual.methods import HP, SPARSE_GP, ContinualMethod, build
from hybrid.experiments.continual.plans import AUTHORS
from hybrid.learning.iteration import Iteration
from hybrid.learning.owned import owned
from hybrid.learning.training import one_hot_mse
from hybrid.model.drive import Drive, Static, fade
from hybrid.model.networks import ContextGated
from hybrid.model.neurons import Rectangle, spike
from hybrid.model.window.sparse import Masks

SAMPLES = 100


def materialised(network: ContextGated, dense: list[Tensor], x: Tensor) -> Tensor:
    """The equations as they are usually coded: dense masks, and [N, in, out] at every step."""
    states = [(0.0, 0.0) for _ in network.layers]
    traces = [torch.zeros_like(mask) for mask in dense]
    for gain in network.gain:
        drive = gain * x
        for i, layer in enumerate(network.layers):
            v, z = states[i]
            neuron, own = layer.neuron, dense[i]
            current = F.linear(drive, layer.weight * own.mT)
            current = current + layer.theta.local_gain * (drive @ (traces[i] * (1.0 - own)))
            v = neuron.decay * (v - neuron.v_th * z) + current
            z = spike(v, neuron.v_th, Rectangle())
            y = torch.tanh(v / neuron.v_th - layer.theta.sliding_threshold)
            pre = (layer.theta.local_rate * drive).unsqueeze(2)
            update = torch.bmm(pre, y.unsqueeze(1)).mean(0)
            traces[i] = layer.rule.trace_decay * traces[i] + update
            states[i], drive = (v, z), gain * z
    return v @ (network.readout_weight.mT * dense[-1])


def plain(network: ContextGated, dense: list[Tensor], x: Tensor) -> Tensor:
    """Ours with dense masks, the trace updated by one product at each step."""
    drive: Drive = Static(x, network.gain)
    for layer, mask in zip(network.layers, dense, strict=False):
        window = layer(drive, mask=mask, evaluation="recurrent")
        drive = fade([state.z for state in window.states], network.gain)
    return window.states[-1].v @ (network.readout_weight.mT * dense[-1])


def sparse(network: ContextGated, masks: Masks, x: Tensor) -> Tensor:
    return network(x, masks).output


# Name: form, method, whether its masks are kept dense.
FORMS: dict[str, tuple[Callable[[ContextGated, Any, Tensor], Tensor], ContinualMethod, bool]] = {
    "HP, [N, in, out] materialised": (materialised, HP, True),
    "HP, dense masks": (plain, HP, True),
    "HP, ours": (sparse, HP, False),
    "sparse GP, ours": (sparse, SPARSE_GP, False),
}


def iteration(name: str) -> Callable[[], float]:
    """Return one whole training iteration of a form: forward, backward, optimisers.

    Ours is that of a task's second to tenth epoch, when the moments of others' weights have faded.
    """
    form, method, dense = FORMS[name]
    learner = build(AUTHORS, method, 1, 10)
    network, masks = learner.network, learner.masks(0)
    assert masks is not None
    kept = [mask.dense() for mask in masks] if dense else masks
    with torch.no_grad():
        for weight in network.weights:
            weight.mul_(6.0)  # so that neurons spike
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(SAMPLES, 784, generator=generator)
    x = x * (torch.rand(SAMPLES, 784, generator=generator) < 0.2)
    labels = torch.randint(0, 10, (SAMPLES,), generator=generator)
    schedule = AUTHORS.schedule
    optimisers = schedule.optimisers(network.weight_parameters(), network.meta_parameters())
    own = Iteration(network, optimisers[:1], lambda: form(network, kept, x))
    training = ExitStack()  # lasts as long as the iteration
    if not dense:
        kept = training.enter_context(owned(own, network.weights, masks))
        optimisers[:1] = own.optimisers

    def run() -> float:
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss = one_hot_mse(form(network, kept, x), labels)
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
        return loss.item()

    run.lasting = training  # type: ignore[attr-defined]
    return run


def mask_megabytes() -> float:
    """Return what the masks of all tasks of the paper take."""
    learner = build(AUTHORS, HP, 1, 10)
    every = [mask for task in range(AUTHORS.tasks) for mask in learner.masks(task) or ()]
    return round(sum(part.nbytes for mask in every for part in (mask.inputs, mask.starts)) / 1e6, 1)
