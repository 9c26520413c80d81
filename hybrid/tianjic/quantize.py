"""From a trained network to whole numbers, layer by layer: see `layer` for how."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybrid.model.chain import Stage, chain_of, folded
from hybrid.model.coding import LastMembrane, Rank, Rate, ReadOut
from hybrid.model.convolutional import Convolutional
from hybrid.model.drive import drive_decay
from hybrid.model.layers import HybridLinear
from hybrid.model.networks import FullyConnected
from hybrid.model.neurons import Neuron, NeuronState
from hybrid.model.recurrent import HybridRecurrent
from hybrid.tianjic.cores import Outcome, Recurrent, SpikingLayer, spikes_of
from hybrid.tianjic.fixed import PEAK, quantized
from hybrid.tianjic.layer import DEFAULT, Options, integer_layer
from hybrid.tianjic.shapes import ConvolutionShape, DenseShape, Shape


@dataclass(frozen=True, kw_only=True)
class ChipNetwork:
    """A network in whole numbers."""

    layers: tuple[SpikingLayer, ...]  # in the order of signals
    gain: tuple[float, ...]  # fading of the first layer's drive [T]
    readout: ReadOut  # how potentials or spikes of the last layer become an answer

    def encode(self, images: Tensor) -> list[Tensor]:
        """Return images [N, in] from 0 to 1 as T inputs; `run` cuts what 8 bits do not hold.

        Args:
            images: shown in all steps; or one for each step [T, N, in].

        Raises:
            ValueError: if a pixel is NaN or infinite.
        """
        return encoded(images, self.gain)

    def answers(self, outcome: Outcome) -> Tensor:
        """Return the class of each sample [N]."""
        if isinstance(self.readout, Rate):
            return outcome.counts.argmax(-1)
        threshold = float(self.layers[-1].soma.threshold)
        if isinstance(self.readout, Rank):  # a chip asks each sample on its own
            states = [NeuronState(v.double(), v > threshold) for v in outcome.trail]
            return replace(self.readout, fraction=None)(states, threshold).argmax(-1)
        assert isinstance(self.readout, LastMembrane)
        potentials = outcome.potentials
        if self.readout.ceiling is not None:
            highest = round(self.readout.ceiling * threshold)
            potentials = potentials.clamp(max=highest)
        return potentials.argmax(-1)

    def shapes(self) -> tuple[Shape, ...]:
        """Return what the mapper has to know."""
        return tuple(_shape(layer, first=not number) for number, layer in enumerate(self.layers))


def _shape(layer: SpikingLayer, *, first: bool) -> Shape:
    graded = first or layer.payload is not None
    if layer.convolution is not None:
        return replace(layer.convolution, name=layer.name, graded=graded)
    return dense_shape(
        layer.name,
        layer.weight,
        graded=graded,
        local=None if layer.local is None or layer.host is not None else layer.local.shape,
        carried=layer.carried is not None,
        recurrent=layer.recurrent is not None,
        hosted=layer.host is not None,
    )


def dense_shape(name: str, weight: Tensor, **options: Any) -> DenseShape:
    """Return the shape of a layer with weights [in, out], its density rounded for records."""
    density = round(float((weight != 0).float().mean()), 4)
    inputs, outputs = weight.shape
    return DenseShape(name=name, inputs=inputs, outputs=outputs, density=density, **options)


@torch.no_grad()
def quantize(
    network: FullyConnected | Convolutional,
    options: Options = DEFAULT,
    images: Tensor | None = None,
) -> ChipNetwork:
    """Return a trained network in whole numbers.

    Args:
        network: trained. One with convolutions runs without local modules.
        options: see there.
        images: of training [N, in], from which ranges of scores are taken, where it has local
            modules. Without any, scores have room for all that could come in, which is more than
            does: they use fewer of their 8 bits.

    Raises:
        ValueError: if the network is another, or has something that the chip has not: an encoder,
            a neuron of a class of its own, a rule other than the Hebbian one, a read-out of its
            own; or, with convolutions, a trace that is not folded into the weights.
    """
    network = getattr(network, "_orig_mod", network)  # behind torch.compile
    if not isinstance(network, FullyConnected | Convolutional):
        raise ValueError(
            f"{type(network).__name__} cannot be quantised: `quantize` takes a FullyConnected or "
            "Convolutional network; few-shot and context-gated ones have their own"
        )
    if network.encode is not None:
        raise ValueError("a network that encodes its inputs: give the chip what comes out of it")
    _check_readout(network.readout)
    if isinstance(network, Convolutional):
        return _convolutional(network, options)
    return integer_network(network.layers, network.gain, options, network.readout, images=images)


def integer_network(
    modules: Iterable[nn.Module],
    gain: tuple[float, ...],
    options: Options,
    readout: ReadOut,
    *,
    graded: bool | None = None,
    masks: Sequence[Tensor | None] | None = None,
    images: Tensor | None = None,
) -> ChipNetwork:
    """Return spiking layers, one after the other, in whole numbers.

    Args:
        modules: layers: `HybridLinear` or `HybridRecurrent`.
        gain: by which their drive fades [T].
        options, images: see `quantize`.
        readout: of the answer.
        graded, masks: of each layer, see `integer_layer`; None for what `quantize` does.
    """
    graded = len(set(gain)) > 1 if graded is None else graded
    trained = [getattr(module, "_orig_mod", module) for module in modules]
    if not trained:
        raise ValueError("give at least one layer")
    masks = masks or [None] * len(trained)
    layers: list[SpikingLayer] = []
    signals = None
    if images is not None and options.local:
        size = getattr(trained[0], "in_features", images.shape[-1] if images.ndim else 0)
        if images.ndim not in (2, 3) or images.shape[-1] != size or not images.numel():
            raise ValueError(f"images of shape {list(images.shape)}: give some, [N, {size}]")
        signals = torch.stack(encoded(images, gain)).clamp(-PEAK, PEAK)
    for number, (module, mask) in enumerate(zip(trained, masks, strict=True)):
        if type(module) is HybridRecurrent:  # a subclass may do more than the chip can
            layer = _recurrent(module, number, gain, options, graded=graded)
        else:
            layer = integer_layer(
                module, number, gain, options, graded=graded, mask=mask, signals=signals
            )
        if layers and len(layer.weight) != layers[-1].weight.shape[1]:
            given = layers[-1].weight.shape[1]
            raise ValueError(f"{layer.name} takes {len(layer.weight)} inputs, it is given {given}")
        layers.append(layer)
        if signals is not None:
            signals = spikes_of(layer, signals)
    return ChipNetwork(layers=tuple(layers), gain=gain, readout=readout)


@torch.no_grad()
def quantize_layers(
    layers: Iterable[nn.Module],
    *,
    steps: int,
    readout: ReadOut,
    tau: float | None = None,
    options: Options = DEFAULT,
    images: Tensor | None = None,
) -> ChipNetwork:
    """Return layers of a module of one's own, one after the other, in whole numbers.

    Args:
        layers: trained `HybridLinear` or `HybridRecurrent`; the latter run without local modules.
        steps: T.
        readout: of the answer: `Rate`, `LastMembrane` or `Rank`.
        tau: by which drives fade; None if they do not.
        options, images: see `quantize`.

    Raises:
        ValueError: see `quantize`.
    """
    _check_readout(readout)
    return integer_network(layers, drive_decay(steps, tau), options, readout, images=images)


def _check_readout(readout: ReadOut) -> None:
    if not isinstance(readout, Rate | LastMembrane | Rank):
        raise ValueError(f"{type(readout).__name__} is no read-out of the chip")


def _recurrent(
    module: HybridRecurrent,
    number: int,
    gain: tuple[float, ...],
    options: Options,
    *,
    graded: bool,
) -> SpikingLayer:
    """Return a recurrent layer in whole numbers, its trace part of the weights."""
    if options.carried != "folded":
        raise ValueError(
            f"carried = {options.carried!r}: recurrent layers run with their traces folded into "
            "the weights"
        )
    linear, outside = folded(module, f"layer {number + 1}"), module.in_features
    plain = _plain(linear.weight.T, linear.bias, module.neuron)
    layer = integer_layer(plain, number, gain, options, graded=graded)
    own = Recurrent(layer.weight[outside:], 1 if number and layer.payload is None else PEAK)
    return replace(layer, weight=layer.weight[:outside], recurrent=own)


def _plain(weight: Tensor, bias: Tensor | None, neuron: Neuron) -> HybridLinear:
    """Return a layer without a rule, with weights [in, out] and biases [out]."""
    made = HybridLinear(*weight.shape, neuron=neuron, rule=None)
    made.weight = nn.Parameter(weight.T)
    made.bias = nn.Parameter(weight.new_zeros(weight.shape[1]) if bias is None else bias)
    return made


def encoded(images: Tensor, gain: Sequence[float]) -> list[Tensor]:
    """Return images from 0 to 1 as T whole numbers [N, in]; more than 8 bits are not yet cut.

    Args:
        images: [N, in], shown in all steps; or one for each step [T, N, in].
        gain: by which they fade [T].

    Raises:
        ValueError: if a pixel is NaN or infinite, or the steps are not T.
    """
    if images.ndim == 3 and len(images) != len(gain):
        raise ValueError(f"{len(images)} images for {len(gain)} steps: give one for each")
    shown = images if images.ndim == 3 else images.expand(len(gain), *images.shape)
    return [quantized(x * g, 1.0 / PEAK, 32) for x, g in zip(shown, gain, strict=True)]


def _convolutional(network: Convolutional, options: Options) -> ChipNetwork:
    """Return a network with convolutions in whole numbers, its traces part of the weights.

    Convolutions are unfolded, each pair of a pixel and an output with a synapse of its own. Means
    of 2 x 2 spikes are a quarter of the weight on each of the four.
    """
    if options.codebook is not None:
        raise ValueError("codebook: synapses that a convolution lacks would be chosen from it, too")
    if options.carried != "folded":
        raise ValueError(
            f"carried = {options.carried!r}: networks with convolutions run with their traces "
            "folded into the weights"
        )
    layers: list[SpikingLayer] = []
    image, pooled = network.image, 1
    for number, stage in enumerate(chain_of(network, frozen=True)):
        weight, bias, shape = _unfolded(stage, image, pooled)
        plain = _plain(weight, bias, stage.neuron)
        gain = network.gain if stage.faded else (1.0,) * network.steps
        graded = len(set(gain)) > 1
        layer = integer_layer(plain, number, gain, options, graded=graded)
        layers.append(replace(layer, convolution=shape))
        pooled = 2 if stage.pooled else 1
        if shape is not None:
            image = shape.channels, *shape.positions
    shown = (1.0,) * network.steps  # the image does not fade
    return ChipNetwork(layers=tuple(layers), gain=shown, readout=network.readout)


_ROWS = 512  # inputs whose synapses are found at once
_MOST = 1 << 28  # pairs of an input and an output


def _unfolded(
    stage: Stage, image: tuple[int, int, int], pooled: int
) -> tuple[Tensor, Tensor, ConvolutionShape | None]:
    """Return synapses [in, out] and biases [out] of a stage, and what a convolution's shape is.

    Args:
        stage: connections.
        image: that comes in, if it is one: channels, height, width.
        pooled: pixels along a side whose mean the connections see.
    """
    module, shape = stage.connection, None
    size = image if isinstance(module, nn.Conv2d) or pooled > 1 else (module.weight.shape[1],)
    inputs = torch.Size(size).numel()
    outputs = len(module.weight)
    if isinstance(module, nn.Conv2d):
        outputs *= (image[1] // pooled) * (image[2] // pooled)
    if inputs * outputs > _MOST:
        raise ValueError(
            f"{stage.name}: unfolded, {inputs:,} inputs and {outputs:,} outputs are more than the "
            "simulation holds, and than several chips do: fewer channels, or smaller images"
        )
    parts = []
    for rows in torch.arange(inputs).split(_ROWS):
        ones = F.one_hot(rows, inputs).to(module.weight.dtype).view(-1, *size)
        seen = F.avg_pool2d(ones, pooled) if pooled > 1 else ones
        if isinstance(module, nn.Conv2d):
            out = F.conv2d(seen, module.weight, stride=module.stride, padding=module.padding)
        else:
            out = F.linear(seen.flatten(1), module.weight)
        parts.append(out.flatten(1))
    matrix = torch.cat(parts)
    bias = module.weight.new_zeros(len(module.weight)) if module.bias is None else module.bias
    if isinstance(module, nn.Conv2d):
        shape = ConvolutionShape(
            name=stage.name,
            image=image,
            channels=len(module.weight),
            stride=int(module.stride[0]),
            kernel=int(module.weight.shape[-1]),
            pooled=pooled,
            spiking=True,
        )
        bias = bias.repeat_interleave(matrix.shape[1] // len(bias))
    return matrix, bias, shape
