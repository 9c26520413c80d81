"""Corrections at test time: what a trained network can do about inputs whose statistics have moved.

No labels, no traces and no gradients: weights and traces stay as training left them, and what
changes is set against statistics of the training inputs (`Reference`).

"offset"           one number is added to a batch of inputs, so that its mean intensity is as before
"pixels"           each input loses the running mean of the inputs before it, pixel by pixel, and
                   gets the mean of training instead
"currents-batch"   each neuron of the first layer gives the current that a test batch brings it the
                   mean and the deviation that it had in training (test-time normalisation)
"currents-stream"  the same with running estimates, from the inputs before this one
"thresholds"       each neuron of the first layer moves its threshold from input to input, so as to
                   keep the firing rate that it had in training

All but the two batch forms see one input at a time: a chip could run them. "currents-stream" is the
homeostatic network of this companion; it is not in the paper.

Sources: test-time normalisation, Nado et al., arXiv 2006.10963; thresholds that are adapted in
spiking networks, threshold modulation, arXiv 2505.05375. Forms and constants are ours.
"""

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from hybrid.checks import choose
from hybrid.learning.evaluation import Answers, classes_of
from hybrid.model.drive import Control
from hybrid.model.networks import FullyConnected

Correction = Literal["offset", "pixels", "currents-batch", "currents-stream", "thresholds"]
CORRECTIONS: tuple[Correction, ...] = (
    "offset",
    "pixels",
    "currents-batch",
    "currents-stream",
    "thresholds",
)
_AT_ONCE = 200  # inputs, where a batch has no meaning: potentials stay in the cache
_LARGEST = 1e30  # factor of a normalised current, which is a difference
_LEAST = 0.01  # of the deviation in training: no current is amplified a hundredfold


class Rates(NamedTuple):
    """How fast running estimates move: share of the newest input; and of log thresholds.

    Records leave defaults out of their descriptions: these must stay as they are.
    """

    pixels: float = 0.01
    currents: float = 0.01
    thresholds: float = 0.1


class Reference(NamedTuple):
    """What training inputs bring to a trained network: means over inputs (and steps)."""

    pixels: Tensor  # [*], of one input
    mean: Tensor  # [out], current of each neuron of the first layer, without bias
    square: Tensor  # [out], of its square
    rate: Tensor  # [out], spikes per step


@torch.inference_mode()
def reference(network: FullyConnected, inputs: Tensor) -> Reference:
    """Return the statistics of training inputs [N, *] in a trained network.

    Raises:
        ValueError: if the network has no layer behind the first.
    """
    if len(network.layers) < 2:
        raise ValueError("corrections act on the first layer: the network needs one behind it")
    was_training = network.training
    network.eval()
    means, squares, spikes = [], [], []
    for part in inputs.split(_AT_ONCE):
        read = network.read(part)  # [n, T or 1, out]
        means.append(read.mean(1))
        squares.append(read.square().mean(1))
        spikes.append(network(part, adapt=False).windows[0].z.mean(0))
    network.train(was_training)
    mean, square, rate = (torch.cat(column).mean(0) for column in (means, squares, spikes))
    return Reference(inputs.float().mean(0), mean, square, rate)


@torch.inference_mode()
def answer_corrected(
    network: FullyConnected,
    sets: Tensor,
    correction: Correction,
    known: Reference,
    batch_size: int,
    rates: Rates = Rates(),  # noqa: B008 (immutable)
) -> Answers:
    """Test a network under a correction; its weights, traces and mode are left unchanged.

    Args:
        network: trained network; a trace, if it has one, is read and does not move.
        sets: [S, N, *]: S versions of N test samples in the same order.
        correction: by name.
        known: of its training.
        batch_size: samples of a batch, for "offset" and "currents-batch".
        rates: of running estimates, which start from those of training.

    Raises:
        ValueError: if the correction is unknown.
    """
    choose("correction", correction, CORRECTIONS)
    was_training = network.training
    network.eval()
    if correction == "thresholds":
        outputs, spikes = _under_thresholds(network, sets, known, rates.thresholds)
    else:
        found = [_corrected(network, x, correction, known, batch_size, rates) for x in sets]
        outputs, spikes = (torch.stack(column) for column in zip(*found, strict=True))
    network.train(was_training)
    return Answers(classes_of(outputs), spikes)


