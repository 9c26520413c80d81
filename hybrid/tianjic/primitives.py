"""The operations that cores do: those of TianjicX's published primitives, in whole numbers.

    P02  adds branches                            P05  largest of a number and a constant
    P03  multiplies two vectors, number by number P06  cuts to fewer bits
    P04  weighs: a vector times a matrix          P07  looks up in a table
    P41  the same as a convolution                P08  a spiking soma, see `soma`

Sums have 32 bits. Where P05, P06 and P07 cut, they divide by 4^n and take the floor; half of 4^n in
the constant that a sum starts from makes that a rounding. In a phase a core runs one of P02 to P04,
then one of P05 to P08, sends, and may run one of the latter on what has arrived: what spikes carry,
and how much a trace has faded, is looked up there (P07).

Two assumptions: Tianjic itself has these operations, of which nothing is published; and P04 may
take numbers that packets have brought as its matrix, which the laboratory's simulator runs, while
its task graph has no such edge. Source: openBII/BiMap, read and put in our own words; where its
simulator and its documentation differ, the simulator's form is taken.
"""

from torch import Tensor

from hybrid.tianjic.fixed import Overflows, exact_product

LARGEST_CUT = 15  # 4^15 is the largest power of four within 31 bits


def half(n: int) -> int:
    """Return the constant that makes a cut by 4^n a rounding."""
    return (1 << (2 * n)) // 2


def multiply(first: Tensor, second: Tensor, constant: int = 0) -> Tensor:
    """Return products of two vectors, number by number, plus a constant (P03)."""
    return first.long() * second.long() + constant


def weigh(x: Tensor, weight: Tensor) -> Tensor:
    """Return x [*, in] times weight [in, out], exactly (P04, P41)."""
    return exact_product(x, weight)


def cut(values: Tensor, n: int, overflows: Overflows, place: str) -> Tensor:
    """Return floor(values / 4^n) in 8 bits (P06); what does not fit is counted and clamped.

    Raises:
        SaturationError: see `Overflows`.
    """
    return overflows.saturate(values.long() >> (2 * n), 8, place)


def rectify(values: Tensor, n: int, overflows: Overflows, place: str) -> Tensor:
    """Return the same, and 0 for what is negative (P05)."""
    return cut(values.clamp(min=0), n, overflows, place)


def cut_for(ratio: float) -> int:
    """Return the least n for which 4^n is at least `ratio`.

    Raises:
        ValueError: if no cut is that large.
    """
    for n in range(LARGEST_CUT + 1):
        if 4.0**n >= ratio:
            return n
    raise ValueError(f"numbers {ratio:.3g} times too large: a cut reaches 4^{LARGEST_CUT}")


def balanced(ratio: float) -> tuple[int, float]:
    """Return how to make numbers `ratio` times smaller with powers of four alone.

    Returns:
        n of the cut; and how much coarser the weights that lead to the numbers have to be, from 1
        to 2, for 4^n times that to be at least `ratio` and less than twice it.
    """
    n = cut_for(ratio)
    if n and 4.0**n > 2.0 * ratio:
        return n - 1, ratio / 4.0 ** (n - 1)
    return n, 1.0
