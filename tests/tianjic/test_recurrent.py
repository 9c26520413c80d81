"""Recurrent layers in whole numbers, beside floating point."""

from dataclasses import replace

import pytest
import torch

from hybrid.model.coding import Rank, Rate, ReadOut
from hybrid.model.layers import HybridLinear
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import Hebbian
from hybrid.model.recurrent import HybridRecurrent
from hybrid.tianjic.chip import tianjic
from hybrid.tianjic.cores import Limits, run
from hybrid.tianjic.cost import cost
from hybrid.tianjic.layer import Options
from hybrid.tianjic.mapping import map_network
from hybrid.tianjic.quantize import quantize_layers
from hybrid.tianjic.shapes import DenseShape, LocalShape
from tests.tianjic.test_machine import recurrent

STEPS = 8


@pytest.mark.parametrize("peak", [1.0, 0.5])
def test_spikes_come_back_a_step_later(peak: float) -> None:
    """Sequences through a recurrent layer and a plain one: spikes are those of floating point."""
    generator = torch.Generator().manual_seed(1)
    (first,) = recurrent((40, 60), generator)
    second = HybridLinear(60, 6, neuron=LIF(decay=0.5, v_th=0.2), rule=None, generator=generator)
    shown = peak * (torch.rand(STEPS, 100, 40, generator=generator) < 0.3)
    chip = quantize_layers([first, second], steps=STEPS, readout=Rate())
    outcome = run(chip.layers, chip.encode(shown), limits=Limits(strict=True))
    window = first(shown, adapt=False)
    fired = window.z.sum((0, 1))
    assert fired.sum() > 1000
    assert (outcome.layers["layer 1"].active_out - fired).abs().sum() < 0.05 * fired.sum()
    answers = second(window.z).z.sum(0).argmax(-1)
    assert (chip.answers(outcome) == answers).float().mean() > 0.85
    # They matter: without them, other neurons fire.
    still = replace(chip.layers[0], recurrent=None)
    alone = run([still, chip.layers[1]], chip.encode(shown))
    assert (alone.layers["layer 1"].active_out - fired).abs().sum() > 0.15 * fired.sum()


def test_what_recurrence_takes() -> None:
    """Cores of its own, two phases a step, and operations as often as neurons fire."""
    generator = torch.Generator().manual_seed(1)
    chip = quantize_layers(recurrent((40, 300), generator), steps=STEPS, readout=Rate())
    mapping = map_network(chip.shapes(), tianjic())
    assert mapping.count(role="recurrent") == 4
    rates = {"layer 1": torch.full((40,), 0.2).numpy(), "output": torch.full((300,), 0.1).numpy()}
    spent = cost(mapping, rates, STEPS)
    assert spent.timing.phases_per_step == 2
    assert spent.operations.dense == 300 * (STEPS * 40 + (STEPS - 1) * 300)
    expected = 300 * (STEPS * 0.2 * 40 + (STEPS - 1) * 0.1 * 300)
    assert spent.operations.macs == pytest.approx(expected, rel=0.01)


def test_what_recurrent_layers_have_not_is_refused() -> None:
    with pytest.raises(ValueError, match="recurrent"):
        DenseShape(name="a", inputs=1, outputs=1, recurrent=True, local=LocalShape(lags=2))
    generator = torch.Generator().manual_seed(1)
    layers = recurrent((5, 6), generator)
    with pytest.raises(ValueError, match="recurrent layers run with their traces folded"):
        quantize_layers(layers, steps=STEPS, readout=Rate(), options=Options(carried="separate"))
    with pytest.raises(ValueError, match="at least one layer"):
        quantize_layers([], steps=STEPS, readout=Rate())
    with pytest.raises(ValueError, match="layer 2 takes 5 inputs, it is given 6"):
        quantize_layers([*layers, *layers], steps=STEPS, readout=Rate())

    class More(HybridRecurrent):
        pass

    more = More(5, 6, neuron=LIF(decay=0.5, v_th=0.2), rule=None)
    with pytest.raises(ValueError, match="More has no form on the chip"):
        quantize_layers([more], steps=STEPS, readout=Rate())
    options = {"neuron": LIF(decay=0.5, v_th=0.2), "rule": Hebbian(trace_decay=0.9)}
    forgetful = HybridRecurrent(5, 6, lifetime="call", **options)
    with pytest.raises(ValueError, match="layer 1: its traces live for one call"):
        quantize_layers([forgetful], steps=STEPS, readout=Rate())
    with pytest.raises(ValueError, match="7 images for 8 steps"):
        quantize_layers(layers, steps=STEPS, readout=Rank()).encode(torch.rand(7, 2, 5))

    class Own(ReadOut):
        pass

    with pytest.raises(ValueError, match="Own is no read-out"):
        quantize_layers(layers, steps=STEPS, readout=Own())
