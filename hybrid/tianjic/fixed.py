"""Whole numbers as a chip has them: rounding, saturation, and how often it happened."""

from collections import Counter

import torch
from torch import Tensor


class SaturationError(ArithmeticError):
    """A number did not fit its bits, and the simulation is strict: where, and how many."""


class Overflows:
    """Counts numbers that did not fit, by place.

    Args:
        strict: whether the first one raises SaturationError.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.counts: Counter[str] = Counter()

    def saturate(self, values: Tensor, bits: int, place: str) -> Tensor:
        """Return values cut to signed numbers of `bits`, after counting those that did not fit.

        Raises:
            SaturationError: if one did not fit, and the count is strict.
        """
        low, high = signed_range(bits)
        lost = int(((values < low) | (values > high)).sum())
        if lost and self.strict:
            raise SaturationError(f"{place}: {lost} of {values.numel()} do not fit {bits} bits")
        if lost:
            self.counts[place] += lost
            values = values.clamp(low, high)
        return values


def signed_range(bits: int) -> tuple[int, int]:
    """Return the smallest and largest signed number of `bits`."""
    if bits < 2:
        raise ValueError(f"bits = {bits}: signed numbers need at least two")
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


PEAK = signed_range(8)[1]


def quantized(values: Tensor, scale: float, bits: int) -> Tensor:
    """Return round(values / scale), symmetric and saturated to `bits`, as int32.

    Raises:
        ValueError: if a value is NaN or infinite: no whole number stands for it.
    """
    _require_finite(values)
    highest = signed_range(bits)[1]
    return (values.double() / scale).round().clamp(-highest, highest).int()


def _require_finite(values: Tensor) -> None:
    wrong = int((~values.isfinite()).sum()) if values.is_floating_point() else 0
    if wrong:
        raise ValueError(f"{wrong} of {values.numel()} numbers are NaN or infinite")


def scale_of(values: Tensor, bits: int) -> float:
    """Return the step that takes the largest magnitude to the largest number of `bits`.

    Raises:
        ValueError: if a value is NaN or infinite.
    """
    _require_finite(values)
    peak = float(values.abs().max()) if values.numel() else 0.0
    return peak / signed_range(bits)[1] if peak > 0.0 else 1.0


def weights_of(values: Tensor, bits: int, *, headroom: float = 1.0) -> tuple[Tensor, float]:
    """Return values as whole numbers of at most 8 bits, and what one unit of them is worth.

    Args:
        values: such as the weights of a layer.
        bits: of each number.
        headroom: largest number that bits hold, in units of the largest value.
    """
    scale = headroom * scale_of(values, bits)
    return quantized(values, scale, bits).to(torch.int8), scale


def coded(values: Tensor, count: int) -> Tensor:
    """Return whole numbers, each replaced by the nearest of `count` that serve them best.

    What serves best is found by k-means, the same each time.

    Raises:
        ValueError: if `count` is less than 1.
    """
    if count < 1:
        raise ValueError(f"count = {count}: give at least one number to choose from")
    different, place, often = values.unique(return_inverse=True, return_counts=True)
    if len(different) <= count:
        return values
    from sklearn.cluster import KMeans

    column = different.double().unsqueeze(1).numpy()
    fitted = KMeans(count, n_init=1, random_state=0).fit(column, sample_weight=often.numpy())
    book = torch.from_numpy(fitted.cluster_centers_.round()).squeeze(1).to(values.dtype)
    return book[torch.from_numpy(fitted.labels_).long()][place]


def shifted(values: Tensor, shift: int) -> Tensor:
    """Return values / 2^shift, halves rounded up."""
    return (values.long() + ((1 << shift) >> 1)) >> shift


def exact_product(x: Tensor, weight: Tensor) -> Tensor:
    """Return the integer product x [*, in] weight [in, out] exactly, as int64.

    Floating-point matrix products are far faster than those of integers. They are exact as long as
    no partial sum passes 2^24 (single) or 2^53 (double precision), whatever the order of adding;
    Σ_i |weight| · max |x| bounds them all.
    """
    if not x.numel() or not weight.numel():
        return x.new_zeros((*x.shape[:-1], weight.shape[-1]), dtype=torch.int64)
    # As 64 bits first: of 8 bits, -128 has no magnitude.
    peak = int(x.long().abs().max())
    bound = peak * int(weight.long().abs().sum(-2).max())
    if bound < 1 << 24:
        return (x.float() @ weight.float()).long()
    if bound >= 1 << 53:
        raise OverflowError(f"a product may reach {bound}: more than 53 bits")
    return (x.double() @ weight.double()).long()
