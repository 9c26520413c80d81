"""Neurons on the chip that keep the currents of training."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hybrid.tianjic.chip import tianjic
from hybrid.tianjic.cores import Limits, Outcome, run
from hybrid.tianjic.fixed import PEAK
from hybrid.tianjic.homeostasis import adjusted, axons, upkeep, weights
from hybrid.tianjic.quantize import ChipNetwork, quantize
from tests.tianjic.test_cores import images, network


def run_adjusted(chip: ChipNetwork, shown: Tensor, factor: Tensor, shift: Tensor) -> Outcome:
    layers = [adjusted(chip.layers[0], factor, shift, chip.gain), *chip.layers[1:]]
    return run(layers, chip.encode(shown), limits=Limits(strict=True))


def test_a_factor_of_one_without_a_shift_changes_nothing() -> None:
    chip, shown = quantize(network()), images(20)
    found = run_adjusted(chip, shown, torch.ones(20, 40), torch.zeros(20, 40))
    plain = run(chip.layers, chip.encode(shown))
    assert torch.equal(found.potentials, plain.potentials)
    assert plain.counts.sum() > 0


@pytest.mark.parametrize("largest", [0.0, 0.5])
def test_currents_are_those_of_the_network_in_floats(largest: float) -> None:
    """Each image and neuron with a factor and a shift of its own."""
    generator = torch.Generator().manual_seed(3)
    trained, shown = network(), images(50)
    factor = 0.5 + 2.0 * torch.rand(50, 40, generator=generator)
    shift = largest * torch.randn(50, 40, generator=generator)
    activity = trained(shown, control=lambda read: torch.addcmul(shift, factor, read))
    found = run_adjusted(chip := quantize(trained), shown, factor, shift)
    expected = activity.windows[-1].states[-1].v
    error = (found.potentials * chip.layers[-1].unit - expected).abs()
    assert error.median() < 0.02 * 0.35
    plain = run(chip.layers, chip.encode(shown)).potentials * chip.layers[-1].unit
    assert error.mean() < 0.2 * (plain - expected).abs().mean()
    fired = activity.windows[0].z.sum((0, 1))
    assert fired.sum() > 500
    spikes = found.layers["layer 1"].active_out
    assert (spikes - fired).abs().sum() < 0.02 * fired.sum()


def test_the_reset_takes_the_threshold_that_was_crossed() -> None:
    """A factor halves the threshold: from one step to the next, half as much is lost."""
    layer = quantize(network(tau=None)).layers[0]
    layer = replace(layer, bias=torch.zeros(1).int(), weight=torch.ones(1, 1).int())
    layer = replace(layer, soma=replace(layer.soma, threshold=100, leak=256))
    halved = adjusted(layer, torch.tensor([[2.0]]), torch.zeros(1, 1), [1.0] * 3)
    left = run([halved], [torch.tensor([[60]])] * 3)
    assert left.potentials.item() == 60 + (60 - 50) * 2
    assert left.counts.item() == 3


def test_what_a_host_adds_is_little_beside_synapses() -> None:
    layer = quantize(network()).layers[0]
    written = weights(layer, torch.ones(1, 40), torch.full((1, 40), layer.unit * PEAK * 300))
    assert written.unique().tolist() == [300]
    assert axons(written) == 3
    found = upkeep(512, 3, tianjic())
    assert found["bytes"] == 512 * (3 * 3.5 + 3)
    assert found["packets"] == found["bytes"] / 8
    assert found["seconds"] == pytest.approx(found["packets"] / (4 * 300e6))
    assert found["bytes"] < 784 * 512 / 50, "an image; a host that rewrites synapses: each step"
