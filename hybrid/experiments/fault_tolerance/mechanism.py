"""What reaches hidden neurons as noise grows: through weights, and through the trace."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from hybrid.data.faults import corrupt
from hybrid.data.images import Images
from hybrid.experiments.fault_tolerance.arrivals import VARIANCE
from hybrid.learning.evaluation import classes_of
from hybrid.model.drive import Static
from hybrid.model.layers import HybridLinear
from hybrid.model.networks import FullyConnected
from hybrid.model.plasticity import LayerState, contract
from hybrid.report.estimate import Floats
from hybrid.report.figures import COLOURS, GREY, canvas
from hybrid.report.panels import Line, lines
from hybrid.report.panels import images as draw_images
from hybrid.runs.seeds import numpy_stream

_SMOOTHED = 20  # images
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


class Stream(NamedTuple):
    """What a network's hidden neurons get from images that come one by one."""

    pictures: Floats  # [images, height, width]
    weights: Floats  # mean current through the weights [images], in units of the threshold
    trace: Floats  # mean current through the trace as the images before left it [images]
    right: Floats  # whether each was answered rightly [images]


@torch.no_grad()
def streamed(network: FullyConnected, images: Images, seed: int = 0, each: int = 100) -> Stream:
    """Show a trained network clean images one by one, then as many noisy ones.

    The trace goes on from image to image, as in the "stream" protocol. Of fewer than twice `each`
    test images one half is clean and the other noisy.
    """
    network.eval()
    layer = network.layers[0]
    assert isinstance(layer, HybridLinear)
    each = min(each, len(images.test) // 2)
    noisy = corrupt(images.test, "gaussian", VARIANCE, numpy_stream(seed, "mechanism", "stream"))
    pictures = np.concatenate([images.test[:each], noisy[each : 2 * each]])
    left, rows = network.stored(), []
    for picture, label in zip(pictures, images.test_labels, strict=False):
        shown = torch.from_numpy(picture).flatten()[None]
        through = contract(shown, layer.weight).mean().item()
        trace, meta = left[0].trace, layer.synapse().meta
        pushed = 0.0
        if trace is not None and meta is not None:
            pushed = float((meta.local_gain * (shown @ trace)).mean())
        seen = network(shown, left, pool="stream")
        left = tuple(LayerState(trace=state.trace) for state in seen.final)  # neurons at rest
        rows.append((through, pushed, classes_of(seen.output).item() == label))
    through_all, pushed_all, right = np.array(rows, dtype=float).T
    return Stream(pictures, through_all / network.v_th, pushed_all / network.v_th, right)


def draw_mechanism(
    networks: Mapping[str, FullyConnected], images: Images, stream: Stream, seed: int = 0
) -> Figure:
    """Draw mean hidden currents of GP and HP under growing noise, and of HP in a stream."""
    figure, axes = canvas(["abc"], height=60)
    found = {name: currents(network, images, seed) for name, network in networks.items()}
    first = [_line(name, made.weights, COLOURS[name]) for name, made in found.items()]
    first += [_line(f"{n}, centred noise", m.mixed, GREY, "--") for n, m in found.items()][:1]
    lost = _line("HP", found["HP"].weights, COLOURS["HP"]).samples[-1]
    pushed = _line("HP", found["HP"].trace, COLOURS["HP"]).samples[-1]
    words: dict[str, Any] = {"xlabel": "noise variance", "ylabel": "change of current (thresholds)"}
    lines(axes["a"], first, title=f"Noise moves HP's current by {lost:+.2f} thresholds", **words)
    second = [_line(name, made.trace, COLOURS[name]) for name, made in found.items()]
    lines(axes["b"], second, title=f"Its trace pushes back by {pushed:+.2f}", **words)
    axes["b"].sharey(axes["a"])
    axes["a"].set_ylim(top=0.1)
    _as_stream(axes["c"], stream)
    return figure


def draw_moment(streams: Mapping[str, Stream], number: int) -> Figure:
    """Draw one image of a stream, and what has come of it by then, by methods' names."""
    figure, axes = canvas(["abb"], height=60)
    shown = next(iter(streams.values())).pictures[number - 1]
    answers = ", ".join(
        f"{name} {'right' if one.right[number - 1] else 'wrong'}" for name, one in streams.items()
    )
    draw_images(axes["a"], [[shown]], title=f"Image {number}: {answers}", vmin=0, vmax=1)
    for name, one in streams.items():
        x = np.arange(1.0, number + 1)
        curves = [Line(f"{name}, weights", x, _smoothed(one.weights[:number]), COLOURS[name])]
        if one.trace.any():
            trace = _smoothed(one.trace[:number])
            curves.append(Line(f"{name}, trace", x, trace, COLOURS["stream"]))
        lines(axes["b"], curves, legend={"loc": "upper left", "ncols": 3})
    every = len(next(iter(streams.values())).weights)
    begun = every // 2 if number > every // 2 else 0  # of what is as noisy as this image
    so_far = ", ".join(
        f"{n} {100 * one.right[begun:number].mean():.0f} %" for n, one in streams.items()
    )
    axes["b"].axvline(every // 2 + 0.5, color=GREY, linewidth=0.7)
    axes["b"].set(
        xlim=(1, every),
        ylim=(-1.5, 0.5),
        xlabel="image",
        ylabel=f"current (thresholds, mean of {_SMOOTHED} images)",
        title=f"Right so far, of {'noisy' if begun else 'clean'} images: {so_far}",
    )
    return figure


def _as_stream(axes: Axes, one: Stream) -> None:
    """Draw currents of HP along a stream, means of a few images before."""
    each = len(one.weights) // 2
    x = np.arange(1.0, len(one.weights) + 1)
    curves = []
    for name, values, colour in (
        ("weights", one.weights, COLOURS["HP"]),
        ("trace", one.trace, COLOURS["stream"]),
    ):
        change = values - values[:each].mean()
        curves.append(Line(name, x, _smoothed(change), colour))
    moved, back = (curve.samples[-each // 2 :].mean() for curve in curves)
    share = -back / moved if moved else 0.0
    title = f"In a stream it gives back {100 * share:.0f} % in the end"
    axes.axvline(each + 0.5, color=GREY, linewidth=0.7)
    axes.annotate("noise", (each + 0.5, 1), (2, -6), ("data", "axes fraction"), "offset points")
    ylabel = f"change of current (thresholds, mean of {_SMOOTHED})"
    lines(axes, curves, xlabel="image", ylabel=ylabel, title=title)


def _smoothed(values: Floats) -> Floats:
    """Return the mean of each value and a few before."""
    starts = (max(0, end - _SMOOTHED) for end in range(1, len(values) + 1))
    return np.array([values[start:end].mean() for end, start in enumerate(starts, 1)])


def _line(name: str, values: Sequence[float] | Floats, colour: str, style: str = "-") -> Line:
    """Return what noise adds to a current."""
    change = np.asarray(values) - values[0]
    return Line(name, _VARIANCES, change, colour, {"linestyle": style, "marker": "o"})
