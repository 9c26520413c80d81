"""A few-shot network in whole numbers: an embedding in ANN mode, a read-out that binds by history.

Convolutions become 8-bit images, rectified or by a table of tanh; batch normalisation goes into
their weights. Feature vectors of one length need a root and a division: by a table or the host,
which is an assumption, and no core is counted for it. The read-out's mixing is a number for each
synapse, so that each lag is a matrix of static weights; nothing is rewritten between episodes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from hybrid.model.embedding import Embedding
from hybrid.model.few_shot import FewShot, FewShotReadOut
from hybrid.tianjic.chip import tianjic
from hybrid.tianjic.cores import WIDE, Limits, activations, dendrite
from hybrid.tianjic.fixed import Overflows, multiplier_for, quantized, scale_of, shifted
from hybrid.tianjic.history import History, LocalModule
from hybrid.tianjic.quantize import (
    ARGUMENT,
    DEFAULT,
    PEAK,
    Options,
    integer_soma,
    score_shift,
    tanh_table,
)
from hybrid.tianjic.shapes import ConvolutionShape, DenseShape, Fold, LocalShape, Shape
from hybrid.tianjic.soma import Activator, Rectifier, SoftMaximum, Soma, TableSoma, exponentials

_ROOT_BITS = 16


@dataclass(frozen=True, kw_only=True)
class ChipConvolution:
    """A convolution of 3 x 3 with stride 2 in whole numbers."""

    weight: Tensor  # [out, in, 3, 3], 8 bits
    bias: Tensor  # [out]
    soma: Activator


@dataclass(frozen=True, kw_only=True)
class ChipEmbedding:
    """Images to feature vectors.

    Args:
        image: shape of the images.
        convolutions: in the order of signals.
        input_scale: what one unit of an image is worth.
        feature_scale: what one unit of a feature is worth.
        length: of feature vectors in their units; None leaves them as they are.
    """

    image: tuple[int, int, int]
    convolutions: tuple[ChipConvolution, ...]
    input_scale: float
    feature_scale: float
    length: float | None

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
        return overflows.saturate(shifted(x * inverse, 1, _ROOT_BITS), 8, "features")

    def stages(self, images: Tensor, overflows: Overflows) -> Iterator[Tensor]:
        """Yield what enters the first convolution, and what each of them leads to."""
        x = quantized(images, self.input_scale, 8)
        yield x
        for number, layer in enumerate(self.convolutions, 1):
            x = activations(
                x,
                layer.weight,
                layer.bias,
                layer.soma,
                stride=2,
                overflows=overflows,
                place=f"convolution {number}",
            )
            yield x


@dataclass(frozen=True, kw_only=True)
class ChipReadOut:
    """Neurons that bind features to labels in one look."""

    weight: Tensor  # [features, ways], 8 bits
    soma: Soma
    unit: float
    label_current: int
    local: LocalModule | None

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
            support: features in the order of the looks [episodes, looks, features].
            labels: [episodes, looks].
            query: [episodes, queries, features].
            ways: neurons that take part.
            limits: of the cores.
            overflows: counts what does not fit.

        Returns:
            Integers [episodes, queries, ways].

        Raises:
            ValueError: if the support has more looks than the local module has lags.
        """
        if self.local is not None and support.shape[1] > len(self.local.lags):
            raise ValueError(
                f"{support.shape[1]} looks: the local module remembers {len(self.local.lags)}"
            )
        weight, local = self.weight[:, :ways], _of_ways(self.local, ways)
        history = None if local is None else History(local, overflows, "read-out")
        state = self.soma.at_rest(len(support), ways, support.device)
        teacher = self.label_current * torch.eye(ways, dtype=torch.int64, device=support.device)
        for x, label in zip(support.unbind(1), labels.unbind(1), strict=True):
            current = dendrite(x, weight, limits, overflows, "read-out") + teacher[label]
            if history is not None:
                current = current + history.current(x)
            step = self.soma.step(current, state, overflows, "read-out: potentials")
            state = step.state
            if history is not None:
                history.learn(x, step.v)
        count = query.shape[1]
        asked = query.flatten(0, 1)
        current = dendrite(asked, weight, limits, overflows, "read-out")
        if history is not None:
            current = current + history.repeated(count).current(asked)
        found = state.v.repeat_interleave(count, 0) + current
        return overflows.saturate(found, self.soma.bits, "read-out: potentials").unflatten(
            0, (-1, count)
        )


@dataclass(frozen=True, kw_only=True)
class ChipFewShot:
    """An embedding and a read-out in whole numbers."""

    embedding: ChipEmbedding
    readout: ChipReadOut

    def shapes(self, ways: int, looks: int, fold: Fold = "unfolded") -> tuple[Shape, ...]:
        """Return what the mapper has to know for episodes of so many ways and looks."""
        image = self.embedding.image
        shapes: list[Shape] = []
        for number, layer in enumerate(self.embedding.convolutions):
            channels = len(layer.weight)
            shape = ConvolutionShape(
                name=f"convolution {number + 1}",
                image=image,
                channels=channels,
                stride=2,
                fold=fold,
            )
            shapes.append(shape)
            image = (channels, *shape.positions)
        local = (
            None
            if self.readout.local is None
            else LocalShape(lags=looks, per_synapse=True, filled=True)
        )
        inputs = len(self.readout.weight)
        last = DenseShape(name="read-out", inputs=inputs, outputs=ways, graded=True, local=local)
        return (*shapes, last)


