"""Spiking networks with convolutions and pools in whole numbers, beside floating point."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from hybrid.model.coding import Rank, Rate, ReadOut
from hybrid.tianjic.chip import tianjic
from hybrid.tianjic.cores import Limits, run
from hybrid.tianjic.cost import cost
from hybrid.tianjic.defects import Defects
from hybrid.tianjic.layer import Options
from hybrid.tianjic.machine import Machine
from hybrid.tianjic.mapping import map_network
from hybrid.tianjic.quantize import quantize
from hybrid.tianjic.shapes import ConvolutionShape
from tests.tianjic.test_machine import convolutional

IMAGE, CHANNELS = (2, 13, 10), (6, 9)


@pytest.mark.parametrize("pooled", [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("tau", [None, 20.0])
def test_spikes_are_those_of_floating_point_but_for_rounding(
    pooled: tuple[bool, bool], tau: float | None
) -> None:
    """Layer by layer, the spikes of a window; odd sides leave a row of pixels unseen."""
    generator = torch.Generator().manual_seed(3)
    network = convolutional(IMAGE, CHANNELS, pooled, generator, tau=tau, readout=Rate())
    images = torch.rand(100, *IMAGE, generator=generator)
    chip = quantize(network)
    outcome = run(chip.layers, chip.encode(images.flatten(1)), limits=Limits(strict=True))
    floats = network(images, adapt=False)
    for layer, window in zip(chip.layers, floats.windows, strict=True):
        fired = window.z.flatten(2).sum((0, 1))
        found = outcome.layers[layer.name].active_out
        assert fired.sum() > 100
        assert (found - fired).abs().sum() < 0.1 * fired.sum()
    same = (chip.answers(outcome) == floats.output.argmax(-1)).float().mean()
    assert same > 0.8


def test_unfolded_synapses_are_a_pool_and_a_convolution() -> None:
    """The third layer, of means that leave a row and a column unseen, against torch."""
    generator = torch.Generator().manual_seed(4)
    network = convolutional((1, 14, 11), (3, 5, 4), (False, True, False), generator)
    spikes = (torch.rand(20, 5, 14, 11, generator=generator) < 0.3).float()
    expected = network.convolutions[2](F.avg_pool2d(spikes, 2)).flatten(1)
    layer = quantize(network).layers[2]
    current = spikes.flatten(1) @ layer.weight.float() + layer.bias
    met = (layer.weight != 0).float().sum(0).max() / 2 + 1
    error = (current * layer.unit - expected).abs().max()
    assert error < layer.unit * met
    assert expected.abs().mean() > 10 * error


@pytest.mark.parametrize("readout", [Rank(), Rank(earliest=2, ceiling=1.1), Rank(fraction=0.8)])
def test_a_first_spike_is_asked_of_each_sample_alone(readout: Rank) -> None:
    generator = torch.Generator().manual_seed(5)
    network = convolutional(IMAGE, CHANNELS, (True, False), generator, readout=readout)
    images = torch.rand(200, *IMAGE, generator=generator)
    chip = quantize(network)
    outcome = run(chip.layers, chip.encode(images.flatten(1)))
    threshold = chip.layers[-1].soma.threshold
    assert isinstance(threshold, int)
    expected, stops = [], set()
    for trail in outcome.trail.transpose(0, 1).tolist():
        late = (t for t, v in enumerate(trail) if t >= readout.earliest and max(v) > threshold)
        stop = next(late, len(trail) - 1)
        most = [min(v, (readout.ceiling or 1e9) * threshold) for v in trail[stop]]
        expected.append(most.index(max(most)))
        stops.add(stop)
    assert chip.answers(outcome).tolist() == expected
    assert len(stops) > 1
    network.readout = replace(readout, fraction=None)
    floats = network(images, adapt=False).output.argmax(-1)
    assert (chip.answers(outcome) == floats).float().mean() > 0.7


def test_pools_need_fewer_cores_than_dense_layers_of_the_same_sizes() -> None:
    """The shapes are those of convolutions: cores, time and energy follow from what they see."""
    generator = torch.Generator().manual_seed(0)
    chip = quantize(convolutional((1, 16, 16), (8, 16), (True, False), generator))
    first, second, *_ = shapes = chip.shapes()
    assert isinstance(second, ConvolutionShape)
    assert (second.positions, second.pooled, second.side, second.stride) == ((8, 8), 2, 6, 1)
    mapping = map_network(shapes, tianjic())
    dense = -(-first.outputs // 256) * -(-second.outputs // 256)
    assert mapping.count(second.name, "synapses") < dense
    weights = sum(core.weights for core in mapping.cores if core.layer == second.name)
    assert weights >= second.synapses >= int((chip.layers[1].weight != 0).sum())
    rates = {s.name: torch.full((s.inputs,), 0.1).numpy() for s in shapes}
    spent = cost(mapping, rates | {"output": torch.full((5,), 0.1).numpy()}, 4)
    met = sum(0.1 * 4 * s.synapses for s in shapes[1:])
    assert spent.operations.acs == pytest.approx(met, rel=0.01)


def test_defects_hit_cells_that_are_there() -> None:
    generator = torch.Generator().manual_seed(0)
    chip = quantize(convolutional((1, 10, 10), (4,), (False,), generator))
    mapping = map_network(chip.shapes(), tianjic())
    sound = Machine(mapping, chip.layers)
    hurt = Machine(mapping, chip.layers, Defects(flipped=0.1, seed=1))
    pairs = [(a, b) for a, b in zip(sound.weights, hurt.weights, strict=True) if a is not None]
    assert any(bool((a != b).any()) for a, b in pairs)
    (one, other), *_ = pairs
    assert bool((other[one == 0] == 0).all())
    assert int((one == 0).sum()) > 0


def test_what_the_chip_has_not_is_refused() -> None:
    generator = torch.Generator().manual_seed(0)
    network = convolutional(IMAGE, CHANNELS, (True, False), generator)
    with pytest.raises(ValueError, match="folded into the weights"):
        quantize(network, Options(carried="separate"))

    class Own(ReadOut):
        pass

    network.readout = Own()
    with pytest.raises(ValueError, match="Own is no read-out of the chip"):
        quantize(network)
    network.readout = Rate()
    with pytest.raises(ValueError, match="codebook"):
        quantize(network, Options(codebook=4))
    wide = convolutional((8, 40, 40), (40,), (False,), generator)
    with pytest.raises(ValueError, match="12,800 inputs and 64,000 outputs are more than"):
        quantize(wide)
    with pytest.raises(ValueError, match="spiking"):
        ConvolutionShape(name="a", image=(1, 4, 4), channels=1, spiking=True, fold="folded")
    with pytest.raises(ValueError, match="pooled"):
        ConvolutionShape(name="a", image=(1, 4, 4), channels=1, pooled=5)
