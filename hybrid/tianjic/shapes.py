"""What the mapper has to know of a layer: its sizes, how it is computed, what it keeps."""

from dataclasses import dataclass
from typing import Literal

Fold = Literal["unfolded", "folded"]
FOLDS: tuple[Fold, ...] = ("unfolded", "folded")


@dataclass(frozen=True, kw_only=True)
class LocalShape:
    """A local module in its history form.

    Args:
        lags: earlier steps that are remembered.
        per_synapse: whether each synapse has a factor of its own (a gain, a mask).
        delay: newest steps that are left out because they come too late.
        filled: whether all lags are met in each step: a query that follows its support.
    """

    lags: int
    per_synapse: bool = False
    delay: int = 0
    filled: bool = False

    def __post_init__(self) -> None:
        if self.lags < 1 or self.delay < 0:
            raise ValueError(f"lags = {self.lags}, delay = {self.delay}: give >= 1 and >= 0")


@dataclass(frozen=True, kw_only=True)
class DenseShape:
    """A fully connected layer.

    Args:
        name: unique in its network.
        inputs, outputs: neurons.
        graded: whether inputs are numbers of 8 bits (ANN mode) and not spikes.
        local: its local module, or None.
        carried: whether a second matrix holds the trace that training has left.
        density: share of the weights that are not zero.
        once: whether it is asked after the last step alone: its rates are those of one step in T.
    """

    name: str
    inputs: int
    outputs: int
    graded: bool = False
    local: LocalShape | None = None
    carried: bool = False
    density: float = 1.0
    once: bool = False

    def __post_init__(self) -> None:
        if self.inputs < 1 or self.outputs < 1:
            raise ValueError(f"layer {self.name!r}: sizes must be >= 1")
        if not 0.0 <= self.density <= 1.0:
            raise ValueError(f"layer {self.name!r}: density must lie in [0, 1]")

    @property
    def synapses(self) -> int:
        """Pairs of an input and an output."""
        return self.inputs * self.outputs


@dataclass(frozen=True, kw_only=True)
class ConvolutionShape:
    """A convolution of 3 x 3, padded.

    Args:
        name: unique in its network.
        image: inputs (channels, height, width).
        channels: outputs.
        stride: of the kernel.
        graded: see `DenseShape`.
        fold: "unfolded": every position has cores and weights of its own, as fast as a dense
            layer; "folded": cores hold the weights of one row of positions, which pass one after
            the other, a phase each.
    """

    name: str
    image: tuple[int, int, int]
    channels: int
    stride: int = 1
    graded: bool = True
    fold: Fold = "unfolded"

    def __post_init__(self) -> None:
        if min(self.image) < 1 or self.channels < 1 or self.stride < 1:
            raise ValueError(f"layer {self.name!r}: sizes and stride must be >= 1")
        if self.fold not in FOLDS:
            raise ValueError(f"layer {self.name!r}: fold must be one of {', '.join(FOLDS)}")

    @property
    def positions(self) -> tuple[int, int]:
        """Height and width of the output."""
        _, height, width = self.image
        return -(-height // self.stride), -(-width // self.stride)

    @property
    def inputs(self) -> int:
        """Numbers that come in."""
        channels, height, width = self.image
        return channels * height * width

    @property
    def outputs(self) -> int:
        """Numbers that go out."""
        height, width = self.positions
        return self.channels * height * width

    @property
    def synapses(self) -> int:
        """Pairs of an input and an output that a kernel connects, borders left out."""
        channels, height, width = self.image
        rows = pairs_along(0, self.positions[0], self.stride, height)
        columns = pairs_along(0, self.positions[1], self.stride, width)
        return channels * self.channels * rows * columns


Shape = DenseShape | ConvolutionShape


def pairs_along(first: int, end: int, stride: int, side: int) -> int:
    """Return how many pairs of (position, pixel) a padded kernel of three has along a side.

    Args:
        first, end: range of the positions.
        stride: of the kernel.
        side: pixels.
    """
    return sum(
        sum(0 <= position * stride + offset < side for offset in (-1, 0, 1))
        for position in range(first, end)
    )
