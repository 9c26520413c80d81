"""What reaches hidden neurons as noise grows: through weights, and through the trace."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from hybrid.data.faults import corrupt
from hybrid.data.images import Images
from hybrid.experiments.fault_tolerance.arrivals import VARIANCE
from hybrid.model.drive import Static
from hybrid.model.layers import HybridLinear
from hybrid.model.networks import FullyConnected
from hybrid.model.plasticity import contract
from hybrid.report.estimate import Floats
from hybrid.report.figures import COLOURS, GREY, canvas
from hybrid.report.panels import Line, lines
from hybrid.runs.seeds import numpy_stream

_VARIANCES = tuple(np.linspace(0.0, VARIANCE, 7).round(3).tolist())


class Currents(NamedTuple):
    """Mean currents of hidden neurons at each noise [levels], in units of the threshold."""

    weights: Floats
    trace: Floats  # at the end of the window, under the batch protocol
    mixed: Floats  # of weights, for noise whose mean is centred: no shift


@torch.no_grad()
def currents(network: FullyConnected, images: Images, seed: int = 0) -> Currents:
    """Return the mean currents that test images bring to a trained network's hidden neurons."""
    network.eval()
    layer = network.layers[0]
    assert isinstance(layer, HybridLinear)
    rows = []
    for variance in _VARIANCES:
        noisy, centred = (
            _noisy(images, kind, variance, seed) for kind in ("gaussian", "gaussian_centred")
        )
        through = contract(noisy, layer.weight).mean().item()
        unmoved = contract(centred, layer.weight).mean().item()
        rows.append((through, _local(layer, noisy, network.gain), unmoved))
    weights, trace, mixed = np.array(rows).T / network.v_th
    return Currents(weights, trace, mixed)


def _noisy(images: Images, kind: str, variance: float, seed: int) -> Tensor:
    source = numpy_stream(seed, "mechanism", kind)
    return torch.from_numpy(corrupt(images.test, kind, variance, source)).flatten(1)


def _local(layer: HybridLinear, images: Tensor, gain: tuple[float, ...]) -> float:
    """Return the mean current of a trace that a batch of images has moved; 0 without one."""
    if layer.rule is None:
        return 0.0
    window = layer(Static(images, gain), layer.stored())
    trace, meta = window.final.trace, layer.synapse().meta
    assert trace is not None
    assert meta is not None
    return float((meta.local_gain * (images @ trace)).mean())


def draw_mechanism(networks: Mapping[str, FullyConnected], images: Images, seed: int = 0) -> Figure:
    """Draw mean hidden currents under growing noise, of networks by their methods' names."""
    figure, axes = canvas(["ab"], height=60)
    found = {name: currents(network, images, seed) for name, network in networks.items()}
    first = [_line(name, made.weights, COLOURS[name]) for name, made in found.items()]
    first += [_line(f"{n}, centred noise", m.mixed, GREY, "--") for n, m in found.items()][:1]
    words: dict[str, Any] = {"xlabel": "noise variance", "ylabel": "change of current (thresholds)"}
    lines(axes["a"], first, title="Through weights", **words)
    second = [_line(name, made.trace, COLOURS[name]) for name, made in found.items()]
    lines(axes["b"], second, title="Through the trace", **words)
    return figure


def _line(name: str, values: Sequence[float] | Floats, colour: str, style: str = "-") -> Line:
    """Return what noise adds to a current."""
    change = np.asarray(values) - values[0]
    return Line(name, _VARIANCES, change, colour, {"linestyle": style, "marker": "o"})
