"""Whole-number neurons, step by step, against sums done by hand and against primitive P08."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.tianjic.chip import tianjic
from hybrid.tianjic.fixed import Overflows, SaturationError
from hybrid.tianjic.lagged import tanh_table
from hybrid.tianjic.soma import Soma, Table, random_bits, signed_bits


def run(
    soma: Soma, inputs: list[int], overflows: Overflows | None = None
) -> tuple[list[int], list[int]]:
    """Return potentials before reset, and spikes."""
    overflows = overflows or Overflows()
    state, potentials, spikes = soma.at_rest(1, 1), [], []
    for current in inputs:
        step = soma.step(torch.tensor([[current]]), state, overflows, "here")
        state = step.state
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
        ({"refractory": 16}, "refractory = 16"),
        ({"lowest": 1}, "lowest = 1"),
        ({"seed": 0}, "seed = 0"),
        ({"noise": -1}, "noise = -1"),
        ({"increment_leak": 300}, "increment_leak = 300"),
    ],
)
def test_what_the_chip_cannot_hold_is_refused(constants: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Soma(**{"threshold": 1, **constants})


def p08(
    inputs: list[list[int]], constants: dict[str, int], mode: str, seed: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Return potentials before reset, and spikes, one neuron after the other.

    Written from a description of the primitive, with plain loops: noise from a register that moves
    once per neuron, threshold and its floor, input unless refractory, strict comparison, reset,
    leak with the floor of k/256, floor of the potential, threshold of the next step.
    """
    bound = (1 << 27) - 1
    neurons = len(inputs[0])
    v, raised, waits = [0] * neurons, [0] * neurons, [0] * neurons
    register, potentials, spikes = seed, [], []
    for currents in inputs:
        row_v, row_z = [], []
        for i, current in enumerate(currents):
            parity = 0
            for tap in (0, 1, 2, 3, 5, 7):
                parity ^= (register >> tap) & 1
            register = (parity << 31) | (register >> 1)
            signed = register - (1 << 32) if register >> 31 else register
            mask = constants["noise"]
            noise = signed & mask if signed >= 0 else -((~signed) & mask)
            threshold = min(constants["threshold"] + raised[i] + noise, bound)
            threshold = max(threshold, constants["lowest"])
            if waits[i] == 0:
                v[i] = max(min(v[i] + current, bound), -bound - 1)
            fired = v[i] > threshold
            row_v.append(v[i])
            row_z.append(int(fired))
            if fired:
                if mode == "to value":
                    v[i] = constants["reset_value"]
                elif mode == "subtract threshold":
                    v[i] -= threshold
                else:
                    v[i] -= constants["reset_value"]
            v[i] = max(v[i] * constants["leak"] // 256 + constants["added"], constants["lowest"])
            faded = raised[i] * constants["increment_leak"] // 256
            raised[i] = faded + (constants["increment"] if fired else 0)
            waits[i] = constants["refractory"] if fired else max(waits[i] - 1, 0)
        potentials.append(row_v)
        spikes.append(row_z)
    return potentials, spikes


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(1, (1 << 32) - 1),
    mode=st.sampled_from(["to value", "subtract threshold", "subtract value"]),
    constants=st.fixed_dictionaries(
        {
            "threshold": st.integers(20, 200),
            "leak": st.integers(0, 256),
            "added": st.integers(-5, 5),
            "reset_value": st.integers(-20, 20),
            "lowest": st.integers(-200, 0),
            "refractory": st.integers(0, 3),
            "increment": st.integers(0, 60),
            "increment_leak": st.integers(0, 256),
            "noise": st.sampled_from([0, 7, 31]),
        }
    ),
)
def test_a_soma_is_primitive_p08(seed: int, mode: str, constants: dict[str, int]) -> None:
    generator = torch.Generator().manual_seed(seed % 1000)
    inputs = torch.randint(-80, 200, (30, 7), generator=generator)
    soma = Soma(reset=mode, seed=seed, **constants)  # type: ignore[arg-type]
    state, potentials, spikes = soma.at_rest(1, 7), [], []
    for current in inputs:
        step = soma.step(current.unsqueeze(0), state, Overflows(strict=True), "here")
        state = step.state
        potentials.append(step.v[0].tolist())
        spikes.append(step.z[0].tolist())
    assert (potentials, spikes) == p08(inputs.tolist(), constants, mode, seed)
    assert sum(map(sum, spikes)) > 0


def test_noise_of_thresholds_has_both_signs() -> None:
    """A potential of 100 at a threshold of 100, three bits of noise: it fires 7 times in 16."""
    soma = Soma(threshold=100, leak=0, reset="to value", noise=7, seed=12345)
    step = soma.step(torch.full((1, 20_000), 100), soma.at_rest(1, 20_000), Overflows(), "here")
    assert 0.42 < step.z.double().mean() < 0.46, "where the noise is below 0"
    values, _ = random_bits(12345, 20_000)
    assert sorted(signed_bits(values, 7).unique().tolist()) == list(range(-7, 8))


def test_a_table_takes_the_nearest_argument() -> None:
    table = Table(tuple(range(-128, 128)))
    overflows = Overflows()
    asked = torch.tensor([-500, -128, 3, 127, 500])
    assert table.look_up(asked, 0, overflows, "here").tolist() == [
        -128,
        -128,
        3,
        127,
        127,
    ]
    assert overflows.counts == {"here": 2}
    with pytest.raises(SaturationError, match="here: 2 of 5"):
        table.look_up(asked, 0, Overflows(strict=True), "here")
    coarse = table.look_up(torch.tensor([-17, -16, 15, 16]), 2, overflows, "here")
    assert coarse.tolist() == [-2, -1, 0, 1], "the floor of sixteenths"
    with pytest.raises(ValueError, match="256 entries"):
        Table((0,) * 255)


def test_beyond_a_table_that_is_flat_nothing_is_lost() -> None:
    table = tanh_table(1 / 32)
    asked = torch.tensor([-10_000, -32, 0, 16, 10_000])
    found = table.look_up(asked, 0, Overflows(strict=True), "here")
    assert table.flat
    assert found.tolist() == (127 * torch.tanh(asked / 32)).round().int().tolist()


def test_widths_are_those_of_the_chip_file() -> None:
    soma = Soma(threshold=1)
    assert soma.bits == 28
    chip = tianjic()
    assert soma.bits == chip.potential_bits
