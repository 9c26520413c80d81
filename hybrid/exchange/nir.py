"""NIR, the intermediate representation that simulators and chips of spiking networks read.

A NIR graph is of continuous time: τ dv/dt = -v + r I, with a reset to zero. In steps of `dt` that
the reader chooses (Euler's rule), with k = dt / τ and r = 1,

    v_t = (1 - k) v_{t-1} + k I_t,   a spike where v_t > k v_th

is this package's LIF neuron with decay 1 - k and reset="zero", its potential in units of k.
snnTorch 1.0 always reads graphs with dt = 1e-4, norse 1.1 with the dt that its `from_nir` is given.
The standard keeps neither dt, nor the number of steps, nor a read-out.

Source: Pedersen et al., Nat. Commun. 15:8122 (2024).
"""

import re
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hybrid.model.chain import Stage, chain_of
from hybrid.model.convolutional import Convolution, Convolutional, Dense
from hybrid.model.networks import FullyConnected, HybridNetwork
from hybrid.model.neurons import IF, LIF, require_numbers
from hybrid.model.plasticity import LocalRule

DT = 1e-4  # seconds, which snnTorch takes for granted
# k of neurons that do not leak: too little for a number of double precision to show. (NIR's own IF
# becomes a leaky neuron in snnTorch 1.0.)
_NO_LEAK = 2.0**-60


