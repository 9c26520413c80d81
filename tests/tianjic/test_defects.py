"""Broken chips: bits by hand, known faults worked around, dead cores left out."""

import numpy as np
import pytest
import torch

from hybrid.tianjic.chip import load_chip
from hybrid.tianjic.defects import Defects, dead_cores
from hybrid.tianjic.mapping import map_network
from hybrid.tianjic.placement import placed
from hybrid.tianjic.rules import RuleError
from hybrid.tianjic.shapes import DenseShape

CHIP = load_chip()


def weights(count: int = 20_000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-127, 128, (count,), generator=generator, dtype=torch.int8)


def wrong_bits(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the share of bits in which two sets of weights differ."""
    different = one.numpy().view(np.uint8) ^ other.numpy().view(np.uint8)
    return float(np.unpackbits(different).mean())


def test_so_many_bits_are_wrong() -> None:
    """Flipped ones all, stuck ones in half of the cases; each core has others."""
    whole = weights()
    assert torch.equal(Defects().written(whole, 3), whole)
    assert wrong_bits(Defects(flipped=0.1).written(whole, 3), whole) == pytest.approx(0.1, rel=0.03)
    assert wrong_bits(Defects(stuck=0.1).written(whole, 3), whole) == pytest.approx(0.05, rel=0.05)
    once, again = (Defects(flipped=0.1).written(whole, 3) for _ in range(2))
    assert torch.equal(once, again)
    assert not torch.equal(once, Defects(flipped=0.1).written(whole, 4))
    assert not torch.equal(once, Defects(flipped=0.1, seed=1).written(whole, 3))
    assert torch.equal(Defects(flipped=1.0).written(whole, 0), ~whole)


def test_the_nearest_number_that_a_cell_can_hold_is_written() -> None:
    """By exhaustion, for a few hundred weights; far nearer than what is there otherwise."""
    whole = weights(300)
    found = Defects(stuck=0.2, known=True, seed=5).written(whole, 1)
    plain = Defects(stuck=0.2, seed=5).written(whole, 1)
    # What the cells hold whatever is written: bits that are equal after writing all 0 and all 1.
    low = Defects(stuck=0.2, seed=5).written(torch.zeros(300, dtype=torch.int8), 1)
    high = Defects(stuck=0.2, seed=5).written(torch.full((300,), -1, dtype=torch.int8), 1)
    mask = ~(low.numpy().view(np.uint8) ^ high.numpy().view(np.uint8))
    fixed = low.numpy().view(np.uint8) & mask
    every = np.arange(-128, 128)
    for i in range(300):
        fits = [v for v in every if (np.uint8(v % 256) & mask[i]) == fixed[i]]
        best = min(abs(int(v) - int(whole[i])) for v in fits)
        assert abs(int(found[i]) - int(whole[i])) == best
        assert int(found[i]) in fits
    near, far = ((x.double() - whole).abs().mean() for x in (found, plain))
    assert near < 0.5 * far


def test_more_dead_cores_are_the_same_and_others() -> None:
    few, many = (dead_cores(CHIP, 1, count, seed=2) for count in (5, 20))
    assert few < many
    assert len(many) == 20
    assert dead_cores(CHIP, 1, 5, seed=3) != few
    assert len({place.chip for place in dead_cores(CHIP, 2, 40, seed=2)}) == 2
    with pytest.raises(ValueError, match=r"count = 157: 1 chip\(s\) have 156 cores"):
        dead_cores(CHIP, 1, 157, seed=0)


def test_a_network_is_placed_around_dead_cores_while_enough_are_left() -> None:
    mapping = placed(map_network([DenseShape(name="it", inputs=2000, outputs=700)], CHIP))
    used = len(mapping.cores)
    dead = dead_cores(CHIP, 1, 156 - used, seed=1)
    assert dead & set(mapping.places), "it would have met some"
    around = placed(mapping, avoid=dead)
    assert not dead & set(around.places)
    assert len(set(around.places)) == used
    with pytest.raises(RuleError, match=f"{used} cores are needed, {used - 1} are left of 156"):
        placed(mapping, avoid=dead_cores(CHIP, 1, 157 - used, seed=1))


@pytest.mark.parametrize("name", ["flipped", "stuck", "lost"])
def test_shares_are_shares(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} = 1.5"):
        Defects(**{name: 1.5})
