"""A few-shot network in whole numbers: an embedding in ANN mode, a read-out that binds by history.

Convolutions become 8-bit images, rectified or by a table of tanh; batch normalisation goes into
their weights. Two things no primitive does, and a host has to: feature vectors of one length need a
root and a division, the shares of neurons that learn need another; `host_work` says what that
costs. The read-out's mixing is a number for each synapse, so that each lag is a matrix of static
weights; nothing is rewritten between episodes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybrid.model.embedding import Embedding
from hybrid.model.few_shot import FewShot, FewShotReadOut
from hybrid.tianjic.chip import Chip, tianjic
from hybrid.tianjic.cores import WIDE, Limits, SpikingLayer, current_of, window
from hybrid.tianjic.fixed import PEAK, Overflows, quantized, scale_of, shifted, weights_of
from hybrid.tianjic.history import History
from hybrid.tianjic.lagged import Lagged, tanh_table
from hybrid.tianjic.layer import DEFAULT, Options, integer_soma
from hybrid.tianjic.primitives import balanced, half, rectify
from hybrid.tianjic.shapes import ConvolutionShape, DenseShape, Fold, Shape
from hybrid.tianjic.soma import SoftMaximum, Table

_ROOT_BITS = 16
_STRIDE = 2  # of all convolutions


@dataclass(frozen=True, kw_only=True)
class ChipConvolution:
    """A convolution in whole numbers, in ANN mode; padded so that its middle meets each pixel."""

    weight: Tensor  # [out, in, k, k], 8 bits, k odd
    bias: Tensor  # [out]; half of what a cut divides by is in it
    cut: int
    table: Table | None = None  # of any function, such as a tanh; None for max(0, ·)
    stride: int = _STRIDE

    def activations(self, x: Tensor, overflows: Overflows, place: str) -> Tensor:
        """Return 8-bit images [N, out, ...] of 8-bit images [N, in, ...], padded with zeros.

        Args:
            x: whole numbers.
            overflows, place: where activations that do not fit are counted.
        """
        bound = int(x.long().abs().max()) * int(self.weight.long().abs().sum((1, 2, 3)).max())
        kind = torch.float32 if bound < 1 << 24 else torch.float64  # sums are exact
        reach = self.weight.shape[-1] // 2
        sums = F.conv2d(x.to(kind), self.weight.to(kind), stride=self.stride, padding=reach)
        total = sums.long() + self.bias.view(-1, 1, 1)
        if self.table is None:
            return rectify(total, self.cut, overflows, place)
        return self.table.look_up(total, self.cut, overflows, place)


@dataclass(frozen=True, kw_only=True)
class ChipEmbedding:
    """Images to feature vectors."""

    image: tuple[int, int, int]  # channels, height, width
    convolutions: tuple[ChipConvolution, ...]  # in the order of signals
    input_scale: float  # what one unit of an image is worth
    feature_scale: float  # what one unit of a feature is worth
    length: float | None  # of feature vectors in their units; None leaves them as they are

    def features(self, images: Tensor, overflows: Overflows) -> Tensor:
        """Return 8-bit features [N, features] of images [N, channels, height, width].

        Raises:
            SaturationError: if a number does not fit, and `overflows` is strict.
        """
        *_, x = self.stages(images, overflows)
        x = x.flatten(1).long()
        if self.length is None:
            return x
        root = (x * x).sum(1, keepdim=True).double().sqrt().clamp(min=1.0)
        inverse = (self.length / root * (1 << _ROOT_BITS)).round().long()
        return overflows.saturate(shifted(x * inverse, _ROOT_BITS), 8, "features")

    def stages(self, images: Tensor, overflows: Overflows) -> Iterator[Tensor]:
        """Yield what enters the first convolution, and what each of them leads to."""
        x = quantized(images, self.input_scale, 8)
        yield x
        for number, convolution in enumerate(self.convolutions, 1):
            x = convolution.activations(x, overflows, f"convolution {number}")
            yield x


@dataclass(frozen=True, kw_only=True)
class ChipReadOut(SpikingLayer):
    """Neurons that bind features to labels in one step, and the current of a label."""

    label_current: int

    def potentials(
        self,
        support: Tensor,
        labels: Tensor,
        query: Tensor,
        ways: int,
        *,
        limits: Limits = WIDE,
        overflows: Overflows,
    ) -> Tensor:
        """Return the potentials that queries evoke after the support, each query on its own.

        Args:
            support: features in the order they are shown [episodes, support, features].
            labels: [episodes, support].
            query: [episodes, queries, features].
            ways: neurons that take part.
            limits: of the cores.
            overflows: counts what does not fit.

        Returns:
            Integers [episodes, queries, ways].

        Raises:
            ValueError: if the support has more samples than the local module has lags.
        """
        size, count, local, history = support.shape[1], query.shape[1], self.local, None
        if local is not None:
            if size > (most := len(local.decays)):
                raise ValueError(f"support of {size} samples: the local module remembers {most}")
            matrices, thresholds = local.weights[:, :, :ways], local.thresholds[:ways]
            local = replace(local, weights=matrices, thresholds=thresholds)
            history = History(local, overflows, self.name)
        # The layer with its first neurons alone.
        layer = replace(self, weight=self.weight[:, :ways], bias=self.bias[:ways], local=local)
        currents = self.label_current * torch.eye(ways, dtype=torch.int64, device=support.device)
        teacher = currents[labels.T]
        steps = window(layer, support.transpose(0, 1), history, limits, overflows, teacher)
        remembered = None if history is None else history.repeated(count)
        current = current_of(layer, query.flatten(0, 1), remembered, limits, overflows)
        v = steps[-1].state.left.repeat_interleave(count, 0) + current
        place = f"{self.name}: potentials"
        return overflows.saturate(v, layer.soma.bits, place).unflatten(0, (-1, count))


@dataclass(frozen=True, kw_only=True)
class ChipFewShot:
    """An embedding and a read-out in whole numbers."""

    embedding: ChipEmbedding
    readout: ChipReadOut

    def shapes(self, ways: int, support: int, fold: Fold = "unfolded") -> tuple[Shape, ...]:
        """Return what the mapper has to know for episodes of so many ways and support samples."""
        image = self.embedding.image
        shapes: list[Shape] = []
        for number, layer in enumerate(self.embedding.convolutions, 1):
            name, channels = f"convolution {number}", len(layer.weight)
            shape = ConvolutionShape(
                name=name,
                image=image,
                channels=channels,
                stride=layer.stride,
                fold=fold,
                table=layer.table is not None,
            )
            shapes.append(shape)
            image = (channels, *shape.positions)
        last, local = self.readout, None
        if last.local is not None:
            local = replace(last.local.shape, lags=support, filled=True)
        size = len(last.weight)
        dense = DenseShape(name=last.name, inputs=size, outputs=ways, graded=True, local=local)
        return (*shapes, dense)


def host_work(network: ChipFewShot, ways: int, support: int, chip: Chip) -> dict[str, float]:
    """Return what a host adds to an episode's support and one query: what no primitive does.

    Feature vectors go to it and come back with one length; potentials of each support step go to
    it, and the shares of neurons come back. Seconds are those of the packets alone.

    Args:
        network: on the chip.
        ways, support: neurons that take part, and samples that are shown.
        chip: gives bits and ports.
    """
    read, shown = network.readout, support + 1
    features = len(read.weight) if network.embedding.length is not None else 0
    shares = ways if read.local is not None and isinstance(read.local.table, SoftMaximum) else 0
    potential = -(-chip.potential_bits // 8)
    moved = 2 * shown * features + support * shares * (potential + 1)
    packets = moved / chip.packet_bytes
    return {
        "bytes": float(moved),
        "packets": packets,
        "operations": float(4 * shown * features + 4 * support * shares),
        "seconds": packets / (chip.input_ports * chip.clock),
    }


@torch.no_grad()
def quantize_few_shot(
    network: FewShot, images: Tensor, support: int, options: Options = DEFAULT
) -> ChipFewShot:
    """Return a trained few-shot network in whole numbers.

    Args:
        network: with a convolutional embedding and a spiking read-out.
        images: of training, from which the ranges of activations are taken [N, 1, height, width].
        support: samples that an episode shows at most: lags of the local module.
        options: bits; a carried trace there is none.

    Raises:
        ValueError: if embedding or head are others.
    """
    embedding, head = network.embedding, network.head
    if not isinstance(embedding, Embedding) or not isinstance(head, FewShotReadOut):
        raise ValueError("the chip needs a convolutional embedding and a spiking read-out")
    made = quantize_embedding(embedding, images, options)
    synapse = head.synapse(head.ways)
    assert synapse.mask is not None
    weight, bits, lagged = synapse.weight.T * synapse.mask, options.bits, None
    if head.rule is not None:
        assert synapse.meta is not None
        shown = made.features(images, Overflows())
        lagged = Lagged.of(
            head.rule,
            synapse.meta,
            head.neuron,
            delay=options.delay,
            mask=synapse.mask,
            lags=support,
            input_scale=made.feature_scale,
            pairs=(shown.repeat(2, 1), torch.cat([shown, shown.roll(1, 0)])),
        )
    scale = scale_of(weight, bits)
    if lagged is not None:
        scale = max(scale, lagged.coarsest / made.feature_scale)
    unit = scale * made.feature_scale
    readout = ChipReadOut(
        name="read-out",
        weight=quantized(weight, scale, bits).to(torch.int8),
        bias=torch.zeros(head.ways, dtype=torch.int32),
        soma=integer_soma(head.neuron, unit),
        unit=unit,
        local=None if lagged is None else lagged.module(unit, bits, options.delay),
        label_current=round(head.label_current / unit),
    )
    return ChipFewShot(embedding=made, readout=readout)


@torch.no_grad()
def quantize_embedding(embedding: Embedding, images: Tensor, options: Options) -> ChipEmbedding:
    """Return an embedding in whole numbers, its ranges taken from some images."""
    pairs = zip(embedding.convolutions, embedding.normalisations, strict=True)
    folded = [_folded(convolve, normalise) for convolve, normalise in pairs]
    x = images
    scales = [scale_of(images, 8)]
    for weight, bias in folded:
        x = F.conv2d(x, weight, bias, stride=_STRIDE, padding=1)
        x = torch.relu(x) if embedding.rectified else torch.tanh(x)
        largest = float(x.flatten().kthvalue(math.ceil(options.kept * x.numel())).values)
        scales.append((largest if embedding.rectified else 1.0) / PEAK)
    layers, before = [], scales[0]
    for (weight, bias), after in zip(folded, scales[1:], strict=True):
        static, unit, n, table = _cut_to(weight, before, after, embedding.rectified, options)
        whole = quantized(bias, unit, tianjic().partial_sum_bits) + half(n)
        layers.append(ChipConvolution(weight=static, bias=whole, cut=n, table=table))
        before = after if table is not None else unit * 4.0**n
    feature_scale, length = before, None
    if embedding.length is not None:
        largest = float(F.normalize(x.flatten(1), dim=1).abs().max())
        feature_scale = embedding.length * largest / PEAK
        length = embedding.length / feature_scale
    return ChipEmbedding(
        image=embedding.image,
        convolutions=tuple(layers),
        input_scale=scales[0],
        feature_scale=feature_scale,
        length=length,
    )


def _cut_to(
    weight: Tensor, before: float, after: float, rectified: bool, options: Options
) -> tuple[Tensor, float, int, Table | None]:
    """Return weights so scaled that a cut by a power of four leads to 8 bits that are used well.

    Args:
        weight: of a convolution.
        before: what one unit of its inputs is worth.
        after: what one unit of its outputs has to be worth at least.
        rectified: whether these are cut sums; else a table of tanh, which reaches to 3, is of them.
        options: bits.

    Returns:
        Whole-number weights; what one unit of sums is worth; the cut; the table.
    """
    scale = scale_of(weight, options.bits)
    address = after if rectified else 3.0 / PEAK
    n, coarser = balanced(address / (scale * before))
    static, scale = weights_of(weight, options.bits, headroom=coarser)
    unit = scale * before
    return static, unit, n, None if rectified else tanh_table(unit * 4.0**n)


def _folded(convolve: nn.Module, normalise: nn.Module) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a convolution with the normalisation behind it, in evaluation."""
    assert isinstance(convolve, nn.Conv2d)
    assert convolve.bias is not None
    if not isinstance(normalise, nn.BatchNorm2d):
        return convolve.weight, convolve.bias
    assert normalise.running_var is not None
    assert normalise.running_mean is not None
    factor = normalise.weight / (normalise.running_var + normalise.eps).sqrt()
    bias = (convolve.bias - normalise.running_mean) * factor + normalise.bias
    return convolve.weight * factor.view(-1, 1, 1, 1), bias
