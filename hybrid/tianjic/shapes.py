"""What the mapper has to know of a layer: its sizes, how it is computed, what it keeps."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from hybrid.checks import one_of, require

Fold = Literal["unfolded", "folded"]


@dataclass(frozen=True, kw_only=True)
class LocalShape:
    """A local module in its history form.

    Args:
        lags: earlier steps that are remembered.
        per_synapse: whether each synapse has a factor of its own (a gain, a mask).
        delay: newest steps that are left out because they come too late.
        filled: whether all lags are met in each step: a query that follows its support.
        times: how often each product of score and potential is added.
        hosted: whether a host makes of potentials what products need, as no operation can.
    """

    lags: int
    per_synapse: bool = False
    delay: int = 0
    filled: bool = False
    times: int = 1
    hosted: bool = False

    def __post_init__(self) -> None:
        require(self, "lags", self.lags >= 1, ">= 1")
        require(self, "delay", self.delay >= 0, ">= 0")
        require(self, "times", self.times >= 1, ">= 1")

    @property
    def loop(self) -> int:
        """Phases from a potential to the next one that it acts on.

        Less its threshold and through a table; times its score, added up by lag where scores are
        neurons'; to the sums.
        """
        return 3 + self.per_synapse

    @property
    def phases_per_step(self) -> int:
        """Phases of a step: that loop, shared out over the steps that a delay leaves; at least 2.

        Two are what coincidences and scores take.
        """
        return max(2, -(-self.loop // (1 + self.delay)))


@dataclass(frozen=True, kw_only=True)
class DenseShape:
    """A fully connected layer.

    Args:
        name: unique in its network.
        inputs, outputs: neurons.
        graded: whether inputs are numbers of 8 bits (ANN mode) and not spikes.
        local: its local module, or None.
        carried: whether a second matrix holds the trace that training has left.
        recurrent: whether neurons also take each other's spikes of the step before.
        hosted: whether a host keeps the trace, so that somas also send what the rule makes of
            potentials.
        density: share of the weights that are not zero.
        once: whether it is asked after the last step alone: its rates are those of one step in T.
    """

    name: str
    inputs: int
    outputs: int
    graded: bool = False
    local: LocalShape | None = None
    carried: bool = False
    recurrent: bool = False
    hosted: bool = False
    density: float = 1.0
    once: bool = False

    def __post_init__(self) -> None:
        require(self, "inputs", self.inputs >= 1, ">= 1")
        require(self, "outputs", self.outputs >= 1, ">= 1")
        require(self, "density", 0.0 <= self.density <= 1.0, "in [0, 1]")
        bare = self.local is None and not (self.carried or self.once or self.hosted)
        require(self, "recurrent", not self.recurrent or bare, "False beside other traces, or once")
        one = self.local is None or not self.hosted
        require(self, "hosted", one, "False for a layer with a local module")

    @property
    def synapses(self) -> int:
        """Pairs of an input and an output."""
        return self.inputs * self.outputs


@dataclass(frozen=True, kw_only=True)
class ConvolutionShape:
    """A convolution with a square kernel, padded so that its middle meets each pixel.

    Where it sees means of several pixels, each of these has the same part of the weight.

    Args:
        name: unique in its network.
        image: inputs (channels, height, width).
        channels: outputs.
        stride: of the kernel.
        kernel: its side, odd.
        table: whether activations are looked up, and not rectified.
        spiking: whether outputs are spikes of somas, and not activations.
        pooled: pixels along a side whose mean is a pixel of the kernel; what is left over at the
            right and at the bottom is not seen.
        graded: see `DenseShape`.
        fold: "unfolded": every position has cores and weights of its own, as fast as a dense
            layer; "folded": cores hold the weights of one row of positions, which pass one after
            the other, a phase each.
    """

    name: str
    image: tuple[int, int, int]
    channels: int
    stride: int = 1
    kernel: int = 3
    table: bool = False
    spiking: bool = False
    pooled: int = 1
    graded: bool = True
    fold: Fold = "unfolded"

    # What only a dense layer can have: no fields, as no convolution chooses them.
    local: ClassVar[None] = None
    carried: ClassVar[bool] = False
    recurrent: ClassVar[bool] = False
    hosted: ClassVar[bool] = False
    density: ClassVar[float] = 1.0
    once: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(self, "image", min(self.image) >= 1, ">= 1 in each part")
        require(self, "channels", self.channels >= 1, ">= 1")
        require(self, "stride", self.stride >= 1, ">= 1")
        require(self, "kernel", self.kernel >= 1 and self.kernel % 2 == 1, "odd and >= 1")
        one_of(self, "fold", Fold)
        require(self, "pooled", self.pooled >= 1, ">= 1")
        require(self, "pooled", self.pooled == 1 or self.spiking, "1 for activations")
        require(self, "pooled", min(self.pixels) >= 1, "at most the sides of the image")
        sole = not self.spiking or (self.fold == "unfolded" and not self.table)
        require(self, "spiking", sole, "False for tables and folded convolutions")

    @property
    def pixels(self) -> tuple[int, int]:
        """Height and width of what the kernel passes over."""
        _, height, width = self.image
        return height // self.pooled, width // self.pooled

    @property
    def side(self) -> int:
        """Pixels of the image along a side of the kernel."""
        return self.kernel * self.pooled

    @property
    def positions(self) -> tuple[int, int]:
        """Height and width of the output."""
        height, width = self.pixels
        return -(-height // self.stride), -(-width // self.stride)

    @property
    def inputs(self) -> int:
        """Numbers that come in."""
        return math.prod(self.image)

    @property
    def outputs(self) -> int:
        """Numbers that go out."""
        return self.channels * math.prod(self.positions)

    @property
    def synapses(self) -> int:
        """Pairs of an input and an output that a kernel connects, borders left out."""
        channels, *sides = self.image
        runs = (slice(0, count) for count in self.positions)
        return channels * self.channels * math.prod(map(self.pairs, runs, sides))

    def seen(self, positions: slice, side: int) -> slice:
        """Return the pixels that a run of positions sees, along a side of so many pixels."""
        reach = self.kernel // 2
        first = positions.start * self.stride - reach
        end = (positions.stop - 1) * self.stride + reach + 1
        first, end = max(first, 0), min(end, side // self.pooled)
        return slice(first * self.pooled, end * self.pooled)

    def pairs(self, positions: slice, side: int) -> int:
        """Return how many pairs of position and pixel the kernel connects along a side."""
        alone = (slice(p, p + 1) for p in range(positions.start, positions.stop))
        return sum(seen.stop - seen.start for seen in (self.seen(p, side) for p in alone))


Shape = DenseShape | ConvolutionShape