def _corrected(
    network: FullyConnected,
    inputs: Tensor,
    correction: Correction,
    known: Reference,
    batch_size: int,
    rates: Rates,
) -> tuple[Tensor, Tensor]:
    """Return outputs [N, C] and firing rates [layers] of one test set."""
    factor: Tensor | None = None
    shift: Tensor | None = None
    if correction in ("offset", "pixels"):
        inputs = inputs.float()
    if correction == "offset":
        batches = [x + (known.pixels.mean() - x.mean()) for x in inputs.split(batch_size)]
        inputs = torch.cat(batches)
    elif correction == "pixels":
        before = _running(inputs.flatten(1), known.pixels.flatten(), rates.pixels)
        inputs = inputs + (known.pixels - before.view_as(inputs))
    else:
        parts = [network.read(x) for x in inputs.split(_AT_ONCE)]
        means = torch.cat([read.mean(1) for read in parts])  # [N, out]
        squares = torch.cat([read.square().mean(1) for read in parts])
        if correction == "currents-batch":
            means, squares = (_by_batch(values, batch_size) for values in (means, squares))
            factor, shift = _usual(means, squares, known)
        else:
            factor, shift = running_gain(means, squares, known, rates.currents)
    outputs, spikes = [], torch.zeros(len(network.layers), device=inputs.device)
    for place in torch.arange(len(inputs)).split(_AT_ONCE):
        part = slice(int(place[0]), int(place[-1]) + 1)
        control = None if factor is None or shift is None else _affine(factor[part], shift[part])
        activity = network(inputs[part], adapt=False, control=control)
        outputs.append(activity.output)
        counts = activity.spike_counts()
        spikes += torch.stack([count.mean(-1).sum() for count in counts])
    return torch.cat(outputs), spikes / (network.steps * len(inputs))


def running_gain(
    means: Tensor, squares: Tensor, known: Reference, rate: float
) -> tuple[Tensor, Tensor]:
    """Return factors and shifts [N, out] that give currents their usual mean and deviation.

    Args:
        means, squares: of each input's currents, and of their squares, over steps [N, out].
        known: of training.
        rate: of the running estimates; each input is corrected by what came before it.
    """
    before = _running(means, known.mean, rate), _running(squares, known.square, rate)
    return _usual(*before, known)


def _usual(means: Tensor, squares: Tensor, known: Reference) -> tuple[Tensor, Tensor]:
    usual = _deviation(known.mean, known.square)
    factor = usual / torch.maximum(_deviation(means, squares), _LEAST * usual)
    return factor, known.mean - factor * means


def _under_thresholds(
    network: FullyConnected, sets: Tensor, known: Reference, rate: float
) -> tuple[Tensor, Tensor]:
    """Return outputs [S, N, C] and rates [S, layers] of neurons that keep their firing rate.

    A threshold of κ v_th is the same as a current of I / κ, as a membrane is linear between spikes;
    log κ moves by `rate` times what the neuron fired more, per step, than in training.
    """
    own = {name: p for name, p in network.named_parameters() if name == "layers.0.bias"}
    zero = _zero_of(network.layers[0].norm)
    log = torch.zeros(len(sets), len(known.rate), device=sets.device)
    outputs, spikes = [], torch.zeros(len(sets), len(network.layers), device=sets.device)
    for shown in sets.unbind(1):  # all sets side by side, one sample of each
        factor = (-log).exp()
        # A neuron that was silent for thousands of inputs has next to no threshold, in the end an
        # infinite factor. Read and bias of opposite signs are no number then, and it stays silent:
        # left so, as committed records were computed so; it happens behind large crops alone.
        if zero is not None:
            factor = factor.clamp(max=_LARGEST)
        control = factor.mul if zero is None else _affine(factor, (1.0 - factor) * zero)
        words = {"adapt": False, "control": control}
        scaled = {name: factor * bias for name, bias in own.items()}
        activity = functional_call(network, scaled, (shown,), words)
        outputs.append(activity.output)
        fired = [count / network.steps for count in activity.spike_counts()]  # [S, out]
        spikes += torch.stack([layer.mean(-1) for layer in fired], dim=1)
        log += rate * (fired[0] - known.rate)
    return torch.stack(outputs, dim=1), spikes / sets.shape[1]


def _zero_of(norm: object) -> Tensor | None:
    """Return the weighted inputs [out] that a normalisation turns into 0; None without one."""
    if not isinstance(norm, nn.BatchNorm1d):
        return None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    deviation = (norm.running_var + norm.eps).sqrt()
    return norm.running_mean - norm.bias * deviation / norm.weight


def _affine(factor: Tensor, shift: Tensor) -> Control:
    return lambda read: torch.addcmul(shift, factor, read)


def _deviation(mean: Tensor, square: Tensor) -> Tensor:
    """Return standard deviations of the shape of both."""
    return (square - mean.square()).clamp(min=1e-12).sqrt()


def _by_batch(values: Tensor, size: int) -> Tensor:
    """Return for each row of values [N, k] the mean over its batch."""
    return torch.cat([part.mean(0).expand_as(part) for part in values.split(size)])


def _running(values: Tensor, start: Tensor, rate: float) -> Tensor:
    """Return for each row of values [N, k] the running mean over the rows before it.

    m_0 = start and m_{n+1} = (1 - rate) m_n + rate · values_n.
    """
    from scipy.signal import lfilter

    rows, first = values.double().cpu().numpy(), start.double().cpu().numpy()
    after, _ = lfilter([rate], [1.0, rate - 1.0], rows, axis=0, zi=(1.0 - rate) * first[None])
    before = np.concatenate([first[None], after[:-1]])
    return torch.from_numpy(before).to(values)
