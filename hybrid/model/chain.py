"""Frozen networks as a chain of weighted connections and neurons, one step at a time."""

from copy import deepcopy
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.utils import skip_init

from hybrid.model.convolutional import Convolutional
from hybrid.model.layers import HybridLinear
from hybrid.model.networks import FullyConnected, HybridNetwork
from hybrid.model.neurons import Neuron, tensor_constants, with_constants
from hybrid.model.plasticity import global_weight, hybrid_weight


class Stage(NamedTuple):
    """Connections, the neurons that they drive, and what follows."""

    name: str  # of the layer in its network
    connection: nn.Linear | nn.Conv2d
    neuron: Neuron
    faded: bool = True  # its inputs fade with the drive
    pooled: bool = False  # 2 x 2 mean of the spikes


def chain_of(network: HybridNetwork, *, frozen: bool) -> tuple[Stage, ...]:
    """Return what a feed-forward network is made of, with weights of its own.

    Args:
        network: a `FullyConnected` or `Convolutional` network.
        frozen: whether traces stay as they are stored, as part of the weights.

    Raises:
        ValueError: if it is another network, learns while it answers (unless `frozen`), keeps no
            trace that could be frozen, encodes its inputs, or normalises them.
    """
    kind = type(network).__name__
    if not isinstance(network, FullyConnected | Convolutional):
        raise ValueError(f"{kind}: give a FullyConnected or Convolutional network")
    if network.encode is not None:
        raise ValueError(
            f"{kind}.encode = {network.encode!r}: a chain is of weights and neurons; build the "
            "network without, load its state_dict, and show it what the encoder makes"
        )
    stages: list[Stage] = []
    if isinstance(network, Convolutional):
        pairs = zip(network.convolutions, network._convolutions, strict=True)
        for number, (convolve, spec) in enumerate(pairs):
            assert isinstance(convolve, nn.Conv2d)
            name, own = f"convolutions.{number}", deepcopy(convolve)
            # The image is shown unfaded.
            stages.append(Stage(name, own, network.neuron, number > 0, spec.pooled))
    for number, layer in enumerate(network.layers):
        assert isinstance(layer, HybridLinear)
        name = f"layers.{number}"
        if layer.norm is not None:
            raise ValueError(f"{name}: a batch normalisation stands between weights and neurons")
        if layer.rule is not None and not frozen:
            raise ValueError(
                f"{name}: its trace learns while it answers, by {layer.rule}; say frozen=True to "
                "keep it as it is stored, as part of the weights"
            )
        constants = tensor_constants(layer.neuron).items()  # within their bounds already
        neuron = with_constants(layer.neuron, {key: value.detach() for key, value in constants}, ())
        dense = network._dense[number] if isinstance(network, Convolutional) else None
        stages.append(Stage(name, folded(layer, name), neuron, dense is None or dense.faded))
    return tuple(stages)


@torch.no_grad()
def folded(layer: HybridLinear, name: str) -> nn.Linear:
    """Return a layer's connections: its weights, and on top of them the trace that it keeps.

    Raises:
        ValueError: if it has a rule, but keeps no trace.
    """
    if layer.rule is not None and layer.lifetime == "call":
        raise ValueError(
            f"{name}: its traces live for one call, so none is stored that could be frozen; "
            "weights alone are another network, of rule=None"
        )
    synapse, trace = layer.synapse(), layer.stored().trace
    weight, bias = global_weight(synapse), synapse.bias
    weight = weight if trace is None else hybrid_weight(weight, trace, synapse)
    made = skip_init(nn.Linear, *weight.mT.shape, bias is not None)
    made.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().clone())
    return made
