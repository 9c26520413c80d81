"""Small layers and networks, and sequences to show them."""

from typing import Any

import torch
from torch import Tensor

from hybrid.model.coding import Rate
from hybrid.model.layers import HybridLinear, InitialMeta
from hybrid.model.networks import FullyConnected
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import STDP, Hebbian, LocalRule
from hybrid.model.rules import BCM, Oja, Rewarded

NEURON = LIF(decay=0.6, v_th=0.3)
RULE = Hebbian(trace_decay=0.9)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def layer(inputs: int = 6, outputs: int = 4, **options: Any) -> HybridLinear:
    options = {"neuron": NEURON, "rule": RULE, "generator": seeded(), **options}
    return HybridLinear(inputs, outputs, initial_meta=InitialMeta.up_to(0.5), **options)


def network(**options: Any) -> FullyConnected:
    options = {
        "neuron": NEURON,
        "rule": RULE,
        "readout": Rate(),
        "steps": 6,
        "initial_meta": InitialMeta.up_to(0.5),
        "generator": seeded(),
        **options,
    }
    return FullyConnected((5, 8, 3), **options)


def sequences(steps: int = 6, samples: int = 7, inputs: int = 5, seed: int = 2) -> Tensor:
    drawn = torch.rand(steps, samples, inputs, generator=seeded(seed), dtype=torch.float64)
    return 2 * drawn


RULES: tuple[LocalRule | None, ...] = (
    None,
    RULE,
    Hebbian(trace_decay=0.9, trace_clip=0.2),
    STDP(trace_decay=0.9),
    Oja(trace_decay=0.9),
    BCM(trace_decay=0.9, averaging=0.2),
    Rewarded(rule=RULE),
)