def to_nir(network: HybridNetwork, *, frozen: bool = False, dt: float = DT) -> Any:
    """Return a network as a NIR graph; `nir.write(path, graph)` makes a file of it.

    Its input is what the first layer is shown at a step, an image or spikes; its output the spikes
    of the last layer. Means of 2 x 2 spikes are sums there, with the next weights a quarter, as
    norse has no mean.

    Args:
        network: a `FullyConnected` or `Convolutional` network.
        frozen: whether traces stay as they are stored, as part of the weights.
        dt: step in seconds that the graph is to be read with.

    Returns:
        A `nir.NIRGraph`.

    Raises:
        ImportError: if nir is not installed.
        ValueError: if NIR cannot say what the network does: a trace that learns (see `frozen`), a
            reset that is not to zero, an adaptive threshold, a drive that fades, a normalisation,
            an encoder.
    """
    nir = _nir()
    stages = chain_of(network, frozen=frozen)
    if any(gain != 1.0 for gain in network.gain):
        raise ValueError(
            "NIR cannot say that a drive fades: build the network with tau=None and train it so"
        )
    shape: tuple[int, ...] = (stages[0].connection.weight.shape[1],)
    if isinstance(network, Convolutional):
        shape = tuple(network.image)
    nodes = [nir.Input(input_type=np.array(shape))]
    share = 1.0  # of a sum that its mean is
    for stage in stages:
        weight, bias = _arrays(stage, share)
        if weight.ndim == 4:
            size = shape[1:]
            nodes.append(nir.Conv2d(size, weight, 1, 1, 1, 1, bias))
            shape = (len(weight), *size)
        else:
            if len(shape) == 3:  # counted from the end: a batch may stand before
                nodes.append(nir.Flatten(np.array(shape), -3, -1))
            nodes.append(nir.Affine(weight, bias))
            shape = (len(weight),)
        nodes.append(_neurons(nir, stage, shape, dt))
        share = 0.25 if stage.pooled else 1.0
        if stage.pooled:
            nodes.append(nir.SumPool2d(*map(np.array, ([2, 2], [2, 2], [0, 0]))))
            shape = (shape[0], shape[1] // 2, shape[2] // 2)
    return nir.NIRGraph.from_list(*nodes)


def _arrays(stage: Stage, share: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return weights and bias of a stage that is given sums, where a `share` of them is meant."""
    weight = stage.connection.weight.detach().cpu()
    bias = stage.connection.bias
    bias = weight.new_zeros(len(weight)) if bias is None else bias.detach().cpu()
    if weight.dtype in (torch.bfloat16, torch.float16):  # numpy has no such
        weight, bias = weight.float(), bias.float()
    return (share * weight).contiguous().numpy(), bias.numpy()


def _neurons(nir: Any, stage: Stage, shape: tuple[int, ...], dt: float) -> Any:
    """Return the neurons of a stage as a node."""
    neuron, kind = stage.neuron, type(stage.neuron).__name__
    if type(neuron) not in (LIF, IF):  # a subclass may do more
        raise ValueError(f"{stage.name}: NIR has no {kind}, use LIF or IF with reset='zero'")
    assert isinstance(neuron, LIF)
    if neuron.reset != "zero":
        raise ValueError(
            f"{stage.name}: NIR neurons are reset to zero, and {kind}.reset = {neuron.reset!r}: "
            "other programs would spike at other times; train the network with reset='zero'"
        )
    k = np.maximum(1.0 - _spread(neuron.decay, shape), _NO_LEAK)
    return nir.LIF(
        tau=dt / k,
        r=np.ones(shape),
        v_leak=np.zeros(shape),
        v_threshold=k * _spread(neuron.v_th, shape),
        v_reset=np.zeros(shape),
    )


def _spread(constant: float | Tensor, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return a constant of neurons for each of them."""
    value = torch.as_tensor(constant, dtype=torch.float64).detach().cpu().numpy()
    return np.broadcast_to(value, shape)


# Kinds of nodes as letters, and the chains of them that are networks of this package.
_LETTERS = {"Conv2d": "c", "LIF": "n", "SumPool2d": "p", "AvgPool2d": "p", "Flatten": "f"}
_LETTERS |= {"Affine": "d", "Linear": "d"}
_CHAINS = re.compile(r"(cnp?)+f(dn)+|f?(dn)+")


class _Layer(NamedTuple):
    """Nodes that are one layer here."""

    name: str
    node: Any  # the connections
    weight: Tensor  # of inputs that are means where they were pooled
    neuron: Any = None  # the LIF neurons that follow
    pooled: bool = False


def from_nir(
    graph: Any, *, dt: float = DT, rule: LocalRule | None = None, **options: Any
) -> FullyConnected | Convolutional:
    """Return the network that a NIR graph describes.

    Args:
        graph: a `nir.NIRGraph`, or the path of a file: linear layers with LIF neurons, or padded
            3 x 3 convolutions with them, each pooled or not by 2 x 2, and then linear ones.
        dt: step in seconds that the graph was written for: 1e-4 by snnTorch.
        rule: local rule for the linear layers to begin to learn with; None for none.
        options: of `FullyConnected` or `Convolutional`: `readout` and `steps`, which a graph lacks,
            and what else they take.

    Raises:
        ImportError: if nir is not installed.
        ValueError: if the graph holds what this package has no network for.
    """
    graph = _read(graph) if isinstance(graph, str | Path) else graph
    layers = _layers(_chain(graph), dt)
    convolved = [layer for layer in layers if layer.weight.ndim == 4]
    network: FullyConnected | Convolutional
    if convolved:
        (shape,) = (node.input_type["input"] for node in graph.inputs.values())
        channels, height, width = map(int, shape)
        dense = [
            Dense(size=len(layer.weight), neuron=layer.neuron, plastic=rule is not None)
            for layer in layers[len(convolved) :]
        ]
        network = Convolutional(
            (channels, height, width),
            [_convolution(layer) for layer in convolved],
            dense,
            neuron=_shared([layer.neuron for layer in convolved]),
            rule=rule,
            **options,
        )
        modules = [*network.convolutions, *network.layers]
    else:
        sizes = [layers[0].weight.shape[1], *(len(layer.weight) for layer in layers)]
        neurons = [layer.neuron for layer in layers]
        network = FullyConnected(sizes, neuron=neurons, rule=rule, **options)
        modules = [*network.layers]
    network.to(layers[0].weight.dtype)
    for module, layer in zip(modules, layers, strict=True):
        bias = getattr(layer.node, "bias", None)
        values = torch.zeros(len(layer.weight)) if bias is None else torch.as_tensor(bias)
        with torch.no_grad():
            module.get_parameter("weight").copy_(layer.weight)
            module.get_parameter("bias").copy_(values)
    return network


def _read(path: str | Path) -> Any:
    """Return the graph of a file."""
    nir = _nir()
    try:
        return nir.read(path)
    except (FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(
            f"{path} is damaged, or no NIR graph ({error}): write it anew with nir.write"
        ) from error


def _chain(graph: Any) -> list[tuple[str, Any]]:
    """Return names and nodes between input and output in their order; refuse other graphs."""
    after = dict(graph.edges)
    names = [name for name in graph.inputs if len(graph.inputs) == 1]
    while names and names[-1] in after and len(names) < len(graph.nodes):
        names.append(after[names[-1]])
    whole = len(names) == len(graph.nodes) == len(set(graph.edges)) + 1
    if not whole or names[-1] not in graph.outputs:
        raise ValueError("the graph is no chain from one input to one output: it cannot be read")
    chain = [(name, graph.nodes[name]) for name in names[1:-1]]
    kinds = [type(node).__name__ for _, node in chain]
    if not _CHAINS.fullmatch("".join(_LETTERS.get(kind, "?") for kind in kinds)):
        raise ValueError(
            f"{' - '.join(kinds)}: networks here are Affine - LIF, over and over, or Conv2d - LIF, "
            "each with or without a pool, before a Flatten and such layers"
        )
    return chain


def _layers(chain: list[tuple[str, Any]], dt: float) -> list[_Layer]:
    """Return a chain layer by layer.

    Pools here are means: what expects sums has weights four times as large.
    """
    layers: list[_Layer] = []
    factor = 1.0
    for name, node in chain:
        kind = type(node).__name__
        if kind == "LIF":
            layers[-1] = layers[-1]._replace(neuron=_lif(name, node, dt))
        elif kind in ("SumPool2d", "AvgPool2d"):
            _check(name, node, kernel_size=2, stride=2, padding=0)
            layers[-1] = layers[-1]._replace(pooled=True)
            factor = 4.0 if kind == "SumPool2d" else 1.0
        elif kind != "Flatten":
            layers.append(_Layer(name, node, factor * torch.as_tensor(node.weight)))
            factor = 1.0
    return layers


def _lif(name: str, node: Any, dt: float) -> LIF:
    """Return a node's neurons."""
    if np.any(node.v_leak) or np.any(node.v_reset):
        raise ValueError(f"{name}: v_leak and v_reset must be zero, as they are here")
    k = dt / np.asarray(node.tau, dtype=np.float64)
    if not np.all((k > 0.0) & (k < 1.0 + 1e-6)):  # more than 1 by the rounding of tau
        raise ValueError(f"{name}: tau is not finite, or shorter than dt = {dt} s: is it this dt?")
    k = np.minimum(k, 1.0)
    constants = {"decay": 1.0 - k, "v_th": node.v_threshold / (node.r * k)}
    values: dict[str, Any] = {
        key: float(array.flat[0]) if np.unique(array).size == 1 else torch.as_tensor(array)
        for key, array in constants.items()
    }
    return LIF(reset="zero", **values)


def _convolution(layer: _Layer) -> Convolution:
    """Return what a layer's convolution is here; refuse others."""
    if layer.weight.shape[2:] != (3, 3):
        shape = list(layer.weight.shape)
        raise ValueError(f"{layer.name}: weights {shape}; here are 3 x 3 alone")
    _check(layer.name, layer.node, stride=1, padding=1, dilation=1, groups=1)
    return Convolution(channels=len(layer.weight), pooled=layer.pooled)


def _shared(neurons: list[LIF]) -> LIF:
    """Return the neuron model of all convolutional layers; refuse several."""
    for neuron in neurons:
        require_numbers(neuron, "Convolutional")
        if neuron != neurons[0]:
            raise ValueError(f"convolutional layers share one neuron model here: {neurons}")
    return neurons[0]


def _check(name: str, node: Any, **wanted: int) -> None:
    """Refuse a node whose sizes, in both directions, are not those `wanted`."""
    found = {key: np.asarray(getattr(node, key)) for key in wanted}
    if any(np.any(found[key] != value) for key, value in wanted.items()):
        words = ", ".join(f"{key} = {value.tolist()}" for key, value in found.items())
        known = ", ".join(f"{key} = {value}" for key, value in wanted.items())
        raise ValueError(f"{name}: {words}; here are {known} alone")


def _nir() -> Any:
    try:
        return import_module("nir")
    except ImportError as error:
        raise ImportError("NIR needs a package: pip install 'hybrid-plasticity[nir]'") from error
