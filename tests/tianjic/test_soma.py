"""Whole-number neurons, step by step, against sums done by hand."""

from typing import Any

import pytest
import torch

from hybrid.tianjic.chip import tianjic
from hybrid.tianjic.fixed import Overflows, SaturationError
from hybrid.tianjic.quantize import tanh_table
from hybrid.tianjic.soma import Activator, Soma, Table


def run(
    soma: Soma, inputs: list[int], overflows: Overflows | None = None
) -> tuple[list[int], list[int]]:
    """Return potentials before reset, and spikes."""
    overflows = overflows or Overflows()
    left, potentials, spikes = soma.at_rest(1, 1), [], []
    for current in inputs:
        step = soma.step(torch.tensor([[current]]), left, overflows, "here")
        left = step.left
        potentials.append(int(step.v))
        spikes.append(int(step.z))
    return potentials, spikes


@pytest.mark.parametrize(
    ("constants", "inputs", "potentials", "spikes"),
    [
        # 80 · 102 // 256 = 31; 111 - 100 = 11, · 102 // 256 = 4; 84 -> 33
        ({"leak": 102}, [80, 80, 80, 80], [80, 111, 84, 113], [0, 1, 0, 1]),
        ({"leak": 102, "reset": "to value"}, [80, 80, 80, 80], [80, 111, 80, 111], [0, 1, 0, 1]),
        # reset to 20: 20 · 102 // 256 = 7; 87 -> 34
        (
            {"leak": 102, "reset": "to value", "reset_value": 20},
            [80, 80, 80, 80],
            [80, 111, 87, 114],
            [0, 1, 0, 1],
        ),
        # 111 - 50 = 61 -> 24; 104 - 50 = 54 -> 21
        (
            {"leak": 102, "reset": "subtract value", "reset_value": 50},
            [80, 80, 80, 80],
            [80, 111, 104, 101],
            [0, 1, 1, 1],
        ),
        # a spike that leaves the potential alone
        ({"reset": "subtract value"}, [60, 60, 60], [60, 120, 180], [0, 1, 1]),
        # leaks round down: -80 · 102 / 256 = -31.9 -> -32, -112 -> -45
        ({"leak": 102}, [-80, -80, -80], [-80, -112, -125], [0, 0, 0]),
        ({"leak": 0}, [100, 101, 99], [100, 101, 99], [0, 1, 0]),  # strictly above
    ],
)
def test_golden_steps(
    constants: dict[str, Any], inputs: list[int], potentials: list[int], spikes: list[int]
) -> None:
    assert run(Soma(threshold=100, **constants), inputs) == (potentials, spikes)


def test_saturation_is_counted_and_refused_if_strict() -> None:
    soma, overflows = Soma(threshold=120, bits=8, leak=256), Overflows()
    assert run(soma, [100, 100], overflows=overflows)[0] == [100, 127]
    assert overflows.counts == {"here": 1}
    with pytest.raises(SaturationError, match="here: 1 of 1 do not fit 8 bits"):
        run(soma, [100, 100], overflows=Overflows(strict=True))


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({"leak": 257}, "leak = 257"),
        ({"reset": "never"}, "reset = 'never'"),
        ({"threshold": 1 << 27}, "threshold = 134217728"),
    ],
)
def test_what_the_chip_cannot_hold_is_refused(constants: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Soma(**{"threshold": 1, **constants})


def test_activations_are_rounded_cut_and_never_negative() -> None:
    sums = torch.tensor([-9, 0, 5, 6, 7, 1000])
    overflows = Overflows()
    found = Activator(multiplier=1, shift=2).activation(sums, overflows, "here")
    assert found.tolist() == [0, 0, 1, 2, 2, 127]
    assert overflows.counts == {"here": 1}
    with pytest.raises(ValueError, match="multiplier = -1: it must be >= 0"):
        Activator(multiplier=-1, shift=0)


def test_a_table_takes_the_nearest_argument() -> None:
    table = Table(tuple(range(-128, 128)))
    overflows = Overflows()
    asked = torch.tensor([-500, -128, 3, 127, 500])
    assert table.look_up(asked, overflows, "here").tolist() == [
        -128,
        -128,
        3,
        127,
        127,
    ]
    assert overflows.counts == {"here": 2}
    with pytest.raises(SaturationError, match="here: 2 of 5"):
        table.look_up(asked, Overflows(strict=True), "here")
    with pytest.raises(ValueError, match="256 entries"):
        Table((0,) * 255)


def test_beyond_a_table_that_is_flat_nothing_is_lost() -> None:
    table = tanh_table()
    asked = torch.tensor([-10_000, -32, 0, 16, 10_000])
    soma = Activator(table=table, multiplier=1, shift=0)
    found = soma.activation(asked, Overflows(strict=True), "here")
    assert table.flat
    assert found.tolist() == (127 * torch.tanh(asked / 32)).round().int().tolist()


def test_widths_are_those_of_the_chip_file() -> None:
    soma = Soma(threshold=1)
    assert soma.bits == 28
    chip = tianjic()
    assert soma.bits == chip.potential_bits