def quantize_few_shot(
    network: FewShot, images: Tensor, looks: int, options: Options = DEFAULT
) -> ChipFewShot:
    """Return a trained few-shot network in whole numbers.

    Args:
        network: with a convolutional embedding and a spiking read-out.
        images: of training, from which the ranges of activations are taken [N, 1, height, width].
        looks: that episodes have at most: lags of the local module.
        options: bits; a carried trace there is none.

    Raises:
        ValueError: if embedding or head are others.
    """
    embedding, head = network.embedding, network.head
    if not isinstance(embedding, Embedding) or not isinstance(head, FewShotReadOut):
        raise ValueError("the chip needs a convolutional embedding and a spiking read-out")
    made = quantize_embedding(embedding, images, options)
    return ChipFewShot(embedding=made, readout=_readout(head, made.feature_scale, looks, options))


@torch.no_grad()
def quantize_embedding(embedding: Embedding, images: Tensor, options: Options) -> ChipEmbedding:
    """Return an embedding in whole numbers, its ranges taken from some images."""
    folded = [
        _folded(convolve, normalise)
        for convolve, normalise in zip(
            embedding.convolutions, embedding.normalisations, strict=True
        )
    ]
    x = images
    scales = [scale_of(images, 8)]
    for weight, bias in folded:
        x = nn.functional.conv2d(x, weight, bias, stride=2, padding=1)
        x = torch.relu(x) if embedding.rectified else torch.tanh(x)
        largest = float(x.flatten().kthvalue(math.ceil(options.kept * x.numel())).values)
        scales.append((largest if embedding.rectified else 1.0) / PEAK)
    layers = []
    for (weight, bias), (before, after) in zip(folded, pairwise(scales), strict=True):
        scale = scale_of(weight, options.weight_bits)
        soma: Activator
        if embedding.rectified:
            multiplier, shift = multiplier_for(scale * before / after)
            soma = Rectifier(multiplier=multiplier, shift=shift)
        else:
            multiplier, shift = multiplier_for(scale * before * ARGUMENT)
            soma = TableSoma(table=tanh_table(), multiplier=multiplier, shift=shift)
        layers.append(
            ChipConvolution(
                weight=quantized(weight, scale, options.weight_bits).to(torch.int8),
                bias=quantized(bias, scale * before, tianjic().partial_sum_bits),
                soma=soma,
            )
        )
    feature_scale, length = scales[-1], None
    if embedding.length is not None:
        unit = torch.nn.functional.normalize(x.flatten(1), dim=1)
        feature_scale = embedding.length * float(unit.abs().max()) / PEAK
        length = embedding.length / feature_scale
    return ChipEmbedding(
        image=embedding.image,
        convolutions=tuple(layers),
        input_scale=scales[0],
        feature_scale=feature_scale,
        length=length,
    )


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


@torch.no_grad()
def _readout(
    head: FewShotReadOut, feature_scale: float, looks: int, options: Options
) -> ChipReadOut:
    synapse = head.synapse(head.ways)
    assert synapse.mask is not None
    weight = synapse.weight.T * synapse.mask
    scale = scale_of(weight, options.weight_bits)
    unit = scale * feature_scale
    soma = integer_soma(head.neuron, unit)
    local = None
    if head.rule is not None:
        assert synapse.meta is not None
        decays = head.rule.trace_decay ** torch.arange(looks, dtype=torch.float64)
        rated = (1.0 - synapse.mask).double() * synapse.meta.local_rate.double()
        lags = decays.view(-1, 1, 1) * rated
        lag_scale = scale_of(lags, options.weight_bits)
        static = quantized(lags, lag_scale, options.weight_bits).to(torch.int8)
        shift = score_shift(static, PEAK, options.score_bits)
        worth = feature_scale**2 * 128 * lag_scale * 2**shift / PEAK
        local = LocalModule(
            lags=static,
            table=SoftMaximum(exponentials(1.0 / ARGUMENT)),
            argument=multiplier_for(ARGUMENT * unit),
            thresholds=quantized(synapse.meta.sliding_threshold, unit, soma.bits),
            coincidence_shift=7,
            score_shift=shift,
            score_bits=options.score_bits,
            gain=multiplier_for(worth / unit),
        )
    return ChipReadOut(
        weight=quantized(weight, scale, options.weight_bits).to(torch.int8),
        soma=soma,
        unit=unit,
        label_current=round(head.label_current / unit),
        local=local,
    )


def _of_ways(local: LocalModule | None, ways: int) -> LocalModule | None:
    """Return a local module with the first neurons alone."""
    if local is None:
        return None
    return replace(local, lags=local.lags[:, :, :ways], thresholds=local.thresholds[:ways])
